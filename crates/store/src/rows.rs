use std::fmt;

use trust::CertState;
use types::{
    CertRef, DerHash, DeviceId, Epoch, IssuerId, Principal, PrincipalKind, ProjectId, SpkiHash, Wall,
};
use x509::CrlReason;

/// A CA of this installation: the root, or a sub-CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaRow {
    /// The name of its key.
    pub id: IssuerId,
    /// Its label, unique: `root`, `devices`, `services`, `servers`.
    pub label: String,
    /// Its certificate.
    pub certificate_der: Vec<u8>,
    /// Who signed it; `None` for a root.
    pub parent: Option<IssuerId>,
    /// Who may come from it; empty for a root and for the servers CA.
    pub kinds: Vec<PrincipalKind>,
    /// Whether it signs server certificates.
    pub servers: bool,
    /// Where its key is kept, relative to the data folder; `None` when it is elsewhere.
    pub key_file: Option<String>,
}

/// A device to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Its id.
    pub id: DeviceId,
    /// What was written when the id was made from it, such as a MAC address with colons.
    pub original: Option<String>,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// The fleet within the project.
    pub fleet: Option<String>,
    /// A text for people.
    pub label: Option<String>,
}

/// Where a registered principal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In use.
    Active,
    /// Held by an operator; may return.
    Suspended,
    /// Revoked for good, at this epoch.
    Revoked(Epoch),
}

/// A registered device and what was issued to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// Its id, in the case that was given.
    pub id: DeviceId,
    /// What was written when the id was made from it.
    pub original: Option<String>,
    /// Its project.
    pub project: ProjectId,
    /// Its fleet.
    pub fleet: Option<String>,
    /// A text for people.
    pub label: Option<String>,
    /// Where it stands.
    pub standing: Standing,
    /// Whether its name is on the deny-list.
    pub denied: bool,
    /// When it was registered.
    pub added_at: Wall,
    /// By whom.
    pub added_by: String,
    /// Its certificates, oldest first.
    pub certificates: Vec<CertRow>,
    /// Its tokens, oldest first.
    pub tokens: Vec<TokenRow>,
}

/// A registered service or operator (or a device, without what only devices have).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRow {
    /// Who.
    pub principal: Principal,
    /// Its project.
    pub project: ProjectId,
    /// Where it stands.
    pub standing: Standing,
    /// When it was registered.
    pub added_at: Wall,
    /// By whom.
    pub added_by: String,
    /// Its certificates, oldest first.
    pub certificates: Vec<CertRow>,
}

/// A certificate in the ledger; the bytes are asked for with `certificate_der`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertRow {
    /// SHA-256 of its DER.
    pub der_hash: DerHash,
    /// Issuer and serial.
    pub cert: CertRef,
    /// The label of the CA that signed it.
    pub issuer_label: String,
    /// Its key.
    pub spki: SpkiHash,
    /// Whether and how it is usable.
    pub state: CertState,
    /// Which line of successors it belongs to.
    pub lineage: u64,
    /// Its place in that line, from 1.
    pub generation: u32,
    /// The CRL shard that would list it.
    pub crl_shard: u8,
    /// When it begins.
    pub not_before: Wall,
    /// When it ends.
    pub not_after: Wall,
    /// When it was recorded.
    pub recorded_at: Wall,
    /// When it was revoked or suspended.
    pub revoked_at: Option<Wall>,
    /// Why.
    pub reason: Option<CrlReason>,
}

/// A provisioning token to be made; the caller makes id and secret, only the hash comes here.
#[derive(Clone)]
pub struct NewToken {
    /// The public half.
    pub id: String,
    /// SHA-256 of the secret's ASCII text.
    pub secret_hash: [u8; 32],
    /// The one device that it is for.
    pub device: DeviceId,
    /// Until when it can be bound to a key.
    pub expires_at: Wall,
    /// Whether its confirmation revokes the device's other certificates.
    pub replace: bool,
}

/// The life of a provisioning token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Nobody has used it.
    Unused,
    /// It belongs to this key and yields the same certificate again.
    Bound(SpkiHash),
    /// Its certificate was seen in a mutual-TLS connection; it is spent.
    Confirmed,
    /// It was killed.
    Revoked,
}

/// A provisioning token as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The public half.
    pub id: String,
    /// The device that it is for.
    pub device: DeviceId,
    /// Where it stands.
    pub state: TokenState,
    /// Until when it can be bound.
    pub expires_at: Wall,
    /// Whether it replaces the device's other certificates.
    pub replace: bool,
    /// When it was made.
    pub created_at: Wall,
    /// By whom.
    pub created_by: String,
}

/// What the store says to a token and a key.
#[derive(Debug)]
pub enum TokenAnswer {
    /// The token is good and free.
    Unused {
        /// The device that it is for.
        device: DeviceId,
        /// Whether it replaces the device's other certificates.
        replace: bool,
    },
    /// The token is bound to this very key.
    Bound {
        /// The device that it is for.
        device: DeviceId,
        /// The certificate; `None` after a crash between intent and record.
        certificate_der: Option<Vec<u8>>,
        /// What was recorded; sign its `tbs` again when there is no certificate.
        intent: Box<RecordedIntent>,
    },
    /// The token is refused; the peer is told no more than that.
    Refused(TokenRefusal),
}

/// Why a token is refused; for the log and the operator, never for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// No token has this id.
    Unknown,
    /// The secret is wrong.
    WrongSecret,
    /// Its time has passed, or its certificate's.
    Expired,
    /// Its certificate is confirmed.
    Spent,
    /// It is bound to another key.
    OtherKey,
    /// It was killed.
    Revoked,
    /// Its device is revoked, suspended or on the deny-list.
    DeviceDenied,
    /// Its device has a live certificate by now, and the token does not replace it.
    NeedsReplace,
}

impl TokenRefusal {
    /// Stable slug.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "token.unknown",
            Self::WrongSecret => "token.wrong_secret",
            Self::Expired => "token.expired",
            Self::Spent => "token.spent",
            Self::OtherKey => "token.other_key",
            Self::Revoked => "token.revoked",
            Self::DeviceDenied => "token.device_denied",
            Self::NeedsReplace => "token.needs_replace",
        }
    }
}

/// A certificate that is about to be signed.
#[derive(Clone)]
pub struct NewIntent {
    /// The token that is spent for it, if any.
    pub token_id: Option<String>,
    /// Issuer and serial.
    pub cert: CertRef,
    /// The key.
    pub spki: SpkiHash,
    /// SHA-256 of `tbs`.
    pub tbs_hash: [u8; 32],
    /// The bytes to be signed.
    pub tbs: Vec<u8>,
    /// For whom; `None` for a server certificate.
    pub principal: Option<Principal>,
    /// The project.
    pub project: ProjectId,
    /// When it begins.
    pub not_before: Wall,
    /// When it ends.
    pub not_after: Wall,
    /// The label of the CA that signs.
    pub issuer_label: String,
    /// On what ground, in words.
    pub evidence: String,
}

/// Proof that an intent is recorded: token bound, serial taken. Single use; only the store makes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) intent: i64,
    pub(crate) cert: CertRef,
    pub(crate) tbs_hash: [u8; 32],
}

impl Receipt {
    /// The certificate whose serial is taken.
    #[must_use]
    pub fn cert(&self) -> CertRef {
        self.cert
    }

    /// SHA-256 of the bytes that may be signed.
    #[must_use]
    pub fn tbs_hash(&self) -> [u8; 32] {
        self.tbs_hash
    }
}

/// An intent as it was recorded, with what is needed to sign the same bytes again.
#[derive(Debug)]
pub struct RecordedIntent {
    /// The right to record the certificate.
    pub receipt: Receipt,
    /// The token that it was spent for.
    pub token_id: Option<String>,
    /// The bytes to be signed.
    pub tbs: Vec<u8>,
    /// The key.
    pub spki: SpkiHash,
    /// For whom; `None` for a server certificate.
    pub principal: Option<Principal>,
    /// The project.
    pub project: ProjectId,
    /// When it begins.
    pub not_before: Wall,
    /// When it ends.
    pub not_after: Wall,
    /// The label of the CA that signs.
    pub issuer_label: String,
    /// On what ground, in words.
    pub evidence: String,
}

/// What a first mutual-TLS connection changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The certificates that it revoked.
    pub replaced: Vec<CertRef>,
    /// The epoch in which that is so.
    pub epoch: Epoch,
}

/// What a revocation, suspension, restoration, denial or permission changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedDevice {
    /// The epoch in which it is so.
    pub epoch: Epoch,
    /// The certificates whose state it changed.
    pub certs: Vec<CertRef>,
    /// Who it was about; `None` for a server's certificate.
    pub principal: Option<Principal>,
}

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// A certificate for a service.
    Service,
    /// A certificate for an operator.
    Operator,
    /// A certificate for a server.
    Server,
}

/// A certificate that an operator ordered; `enroll` carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it is for.
    pub kind: OrderKind,
    /// For whom.
    pub name: String,
    /// The certificate request.
    pub csr_der: Vec<u8>,
    /// Who ordered it.
    pub actor: String,
}

/// The number of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A CRL that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlRow {
    /// Who signed it.
    pub issuer: IssuerId,
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Wall,
    /// Until when it holds.
    pub next_update: Wall,
    /// The epoch that it shows.
    pub epoch: Epoch,
}

/// The last link of the event chain; number 0 and zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainHead {
    /// Its sequence number.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// Counters, kept in the transactions that change them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Registered devices.
    pub devices: u64,
    /// Registered services and operators.
    pub principals: u64,
    /// Certificates in the ledger.
    pub certificates: u64,
    /// Certificates that were revoked.
    pub revoked: u64,
    /// Tokens that were made.
    pub tokens: u64,
    /// Events that were written.
    pub events: u64,
    /// The epoch of trust.
    pub epoch: Epoch,
    /// Why the epoch file could not be written, if so; the next commit tries again.
    pub epoch_file_error: Option<String>,
    /// Why the last change could not be written, as on a full disk; none after one that could.
    pub write_error: Option<String>,
}

/// What `recover` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The epoch from now on.
    pub epoch: Epoch,
    /// Tokens that were unused and are dead now.
    pub tokens_killed: u64,
}
