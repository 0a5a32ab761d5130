use std::sync::Arc;

use policy::{Permitted, Subscribe, decide_subscribe};
use types::{Clipped, Now, QoS, TopicError, TopicFilter};

use super::{Conn, Core, End};
use crate::api::{Limit, Note, Record, Sink};
use crate::codec::{self, SubscribePacket, UnsubscribePacket};
use crate::gate::{Ack, Gate};
use crate::router::Subscriber;

impl Core {
    /// Each filter is decided on its own; the SUBACK has one answer per filter, in order
    /// [MQTT-3.8.4-5], and leaves when every shard routes to it.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        conn: &mut Conn,
        session: u32,
        packet: SubscribePacket,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        let mut gate = Gate::default();
        let mut answers = Vec::with_capacity(packet.entries.len());
        let mut granted: Vec<(TopicFilter, QoS)> = Vec::with_capacity(packet.entries.len());
        for (filter, asked) in packet.entries {
            // [MQTT-3.8.4-6] the granted quality may be lower: ours ends at 1 in this version.
            let qos = asked.min(QoS::AtLeastOnce);
            let permit = self.permit(now, conn, session, filter, sink);
            answers.push(permit.as_ref().map(|_| qos));
            if let Some(permit) = permit {
                gate.join(self.set_subscription(session, &permit, qos, sink));
                granted.push((permit.filter().clone(), qos));
            }
        }
        let frame = codec::suback(packet.id, &answers); // [MQTT-3.8.4-1], [MQTT-3.8.4-2]
        self.acknowledge(now, conn, gate, Ack::Suback { frame, granted }, sink)
    }

    /// Whether the client may have the filter; says why if not.
    fn permit(
        &mut self,
        now: Now,
        conn: &Conn,
        session: u32,
        filter: Result<TopicFilter, TopicError>,
        sink: &mut dyn Sink,
    ) -> Option<Permitted<Subscribe>> {
        let permit = self.permit_unless(now, conn, session, filter, sink);
        self.hub.stats.subscribe_refused += u64::from(permit.is_none());
        permit
    }

    fn permit_unless(
        &mut self,
        now: Now,
        conn: &Conn,
        session: u32,
        filter: Result<TopicFilter, TopicError>,
        sink: &mut dyn Sink,
    ) -> Option<Permitted<Subscribe>> {
        let who = || Arc::clone(&conn.peer);
        let filter = match filter {
            Ok(filter) => filter,
            Err(error) => {
                sink.note(Note::FilterRefused { conn: conn.id, who: who(), detail: error.to_string() });
                return None;
            }
        };
        if filter.as_str().starts_with("$share/") {
            // Off-spec: 3.1.1 knows no shared subscriptions, so this would be a plain filter that
            // matches nothing; the client means something else, and is told.
            let shown = Clipped(filter.as_str()).to_string();
            let detail = format!("filter \"{shown}\": shared subscriptions need MQTT 5");
            sink.note(Note::FilterRefused { conn: conn.id, who: who(), detail });
            return None;
        }
        if filter.levels().count() > self.hub.limits.topic_levels_max {
            self.hub.tell(now.mono, session, Limit::TopicLevels, sink);
            return None;
        }
        let full = self.hub.sessions.get(session as usize).is_none_or(|held| {
            held.filters.len() >= self.hub.limits.subscriptions_max && !held.filters.contains_key(&filter)
        });
        if full {
            self.hub.tell(now.mono, session, Limit::Subscriptions, sink);
            return None;
        }
        match decide_subscribe(&self.policy, &conn.peer, &filter) {
            Ok(permit) => Some(permit),
            Err(denial) => {
                sink.note(Note::SubscribeRefused { conn: Some(conn.id), who: who(), denial });
                None
            }
        }
    }

    /// Makes or replaces a subscription that was permitted [MQTT-3.8.4-3].
    fn set_subscription(
        &mut self,
        session: u32,
        permit: &Permitted<Subscribe>,
        qos: QoS,
        sink: &mut dyn Sink,
    ) -> Gate {
        let filter = permit.filter();
        let Some(held) = self.hub.sessions.get_mut(session as usize) else { return Gate::default() };
        let new = held.filters.insert(filter.clone(), qos).is_none();
        let who = Subscriber { session, persistent: held.persistent };
        let mut gate = self.router.subscribe(who, filter, qos, new, &mut self.gates, sink);
        if held.persistent {
            let key = Arc::clone(&held.key);
            let record = Record::Subscribed { session: key, filter: filter.clone(), qos };
            gate.join(Gate::durable(sink.persist(record)));
        }
        gate
    }

    /// [MQTT-3.10.4-1] the filter is compared letter by letter; [MQTT-3.10.4-5] the UNSUBACK comes
    /// even if nothing was there.
    pub(super) fn unsubscribe(
        &mut self,
        now: Now,
        conn: &mut Conn,
        session: u32,
        packet: UnsubscribePacket,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        let mut gate = Gate::default();
        for filter in packet.filters {
            gate.join(self.drop_subscription(session, &filter, sink));
        }
        self.acknowledge(now, conn, gate, Ack::Unsuback(packet.id), sink)
    }

    fn drop_subscription(&mut self, session: u32, filter: &TopicFilter, sink: &mut dyn Sink) -> Gate {
        let Some(held) = self.hub.sessions.get_mut(session as usize) else { return Gate::default() };
        if held.filters.remove(filter).is_none() {
            return Gate::default();
        }
        self.router.unsubscribe(session, held.persistent, filter, sink);
        if !held.persistent {
            return Gate::default();
        }
        let record = Record::Unsubscribed { session: Arc::clone(&held.key), filter: filter.clone() };
        Gate::durable(sink.persist(record))
    }

    /// Drops the subscriptions that today's rules no longer permit to today's owner.
    pub(super) fn authorise_subscriptions(&mut self, session: u32, sink: &mut dyn Sink) {
        let Some(held) = self.hub.sessions.get(session as usize) else { return };
        let (conn, owner) = (held.link.as_ref().map(|link| link.conn), Arc::clone(&held.owner));
        let denied: Vec<_> = held
            .filters
            .keys()
            .filter_map(|filter| {
                Some((filter.clone(), decide_subscribe(&self.policy, &owner, filter).err()?))
            })
            .collect();
        for (filter, denial) in denied {
            self.hub.stats.subscribe_refused += 1;
            sink.note(Note::SubscribeRefused { conn, who: Arc::clone(&owner), denial });
            // No acknowledgement depends on it: a record that is lost is decided again on resuming.
            self.drop_subscription(session, &filter, sink);
        }
    }
}
