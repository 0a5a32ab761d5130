//! One shard with a device that may use its own space, and a service that reads everything.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use guard::{ReplayRule, ReplayTable};
use mqtt::{Command, ConnId, Core, Input, Limits, Lsn, Note, Record, ShardId, Sink};
use policy::{Source, Table, VerifiedPeer};
use types::{PrincipalKind, Reason};

use crate::pki::{NOW, PKI};

pub(crate) const DEVICE: ConnId = 1;
pub(crate) const SERVICE: ConnId = 2;
/// `MQTT`, level 4, clean session, 60 s, no client id.
pub(crate) const CONNECT: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";
const SUBSCRIBE_ALL: &[u8] = b"\x82\x06\0\x01\0\x01#\0";
const RULES: &str = "pattern readwrite devices/%u/#\nuser svc\ntopic readwrite #\n";

static PEERS: LazyLock<[Arc<VerifiedPeer>; 2]> =
    LazyLock::new(|| [PKI.peer(PrincipalKind::Device, "dev-1"), PKI.peer(PrincipalKind::Service, "svc")]);

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) out: BTreeMap<ConnId, Vec<u8>>,
    pub(crate) closed: Vec<(ConnId, Reason)>,
}

impl Sink for Seen {
    fn send(&mut self, conn: ConnId, frame: &[u8]) -> usize {
        self.out.entry(conn).or_default().extend_from_slice(frame);
        0
    }

    fn close(&mut self, conn: ConnId, reason: Reason) {
        self.closed.push((conn, reason));
    }

    fn forward(&mut self, _: ShardId, _: Command) {}

    fn persist(&mut self, _: Record) -> Lsn {
        0
    }

    fn note(&mut self, _: Note) {}
}

pub(crate) struct Shard {
    core: Core,
    pub(crate) seen: Seen,
    buffers: BTreeMap<ConnId, BytesMut>,
}

impl Shard {
    /// Both are connected to the shard; the service has subscribed, the device has sent nothing yet.
    pub(crate) fn new(rules: Vec<ReplayRule>) -> Self {
        let table = Table::compile(&[Source { file: "fuzz.acl", text: RULES }], 1).unwrap();
        let replay = Arc::new(ReplayTable::new(rules));
        let core = Core::new(Limits::default(), 0, 1, Arc::new(table), replay);
        let mut shard = Self { core, seen: Seen::default(), buffers: BTreeMap::new() };
        for (conn, peer) in [(DEVICE, &PEERS[0]), (SERVICE, &PEERS[1])] {
            let opened = Input::Opened { conn, peer: Arc::clone(peer), serial_no: u64::from(conn) };
            shard.core.step(NOW, opened, &mut shard.seen);
        }
        shard.send(SERVICE, CONNECT);
        shard.send(SERVICE, SUBSCRIBE_ALL);
        let answers = shard.seen.out.remove(&SERVICE).unwrap();
        assert_eq!(answers, b"\x20\x02\0\0\x90\x03\0\x01\0", "CONNACK and SUBACK, both granted");
        shard
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let buffer = self.buffers.entry(conn).or_default();
        buffer.extend_from_slice(bytes);
        self.core.step(NOW, Input::Bytes { conn, buffer }, &mut self.seen);
    }

    /// The network loses the device, if the shard has not closed it already.
    pub(crate) fn lose_device(&mut self) {
        if self.seen.closed.iter().all(|(conn, _)| *conn != DEVICE) {
            let lost = Input::Closed { conn: DEVICE, reason: Reason::ConnectionLost };
            self.core.step(NOW, lost, &mut self.seen);
        }
    }

    /// Topic and payload of every message that the service was sent, all of QoS 0.
    pub(crate) fn delivered(&self) -> Vec<(String, Vec<u8>)> {
        let mut messages = Vec::new();
        let mut rest = self.seen.out.get(&SERVICE).map_or(&[][..], Vec::as_slice);
        while let Some((&first, mut body)) = rest.split_first() {
            let (mut length, mut shift) = (0, 0);
            while let Some((&byte, after)) = body.split_first() {
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                body = after;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            assert_eq!(first & 0xf6, 0x30, "the service asked for QoS 0 and nothing else");
            let (packet, after) = body.split_at(length);
            let topic_bytes = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
            let (topic, payload) = packet[2..].split_at(topic_bytes);
            messages.push((String::from_utf8(topic.to_vec()).unwrap(), payload.to_vec()));
            rest = after;
        }
        messages
    }
}
