use types::{IssuerId, PrincipalKind};
use x509::Certificate;

/// How a certificate of an anchor becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It must stand in the ledger.
    Registered,
    /// It may be taken into the ledger at its first connection; until it stands there it is refused.
    JustInTime,
}

/// Where the certificates of an anchor carry the name of their principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// The one common name of the subject.
    CommonName,
    /// The one serialNumber attribute of the subject (OID 2.5.4.5), as vendors' factory certificates have it.
    SerialNumber,
    /// The one `urn:bailiwick:<kind>:<name>` among the subject alternative names.
    SanUri,
}

impl IdentitySource {
    /// The word for a message: `common name`, `serialNumber`, `SAN URI`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommonName => "common name",
            Self::SerialNumber => "serialNumber",
            Self::SanUri => "SAN URI",
        }
    }
}

/// A CA that the installation believes, and for what.
#[derive(Clone)]
pub struct Anchor {
    /// The hash of its key.
    pub id: IssuerId,
    /// What the operator calls it, for example `devices`.
    pub label: String,
    /// The CA's certificate.
    pub certificate: Certificate,
    /// Which kinds of principals may come from it; empty for a CA that signs no clients.
    pub kinds: Vec<PrincipalKind>,
    /// How its certificates become known.
    pub admission: Admission,
    /// Where its certificates carry their name.
    pub identity: IdentitySource,
}

impl Anchor {
    /// Whether clients may come from it at all.
    #[must_use]
    pub fn signs_clients(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Whether both say the same of what may come from their key.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let same_kinds = self.kinds.iter().all(|kind| other.kinds.contains(kind))
            && other.kinds.iter().all(|kind| self.kinds.contains(kind));
        same_kinds && self.admission == other.admission && self.identity == other.identity
    }
}
