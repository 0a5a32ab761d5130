use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use guard::Bucket;
use types::Mono;

use crate::settings::AddressLimits;

/// Entries of addresses without a connection are dropped when the table has grown past this.
const IDLE_ADDRESSES_MAX: usize = 65_536;
/// An address that was quiet for this long has its tokens back and can be forgotten.
const QUIET: Duration = Duration::from_secs(60);

/// Which addresses count as one: an IPv4 address, or the /64 that one IPv6 subscriber is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AddressKey {
    V4(u32),
    V6(u64),
}

impl AddressKey {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

/// Which limit turned a connection away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitReached {
    Connections(usize),
    PerAddress(usize),
    Handshakes(usize),
    HandshakesPerAddress(usize),
    Rate(u32),
}

impl std::fmt::Display for LimitReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connections(max) => write!(f, "{max} connections are open, the limit of this listener"),
            Self::PerAddress(max) => write!(f, "{max} connections are open from this address, its limit"),
            Self::Handshakes(max) => write!(f, "{max} handshakes are unfinished, the limit of this listener"),
            Self::HandshakesPerAddress(max) => {
                write!(f, "{max} handshakes are unfinished from this address, its limit")
            }
            Self::Rate(max) => write!(f, "more than {max} connections per second from this address"),
        }
    }
}

struct Address {
    live: usize,
    handshakes: usize,
    rate: Bucket,
    seen: Mono,
}

struct Counts {
    live: usize,
    handshakes: usize,
    addresses: HashMap<AddressKey, Address>,
    /// How large the table may grow before it is looked through again.
    clear_at: usize,
}

/// Counts the connections of a listener before anything is spent on them.
pub(crate) struct Gate {
    limits: RwLock<AddressLimits>,
    counts: Mutex<Counts>,
}

/// One counted connection; it is given back by being dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    key: AddressKey,
    in_handshake: bool,
}

impl Gate {
    pub(crate) fn new(limits: AddressLimits) -> Arc<Self> {
        Arc::new(Self { limits: RwLock::new(limits), counts: Mutex::new(Counts::new()) })
    }

    /// Other limits from here on; an address that is known keeps its rate until it has been quiet.
    pub(crate) fn change(&self, limits: AddressLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Takes a connection in, or names the limit that it would break.
    pub(crate) fn enter(self: &Arc<Self>, address: SocketAddr, now: Mono) -> Result<Pass, LimitReached> {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        let key = AddressKey::of(address.ip());
        let mut counts = self.lock();
        if counts.live >= limits.connections_max {
            return Err(LimitReached::Connections(limits.connections_max));
        }
        if counts.handshakes >= limits.handshakes_max {
            return Err(LimitReached::Handshakes(limits.handshakes_max));
        }
        if counts.addresses.len() >= counts.clear_at && !counts.addresses.contains_key(&key) {
            counts.forget_quiet(now);
        }
        let entry = counts.addresses.entry(key).or_insert_with(|| Address {
            live: 0,
            handshakes: 0,
            rate: Bucket::new(limits.per_address_per_second, limits.per_address_burst),
            seen: now,
        });
        entry.seen = now;
        if entry.live >= limits.per_address_max {
            return Err(LimitReached::PerAddress(limits.per_address_max));
        }
        if entry.handshakes >= limits.handshakes_per_address_max {
            return Err(LimitReached::HandshakesPerAddress(limits.handshakes_per_address_max));
        }
        if !entry.rate.take(now, 1) {
            return Err(LimitReached::Rate(limits.per_address_per_second));
        }
        entry.live += 1;
        entry.handshakes += 1;
        counts.live += 1;
        counts.handshakes += 1;
        Ok(Pass { gate: Arc::clone(self), key, in_handshake: true })
    }

    /// Connections and unfinished handshakes, now.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let counts = self.lock();
        (counts.live, counts.handshakes)
    }

    /// A counter is never left half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn new() -> Self {
        Self { live: 0, handshakes: 0, addresses: HashMap::new(), clear_at: IDLE_ADDRESSES_MAX }
    }

    /// Drops the addresses that have nothing open: first those that are quiet; if that is not
    /// enough, all of them, since their tokens are worth less than the memory. The next look waits
    /// until the table has doubled, so that its cost stays spread over many connections.
    fn forget_quiet(&mut self, now: Mono) {
        self.addresses.retain(|_, address| address.live > 0 || now.since(address.seen) < QUIET);
        if self.addresses.len() >= IDLE_ADDRESSES_MAX {
            self.addresses.retain(|_, address| address.live > 0);
        }
        self.clear_at = IDLE_ADDRESSES_MAX.max(self.addresses.len().saturating_mul(2));
    }
}

impl Pass {
    /// The handshake is over, well or badly.
    pub(crate) fn handshake_done(&mut self) {
        if std::mem::take(&mut self.in_handshake) {
            let mut counts = self.gate.lock();
            counts.handshakes = counts.handshakes.saturating_sub(1);
            if let Some(address) = counts.addresses.get_mut(&self.key) {
                address.handshakes = address.handshakes.saturating_sub(1);
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.handshake_done();
        let mut counts = self.gate.lock();
        counts.live = counts.live.saturating_sub(1);
        if let Some(address) = counts.addresses.get_mut(&self.key) {
            address.live = address.live.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> AddressLimits {
        AddressLimits {
            connections_max: 4,
            per_address_max: 2,
            handshakes_max: 3,
            handshakes_per_address_max: 1,
            per_address_per_second: 1,
            per_address_burst: 100,
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_ipv6_subscriber_is_one_address_and_a_mapped_address_is_its_ipv4() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }

    #[test]
    fn each_limit_names_itself_and_a_dropped_pass_gives_its_place_back() {
        let gate = Gate::new(limits());
        let now = Mono(0);
        let mut first = gate.enter(at("192.0.2.1:1"), now).unwrap();
        assert_eq!(gate.enter(at("192.0.2.1:2"), now).err(), Some(LimitReached::HandshakesPerAddress(1)));
        first.handshake_done();
        first.handshake_done();
        let mut second = gate.enter(at("192.0.2.1:2"), now).unwrap();
        second.handshake_done();
        assert_eq!(gate.enter(at("192.0.2.1:3"), now).err(), Some(LimitReached::PerAddress(2)));
        let third = gate.enter(at("192.0.2.2:1"), now).unwrap();
        let fourth = gate.enter(at("192.0.2.3:1"), now).unwrap();
        assert_eq!(gate.counts(), (4, 2));
        assert_eq!(gate.enter(at("192.0.2.4:1"), now).err(), Some(LimitReached::Connections(4)));
        drop(first);
        let fifth = gate.enter(at("192.0.2.4:1"), now).unwrap();
        drop(second);
        assert_eq!(gate.enter(at("192.0.2.5:1"), now).err(), Some(LimitReached::Handshakes(3)));
        drop((third, fourth, fifth));
        assert_eq!(gate.counts(), (0, 0));
    }

    #[test]
    fn a_rate_is_held_per_address_and_refills() {
        let gate = Gate::new(AddressLimits { per_address_burst: 2, ..limits() });
        let mut refused = 0;
        for _ in 0..3 {
            refused += u32::from(gate.enter(at("192.0.2.1:1"), Mono(0)).is_err());
        }
        assert_eq!(refused, 1);
        assert_eq!(gate.enter(at("192.0.2.1:1"), Mono(0)).err(), Some(LimitReached::Rate(1)));
        assert!(gate.enter(at("192.0.2.2:1"), Mono(0)).is_ok());
        assert!(gate.enter(at("192.0.2.1:1"), Mono(0).plus(Duration::from_secs(1))).is_ok());
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten_before_the_table_grows_past_its_bound() {
        let gate = Gate::new(AddressLimits { connections_max: 1_000_000, ..limits() });
        let kept = gate.enter(at("198.51.100.1:1"), Mono(0)).unwrap();
        for address in 0..u32::try_from(IDLE_ADDRESSES_MAX).unwrap() + 10 {
            let ip = IpAddr::from(address.to_be_bytes());
            drop(gate.enter(SocketAddr::new(ip, 1), Mono(1)).unwrap());
        }
        let counts = gate.lock();
        assert!(counts.addresses.len() <= IDLE_ADDRESSES_MAX);
        assert!(counts.addresses.contains_key(&kept.key));
    }

    #[test]
    fn the_words_of_each_limit_carry_its_number() {
        assert_eq!(
            LimitReached::PerAddress(7).to_string(),
            "7 connections are open from this address, its limit"
        );
        assert_eq!(LimitReached::Rate(9).to_string(), "more than 9 connections per second from this address");
        assert_eq!(
            LimitReached::Handshakes(5).to_string(),
            "5 handshakes are unfinished, the limit of this listener"
        );
    }
}
