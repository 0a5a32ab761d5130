//! A bare MQTT 3.1.1 client over `tls::Connector` that sends what it is told to and forgets nothing
//! that it was sent; a read that was given up in time loses no byte.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tls::tokio_rustls::client::TlsStream;
use tls::{Connector, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// How long an answer may take before it counts as none.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One packet: its first byte and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// A message as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
}

/// A connection that speaks MQTT.
pub(crate) struct Wire {
    stream: TlsStream<TcpStream>,
    inbox: Vec<u8>,
    messages: VecDeque<Message>,
    packet_id: u16,
}

fn text(value: &str) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap().to_be_bytes()[..], value.as_bytes()].concat()
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut length) = (vec![first], body.len());
    loop {
        let group = u8::try_from(length % 128).unwrap();
        length /= 128;
        out.push(if length == 0 { group } else { group | 0x80 });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// The first whole packet, taken out of the bytes.
fn take_packet(inbox: &mut Vec<u8>) -> Option<Packet> {
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let group = *inbox.get(at)?;
        length |= usize::from(group & 0x7f) << (7 * (at - 1));
        at += 1;
        if group & 0x80 == 0 {
            break;
        }
    }
    let body = inbox.get(at..at + length)?.to_vec();
    let first = inbox[0];
    inbox.drain(..at + length);
    Some(Packet { first, body })
}

impl Wire {
    /// Connects by TLS as a client of `localhost` and sends CONNECT with a clean session.
    ///
    /// # Errors
    /// What the connector says, the alert, or the return code of CONNACK.
    pub(crate) async fn open(connector: &Connector, at: SocketAddr, client_id: &str) -> Result<Self, String> {
        let stream = connector.connect_to(at, "localhost").await.map_err(|error| error.to_string())?;
        let mut wire = Self { stream, inbox: Vec::new(), messages: VecDeque::new(), packet_id: 0 };
        wire.send(&frame(0x10, &[&text("MQTT")[..], &[4, 0b10, 0, 60], &text(client_id)].concat())).await?;
        match wire.packet(ANSWER_WITHIN).await?.ok_or("no CONNACK")? {
            Packet { first: 0x20, body } if body.get(1) == Some(&0) => Ok(wire),
            Packet { first: 0x20, body } => Err(format!("CONNACK {body:?}")),
            other => Err(format!("{other:?} in place of CONNACK")),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| TlsError::from_io(&error).to_string())
    }

    /// The next packet; `None` when none came in time, an error when the connection ended.
    pub(crate) async fn packet(&mut self, within: Duration) -> Result<Option<Packet>, String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(packet) = take_packet(&mut self.inbox) {
                return Ok(Some(packet));
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.inbox)).await {
                Err(_) => return Ok(None),
                Ok(Ok(0)) => return Err("closed".to_owned()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(TlsError::from_io(&error).to_string()),
            }
        }
    }

    /// Keeps a message, acknowledged if it asks for it; any other packet is handed back.
    async fn keep(&mut self, packet: Packet) -> Result<Option<Packet>, String> {
        if packet.first >> 4 != 3 {
            return Ok(Some(packet));
        }
        let length = usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        let topic = String::from_utf8(packet.body[2..2 + length].to_vec()).unwrap();
        let mut rest = &packet.body[2 + length..];
        if packet.first & 0b110 != 0 {
            let id = [rest[0], rest[1]];
            rest = &rest[2..];
            self.send(&frame(0x40, &id)).await?;
        }
        let payload = String::from_utf8_lossy(rest).into_owned();
        self.messages.push_back(Message { topic, payload });
        Ok(None)
    }

    async fn answer(&mut self, kind: u8) -> Result<Packet, String> {
        loop {
            let packet = self.packet(ANSWER_WITHIN).await?.ok_or("no answer in time")?;
            match self.keep(packet).await? {
                Some(packet) if packet.first >> 4 == kind => return Ok(packet),
                _ => {}
            }
        }
    }

    /// Subscribes with QoS 1; the granted QoS, or 0x80 for refused.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<u8, String> {
        self.packet_id += 1;
        let body = [&self.packet_id.to_be_bytes()[..], &text(filter), &[1]].concat();
        self.send(&frame(0x82, &body)).await?;
        Ok(self.answer(9).await?.body[2])
    }

    /// Publishes with QoS 1 and waits for PUBACK.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) -> Result<(), String> {
        self.packet_id = self.packet_id % u16::MAX + 1;
        let id = self.packet_id.to_be_bytes();
        self.send(&frame(0x32, &[&text(topic)[..], &id, payload.as_bytes()].concat())).await?;
        loop {
            let found = self.answer(4).await?;
            if found.body.starts_with(&id) {
                return Ok(());
            }
        }
    }

    /// The next message, one that came earlier first; `None` when none came in time.
    pub(crate) async fn message(&mut self, within: Duration) -> Result<Option<Message>, String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.packet(left).await? {
                Some(packet) => drop(self.keep(packet).await?),
                None => return Ok(None),
            }
        }
    }

    /// Everything that the broker sent before it answered a PINGREQ: what is not here by then was
    /// not sent to this client.
    pub(crate) async fn settled(&mut self) -> Result<Vec<Message>, String> {
        self.send(&[0xc0, 0]).await?;
        self.answer(13).await?;
        Ok(self.messages.drain(..).collect())
    }

    /// Whether the other side has ended the connection, within the time for an answer; how.
    pub(crate) async fn ended(&mut self) -> Result<String, String> {
        let reads = async {
            loop {
                match self.packet(ANSWER_WITHIN).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Err("the connection is still open".to_owned()),
                    Err(how) => return Ok(how),
                }
            }
        };
        timeout(ANSWER_WITHIN, reads).await.unwrap_or(Err("the connection is still open".to_owned()))
    }
}
