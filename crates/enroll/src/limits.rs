use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use types::Mono;

use crate::settings::FailureLimits;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// Counts failures for each address. It is asked only after a request has failed, so a request
/// with a valid token is never limited by the address that it shares with others.
pub(crate) struct FailureCounter {
    limits: FailureLimits,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// How many failures are left, in nanoseconds' worth of refill.
    credit: u64,
    at: Mono,
}

/// Whether this failure is still within the limit of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Say what was wrong.
    Within,
    /// Say only that there were too many; come back after so many seconds.
    Beyond { retry_after_secs: u64 },
}

impl FailureCounter {
    pub(crate) fn new(limits: FailureLimits) -> Self {
        Self { limits, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes note of one failure.
    pub(crate) fn count(&self, address: IpAddr, now: Mono) -> Failure {
        let price = MINUTE_NANOS / u64::from(self.limits.per_minute.max(1));
        let full = price.saturating_mul(u64::from(self.limits.burst.max(1)));
        let key = network_of(address);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= self.limits.addresses_max.max(1) && !buckets.contains_key(&key) {
            forget_the_fullest(&mut buckets, full, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { credit: full, at: now });
        bucket.credit = refilled(*bucket, full, now);
        bucket.at = now;
        match bucket.credit.checked_sub(price) {
            Some(rest) => {
                bucket.credit = rest;
                Failure::Within
            }
            None => {
                Failure::Beyond { retry_after_secs: (price - bucket.credit).div_ceil(1_000_000_000).max(1) }
            }
        }
    }
}

fn refilled(bucket: Bucket, full: u64, now: Mono) -> u64 {
    let nanos = u64::try_from(now.since(bucket.at).as_nanos()).unwrap_or(u64::MAX);
    bucket.credit.saturating_add(nanos).min(full)
}

/// Makes room: first the addresses that have all their credit back, and if there are none the half
/// with the most credit, so that an attacker with many addresses cannot wash his own bucket clean.
fn forget_the_fullest(buckets: &mut HashMap<IpAddr, Bucket>, full: u64, now: Mono) {
    let before = buckets.len();
    buckets.retain(|_, bucket| refilled(*bucket, full, now) < full);
    if buckets.len() < before {
        return;
    }
    let mut credits: Vec<u64> = buckets.values().map(|bucket| refilled(*bucket, full, now)).collect();
    let middle = credits.len() / 2;
    let (_, median, _) = credits.select_nth_unstable(middle);
    let median = *median;
    let mut room = before.div_ceil(2);
    buckets.retain(|_, bucket| {
        let goes = room > 0 && refilled(*bucket, full, now) >= median;
        room -= usize::from(goes);
        !goes
    });
}

/// The address that is counted: IPv4 as it is (also when it comes mapped), IPv6 by its /64, because
/// one customer has all the addresses of it.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counter(per_minute: u32, burst: u32, addresses_max: usize) -> FailureCounter {
        FailureCounter::new(FailureLimits { per_minute, burst, addresses_max })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_burst_passes_the_next_is_beyond_and_credit_comes_back() {
        let counter = counter(60, 3, 16);
        let start = Mono(5);
        for _ in 0..3 {
            assert_eq!(counter.count(ip("192.0.2.1"), start), Failure::Within);
        }
        assert_eq!(counter.count(ip("192.0.2.1"), start), Failure::Beyond { retry_after_secs: 1 });
        let later = start.plus(Duration::from_millis(999));
        assert_eq!(counter.count(ip("192.0.2.1"), later), Failure::Beyond { retry_after_secs: 1 });
        let later = start.plus(Duration::from_secs(1));
        assert_eq!(counter.count(ip("192.0.2.1"), later), Failure::Within);
        assert_eq!(counter.count(ip("192.0.2.1"), later), Failure::Beyond { retry_after_secs: 1 });
    }

    #[test]
    fn one_address_does_not_limit_another() {
        let counter = counter(1, 1, 16);
        assert_eq!(counter.count(ip("192.0.2.1"), Mono(0)), Failure::Within);
        assert_eq!(counter.count(ip("192.0.2.1"), Mono(0)), Failure::Beyond { retry_after_secs: 60 });
        assert_eq!(counter.count(ip("192.0.2.2"), Mono(0)), Failure::Within);
    }

    #[test]
    fn a_64_of_ipv6_is_one_address_and_its_neighbour_another() {
        let counter = counter(1, 1, 16);
        assert_eq!(counter.count(ip("2001:db8:0:1::1"), Mono(0)), Failure::Within);
        assert_ne!(counter.count(ip("2001:db8:0:1:ffff:ffff:ffff:ffff"), Mono(0)), Failure::Within);
        assert_eq!(counter.count(ip("2001:db8:0:2::1"), Mono(0)), Failure::Within);
        assert_eq!(network_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(network_of(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded_and_the_worst_are_kept() {
        let counter = counter(1, 4, 8);
        for _ in 0..5 {
            counter.count(ip("198.51.100.1"), Mono(0));
        }
        for last in 0..200_u8 {
            counter.count(IpAddr::from([192, 0, 2, last]), Mono(0));
        }
        assert!(counter.buckets.lock().unwrap().len() <= 8);
        assert_ne!(counter.count(ip("198.51.100.1"), Mono(0)), Failure::Within);
    }
}
