use crate::ring::Verdict;
use crate::rule::{ReplayKind, TimeUnit};

/// How many timestamps are remembered: whole seconds coincide more often.
pub(crate) fn remembered(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Millis => 16,
        TimeUnit::Seconds | TimeUnit::Rfc3339 => 64,
    }
}

/// The replay window of a device that has timestamps only: the latest ones with a hash of their
/// payload, and a floor below which nothing is told apart any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    /// The latest timestamp that was forgotten.
    floor: Option<i64>,
    highest: i64,
    /// Sorted, oldest first.
    held: Vec<(i64, u64)>,
}

impl Stamps {
    pub(crate) fn starting_at(time: i64, digest: u64) -> Self {
        Self { floor: None, highest: time, held: vec![(time, digest)] }
    }

    pub(crate) fn verdict(&self, time: i64, digest: u64, max_age_ms: i64) -> Verdict {
        if self.held.binary_search(&(time, digest)).is_ok() {
            let detail = format!("timestamp {} was accepted before", shown(time));
            return Err((ReplayKind::Duplicate, detail));
        }
        if let Some(floor) = self.floor
            && time <= floor
        {
            let detail = format!("timestamp {} is not after {}", shown(time), shown(floor));
            return Err((ReplayKind::Stale, detail));
        }
        if time < self.highest.saturating_sub(max_age_ms) {
            let highest = shown(self.highest);
            let detail = format!(
                "timestamp {} is more than {max_age_ms} ms before the latest, {highest}",
                shown(time)
            );
            return Err((ReplayKind::Stale, detail));
        }
        Ok(())
    }

    /// Takes in a timestamp that [`Stamps::verdict`] let pass.
    pub(crate) fn insert(&mut self, time: i64, digest: u64, most: usize) {
        self.highest = self.highest.max(time);
        let at = self.held.partition_point(|held| *held < (time, digest));
        self.held.insert(at, (time, digest));
        while self.held.len() > most {
            let (forgotten, _) = self.held.remove(0);
            self.floor = self.floor.max(Some(forgotten));
        }
    }
}

fn shown(time: i64) -> types::Wall {
    types::Wall(time)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn kind(verdict: Verdict) -> Option<ReplayKind> {
        verdict.err().map(|(kind, _)| kind)
    }

    const AGE: i64 = 10_000;

    #[test]
    fn a_timestamp_with_its_payload_counts_once() {
        let mut stamps = Stamps::starting_at(1_000, 7);
        assert_eq!(kind(stamps.verdict(1_000, 7, AGE)), Some(ReplayKind::Duplicate));
        assert_eq!(kind(stamps.verdict(1_000, 8, AGE)), None);
        stamps.insert(1_000, 8, 16);
        assert_eq!(kind(stamps.verdict(1_000, 8, AGE)), Some(ReplayKind::Duplicate));
    }

    #[test]
    fn what_was_forgotten_raises_the_floor() {
        let mut stamps = Stamps::starting_at(1, 0);
        for time in 2..=16 {
            stamps.insert(time, 0, 16);
        }
        assert_eq!(kind(stamps.verdict(0, 0, AGE)), None);
        stamps.insert(17, 0, 16);
        assert_eq!(kind(stamps.verdict(1, 0, AGE)), Some(ReplayKind::Stale));
        assert_eq!(
            stamps.verdict(1, 9, AGE).unwrap_err().1,
            "timestamp 1970-01-01T00:00:00.001Z is not after 1970-01-01T00:00:00.001Z"
        );
        assert_eq!(kind(stamps.verdict(2, 0, AGE)), Some(ReplayKind::Duplicate));
        assert_eq!(kind(stamps.verdict(2, 1, AGE)), None);
    }

    #[test]
    fn a_late_timestamp_that_finds_no_room_is_accepted_once() {
        let mut stamps = Stamps::starting_at(100, 0);
        for time in 101..116 {
            stamps.insert(time, 0, 16);
        }
        assert_eq!(kind(stamps.verdict(50, 0, AGE)), None);
        stamps.insert(50, 0, 16);
        assert_eq!(kind(stamps.verdict(50, 0, AGE)), Some(ReplayKind::Stale));
        assert_eq!(kind(stamps.verdict(51, 0, AGE)), None);
    }

    #[test]
    fn nothing_older_than_the_age_before_the_latest_passes() {
        let stamps = Stamps::starting_at(50_000, 0);
        assert_eq!(kind(stamps.verdict(40_000, 0, AGE)), None);
        assert_eq!(kind(stamps.verdict(39_999, 0, AGE)), Some(ReplayKind::Stale));
        assert_eq!(kind(stamps.verdict(i64::MIN, 0, i64::MAX)), Some(ReplayKind::Stale));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_replay_passes_and_what_is_newer_than_all_before_always_does(
            most in prop_oneof![Just(16_usize), Just(64)],
            steps in proptest::collection::vec((-40_i64..10, 0_u64..3), 1..400),
        ) {
            let mut seen = HashSet::new();
            let mut stamps: Option<Stamps> = None;
            let mut highest = 1_000_000_i64;
            for (step, digest) in steps {
                let time = highest + step;
                let verdict = stamps.as_ref().map_or(Ok(()), |stamps| stamps.verdict(time, digest, AGE));
                if verdict.is_ok() {
                    prop_assert!(seen.insert((time, digest)), "a replay was accepted");
                    match &mut stamps {
                        None => stamps = Some(Stamps::starting_at(time, digest)),
                        Some(stamps) => stamps.insert(time, digest, most),
                    }
                } else {
                    prop_assert!(time <= highest, "a newer message was refused");
                }
                if let Err((ReplayKind::Duplicate, _)) = verdict {
                    prop_assert!(seen.contains(&(time, digest)), "a fresh message was called a duplicate");
                }
                highest = highest.max(time);
            }
        }
    }
}
