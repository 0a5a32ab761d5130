use types::Blame;

/// Why a key could not be made, read, kept or used. No variant carries key bytes or a passphrase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The text holds no PEM block with a private key.
    #[error("no private key found; {found}")]
    NoKey {
        /// What was found instead.
        found: String,
    },
    /// The text holds more than one private key, so that nobody can say which is meant.
    #[error("{count} private keys in one file; exactly 1 is allowed")]
    SeveralKeys {
        /// How many there are.
        count: usize,
    },
    /// A PEM block that cannot be read.
    #[error("PEM block \"{label}\": {what}")]
    BadPem {
        /// The block's label, clipped and escaped.
        label: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The key is encrypted and no passphrase was given.
    #[error("the private key is encrypted; a passphrase is needed")]
    PassphraseNeeded,
    /// The passphrase does not open the key.
    #[error("wrong passphrase, or the encrypted private key is damaged")]
    WrongPassphrase,
    /// An empty passphrase would protect nothing.
    #[error("passphrase is empty; at least 1 byte is needed")]
    EmptyPassphrase,
    /// The encryption is one that we do not read.
    #[error(
        "encrypted private key: {what}; use PBES2 with scrypt or PBKDF2 and AES (openssl pkcs8 -topk8 -scrypt)"
    )]
    UnsupportedEncryption {
        /// What was found.
        what: String,
    },
    /// A key of an algorithm, a curve or a size that we do not use.
    #[error("private key: {found}; allowed P-256, P-384, Ed25519, RSA of 2048 to 4096 bits")]
    UnsupportedKey {
        /// What was found.
        found: String,
    },
    /// The structure is no private key, or its parts do not fit each other.
    #[error("private key is malformed or inconsistent: {what}")]
    Malformed {
        /// What failed.
        what: &'static str,
    },
    /// A size of RSA key that we do not generate.
    #[error("RSA key of {bits} bits; allowed 2048, 3072, 4096")]
    KeySize {
        /// The size that was asked for.
        bits: u32,
    },
    /// The file exists already.
    #[error("key file \"{path}\" exists already; a key is never overwritten")]
    Exists {
        /// The file's path.
        path: String,
    },
    /// The file is too large to be a key.
    #[error("key file \"{path}\": {bytes} bytes; limit 65536")]
    TooLarge {
        /// The file's path.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The operating system refused.
    #[error("{what}")]
    Io {
        /// What failed, with the path.
        what: String,
    },
    /// The crypto library failed where it has no reason to.
    #[error("the crypto library failed to {what}")]
    Crypto {
        /// What it was asked to do.
        what: &'static str,
    },
    /// The request could not be built.
    #[error("certificate request: {what}")]
    Request {
        /// What `x509` says.
        what: String,
    },
}

impl SignerError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoKey { .. }
            | Self::SeveralKeys { .. }
            | Self::BadPem { .. }
            | Self::PassphraseNeeded
            | Self::WrongPassphrase
            | Self::EmptyPassphrase
            | Self::UnsupportedEncryption { .. }
            | Self::UnsupportedKey { .. }
            | Self::Malformed { .. }
            | Self::KeySize { .. }
            | Self::Exists { .. }
            | Self::TooLarge { .. }
            | Self::Request { .. } => Blame::Operator,
            Self::Io { .. } | Self::Crypto { .. } => Blame::Us,
        }
    }

    /// Stable slug for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKey { .. } => "key.none",
            Self::SeveralKeys { .. } => "key.several",
            Self::BadPem { .. } => "key.bad_pem",
            Self::PassphraseNeeded => "key.passphrase_needed",
            Self::WrongPassphrase => "key.wrong_passphrase",
            Self::EmptyPassphrase => "key.empty_passphrase",
            Self::UnsupportedEncryption { .. } => "key.unsupported_encryption",
            Self::UnsupportedKey { .. } => "key.unsupported",
            Self::Malformed { .. } => "key.malformed",
            Self::KeySize { .. } => "key.size",
            Self::Exists { .. } => "key.exists",
            Self::TooLarge { .. } => "key.too_large",
            Self::Io { .. } => "key.io",
            Self::Crypto { .. } => "key.crypto",
            Self::Request { .. } => "key.request",
        }
    }
}
