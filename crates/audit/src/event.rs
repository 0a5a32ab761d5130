use serde::{Deserialize, Serialize};

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something happened as it should.
    Info,
    /// Something was refused, or works with less than it should.
    Warn,
    /// A person should look now.
    Alert,
}

impl Level {
    /// The lower-case word: `info`, `warn`, `alert`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Alert => "alert",
        }
    }
}

/// Everything that is worth telling, one word each. The fields are plain text and numbers: dates
/// are RFC 3339, serials and hashes lower-case hex, trust epochs the text of [`types::Epoch`],
/// `principal` a bare name, `issuer` an anchor's label or the hex of an issuer id, `reason` a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the fields are the words of the log line; the doc of the enum says how each is written"
)]
pub enum Event {
    /// A client showed a certificate that is believed, and its session began.
    ConnectionAccepted {
        principal: String,
        kind: String,
        serial: String,
        issuer: String,
        tls: String,
        suite: String,
        peer: String,
        conn: u64,
        client_id: Option<String>,
        epoch: String,
    },
    /// A client was turned away, with what it showed.
    ConnectionRefused {
        peer: String,
        subject: Option<String>,
        serial: Option<String>,
        issuer: Option<String>,
        sni: Option<String>,
        reason: String,
        detail: String,
    },
    /// A session that had been accepted is over.
    SessionEnded {
        principal: String,
        serial: String,
        peer: String,
        conn: u64,
        reason: String,
        detail: String,
    },
    /// A publish that the rules or a limit refused.
    PublishRefused {
        principal: String,
        serial: String,
        conn: u64,
        topic: String,
        reason: String,
        rule: String,
    },
    /// A subscription that the rules or a limit refused.
    SubscribeRefused {
        principal: String,
        serial: String,
        conn: u64,
        filter: String,
        reason: String,
        rule: String,
    },
    /// A message that replay protection refused, or would have under `enforce`.
    ReplayRefused { principal: String, topic: String, kind: String, mode: String, detail: String },
    /// A provisioning request without a usable token.
    TokenRefused { peer: String, token_id: Option<String>, device: Option<String>, reason: String },

    /// A root or a sub-CA was made or taken in.
    CaCreated {
        issuer: String,
        label: String,
        serial: String,
        der_hash: String,
        not_after: String,
        actor: String,
    },
    /// A certificate was signed and recorded.
    CertificateIssued {
        principal: String,
        kind: String,
        serial: String,
        issuer: String,
        der_hash: String,
        not_after: String,
        evidence: String,
    },
    /// A certificate was used for the first time; its token is dead from here on.
    CertificateConfirmed { principal: String, kind: String, serial: String, issuer: String },
    /// Trust in a certificate was taken away for good.
    CertificateRevoked {
        principal: String,
        serial: String,
        issuer: String,
        reason: String,
        actor: String,
        epoch: String,
    },
    /// A device entered the registry.
    DeviceAdded { device: String, project: String, fleet: Option<String>, actor: String },
    /// A device was put on the deny-list.
    DeviceDenied { device: String, reason: String, actor: String, epoch: String },
    /// A device's certificates were put on hold.
    DeviceSuspended { device: String, actor: String, epoch: String },
    /// A hold or a denial was lifted.
    DeviceRestored { device: String, actor: String, epoch: String },
    /// A provisioning token was made.
    TokenCreated { token_id: String, device: String, expires_at: String, actor: String },
    /// A provisioning token was bound to a key.
    TokenBound { token_id: String, device: String, spki: String, serial: String },
    /// A provisioning token was taken back.
    TokenRevoked { token_id: String, device: String, actor: String },
    /// A backend service entered the registry.
    ServiceAdded { name: String, actor: String },
    /// An operator entered the registry.
    OperatorAdded { name: String, actor: String },
    /// A set of topic rules came into force.
    PolicyLoaded { epoch: u64, rules: u64 },
    /// A set of topic rules was refused; the old one holds.
    PolicyRejected { detail: String },
    /// The settings were read again and are in force.
    ConfigReloaded { detail: String },
    /// The server is up.
    ServerStarted { version: String, epoch: String },
    /// The server is going down.
    ServerStopped { reason: String },
    /// A revocation list was signed and is being served.
    CrlPublished { issuer: String, number: u64, entries: u64, next_update: String },
    /// The date of this machine is not to be believed: no issuing, no admitting.
    ClockUnsound { wall: String, floor: String },
    /// Something that a person should look at.
    Alert { code: String, detail: String },
}

impl Event {
    /// Stable slug: the same in the log line, the metric label and the documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ConnectionAccepted { .. } => "conn.accepted",
            Self::ConnectionRefused { .. } => "conn.refused",
            Self::SessionEnded { .. } => "conn.ended",
            Self::PublishRefused { .. } => "publish.refused",
            Self::SubscribeRefused { .. } => "subscribe.refused",
            Self::ReplayRefused { .. } => "replay.refused",
            Self::TokenRefused { .. } => "token.refused",
            Self::CaCreated { .. } => "ca.created",
            Self::CertificateIssued { .. } => "cert.issued",
            Self::CertificateConfirmed { .. } => "cert.confirmed",
            Self::CertificateRevoked { .. } => "cert.revoked",
            Self::DeviceAdded { .. } => "device.added",
            Self::DeviceDenied { .. } => "device.denied",
            Self::DeviceSuspended { .. } => "device.suspended",
            Self::DeviceRestored { .. } => "device.restored",
            Self::TokenCreated { .. } => "token.created",
            Self::TokenBound { .. } => "token.bound",
            Self::TokenRevoked { .. } => "token.revoked",
            Self::ServiceAdded { .. } => "service.added",
            Self::OperatorAdded { .. } => "operator.added",
            Self::PolicyLoaded { .. } => "policy.loaded",
            Self::PolicyRejected { .. } => "policy.rejected",
            Self::ConfigReloaded { .. } => "config.reloaded",
            Self::ServerStarted { .. } => "server.started",
            Self::ServerStopped { .. } => "server.stopped",
            Self::CrlPublished { .. } => "crl.published",
            Self::ClockUnsound { .. } => "clock.unsound",
            Self::Alert { .. } => "alert",
        }
    }

    /// How loud it is. A replay under `observe` only warns; under `enforce` it alerts.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::ConnectionRefused { .. }
            | Self::PublishRefused { .. }
            | Self::SubscribeRefused { .. }
            | Self::TokenRefused { .. }
            | Self::PolicyRejected { .. }
            | Self::CertificateRevoked { .. }
            | Self::DeviceDenied { .. }
            | Self::DeviceSuspended { .. } => Level::Warn,
            Self::ReplayRefused { mode, .. } if mode == "enforce" => Level::Alert,
            Self::ReplayRefused { .. } => Level::Warn,
            Self::ClockUnsound { .. } | Self::Alert { .. } => Level::Alert,
            Self::ConnectionAccepted { .. }
            | Self::SessionEnded { .. }
            | Self::CaCreated { .. }
            | Self::CertificateIssued { .. }
            | Self::CertificateConfirmed { .. }
            | Self::DeviceAdded { .. }
            | Self::DeviceRestored { .. }
            | Self::TokenCreated { .. }
            | Self::TokenBound { .. }
            | Self::TokenRevoked { .. }
            | Self::ServiceAdded { .. }
            | Self::OperatorAdded { .. }
            | Self::PolicyLoaded { .. }
            | Self::ConfigReloaded { .. }
            | Self::ServerStarted { .. }
            | Self::ServerStopped { .. }
            | Self::CrlPublished { .. } => Level::Info,
        }
    }

    /// Whether it changes what is trusted or allowed, and so belongs in the chained log. What a
    /// stranger can cause at will does not: that would let him fill the log.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        match self {
            Self::ConnectionAccepted { .. }
            | Self::ConnectionRefused { .. }
            | Self::SessionEnded { .. }
            | Self::PublishRefused { .. }
            | Self::SubscribeRefused { .. }
            | Self::ReplayRefused { .. }
            | Self::TokenRefused { .. } => false,
            Self::CaCreated { .. }
            | Self::CertificateIssued { .. }
            | Self::CertificateConfirmed { .. }
            | Self::CertificateRevoked { .. }
            | Self::DeviceAdded { .. }
            | Self::DeviceDenied { .. }
            | Self::DeviceSuspended { .. }
            | Self::DeviceRestored { .. }
            | Self::TokenCreated { .. }
            | Self::TokenBound { .. }
            | Self::TokenRevoked { .. }
            | Self::ServiceAdded { .. }
            | Self::OperatorAdded { .. }
            | Self::PolicyLoaded { .. }
            | Self::PolicyRejected { .. }
            | Self::ConfigReloaded { .. }
            | Self::ServerStarted { .. }
            | Self::ServerStopped { .. }
            | Self::CrlPublished { .. }
            | Self::ClockUnsound { .. }
            | Self::Alert { .. } => true,
        }
    }

    /// The event as one line of JSON: the body of a chained line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising plain texts and numbers cannot fail; the code alone is still a true line.
        serde_json::to_string(self).unwrap_or_else(|_| format!("{{\"event\":\"{}\"}}", self.code()))
    }
}
