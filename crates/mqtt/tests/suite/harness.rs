//! One shard in the hand: clients that are byte buffers, a sink that keeps everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use guard::{ReplayRule, ReplayTable};
use mqtt::{Command, ConnId, Core, Input, Limit, Limits, Lsn, Note, Record, ShardId, Sink};
use policy::{Source, Table, VerifiedPeer};
use types::{Now, PrincipalKind, Reason};

use crate::packets::{Connect, hello, shown};
use crate::pki::{NOW, PKI};

/// Everyone may use `t/#`; a device its own space; `secret/#` is nobody's but the service's.
pub(crate) const RULES: &str = "\
pattern readwrite t/#
pattern readwrite $t/#
pattern readwrite devices/%u/#
user svc
topic readwrite #
";

pub(crate) fn table(text: &str, epoch: u64) -> Arc<Table> {
    Arc::new(Table::compile(&[Source { file: "test.acl", text }], epoch).unwrap())
}

#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) out: BTreeMap<ConnId, Vec<u8>>,
    pub(crate) closed: Vec<(ConnId, Reason)>,
    pub(crate) forwarded: Vec<(ShardId, Command)>,
    pub(crate) records: Vec<Record>,
    pub(crate) notes: Vec<Note>,
    /// With a journal a record is durable only when the test says so.
    pub(crate) journal: bool,
    /// Clients that read nothing.
    pub(crate) deaf: BTreeSet<ConnId>,
    pub(crate) waiting: BTreeMap<ConnId, usize>,
}

impl Sink for Recorder {
    fn send(&mut self, conn: ConnId, frame: &[u8]) -> usize {
        self.out.entry(conn).or_default().extend_from_slice(frame);
        if !self.deaf.contains(&conn) {
            return 0;
        }
        let waiting = self.waiting.entry(conn).or_default();
        *waiting += frame.len();
        *waiting
    }

    fn close(&mut self, conn: ConnId, reason: Reason) {
        self.closed.push((conn, reason));
    }

    fn forward(&mut self, to: ShardId, command: Command) {
        self.forwarded.push((to, command));
    }

    fn persist(&mut self, record: Record) -> Lsn {
        self.records.push(record);
        if self.journal { self.records.len() as Lsn } else { 0 }
    }

    fn note(&mut self, event: Note) {
        self.notes.push(event);
    }
}

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) sink: Recorder,
    pub(crate) now: Now,
    buffers: BTreeMap<ConnId, BytesMut>,
    peers: BTreeMap<String, Arc<VerifiedPeer>>,
    next: ConnId,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::shard(limits, 0, 1, &[])
    }

    pub(crate) fn guarded(rules: &[ReplayRule]) -> Self {
        Self::shard(Limits::default(), 0, 1, rules)
    }

    pub(crate) fn shard(limits: Limits, shard: ShardId, shards: ShardId, rules: &[ReplayRule]) -> Self {
        let replay = Arc::new(ReplayTable::new(rules.to_vec()));
        Self {
            core: Core::new(limits, shard, shards, table(RULES, 1), replay),
            sink: Recorder::default(),
            now: NOW,
            buffers: BTreeMap::new(),
            peers: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>) {
        self.core.step(self.now, input, &mut self.sink);
    }

    pub(crate) fn later(&mut self, time: Duration) {
        self.now.mono = self.now.mono.plus(time);
        self.now.wall = self.now.wall.plus(time);
        self.step(Input::Tick);
    }

    /// The peer of that name, the same at each call: `svc…` is a service, all others are devices.
    pub(crate) fn peer(&mut self, name: &str) -> Arc<VerifiedPeer> {
        let made = || {
            let kind = if name.starts_with("svc") { PrincipalKind::Service } else { PrincipalKind::Device };
            PKI.peer(kind, name)
        };
        Arc::clone(self.peers.entry(name.to_owned()).or_insert_with(made))
    }

    pub(crate) fn open(&mut self, name: &str) -> ConnId {
        let peer = self.peer(name);
        self.open_as(peer)
    }

    pub(crate) fn open_as(&mut self, peer: Arc<VerifiedPeer>) -> ConnId {
        self.next += 1;
        let conn = self.next;
        self.step(Input::Opened { conn, peer, serial_no: u64::from(conn) });
        self.buffers.insert(conn, BytesMut::new());
        conn
    }

    /// Sends bytes and says what the client is sent until then.
    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<String> {
        let mut buffer = self.buffers.remove(&conn).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        self.core.step(self.now, Input::Bytes { conn, buffer: &mut buffer }, &mut self.sink);
        self.buffers.insert(conn, buffer);
        self.seen(conn)
    }

    /// What a client was sent since it was last asked.
    pub(crate) fn seen(&mut self, conn: ConnId) -> Vec<String> {
        shown(&self.sink.out.remove(&conn).unwrap_or_default())
    }

    /// A connection whose CONNECT was accepted.
    pub(crate) fn client(&mut self, name: &str) -> ConnId {
        self.client_with(name, &hello(""))
    }

    pub(crate) fn client_with(&mut self, name: &str, connect: &Connect) -> ConnId {
        let conn = self.open(name);
        let answer = self.send(conn, &connect.bytes());
        assert!(answer[0].ends_with(" 0"), "{answer:?}");
        conn
    }

    pub(crate) fn lose(&mut self, conn: ConnId) {
        self.step(Input::Closed { conn, reason: Reason::ConnectionLost });
    }

    pub(crate) fn take_closed(&mut self) -> Vec<(ConnId, Reason)> {
        std::mem::take(&mut self.sink.closed)
    }

    /// The detail of the last connection that ended.
    pub(crate) fn last_end(&self) -> String {
        let found = self.sink.notes.iter().rev().find_map(|note| match note {
            Note::SessionEnded { reason, detail, .. } => Some(format!("{}: {detail}", reason.code())),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// The limits that were told of, with their counts.
    pub(crate) fn limits_told(&self) -> Vec<(Limit, u64)> {
        let told = self.sink.notes.iter().filter_map(|note| match note {
            Note::LimitReached { limit, count, .. } => Some((*limit, *count)),
            _ => None,
        });
        told.collect()
    }

    /// Every refusal by the rules, as the log shows it.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let refused = self.sink.notes.iter().filter_map(|note| match note {
            Note::PublishRefused { denial, .. } | Note::SubscribeRefused { denial, .. } => {
                Some(denial.to_string())
            }
            _ => None,
        });
        refused.collect()
    }
}
