use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use types::{DeviceId, Mono, QoS, TopicFilter};

use crate::api::{Limit, ShardId};
use crate::limits::Limits;
use crate::message::Message;
use crate::trie::{Leaf, Trie};

/// Which of two changes of one topic wins on every shard: the one with the higher clock, and
/// between equal clocks the one of the higher shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) clock: u64,
    pub(crate) shard: ShardId,
}

/// A message, its quality, the change that put it there, and the device whose share it counts on.
#[derive(Default)]
struct Kept(Option<(Arc<Message>, QoS, Version, Option<DeviceId>)>);

/// What one device keeps. All sessions of an identity live on one shard, so that shard alone counts.
#[derive(Clone, Copy, Default)]
struct Share {
    messages: usize,
    bytes: usize,
}

impl Leaf for Kept {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// How long a cleared topic remembers its version, so that an older message that is still on its
/// way between two shards does not come back; far longer than any mailbox is waited for.
const CLEARED_KEPT: Duration = Duration::from_secs(60);
const CLEARED_MAX: usize = 65_536;

/// The retained messages of the installation; every shard holds a copy.
pub(crate) struct Retained {
    topics: Trie<Kept>,
    alone: bool,
    clock: u64,
    cleared: FxHashMap<Box<str>, Version>,
    cleared_order: VecDeque<(Mono, Box<str>, Version)>,
    shares: FxHashMap<DeviceId, Share>,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Retained {
    pub(crate) fn new(shards: ShardId) -> Self {
        Self {
            topics: Trie::new(),
            alone: shards == 1,
            clock: 0,
            cleared: FxHashMap::default(),
            cleared_order: VecDeque::new(),
            shares: FxHashMap::default(),
            messages: 0,
            bytes: 0,
        }
    }

    /// The version of the next change that is made here.
    pub(crate) fn next_version(&mut self, shard: ShardId) -> Version {
        self.clock += 1;
        Version { clock: self.clock, shard }
    }

    /// Whether a message of `bytes` bytes may be kept under `topic`, on the share of `device` if
    /// one sends it, or the limit that forbids it.
    pub(crate) fn room(
        &self,
        topic: &str,
        bytes: usize,
        device: Option<&DeviceId>,
        limits: &Limits,
    ) -> Result<(), Limit> {
        let old = self.topics.exact(topic).and_then(|kept| kept.0.as_ref());
        if old.is_none() && self.messages >= limits.retained_messages_max {
            return Err(Limit::RetainedMessages);
        }
        let freed = old.map_or(0, |(message, ..)| message.bytes());
        if self.bytes - freed + bytes > limits.retained_bytes_max {
            return Err(Limit::RetainedBytes);
        }
        let Some(device) = device else { return Ok(()) };
        let share = self.shares.get(device).copied().unwrap_or_default();
        let own = old.is_some_and(|(.., owner)| owner.as_ref() == Some(device));
        if !own && share.messages >= limits.retained_messages_per_device_max {
            return Err(Limit::RetainedMessages);
        }
        if share.bytes - if own { freed } else { 0 } + bytes > limits.retained_bytes_per_device_max {
            return Err(Limit::RetainedBytes);
        }
        Ok(())
    }

    /// Keeps the message, or clears its topic if it is empty; an older version changes nothing.
    /// `device` is who sent it, if it was a device of this shard.
    pub(crate) fn apply(
        &mut self,
        message: &Arc<Message>,
        qos: QoS,
        version: Version,
        now: Mono,
        device: Option<&DeviceId>,
    ) {
        self.clock = self.clock.max(version.clock);
        let topic = message.topic_str();
        if !self.alone && self.cleared.get(topic).is_some_and(|&cleared| cleared > version) {
            return;
        }
        let clears = message.payload().is_empty(); // [MQTT-3.3.1-10]
        let (messages, bytes, shares) = (&mut self.messages, &mut self.bytes, &mut self.shares);
        let applied = self.topics.change(topic, |kept| {
            if kept.0.as_ref().is_some_and(|(.., old, _)| *old > version) {
                return false;
            }
            if let Some((old, .., owner)) = kept.0.take() {
                *messages -= 1;
                *bytes -= old.bytes();
                if let Some(owner) = owner {
                    give_back(shares, &owner, old.bytes());
                }
            }
            if !clears {
                *messages += 1;
                *bytes += message.bytes();
                if let Some(device) = device {
                    let share = shares.entry(device.clone()).or_default();
                    share.messages += 1;
                    share.bytes += message.bytes();
                }
                kept.0 = Some((Arc::clone(message), qos, version, device.cloned()));
            }
            true
        });
        if applied && !self.alone {
            self.remember(topic, clears.then_some(version), now);
        }
    }

    fn remember(&mut self, topic: &str, cleared: Option<Version>, now: Mono) {
        match cleared {
            None => {
                self.cleared.remove(topic);
            }
            Some(version) => {
                self.cleared.insert(Box::from(topic), version);
                self.cleared_order.push_back((now, Box::from(topic), version));
            }
        }
        while let Some((at, ..)) = self.cleared_order.front()
            && (now.since(*at) > CLEARED_KEPT || self.cleared_order.len() > CLEARED_MAX)
        {
            // A topic that was cleared again since is remembered for its later entry.
            if let Some((_, topic, version)) = self.cleared_order.pop_front()
                && self.cleared.get(&topic) == Some(&version)
            {
                self.cleared.remove(&topic);
            }
        }
    }

    /// The messages whose topics the filter matches.
    pub(crate) fn matching(&self, filter: &TopicFilter) -> Vec<(Arc<Message>, QoS)> {
        let mut found = Vec::new();
        self.topics.topics_matching(filter.as_str(), &mut |kept: &Kept| {
            found.extend(kept.0.as_ref().map(|(message, qos, ..)| (Arc::clone(message), *qos)));
        });
        found
    }
}

/// A message of `owner` is gone; a device that keeps nothing is forgotten.
fn give_back(shares: &mut FxHashMap<DeviceId, Share>, owner: &DeviceId, bytes: usize) {
    let Some(share) = shares.get_mut(owner) else { return };
    share.messages -= 1;
    share.bytes -= bytes;
    if share.messages == 0 {
        shares.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use types::Topic;

    use super::*;

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message::new(Topic::parse(topic).unwrap(), payload.as_bytes()))
    }

    fn shown(retained: &Retained, filter: &str) -> Vec<String> {
        let mut all: Vec<_> = retained
            .matching(&TopicFilter::parse(filter).unwrap())
            .iter()
            .map(|(message, _)| {
                format!("{}={}", message.topic_str(), String::from_utf8_lossy(message.payload()))
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_later_version_wins_in_whatever_order_two_shards_learn_of_it() {
        let set = (message("t", "old"), Version { clock: 4, shard: 1 });
        let newer = (message("t", "new"), Version { clock: 4, shard: 2 });
        let cleared = (message("t", ""), Version { clock: 5, shard: 0 });
        let orders = [[&set, &newer, &cleared], [&cleared, &newer, &set], [&newer, &cleared, &set]];
        for order in orders {
            let mut retained = Retained::new(3);
            for (message, version) in order {
                retained.apply(message, QoS::AtMostOnce, *version, Mono(0), None);
            }
            assert_eq!(shown(&retained, "#"), Vec::<String>::new());
            assert_eq!((retained.messages, retained.bytes), (0, 0));
        }
        let mut retained = Retained::new(3);
        for (message, version) in [&newer, &set] {
            retained.apply(message, QoS::AtMostOnce, *version, Mono(0), None);
        }
        assert_eq!(shown(&retained, "t"), ["t=new"]);
    }

    #[test]
    fn a_clock_that_was_heard_of_is_never_given_again() {
        let mut retained = Retained::new(2);
        retained.apply(&message("t", "x"), QoS::AtMostOnce, Version { clock: 9, shard: 1 }, Mono(0), None);
        assert_eq!(retained.next_version(0), Version { clock: 10, shard: 0 });
    }

    #[test]
    fn counts_and_bytes_follow_every_change() {
        let mut retained = Retained::new(1);
        let limits = Limits { retained_messages_max: 2, retained_bytes_max: 40, ..Limits::default() };
        for (topic, payload) in [("a", "1234"), ("b", "12"), ("a", "12345678")] {
            let version = retained.next_version(0);
            retained.apply(&message(topic, payload), QoS::AtMostOnce, version, Mono(0), None);
        }
        assert_eq!(shown(&retained, "+"), ["a=12345678", "b=12"]);
        assert_eq!(retained.messages, 2);
        assert_eq!(retained.bytes, message("a", "12345678").bytes() + message("b", "12").bytes());
        assert_eq!(retained.room("c", 1, None, &limits), Err(Limit::RetainedMessages));
        assert_eq!(retained.room("a", 40 - message("b", "12").bytes(), None, &limits), Ok(()));
        assert_eq!(
            retained.room("a", 41 - message("b", "12").bytes(), None, &limits),
            Err(Limit::RetainedBytes)
        );
    }

    #[test]
    fn a_topic_that_was_cleared_again_is_remembered_from_then_on() {
        let mut retained = Retained::new(2);
        let clear = |retained: &mut Retained, topic, clock, at| {
            retained.apply(&message(topic, ""), QoS::AtMostOnce, Version { clock, shard: 0 }, at, None);
        };
        let again = Mono(0).plus(CLEARED_KEPT);
        let later = again.plus(Duration::from_secs(1));
        clear(&mut retained, "a", 1, Mono(0));
        clear(&mut retained, "a", 3, again);
        clear(&mut retained, "b", 4, later);
        let late = Version { clock: 2, shard: 1 };
        retained.apply(&message("a", "late"), QoS::AtMostOnce, late, later, None);
        assert_eq!(shown(&retained, "a"), Vec::<String>::new());
        assert_eq!((retained.cleared.len(), retained.cleared_order.len()), (2, 2));
    }

    #[test]
    fn cleared_topics_are_forgotten_after_their_time() {
        let mut retained = Retained::new(2);
        retained.apply(&message("a", ""), QoS::AtMostOnce, Version { clock: 1, shard: 0 }, Mono(0), None);
        let later = Mono(0).plus(CLEARED_KEPT + Duration::from_secs(1));
        retained.apply(&message("b", ""), QoS::AtMostOnce, Version { clock: 2, shard: 0 }, later, None);
        assert_eq!(retained.cleared.len(), 1);
    }
}
