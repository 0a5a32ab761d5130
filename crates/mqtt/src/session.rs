use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use policy::{Permitted, Receive, VerifiedPeer};
use rustc_hash::FxHashMap;
use types::{DeviceId, Mono, QoS, Reason, Topic, TopicFilter};

use crate::api::{ConnId, Limit};
use crate::gate::Gate;
use crate::message::Message;

/// Whose a session is. The identity is the certificate's, so a client id of one's own choosing
/// never reaches another identity's session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    identity: DeviceId,
    client_id: Arc<str>,
}

impl SessionKey {
    pub(crate) fn new(identity: DeviceId, client_id: Arc<str>) -> Self {
        Self { identity, client_id }
    }

    /// The name in the certificate.
    #[must_use]
    pub fn identity(&self) -> &DeviceId {
        &self.identity
    }

    /// The client id; the identity's own name if the client gave none.
    #[must_use]
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.identity, types::Clipped(&self.client_id))
    }
}

/// A message on its way to one session, with the proof that the session may have it.
pub(crate) struct Entry {
    pub(crate) message: Arc<Message>,
    pub(crate) permit: Permitted<Receive>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Its number in the journal; 0 if no record was written.
    pub(crate) number: u64,
}

/// The connection that a live session is bound to.
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    /// Bytes that wait for the socket.
    pub(crate) waiting: usize,
}

/// Counts what a limit took away and says when to tell: at most once per second.
#[derive(Default)]
pub(crate) struct Tally {
    seen: Vec<(Limit, Mono, u64)>,
}

impl Tally {
    const PAUSE_NANOS: u64 = 1_000_000_000;

    /// Counts one; the count to tell, if it is time.
    pub(crate) fn count(&mut self, limit: Limit, now: Mono) -> Option<u64> {
        match self.seen.iter_mut().find(|(seen, ..)| *seen == limit) {
            None => {
                self.seen.push((limit, now, 0));
                Some(1)
            }
            Some((_, told, untold)) => {
                *untold += 1;
                if now.0.saturating_sub(told.0) < Self::PAUSE_NANOS {
                    return None;
                }
                *told = now;
                Some(std::mem::take(untold))
            }
        }
    }
}

/// How many settled QoS 1 publishes a session remembers, to know an honest retry.
const SETTLED_MAX: usize = 32;

/// What outlives a connection, and for a clean session does not.
pub(crate) struct Session {
    pub(crate) key: Arc<SessionKey>,
    /// Who connected last; deliveries are decided for it.
    pub(crate) owner: Arc<VerifiedPeer>,
    pub(crate) persistent: bool,
    pub(crate) link: Option<Link>,
    /// When it last lost its connection.
    pub(crate) left_at: Mono,
    /// Why nothing is delivered to it and nothing queued for it, if so.
    pub(crate) frozen: Option<Reason>,
    pub(crate) filters: FxHashMap<TopicFilter, QoS>,
    /// Sent and not acknowledged, oldest first, with their packet ids.
    pub(crate) inflight: VecDeque<(u16, Entry)>,
    next_id: u16,
    pub(crate) queue: VecDeque<Entry>,
    pub(crate) queue_bytes: usize,
    /// QoS 2 packet ids received and not released.
    pub(crate) received: Vec<u16>,
    settled: VecDeque<(u16, u64)>,
    /// What the acknowledgements of this session last waited for: a retry over a new connection
    /// waits for it too.
    pub(crate) gate: Gate,
    /// The last message number given.
    pub(crate) numbered: u64,
    pub(crate) tally: Tally,
    recalled: Recalled,
}

/// The last topic that was delivered and its permit: the rules are not asked again while one
/// topic comes in a row.
#[derive(Default)]
struct Recalled {
    topic: String,
    permit: Option<Permitted<Receive>>,
}

impl Session {
    pub(crate) fn new(key: Arc<SessionKey>, owner: Arc<VerifiedPeer>, persistent: bool) -> Self {
        Self {
            key,
            owner,
            persistent,
            link: None,
            left_at: Mono::default(),
            frozen: None,
            filters: FxHashMap::default(),
            inflight: VecDeque::new(),
            next_id: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            received: Vec::new(),
            settled: VecDeque::new(),
            gate: Gate::default(),
            numbered: 0,
            tally: Tally::default(),
            recalled: Recalled::default(),
        }
    }

    /// Takes out the permit for this topic, if it is the one that was put back last, under the same
    /// rules and for the same owner.
    pub(crate) fn recall(&mut self, topic: Topic<'_>, policy_epoch: u64) -> Option<Permitted<Receive>> {
        let permit = self.recalled.permit.as_ref()?;
        let holds = permit.policy_epoch() == policy_epoch
            && Arc::ptr_eq(permit.peer(), &self.owner)
            && self.recalled.topic == topic.as_str();
        if holds { self.recalled.permit.take() } else { None }
    }

    /// Puts the permit for this topic back for the next message of it.
    pub(crate) fn remember(&mut self, topic: Topic<'_>, permit: Permitted<Receive>) {
        if self.recalled.topic != topic.as_str() {
            self.recalled.topic.clear();
            self.recalled.topic.push_str(topic.as_str());
        }
        self.recalled.permit = Some(permit);
    }

    /// A packet id that is not in flight [MQTT-2.3.1-4]; there always is one, since fewer than
    /// 65,535 messages are in flight.
    pub(crate) fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1); // [MQTT-2.3.1-1]
            let oldest = self.inflight.front().map(|(id, _)| *id);
            let taken = oldest.is_some_and(|oldest| {
                // Ids are given in order, so one after the newest is free unless it has come round.
                self.next_id == oldest || self.inflight.iter().any(|(id, _)| *id == self.next_id)
            });
            if !taken {
                return self.next_id;
            }
        }
    }

    /// Takes the message of an acknowledged packet id out of the flight.
    pub(crate) fn acknowledged(&mut self, id: u16) -> Option<Entry> {
        if self.inflight.front().is_some_and(|(front, _)| *front == id) {
            return self.inflight.pop_front().map(|(_, entry)| entry);
        }
        let at = self.inflight.iter().position(|(other, _)| *other == id)?;
        self.inflight.remove(at).map(|(_, entry)| entry)
    }

    /// Whether this very message was settled under this packet id before: an honest retry.
    pub(crate) fn was_settled(&self, id: u16, content: u64) -> bool {
        self.settled.contains(&(id, content))
    }

    /// Remembers a settled QoS 1 message.
    pub(crate) fn settle(&mut self, id: u16, content: u64) {
        if self.settled.len() >= SETTLED_MAX {
            self.settled.pop_front();
        }
        self.settled.push_back((id, content));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_tells_the_first_and_then_once_per_second() {
        let mut tally = Tally::default();
        let second = Tally::PAUSE_NANOS;
        assert_eq!(tally.count(Limit::Rate, Mono(5)), Some(1));
        assert_eq!(tally.count(Limit::Rate, Mono(6)), None);
        assert_eq!(tally.count(Limit::Output, Mono(6)), Some(1));
        assert_eq!(tally.count(Limit::Rate, Mono(4 + second)), None);
        assert_eq!(tally.count(Limit::Rate, Mono(5 + second)), Some(3));
        assert_eq!(tally.count(Limit::Rate, Mono(6 + second)), None);
    }
}
