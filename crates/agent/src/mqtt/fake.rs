//! The other end of the wire: a broker that does what the test tells it to.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A packet as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Bytes,
}

/// A PUBLISH, taken apart by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) packet_id: Option<u16>,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
}

impl Packet {
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub(crate) fn packet_id(&self) -> u16 {
        self.body.clone().get_u16()
    }

    pub(crate) fn published(&self) -> Published {
        assert_eq!(self.kind(), 3, "{self:?}");
        let mut body = self.body.clone();
        let len = usize::from(body.get_u16());
        let topic = String::from_utf8(body.split_to(len).to_vec()).unwrap();
        let qos = self.first >> 1 & 3;
        let packet_id = (qos > 0).then(|| body.get_u16());
        Published {
            topic,
            payload: String::from_utf8(body.to_vec()).unwrap(),
            packet_id,
            dup: self.first & 8 != 0,
            retain: self.first & 1 != 0,
        }
    }
}

pub(crate) struct Fake<S> {
    stream: S,
    inbox: BytesMut,
}

const DEADLINE: Duration = Duration::from_secs(600);

impl<S: AsyncRead + AsyncWrite + Unpin> Fake<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, inbox: BytesMut::new() }
    }

    /// The next packet; `None` when the client has closed.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.take() {
                return Some(packet);
            }
            let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.inbox)).await;
            match read.expect("the client says something") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn take(&mut self) -> Option<Packet> {
        let (mut len, mut at) = (0, 1);
        loop {
            let byte = *self.inbox.get(at)?;
            len |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.inbox.len() < at + len {
            return None;
        }
        let first = self.inbox[0];
        self.inbox.advance(at);
        Some(Packet { first, body: self.inbox.split_to(len).freeze() })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Takes CONNECT and accepts it; its body.
    pub(crate) async fn welcome(&mut self, session_present: bool) -> Bytes {
        let connect = self.next().await.expect("CONNECT");
        assert_eq!(connect.first, 0x10);
        self.send(&[0x20, 2, u8::from(session_present), 0]).await;
        connect.body
    }

    /// Takes a PUBLISH without acknowledging it.
    pub(crate) async fn published(&mut self) -> Published {
        self.next().await.expect("PUBLISH").published()
    }

    /// Takes a QoS 1 PUBLISH and acknowledges it.
    pub(crate) async fn acknowledged(&mut self) -> Published {
        let published = self.published().await;
        self.puback(published.packet_id.expect("QoS 1")).await;
        published
    }

    pub(crate) async fn puback(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// Takes a SUBSCRIBE for one filter and answers with `code`; the filter.
    pub(crate) async fn subscribed(&mut self, code: u8) -> String {
        let subscribe = self.next().await.expect("SUBSCRIBE");
        assert_eq!(subscribe.first, 0x82);
        let [high, low] = subscribe.packet_id().to_be_bytes();
        self.send(&[0x90, 3, high, low, code]).await;
        let filter = &subscribe.body[4..subscribe.body.len() - 1];
        String::from_utf8(filter.to_vec()).unwrap()
    }

    /// Delivers a message with QoS 1.
    pub(crate) async fn deliver(&mut self, topic: &str, payload: &str, packet_id: u16) {
        let len = 2 + topic.len() + 2 + payload.len();
        assert!(len < 128, "one byte of length is enough for the tests");
        let mut bytes = vec![0x32, u8::try_from(len).unwrap()];
        bytes.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&packet_id.to_be_bytes());
        bytes.extend_from_slice(payload.as_bytes());
        self.send(&bytes).await;
    }
}
