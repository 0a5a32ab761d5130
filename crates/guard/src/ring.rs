use crate::rule::ReplayKind;

const WORDS: usize = 4;
/// How many numbers back from the highest one are told apart: the ring less the word in use (RFC 6479 section 2).
pub(crate) const WINDOW: u64 = 64 * (WORDS as u64 - 1);

/// A verdict with the words that explain it, made only where the message is refused.
pub(crate) type Verdict = Result<(), (ReplayKind, String)>;

/// A replay window over sequence numbers (RFC 6479): a ring of words that never shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    top: u64,
    words: [u64; WORDS],
}

impl Ring {
    pub(crate) fn starting_at(seq: u64) -> Self {
        let mut ring = Self { top: seq, words: [0; WORDS] };
        ring.mark(seq);
        ring
    }

    pub(crate) fn verdict(&self, seq: u64, max_forward: u64) -> Verdict {
        let top = self.top;
        if seq > top {
            if seq - top > max_forward {
                let detail = format!("sequence {seq} is {} ahead of {top}; limit {max_forward}", seq - top);
                return Err((ReplayKind::Jump, detail));
            }
            return Ok(());
        }
        if top - seq >= WINDOW {
            let detail = format!("sequence {seq} is {} behind {top}; window {WINDOW}", top - seq);
            return Err((ReplayKind::Stale, detail));
        }
        if self.words[word(seq)] & bit(seq) != 0 {
            let detail = format!("sequence {seq} was accepted before; the highest is {top}");
            return Err((ReplayKind::Duplicate, detail));
        }
        Ok(())
    }

    /// Takes in a number that [`Ring::verdict`] let pass.
    pub(crate) fn insert(&mut self, seq: u64) {
        if seq > self.top {
            let (from, to) = (self.top >> 6, seq >> 6);
            // Words between the old top and the new one hold numbers of an earlier round.
            for block in (from + 1..=to).take(WORDS) {
                self.words[(block % WORDS as u64) as usize] = 0;
            }
            self.top = seq;
        }
        self.mark(seq);
    }

    fn mark(&mut self, seq: u64) {
        self.words[word(seq)] |= bit(seq);
    }
}

/// Below `WORDS`, because the remainder is.
fn word(seq: u64) -> usize {
    ((seq >> 6) % WORDS as u64) as usize
}

fn bit(seq: u64) -> u64 {
    1 << (seq & 63)
}

/// Sequence numbers under a boot counter: the current boot, and the one before it, so that a
/// gateway can still deliver what it holds of the old boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    epoch: u64,
    ring: Ring,
    previous: Option<(u64, Ring)>,
}

impl Counter {
    pub(crate) fn starting_at(epoch: u64, seq: u64) -> Self {
        Self { epoch, ring: Ring::starting_at(seq), previous: None }
    }

    pub(crate) fn verdict(&self, epoch: u64, seq: u64, max_forward: u64) -> Verdict {
        if epoch > self.epoch {
            return Ok(());
        }
        let in_boot = |(kind, detail): (ReplayKind, String)| (kind, format!("boot {epoch}: {detail}"));
        if epoch == self.epoch {
            return self.ring.verdict(seq, max_forward).map_err(in_boot);
        }
        match &self.previous {
            Some((previous, ring)) if *previous == epoch => ring.verdict(seq, max_forward).map_err(in_boot),
            _ => {
                let detail = format!("boot {epoch} is over; the device is in boot {}", self.epoch);
                Err((ReplayKind::Stale, detail))
            }
        }
    }

    /// Takes in a number that [`Counter::verdict`] let pass.
    pub(crate) fn insert(&mut self, epoch: u64, seq: u64) {
        if epoch > self.epoch {
            self.previous = Some((self.epoch, self.ring));
            self.epoch = epoch;
            self.ring = Ring::starting_at(seq);
        } else if epoch == self.epoch {
            self.ring.insert(seq);
        } else if let Some((previous, ring)) = &mut self.previous
            && *previous == epoch
        {
            ring.insert(seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn kind(verdict: Verdict) -> Option<ReplayKind> {
        verdict.err().map(|(kind, _)| kind)
    }

    #[test]
    fn the_window_is_192_numbers_with_the_highest() {
        let ring = Ring::starting_at(1_000);
        assert_eq!(kind(ring.verdict(1_000, 9)), Some(ReplayKind::Duplicate));
        assert_eq!(kind(ring.verdict(1_000 - 191, 9)), None);
        assert_eq!(kind(ring.verdict(1_000 - 192, 9)), Some(ReplayKind::Stale));
        assert_eq!(kind(ring.verdict(0, 9)), Some(ReplayKind::Stale));
    }

    #[test]
    fn the_forward_limit_is_held_at_its_border() {
        let ring = Ring::starting_at(10);
        assert_eq!(kind(ring.verdict(15, 5)), None);
        assert_eq!(
            ring.verdict(16, 5),
            Err((ReplayKind::Jump, "sequence 16 is 6 ahead of 10; limit 5".to_owned()))
        );
        assert_eq!(kind(ring.verdict(u64::MAX, u64::MAX)), None);
    }

    #[test]
    fn the_texts_carry_the_numbers() {
        let ring = Ring::starting_at(500);
        assert_eq!(
            ring.verdict(500, 1).unwrap_err().1,
            "sequence 500 was accepted before; the highest is 500"
        );
        assert_eq!(ring.verdict(8, 1).unwrap_err().1, "sequence 8 is 492 behind 500; window 192");
    }

    #[test]
    fn the_ends_of_the_number_line_hold() {
        let mut ring = Ring::starting_at(0);
        assert_eq!(kind(ring.verdict(0, 1)), Some(ReplayKind::Duplicate));
        ring.insert(u64::MAX);
        assert_eq!(kind(ring.verdict(u64::MAX, 1)), Some(ReplayKind::Duplicate));
        assert_eq!(kind(ring.verdict(u64::MAX - 191, 1)), None);
        assert_eq!(kind(ring.verdict(0, 1)), Some(ReplayKind::Stale));
    }

    #[test]
    fn a_new_boot_opens_a_new_window_and_keeps_the_one_before() {
        let mut counter = Counter::starting_at(3, 100);
        counter.insert(7, 1);
        assert_eq!(kind(counter.verdict(7, 1, 9)), Some(ReplayKind::Duplicate));
        assert_eq!(kind(counter.verdict(7, 2, 9)), None);
        assert_eq!(kind(counter.verdict(3, 100, 9)), Some(ReplayKind::Duplicate));
        assert_eq!(kind(counter.verdict(3, 99, 9)), None);
        assert_eq!(kind(counter.verdict(3, 101, 9)), None);
        assert_eq!(kind(counter.verdict(3, 110, 9)), Some(ReplayKind::Jump));
        assert_eq!(counter.verdict(5, 1, 9).unwrap_err().1, "boot 5 is over; the device is in boot 7");
        assert_eq!(kind(counter.verdict(2, 1, 9)), Some(ReplayKind::Stale));
        counter.insert(3, 99);
        assert_eq!(kind(counter.verdict(3, 99, 9)), Some(ReplayKind::Duplicate));
        counter.insert(8, 1);
        assert_eq!(kind(counter.verdict(3, 98, 9)), Some(ReplayKind::Stale));
        assert_eq!(kind(counter.verdict(7, 1, 9)), Some(ReplayKind::Duplicate));
    }

    /// The rule in its own words: everything accepted, kept for ever.
    #[derive(Default)]
    struct Oracle {
        seen: HashSet<(u64, u64)>,
        tops: std::collections::BTreeMap<u64, u64>,
        order: Vec<u64>,
    }

    impl Oracle {
        fn verdict(&self, epoch: u64, seq: u64, max_forward: u64) -> Option<ReplayKind> {
            let current = *self.order.last()?;
            if epoch > current {
                return None;
            }
            let held: Vec<u64> = self.order.iter().rev().take(2).copied().collect();
            if !held.contains(&epoch) {
                return Some(ReplayKind::Stale);
            }
            let top = self.tops[&epoch];
            if seq > top {
                return (seq - top > max_forward).then_some(ReplayKind::Jump);
            }
            if top - seq >= 192 {
                return Some(ReplayKind::Stale);
            }
            self.seen.contains(&(epoch, seq)).then_some(ReplayKind::Duplicate)
        }

        fn insert(&mut self, epoch: u64, seq: u64) {
            if self.order.last().is_none_or(|&current| epoch > current) {
                self.order.push(epoch);
            }
            self.seen.insert((epoch, seq));
            let top = self.tops.entry(epoch).or_insert(seq);
            *top = seq.max(*top);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn every_verdict_is_that_of_a_set_that_forgets_nothing(
            start in prop_oneof![Just(0_u64), 0_u64..1_000, Just(u64::MAX - 2_000)],
            steps in proptest::collection::vec((0_u8..12, 0_u64..400), 1..600),
        ) {
            const FORWARD: u64 = 300;
            let mut oracle = Oracle::default();
            let mut counter: Option<Counter> = None;
            let (mut boot, mut at) = (5_u64, start);
            for (what, far) in steps {
                let (epoch, seq) = match what {
                    0..=4 => (boot, at.saturating_add(far % 4)),
                    5..=7 => (boot, at.saturating_sub(far)),
                    8 => (boot, at.saturating_add(far)),
                    9 => (boot.saturating_sub(1 + far % 3), at.saturating_sub(far)),
                    10 if far % 10 == 0 => (boot + 1 + far % 2, far),
                    _ => (boot, at.saturating_sub(far % 3)),
                };
                let expected = oracle.verdict(epoch, seq, FORWARD);
                let found = counter.as_ref().and_then(|counter| kind(counter.verdict(epoch, seq, FORWARD)));
                prop_assert_eq!(found, expected, "boot {} sequence {}", epoch, seq);
                if expected.is_none() {
                    prop_assert!(!oracle.seen.contains(&(epoch, seq)), "a replay was accepted");
                    oracle.insert(epoch, seq);
                    match &mut counter {
                        None => counter = Some(Counter::starting_at(epoch, seq)),
                        Some(counter) => counter.insert(epoch, seq),
                    }
                    if epoch > boot { boot = epoch; at = seq; } else if epoch == boot { at = at.max(seq); }
                }
            }
        }
    }
}
