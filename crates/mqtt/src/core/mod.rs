//! Steps one shard: what a client sends, what other shards say, what time and policy change.
//! In: `Input`, `Now`. Out: effects in the caller's `Sink`.
//! Invariant: a connection that ended is forgotten before its will and its close are dealt with.
//! Never: waits; holds a borrow of one connection while it changes another.
//! Spec: MQTT 3.1.1 sections 3 and 4.

mod change;
mod connect;
mod end;
mod publish;
mod shards;
mod subscribe;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use guard::{Bucket, ReplayTable, Windows};
use policy::{Table, VerifiedPeer};
use rustc_hash::FxHashMap;
use types::{DeviceId, Mono, Now, PrincipalKind, Reason};

use crate::api::{ConnId, Input, Lsn, Note, SHARDS_MAX, ShardId, Sink, Stats};
use crate::codec::{self, Frame, Incoming, WillPacket};
use crate::deliver::Hub;
use crate::error::MqttError;
use crate::gate::{Ack, Gate, Gates};
use crate::limits::Limits;
use crate::retained::Retained;
use crate::router::Router;
use crate::session::{SessionKey, Tally};

/// Acknowledgements of one connection that may wait: one per packet id.
const ACKS_MAX: usize = 65_535;

/// A connection, from its admission to its end.
pub(crate) struct Conn {
    id: ConnId,
    serial_no: u64,
    peer: Arc<VerifiedPeer>,
    /// Its session and client id, since its CONNECT.
    session: Option<(u32, Arc<str>)>,
    will: Option<WillPacket>,
    bucket: Option<Bucket>,
    /// When something last came, and how long nothing may come.
    heard: Mono,
    silence_max: Duration,
    /// Acknowledgements behind their gates, in the order of what they acknowledge [MQTT-4.6.0-2].
    acks: VecDeque<(Gate, Ack)>,
    /// Whether it stands in the list of those whose acknowledgements wait.
    listed: bool,
}

/// Why and how a connection ends.
pub(crate) struct End {
    reason: Reason,
    detail: String,
    /// Whether a will is due: the client said no goodbye, and is still trusted.
    will: bool,
}

impl End {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), will: true }
    }
}

impl From<MqttError> for End {
    fn from(error: MqttError) -> Self {
        let reason = match error {
            MqttError::TooLarge { .. } => Reason::Limit,
            _ => Reason::Protocol,
        };
        Self::new(reason, error.to_string())
    }
}

/// The broker's state for one shard. A session lives whole on one shard; the shell chooses it by
/// the identity, so that all sessions of an identity meet.
pub struct Core {
    shard: ShardId,
    policy: Arc<Table>,
    replay: Arc<ReplayTable>,
    windows: Windows,
    /// A connection is taken out while it is stepped, so that it can change the others.
    conns: FxHashMap<ConnId, Option<Box<Conn>>>,
    by_key: FxHashMap<Arc<SessionKey>, u32>,
    identities: FxHashMap<DeviceId, Vec<u32>>,
    hub: Hub,
    router: Router,
    retained: Retained,
    gates: Gates,
    /// Connections with acknowledgements behind a gate.
    waiting: Vec<ConnId>,
    timers: BinaryHeap<Reverse<(Mono, ConnId, u64)>>,
    /// Of limits that no single session reaches.
    tally: Tally,
    draining: bool,
}

impl Core {
    /// An empty shard, one of `shards`, which is at least 1 and at most [`SHARDS_MAX`]. The totals
    /// in `limits` are this shard's.
    #[must_use]
    pub fn new(
        limits: Limits,
        shard: ShardId,
        shards: ShardId,
        policy: Arc<Table>,
        replay: Arc<ReplayTable>,
    ) -> Self {
        let shards = shards.clamp(1, SHARDS_MAX);
        Self {
            shard,
            policy,
            replay,
            windows: Windows::default(),
            conns: FxHashMap::default(),
            by_key: FxHashMap::default(),
            identities: FxHashMap::default(),
            hub: Hub::new(limits),
            router: Router::new(shard, shards),
            retained: Retained::new(shards),
            gates: Gates::new(shards),
            waiting: Vec::new(),
            timers: BinaryHeap::new(),
            tally: Tally::default(),
            draining: false,
        }
    }

    /// Takes one event in and gives its effects to the sink.
    pub fn step(&mut self, now: Now, input: Input<'_>, sink: &mut dyn Sink) {
        match input {
            Input::Opened { conn, peer, serial_no } => self.opened(now, conn, peer, serial_no, sink),
            Input::Bytes { conn, buffer } => self.bytes(now, conn, buffer, sink),
            Input::Drained { conn } => self.drained(conn, sink),
            Input::Closed { conn, reason } => self.lost(now, conn, reason, sink),
            Input::Ended { conn, reason } => self.trust_ended(now, conn, reason, sink),
            Input::Tick => {}
            Input::Policy(table) => self.change_policy(table, sink),
            Input::Replay(table) => self.replay = table,
            Input::Limits(limits) => {
                self.hub.limits = *limits;
                for conn in self.conns.values_mut().flatten() {
                    conn.bucket = rate_of(&self.hub.limits, conn.peer.principal().kind);
                }
            }
            Input::Trust(recheck) => self.recheck(recheck, sink),
            Input::Remote { from, commands } => self.remote(now, from, commands, sink),
            Input::Durable { lsn } => self.durable(now, lsn, sink),
            Input::Drain => self.drain(now, sink),
            Input::ResetReplay(device) => {
                self.windows.reset(device);
            }
        }
        self.close_stuck(now, sink);
        self.expire(now, sink);
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Counters and levels.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.conns.len(),
            sessions: self.hub.sessions.len(),
            subscriptions: self.router.subscriptions,
            retained_messages: self.retained.messages,
            retained_bytes: self.retained.bytes,
            ..self.hub.stats.clone()
        }
    }

    fn opened(&mut self, now: Now, id: ConnId, peer: Arc<VerifiedPeer>, serial_no: u64, sink: &mut dyn Sink) {
        if self.draining {
            sink.close(id, Reason::ServerStops);
            return;
        }
        // A number that is used again before its connection was reported over: the old one is over.
        self.lost(now, id, Reason::ConnectionLost, sink);
        let silence_max = self.hub.limits.connect_timeout;
        let bucket = rate_of(&self.hub.limits, peer.principal().kind);
        let conn = Conn {
            id,
            serial_no,
            peer,
            session: None,
            will: None,
            bucket,
            heard: now.mono,
            silence_max,
            acks: VecDeque::new(),
            listed: false,
        };
        self.conns.insert(id, Some(Box::new(conn)));
        self.watch(now.mono.plus(silence_max), id, serial_no);
    }

    /// Takes the whole packets off the front of the buffer and steps each.
    fn bytes(&mut self, now: Now, id: ConnId, buffer: &mut BytesMut, sink: &mut dyn Sink) {
        let Some(mut conn) = self.take(id) else {
            buffer.clear();
            return;
        };
        let packet_bytes_max = self.hub.limits.packet_bytes_max;
        let mut at = 0;
        let over = loop {
            match codec::next_frame(buffer.get(at..).unwrap_or(&[]), packet_bytes_max) {
                Ok(None) => break None,
                Err(error) => break Some(error.into()),
                Ok(Some(frame)) => {
                    at += frame.len;
                    if let Err(end) = self.packet(now, &mut conn, &frame, sink) {
                        break Some(end);
                    }
                }
            }
        };
        match over {
            None => {
                buffer.advance(at);
                // [MQTT-3.1.2-24] any packet, and only a whole one, shows that the client is there.
                // The deadline for CONNECT runs from the opening.
                if at > 0 && conn.session.is_some() {
                    conn.heard = now.mono;
                }
                self.put_back(conn);
            }
            Some(end) => {
                buffer.clear();
                self.conns.remove(&id);
                self.end(now, *conn, end, true, sink);
            }
        }
    }

    fn packet(
        &mut self,
        now: Now,
        conn: &mut Conn,
        frame: &Frame<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        let Some((session, _)) = conn.session else {
            return self.first_packet(now, conn, frame, sink);
        };
        match codec::decode(frame)? {
            Incoming::Publish(packet) => self.publish(now, conn, session, &packet, sink)?,
            Incoming::Puback(id) => self.hub.acknowledged(&self.policy, session, id, sink),
            // We send no QoS 2, so these answer nothing of ours; the standard asks for no more.
            Incoming::Pubrec(_) | Incoming::Pubcomp(_) => {}
            Incoming::Pubrel(id) => self.release(now, conn, session, id, sink)?,
            Incoming::Subscribe(packet) => self.subscribe(now, conn, session, packet, sink)?,
            Incoming::Unsubscribe(packet) => self.unsubscribe(now, conn, session, packet, sink)?,
            // [MQTT-3.12.4-1] a PINGREQ is answered.
            Incoming::Pingreq => self.hub.control(conn.id, Some(session), &codec::pingresp(), sink),
            Incoming::Disconnect => {
                // [MQTT-3.14.4-3], [MQTT-3.1.2-10] a goodbye discards the will.
                return Err(End { reason: Reason::ClientClosed, detail: String::new(), will: false });
            }
            // [MQTT-3.1.0-2] a second CONNECT is a protocol violation.
            Incoming::Connect(_) => {
                return Err(MqttError::Unexpected { packet: "CONNECT", when: "came a second time" }.into());
            }
        }
        Ok(())
    }

    /// Acknowledges at once if the gate is open and nothing older waits, else in its turn.
    fn acknowledge(
        &mut self,
        now: Now,
        conn: &mut Conn,
        gate: Gate,
        ack: Ack,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        if conn.acks.is_empty() && self.gates.is_open(&gate) {
            self.send_ack(now, conn, ack, sink);
            return Ok(());
        }
        if conn.acks.len() >= ACKS_MAX {
            return Err(End::new(Reason::Limit, "more unacknowledged packets than there are packet ids"));
        }
        let session = conn.session.as_ref().and_then(|(at, _)| self.hub.sessions.get_mut(*at as usize));
        if let Some(session) = session {
            if self.gates.is_open(&session.gate) {
                session.gate = gate.clone();
            } else {
                session.gate.join(gate.clone());
            }
        }
        conn.acks.push_back((gate, ack));
        if !conn.listed {
            conn.listed = true;
            self.waiting.push(conn.id);
        }
        Ok(())
    }

    fn send_ack(&mut self, now: Now, conn: &Conn, ack: Ack, sink: &mut dyn Sink) {
        let session = conn.session.as_ref().map(|(session, _)| *session);
        match ack {
            Ack::Puback(id) => self.hub.control(conn.id, session, &codec::puback(id), sink),
            Ack::Pubrec(id) => self.hub.control(conn.id, session, &codec::pubrec(id), sink),
            Ack::Pubcomp(id) => self.hub.control(conn.id, session, &codec::pubcomp(id), sink),
            Ack::Unsuback(id) => self.hub.control(conn.id, session, &codec::unsuback(id), sink),
            Ack::Suback { frame, granted } => {
                self.hub.control(conn.id, session, &frame, sink);
                if let Some(session) = session {
                    self.send_retained(now, session, &granted, sink);
                }
            }
        }
    }

    /// Sends the acknowledgements whose gates have opened.
    fn open_gates(&mut self, now: Now, sink: &mut dyn Sink) {
        for id in std::mem::take(&mut self.waiting) {
            let Some(mut conn) = self.take(id) else { continue };
            while let Some((gate, _)) = conn.acks.front()
                && self.gates.is_open(gate)
                && let Some((_, ack)) = conn.acks.pop_front()
            {
                self.send_ack(now, &conn, ack, sink);
            }
            conn.listed = !conn.acks.is_empty();
            if conn.listed {
                self.waiting.push(id);
            }
            self.put_back(conn);
        }
    }

    fn durable(&mut self, now: Now, lsn: Lsn, sink: &mut dyn Sink) {
        self.gates.durable(lsn, sink);
        self.open_gates(now, sink);
    }

    fn drained(&mut self, id: ConnId, sink: &mut dyn Sink) {
        let session = self.conns.get(&id).and_then(Option::as_ref).and_then(|conn| conn.session.as_ref());
        if let Some(&(session, _)) = session {
            self.hub.drained(&self.policy, session, sink);
        }
    }

    /// Ends the connections whose client does not even read answers.
    fn close_stuck(&mut self, now: Now, sink: &mut dyn Sink) {
        while let Some(id) = self.hub.stuck.pop() {
            if let Some(conn) = self.conns.remove(&id).flatten() {
                let end = End::new(Reason::SlowConsumer, "the client does not read what it is sent");
                self.end(now, *conn, end, true, sink);
            }
        }
    }

    /// Ends the connections that were silent for too long. A timer is set anew only when it fires,
    /// so hearing from a client costs nothing.
    fn expire(&mut self, now: Now, sink: &mut dyn Sink) {
        while let Some(&Reverse((at, id, serial_no))) = self.timers.peek()
            && at <= now.mono
        {
            self.timers.pop();
            let Some(Some(conn)) = self.conns.get(&id) else { continue };
            if conn.serial_no != serial_no {
                continue;
            }
            let due = conn.heard.plus(conn.silence_max);
            if due > now.mono {
                self.timers.push(Reverse((due, id, serial_no)));
                continue;
            }
            let end = if conn.session.is_some() {
                End::new(Reason::KeepAlive, "nothing heard for one and a half keep-alive intervals")
            } else {
                End::new(Reason::Timeout, "no CONNECT in time")
            };
            if let Some(conn) = self.conns.remove(&id).flatten() {
                self.end(now, *conn, end, true, sink);
            }
        }
    }

    /// Sets a timer. Those of connections that are over are swept out once they are the most, so
    /// that reconnecting often fills no memory.
    fn watch(&mut self, at: Mono, id: ConnId, serial_no: u64) {
        const PER_CONNECTION: usize = 4;
        if self.timers.len() > PER_CONNECTION * (self.conns.len() + 64) {
            let conns = &self.conns;
            self.timers.retain(|Reverse((_, id, serial_no))| {
                // The one that is being stepped is out of its place, and keeps its timers.
                conns
                    .get(id)
                    .is_some_and(|conn| conn.as_ref().is_none_or(|conn| conn.serial_no == *serial_no))
            });
        }
        self.timers.push(Reverse((at, id, serial_no)));
    }

    fn take(&mut self, id: ConnId) -> Option<Box<Conn>> {
        self.conns.get_mut(&id)?.take()
    }

    fn put_back(&mut self, conn: Box<Conn>) {
        if let Some(place) = self.conns.get_mut(&conn.id) {
            *place = Some(conn);
        }
    }

    /// Says that our own code is wrong; the step goes on without what it concerns.
    fn bug(what: &'static str, sink: &mut dyn Sink) {
        sink.note(Note::Bug { what });
    }
}

/// How fast a connection of this kind may publish; none where there is no limit.
fn rate_of(limits: &Limits, kind: PrincipalKind) -> Option<Bucket> {
    let (per_second, burst) = match kind {
        PrincipalKind::Device => (limits.device_messages_per_second, limits.device_messages_burst),
        PrincipalKind::Service | PrincipalKind::Operator => {
            (limits.service_messages_per_second, limits.service_messages_burst)
        }
    };
    (per_second > 0).then(|| Bucket::new(per_second, burst.max(1)))
}
