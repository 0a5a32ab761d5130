//! Says what is wrong with bytes or a draft, and who has to act.

use types::Blame;

/// Why bytes are no certificate, request, list or key that we accept, or a draft cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X509Error {
    /// More bytes than we are willing to read.
    #[error("{what} of {len} bytes; limit {max}")]
    TooLarge {
        /// What was to be read.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The text is no PEM, or does not hold what was asked for.
    #[error("pem: {detail}")]
    Pem {
        /// What is wrong with it.
        detail: String,
    },
    /// The bytes break the encoding or the structure.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Bytes follow where the structure has ended.
    #[error("{what} is followed by {len} stray bytes; none are allowed")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many bytes follow it.
        len: usize,
    },
    /// A key of a kind that we do not accept.
    #[error("unsupported key: {detail}; allowed P-256, P-384, Ed25519, RSA of 2048 to 4096 bits")]
    UnsupportedKey {
        /// What it is.
        detail: String,
    },
    /// An RSA key whose modulus is outside the limits.
    #[error("rsa key of {bits} bits; allowed 2048 to 4096")]
    WeakKey {
        /// The length of the modulus.
        bits: u32,
    },
    /// A signature algorithm that we do not accept, or not with this key.
    #[error(
        "unsupported signature: {detail}; allowed SHA-256, SHA-384 or SHA-512 with the key's own algorithm"
    )]
    UnsupportedSignature {
        /// What it is.
        detail: String,
    },
    /// The signature is not one of this key over these bytes.
    #[error("signature of the {what} is wrong")]
    BadSignature {
        /// What was signed.
        what: &'static str,
    },
    /// A request that names several subjects; it is not ours to choose.
    #[error("request holds {count} common names; allowed one or none")]
    SeveralNames {
        /// How many.
        count: usize,
    },
    /// A value that cannot stand in a certificate.
    #[error("{field}: {detail}")]
    Field {
        /// Which value.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A certificate that was named as a CA and may not act as one.
    #[error("certificate \"{subject}\" is no CA: {detail}")]
    NotACa {
        /// Its subject.
        subject: String,
        /// What it lacks.
        detail: &'static str,
    },
}

impl X509Error {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Field { .. } | Self::NotACa { .. } => Blame::Operator,
            Self::TooLarge { .. }
            | Self::Pem { .. }
            | Self::Malformed { .. }
            | Self::Trailing { .. }
            | Self::UnsupportedKey { .. }
            | Self::WeakKey { .. }
            | Self::UnsupportedSignature { .. }
            | Self::BadSignature { .. }
            | Self::SeveralNames { .. } => Blame::Peer,
        }
    }

    /// Stable slug for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "x509.too_large",
            Self::Pem { .. } => "x509.bad_pem",
            Self::Malformed { .. } | Self::Trailing { .. } => "x509.malformed",
            Self::UnsupportedKey { .. } => "x509.unsupported_key",
            Self::WeakKey { .. } => "x509.weak_key",
            Self::UnsupportedSignature { .. } => "x509.unsupported_signature",
            Self::BadSignature { .. } => "x509.bad_signature",
            Self::SeveralNames { .. } => "x509.several_names",
            Self::Field { .. } => "x509.bad_field",
            Self::NotACa { .. } => "x509.not_a_ca",
        }
    }

    pub(crate) fn malformed(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Malformed { what, detail: detail.into() }
    }

    pub(crate) fn field(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Field { field, detail: detail.into() }
    }
}
