use std::collections::VecDeque;

use types::{QoS, TopicFilter};

use crate::api::{Command, Lsn, ShardId, Sink};

/// What has to be true before an acknowledgement may leave: a record is durable, and other shards
/// have applied what they were told. The default is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The record.
    pub(crate) lsn: Lsn,
    /// The shards and the count that each has to acknowledge; empty with one shard.
    pub(crate) applied: Vec<(ShardId, u64)>,
}

impl Gate {
    /// A gate that waits for a record.
    pub(crate) fn durable(lsn: Lsn) -> Self {
        Self { lsn, applied: Vec::new() }
    }

    /// Waits for what `other` waits for too.
    pub(crate) fn join(&mut self, other: Self) {
        self.lsn = self.lsn.max(other.lsn);
        for (shard, seq) in other.applied {
            match self.applied.iter_mut().find(|(known, _)| *known == shard) {
                Some((_, known)) => *known = seq.max(*known),
                None => self.applied.push((shard, seq)),
            }
        }
    }
}

/// An acknowledgement that waits at its gate.
pub(crate) enum Ack {
    /// Of a QoS 1 message.
    Puback(u16),
    /// Of a QoS 2 message.
    Pubrec(u16),
    /// Of the release of a QoS 2 message.
    Pubcomp(u16),
    /// Of a SUBSCRIBE, with the filters whose retained messages follow.
    Suback {
        /// The packet.
        frame: Vec<u8>,
        /// The filters that were granted, with their quality.
        granted: Vec<(TopicFilter, QoS)>,
    },
    /// Of an UNSUBSCRIBE.
    Unsuback(u16),
}

/// What this shard knows of durability and of the other shards' progress.
pub(crate) struct Gates {
    durable: Lsn,
    /// Per shard, the last count that was sent to it.
    sent: Vec<u64>,
    /// Per shard, the last count that it has acknowledged.
    applied: Vec<u64>,
    /// Per shard, its counts that we have applied and may acknowledge once a record is durable.
    due: Vec<VecDeque<(u64, Lsn)>>,
}

impl Gates {
    pub(crate) fn new(shards: ShardId) -> Self {
        let shards = usize::from(shards);
        Self {
            durable: 0,
            sent: vec![0; shards],
            applied: vec![0; shards],
            due: vec![VecDeque::new(); shards],
        }
    }

    /// Whether the acknowledgement may leave.
    pub(crate) fn is_open(&self, gate: &Gate) -> bool {
        gate.lsn <= self.durable
            && gate
                .applied
                .iter()
                .all(|&(shard, seq)| self.applied.get(usize::from(shard)).is_some_and(|&at| at >= seq))
    }

    /// The next count for commands to `shard`.
    pub(crate) fn count(&mut self, shard: ShardId) -> u64 {
        match self.sent.get_mut(usize::from(shard)) {
            Some(sent) => {
                *sent += 1;
                *sent
            }
            None => 0,
        }
    }

    /// Notes that records up to `lsn` are durable, and acknowledges to other shards what waited for it.
    pub(crate) fn durable(&mut self, lsn: Lsn, sink: &mut dyn Sink) {
        self.durable = self.durable.max(lsn);
        for (shard, due) in (0_u16..).zip(&mut self.due) {
            let mut last = None;
            while let Some(&(seq, lsn)) = due.front()
                && lsn <= self.durable
            {
                last = Some(seq);
                due.pop_front();
            }
            if let Some(seq) = last {
                sink.forward(shard, Command::Applied { seq });
            }
        }
    }

    /// Notes that `shard` has applied our commands up to `seq`.
    pub(crate) fn applied(&mut self, shard: ShardId, seq: u64) {
        if let Some(applied) = self.applied.get_mut(usize::from(shard)) {
            *applied = seq.max(*applied);
        }
    }

    /// Acknowledges commands of `shard` up to `seq`, once the record `lsn` is durable.
    pub(crate) fn acknowledge(&mut self, shard: ShardId, seq: u64, lsn: Lsn, sink: &mut dyn Sink) {
        let Some(due) = self.due.get_mut(usize::from(shard)) else { return };
        if due.is_empty() && lsn <= self.durable {
            sink.forward(shard, Command::Applied { seq });
        } else {
            due.push_back((seq, lsn));
        }
    }
}
