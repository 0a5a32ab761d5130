use std::time::Duration;

use types::Wall;

/// How enrolment behaves; the server fills it from its configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When this program was built: a clock that shows an earlier date is wrong.
    pub built_at: Wall,
    /// The largest body that a device endpoint reads.
    pub body_bytes_max: usize,
    /// How long certificates live, by what they are for.
    pub lifetimes: Lifetimes,
    /// How often an address may fail before it is answered with 429.
    pub failures: FailureLimits,
    /// When CRLs are published.
    pub crl: CrlSettings,
}

/// How long certificates live; none outlives its issuer.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// Certificates of devices.
    pub device: Duration,
    /// Certificates of services.
    pub service: Duration,
    /// Certificates of operators.
    pub operator: Duration,
    /// Certificates of servers.
    pub server: Duration,
}

/// A token bucket of failures for each address (each /64 of IPv6).
#[derive(Clone, Copy, Debug)]
pub struct FailureLimits {
    /// How many failures come back to the bucket each minute.
    pub per_minute: u32,
    /// How many failures may come at once.
    pub burst: u32,
    /// How many addresses are remembered; above it the fullest buckets are forgotten.
    pub addresses_max: usize,
}

/// When CRLs are published.
#[derive(Clone, Copy, Debug)]
pub struct CrlSettings {
    /// From thisUpdate to nextUpdate.
    pub validity: Duration,
    /// A CRL older than this is renewed although nothing changed; below half of the validity.
    pub period: Duration,
    /// How soon a publication that failed is tried again.
    pub retry: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Settings {
    fn default() -> Self {
        Self {
            built_at: Wall(0),
            body_bytes_max: 64 * 1024,
            lifetimes: Lifetimes::default(),
            failures: FailureLimits::default(),
            crl: CrlSettings::default(),
        }
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { device: DAY * 365, service: DAY * 365, operator: DAY * 365, server: DAY * 365 }
    }
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { per_minute: 30, burst: 20, addresses_max: 16_384 }
    }
}

impl Default for CrlSettings {
    fn default() -> Self {
        Self { validity: DAY * 7, period: DAY * 3, retry: Duration::from_millis(500) }
    }
}
