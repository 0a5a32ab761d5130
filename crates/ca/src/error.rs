use types::{Blame, IssuerId, PrincipalKind, Wall};
use x509::X509Error;

/// Why a certificate or a revocation list is not made.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The name in the request is not the one that was asked for.
    #[error("request names \"{found}\", expected \"{wanted}\" or no name")]
    NameDiffers {
        /// The common name in the request, clipped and escaped.
        found: String,
        /// The name that the evidence speaks for.
        wanted: String,
    },
    /// The evidence does not speak for what is wanted.
    #[error("{evidence} does not entitle to a certificate for {wanted}")]
    EvidenceMismatch {
        /// What the asker showed, without secrets.
        evidence: String,
        /// What is wanted.
        wanted: String,
    },
    /// The registry does not know the name.
    #[error("{} \"{name}\" is not in the registry", kind.as_str())]
    NotRegistered {
        /// The kind that is wanted.
        kind: PrincipalKind,
        /// The name.
        name: String,
    },
    /// The registry knows the name as another kind of principal.
    #[error("\"{name}\" is a {} in the registry, not a {}", found.as_str(), wanted.as_str())]
    WrongKind {
        /// The name.
        name: String,
        /// The registry's kind.
        found: PrincipalKind,
        /// The kind that is wanted.
        wanted: PrincipalKind,
    },
    /// A topic rule names this device as a user, whose rights it would inherit.
    #[error("device \"{name}\" bears a name that a topic rule gives to a user")]
    NameInRules {
        /// The name.
        name: String,
    },
    /// The key is already certified for another name.
    #[error(
        "the key of \"{name}\" is already certified for \"{owner}\"; every principal needs a key of its own"
    )]
    KeyShared {
        /// Who asks.
        name: String,
        /// Whose key it is.
        owner: String,
    },
    /// The device stands on the deny-list.
    #[error("\"{name}\" is denied")]
    Denied {
        /// The name.
        name: String,
    },
    /// A server certificate without a host name or address is good for nothing.
    #[error("server \"{name}\" has no host name and no address; at least 1 is needed")]
    NoServerName {
        /// The server's name.
        name: String,
    },
    /// The request's key is weak or of an unknown kind.
    #[error("the request's key: {source}")]
    Key {
        /// What `x509` says.
        source: X509Error,
    },
    /// A CA's key must be one that every device can verify.
    #[error("a {role} with a key of {found}; allowed {allowed}")]
    CaKey {
        /// `root` or `sub-CA`.
        role: &'static str,
        /// What was offered.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// This CA does not sign for that kind.
    #[error("CA \"{label}\" does not sign for {wanted}")]
    WrongIssuer {
        /// The CA's label.
        label: String,
        /// What is wanted.
        wanted: String,
    },
    /// The issuer's certificate is no CA certificate, or may have no CA below it.
    #[error("\"{label}\" is no CA that may sign this")]
    NotACa {
        /// The issuer's label.
        label: String,
    },
    /// The issuer's certificate is not valid yet.
    #[error("CA \"{label}\" is valid from {not_before}, now {now}")]
    IssuerNotYetValid {
        /// The issuer's label.
        label: String,
        /// Its first moment.
        not_before: Wall,
        /// The date.
        now: Wall,
    },
    /// The issuer's certificate has expired.
    #[error("CA \"{label}\" expired {not_after}, now {now}")]
    IssuerExpired {
        /// The issuer's label.
        label: String,
        /// Its last moment.
        not_after: Wall,
        /// The date.
        now: Wall,
    },
    /// A lifetime outside the limits.
    #[error("lifetime of {asked_days} days; limit 1 to {limit_days} days under CA \"{label}\"")]
    Lifetime {
        /// What was asked for.
        asked_days: u64,
        /// The most that this issuer may give.
        limit_days: u64,
        /// The issuer's label.
        label: String,
    },
    /// The serial is not one of our own shape.
    #[error("serial 0x{serial}: {bytes} bytes; our serials have 20, top bit clear")]
    Serial {
        /// The serial in hex.
        serial: String,
        /// Its length.
        bytes: usize,
    },
    /// The bytes could not be built.
    #[error("certificate not built: {source}")]
    Build {
        /// What `x509` says.
        source: X509Error,
    },
    /// The built bytes are not what they should be; nothing was signed.
    #[error("certificate failed the lint: {findings}")]
    Lint {
        /// All findings.
        findings: String,
    },
    /// What the store recorded is not what the ticket holds.
    #[error("the record of {what} differs from the ticket")]
    RecordDiffers {
        /// Which field.
        what: &'static str,
    },
    /// The ticket was prepared for another issuer.
    #[error("ticket is for CA {wanted}, not for CA {found}")]
    OtherIssuer {
        /// The ticket's issuer.
        wanted: IssuerId,
        /// The one that was named.
        found: IssuerId,
    },
    /// The signature is not the issuer's over these bytes.
    #[error("signature by CA \"{label}\" does not verify: {source}")]
    Signature {
        /// The issuer's label.
        label: String,
        /// What `x509` says.
        source: X509Error,
    },
    /// The periods of the revocation lists leave no room for a missed one.
    #[error("crl.period {period_s} s !< crl.validity / 2 ({half_s} s)")]
    CrlSchedule {
        /// The period, in seconds.
        period_s: u64,
        /// Half the validity, in seconds.
        half_s: u64,
    },
}

impl CaError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NameDiffers { .. }
            | Self::EvidenceMismatch { .. }
            | Self::NotRegistered { .. }
            | Self::WrongKind { .. }
            | Self::NameInRules { .. }
            | Self::KeyShared { .. }
            | Self::Denied { .. }
            | Self::NoServerName { .. }
            | Self::Key { .. } => Blame::Peer,
            Self::CaKey { .. }
            | Self::WrongIssuer { .. }
            | Self::NotACa { .. }
            | Self::IssuerNotYetValid { .. }
            | Self::IssuerExpired { .. }
            | Self::Lifetime { .. }
            | Self::Build { .. }
            | Self::CrlSchedule { .. } => Blame::Operator,
            Self::Serial { .. }
            | Self::Lint { .. }
            | Self::RecordDiffers { .. }
            | Self::OtherIssuer { .. }
            | Self::Signature { .. } => Blame::Bug,
        }
    }

    /// Stable slug for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NameDiffers { .. } => "ca.name_differs",
            Self::EvidenceMismatch { .. } => "ca.evidence_mismatch",
            Self::NotRegistered { .. } => "ca.not_registered",
            Self::WrongKind { .. } => "ca.wrong_kind",
            Self::NameInRules { .. } => "ca.name_in_rules",
            Self::KeyShared { .. } => "ca.key_shared",
            Self::Denied { .. } => "ca.denied",
            Self::NoServerName { .. } => "ca.no_server_name",
            Self::Key { .. } => "ca.key",
            Self::CaKey { .. } => "ca.ca_key",
            Self::WrongIssuer { .. } => "ca.wrong_issuer",
            Self::NotACa { .. } => "ca.not_a_ca",
            Self::IssuerNotYetValid { .. } => "ca.issuer_not_yet_valid",
            Self::IssuerExpired { .. } => "ca.issuer_expired",
            Self::Lifetime { .. } => "ca.lifetime",
            Self::Serial { .. } => "ca.serial",
            Self::Build { .. } => "ca.build",
            Self::Lint { .. } => "ca.lint",
            Self::RecordDiffers { .. } => "ca.record_differs",
            Self::OtherIssuer { .. } => "ca.other_issuer",
            Self::Signature { .. } => "ca.signature",
            Self::CrlSchedule { .. } => "ca.crl_schedule",
        }
    }
}
