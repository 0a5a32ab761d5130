use rustc_hash::FxHashMap;
use types::{QoS, Topic, TopicFilter};

use crate::api::{Command, ShardId, Sink};
use crate::gate::{Gate, Gates};
use crate::trie::{Leaf, Trie};

/// The sessions that subscribe to one filter. Small sets are searched; large ones keep an index,
/// so that leaving does not cost more the more there are.
#[derive(Default)]
pub(crate) struct Members {
    list: Vec<(u32, QoS)>,
    index: Option<FxHashMap<u32, usize>>,
}

const SEARCHED_MAX: usize = 16;

impl Leaf for Members {
    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Members {
    fn position(&self, session: u32) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&session).copied(),
            None => self.list.iter().position(|(member, _)| *member == session),
        }
    }

    fn put(&mut self, session: u32, qos: QoS) {
        if let Some(at) = self.position(session) {
            self.list[at].1 = qos; // [MQTT-3.8.4-3] the new subscription replaces the old.
            return;
        }
        self.list.push((session, qos));
        if let Some(index) = &mut self.index {
            index.insert(session, self.list.len() - 1);
        } else if self.list.len() > SEARCHED_MAX {
            self.index = Some(self.list.iter().enumerate().map(|(at, (member, _))| (*member, at)).collect());
        }
    }

    fn remove(&mut self, session: u32) {
        let Some(at) = self.position(session) else { return };
        self.list.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&session);
            if let Some((moved, _)) = self.list.get(at) {
                index.insert(*moved, at);
            }
        }
    }
}

/// The other shards that have subscribers to one filter, a bit each.
#[derive(Clone, Copy, Default)]
struct Masks {
    any: u64,
    durable: u64,
}

impl Leaf for Masks {
    fn is_empty(&self) -> bool {
        self.any == 0
    }
}

/// How many sessions of this shard hold a filter, and what announcing it still waits for.
#[derive(Default)]
struct Held {
    any: u32,
    durable: u32,
    announced: Gate,
}

/// A session as the router sees it.
#[derive(Clone, Copy)]
pub(crate) struct Subscriber {
    pub(crate) session: u32,
    pub(crate) persistent: bool,
}

/// Who wants what: the sessions of this shard, and the filters of the others.
pub(crate) struct Router {
    shard: ShardId,
    shards: ShardId,
    local: Trie<Members>,
    remote: Trie<Masks>,
    held: FxHashMap<TopicFilter, Held>,
    /// The subscriptions of this shard.
    pub(crate) subscriptions: usize,
    matched: Vec<(u32, QoS)>,
    /// Per session, the last search that found it and where in `matched` it stands.
    marks: Vec<(u64, usize)>,
    search: u64,
}

impl Router {
    pub(crate) fn new(shard: ShardId, shards: ShardId) -> Self {
        Self {
            shard,
            shards,
            local: Trie::new(),
            remote: Trie::new(),
            held: FxHashMap::default(),
            subscriptions: 0,
            matched: Vec::new(),
            marks: Vec::new(),
            search: 0,
        }
    }

    /// The other shards.
    pub(crate) fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.shard;
        (0..self.shards).filter(move |&shard| shard != own)
    }

    /// Sets a session's subscription; `new` says that the session did not have the filter. The
    /// gate opens when every other shard routes to it.
    pub(crate) fn subscribe(
        &mut self,
        Subscriber { session, persistent }: Subscriber,
        filter: &TopicFilter,
        qos: QoS,
        new: bool,
        gates: &mut Gates,
        sink: &mut dyn Sink,
    ) -> Gate {
        self.local.change(filter.as_str(), |members| members.put(session, qos));
        self.subscriptions += usize::from(new);
        if self.shards == 1 {
            return Gate::default();
        }
        let others = self.others();
        let held = self.held.entry(filter.clone()).or_default();
        if new {
            let first = held.any == 0 || persistent && held.durable == 0;
            held.any += 1;
            held.durable += u32::from(persistent);
            if first {
                held.announced = Gate::default();
                for shard in others {
                    let seq = gates.count(shard);
                    held.announced.applied.push((shard, seq));
                    sink.forward(
                        shard,
                        Command::AddFilter { seq, filter: filter.clone(), durable: persistent },
                    );
                }
            }
        }
        held.announced.clone()
    }

    /// Takes a session's subscription away.
    pub(crate) fn unsubscribe(
        &mut self,
        session: u32,
        persistent: bool,
        filter: &TopicFilter,
        sink: &mut dyn Sink,
    ) {
        self.local.change(filter.as_str(), |members| members.remove(session));
        self.subscriptions -= 1;
        if self.shards == 1 {
            return;
        }
        let Some(held) = self.held.get_mut(filter) else { return };
        held.any -= 1;
        held.durable -= u32::from(persistent);
        let none_durable = persistent && held.durable == 0;
        let none = held.any == 0;
        if none {
            self.held.remove(filter);
        }
        if none || none_durable {
            for shard in self.others() {
                sink.forward(shard, Command::DropFilter { filter: filter.clone(), durable: !none });
            }
        }
    }

    /// Another shard has subscribers to the filter.
    pub(crate) fn add_remote(&mut self, from: ShardId, filter: &TopicFilter, durable: bool) {
        let bit = 1_u64 << (from & 63);
        self.remote.change(filter.as_str(), |masks| {
            masks.any |= bit;
            masks.durable |= if durable { bit } else { 0 };
        });
    }

    /// Another shard has none any more, or none with a persistent session.
    pub(crate) fn drop_remote(&mut self, from: ShardId, filter: &TopicFilter, durable: bool) {
        let bit = 1_u64 << (from & 63);
        self.remote.change(filter.as_str(), |masks| {
            masks.durable &= !bit;
            masks.any &= if durable { u64::MAX } else { !bit };
        });
    }

    /// The sessions of this shard that a message goes to, each once with the highest quality of
    /// its matching subscriptions [MQTT-3.3.5-1]. The list is to be given back.
    pub(crate) fn sessions(&mut self, topic: Topic<'_>) -> Vec<(u32, QoS)> {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        let mut leaves = 0;
        self.local.filters_matching(topic, &mut |members: &Members| {
            leaves += 1;
            matched.extend_from_slice(&members.list);
        });
        if leaves > 1 {
            self.once_each(&mut matched);
        }
        matched
    }

    fn once_each(&mut self, matched: &mut Vec<(u32, QoS)>) {
        self.search += 1;
        let mut kept = 0;
        for at in 0..matched.len() {
            let (session, qos) = matched[at];
            let slot = session as usize;
            if slot >= self.marks.len() {
                self.marks.resize(slot + 1, (0, 0));
            }
            let (search, place) = self.marks[slot];
            if search == self.search {
                matched[place].1 = matched[place].1.max(qos);
            } else {
                self.marks[slot] = (self.search, kept);
                matched[kept] = (session, qos);
                kept += 1;
            }
        }
        matched.truncate(kept);
    }

    /// Takes the list of [`Router::sessions`] back.
    pub(crate) fn give_back(&mut self, matched: Vec<(u32, QoS)>) {
        self.matched = matched;
    }

    /// The other shards that a message goes to, and those of them where a persistent session wants it.
    pub(crate) fn shards(&self, topic: Topic<'_>) -> (u64, u64) {
        let mut found = Masks::default();
        if self.shards > 1 {
            self.remote.filters_matching(topic, &mut |masks: &Masks| {
                found.any |= masks.any;
                found.durable |= masks.durable;
            });
        }
        (found.any, found.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_set_of_members_stays_whole_under_joining_and_leaving() {
        let mut members = Members::default();
        for session in 0..100 {
            members.put(session, QoS::AtMostOnce);
        }
        members.put(40, QoS::AtLeastOnce);
        for session in (0..100).filter(|session| session % 3 != 0) {
            members.remove(session);
            members.remove(session);
        }
        let mut left: Vec<_> = members.list.iter().map(|(session, _)| *session).collect();
        left.sort_unstable();
        assert_eq!(left, (0..100).filter(|session| session % 3 == 0).collect::<Vec<_>>());
        for session in (0..100).step_by(3) {
            assert_eq!(members.position(session).map(|at| members.list[at].0), Some(session));
        }
    }
}
