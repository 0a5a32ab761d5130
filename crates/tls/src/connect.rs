use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use types::{Clipped, Clock};
use x509::{Certificate, ChainAnchors};

use crate::accept::MinVersion;
use crate::error::{ServerRefused, TlsError, rustls_error};
use crate::identity::Identity;
use crate::profile::{self, ClockTime};
use crate::server_check::{Finding, ServerCheck};

const DIAL_DEADLINE: Duration = Duration::from_secs(10);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(15);

/// The roots that a client believes servers by.
pub struct ServerTrust {
    pub(crate) roots: Vec<Certificate>,
    pub(crate) anchors: ChainAnchors,
}

impl ServerTrust {
    /// Takes the roots.
    ///
    /// # Errors
    /// A certificate that cannot be an anchor, or none at all.
    pub fn new(roots: &[Certificate]) -> Result<Self, TlsError> {
        if roots.is_empty() {
            return Err(TlsError::BadRoot {
                detail: "none given; a client believes no server without one".into(),
            });
        }
        let anchors =
            ChainAnchors::new(roots).map_err(|error| TlsError::BadRoot { detail: error.to_string() })?;
        Ok(Self { roots: roots.to_vec(), anchors })
    }
}

/// The client side: opens connections to servers that pass every check, and to no others.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    trust: Arc<ServerTrust>,
    clock: Arc<dyn Clock>,
}

impl Connector {
    /// A connector that believes `roots`, shows `identity` when it is asked for one, and offers
    /// the application protocols `alpn`, best first. Dates are the caller's clock's.
    ///
    /// # Errors
    /// A root that cannot be an anchor.
    pub fn new(
        roots: &[Certificate],
        identity: Option<Identity>,
        clock: Arc<dyn Clock>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        Self::speaking(profile::versions(MinVersion::V12), roots, identity, clock, alpn)
    }

    /// As [`Connector::new`], for TLS 1.2 only: what an old device library speaks.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn new_tls12(
        roots: &[Certificate],
        identity: Option<Identity>,
        clock: Arc<dyn Clock>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        Self::speaking(&[&rustls::version::TLS12], roots, identity, clock, alpn)
    }

    fn speaking(
        versions: &[&'static rustls::SupportedProtocolVersion],
        roots: &[Certificate],
        identity: Option<Identity>,
        clock: Arc<dyn Clock>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let trust = Arc::new(ServerTrust::new(roots)?);
        let wrong = |error: rustls::Error| TlsError::Config { detail: error.to_string() };
        let check = ServerCheck::new(trust.clone(), clock.clone());
        let builder =
            ClientConfig::builder_with_details(profile::provider(), Arc::new(ClockTime(clock.clone())))
                .with_protocol_versions(versions)
                .map_err(wrong)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(check));
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())))
            }
            None => builder.with_no_client_auth(),
        };
        // A resumed session would skip our check of the server.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn;
        Ok(Self { config: Arc::new(config), trust, clock })
    }

    /// Connects to `host`, a DNS name or an address, which the server's certificate has to bear.
    ///
    /// # Errors
    /// Which step failed, and which check refused the server.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, TlsError> {
        let tcp = dial(host, port).await?;
        self.connect_over(tcp, host).await
    }

    /// Connects to `address`, and demands that the server's certificate bears `host`.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_to(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let tcp = dial_address(address).await?;
        self.connect_over(tcp, host).await
    }

    /// Carries out the handshake over a connection that exists already.
    ///
    /// # Errors
    /// Which check refused the server, or the alert by which it refused us.
    pub async fn connect_over<S>(&self, stream: S, host: &str) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(host)?;
        let check = Arc::new(ServerCheck::new(self.trust.clone(), self.clock.clone()));
        let mut config = (*self.config).clone();
        config.dangerous().set_certificate_verifier(check.clone());
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(&error, check.take_finding(), host)),
            Err(_) => Err(TlsError::Timeout { what: "TLS handshake", after: HANDSHAKE_DEADLINE }),
        }
    }
}

fn failed(error: &io::Error, finding: Option<Finding>, host: &str) -> TlsError {
    let host = Clipped(host).to_string();
    match (finding, rustls_error(error)) {
        (Some(Finding { refused, detail, date }), _) => TlsError::Server { refused, host, detail, date },
        (None, Some(rustls::Error::InvalidCertificate(_))) => TlsError::Server {
            refused: ServerRefused::NoPossession,
            host,
            detail: "it did not prove that it holds its certificate's key".to_owned(),
            date: None,
        },
        _ => TlsError::from_io(error),
    }
}

pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::BadHost { host: Clipped(host).to_string() })
}

/// Opens a TCP connection to the first address of `host` that answers.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, TlsError> {
    let to = || format!("{}:{port}", Clipped(host));
    let unreachable = |error: io::Error| TlsError::Unreachable { to: to(), detail: error.to_string() };
    let found = timeout(DIAL_DEADLINE, tokio::net::lookup_host((host, port))).await;
    let addresses = match found {
        Ok(answer) => answer.map_err(unreachable)?,
        Err(_) => return Err(TlsError::Timeout { what: "looking up the host", after: DIAL_DEADLINE }),
    };
    let mut last = TlsError::Unreachable { to: to(), detail: "the name has no address".to_owned() };
    for address in addresses {
        match dial_address(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_address(address: SocketAddr) -> Result<TcpStream, TlsError> {
    match timeout(DIAL_DEADLINE, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => {
            // Small packets go out at once; a socket that refuses the option still works.
            let _ = tcp.set_nodelay(true);
            Ok(tcp)
        }
        Ok(Err(error)) => Err(TlsError::Unreachable { to: address.to_string(), detail: error.to_string() }),
        Err(_) => Err(TlsError::Timeout { what: "connecting", after: DIAL_DEADLINE }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["broker.example", "localhost", "127.0.0.1", "::1"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
        for host in ["", "a b", "a/b", "-"] {
            assert!(matches!(server_name(host), Err(TlsError::BadHost { .. })), "{host}");
        }
    }

    #[test]
    fn a_client_without_a_root_believes_nobody_and_is_not_made() {
        assert!(matches!(ServerTrust::new(&[]), Err(TlsError::BadRoot { .. })));
    }
}
