//! A bare MQTT 3.1.1 client that sends what it is told to: the tool of the demonstration's attackers,
//! and of its backend service.

use std::net::SocketAddr;
use std::time::Duration;

use tls::{Connector, TlsError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long an answer may take before it counts as none.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A stream below MQTT, of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that speaks MQTT.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    packet_id: u16,
}

/// One packet: its first byte and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// Length of the rest, in MQTT's seven-bit groups.
fn remaining(mut length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let group = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        if length == 0 {
            out.push(group);
            return out;
        }
        out.push(group | 0x80);
    }
}

fn text(value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], value.as_bytes()].concat()
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &remaining(body.len()), body].concat()
}

/// The bytes of a CONNECT with a clean session.
pub(crate) fn connect_bytes(client_id: &str) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[4, 0b10, 0, 60], &text(client_id)].concat();
    frame(0x10, &head)
}

/// The bytes of a QoS 1 PUBLISH.
pub(crate) fn publish_bytes(topic: &str, packet_id: u16, payload: &str) -> Vec<u8> {
    frame(0x32, &[&text(topic)[..], &packet_id.to_be_bytes(), payload.as_bytes()].concat())
}

impl Wire {
    /// Connects by TLS as `host` and sends CONNECT; the return code of CONNACK, 0 for accepted.
    pub(crate) async fn open(
        connector: &Connector,
        at: SocketAddr,
        host: &str,
        client_id: &str,
    ) -> Result<Self, String> {
        let stream = connector.connect_to(at, host).await.map_err(|error| error.to_string())?;
        let mut wire = Self { stream: Box::new(stream), packet_id: 0 };
        wire.send(&connect_bytes(client_id)).await?;
        let answer = wire.next(ANSWER_WITHIN).await?.ok_or("no CONNACK")?;
        match (answer.first, answer.body.as_slice()) {
            (0x20, [_, 0]) => Ok(wire),
            (0x20, [_, code]) => Err(format!("CONNACK with return code {code}")),
            _ => Err(format!("packet 0x{:02x} in place of CONNACK", answer.first)),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| TlsError::from_io(&error).to_string())
    }

    /// The next packet; `None` when nothing came in time.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<Packet>, String> {
        let read = async {
            let first = self.stream.read_u8().await?;
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let group = self.stream.read_u8().await?;
                length |= usize::from(group & 0x7f) << shift;
                shift += 7;
                if group & 0x80 == 0 || shift > 21 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await?;
            Ok::<_, std::io::Error>(Packet { first, body })
        };
        match timeout(within, read).await {
            Ok(Ok(packet)) => Ok(Some(packet)),
            Ok(Err(error)) => Err(TlsError::from_io(&error).to_string()),
            Err(_) => Ok(None),
        }
    }

    /// The next packet of a kind (the high four bits of its first byte); others are passed over.
    async fn next_of(&mut self, kind: u8) -> Result<Packet, String> {
        loop {
            match self.next(ANSWER_WITHIN).await? {
                Some(packet) if packet.first >> 4 == kind => return Ok(packet),
                Some(_) => {}
                None => return Err(format!("no answer in {} s", ANSWER_WITHIN.as_secs())),
            }
        }
    }

    /// Subscribes with QoS 1; the granted QoS, or 0x80 for refused.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<u8, String> {
        self.packet_id += 1;
        let body = [&self.packet_id.to_be_bytes()[..], &text(filter), &[1]].concat();
        self.send(&frame(0x82, &body)).await?;
        let answer = self.next_of(9).await?;
        answer.body.get(2).copied().ok_or_else(|| "SUBACK without a code".to_owned())
    }

    /// Publishes with QoS 1 and waits for PUBACK.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) -> Result<(), String> {
        self.packet_id += 1;
        self.send(&publish_bytes(topic, self.packet_id, payload)).await?;
        self.next_of(4).await.map(|_| ())
    }

    /// The next message, as topic and payload; acknowledged if it asks for it. `None` after `within`.
    pub(crate) async fn message(&mut self, within: Duration) -> Result<Option<(String, String)>, String> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let Some(packet) = self.next(left).await? else { return Ok(None) };
            if packet.first >> 4 != 3 {
                continue;
            }
            let Some((topic, payload, id)) = parts(&packet) else {
                return Err("malformed PUBLISH".to_owned());
            };
            if let Some(id) = id {
                self.send(&frame(0x40, &id.to_be_bytes())).await?;
            }
            return Ok(Some((topic, payload)));
        }
    }

    /// Whether the other side has ended the connection, within the time for an answer.
    pub(crate) async fn ended(&mut self) -> Result<String, String> {
        loop {
            match self.next(ANSWER_WITHIN).await {
                Ok(Some(_)) => {}
                Ok(None) => return Err("the connection is still open".to_owned()),
                Err(how) => return Ok(how),
            }
        }
    }
}

/// Topic, payload and packet id of a PUBLISH.
fn parts(packet: &Packet) -> Option<(String, String, Option<u16>)> {
    let length = usize::from(u16::from_be_bytes([*packet.body.first()?, *packet.body.get(1)?]));
    let topic = String::from_utf8(packet.body.get(2..2 + length)?.to_vec()).ok()?;
    let rest = packet.body.get(2 + length..)?;
    let (id, payload) = if packet.first & 0b110 == 0 {
        (None, rest)
    } else {
        (Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?)
    };
    Some((topic, String::from_utf8_lossy(payload).into_owned(), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_as_it_was_written() {
        let bytes = publish_bytes("a/b", 7, "x");
        assert_eq!(bytes, [0x32, 8, 0, 3, b'a', b'/', b'b', 0, 7, b'x']);
        let packet = Packet { first: bytes[0], body: bytes[2..].to_vec() };
        assert_eq!(parts(&packet), Some(("a/b".into(), "x".into(), Some(7))));
        assert_eq!(parts(&Packet { first: 0x32, body: vec![0, 9, b'a'] }), None);
    }

    #[test]
    fn long_packets_have_their_length_in_groups() {
        assert_eq!(remaining(127), [127]);
        assert_eq!(remaining(128), [0x80, 1]);
        assert_eq!(remaining(268_435_455), [0xff, 0xff, 0xff, 0x7f]);
    }
}
