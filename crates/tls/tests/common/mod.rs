//! What the tests of this crate share: a listener with a view that can change, and clients that tell
//! which alert they saw.
#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(clippy::expect_used, reason = "what a test cannot set up has to fail it at once")]

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use testkit::FixedClock;
use testkit::pki::{Leaf, Pki};
use tls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tls::rustls::client::{ClientConfig, ResolvesClientCert};
use tls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tls::rustls::sign::CertifiedKey;
use tls::rustls::{self, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tls::tokio_rustls::TlsConnector;
use tls::tokio_rustls::client::TlsStream;
use tls::{
    Accepted, Acceptor, ClientCertificates, Connector, Identity, LiveIdentity, MinVersion, RefusedHandshake,
    alert_in,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use trust::View;
use types::Clock;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("within the deadline")
}

pub(crate) fn identity(leaf: &Leaf) -> Identity {
    Identity::new(leaf.chain(), &leaf.key_pkcs8()).expect("an identity of the fixture")
}

pub(crate) struct Side {
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) identity: Arc<LiveIdentity>,
}

pub(crate) fn side_with(
    pki: &Pki,
    server: Identity,
    mode: ClientCertificates,
    min: MinVersion,
    alpn: &[&[u8]],
    clock: Arc<dyn Clock>,
) -> Side {
    let (view, watched) = watch::channel(Arc::new(pki.view()));
    let identity = Arc::new(LiveIdentity::new(server));
    let alpn = alpn.iter().map(|name| name.to_vec()).collect();
    let acceptor = Acceptor::new(identity.clone(), watched, mode, alpn, min, clock).expect("an acceptor");
    Side { acceptor: Arc::new(acceptor), view, identity }
}

/// A listener on localhost that requires client certificates.
pub(crate) fn side(pki: &Pki) -> Side {
    let server = identity(&pki.localhost());
    side_with(
        pki,
        server,
        ClientCertificates::Required,
        MinVersion::V12,
        &[],
        Arc::new(FixedClock::default()),
    )
}

/// Our own client.
pub(crate) fn connector(pki: &Pki, leaf: Option<&Leaf>) -> Connector {
    let roots = [pki.root().certificate().clone()];
    Connector::new(&roots, leaf.map(identity), Arc::new(FixedClock::default()), Vec::new())
        .expect("a connector")
}

/// A client that believes any server, so that only the server's checks are under test.
pub(crate) fn raw_client(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<(Vec<Vec<u8>>, types::Secret)>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let config = match shown {
        Some((chain, key)) => {
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose())).clone_key();
            let key = aws_lc_rs::default_provider().key_provider.load_private_key(der).expect("a key");
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            builder.with_client_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key)))))
        }
        None => builder.with_no_client_auth(),
    };
    Arc::new(config)
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);
impl ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
pub(crate) struct AnyServer;
impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a client saw: the server's greeting, or how it was turned away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Saw {
    Welcome,
    Alert(String),
    Other(String),
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// One handshake over a real socket: what the server made of it, and what the client saw.
pub(crate) async fn meet(
    acceptor: &Acceptor,
    config: Arc<ClientConfig>,
) -> (Result<Accepted, RefusedHandshake>, Saw, Option<TlsStream<TcpStream>>) {
    let (listener, address) = listen().await;
    let client = async {
        let tcp = TcpStream::connect(address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(mut stream) => {
                let saw = read_welcome(&mut stream).await;
                (saw, Some(stream))
            }
            Err(error) => (saw_of(&error), None),
        }
    };
    let server = async {
        let (tcp, _) = listener.accept().await.expect("accepted");
        let mut accepted = acceptor.accept(tcp).await;
        if let Ok(accepted) = &mut accepted {
            welcome(accepted).await;
        }
        accepted
    };
    let (accepted, (saw, stream)) = within(async { tokio::join!(server, client) }).await;
    (accepted, saw, stream)
}

/// Drives the accepted connection by hand, as the broker does.
pub(crate) async fn welcome(accepted: &mut Accepted) {
    accepted.tls.writer().write_all(b"ok").expect("buffered");
    let mut bytes = Vec::new();
    while accepted.tls.wants_write() {
        accepted.tls.write_tls(&mut bytes).expect("encrypted");
    }
    accepted.tcp.write_all(&bytes).await.expect("sent");
}

pub(crate) async fn read_welcome(stream: &mut TlsStream<TcpStream>) -> Saw {
    let mut greeting = [0; 2];
    match stream.read_exact(&mut greeting).await {
        Ok(_) => Saw::Welcome,
        Err(error) => saw_of(&error),
    }
}

pub(crate) fn saw_of(error: &std::io::Error) -> Saw {
    match alert_in(error) {
        Some(alert) => Saw::Alert(alert),
        None => Saw::Other(error.to_string()),
    }
}

pub(crate) fn both_versions() -> [(&'static str, &'static [&'static SupportedProtocolVersion]); 2] {
    static V12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    static V13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    [("TLSv1.2", &V12), ("TLSv1.3", &V13)]
}
