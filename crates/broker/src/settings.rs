use std::sync::Arc;
use std::time::Duration;

use audit::Observer;
use guard::ReplayTable;
use policy::Table;
use store::Store;
use tokio::sync::watch;
use types::Clock;

use crate::error::BrokerError;

/// What the broker is given by the server.
pub struct Deps {
    /// The ledger, and the trust view that it publishes.
    pub store: Store,
    /// The topic rules in force.
    pub policy: watch::Receiver<Arc<Table>>,
    /// The replay rules in force.
    pub replay: watch::Receiver<Arc<ReplayTable>>,
    /// How a TCP connection becomes a verified chain.
    pub acceptor: Arc<tls::Acceptor>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Who is told what happened.
    pub observer: Arc<dyn Observer>,
}

/// How the broker behaves; [`Settings::default`] is what `bailiwick.toml` has when it says nothing.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that hold sessions; 0 is one per core.
    pub shards: usize,
    /// Threads that do nothing but handshakes; 0 is one per two cores.
    pub handshake_threads: usize,
    /// How many connections, from where, how fast.
    pub addresses: AddressLimits,
    /// How long a client may take from its first byte to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a session that was told to close may take to read its last bytes.
    pub close_timeout: Duration,
    /// How long `shutdown` waits for the sessions to close.
    pub shutdown_timeout: Duration,
    /// Bytes that one connection may have queued before it is ended as a slow consumer; the state
    /// machine sheds messages well before ([`mqtt::Limits::output_bytes_max`]), so only what it
    /// must send can grow this far.
    pub out_bytes_max: usize,
    /// Messages that may wait between two shards; more are shed and noted.
    pub mailbox_messages_max: usize,
    /// How often deadlines are looked at when nothing else happens.
    pub tick: Duration,
    /// The limits of the state machine, which also holds the deadline for CONNECT.
    pub mqtt: mqtt::Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: 0,
            handshake_threads: 0,
            addresses: AddressLimits::default(),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            shutdown_timeout: Duration::from_secs(3),
            out_bytes_max: 16 << 20,
            mailbox_messages_max: 65_536,
            tick: Duration::from_millis(200),
            mqtt: mqtt::Limits::default(),
        }
    }
}

/// What the accept loop counts before anything is spent on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Open connections in all.
    pub connections_max: usize,
    /// Open connections from one IPv4 address or IPv6 /64; a fleet may sit behind one address.
    pub per_address_max: usize,
    /// Connections in all whose handshake is unfinished; beyond, the oldest makes room.
    pub handshakes_max: usize,
    /// Connections from one address whose handshake is unfinished; beyond, its oldest makes room.
    pub handshakes_per_address_max: usize,
    /// New connections per second from one address, in the long run.
    pub per_address_per_second: u32,
    /// New connections from one address at once.
    pub per_address_burst: u32,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            per_address_max: 20_000,
            handshakes_max: 4_096,
            handshakes_per_address_max: 1_024,
            per_address_per_second: 500,
            per_address_burst: 2_000,
        }
    }
}

impl Settings {
    /// The number of shards that these settings mean on a machine of `cores`.
    ///
    /// # Errors
    /// The setting that is outside its limits.
    pub(crate) fn check(&self, cores: usize) -> Result<(u16, usize), BrokerError> {
        let shards =
            if self.shards == 0 { cores.clamp(1, usize::from(mqtt::SHARDS_MAX)) } else { self.shards };
        let refused = |name, value, allowed| {
            Err(BrokerError::Setting { name, value: u64::try_from(value).unwrap_or(u64::MAX), allowed })
        };
        if self.tick.is_zero() {
            return refused("tick", 0, "more than 0");
        }
        for (name, value) in [
            ("connections_max", self.addresses.connections_max),
            ("per_address_max", self.addresses.per_address_max),
            ("handshakes_max", self.addresses.handshakes_max),
            ("handshakes_per_address_max", self.addresses.handshakes_per_address_max),
            ("out_bytes_max", self.out_bytes_max),
            ("mailbox_messages_max", self.mailbox_messages_max),
        ] {
            if value == 0 {
                return refused(name, value, "1 or more");
            }
        }
        let pool = if self.handshake_threads == 0 { cores.div_ceil(2) } else { self.handshake_threads };
        match u16::try_from(shards) {
            Ok(count) if count <= mqtt::SHARDS_MAX => Ok((count, pool.max(1))),
            _ => refused("shards", shards, "1 to 64, or 0 for one per core"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_shards_means_one_per_core() {
        let settings = Settings::default();
        assert_eq!(settings.check(4), Ok((4, 2)));
        assert_eq!(settings.check(1), Ok((1, 1)));
        assert_eq!(settings.check(0), Ok((1, 1)));
        assert_eq!(settings.check(96), Ok((64, 48)));
        assert_eq!(Settings { shards: 3, handshake_threads: 5, ..settings }.check(8), Ok((3, 5)));
    }

    #[test]
    fn a_setting_outside_its_limits_is_named() {
        let check = |settings: Settings| settings.check(2).map_err(|error| error.to_string());
        let base = Settings::default;
        assert_eq!(check(Settings { shards: 64, ..base() }), Ok((64, 1)));
        assert_eq!(
            check(Settings { shards: 65, ..base() }),
            Err("broker setting shards is 65; allowed 1 to 64, or 0 for one per core".to_owned())
        );
        assert_eq!(
            check(Settings { out_bytes_max: 0, ..base() }),
            Err("broker setting out_bytes_max is 0; allowed 1 or more".to_owned())
        );
        let addresses = AddressLimits { handshakes_max: 0, ..AddressLimits::default() };
        assert_eq!(
            check(Settings { addresses, ..base() }),
            Err("broker setting handshakes_max is 0; allowed 1 or more".to_owned())
        );
        assert_eq!(
            check(Settings { tick: Duration::ZERO, ..base() }),
            Err("broker setting tick is 0; allowed more than 0".to_owned())
        );
    }
}
