use std::hash::Hasher;
use std::sync::Arc;

use guard::ReplayRefusal;
use policy::decide_publish;
use rustc_hash::FxHasher;
use types::{Clipped, Now, PrincipalKind, QoS, Reason, TopicFilter};

use super::{Conn, Core, End};
use crate::api::{Command, ConnId, Limit, Lsn, Note, Record, Sink};
use crate::cleared::{self, Cleared, Stream};
use crate::codec::{self, PublishPacket};
use crate::deliver::Outgoing;
use crate::gate::{Ack, Gate};
use crate::message::Message;

impl Core {
    /// Flow C. The size cap and the decoding lie behind: the frame was cut and read.
    pub(super) fn publish(
        &mut self,
        now: Now,
        conn: &mut Conn,
        session: u32,
        packet: &PublishPacket<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        self.hub.stats.received += 1;
        if codec::too_deep(packet.topic, self.hub.limits.topic_levels_max) {
            let shown = Clipped(packet.topic.as_str());
            return Err(End::new(Reason::Limit, format!("topic \"{shown}\" has too many levels")));
        }
        // 1. A packet id that was seen before: an honest retry is acknowledged, never routed twice.
        let rule_applies = !self.replay.is_empty() && cleared::rule(&self.replay, packet.topic).is_some();
        let content = if rule_applies && packet.qos == QoS::AtLeastOnce { content_hash(packet) } else { 0 };
        if let Some(gate) = self.retry(conn, session, packet, content)? {
            return self.answer(now, conn, packet, gate, sink);
        }
        // 2. The rate.
        if conn.bucket.as_mut().is_some_and(|bucket| !bucket.take(now.mono, 1)) {
            self.hub.stats.rate_dropped += 1;
            self.hub.tell(now.mono, session, Limit::Rate, sink);
            return self.answer(now, conn, packet, Gate::default(), sink);
        }
        // 3. The rules. [MQTT-3.3.5-2] 3.1.1 can't refuse, so what is refused is acknowledged and dropped.
        let permit = match decide_publish(&self.policy, &conn.peer, packet.topic) {
            Ok(permit) => permit,
            Err(denial) => {
                self.hub.stats.publish_refused += 1;
                sink.note(Note::PublishRefused { conn: Some(conn.id), who: Arc::clone(&conn.peer), denial });
                return self.answer(now, conn, packet, Gate::default(), sink);
            }
        };
        // 4. The replay windows: last, so that a refused message uses up no counter. Clearing a
        // retained message carries no counter, and repeating it changes nothing.
        let clears = packet.retain && packet.payload.is_empty();
        let rule = if rule_applies && !clears { cleared::rule(&self.replay, packet.topic) } else { None };
        let stream = Stream { serial_no: conn.serial_no };
        let cleared = match cleared::check(permit, packet.payload, rule, &mut self.windows, stream, now) {
            Ok(cleared) => cleared,
            Err(refusal) => {
                self.hub.stats.replay_refused += 1;
                note_replay(conn, packet, &refusal, true, sink);
                return self.answer(now, conn, packet, Gate::default(), sink);
            }
        };
        if let Some(refusal) = cleared.observed() {
            self.hub.stats.replay_observed += 1;
            note_replay(conn, packet, refusal, false, sink);
        }
        // 5. Retained, routed, and per subscriber decided and queued.
        let gate = self.route(now, &cleared, packet.payload, packet.qos, packet.retain, Some(conn.id), sink);
        // 6. Only now the message counts as seen: a publish that failed before may be sent again.
        cleared.commit(&mut self.windows);
        if content != 0
            && let Some(from) = self.hub.sessions.get_mut(session as usize)
        {
            from.settle(packet.id, content);
        }
        // 7. The acknowledgement, behind what has to be durable and known to every shard.
        self.answer(now, conn, packet, gate, sink)
    }

    /// Whether the message was taken in before under this packet id, and if so what its
    /// acknowledgement waits for.
    fn retry(
        &mut self,
        conn: &Conn,
        session: u32,
        packet: &PublishPacket<'_>,
        content: u64,
    ) -> Result<Option<Gate>, End> {
        let Some(from) = self.hub.sessions.get(session as usize) else { return Ok(None) };
        let again = || Some(from.gate.clone());
        match packet.qos {
            QoS::AtMostOnce => Ok(None),
            QoS::AtLeastOnce if !packet.dup => Ok(None),
            QoS::AtLeastOnce => {
                let pending =
                    conn.acks.iter().any(|(_, ack)| matches!(ack, Ack::Puback(id) if *id == packet.id));
                let known = pending || content != 0 && from.was_settled(packet.id, content);
                Ok(if known { again() } else { None })
            }
            // [MQTT-4.3.3-2] until its PUBREL a QoS 2 packet id stands for one message.
            QoS::ExactlyOnce if from.received.contains(&packet.id) => Ok(again()),
            QoS::ExactlyOnce => {
                let limit = self.hub.limits.received_max;
                if from.received.len() >= limit {
                    return Err(End::new(
                        Reason::Limit,
                        format!("more than {limit} QoS 2 messages without PUBREL"),
                    ));
                }
                Ok(None)
            }
        }
    }

    /// PUBACK for QoS 1 [MQTT-4.3.2-2], PUBREC for QoS 2 [MQTT-4.3.3-2], nothing for QoS 0.
    fn answer(
        &mut self,
        now: Now,
        conn: &mut Conn,
        packet: &PublishPacket<'_>,
        mut gate: Gate,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        match packet.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.acknowledge(now, conn, gate, Ack::Puback(packet.id), sink),
            QoS::ExactlyOnce => {
                let from = conn.session.as_ref().and_then(|(at, _)| self.hub.sessions.get_mut(*at as usize));
                if let Some(from) = from
                    && !from.received.contains(&packet.id)
                {
                    from.received.push(packet.id);
                    if from.persistent {
                        let session = Arc::clone(&from.key);
                        gate.join(Gate::durable(sink.persist(Record::Received { session, id: packet.id })));
                    }
                }
                self.acknowledge(now, conn, gate, Ack::Pubrec(packet.id), sink)
            }
        }
    }

    /// A PUBREL lets go of its packet id, known or not, and gets its PUBCOMP [MQTT-4.3.3-2].
    pub(super) fn release(
        &mut self,
        now: Now,
        conn: &mut Conn,
        session: u32,
        id: u16,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        let mut gate = Gate::default();
        if let Some(from) = self.hub.sessions.get_mut(session as usize)
            && let Some(at) = from.received.iter().position(|&other| other == id)
        {
            from.received.swap_remove(at);
            if from.persistent {
                let session = Arc::clone(&from.key);
                gate = Gate::durable(sink.persist(Record::Released { session, id }));
            }
        }
        self.acknowledge(now, conn, gate, Ack::Pubcomp(id), sink)
    }

    /// Keeps and routes a message that was cleared; the gate says what its acknowledgement waits for.
    #[expect(clippy::too_many_arguments, reason = "the parts of one message and the step's own context")]
    pub(super) fn route(
        &mut self,
        now: Now,
        cleared: &Cleared<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        conn: Option<ConnId>,
        sink: &mut dyn Sink,
    ) -> Gate {
        let mut gate = Gate::default();
        let topic = cleared.topic();
        let mut out = Outgoing::new(topic, payload, qos);
        // [MQTT-3.3.1-5] a retained message replaces the one before it, [MQTT-3.3.1-10] an empty one clears.
        if retain {
            let message = Arc::new(Message::new(topic, payload));
            gate.join(self.keep(now, cleared, message, qos, conn, sink));
        }
        let lsn = self.deliver_all(now, &mut out, sink);
        gate.lsn = gate.lsn.max(lsn);
        let (any, durable) = self.router.shards(topic);
        if any != 0 {
            let message = out.share(&mut self.hub.pool);
            for shard in self.router.others().filter(|shard| any >> shard & 1 == 1) {
                let mut seq = 0;
                if qos != QoS::AtMostOnce && durable >> shard & 1 == 1 {
                    seq = self.gates.count(shard);
                    gate.applied.push((shard, seq));
                }
                sink.forward(shard, Command::Message { seq, message: Arc::clone(&message), qos });
            }
        }
        out.give_back(&mut self.hub.pool);
        gate
    }

    /// Delivers to every session of this shard that subscribes; the answer is the last record.
    pub(super) fn deliver_all(&mut self, now: Now, out: &mut Outgoing<'_>, sink: &mut dyn Sink) -> Lsn {
        let matched = self.router.sessions(out.topic());
        let mut last = 0;
        for &(session, granted) in &matched {
            last = last.max(self.hub.deliver(now, &self.policy, session, granted, out, sink));
        }
        self.router.give_back(matched);
        last
    }

    /// Keeps a retained message, here and on every other shard.
    fn keep(
        &mut self,
        now: Now,
        cleared: &Cleared<'_>,
        message: Arc<Message>,
        qos: QoS,
        conn: Option<ConnId>,
        sink: &mut dyn Sink,
    ) -> Gate {
        let sender = cleared.peer().principal();
        let device = Some(&sender.name).filter(|_| sender.kind == PrincipalKind::Device);
        if !message.payload().is_empty()
            && let Err(limit) =
                self.retained.room(message.topic_str(), message.bytes(), device, &self.hub.limits)
        {
            self.hub.stats.retained_refused += 1;
            if let Some(count) = self.tally.count(limit, now.mono) {
                sink.note(Note::LimitReached { conn, who: Arc::clone(cleared.peer()), limit, count });
            }
            return Gate::default();
        }
        let version = self.retained.next_version(self.shard);
        self.retained.apply(&message, qos, version, now.mono, device);
        let clock = version.clock;
        let mut gate =
            Gate::durable(sink.persist(Record::Retained { clock, message: Arc::clone(&message), qos }));
        for shard in self.router.others() {
            let seq = self.gates.count(shard);
            gate.applied.push((shard, seq));
            sink.forward(shard, Command::Retain { seq, clock, message: Arc::clone(&message), qos });
        }
        gate
    }

    /// Sends a new subscriber what is retained under its filters [MQTT-3.3.1-6].
    pub(super) fn send_retained(
        &mut self,
        now: Now,
        session: u32,
        granted: &[(TopicFilter, QoS)],
        sink: &mut dyn Sink,
    ) {
        for (filter, qos) in granted {
            // While the SUBACK waited, new rules may have taken the subscription away.
            let holds =
                self.hub.sessions.get(session as usize).is_some_and(|s| s.filters.contains_key(filter));
            if !holds {
                continue;
            }
            for (message, sent_with) in self.retained.matching(filter) {
                let Ok(topic) = message.topic() else { continue };
                let mut out = Outgoing::shared(topic, &message, sent_with, true);
                self.hub.deliver(now, &self.policy, session, *qos, &mut out, sink);
            }
        }
    }
}

fn note_replay(
    conn: &Conn,
    packet: &PublishPacket<'_>,
    refusal: &ReplayRefusal,
    enforced: bool,
    sink: &mut dyn Sink,
) {
    sink.note(Note::ReplayRefused {
        conn: conn.id,
        who: Arc::clone(&conn.peer),
        topic: Clipped(packet.topic.as_str()).to_string(),
        kind: refusal.kind,
        enforced,
        detail: refusal.detail.clone(),
    });
}

/// Tells one message from another under the same packet id.
fn content_hash(packet: &PublishPacket<'_>) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(packet.topic.as_str().as_bytes());
    hasher.write(packet.payload);
    hasher.finish() | 1
}
