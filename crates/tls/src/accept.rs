use std::hash::Hasher;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{ClientHello, NoServerSessionStorage, StoresServerSessions};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use trust::{Refusal, View};
use types::{Clipped, Clock, Reason, Serial};
use x509::VerifiedChain;

use crate::error::{TlsError, rustls_error};
use crate::identity::LiveIdentity;
use crate::profile::{self, ClockTime};
use crate::sniff::Sniffed;
use crate::verify::{ConnectionVerifier, Evidence, Presented, presented};

/// Whether a listener asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A client without a certificate is refused.
    Required,
    /// A client may come without one; one that it does show has to pass every check.
    Optional,
    /// Clients are not asked.
    NotAsked,
}

/// The lowest TLS version that a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    V12,
    /// TLS 1.3 only.
    V13,
}

/// The server side of a listener: one for all its connections.
pub struct Acceptor {
    identity: Arc<LiveIdentity>,
    view: watch::Receiver<Arc<View>>,
    mode: ClientCertificates,
    min: MinVersion,
    alpn: Vec<Vec<u8>>,
    clock: Arc<dyn Clock>,
    time: Arc<ClockTime>,
    no_sessions: Arc<dyn StoresServerSessions>,
}

/// A connection that has passed its handshake and, after it, the newest view.
pub struct Accepted {
    /// The TCP connection.
    pub tcp: TcpStream,
    /// Its TLS state; it may already hold data that the client sent behind its Finished.
    pub tls: ServerConnection,
    /// The client's chain; `None` where no certificate was required and none came.
    pub chain: Option<VerifiedChain>,
    /// The view against which the connection was checked last.
    pub view: Arc<View>,
    /// What the handshake agreed on.
    pub info: HandshakeInfo,
}

/// What a handshake agreed on, and what the client looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The suite's name, e.g. `TLS13_AES_128_GCM_SHA256`.
    pub suite: &'static str,
    /// The key exchange group's name, e.g. `X25519`.
    pub group: &'static str,
    /// The host name that the client asked for.
    pub sni: Option<String>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// A hash of the ClientHello's suites, groups, signature schemes and protocols: the same
    /// firmware has the same one.
    pub fingerprint: u64,
}

/// A connection that was turned away, with what it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedHandshake {
    /// Why.
    pub reason: Reason,
    /// The same for a reader, with the values.
    pub detail: String,
    /// The subject of the certificate that was shown, unverified.
    pub subject: Option<String>,
    /// Its issuer, unverified.
    pub issuer: Option<String>,
    /// Its serial, unverified.
    pub serial: Option<Serial>,
    /// The host name that the client asked for.
    pub sni: Option<String>,
}

impl RefusedHandshake {
    /// The refusal of a client that did not finish within the caller's deadline.
    #[must_use]
    pub fn timed_out(deadline: Duration) -> Self {
        let detail = format!("handshake not finished within {} s", deadline.as_secs_f32());
        Self::bare(Reason::Timeout, detail, None)
    }

    /// The refusal of a client that was not even listened to.
    #[must_use]
    pub fn over_limit(detail: String) -> Self {
        Self::bare(Reason::Limit, detail, None)
    }

    fn bare(reason: Reason, detail: String, sni: Option<String>) -> Self {
        Self { reason, detail, subject: None, issuer: None, serial: None, sni }
    }

    fn with(mut self, shown: Option<Presented>) -> Self {
        if let Some(shown) = shown {
            (self.subject, self.issuer, self.serial) =
                (Some(shown.subject), Some(shown.issuer), Some(shown.serial));
        }
        self
    }
}

/// What the checks of one handshake left behind; the fields are those of [`Accepted`].
pub struct Checked {
    /// The client's chain.
    pub chain: Option<VerifiedChain>,
    /// The view against which it was checked last.
    pub view: Arc<View>,
    /// What the handshake agreed on.
    pub info: HandshakeInfo,
}

impl HandshakeInfo {
    fn read(tls: &ServerConnection, hello: Hello) -> Self {
        Self {
            version: match tls.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            suite: tls.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown"),
            group: tls
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str())
                .unwrap_or("unknown"),
            sni: hello.sni,
            alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
            fingerprint: hello.fingerprint,
        }
    }
}

/// What is known of a client before its certificate.
struct Hello {
    sni: Option<String>,
    fingerprint: u64,
}

impl Acceptor {
    /// A listener's TLS side. `alpn` lists the protocols it speaks, best first; a client that
    /// names none of them is refused, one that sends no list is not.
    ///
    /// # Errors
    /// What rustls says of the configuration; no input of ours makes it refuse.
    pub fn new(
        identity: Arc<LiveIdentity>,
        view: watch::Receiver<Arc<View>>,
        mode: ClientCertificates,
        alpn: Vec<Vec<u8>>,
        min: MinVersion,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let acceptor = Self {
            identity,
            view,
            mode,
            min,
            alpn,
            time: Arc::new(ClockTime(clock.clone())),
            clock,
            no_sessions: Arc::new(NoServerSessionStorage {}),
        };
        acceptor
            .config(Arc::new(acceptor.verifier()))
            .map_err(|error| TlsError::Config { detail: error.to_string() })?;
        Ok(acceptor)
    }

    /// Carries out the handshake of flow B up to the certificate. The caller puts a deadline
    /// around it and answers a missed one with [`RefusedHandshake::timed_out`].
    ///
    /// # Errors
    /// Why the client was refused, with what it showed; it has been sent the matching alert.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Accepted, RefusedHandshake> {
        let (stream, checked) = self.accept_stream(tcp).await?;
        let (tcp, tls) = stream.into_inner();
        Ok(Accepted { tcp, tls, chain: checked.chain, view: checked.view, info: checked.info })
    }

    /// [`Acceptor::accept`] for those who want the stream in one piece.
    ///
    /// # Errors
    /// As [`Acceptor::accept`].
    pub async fn accept_stream(
        &self,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Checked), RefusedHandshake> {
        // 1. ClientHello.
        let mut lazy = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Sniffed::new(tcp));
        let start = match (&mut lazy).await {
            Ok(start) => start,
            Err(error) => {
                let io = lazy.take_io();
                let refused = refused_hello(&error, io.as_ref());
                if let Some(io) = io {
                    let_the_alert_arrive(io.tcp).await;
                }
                return Err(refused);
            }
        };
        let hello = Hello::read(&start.client_hello());
        // 2. A configuration of this connection's own, whose verifier owns its evidence.
        let verifier = Arc::new(self.verifier());
        let config = self.config(verifier.clone()).map_err(|error| {
            RefusedHandshake::bare(Reason::Unavailable, error.to_string(), hello.sni.clone())
        })?;
        // 3. The rest of the handshake; the certificate is checked inside it.
        let start = StartHandshake::from_parts(start.accepted, start.io.tcp);
        let stream = match start.into_stream(Arc::new(config)).into_fallible().await {
            Ok(stream) => stream,
            Err((error, tcp)) => {
                let refused = refused_handshake(&error, verifier.take_evidence(), hello.sni);
                let_the_alert_arrive(tcp).await;
                return Err(refused);
            }
        };
        // 4. Everything again from the evidence, with the newest view: it may have changed since.
        match self.check_again(stream.get_ref().1, verifier.take_evidence(), hello) {
            Ok(checked) => Ok((stream, checked)),
            Err(refused) => {
                let_the_alert_arrive(stream.into_inner().0).await;
                Err(refused)
            }
        }
    }

    /// Whether `chain` still stands in the newest view: for requests on a connection that stays open.
    ///
    /// # Errors
    /// As [`trust::precheck`].
    pub fn recheck(&self, chain: &VerifiedChain) -> Result<(), Refusal> {
        let view = self.view.borrow().clone();
        trust::precheck(&view, chain, self.clock.now())
    }

    fn check_again(
        &self,
        tls: &ServerConnection,
        evidence: Evidence,
        hello: Hello,
    ) -> Result<Checked, RefusedHandshake> {
        let view = self.view.borrow().clone();
        let refusal = match (&evidence.chain, tls.peer_certificates(), self.mode) {
            (Some(chain), _, _) => match trust::precheck(&view, chain, self.clock.now()) {
                Ok(()) => None,
                Err(refusal) => Some((refusal.reason, refusal.detail)),
            },
            // A certificate that our verifier never saw comes with a resumed session; none can be, so none passes.
            (None, Some(_), _) => Some((Reason::TlsFailed, "a certificate that was not checked".to_owned())),
            (None, None, ClientCertificates::Required) => {
                Some((Reason::NoCertificate, "the client showed no certificate".to_owned()))
            }
            (None, None, ClientCertificates::Optional | ClientCertificates::NotAsked) => None,
        };
        if let Some((reason, detail)) = refusal {
            let shown = evidence.chain.as_ref().and_then(|chain| presented(chain.leaf().der()));
            return Err(RefusedHandshake::bare(reason, detail, hello.sni).with(shown));
        }
        Ok(Checked { info: HandshakeInfo::read(tls, hello), chain: evidence.chain, view })
    }

    fn verifier(&self) -> ConnectionVerifier {
        ConnectionVerifier::new(self.view.clone(), self.clock.clone(), self.mode)
    }

    fn config(&self, verifier: Arc<ConnectionVerifier>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_details(profile::provider(), self.time.clone())
            .with_protocol_versions(profile::versions(self.min))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.identity.clone());
        // rustls does not ask the verifier when a session resumes, so none ever does.
        config.session_storage = self.no_sessions.clone();
        config.send_tls13_tickets = 0;
        config.max_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }
}

impl Hello {
    fn read(hello: &ClientHello<'_>) -> Self {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        for suite in hello.cipher_suites() {
            hash.word(u16::from(*suite));
        }
        hash.word(0);
        for group in hello.named_groups().unwrap_or_default() {
            hash.word(u16::from(*group));
        }
        hash.word(0);
        for scheme in hello.signature_schemes() {
            hash.word(u16::from(*scheme));
        }
        for protocol in hello.alpn().into_iter().flatten() {
            hash.word(0);
            hash.write(protocol);
        }
        Self { sni: hello.server_name().map(str::to_owned), fingerprint: hash.finish() }
    }
}

/// FNV-1a: the same on every machine and in every version, unlike the standard library's hash.
struct Fnv(u64);

impl Fnv {
    /// A code point of the hello; the random ones of RFC 8701 (GREASE) are left out.
    fn word(&mut self, word: u16) {
        let [high, low] = word.to_be_bytes();
        if !(high == low && low & 0x0f == 0x0a) {
            self.write(&[high, low]);
        }
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn refused_hello(error: &io::Error, io: Option<&Sniffed>) -> RefusedHandshake {
    if let Some(plain) = io.and_then(Sniffed::plain_protocol) {
        return RefusedHandshake::bare(Reason::TlsFailed, plain.to_owned(), None);
    }
    if io.is_some_and(Sniffed::is_silent) {
        return RefusedHandshake::bare(
            Reason::ConnectionLost,
            "closed before the first byte".to_owned(),
            None,
        );
    }
    refused_handshake(error, Evidence::default(), None)
}

fn refused_handshake(error: &io::Error, evidence: Evidence, sni: Option<String>) -> RefusedHandshake {
    let (reason, detail) = match (evidence.refusal, rustls_error(error)) {
        (Some(found), _) => found,
        (None, Some(error)) => refused_by_rustls(error),
        (None, None) => (Reason::ConnectionLost, format!("lost during the handshake: {}", error.kind())),
    };
    let shown = evidence.presented.or_else(|| evidence.chain.and_then(|chain| presented(chain.leaf().der())));
    RefusedHandshake::bare(reason, detail, sni).with(shown)
}

fn refused_by_rustls(error: &rustls::Error) -> (Reason, String) {
    match error {
        rustls::Error::NoCertificatesPresented => {
            (Reason::NoCertificate, "the client showed no certificate".to_owned())
        }
        rustls::Error::AlertReceived(alert) => {
            (Reason::TlsFailed, format!("the client refused us with the TLS alert {alert:?}"))
        }
        rustls::Error::PeerIncompatible(why) => {
            (Reason::TlsFailed, format!("no common version, suite or group: {why:?}"))
        }
        rustls::Error::NoApplicationProtocol => {
            (Reason::TlsFailed, "no common application protocol (ALPN)".to_owned())
        }
        rustls::Error::InvalidCertificate(_) => {
            (Reason::Malformed, "the client did not prove that it holds its certificate's key".to_owned())
        }
        other => (Reason::TlsFailed, Clipped(&other.to_string()).to_string()),
    }
}

/// Ends our direction and takes in what has already come, because a socket that is closed with
/// unread bytes is reset, and a reset may overtake the alert that says why.
async fn let_the_alert_arrive(mut tcp: TcpStream) {
    let _ = tcp.shutdown().await;
    let mut sink = [0_u8; 2048];
    for _ in 0..16 {
        match tcp.try_read(&mut sink) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grease_does_not_change_the_fingerprint() {
        let hash = |words: &[u16]| {
            let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
            words.iter().for_each(|word| fnv.word(*word));
            fnv.finish()
        };
        assert_eq!(hash(&[0x1301, 0x0a0a, 0x1303]), hash(&[0x1301, 0xfafa, 0x1303]));
        assert_eq!(hash(&[0x1301, 0x0a0a, 0x1303]), hash(&[0x1301, 0x1303]));
        assert_ne!(hash(&[0x1301, 0x1303]), hash(&[0x1303, 0x1301]));
    }

    #[test]
    fn what_rustls_says_becomes_a_reason() {
        for (error, reason) in [
            (rustls::Error::NoCertificatesPresented, Reason::NoCertificate),
            (rustls::Error::NoApplicationProtocol, Reason::TlsFailed),
            (rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA), Reason::TlsFailed),
            (rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature), Reason::Malformed),
            (rustls::Error::DecryptError, Reason::TlsFailed),
        ] {
            assert_eq!(refused_by_rustls(&error).0, reason, "{error}");
        }
        assert_eq!(RefusedHandshake::timed_out(Duration::from_secs(10)).reason, Reason::Timeout);
    }
}
