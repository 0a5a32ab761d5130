use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use guard::Bucket;
use tokio::sync::Notify;
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
    Rate(u32),
}

impl std::fmt::Display for LimitReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connections(max) => write!(f, "{max} connections are open, the limit of this listener"),
            Self::PerAddress(max) => write!(f, "{max} connections are open from this address, its limit"),
            Self::Rate(max) => write!(f, "more than {max} connections per second from this address"),
        }
    }
}

struct Address {
    live: usize,
    /// Its unfinished handshakes, oldest first; some may be over already.
    unfinished: VecDeque<u64>,
    handshakes: usize,
    rate: Bucket,
    seen: Mono,
}

struct Counts {
    live: usize,
    /// The unfinished handshakes by their age; whoever is taken out of here makes room.
    unfinished: BTreeMap<u64, (AddressKey, Arc<Notify>)>,
    next: u64,
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
    number: u64,
    evicted: Arc<Notify>,
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
        if counts.addresses.len() >= counts.clear_at && !counts.addresses.contains_key(&key) {
            counts.forget_quiet(now);
        }
        let entry = counts.addresses.entry(key).or_insert_with(|| Address {
            live: 0,
            unfinished: VecDeque::new(),
            handshakes: 0,
            rate: Bucket::new(limits.per_address_per_second, limits.per_address_burst),
            seen: now,
        });
        entry.seen = now;
        if entry.live >= limits.per_address_max {
            return Err(LimitReached::PerAddress(limits.per_address_max));
        }
        if !entry.rate.take(now, 1) {
            return Err(LimitReached::Rate(limits.per_address_per_second));
        }
        entry.live += 1;
        counts.live += 1;
        // Silent connections must not keep others out: the oldest handshake makes room, first of
        // this address, then of all. One that goes on is over long before it is the oldest.
        if counts.handshakes_of(key) >= limits.handshakes_per_address_max {
            counts.evict_oldest_of(key);
        }
        if counts.unfinished.len() >= limits.handshakes_max {
            counts.evict_oldest();
        }
        let evicted = Arc::new(Notify::new());
        let number = counts.begin(key, Arc::clone(&evicted));
        Ok(Pass { gate: Arc::clone(self), key, number, evicted })
    }

    /// Connections and unfinished handshakes, now.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let counts = self.lock();
        (counts.live, counts.unfinished.len())
    }

    /// A counter is never left half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            live: 0,
            unfinished: BTreeMap::new(),
            next: 0,
            addresses: HashMap::new(),
            clear_at: IDLE_ADDRESSES_MAX,
        }
    }

    fn handshakes_of(&self, key: AddressKey) -> usize {
        self.addresses.get(&key).map_or(0, |address| address.handshakes)
    }

    fn begin(&mut self, key: AddressKey, evicted: Arc<Notify>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.unfinished.insert(number, (key, evicted));
        if let Some(address) = self.addresses.get_mut(&key) {
            address.handshakes += 1;
            address.unfinished.push_back(number);
        }
        number
    }

    /// Takes a handshake out of the count, once; its connection may go on or be told to go.
    fn finish(&mut self, number: u64) -> Option<Arc<Notify>> {
        let (key, evicted) = self.unfinished.remove(&number)?;
        let open = &self.unfinished;
        if let Some(address) = self.addresses.get_mut(&key) {
            address.handshakes = address.handshakes.saturating_sub(1);
            // What is over goes from the front at once and from the middle when the list is mostly that.
            while address.unfinished.front().is_some_and(|first| !open.contains_key(first)) {
                address.unfinished.pop_front();
            }
            if address.unfinished.len() > 2 * address.handshakes + 16 {
                address.unfinished.retain(|number| open.contains_key(number));
            }
        }
        Some(evicted)
    }

    fn evict_oldest(&mut self) {
        if let Some(oldest) = self.unfinished.keys().next().copied() {
            self.evict(oldest);
        }
    }

    fn evict_oldest_of(&mut self, key: AddressKey) {
        let oldest = self.addresses.get(&key).and_then(|address| address.unfinished.front().copied());
        if let Some(oldest) = oldest {
            self.evict(oldest);
        }
    }

    fn evict(&mut self, number: u64) {
        if let Some(evicted) = self.finish(number) {
            // A permit is kept for a task that is not waiting yet.
            evicted.notify_one();
        }
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
        self.gate.lock().finish(self.number);
    }

    /// Ends when this handshake has to make room for a newer one.
    pub(crate) fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let evicted = Arc::clone(&self.evicted);
        async move { evicted.notified().await }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        counts.finish(self.number);
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

    fn is_evicted(pass: &Pass) -> bool {
        use std::task::{Context, Waker};
        let mut waiting = Box::pin(pass.evicted());
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn each_limit_names_itself_and_a_dropped_pass_gives_its_place_back() {
        let gate = Gate::new(limits());
        let now = Mono(0);
        let mut first = gate.enter(at("192.0.2.1:1"), now).unwrap();
        first.handshake_done();
        first.handshake_done();
        let mut second = gate.enter(at("192.0.2.1:2"), now).unwrap();
        second.handshake_done();
        assert_eq!(gate.enter(at("192.0.2.1:3"), now).err(), Some(LimitReached::PerAddress(2)));
        let third = gate.enter(at("192.0.2.2:1"), now).unwrap();
        let fourth = gate.enter(at("192.0.2.3:1"), now).unwrap();
        assert_eq!(gate.counts(), (4, 2));
        assert_eq!(gate.enter(at("192.0.2.4:1"), now).err(), Some(LimitReached::Connections(4)));
        drop((first, second, third, fourth));
        assert_eq!(gate.counts(), (0, 0));
    }

    #[test]
    fn a_newcomer_takes_the_place_of_its_own_addresss_oldest_handshake() {
        let gate = Gate::new(limits());
        let now = Mono(0);
        let silent = gate.enter(at("192.0.2.1:1"), now).unwrap();
        let other = gate.enter(at("192.0.2.2:1"), now).unwrap();
        assert!(!is_evicted(&silent));
        let newcomer = gate.enter(at("192.0.2.1:2"), now).unwrap();
        assert!(is_evicted(&silent) && !is_evicted(&other) && !is_evicted(&newcomer));
        assert_eq!(gate.counts(), (3, 2));
        drop(silent);
        assert_eq!(gate.counts(), (2, 2));
    }

    #[test]
    fn silent_connections_of_many_addresses_keep_no_newcomer_out() {
        let gate = Gate::new(AddressLimits { connections_max: 100, ..limits() });
        let now = Mono(0);
        let mut entered: Vec<Pass> =
            (1..=5).map(|last| gate.enter(at(&format!("192.0.2.{last}:1")), now).unwrap()).collect();
        let evicted: Vec<bool> = entered.iter().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
        assert_eq!(gate.counts(), (5, 3));
        // One that finishes in time is never told to go.
        entered[2].handshake_done();
        let _newest = gate.enter(at("192.0.2.9:1"), now).unwrap();
        assert!(!is_evicted(&entered[2]) && !is_evicted(&entered[3]));
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
    }
}
