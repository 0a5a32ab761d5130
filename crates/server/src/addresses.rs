//! Where the listeners of a running server stand.

use std::net::SocketAddr;

/// Where the listeners really stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// MQTT over mutual TLS.
    pub mqtt: SocketAddr,
    /// The devices' HTTPS.
    pub devices: SocketAddr,
    /// The operators' HTTPS.
    pub admin: SocketAddr,
    /// Plain HTTP for CRLs.
    pub plain: SocketAddr,
}

impl Addresses {
    /// Each listener's name in the configuration, with its address.
    #[must_use]
    pub fn named(&self) -> [(&'static str, SocketAddr); 4] {
        [("mqtt", self.mqtt), ("devices", self.devices), ("admin", self.admin), ("plain", self.plain)]
    }
}
