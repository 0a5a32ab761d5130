//! Hears every event: writes the log line, counts it, keeps the newest refusals for the operator.
//! In: events of all parts. Out: log lines, samples for metrics, the ring of refusals, a feed for the store's log.
//! Invariant: a refusal that is in the log is in the metrics and in the ring (test: a_refusal_is_in_all_three_places).
//! Never: blocks its caller on the store, or grows without bound.
//! Spec: DESIGN.md invariant 5.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use admin::{Refusals, Refused, Sample, SampleKind};
use audit::{Event, Level, Observer};
use tokio::sync::{broadcast, mpsc};
use types::Wall;

use crate::log::LogSink;

/// How many refusals the operator's view keeps.
const RING: usize = 1_000;
/// How many events a slow listener of the feed may lag behind.
const FEED: usize = 4_096;
/// How many recorded events may wait for the store.
const PENDING: usize = 4_096;

/// The one observer of a running server.
pub struct Watcher {
    sink: LogSink,
    kept: Mutex<Kept>,
    feed: broadcast::Sender<(Wall, Event)>,
    record: mpsc::Sender<Event>,
}

#[derive(Default)]
struct Kept {
    ring: VecDeque<(Wall, Event)>,
    counts: BTreeMap<(&'static str, String), u64>,
    lost: u64,
}

impl Watcher {
    /// An observer on a sink; the receiver gets the events that belong in the store's log.
    #[must_use]
    pub fn new(sink: LogSink) -> (Self, mpsc::Receiver<Event>) {
        let (record, recorded) = mpsc::channel(PENDING);
        let feed = broadcast::Sender::new(FEED);
        (Self { sink, kept: Mutex::default(), feed, record }, recorded)
    }

    /// Every event from here on, for a test or a demonstration.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<(Wall, Event)> {
        self.feed.subscribe()
    }

    /// The sink, for a change of level.
    #[must_use]
    pub fn sink(&self) -> &LogSink {
        &self.sink
    }

    /// The event counters as samples.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |((code, reason), value): (&(&'static str, String), &u64)| Sample {
            name: "bailiwick_events_total",
            help: "Events by their code, and refusals by their reason.",
            kind: SampleKind::Counter,
            labels: vec![("code", (*code).to_owned()), ("reason", reason.clone())],
            // Counters stay far below 2^53, up to which a double is exact.
            value: *value as f64,
        };
        let mut samples: Vec<Sample> = kept.counts.iter().map(count).collect();
        samples.push(Sample {
            name: "bailiwick_events_lost_total",
            help: "Recorded events that did not reach the store's log because it was too slow.",
            kind: SampleKind::Counter,
            labels: Vec::new(),
            value: kept.lost as f64,
        });
        samples
    }
}

/// The reason of a refusal, the same slug as in its log line; empty for other events.
fn reason(event: &Event) -> String {
    match event {
        Event::ConnectionRefused { reason, .. }
        | Event::PublishRefused { reason, .. }
        | Event::SubscribeRefused { reason, .. }
        | Event::SessionEnded { reason, .. }
        | Event::TokenRefused { reason, .. } => reason.clone(),
        Event::ReplayRefused { kind, .. } => format!("replay.{kind}"),
        Event::Alert { code, .. } => code.clone(),
        _ => String::new(),
    }
}

/// Whether the operator's view of refusals shows it.
fn is_refusal(event: &Event) -> bool {
    event.level() >= Level::Warn && !event.is_recorded() || matches!(event, Event::Alert { .. })
}

impl Observer for Watcher {
    fn note(&self, event: Event) {
        let at = self.sink.event(&event);
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            *kept.counts.entry((event.code(), reason(&event))).or_default() += 1;
            if is_refusal(&event) {
                if kept.ring.len() == RING {
                    kept.ring.pop_front();
                }
                kept.ring.push_back((at, event.clone()));
            }
            if event.is_recorded() && self.record.try_send(event.clone()).is_err() {
                kept.lost += 1;
            }
        }
        // Nobody may be listening.
        let _ = self.feed.send((at, event));
    }
}

impl Refusals for Watcher {
    fn newest(&self, limit: usize) -> Vec<Refused> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |(at, event): &(Wall, Event)| Refused {
            at: at.to_string(),
            level: event.level().as_str().to_owned(),
            event: serde_json::to_value(event).unwrap_or_default(),
        };
        kept.ring.iter().rev().take(limit).map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::LogLevel;
    use crate::log::tests::{At, Shared};

    fn watcher() -> (Watcher, mpsc::Receiver<Event>, Shared) {
        let out = Shared::default();
        let sink = LogSink::new(LogLevel::Info, Arc::new(At(0)), Box::new(out.clone())).unwrap();
        let (watcher, recorded) = Watcher::new(sink);
        (watcher, recorded, out)
    }

    fn refused(number: usize) -> Event {
        Event::TokenRefused {
            peer: format!("127.0.0.1:{number}"),
            token_id: None,
            device: None,
            reason: "token.unknown".into(),
        }
    }

    #[test]
    fn a_refusal_is_in_all_three_places() {
        let (watcher, _recorded, out) = watcher();
        watcher.note(refused(1));
        assert!(watcher.sink().flush());
        assert!(String::from_utf8(out.0.lock().unwrap().clone()).unwrap().contains("token.unknown"));
        assert_eq!(watcher.newest(10)[0].event["reason"], "token.unknown");
        let samples = watcher.samples();
        let sample = samples
            .iter()
            .find(|sample| sample.labels.contains(&("reason", "token.unknown".into())))
            .unwrap();
        assert_eq!(sample.value, 1.0);
    }

    #[test]
    fn a_counter_goes_on_past_what_32_bits_hold() {
        let (watcher, _recorded, _out) = watcher();
        watcher.kept.lock().unwrap().counts.insert(("conn.accepted", String::new()), 5_000_000_000);
        watcher.kept.lock().unwrap().lost = 4_294_967_296;
        let samples = watcher.samples();
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values, [5_000_000_000.0, 4_294_967_296.0]);
    }

    #[test]
    fn the_ring_keeps_the_newest_thousand() {
        let (watcher, _recorded, _out) = watcher();
        for number in 0..=RING {
            watcher.note(refused(number));
        }
        let newest = watcher.newest(usize::MAX);
        assert_eq!(newest.len(), RING);
        assert_eq!(newest[0].event["peer"], format!("127.0.0.1:{RING}"));
    }

    #[test]
    fn what_changes_trust_goes_to_the_store_and_a_refusal_does_not() {
        let (watcher, mut recorded, _out) = watcher();
        watcher.note(refused(1));
        let loaded = Event::PolicyLoaded { epoch: 1, rules: 2 };
        watcher.note(loaded.clone());
        assert_eq!(recorded.try_recv().unwrap(), loaded);
        assert!(recorded.try_recv().is_err());
    }
}
