use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use types::Secret;
use x509::Certificate;

use crate::error::TlsError;
use crate::profile;

/// The most bytes of certificates that we send: mbedTLS before 3.6.3 cannot reassemble a
/// fragmented handshake message, so the chain has to fit its buffer.
pub const HANDSHAKE_CHAIN_BYTES_MAX: usize = 4096;

/// A certificate chain and its private key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    leaf: Certificate,
}

impl Identity {
    /// Takes a chain, leaf first, and the leaf's private key as PKCS#8 DER. A self-signed
    /// certificate behind the leaf is left out of what is sent: the peer holds its own roots.
    ///
    /// # Errors
    /// An empty or oversize chain, a key that cannot be used, or one of another certificate.
    pub fn new(chain: Vec<Certificate>, key_pkcs8: &Secret) -> Result<Self, TlsError> {
        let leaf = chain.first().cloned().ok_or(TlsError::EmptyChain)?;
        let sent: Vec<_> = chain
            .iter()
            .enumerate()
            .filter(|(at, certificate)| *at == 0 || certificate.subject_der() != certificate.issuer_der())
            .map(|(_, certificate)| CertificateDer::from(certificate.der().to_vec()))
            .collect();
        // Each entry of a TLS 1.3 Certificate message carries 3 bytes of length and 2 of extensions.
        let bytes = sent.iter().map(|der| der.len() + 5).sum();
        if bytes > HANDSHAKE_CHAIN_BYTES_MAX {
            return Err(TlsError::ChainTooLong { bytes });
        }
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8.expose()));
        let signing = profile::provider()
            .key_provider
            .load_private_key(der.clone_key())
            .map_err(|error| TlsError::BadKey { detail: error.to_string() })?;
        let key = CertifiedKey::new(sent, signing);
        match key.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                return Err(TlsError::KeyMismatch { subject: leaf.subject_text() });
            }
            Err(error) => return Err(TlsError::BadKey { detail: error.to_string() }),
        }
        Ok(Self { key: Arc::new(key), leaf })
    }

    /// The leaf certificate.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    pub(crate) fn certified_key(&self) -> CertifiedKey {
        (*self.key).clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.leaf.subject_text())
    }
}

/// A server's identity that can be replaced while the server runs; connections that are open
/// keep the one they were made with.
pub struct LiveIdentity {
    current: ArcSwap<CertifiedKey>,
    leaf: ArcSwap<Certificate>,
}

impl LiveIdentity {
    /// Starts with `identity`.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { current: ArcSwap::new(identity.key), leaf: ArcSwap::from_pointee(identity.leaf) }
    }

    /// From the next handshake on, `identity` is shown.
    pub fn replace(&self, identity: Identity) {
        self.current.store(identity.key);
        self.leaf.store(Arc::new(identity.leaf));
    }

    /// The leaf certificate that is shown now.
    #[must_use]
    pub fn leaf(&self) -> Certificate {
        self.leaf.load().as_ref().clone()
    }
}

impl fmt::Debug for LiveIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveIdentity({})", self.leaf().subject_text())
    }
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}
