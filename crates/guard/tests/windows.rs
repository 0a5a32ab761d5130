//! Every verdict of the replay windows through their front door, each border, and a set oracle.

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use guard::{
        Fresh, GuardError, Limits, Mode, OnMissing, ReplayKind, ReplayRefusal, ReplayRule, ReplayTable,
        STREAMS_MAX, Scope, Stamp, StreamKey, TimeUnit, Windows,
    };
    use proptest::prelude::*;
    use types::{Blame, DeviceId, Mono, Now, SpkiHash, Topic, TopicFilter, Wall};

    /// 2026-07-01T00:00:00Z.
    const JULY: i64 = 1_782_864_000;

    fn now() -> Now {
        Now { mono: Mono(0), wall: Wall::from_secs(JULY) }
    }

    fn id(name: &str) -> DeviceId {
        DeviceId::parse(name).unwrap()
    }

    fn rule() -> ReplayRule {
        ReplayRule { max_forward: 1_000, ..ReplayRule::new(TopicFilter::parse("devices/#").unwrap()) }
    }

    fn timed() -> ReplayRule {
        ReplayRule { seq: None, epoch: None, time: Some(("/ts".to_owned(), TimeUnit::Millis)), ..rule() }
    }

    fn stamp(epoch: u64, seq: u64) -> Stamp {
        Stamp { seq: Some(seq), epoch: Some(epoch), ..Stamp::default() }
    }

    fn time(millis: i64, digest: u64) -> Stamp {
        Stamp { time_ms: Some(millis), digest, ..Stamp::default() }
    }

    /// One device's view of the windows: who it is, over which connection, with which key.
    #[derive(Clone)]
    struct Sender {
        device: DeviceId,
        key: u8,
        conn: u64,
        topic: String,
    }

    fn pump() -> Sender {
        Sender { device: id("pump-7"), key: 1, conn: 1, topic: "devices/pump-7/telemetry".to_owned() }
    }

    impl Sender {
        fn key(&self) -> StreamKey<'_> {
            StreamKey {
                device: &self.device,
                spki: SpkiHash([self.key; 32]),
                conn: self.conn,
                topic: Topic::parse(&self.topic).unwrap(),
            }
        }

        fn check(&self, windows: &Windows, rule: &ReplayRule, stamp: Stamp) -> Result<Fresh, ReplayRefusal> {
            windows.check(self.key(), rule, stamp, now())
        }

        /// Checks and commits; the kind of the refusal, if it was refused.
        fn send(&self, windows: &mut Windows, rule: &ReplayRule, stamp: Stamp) -> Option<ReplayKind> {
            match self.check(windows, rule, stamp) {
                Ok(fresh) => {
                    assert!(windows.commit(fresh));
                    None
                }
                Err(refusal) => Some(refusal.kind),
            }
        }
    }

    #[test]
    fn a_message_is_fresh_once() {
        let (mut windows, rule) = (Windows::default(), rule());
        assert_eq!(pump().send(&mut windows, &rule, stamp(3, 100)), None);
        let refusal = pump().check(&windows, &rule, stamp(3, 100)).unwrap_err();
        assert_eq!((refusal.kind, refusal.code()), (ReplayKind::Duplicate, "replay.duplicate"));
        assert_eq!(
            refusal.to_string(),
            "message of \"pump-7\": boot 3: sequence 100 was accepted before; the highest is 100"
        );
        assert_eq!(refusal.blame(), Blame::Peer);
    }

    #[test]
    fn every_verdict_on_a_sequence_has_its_kind_at_its_border() {
        let (mut windows, rule) = (Windows::default(), rule());
        let mut send = |stamp| pump().send(&mut windows, &rule, stamp);
        assert_eq!(send(stamp(3, 5_000)), None);
        assert_eq!(send(stamp(3, 6_001)), Some(ReplayKind::Jump));
        assert_eq!(send(stamp(3, 6_000)), None);
        assert_eq!(send(stamp(3, 6_000 - 192)), Some(ReplayKind::Stale));
        assert_eq!(send(stamp(3, 6_000 - 191)), None);
        assert_eq!(send(stamp(3, 6_000 - 191)), Some(ReplayKind::Duplicate));
        assert_eq!(send(stamp(2, 9_000)), Some(ReplayKind::Stale));
        assert_eq!(send(stamp(9, 1)), None);
        assert_eq!(send(stamp(3, 6_001)), None, "the boot before is still drained");
        assert_eq!(send(stamp(4, 1)), Some(ReplayKind::Stale));
        assert_eq!(send(stamp(10, 1)), None);
        assert_eq!(send(stamp(3, 6_002)), Some(ReplayKind::Stale));
        assert_eq!(send(stamp(9, 1)), Some(ReplayKind::Duplicate));
    }

    #[test]
    fn garbage_far_ahead_does_not_lock_the_device_out() {
        let (mut windows, rule) = (Windows::default(), rule());
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 10)), None);
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, u64::MAX)), Some(ReplayKind::Jump));
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 11)), None);
    }

    #[test]
    fn a_check_without_a_commit_leaves_no_trace() {
        let (mut windows, rule) = (Windows::default(), rule());
        for _ in 0..3 {
            drop(pump().check(&windows, &rule, stamp(1, 1)).unwrap());
        }
        assert_eq!(windows.devices(), 0);
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 1)), None);
        drop(pump().check(&windows, &rule, stamp(1, 2)).unwrap());
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 2)), None);
    }

    #[test]
    fn of_two_checks_of_one_message_only_one_is_committed() {
        for (rule, stamp) in [(rule(), stamp(1, 1)), (timed(), time(JULY * 1000, 7))] {
            let mut windows = Windows::default();
            let first = pump().check(&windows, &rule, stamp).unwrap();
            let second = pump().check(&windows, &rule, stamp).unwrap();
            assert!(windows.commit(first));
            assert!(!windows.commit(second));
        }
    }

    #[test]
    fn observe_reports_what_enforce_would_refuse_and_changes_nothing() {
        let observe = ReplayRule { mode: Mode::Observe, ..rule() };
        let mut windows = Windows::default();
        let fresh = pump().check(&windows, &observe, stamp(1, 10)).unwrap();
        assert_eq!(fresh.observed(), None);
        assert!(windows.commit(fresh));
        for (stamp, kind) in [
            (stamp(1, 10), ReplayKind::Duplicate),
            (stamp(0, 10), ReplayKind::Stale),
            (stamp(1, 5_000), ReplayKind::Jump),
            (Stamp::default(), ReplayKind::Missing),
        ] {
            for _ in 0..2 {
                let fresh = pump().check(&windows, &observe, stamp).unwrap();
                assert_eq!(fresh.observed(), Some(kind));
                assert_eq!(fresh.observed_refusal().unwrap().kind, kind);
                assert!(windows.commit(fresh));
            }
            assert_eq!(pump().check(&windows, &rule(), stamp).unwrap_err().kind, kind);
        }
    }

    #[test]
    fn a_rule_that_is_off_looks_at_nothing() {
        let off = ReplayRule { mode: Mode::Off, ..rule() };
        let mut windows = Windows::default();
        for stamp in [stamp(1, 1), stamp(1, 1), Stamp::default()] {
            let fresh = pump().check(&windows, &off, stamp).unwrap();
            assert_eq!(fresh.observed(), None);
            assert!(windows.commit(fresh));
        }
        assert_eq!(windows.devices(), 0);
    }

    #[test]
    fn a_missing_field_is_refused_or_accepted_as_the_rule_says() {
        let both = ReplayRule { time: Some(("/ts".to_owned(), TimeUnit::Millis)), ..rule() };
        let mut windows = Windows::default();
        for (rule, stamp, text) in [
            (rule(), Stamp { epoch: Some(1), ..Stamp::default() }, "no sequence number at \"/seq\""),
            (rule(), Stamp { seq: Some(1), ..Stamp::default() }, "no boot counter at \"/boot\""),
            (both, stamp(1, 1), "no timestamp at \"/ts\""),
            (timed(), Stamp::default(), "no timestamp at \"/ts\""),
            (
                ReplayRule { seq: None, epoch: None, ..rule() },
                stamp(1, 1),
                "its rule names no field to check",
            ),
        ] {
            let refusal = pump().check(&windows, &rule, stamp).unwrap_err();
            assert_eq!(refusal.kind, ReplayKind::Missing);
            assert_eq!(refusal.detail, format!("message of \"pump-7\": {text}"));
            let lenient = ReplayRule { on_missing: OnMissing::Accept, ..rule };
            for _ in 0..2 {
                let fresh = pump().check(&windows, &lenient, stamp).unwrap();
                assert_eq!(fresh.observed(), None);
                assert!(windows.commit(fresh));
            }
        }
        assert_eq!(windows.devices(), 0);
    }

    #[test]
    fn without_a_boot_counter_the_sequence_has_to_rise_for_ever() {
        let rule = ReplayRule { epoch: None, ..rule() };
        let mut windows = Windows::default();
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 500)), None);
        assert_eq!(pump().send(&mut windows, &rule, stamp(2, 1)), Some(ReplayKind::Stale));
        assert_eq!(pump().send(&mut windows, &rule, stamp(2, 501)), None);
    }

    #[test]
    fn a_timestamp_has_to_be_near_our_clock() {
        let now = JULY * 1000;
        let (skew, age) = (5 * 60 * 1000, 24 * 60 * 60 * 1000);
        let both = ReplayRule { time: Some(("/ts".to_owned(), TimeUnit::Millis)), ..rule() };
        for rule in [timed(), both] {
            let sent = |millis| Stamp { seq: Some(1), epoch: Some(1), ..time(millis, 0) };
            let verdict =
                |millis| pump().check(&Windows::default(), &rule, sent(millis)).err().map(|r| r.kind);
            assert_eq!(verdict(now + skew), None);
            assert_eq!(verdict(now + skew + 1), Some(ReplayKind::Skew));
            assert_eq!(verdict(now - age), None);
            assert_eq!(verdict(now - age - 1), Some(ReplayKind::Stale));
            assert_eq!(verdict(i64::MAX), Some(ReplayKind::Skew));
            assert_eq!(verdict(i64::MIN), Some(ReplayKind::Stale));
        }
        let refusal = pump().check(&Windows::default(), &timed(), time(now + 600_000, 0)).unwrap_err();
        assert_eq!(
            refusal.detail,
            "message of \"pump-7\": timestamp 2026-07-01T00:10:00Z lies ahead, now 2026-07-01T00:00:00Z; limit \
             300 s"
        );
        let refusal = pump().check(&Windows::default(), &timed(), time(now - age - 1, 0)).unwrap_err();
        assert_eq!(
            refusal.detail,
            "message of \"pump-7\": timestamp 2026-06-29T23:59:59.999Z is too old, now 2026-07-01T00:00:00Z; \
             limit 86400 s"
        );
    }

    #[test]
    fn a_device_with_timestamps_only_is_told_apart_by_time_and_payload() {
        let (mut windows, rule) = (Windows::default(), timed());
        let start = JULY * 1000 - 1000;
        for n in 0..17 {
            assert_eq!(pump().send(&mut windows, &rule, time(start + n, 0)), None);
        }
        assert_eq!(pump().send(&mut windows, &rule, time(start, 0)), Some(ReplayKind::Stale));
        assert_eq!(pump().send(&mut windows, &rule, time(start + 1, 0)), Some(ReplayKind::Duplicate));
        assert_eq!(pump().send(&mut windows, &rule, time(start + 1, 1)), None);
    }

    #[test]
    fn whole_seconds_are_remembered_four_times_as_long() {
        for unit in [TimeUnit::Seconds, TimeUnit::Rfc3339] {
            let rule = ReplayRule { time: Some(("/ts".to_owned(), unit)), ..timed() };
            let mut windows = Windows::default();
            for digest in 0..64 {
                assert_eq!(pump().send(&mut windows, &rule, time(JULY * 1000, digest)), None);
            }
            assert_eq!(pump().send(&mut windows, &rule, time(JULY * 1000, 0)), Some(ReplayKind::Duplicate));
            assert_eq!(pump().send(&mut windows, &rule, time(JULY * 1000, 64)), None);
            assert_eq!(pump().send(&mut windows, &rule, time(JULY * 1000, 0)), Some(ReplayKind::Stale));
        }
    }

    #[test]
    fn scope_connection_begins_anew_with_each_connection_and_with_no_message_of_the_old_one() {
        let rule = ReplayRule { scope: Scope::Connection, epoch: None, ..rule() };
        let mut windows = Windows::default();
        let again = Sender { conn: 2, ..pump() };
        assert_eq!(pump().send(&mut windows, &rule, stamp(0, 5)), None);
        assert_eq!(pump().send(&mut windows, &rule, stamp(0, 5)), Some(ReplayKind::Duplicate));
        assert_eq!(again.send(&mut windows, &rule, stamp(0, 5)), None);
        assert_eq!(again.send(&mut windows, &rule, stamp(0, 5)), Some(ReplayKind::Duplicate));
        assert_eq!((windows.devices(), windows.connections()), (0, 2));
        windows.forget_connection(1);
        windows.forget_connection(1);
        assert_eq!(windows.connections(), 1);
        assert_eq!(again.send(&mut windows, &rule, stamp(0, 5)), Some(ReplayKind::Duplicate));
    }

    #[test]
    fn scope_device_outlives_the_connection() {
        let (mut windows, rule) = (Windows::default(), rule());
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 5)), None);
        windows.forget_connection(1);
        let again = Sender { conn: 2, ..pump() };
        assert_eq!(again.send(&mut windows, &rule, stamp(1, 5)), Some(ReplayKind::Duplicate));
        let cased = Sender { device: id("PUMP-7"), ..pump() };
        assert_eq!(cased.send(&mut windows, &rule, stamp(1, 5)), Some(ReplayKind::Duplicate));
        let other = Sender { device: id("pump-8"), ..pump() };
        assert_eq!(other.send(&mut windows, &rule, stamp(1, 5)), None);
        assert_eq!(windows.devices(), 2);
    }

    #[test]
    fn a_new_key_begins_anew_and_the_latest_old_one_is_kept_beside_it() {
        let (mut windows, rule) = (Windows::default(), rule());
        let with_key = |key| Sender { key, ..pump() };
        assert_eq!(with_key(1).send(&mut windows, &rule, stamp(9, 900)), None);
        assert_eq!(with_key(2).send(&mut windows, &rule, stamp(1, 1)), None);
        assert_eq!(with_key(1).send(&mut windows, &rule, stamp(9, 900)), Some(ReplayKind::Duplicate));
        assert_eq!(with_key(3).send(&mut windows, &rule, stamp(1, 1)), None);
        assert_eq!(with_key(2).send(&mut windows, &rule, stamp(1, 1)), Some(ReplayKind::Duplicate));
        assert_eq!(with_key(3).send(&mut windows, &rule, stamp(1, 1)), Some(ReplayKind::Duplicate));
        assert_eq!(windows.reset(&id("pump-7")), 2, "two keys are kept, not three");
    }

    #[test]
    fn a_reset_forgets_one_device() {
        let (mut windows, rule) = (Windows::default(), rule());
        let other = Sender { device: id("pump-8"), ..pump() };
        for sender in [pump(), other.clone()] {
            assert_eq!(sender.send(&mut windows, &rule, stamp(5, 5)), None);
        }
        assert_eq!(windows.reset(&id("Pump-7")), 1);
        assert_eq!(windows.reset(&id("pump-7")), 0);
        assert_eq!(windows.devices(), 1);
        assert_eq!(pump().send(&mut windows, &rule, stamp(1, 1)), None);
        assert_eq!(other.send(&mut windows, &rule, stamp(5, 5)), Some(ReplayKind::Duplicate));
    }

    #[test]
    fn each_rule_has_its_own_window() {
        let mut windows = Windows::default();
        let status = ReplayRule { filter: TopicFilter::parse("devices/+/status").unwrap(), ..rule() };
        assert_eq!(pump().send(&mut windows, &rule(), stamp(1, 1)), None);
        assert_eq!(pump().send(&mut windows, &status, stamp(1, 1)), None);
        assert_eq!(pump().send(&mut windows, &status, stamp(1, 1)), Some(ReplayKind::Duplicate));
    }

    #[test]
    fn topics_share_a_window_unless_each_has_its_own_and_then_eight_may() {
        let mut windows = Windows::default();
        let on = |n: usize| Sender { topic: format!("devices/pump-7/{n}"), ..pump() };
        assert_eq!(on(0).send(&mut windows, &rule(), stamp(1, 1)), None);
        assert_eq!(on(1).send(&mut windows, &rule(), stamp(1, 1)), Some(ReplayKind::Duplicate));

        let each =
            ReplayRule { per_topic: true, filter: TopicFilter::parse("devices/+/+").unwrap(), ..rule() };
        for n in 0..STREAMS_MAX {
            assert_eq!(on(n).send(&mut windows, &each, stamp(1, 1)), None);
            assert_eq!(on(n).send(&mut windows, &each, stamp(1, 1)), Some(ReplayKind::Duplicate));
        }
        let refusal = on(8).check(&windows, &each, stamp(1, 1)).unwrap_err();
        assert_eq!(refusal.kind, ReplayKind::Stale);
        assert_eq!(
            refusal.detail,
            "message of \"pump-7\": topic \"devices/pump-7/8\" would be one more stream; limit 8"
        );
        assert_eq!(on(7).send(&mut windows, &each, stamp(1, 2)), None);
        let other = Sender { device: id("pump-8"), ..on(8) };
        assert_eq!(other.send(&mut windows, &each, stamp(1, 1)), None);
    }

    #[test]
    fn a_full_table_refuses_newcomers_and_forgets_nobody() {
        let mut windows = Windows::new(Limits { devices_max: 2, connections_max: 1 });
        let device = |name: &str| Sender { device: id(name), ..pump() };
        for name in ["a", "b"] {
            assert_eq!(device(name).send(&mut windows, &rule(), stamp(1, 1)), None);
        }
        let refusal = device("c").check(&windows, &rule(), stamp(1, 1)).unwrap_err();
        assert_eq!(refusal.kind, ReplayKind::Stale);
        assert_eq!(refusal.detail, "message of \"c\": no room to remember it; limit 2 devices");
        for name in ["a", "b"] {
            assert_eq!(device(name).send(&mut windows, &rule(), stamp(1, 1)), Some(ReplayKind::Duplicate));
            assert_eq!(device(name).send(&mut windows, &rule(), stamp(1, 2)), None);
        }
        windows.reset(&id("a"));
        assert_eq!(device("c").send(&mut windows, &rule(), stamp(1, 1)), None);

        let by_connection = ReplayRule { scope: Scope::Connection, ..rule() };
        assert_eq!(pump().send(&mut windows, &by_connection, stamp(1, 1)), None);
        let second = Sender { conn: 2, ..pump() };
        let refusal = second.check(&windows, &by_connection, stamp(1, 1)).unwrap_err();
        assert_eq!(refusal.detail, "message of \"pump-7\": no room to remember it; limit 1 connections");
        windows.forget_connection(1);
        assert_eq!(second.send(&mut windows, &by_connection, stamp(1, 1)), None);
    }

    #[test]
    fn the_first_rule_that_matches_is_asked() {
        let named = |filter: &str, seq: &str| ReplayRule {
            seq: Some(seq.to_owned()),
            ..ReplayRule::new(TopicFilter::parse(filter).unwrap())
        };
        let table =
            ReplayTable::new(vec![named("devices/+/status", "/first"), named("devices/#", "/second")]);
        let found = |topic| table.rule_for(Topic::parse(topic).unwrap()).and_then(|rule| rule.seq.as_deref());
        assert_eq!(found("devices/a/status"), Some("/first"));
        assert_eq!(found("devices/a/telemetry"), Some("/second"));
        assert_eq!(found("assets/a"), None);
        assert!(!table.is_empty() && ReplayTable::default().is_empty());
        assert_eq!(table.rules().len(), 2);
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_named() {
        assert_eq!(rule().validate(), Ok(()));
        assert_eq!(timed().validate(), Ok(()));
        let none = ReplayRule { seq: None, epoch: None, ..rule() };
        let filter = || "devices/#".to_owned();
        let shown = "seq".to_owned();
        for (rule, error, code) in [
            (none.clone(), GuardError::NothingToCheck { filter: filter() }, "replay.nothing_to_check"),
            (
                ReplayRule { seq: None, time: timed().time, ..rule() },
                GuardError::EpochAlone { filter: filter() },
                "replay.epoch_alone",
            ),
            (
                ReplayRule { max_forward: 0, ..rule() },
                GuardError::NoForward { filter: filter() },
                "replay.no_forward",
            ),
            (
                ReplayRule { seq: Some("seq".to_owned()), ..rule() },
                GuardError::BadPointer { filter: filter(), shown },
                "replay.bad_pointer",
            ),
        ] {
            assert_eq!(rule.validate(), Err(error.clone()));
            assert_eq!((error.code(), error.blame()), (code, Blame::Operator));
        }
        assert_eq!(ReplayRule { mode: Mode::Off, ..none }.validate(), Ok(()));
    }

    #[test]
    fn every_word_of_the_configuration_is_read_back() {
        for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
            assert_eq!(Mode::parse(mode.as_str()), Some(mode));
        }
        for scope in [Scope::Device, Scope::Connection] {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        for unit in [TimeUnit::Millis, TimeUnit::Seconds, TimeUnit::Rfc3339] {
            assert_eq!(TimeUnit::parse(unit.as_str()), Some(unit));
        }
        for choice in [OnMissing::Accept, OnMissing::Reject] {
            assert_eq!(OnMissing::parse(choice.as_str()), Some(choice));
        }
        assert_eq!((Mode::parse("on"), Scope::parse(""), TimeUnit::parse("us")), (None, None, None));
        assert_eq!(OnMissing::parse("drop"), None);
    }

    /// What one sender does next: who, how far from its highest number, in which boot.
    fn step() -> impl Strategy<Value = (usize, u8, u64)> {
        (0..4_usize, 0_u8..12, 0_u64..500)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_replay_is_accepted_and_what_is_newer_than_all_before_always_is(
            scope in prop::sample::select(vec![Scope::Device, Scope::Connection]),
            per_topic in any::<bool>(),
            steps in prop::collection::vec(step(), 1..800),
        ) {
            let rule = ReplayRule { scope, per_topic, max_forward: 400, ..rule() };
            let mut windows = Windows::default();
            let senders: Vec<Sender> = (0..4_u64)
                .map(|n| Sender {
                    device: id(if n < 2 { "a" } else { "b" }),
                    conn: n / 2,
                    topic: format!("devices/{}", if per_topic { n } else { 0 }),
                    ..pump()
                })
                .collect();
            // Streams: by device without topics, by sender with them.
            let stream = |n: usize| if per_topic { n } else { n / 2 };
            let mut seen: HashSet<(usize, u64, u64)> = HashSet::new();
            let mut tops: HashMap<usize, (u64, u64)> = HashMap::new();
            for (who, what, far) in steps {
                let at = stream(who);
                let (boot, top) = tops.get(&at).copied().unwrap_or((5, 1_000));
                let (epoch, seq) = match what {
                    0..=5 => (boot, top + 1 + far % 3),
                    6..=8 => (boot, top.saturating_sub(far)),
                    9 => (boot, top + far),
                    10 => (boot - (far % 3).min(boot), top.saturating_sub(far % 30)),
                    _ if far % 8 == 0 => (boot + 1 + far % 2, far),
                    _ => (boot, top),
                };
                let verdict = senders[who].check(&windows, &rule, stamp(epoch, seq));
                let known = tops.contains_key(&at);
                let newer = !known || epoch > boot || epoch == boot && seq > top && seq - top <= 400;
                match verdict {
                    Ok(fresh) => {
                        // One in five is not committed, as if routing had failed; it may come again.
                        if far % 5 == 0 && what < 3 {
                            drop(fresh);
                            continue;
                        }
                        prop_assert!(windows.commit(fresh));
                        prop_assert!(seen.insert((at, epoch, seq)), "a replay was accepted");
                        if !known || (epoch, seq) > (boot, top) {
                            tops.insert(at, (epoch, seq));
                        }
                    }
                    Err(refusal) => {
                        prop_assert!(!newer, "a newer message was refused: {}", refusal);
                        if refusal.kind == ReplayKind::Duplicate {
                            prop_assert!(seen.contains(&(at, epoch, seq)), "a fresh one was called a duplicate");
                        }
                        if refusal.kind == ReplayKind::Stale && epoch == boot {
                            prop_assert!(top - seq >= 192, "a number inside the window was called stale");
                        }
                    }
                }
            }
        }

        #[test]
        fn a_gateway_that_shuffles_within_the_window_loses_nothing(
            order in Just((0..150_u64).collect::<Vec<_>>()).prop_shuffle(),
            again in prop::collection::vec(0..150_u64, 50),
        ) {
            let (mut windows, rule) = (Windows::default(), rule());
            for seq in &order {
                prop_assert_eq!(pump().send(&mut windows, &rule, stamp(1, *seq)), None);
            }
            for seq in again {
                prop_assert_eq!(pump().send(&mut windows, &rule, stamp(1, seq)), Some(ReplayKind::Duplicate));
            }
        }
    }
}
