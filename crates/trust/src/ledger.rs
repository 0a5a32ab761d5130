use types::{CertRef, DerHash, IssuerId, Principal, ProjectId, Wall};

/// Where a certificate stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertState {
    /// Issued, and never yet seen on a mutual-TLS connection.
    Unconfirmed,
    /// In use.
    Active,
    /// Replaced by a newer one; usable until its overlap ends.
    Superseded {
        /// The first moment at which it is no longer usable.
        until: Wall,
    },
    /// Put on hold; an operator may restore it.
    Suspended,
    /// Revoked for good.
    Revoked,
}

impl CertState {
    /// The lower-case word for messages and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unconfirmed => "unconfirmed",
            Self::Active => "active",
            Self::Superseded { .. } => "superseded",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
}

/// What the ledger holds of one certificate, joined with the registry's row of its principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The fingerprint under which it was looked up.
    pub der_hash: DerHash,
    /// Its issuer and serial.
    pub cert: CertRef,
    /// Whom it speaks for, in the registry's spelling.
    pub principal: Principal,
    /// The anchor that the registry names for this principal.
    pub anchor: IssuerId,
    /// The project that the principal belongs to.
    pub project: ProjectId,
    /// The fleet that the principal belongs to, if it is in one.
    pub fleet: Option<String>,
    /// Where the certificate stands.
    pub state: CertState,
}
