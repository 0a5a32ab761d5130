use std::path::{Path, PathBuf};

use signer::FileKey;
use trust::{CertState, LedgerEntry};
use types::{CertRef, DerHash, IssuerId, Principal, ProjectId, Secret};
use x509::Certificate;

use super::Authority;

/// A certificate with its key, and the CA certificate that goes with it.
pub struct Leaf {
    der: Vec<u8>,
    key: FileKey,
    principal: Option<Principal>,
    signer: Option<Certificate>,
}

impl Leaf {
    pub(super) fn new(
        authority: &Authority,
        der: Vec<u8>,
        key: FileKey,
        principal: Option<Principal>,
    ) -> Self {
        Self { der, key, principal, signer: Some(authority.certificate().clone()) }
    }

    pub(super) fn alone(der: Vec<u8>, key: FileKey, principal: Option<Principal>) -> Self {
        Self { der, key, principal, signer: None }
    }

    /// The certificate's bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate, read.
    ///
    /// # Panics
    /// It is one of the wrong ones that cannot be read.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        Certificate::parse_der(&self.der).expect("the leaf can be read")
    }

    /// The certificate and its CA's, as DER, in the order of a handshake.
    #[must_use]
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        let signer = self.signer.iter().map(|signer| signer.der().to_vec());
        std::iter::once(self.der.clone()).chain(signer).collect()
    }

    /// The certificate and its CA's, read.
    ///
    /// # Panics
    /// As [`Leaf::certificate`].
    #[must_use]
    pub fn chain(&self) -> Vec<Certificate> {
        std::iter::once(self.certificate()).chain(self.signer.clone()).collect()
    }

    /// The certificate alone, as PEM: what a client with a leaf-only file shows.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        x509::pem::encode("CERTIFICATE", &self.der)
    }

    /// The certificate and its CA's, as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain_der().iter().map(|der| x509::pem::encode("CERTIFICATE", der)).collect()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &FileKey {
        &self.key
    }

    /// The key as plain PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.to_pem().expose_str().expect("PEM is text").to_owned()
    }

    /// The key as plain PKCS#8 DER, as `tls::Identity` wants it.
    #[must_use]
    pub fn key_pkcs8(&self) -> Secret {
        self.key.pkcs8_der()
    }

    /// Whom it speaks for; a server, and a certificate without a proper name, speaks for nobody.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Its fingerprint.
    #[must_use]
    pub fn der_hash(&self) -> DerHash {
        DerHash(x509::sha256(&self.der))
    }

    /// Who signed it; its own key, if it is self-signed.
    #[must_use]
    pub fn issuer(&self) -> IssuerId {
        match &self.signer {
            Some(signer) => signer.issuer_id_as_ca(),
            None => self.certificate().issuer_id_as_ca(),
        }
    }

    /// Its issuer and serial.
    ///
    /// # Panics
    /// As [`Leaf::certificate`].
    #[must_use]
    pub fn cert_ref(&self) -> CertRef {
        CertRef { issuer: self.issuer(), serial: self.certificate().serial() }
    }

    /// What the ledger holds of it in this state, in the default project, in no fleet.
    ///
    /// # Panics
    /// It speaks for nobody; [`Leaf::entry_for`] takes a principal.
    #[must_use]
    pub fn entry(&self, state: CertState) -> LedgerEntry {
        self.entry_for(self.principal.clone().expect("the leaf speaks for somebody"), state)
    }

    /// What the ledger would hold of it if it had been issued to `principal`.
    ///
    /// # Panics
    /// As [`Leaf::certificate`].
    #[must_use]
    pub fn entry_for(&self, principal: Principal, state: CertState) -> LedgerEntry {
        LedgerEntry {
            der_hash: self.der_hash(),
            cert: self.cert_ref(),
            principal,
            anchor: self.issuer(),
            project: ProjectId::parse(ProjectId::DEFAULT).expect("the default project is one"),
            fleet: None,
            state,
        }
    }

    /// Writes `NAME.crt` (the chain), `NAME.leaf.crt` and `NAME.key` (mode 0600) into `folder`, for
    /// programs that want files.
    ///
    /// # Panics
    /// The files cannot be written, or the key's exists.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> LeafFiles {
        let files = LeafFiles {
            chain: folder.join(format!("{name}.crt")),
            leaf: folder.join(format!("{name}.leaf.crt")),
            key: folder.join(format!("{name}.key")),
        };
        fs_err::write(&files.chain, self.chain_pem()).expect("the chain is written");
        fs_err::write(&files.leaf, self.certificate_pem()).expect("the leaf is written");
        self.key.save_new(&files.key, None, &mut signer::SystemEntropy).expect("the key is written");
        files
    }
}

/// Where [`Leaf::write`] has put its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFiles {
    /// The certificate and its CA's.
    pub chain: PathBuf,
    /// The certificate alone.
    pub leaf: PathBuf,
    /// The key, plain PKCS#8.
    pub key: PathBuf,
}
