use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, HandshakeKind, RootCertStore};
use testkit::pki::{Leaf, Pki};
use tls::tokio_rustls::TlsConnector;
use tls::tokio_rustls::client::TlsStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::DEADLINE;

/// The TLS side of a client: what it trusts, and what it shows.
#[derive(Clone)]
pub(crate) struct Tls(pub(crate) Arc<ClientConfig>);

#[derive(Debug)]
struct FixtureTime(u64);

impl TimeProvider for FixtureTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0)))
    }
}

impl Tls {
    /// Shows the leaf and its CA's certificate.
    pub(crate) fn of(pki: &Pki, leaf: &Leaf) -> Self {
        Self::showing(pki, leaf.chain_der(), leaf, rustls::ALL_VERSIONS)
    }

    /// Shows the leaf and nothing else.
    pub(crate) fn leaf_only(pki: &Pki, leaf: &Leaf) -> Self {
        Self::showing(pki, vec![leaf.der().to_vec()], leaf, rustls::ALL_VERSIONS)
    }

    /// Speaks one version only.
    pub(crate) fn version(
        pki: &Pki,
        leaf: &Leaf,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        Self::showing(pki, leaf.chain_der(), leaf, &[version])
    }

    /// Shows nothing.
    pub(crate) fn nameless(pki: &Pki) -> Self {
        Self::build(pki, None, rustls::ALL_VERSIONS)
    }

    fn showing(
        pki: &Pki,
        chain: Vec<Vec<u8>>,
        leaf: &Leaf,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let key = leaf.key_pkcs8().expose().to_vec();
        Self::build(pki, Some((chain, key)), versions)
    }

    fn build(
        pki: &Pki,
        identity: Option<(Vec<Vec<u8>>, Vec<u8>)>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(pki.root().certificate().der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(FixtureTime(u64::try_from(pki.now().wall.secs()).unwrap()));
        let builder = ClientConfig::builder_with_details(provider.clone(), time)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::try_from(key).unwrap();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let chain = chain.into_iter().map(CertificateDer::from).collect();
                // Made by hand, so that rustls does not look whether the certificate is sound.
                let resolver = Shows(Arc::new(rustls::sign::CertifiedKey::new(chain, key)));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.resumption = Resumption::in_memory_sessions(16);
        Self(Arc::new(config))
    }
}

#[derive(Debug)]
struct Shows(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A packet that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// The topic and the payload of a PUBLISH.
    pub(crate) fn message(&self) -> (String, Vec<u8>) {
        assert_eq!(self.first >> 4, 3, "{self:?}");
        let length = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let id = if self.first & 0x06 == 0 { 0 } else { 2 };
        let topic = String::from_utf8(self.body[2..2 + length].to_vec()).unwrap();
        (topic, self.body[2 + length + id..].to_vec())
    }
}

/// A client's connection, from its handshake on.
pub(crate) struct Client {
    pub(crate) stream: TlsStream<TcpStream>,
    buffer: BytesMut,
}

impl Client {
    /// TCP and TLS. By TLS 1.3 a refused client learns of it only when it reads.
    pub(crate) async fn open(to: SocketAddr, tls: &Tls) -> Result<Self, String> {
        Self::over(TcpStream::connect(to).await.unwrap(), tls).await
    }

    pub(crate) async fn over(tcp: TcpStream, tls: &Tls) -> Result<Self, String> {
        let connector = TlsConnector::from(Arc::clone(&tls.0));
        let name = ServerName::try_from("localhost").unwrap();
        let connected = tokio::time::timeout(DEADLINE, connector.connect(name, tcp)).await;
        let stream = connected.map_err(|_| "handshake hangs")?.map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// CONNECT, and a CONNACK that says yes.
    pub(crate) async fn hello(&mut self, client_id: &str) -> Result<(), String> {
        self.send(&connect_packet(client_id, None)).await?;
        match self.next().await? {
            Packet { first: 0x20, body } if body == [0, 0] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(|error| error.to_string())
    }

    /// The next packet; an error once the connection is over.
    pub(crate) async fn next(&mut self) -> Result<Packet, String> {
        tokio::time::timeout(DEADLINE, self.next_whole()).await.map_err(|_| "nothing came".to_owned())?
    }

    async fn next_whole(&mut self) -> Result<Packet, String> {
        loop {
            if let Some(packet) = self.take() {
                return Ok(packet);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err("closed".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn take(&mut self) -> Option<Packet> {
        let mut length = 0_usize;
        for place in 0..4 {
            let byte = *self.buffer.get(1 + place)?;
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let head = 2 + place;
                if self.buffer.len() < head + length {
                    return None;
                }
                let first = self.buffer[0];
                self.buffer.advance(head);
                let body = self.buffer.split_to(length).to_vec();
                return Some(Packet { first, body });
            }
        }
        panic!("a length of more than four bytes");
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.send(&subscribe_packet(filter, qos)).await.unwrap();
        let packet = self.next().await.unwrap();
        assert_eq!(packet.first, 0x90, "{packet:?}");
        packet.body[2]
    }

    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.send(&publish_packet(topic, payload, None)).await.unwrap();
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub(crate) async fn publish_acked(&mut self, topic: &str, payload: &[u8]) {
        self.send(&publish_packet(topic, payload, Some(9))).await.unwrap();
        let packet = self.next().await.unwrap();
        assert_eq!(packet, Packet { first: 0x40, body: vec![0, 9] });
    }

    /// PINGREQ and its answer: all that was sent before has been seen by the broker.
    pub(crate) async fn ping(&mut self) -> Result<(), String> {
        self.send(&[0xc0, 0]).await?;
        match self.next().await? {
            Packet { first: 0xd0, .. } => Ok(()),
            other => Err(format!("{other:?} instead of PINGRESP")),
        }
    }

    /// Reads until the connection is over; what came before it.
    pub(crate) async fn rest(mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Ok(packet) = self.next().await {
            packets.push(packet);
        }
        packets
    }

    pub(crate) fn kind(&self) -> Option<HandshakeKind> {
        let connection: &ClientConnection = self.stream.get_ref().1;
        connection.handshake_kind()
    }
}

/// A TCP connection whose receive buffer is so small that a peer that writes is soon blocked.
pub(crate) async fn tcp_with_small_buffers(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(to).await.unwrap()
}

fn remaining_length(out: &mut BytesMut, mut length: usize) {
    while length > 0x7f {
        out.put_u8(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.put_u8(u8::try_from(length).unwrap());
}

fn text(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).unwrap());
    out.put_slice(bytes);
}

/// CONNECT of MQTT 3.1.1: clean session, keep-alive 60 s, with a will if there is one.
pub(crate) fn connect_packet(client_id: &str, will: Option<(&str, &str)>) -> BytesMut {
    let mut body = BytesMut::new();
    text(&mut body, b"MQTT");
    body.put_u8(4);
    body.put_u8(if will.is_some() { 0x06 } else { 0x02 });
    body.put_u16(60);
    text(&mut body, client_id.as_bytes());
    if let Some((topic, payload)) = will {
        text(&mut body, topic.as_bytes());
        text(&mut body, payload.as_bytes());
    }
    packet(0x10, &body)
}

pub(crate) fn subscribe_packet(filter: &str, qos: u8) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u16(7);
    text(&mut body, filter.as_bytes());
    body.put_u8(qos);
    packet(0x82, &body)
}

pub(crate) fn publish_packet(topic: &str, payload: &[u8], id: Option<u16>) -> BytesMut {
    let mut body = BytesMut::new();
    text(&mut body, topic.as_bytes());
    if let Some(id) = id {
        body.put_u16(id);
    }
    body.put_slice(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

fn packet(first: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(first);
    remaining_length(&mut out, body.len());
    out.put_slice(body);
    out
}
