//! The listeners' own certificate: ordered from enrolment like any other, renewed at two thirds of its life.

use std::sync::Arc;
use std::time::Duration;

use signer::{FileKey, RawSigner};
use store::{Order, OrderKind};
use tls::{Identity, LiveIdentity};
use types::Wall;
use x509::{Certificate, KeyKind};

use crate::error::ServerError;
use crate::keys::{self, Unlock};
use crate::parts::Parts;

/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(20);
/// How often the date is held against the certificate.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

fn failed(error: &dyn std::fmt::Display) -> ServerError {
    ServerError::Part { what: "server certificate", error: error.to_string() }
}

/// Whether two thirds of a certificate's life are over.
fn is_due(leaf: &Certificate, now: Wall) -> bool {
    let life = leaf.not_after().0.saturating_sub(leaf.not_before().0);
    now.0 >= leaf.not_before().0.saturating_add(life / 3 * 2)
}

/// Whether it bears every name of the configuration.
fn bears(leaf: &Certificate, names: &[String]) -> bool {
    let (dns, ips) = (leaf.san_dns(), leaf.san_ips());
    names.iter().all(|name| match name.parse() {
        Ok(ip) => ips.contains(&ip),
        Err(_) => dns.iter().any(|dns| dns.eq_ignore_ascii_case(name)),
    })
}

/// A certificate that is good for now: the one on the disk, or a new one with a new key.
pub(crate) async fn ensure(parts: &Parts) -> Result<Identity, ServerError> {
    let now = parts.clock.now().wall;
    if let Ok(identity) = keys::listeners_identity(&parts.layout)
        && !is_due(identity.leaf(), now)
        && bears(identity.leaf(), &parts.config.installation.server_names)
    {
        return Ok(identity);
    }
    renew(parts).await
}

/// Every name of this machine, the public one first, as an order for a server names them.
fn names(parts: &Parts) -> String {
    let installation = &parts.config.installation;
    let others = installation.server_names.iter().filter(|name| **name != installation.public_host);
    let all: Vec<&str> =
        std::iter::once(&installation.public_host).chain(others).map(String::as_str).collect();
    all.join(",")
}

/// Orders a certificate for a new key, and puts both on the disk. A crash between the two leaves a
/// key that does not fit the chain, which [`ensure`] mends at the next start.
async fn renew(parts: &Parts) -> Result<Identity, ServerError> {
    let key = FileKey::generate(KeyKind::P256).map_err(|error| failed(&error))?;
    let name = &parts.config.installation.public_host;
    let csr_der = signer::csr(&key as &dyn RawSigner, name).map_err(|error| failed(&error))?;
    let order = Order { kind: OrderKind::Server, name: names(parts), csr_der, actor: "server".to_owned() };
    let id = parts.store.order_submit(order, parts.clock.now()).await.map_err(|error| failed(&error))?;
    let der = parts.store.order_wait(id, ORDER_WITHIN).await.map_err(|error| failed(&error))?;
    let leaf = Certificate::parse_der(&der).map_err(|error| failed(&error))?;
    let issuer = keys::certificate(&parts.layout.ca("servers"))?;

    let layout = &parts.layout;
    let unlock = Unlock::read(layout)?;
    let fresh = layout.key("server-next");
    let _ = fs_err::remove_file(&fresh);
    unlock.save(&key, &fresh)?;
    fs_err::rename(&fresh, layout.key("server"))?;
    let chain = layout.server_chain();
    let next = chain.with_extension("next");
    fs_err::write(&next, leaf.to_pem() + &issuer.to_pem())?;
    fs_err::File::open(&next)?.sync_all()?;
    fs_err::rename(&next, &chain)?;
    Identity::new(vec![leaf, issuer], &key.pkcs8_der()).map_err(|error| failed(&error))
}

/// Renews in time, for as long as the server runs; a failure is told and tried again.
pub(crate) async fn keep(
    parts: Arc<Parts>,
    identity: Arc<LiveIdentity>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    loop {
        if is_due(&identity.leaf(), parts.clock.now().wall) {
            match renew(&parts).await {
                Ok(fresh) => identity.replace(fresh),
                Err(error) => tracing::error!(%error, "the server certificate could not be renewed"),
            }
        }
        if tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}
