//! False brokers: each listens with a certificate that a device must not believe.

use std::sync::Arc;

use tls::{Acceptor, ClientCertificates, Identity, LiveIdentity, MinVersion};
use tokio::net::TcpListener;
use tokio::sync::watch;
use trust::{DeniedSet, RevokedSet, View};
use types::Epoch;
use x509::{CaPurpose, Profile};

use crate::demo::fleet::Fleet;
use crate::demo::stage::{HOST, Stage};
use crate::demo::workshop::{Dates, Forge};
use crate::fail::{Done, Fail};

/// Every false broker, and how the device answered it.
pub(crate) async fn all(stage: &Stage, fleet: &Fleet) -> Done<Vec<(&'static str, Result<String, String>)>> {
    let server = |names: &[&str]| Profile::Server {
        dns: names.iter().map(|name| (*name).to_owned()).collect(),
        ips: Vec::new(),
    };
    let same_name = Forge::same_names(stage, "servers", CaPurpose::Servers)?;
    let (servers, devices) = (Forge::stolen(stage, "servers")?, Forge::stolen(stage, "devices")?);
    let brokers = [
        (
            "a false broker of a same-name CA",
            same_name.identity(stage, HOST, server(&[HOST]), Dates::Now)?,
            "server.unknown_issuer",
        ),
        (
            "a broker with another's host name",
            servers.identity(stage, "other.example", server(&["other.example"]), Dates::Now)?,
            "server.wrong_host",
        ),
        (
            "a broker with an expired certificate",
            servers.identity(stage, HOST, server(&[HOST]), Dates::Past)?,
            "server.expired",
        ),
        (
            "a server certificate that the devices CA signed",
            devices.identity(stage, HOST, server(&[HOST]), Dates::Now)?,
            "",
        ),
    ];
    let mut rows = Vec::new();
    for (what, identity, code) in brokers {
        rows.push((what, answer(stage, fleet, identity, code).await));
    }
    Ok(rows)
}

/// What the device's own connector says to the broker; `code` is the check that must have refused it.
async fn answer(stage: &Stage, fleet: &Fleet, identity: Identity, code: &str) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let view = View::new(Epoch::default(), Vec::new(), RevokedSet::empty(), DeniedSet::empty())
        .map_err(|error| told(&error))?;
    let (_sender, view) = watch::channel(Arc::new(view));
    let acceptor = Acceptor::new(
        Arc::new(LiveIdentity::new(identity)),
        view,
        ClientCertificates::NotAsked,
        Vec::new(),
        MinVersion::V12,
        stage.clock.clone(),
    )
    .map_err(|error| told(&error))?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| told(&error))?;
    let address = listener.local_addr().map_err(|error| told(&error))?;
    let serving = tokio::spawn(async move {
        if let Ok((tcp, _)) = listener.accept().await {
            return acceptor.accept(tcp).await.is_ok();
        }
        false
    });
    let identity = fleet.identity(0).map_err(|fail: Fail| fail.to_string())?;
    let connector = stage.connector(Some(identity)).map_err(|fail| fail.to_string())?;
    let outcome = connector.connect_to(address, HOST).await;
    serving.abort();
    match outcome {
        Ok(_) => Err("the device believed it".to_owned()),
        Err(error) if error.server_refused().is_some() && (code.is_empty() || error.code() == code) => {
            Ok(format!("the device: {} ({error})", error.code()))
        }
        Err(error) => Err(format!("refused for another reason: {error}")),
    }
}
