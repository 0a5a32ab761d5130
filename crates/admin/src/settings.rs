use std::time::Duration;

use types::{SpkiHash, Wall};

/// How the operator API behaves; the server fills it from its configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When this program was built: a clock that shows an earlier date is wrong.
    pub built_at: Wall,
    /// The version of the program, for `/api/v1/status`.
    pub version: String,
    /// The host name under which devices reach the device listener, for bundles.
    pub devices_host: String,
    /// The port of the device listener, for bundles.
    pub devices_port: u16,
    /// The SHA-256 of the SPKI of every root that a bundle pins.
    pub root_pins: Vec<SpkiHash>,
    /// How long a provisioning token lives when the request does not say.
    pub token_ttl: Duration,
    /// The longest life of a provisioning token.
    pub token_ttl_max: Duration,
    /// How long a revocation waits for its effects.
    pub revoke_wait: Duration,
    /// How long an order waits for its certificate.
    pub order_wait: Duration,
    /// The listeners that are open, each with its address and port, for `/api/v1/status`.
    pub listeners: Vec<(String, String)>,
    /// The largest request body.
    pub body_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            built_at: Wall(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            devices_host: "localhost".to_owned(),
            devices_port: 8443,
            root_pins: Vec::new(),
            token_ttl: Duration::from_secs(24 * 3600),
            token_ttl_max: Duration::from_secs(90 * 24 * 3600),
            revoke_wait: Duration::from_secs(5),
            order_wait: Duration::from_secs(10),
            listeners: Vec::new(),
            body_bytes_max: 64 * 1024,
        }
    }
}
