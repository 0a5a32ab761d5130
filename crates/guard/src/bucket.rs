use std::time::Duration;

use types::Mono;

const NANOS: u64 = 1_000_000_000;

/// A token bucket: `burst` tokens at most, refilled at an even rate; it begins full.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: u32,
    burst: u32,
    /// In billionths of a token, so that a nanosecond at one token per second is not lost.
    level: u64,
    filled_at: Option<Mono>,
}

impl Bucket {
    /// A full bucket. A rate of 0 never refills; a burst of 0 never gives.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst, level: u64::from(burst) * NANOS, filled_at: None }
    }

    /// Takes `amount` tokens if they are there; takes none otherwise. More than `burst` are never there.
    pub fn take(&mut self, now: Mono, amount: u32) -> bool {
        self.refill(now);
        let wanted = u64::from(amount) * NANOS;
        let enough = self.level >= wanted;
        if enough {
            self.level -= wanted;
        }
        enough
    }

    /// How long until `amount` tokens will be there; `None` if they never will.
    pub fn ready_after(&mut self, now: Mono, amount: u32) -> Option<Duration> {
        self.refill(now);
        let missing = (u64::from(amount) * NANOS).saturating_sub(self.level);
        if missing == 0 {
            return Some(Duration::ZERO);
        }
        if amount > self.burst || self.per_second == 0 {
            return None;
        }
        Some(Duration::from_nanos(missing.div_ceil(u64::from(self.per_second))))
    }

    fn refill(&mut self, now: Mono) {
        let elapsed = self.filled_at.map_or(0, |then| now.0.saturating_sub(then.0));
        let gained = elapsed.saturating_mul(u64::from(self.per_second));
        self.level = self.level.saturating_add(gained).min(u64::from(self.burst) * NANOS);
        self.filled_at = self.filled_at.max(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = NANOS;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(2, 3);
        assert!(bucket.take(Mono(0), 1));
        assert!(bucket.take(Mono(0), 2));
        assert!(!bucket.take(Mono(0), 1));
        assert!(!bucket.take(Mono(SECOND / 2 - 1), 1));
        assert!(bucket.take(Mono(SECOND / 2), 1));
        assert!(!bucket.take(Mono(SECOND / 2), 1));
        assert!(!bucket.take(Mono(SECOND), 2));
        assert!(bucket.take(Mono(SECOND), 1));
    }

    #[test]
    fn a_refused_take_costs_nothing() {
        let mut bucket = Bucket::new(1, 5);
        assert!(!bucket.take(Mono(0), 6));
        assert!(bucket.take(Mono(0), 5));
    }

    #[test]
    fn an_idle_bucket_fills_to_its_burst_and_no_further() {
        let mut bucket = Bucket::new(u32::MAX, 4);
        assert!(bucket.take(Mono(0), 4));
        assert!(bucket.take(Mono(u64::MAX), 4));
        assert!(!bucket.take(Mono(u64::MAX), 1));
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1, 1);
        assert!(bucket.take(Mono(10 * SECOND), 1));
        assert!(!bucket.take(Mono(9 * SECOND), 1));
        assert!(!bucket.take(Mono(10 * SECOND), 1));
        assert!(!bucket.take(Mono(11 * SECOND - 1), 1));
        assert!(bucket.take(Mono(11 * SECOND), 1));
    }

    #[test]
    fn no_rate_never_refills_and_no_burst_never_gives() {
        let mut bucket = Bucket::new(0, 1);
        assert!(bucket.take(Mono(0), 1));
        assert!(!bucket.take(Mono(u64::MAX), 1));
        assert_eq!(bucket.ready_after(Mono(u64::MAX), 1), None);
        let mut none = Bucket::new(1, 0);
        assert!(!none.take(Mono(u64::MAX), 1));
        assert!(none.take(Mono(0), 0));
        assert_eq!(none.ready_after(Mono(0), 1), None);
    }

    #[test]
    fn the_wait_is_exact_to_the_nanosecond() {
        let mut bucket = Bucket::new(3, 3);
        assert!(bucket.take(Mono(0), 3));
        let wait = bucket.ready_after(Mono(0), 1).unwrap();
        assert_eq!(wait, Duration::from_nanos(333_333_334));
        let then = Mono(0).plus(wait);
        assert!(!bucket.take(Mono(then.0 - 1), 1));
        assert!(bucket.take(then, 1));
        assert_eq!(bucket.ready_after(then, 0), Some(Duration::ZERO));
        assert_eq!(bucket.ready_after(then, 4), None);
    }

    #[test]
    fn over_any_span_no_more_is_given_than_burst_and_rate_allow() {
        proptest::proptest!(|(rate in 0_u32..50, burst in 0_u32..20, steps in proptest::collection::vec((0_u64..SECOND, 0_u32..6), 1..200))| {
            let mut bucket = Bucket::new(rate, burst);
            let (mut at, mut given) = (0_u64, 0_u64);
            for (wait, amount) in steps {
                at += wait;
                if bucket.take(Mono(at), amount) {
                    given += u64::from(amount);
                }
                let most = u128::from(burst) * u128::from(NANOS) + u128::from(at) * u128::from(rate);
                proptest::prop_assert!(u128::from(given) * u128::from(NANOS) <= most);
            }
        });
    }
}
