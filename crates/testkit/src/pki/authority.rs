use ca::Issuer;
use signer::{FileKey, IssuingKey, RawSigner as _};
use trust::Anchor;
use types::{IssuerId, Secret};
use x509::Certificate;

use super::anchor;

/// A CA of the fixture, with its key.
pub struct Authority {
    issuer: Issuer,
    key: FileKey,
    parent: Option<Certificate>,
}

impl Authority {
    pub(super) fn new(issuer: Issuer, key: FileKey, parent: Option<Certificate>) -> Self {
        Self { issuer, key, parent }
    }

    /// Under which id its certificates are known.
    #[must_use]
    pub fn id(&self) -> IssuerId {
        self.issuer.id()
    }

    /// What operators call it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.issuer.label
    }

    /// The CA as `ca` wants it.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The CA as `trust` wants it.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        anchor(&self.issuer)
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.issuer.certificate
    }

    /// The certificate of the CA above it; a root has none.
    #[must_use]
    pub fn parent(&self) -> Option<&Certificate> {
        self.parent.as_ref()
    }

    /// Its key, for whatever a test wants to sign.
    #[must_use]
    pub fn key(&self) -> &FileKey {
        &self.key
    }

    /// Its key as plain PKCS#8 DER.
    #[must_use]
    pub fn key_pkcs8(&self) -> Secret {
        self.key.pkcs8_der()
    }

    /// Its key, once more, as `enroll` wants it.
    #[must_use]
    pub fn issuing_key(&self) -> IssuingKey {
        let key = FileKey::from_pkcs8_der(self.key.pkcs8_der().expose()).expect("our own key is read back");
        IssuingKey::new(key)
    }

    /// Signs any bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("a key in memory signs")
    }
}
