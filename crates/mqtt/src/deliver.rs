//! Hands messages to sessions: decides, sends, queues, redelivers, within the limits.
//! In: a message that was permitted and is fresh, sessions, today's rules. Out: frames and records.
//! Invariant: a frame leaves only beside a `Permitted<Receive>` of today's rules for today's owner.
//! Never: allocates for a message that a live session takes at once.
//! Spec: MQTT 3.1.1 sections 4.3 to 4.6; DESIGN.md flow C.

use std::sync::Arc;

use policy::{Permitted, Receive, Table, VerifiedPeer, decide_receive};
use slab::Slab;
use types::{Mono, Now, QoS, Reason, Topic};

use crate::api::{ConnId, Limit, Lsn, Note, Record, Sink, Stats};
use crate::codec;
use crate::limits::Limits;
use crate::message::{Message, Pool};
use crate::session::{Entry, Session};

/// A message on its way to any number of sessions; each form is encoded at most once.
pub(crate) struct Outgoing<'a> {
    topic: Topic<'a>,
    payload: &'a [u8],
    qos: QoS,
    retain: bool,
    plain_ready: bool,
    id_at: Option<usize>,
    shared: Option<Arc<Message>>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(topic: Topic<'a>, payload: &'a [u8], qos: QoS) -> Self {
        Self { topic, payload, qos, retain: false, plain_ready: false, id_at: None, shared: None }
    }

    /// A message that is encoded already, from another shard or from the retained ones.
    pub(crate) fn shared(topic: Topic<'a>, message: &'a Arc<Message>, qos: QoS, retain: bool) -> Self {
        Self {
            topic,
            payload: message.payload(),
            qos,
            retain,
            plain_ready: false,
            id_at: None,
            shared: Some(Arc::clone(message)),
        }
    }

    /// Its topic.
    pub(crate) fn topic(&self) -> Topic<'a> {
        self.topic
    }

    /// Gives the message's buffer back if nobody kept it.
    pub(crate) fn give_back(self, pool: &mut Pool) {
        if let Some(message) = self.shared {
            pool.give_back(message);
        }
    }

    /// The message in the form that outlives the step.
    pub(crate) fn share(&mut self, pool: &mut Pool) -> Arc<Message> {
        Arc::clone(self.shared.get_or_insert_with(|| pool.message(self.topic, self.payload)))
    }
}

/// The sessions of a shard and all that delivering to them needs.
pub(crate) struct Hub {
    pub(crate) limits: Limits,
    pub(crate) sessions: Slab<Session>,
    pub(crate) pool: Pool,
    pub(crate) stats: Stats,
    /// The message of the moment as QoS 0, and as QoS 1.
    plain: Vec<u8>,
    with_id: Vec<u8>,
    /// A queued message of the moment, whose packet id and flags are patched in.
    queued: Vec<u8>,
    /// Connections that did not read for too long, to be closed after the step.
    pub(crate) stuck: Vec<ConnId>,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: Slab::new(),
            pool: Pool::default(),
            stats: Stats::default(),
            plain: Vec::new(),
            with_id: Vec::new(),
            queued: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// Delivers to one session what it subscribed to with `granted`; the answer is the record that
    /// has to be durable before the publisher may be told.
    pub(crate) fn deliver(
        &mut self,
        now: Now,
        table: &Table,
        session: u32,
        granted: QoS,
        out: &mut Outgoing<'_>,
        sink: &mut dyn Sink,
    ) -> Lsn {
        let Some(to) = self.sessions.get_mut(session as usize) else { return 0 };
        if to.link.is_none() && to.frozen.is_none() && to.owner.session_end() <= now.wall {
            // A live session is ended by its dates; a stored one takes nothing more in after them.
            to.frozen = Some(Reason::Expired);
            let (who, client_id) = (Arc::clone(&to.owner), Arc::clone(to.key.client_id()));
            sink.note(Note::SessionFrozen { who, client_id, reason: to.frozen });
        }
        if to.frozen.is_some() {
            return 0;
        }
        // Flow C: per subscriber, `policy::decide(Receive)`.
        let plain = out.qos.min(granted) == QoS::AtMostOnce;
        let recalled = if plain { to.recall(out.topic, table.epoch()) } else { None };
        let permit = match recalled {
            Some(permit) => permit,
            None => match decide_receive(table, &to.owner, out.topic) {
                Ok(permit) => permit,
                Err(_) => {
                    self.stats.receive_refused += 1;
                    return 0;
                }
            },
        };
        // [MQTT-3.8.4-6] the lower of the two qualities; ours ends at 1 in this version.
        if plain {
            self.deliver_plain(now, session, permit, out, sink);
            return 0;
        }
        let room = to.link.as_ref().is_some_and(|link| link.waiting <= self.limits.output_bytes_max)
            && to.queue.is_empty()
            && to.inflight.len() < self.limits.inflight_max;
        let message = out.share(&mut self.pool);
        if !room && !self.fits(now, session, message.bytes(), sink) {
            return 0;
        }
        let to = &mut self.sessions[session as usize];
        let (mut number, mut lsn) = (0, 0);
        if to.persistent {
            to.numbered += 1;
            number = to.numbered;
            let (session, message) = (Arc::clone(&to.key), Arc::clone(&message));
            lsn = sink.persist(Record::Queued { session, number, message, retain: out.retain });
        }
        let entry = Entry { message, permit, qos: QoS::AtLeastOnce, retain: out.retain, number };
        if !room {
            self.enqueue(session, entry);
            return lsn;
        }
        let id = to.fresh_id();
        let id_at = *out.id_at.get_or_insert_with(|| {
            codec::encode_publish(&mut self.with_id, out.topic.as_str(), out.payload, true, out.retain)
                .unwrap_or(0)
        });
        if let Some(place) = self.with_id.get_mut(id_at..id_at + 2) {
            place.copy_from_slice(&id.to_be_bytes());
        }
        transmit(&mut self.stats, to, &entry.permit, &self.with_id, sink);
        to.inflight.push_back((id, entry));
        lsn
    }

    fn deliver_plain(
        &mut self,
        now: Now,
        session: u32,
        permit: Permitted<Receive>,
        out: &mut Outgoing<'_>,
        sink: &mut dyn Sink,
    ) {
        let to = &mut self.sessions[session as usize];
        let Some(link) = &to.link else { return };
        let limit = if link.waiting > self.limits.output_bytes_max {
            Some(Limit::Output)
        } else if self.stats.output_bytes > self.limits.output_bytes_total_max {
            Some(Limit::OutputTotal)
        } else {
            None
        };
        if let Some(limit) = limit {
            // A burst of retained messages waits for the socket like QoS 1; live QoS 0 does not.
            if out.retain {
                let message = out.share(&mut self.pool);
                if self.fits(now, session, message.bytes(), sink) {
                    let entry = Entry { message, permit, qos: QoS::AtMostOnce, retain: true, number: 0 };
                    self.enqueue(session, entry);
                }
                return;
            }
            self.stats.output_dropped += 1;
            tell(now.mono, to, limit, sink);
            return;
        }
        if !out.plain_ready {
            codec::encode_publish(&mut self.plain, out.topic.as_str(), out.payload, false, out.retain);
            out.plain_ready = true;
        }
        transmit(&mut self.stats, to, &permit, &self.plain, sink);
        to.remember(out.topic, permit);
    }

    /// Whether the session's queue takes so many bytes more; says so if not.
    fn fits(&mut self, now: Now, session: u32, bytes: usize, sink: &mut dyn Sink) -> bool {
        let to = &mut self.sessions[session as usize];
        let limit = if to.queue.len() >= self.limits.queue_messages_max {
            Limit::QueueMessages
        } else if to.queue_bytes + bytes > self.limits.queue_bytes_max {
            Limit::QueueBytes
        } else if self.stats.queued_bytes + bytes > self.limits.queue_bytes_total_max {
            Limit::QueueBytesTotal
        } else {
            return true;
        };
        self.stats.queue_dropped += 1;
        tell(now.mono, to, limit, sink);
        false
    }

    fn enqueue(&mut self, session: u32, entry: Entry) {
        let to = &mut self.sessions[session as usize];
        let bytes = entry.message.bytes();
        to.queue_bytes += bytes;
        to.queue.push_back(entry);
        self.stats.queued_messages += 1;
        self.stats.queued_bytes += bytes;
    }

    /// Sends from the queue what the connection and the flight have room for.
    pub(crate) fn pump(&mut self, table: &Table, session: u32, sink: &mut dyn Sink) {
        loop {
            let Some(to) = self.sessions.get_mut(session as usize) else { return };
            let room = to.frozen.is_none()
                && to.link.as_ref().is_some_and(|link| link.waiting <= self.limits.output_bytes_max);
            let flight = to.inflight.len() < self.limits.inflight_max;
            let next = to.queue.front().is_some_and(|entry| flight || entry.qos == QoS::AtMostOnce);
            if !room || !next {
                return;
            }
            let Some(entry) = to.queue.pop_front() else { return };
            let bytes = entry.message.bytes();
            to.queue_bytes -= bytes;
            self.stats.queued_messages -= 1;
            self.stats.queued_bytes -= bytes;
            let Some(entry) = self.decide_again(table, session, entry, sink) else { continue };
            let to = &mut self.sessions[session as usize];
            if entry.qos == QoS::AtMostOnce {
                let (topic, payload) = (entry.message.topic_str(), entry.message.payload());
                codec::encode_publish(&mut self.queued, topic, payload, false, entry.retain);
                transmit(&mut self.stats, to, &entry.permit, &self.queued, sink);
                self.pool.give_back(entry.message);
            } else {
                let id = to.fresh_id();
                self.send_entry(session, id, &entry, false, sink);
                self.sessions[session as usize].inflight.push_back((id, entry));
            }
        }
    }

    /// Sends again what was in flight when the connection was lost, in its order [MQTT-4.4.0-1],
    /// [MQTT-4.6.0-1], then what waits.
    pub(crate) fn resume(&mut self, table: &Table, session: u32, sink: &mut dyn Sink) {
        let Some(to) = self.sessions.get_mut(session as usize) else { return };
        for (id, entry) in std::mem::take(&mut to.inflight) {
            let Some(entry) = self.decide_again(table, session, entry, sink) else { continue };
            self.send_entry(session, id, &entry, true, sink); // [MQTT-3.3.1-1] DUP on a re-delivery.
            self.sessions[session as usize].inflight.push_back((id, entry));
        }
        self.pump(table, session, sink);
    }

    fn send_entry(&mut self, session: u32, id: u16, entry: &Entry, dup: bool, sink: &mut dyn Sink) {
        let id_at = entry.message.id_at();
        self.queued.clear();
        self.queued.extend_from_slice(entry.message.frame());
        if let Some(place) = self.queued.get_mut(id_at..id_at + 2) {
            place.copy_from_slice(&id.to_be_bytes());
        }
        if let Some(first) = self.queued.first_mut() {
            *first |= u8::from(entry.retain) | u8::from(dup) << 3;
        }
        transmit(&mut self.stats, &mut self.sessions[session as usize], &entry.permit, &self.queued, sink);
    }

    /// A permission of older rules, or of the session's former owner, is decided again.
    fn decide_again(
        &mut self,
        table: &Table,
        session: u32,
        entry: Entry,
        sink: &mut dyn Sink,
    ) -> Option<Entry> {
        let to = &self.sessions[session as usize];
        if entry.permit.policy_epoch() == table.epoch() && Arc::ptr_eq(entry.permit.peer(), &to.owner) {
            return Some(entry);
        }
        let Entry { message, qos, retain, number, .. } = entry;
        let decided = message.topic().ok().and_then(|topic| decide_receive(table, &to.owner, topic).ok());
        if let Some(permit) = decided {
            return Some(Entry { message, permit, qos, retain, number });
        }
        self.stats.receive_refused += 1;
        self.settle(session, number, sink);
        self.pool.give_back(message);
        None
    }

    /// Writes that a recorded message waits no more.
    fn settle(&self, session: u32, number: u64, sink: &mut dyn Sink) {
        if number > 0
            && let Some(to) = self.sessions.get(session as usize)
        {
            sink.persist(Record::Settled { session: Arc::clone(&to.key), number });
        }
    }

    /// The client has a message: its packet id is free, and the next may be sent.
    pub(crate) fn acknowledged(&mut self, table: &Table, session: u32, id: u16, sink: &mut dyn Sink) {
        let Some(to) = self.sessions.get_mut(session as usize) else { return };
        let Some(entry) = to.acknowledged(id) else { return };
        let waits = !to.queue.is_empty();
        self.settle(session, entry.number, sink);
        self.pool.give_back(entry.message);
        if waits {
            self.pump(table, session, sink);
        }
    }

    /// Tells of a limit that a session reached, at most once per second.
    pub(crate) fn tell(&mut self, now: Mono, session: u32, limit: Limit, sink: &mut dyn Sink) {
        if let Some(to) = self.sessions.get_mut(session as usize) {
            tell(now, to, limit, sink);
        }
    }

    /// Sends a packet that is no message. A client that does not read its answers either is stuck.
    pub(crate) fn control(&mut self, conn: ConnId, session: Option<u32>, frame: &[u8], sink: &mut dyn Sink) {
        let waiting = sink.send(conn, frame);
        if let Some(link) = session
            .and_then(|at| self.sessions.get_mut(at as usize))
            .and_then(|session| session.link.as_mut())
        {
            self.stats.output_bytes = (self.stats.output_bytes + waiting).saturating_sub(link.waiting);
            link.waiting = waiting;
        }
        if waiting > self.limits.output_bytes_max.saturating_mul(2) {
            self.stuck.push(conn);
        }
    }

    /// The socket has taken everything.
    pub(crate) fn drained(&mut self, table: &Table, session: u32, sink: &mut dyn Sink) {
        let Some(to) = self.sessions.get_mut(session as usize) else { return };
        if let Some(link) = &mut to.link {
            self.stats.output_bytes = self.stats.output_bytes.saturating_sub(link.waiting);
            link.waiting = 0;
        }
        self.pump(table, session, sink);
    }

    /// Forgets what waits in a session that is discarded.
    pub(crate) fn empty(&mut self, session: Session) {
        self.stats.queued_messages -= session.queue.len();
        self.stats.queued_bytes -= session.queue_bytes;
        for entry in session.queue.into_iter().chain(session.inflight.into_iter().map(|(_, entry)| entry)) {
            self.pool.give_back(entry.message);
        }
    }
}

/// The one place where a message leaves for a client; the proof is asked for, not looked at.
fn transmit(
    stats: &mut Stats,
    to: &mut Session,
    _proof: &Permitted<Receive>,
    frame: &[u8],
    sink: &mut dyn Sink,
) {
    if let Some(link) = &mut to.link {
        let waiting = sink.send(link.conn, frame);
        stats.output_bytes = (stats.output_bytes + waiting).saturating_sub(link.waiting);
        link.waiting = waiting;
        stats.delivered += 1;
    }
}

/// Tells of a limit, at most once per second.
fn tell(now: Mono, to: &mut Session, limit: Limit, sink: &mut dyn Sink) {
    if let Some(count) = to.tally.count(limit, now) {
        let who: Arc<VerifiedPeer> = Arc::clone(&to.owner);
        sink.note(Note::LimitReached { conn: to.link.as_ref().map(|link| link.conn), who, limit, count });
    }
}
