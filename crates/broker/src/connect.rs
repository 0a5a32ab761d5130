use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit::{Event, Observer};
use rustls::ServerConnection;
use store::{Store, StoreError};
use tls::{Accepted, RefusedHandshake};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use trust::{CertState, VerifiedPeer};
use types::{Clock, Mono, Principal, Reason};
use x509::Certificate;

use crate::limits::{Gate, Pass};
use crate::pace::{Pace, withheld_text};
use crate::settings::Settings;
use crate::shard::{Arrival, ShardMail};
use crate::stats::Counters;

/// How long the accept loop rests when the system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(20);
/// An alert about it goes into the record at most this often, however long that lasts.
const ALERT_EVERY: Duration = Duration::from_secs(60);

/// Who stands at the door: takes connections in up to the shard of their identity.
pub(crate) struct Door {
    pub(crate) settings: Arc<Settings>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) acceptor: Arc<tls::Acceptor>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) counters: Counters,
    pub(crate) mailboxes: Arc<[ShardMail]>,
    pub(crate) numbers: AtomicU64,
}

/// Accepts until it is told to stop. Nothing here waits for a client.
pub(crate) async fn accept(door: Arc<Door>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let mut alerts = Pace::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, from)) => match door.gate.enter(from, door.clock.now().mono) {
                Ok(pass) => {
                    tokio::spawn(connect(Arc::clone(&door), tcp, from, pass));
                }
                Err(limit) => door.refuse(from, RefusedHandshake::over_limit(limit.to_string())),
            },
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tell_not_accepted(&mut alerts, &*door.observer, door.clock.now().mono, &error);
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// The client went away before it was accepted; the listener is well.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Tells that nobody can be accepted, at once and then once a minute.
fn tell_not_accepted(alerts: &mut Pace, observer: &dyn Observer, now: Mono, error: &io::Error) {
    if let Some(withheld) = alerts.pass(now, ALERT_EVERY) {
        let detail = format!("{error}{}", withheld_text(withheld));
        observer.note(Event::Alert { code: "broker.accept".to_owned(), detail });
    }
}

/// Flow B: from a TCP connection to a session's task, in one line, under one deadline.
async fn connect(door: Arc<Door>, tcp: TcpStream, from: SocketAddr, mut pass: Pass) {
    let deadline = door.settings.handshake_timeout;
    let admitted = tokio::select! {
        admitted = tokio::time::timeout(deadline, admit(&door, tcp)) => admitted,
        () = pass.evicted() => {
            let detail = "its handshake was the oldest unfinished one and made room for a newer".to_owned();
            return door.refuse(from, RefusedHandshake::over_limit(detail));
        }
    };
    pass.handshake_done();
    let admitted = match admitted {
        Ok(Ok(admitted)) => admitted,
        Ok(Err(refused)) => return door.refuse(from, refused),
        Err(_) => return door.refuse(from, RefusedHandshake::timed_out(deadline)),
    };
    // 6. The shard of the identity: one identity's sessions live in one place.
    let shard = shard_of(admitted.peer.principal(), door.mailboxes.len());
    if let Some(mailbox) = door.mailboxes.get(shard) {
        mailbox.arrive(Arrival {
            tcp: admitted.tcp,
            tls: admitted.tls,
            peer: Arc::new(admitted.peer),
            address: from,
            number: door.numbers.fetch_add(1, Ordering::Relaxed),
            version: admitted.version,
            suite: admitted.suite,
            pass,
        });
    }
}

struct Admitted {
    tcp: StdTcpStream,
    tls: Box<ServerConnection>,
    peer: VerifiedPeer,
    version: &'static str,
    suite: &'static str,
}

async fn admit(door: &Door, tcp: TcpStream) -> Result<Admitted, RefusedHandshake> {
    // 1. Small packets leave at once; the state machine has already put together what belongs together.
    let _ = tcp.set_nodelay(true);
    // 2. ClientHello, TLS, the chain to one of our sub-CAs, dates, revocation.
    let Accepted { tcp, tls, chain, info, .. } = door.acceptor.accept(tcp).await?;
    let sni = info.sni;
    let Some(chain) = chain else {
        let detail = "the client showed no certificate".to_owned();
        return Err(refused(Reason::NoCertificate, detail, None, sni));
    };
    let refuse = |reason, detail| refused(reason, detail, Some(chain.leaf()), sni.clone());
    // 3. The ledger: a certificate that nobody recorded is not believed, however well it is signed.
    let der_hash = chain.leaf().der_hash();
    let entry = door
        .store
        .admission(der_hash)
        .await
        .map_err(|error| refuse(Reason::Unavailable, format!("ledger not readable: {error}")))?;
    // 4. One name, in date, not revoked or denied, known, of the right kind and anchor.
    let peer = trust::admit(&door.store.view(), &chain, entry.as_ref(), door.clock.now())
        .map_err(|refusal| refuse(refusal.reason, refusal.detail))?;
    // 5. The first mutual-TLS connection confirms the certificate and spends its token.
    if peer.needs_confirmation()
        && let Err(error) = door.store.confirm(der_hash, door.clock.now()).await
    {
        let held = door.store.admission(der_hash).await.ok().flatten();
        let reason = reason_of(&error, held.map(|entry| entry.state));
        return Err(refuse(reason, format!("certificate not confirmed: {error}")));
    }
    let tcp =
        tcp.into_std().map_err(|error| refuse(Reason::Unavailable, format!("socket not moved: {error}")))?;
    Ok(Admitted { tcp, tls: Box::new(tls), peer, version: info.version, suite: info.suite })
}

/// Why a certificate was not confirmed that had been admitted just before; `held` is what the
/// ledger says of it after that.
fn reason_of(error: &StoreError, held: Option<CertState>) -> Reason {
    match (error, held) {
        (StoreError::DeviceDenied { .. }, _) => Reason::Denied,
        (StoreError::CertificateUnusable { .. }, Some(CertState::Revoked)) => Reason::Revoked,
        // What is revoked stays so: one that is usable again by now was on hold.
        (StoreError::CertificateUnusable { .. }, Some(_)) => Reason::Suspended,
        _ => Reason::Unavailable,
    }
}

fn refused(
    reason: Reason,
    detail: String,
    leaf: Option<&Certificate>,
    sni: Option<String>,
) -> RefusedHandshake {
    RefusedHandshake {
        reason,
        detail,
        subject: leaf.map(Certificate::subject_text),
        issuer: leaf.map(Certificate::issuer_text),
        serial: leaf.map(Certificate::serial),
        sni,
    }
}

/// The shard of an identity. The hash is fixed: it decides about load only, and names are given
/// out by the registry, not chosen by whoever connects.
fn shard_of(principal: &Principal, shards: usize) -> usize {
    use std::hash::{Hash, Hasher};
    let mut hasher = rustc_hash::FxHasher::default();
    principal.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 32).unwrap_or_default() % shards.max(1)
}

impl Door {
    /// Tells why a client was turned away, with what it showed.
    fn refuse(&self, from: SocketAddr, refused: RefusedHandshake) {
        self.counters.refused(refused.reason);
        self.observer.note(Event::ConnectionRefused {
            peer: from.to_string(),
            subject: refused.subject,
            serial: refused.serial.map(|serial| serial.to_string()),
            issuer: refused.issuer,
            sni: refused.sni,
            reason: refused.reason.code().to_owned(),
            detail: refused.detail,
        });
    }
}

#[cfg(test)]
mod tests {
    use testkit::Recorder;
    use types::{CertRef, IssuerId};

    use super::*;

    #[test]
    fn a_confirmation_that_fails_is_refused_for_what_the_ledger_says() {
        let serial = types::Serial::parse("05").unwrap();
        let cert = CertRef { issuer: IssuerId([1; 16]), serial };
        let unusable = StoreError::CertificateUnusable { cert };
        let denied = StoreError::DeviceDenied { id: "pump-7".to_owned() };
        for (error, held, reason) in [
            (&denied, None, Reason::Denied),
            (&denied, Some(CertState::Suspended), Reason::Denied),
            (&unusable, Some(CertState::Revoked), Reason::Revoked),
            (&unusable, Some(CertState::Suspended), Reason::Suspended),
            (&unusable, Some(CertState::Unconfirmed), Reason::Suspended),
            (&unusable, None, Reason::Unavailable),
            (&StoreError::Closed, Some(CertState::Unconfirmed), Reason::Unavailable),
        ] {
            assert_eq!(reason_of(error, held), reason, "{error} {held:?}");
        }
    }

    #[test]
    fn an_hour_without_file_descriptors_is_one_alert_a_minute() {
        let heard = Recorder::new();
        let mut alerts = Pace::default();
        let error = io::Error::other("too many open files");
        let breaths = 3_600_000 / 20;
        for breath in 0..breaths {
            let now = Mono(0).plus(BREATH * breath);
            tell_not_accepted(&mut alerts, &heard, now, &error);
        }
        let events = heard.events();
        let details: Vec<&str> = events
            .iter()
            .map(|event| match event {
                Event::Alert { code, detail } if code == "broker.accept" => detail.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(details.len(), 60);
        assert_eq!(details[0], "too many open files");
        assert_eq!(details[1], "too many open files; 2999 more since the last such line");
    }
}
