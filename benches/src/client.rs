//! Connects the load's clients: mutual TLS 1.3, full handshakes only, MQTT 3.1.1.
//! In: a device's certificate, the server's address. Out: a stream that has its CONNACK.
//! Invariant: every server gets the same suite, group and certificate, so that only it differs.
//! Never: resumes a session; a resumed handshake would be another, cheaper thing.
//! Spec: RFC 8446; MQTT 3.1.1 section 3.1.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Failure;
use crate::packet::{self, Found};

/// Who a client is: its name and its TLS side.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) config: Arc<ClientConfig>,
}

impl Identity {
    /// The TLS side of a client that shows this chain: its certificate and its CA's, as RFC 8446
    /// section 4.4.2 has it and as our agent does.
    pub(crate) fn new(
        name: &str,
        root: &[u8],
        chain: Vec<Vec<u8>>,
        key_pkcs8: Vec<u8>,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.to_vec()))?;
        let mut crypto = provider::default_provider();
        crypto.kx_groups = vec![provider::kx_group::X25519];
        crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let key = PrivateKeyDer::try_from(key_pkcs8)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.into_iter().map(CertificateDer::from).collect(), key)?;
        config.resumption = Resumption::disabled();
        Ok(Self { name: name.to_owned(), config: Arc::new(config) })
    }
}

/// One connected client.
pub(crate) struct Client {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) buffer: BytesMut,
}

impl Client {
    /// TCP, TLS, CONNECT, CONNACK.
    pub(crate) async fn connect(
        to: SocketAddr,
        identity: &Identity,
        client_id: &str,
    ) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&identity.config));
        let stream = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
        let mut client = Self { stream, buffer: BytesMut::with_capacity(4096) };
        client.stream.write_all(&packet::connect(client_id)).await?;
        match client.next().await? {
            Found::Connack(0) => Ok(client),
            other => Err(format!("{}: CONNECT answered with {other:?}", identity.name).into()),
        }
    }

    /// Subscribes and waits for the grant.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<(), Failure> {
        self.stream.write_all(&packet::subscribe(filter, qos)).await?;
        match self.next().await? {
            Found::Suback(granted) if granted == qos => Ok(()),
            other => Err(format!("SUBSCRIBE {filter} answered with {other:?}").into()),
        }
    }

    /// Says goodbye and closes.
    pub(crate) async fn disconnect(mut self) -> Result<(), Failure> {
        self.stream.write_all(&packet::DISCONNECT).await?;
        // A server may close first; then there is nothing left to say.
        let _ = self.stream.shutdown().await;
        Ok(())
    }

    /// The next packet.
    async fn next(&mut self) -> Result<Found, Failure> {
        loop {
            if let Some((found, length)) = packet::find(&self.buffer) {
                self.buffer.advance(length);
                return Ok(found);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}
