use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use types::Reason;

/// A reading of the broker's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open TCP connections, with or without a session.
    pub connections: u64,
    /// Of these, how many have not finished their handshake.
    pub handshakes_unfinished: u64,
    /// Live sessions: CONNECT was accepted.
    pub sessions: u64,
    /// Connections that were ever accepted: CONNECT answered with success.
    pub accepted_total: u64,
    /// Connections refused before that, by the code of the reason.
    pub refused_total: BTreeMap<&'static str, u64>,
    /// Sessions that ended, by the code of the reason.
    pub ended_total: BTreeMap<&'static str, u64>,
    /// Publishes that the rules, a limit or the replay check refused.
    pub publish_refused_total: u64,
    /// Subscriptions that the rules or a limit refused.
    pub subscribe_refused_total: u64,
    /// Messages that replay protection refused or reported.
    pub replay_refused_total: u64,
    /// Messages dropped because a queue was full: a client's, or that between two shards.
    pub shed_total: u64,
    /// Bytes of TLS records received from clients that have finished their handshake.
    pub bytes_in_total: u64,
    /// Bytes of plaintext sent to clients.
    pub bytes_out_total: u64,
    /// Bytes queued for clients, now.
    pub queued_bytes: u64,
}

/// The counters of one writer; each shard and the accept loop has its own, so that no two cores
/// share a cache line on the hot path.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) sessions: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) publish_refused: AtomicU64,
    pub(crate) subscribe_refused: AtomicU64,
    pub(crate) replay_refused: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) queued: AtomicU64,
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    refused: BTreeMap<&'static str, u64>,
    ended: BTreeMap<&'static str, u64>,
}

/// Adds to a counter that only one thread writes.
pub(crate) fn add(counter: &AtomicU64, amount: usize) {
    let amount = u64::try_from(amount).unwrap_or(u64::MAX);
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Takes from a counter that only one thread writes.
pub(crate) fn take(counter: &AtomicU64, amount: usize) {
    let amount = u64::try_from(amount).unwrap_or(u64::MAX);
    counter.store(counter.load(Ordering::Relaxed).saturating_sub(amount), Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn refused(&self, reason: Reason) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.refused.entry(reason.code()).or_default() += 1;
    }

    pub(crate) fn ended(&self, reason: Reason) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.ended.entry(reason.code()).or_default() += 1;
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.sessions += read(&self.sessions);
        stats.accepted_total += read(&self.accepted);
        stats.publish_refused_total += read(&self.publish_refused);
        stats.subscribe_refused_total += read(&self.subscribe_refused);
        stats.replay_refused_total += read(&self.replay_refused);
        stats.shed_total += read(&self.shed);
        stats.bytes_in_total += read(&self.bytes_in);
        stats.bytes_out_total += read(&self.bytes_out);
        stats.queued_bytes += read(&self.queued);
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        for (code, count) in &reasons.refused {
            *stats.refused_total.entry(code).or_default() += count;
        }
        for (code, count) in &reasons.ended {
            *stats.ended_total.entry(code).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_shards_add_up() {
        let shards = [Counters::default(), Counters::default()];
        for counters in &shards {
            add(&counters.sessions, 3);
            take(&counters.sessions, 1);
            take(&counters.queued, 5);
            counters.refused(Reason::Revoked);
            counters.ended(Reason::KeepAlive);
        }
        shards[1].refused(Reason::Limit);
        let mut stats = Stats::default();
        shards.iter().for_each(|counters| counters.add_to(&mut stats));
        assert_eq!(stats.sessions, 4);
        assert_eq!(stats.queued_bytes, 0);
        assert_eq!(stats.refused_total, BTreeMap::from([("conn.limit", 1), ("trust.revoked", 2)]));
        assert_eq!(stats.ended_total, BTreeMap::from([("mqtt.keep_alive", 2)]));
    }
}
