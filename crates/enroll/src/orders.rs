use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ca::{Evidence, Wanted};
use store::{Order, OrderId, OrderKind, StoreError};
use tokio::sync::watch;
use trust::CertState;
use types::{DeviceId, ProjectId, SpkiHash};
use x509::{Certificate, Csr};

use crate::error::EnrollError;
use crate::issue::Request;
use crate::state::Enroll;

/// How soon orders are looked at again when the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Carries out what operators ordered, oldest first, until `shutdown`.
pub async fn carry_out_orders(enroll: Arc<Enroll>, mut shutdown: watch::Receiver<bool>) {
    let mut orders = enroll.deps.store.watch_orders();
    let mut tried = None;
    loop {
        orders.mark_unchanged();
        let done = carry_out_open(&enroll, &mut tried).await;
        if let Err(error) = &done {
            tracing::error!(code = error.code(), %error, "orders not carried out, trying again");
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            changed = orders.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if done.is_err() => {}
        }
    }
}

/// One pass over the open orders; a refused order is finished with the words of its refusal. An
/// order up to `tried` that is still open may have its certificate already: a crash, or a store
/// that failed, came between that and its end.
async fn carry_out_open(enroll: &Enroll, tried: &mut Option<OrderId>) -> Result<usize, StoreError> {
    let store = &enroll.deps.store;
    let open = store.orders_open().await?;
    let count = open.len();
    // Before the first pass, all that is open may have been tried by a process that is gone.
    let mut newest = tried.or(open.last().map(|(id, _)| *id)).unwrap_or(OrderId(0));
    for (id, order) in open {
        let left_over = id <= newest;
        newest = newest.max(id);
        *tried = Some(newest);
        let outcome = match carry_out(enroll, id, &order, left_over).await {
            Ok(certificate) => Ok(certificate.der().to_vec()),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, order = %id, "order refused");
                Err(error.to_string())
            }
        };
        store.order_finish(id, outcome).await?;
    }
    *tried = Some(newest);
    Ok(count)
}

/// Parse → proof of possession → facts and decision → prepare → intent → sign → record.
async fn carry_out(
    enroll: &Enroll,
    id: OrderId,
    order: &Order,
    left_over: bool,
) -> Result<Certificate, EnrollError> {
    let now = enroll.sound_now()?;
    let csr = Csr::parse_der(&order.csr_der)
        .map_err(|error| EnrollError::Malformed { place: "csr", detail: error.to_string() })?;
    let wanted = wanted_of(order)?;
    if left_over && let Some(certificate) = made_before(enroll, &wanted, csr.spki_hash()).await? {
        return Ok(certificate);
    }
    let project = match &wanted {
        Wanted::Service { name } | Wanted::Operator { name } | Wanted::Device { id: name } => {
            enroll.deps.store.principal(name).await?.map(|row| row.project)
        }
        Wanted::Server { .. } => None,
    };
    let project = project.or_else(|| ProjectId::parse(ProjectId::DEFAULT));
    let project = project.ok_or_else(|| EnrollError::Wiring("no default project".to_owned()))?;
    let evidence = Evidence::Operator { name: order.actor.clone() };
    let ground = format!("order {id} by {evidence}");
    enroll.issue(Request { csr, evidence, ground, wanted, project, token_id: None }, now).await
}

fn wanted_of(order: &Order) -> Result<Wanted, EnrollError> {
    let name = || {
        DeviceId::parse(&order.name)
            .map_err(|error| EnrollError::Malformed { place: "name", detail: error.to_string() })
    };
    Ok(match order.kind {
        OrderKind::Service => Wanted::Service { name: name()? },
        OrderKind::Operator => Wanted::Operator { name: name()? },
        OrderKind::Server => server_names(&order.name)?,
    })
}

/// A server's order names its hosts and addresses with commas between them; the first is the
/// common name.
fn server_names(names: &str) -> Result<Wanted, EnrollError> {
    let (mut dns, mut ips) = (Vec::new(), Vec::new());
    for name in names.split(',').map(str::trim) {
        if let Ok(ip) = name.parse::<IpAddr>() {
            ips.push(ip);
            continue;
        }
        let fits = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if name.len() > 253 || !name.split('.').all(fits) {
            let detail = format!("\"{}\" is no host name or address", types::Clipped(name));
            return Err(EnrollError::Malformed { place: "name", detail });
        }
        dns.push(name.to_owned());
    }
    let name = names.split(',').next().unwrap_or_default().trim().to_owned();
    Ok(Wanted::Server { name, dns, ips })
}

/// The usable certificate that this name already has for this key.
async fn made_before(
    enroll: &Enroll,
    wanted: &Wanted,
    spki: SpkiHash,
) -> Result<Option<Certificate>, EnrollError> {
    let (Wanted::Service { name } | Wanted::Operator { name }) = wanted else { return Ok(None) };
    let store = &enroll.deps.store;
    let Some(row) = store.principal(name).await? else { return Ok(None) };
    let usable = row.certificates.iter().rev().find(|row| row.spki == spki && row.state == CertState::Active);
    let Some(usable) = usable else { return Ok(None) };
    let Some(der) = store.certificate_der(usable.cert).await? else { return Ok(None) };
    let certificate = Certificate::parse_der(&der)
        .map_err(|error| StoreError::Corrupt { detail: format!("recorded certificate: {error}") })?;
    Ok(Some(certificate))
}

/// Brings to an end what a crash left between intent and record: a token's certificate is signed
/// again from the recorded bytes, so that its device finds it; an order starts over by itself, so
/// its intent is given up. Returns how many certificates were finished. Await it before serving.
///
/// # Errors
/// The store failed. An intent that cannot be finished, be it for a clock that is not set yet, is
/// only logged: its token still works, and nothing of it is trusted.
pub async fn recover_intents(enroll: &Enroll) -> Result<usize, EnrollError> {
    let unfinished = enroll.deps.store.unfinished_intents().await?;
    if unfinished.is_empty() {
        return Ok(0);
    }
    let now = match enroll.sound_now() {
        Ok(now) => now,
        Err(error) => {
            let open = unfinished.len();
            tracing::warn!(code = error.code(), %error, open, "unfinished intents left as they are");
            return Ok(0);
        }
    };
    let mut finished = 0;
    for intent in unfinished {
        let cert = intent.receipt.cert();
        let outcome = if intent.token_id.is_some() {
            enroll.finish_intent(intent, now).await.map(|_| finished += 1)
        } else {
            enroll.deps.store.abandon_intent(intent.receipt, now).await.map_err(EnrollError::from)
        };
        match outcome {
            Ok(()) => tracing::info!(serial = %cert, "unfinished intent brought to an end"),
            Err(error) => {
                tracing::warn!(serial = %cert, code = error.code(), %error, "unfinished intent left as it is");
            }
        }
    }
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_names_are_sorted_into_hosts_and_addresses() {
        let wanted = server_names("broker.example, 192.0.2.7,::1,localhost").unwrap();
        assert_eq!(
            wanted,
            Wanted::Server {
                name: "broker.example".to_owned(),
                dns: vec!["broker.example".to_owned(), "localhost".to_owned()],
                ips: vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()],
            }
        );
    }

    #[test]
    fn what_is_neither_host_nor_address_is_named() {
        for (names, shown) in [("a b", "a b"), ("ok,*.x", "*.x"), ("", ""), ("a..b", "a..b"), ("x,", "")] {
            assert_eq!(
                server_names(names).unwrap_err().to_string(),
                format!("name: \"{shown}\" is no host name or address")
            );
        }
    }
}
