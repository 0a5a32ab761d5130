use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What one HTTP listener allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// For the whole TLS handshake.
    pub handshake_deadline: Duration,
    /// For the head of a request, and for an idle connection to begin its next one.
    pub header_deadline: Duration,
    /// For a request from its head to its answer, reading its body included.
    pub request_deadline: Duration,
    /// For a client to take in any part of an answer.
    pub write_deadline: Duration,
    /// For open requests to end when the server stops.
    pub drain_deadline: Duration,
    /// Connections at one time.
    pub connections_max: usize,
    /// Connections at one time from one address (/64 for IPv6), from their first byte to their last,
    /// so that no address holds all of `connections_max`. Many clients may share one address, and
    /// each holds its connection for a few seconds.
    pub connections_per_address_max: usize,
    /// Unfinished handshakes at one time from one address (/64 for IPv6).
    pub unfinished_per_address_max: usize,
    /// The head of a request.
    pub header_bytes_max: usize,
    /// The body of a request.
    pub body_bytes_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            handshake_deadline: Duration::from_secs(10),
            header_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(20),
            drain_deadline: Duration::from_secs(5),
            connections_max: 2_048,
            connections_per_address_max: 256,
            unfinished_per_address_max: 64,
            header_bytes_max: 16 * 1024,
            body_bytes_max: 64 * 1024,
        }
    }
}

/// Counts per address: once for unfinished handshakes, and once, with a wider limit because many
/// clients may share an address, for connections as long as they live.
#[derive(Clone, Default)]
pub(crate) struct PerAddress(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One handshake or connection; counted until it is dropped.
pub(crate) struct Counted {
    all: PerAddress,
    address: IpAddr,
}

impl PerAddress {
    /// Counts one more of `address`; `None` at the limit.
    pub(crate) fn begin(&self, address: IpAddr, max: usize) -> Option<Counted> {
        let address = network_of(address);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted { all: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// An IPv4 address itself; of an IPv6 address the /64, which one customer holds whole.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !0 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_per_address_and_given_back() {
        let all = PerAddress::default();
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = all.begin(a, 2).unwrap();
        let second = all.begin(a, 2).unwrap();
        assert!(all.begin(a, 2).is_none());
        assert!(all.begin(b, 2).is_some());
        drop(first);
        let third = all.begin(a, 2).unwrap();
        assert!(all.begin(a, 2).is_none());
        drop((second, third));
        assert!(all.0.lock().unwrap().is_empty());
    }

    #[test]
    fn ipv6_counts_by_its_64_and_mapped_ipv4_as_itself() {
        let net = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(net("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(net("2001:db8:1:2::9"), "2001:db8:1:2::");
        assert_eq!(net("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
