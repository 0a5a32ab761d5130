use types::{IssuerId, Wall};
use x509::SignatureAlgorithm;

use crate::error::SignerError;
use crate::key::{FileKey, RawSigner};

const BUNDLE_TAG: &[u8] = b"bailiwick ca bundle v1\0";

/// The key of one issuing CA: signs certificates and revocation lists under that CA.
pub struct IssuingKey {
    issuer: IssuerId,
    key: FileKey,
}

impl IssuingKey {
    /// Takes a key for this one purpose; the issuer is the CA whose key this is.
    #[must_use]
    pub fn new(key: FileKey) -> Self {
        Self { issuer: x509::issuer_id(key.spki_der()), key }
    }

    /// Which CA this key is.
    #[must_use]
    pub fn issuer(&self) -> IssuerId {
        self.issuer
    }
}

impl RawSigner for IssuingKey {
    fn spki_der(&self) -> &[u8] {
        self.key.spki_der()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.key.sign(message)
    }
}

/// The key that signs checkpoints of the log, and nothing else.
pub struct CheckpointKey(FileKey);

impl CheckpointKey {
    /// Takes a key for this one purpose.
    #[must_use]
    pub fn new(key: FileKey) -> Self {
        Self(key)
    }

    /// The public half, for whoever verifies the log.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.0.spki_der()
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    /// Signs the log up to the line `seq`, whose hash is `hash`.
    ///
    /// # Errors
    /// The crypto library fails.
    pub fn checkpoint(&self, seq: u64, hash: [u8; 32], at: Wall) -> Result<audit::Checkpoint, SignerError> {
        let signature = self.0.sign(&audit::checkpoint_message(seq, &hash, at))?;
        Ok(audit::Checkpoint { seq, hash, at, signature })
    }

    /// Whether `signature` over `message` is this key's; what `audit::verify` asks.
    #[must_use]
    pub fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        x509::verify_signature(self.spki_der(), self.algorithm(), message, signature).is_ok()
    }
}

/// The key that signs bundles of CA certificates, and nothing else.
pub struct BundleKey(FileKey);

impl BundleKey {
    /// Takes a key for this one purpose.
    #[must_use]
    pub fn new(key: FileKey) -> Self {
        Self(key)
    }

    /// The public half, for whoever verifies a bundle.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.0.spki_der()
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    /// Signs `bundle`; the signature covers [`bundle_message`].
    ///
    /// # Errors
    /// The crypto library fails.
    pub fn sign(&self, bundle: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.0.sign(&bundle_message(bundle))
    }
}

/// The bytes that a bundle's signature covers: a tag of its own, so that no signature by this key
/// can be taken for anything else.
#[must_use]
pub fn bundle_message(bundle: &[u8]) -> Vec<u8> {
    [BUNDLE_TAG, bundle].concat()
}
