//! Reads certification requests and demands the proof of possession.
//! In: DER or PEM. Out: `Csr`, or the bytes of a request to be signed.
//! Invariant: the signature verified over the bytes as they came.
//! Never: grants what a request asks for.
//! Spec: RFC 2986.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use types::SpkiHash;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::draft::SubjectTemplate;
use crate::error::X509Error;
use crate::key::{self, KeyKind};
use crate::{name, oid, pem, tlv};

/// The longest certification request that we read, in bytes of DER.
pub const CSR_BYTES_MAX: usize = 16 * 1024;

const WHAT: &str = "request";

/// A certification request whose signature verified over its raw bytes: the sender possesses the key.
/// Nothing that it asks for is granted: only its key and its common name are looked at.
#[derive(Clone)]
pub struct Csr(Arc<Inner>);

struct Inner {
    der: Box<[u8]>,
    spki: Range<usize>,
    spki_hash: SpkiHash,
    kind: KeyKind,
    common_name: Option<String>,
}

impl Csr {
    /// Reads one request, which must fill the bytes, and verifies the proof of possession.
    ///
    /// # Errors
    /// Too large, malformed, a weak or unknown key, an algorithm that we refuse, a wrong signature,
    /// or more than one common name.
    pub fn parse_der(der: &[u8]) -> Result<Self, X509Error> {
        if der.len() > CSR_BYTES_MAX {
            return Err(X509Error::TooLarge { what: WHAT, len: der.len(), max: CSR_BYTES_MAX });
        }
        let mut outer = tlv::only(WHAT, tlv::SEQUENCE, der)?;
        let info = outer.expect(tlv::SEQUENCE)?.whole;
        let algorithm = outer.expect(tlv::SEQUENCE)?.content;
        let signature = tlv::whole_bits(WHAT, outer.expect(tlv::BIT_STRING)?.content)?;
        outer.finish()?;

        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|error| X509Error::malformed(WHAT, format!("{error}")))?;
        if !rest.is_empty() {
            return Err(X509Error::Trailing { what: WHAT, len: rest.len() });
        }
        let parsed = parsed.certification_request_info;
        if parsed.version.0 != 0 {
            return Err(X509Error::malformed(WHAT, format!("version {}", parsed.version.0)));
        }
        let spki = parsed.subject_pki.raw;
        let kind = key::key_kind(spki)?;
        // RFC 2986 section 3: the signature is over the bytes as they came, never over a re-encoding.
        key::verify_as(WHAT, spki, algorithm, info, signature)?;

        name::attributes(WHAT, parsed.subject.as_raw(), |_| {})?;
        let mut names = name::values(parsed.subject.as_raw(), oid::COMMON_NAME);
        if names.len() > 1 {
            return Err(X509Error::SeveralNames { count: names.len() });
        }
        let range = tlv::place(der, spki).ok_or_else(|| X509Error::malformed(WHAT, "key outside of it"))?;
        let inner = Inner {
            spki: range,
            spki_hash: key::spki_hash(spki),
            kind,
            common_name: names.pop(),
            der: der.into(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Reads the one PEM block of the text.
    ///
    /// # Errors
    /// As [`Csr::parse_der`]; several blocks, or one of another kind.
    pub fn parse_pem(text: &str) -> Result<Self, X509Error> {
        if text.len() > 2 * CSR_BYTES_MAX {
            return Err(X509Error::TooLarge { what: WHAT, len: text.len(), max: 2 * CSR_BYTES_MAX });
        }
        Self::parse_der(&pem::single(text, &["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])?)
    }

    /// The common name that it asks for, if it asks for one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }

    /// The SubjectPublicKeyInfo, as it stands.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.0.der.get(self.0.spki.clone()).unwrap_or_default()
    }

    /// The name of its key.
    #[must_use]
    pub fn spki_hash(&self) -> SpkiHash {
        self.0.spki_hash
    }

    /// What kind of key it is.
    #[must_use]
    pub fn key_kind(&self) -> KeyKind {
        self.0.kind
    }

    /// The bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The bytes as a PEM block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", self.der())
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Csr({:?} {:?})", self.common_name(), self.key_kind())
    }
}

/// The CertificationRequestInfo of a request with this common name and key, to be signed by that key
/// and completed by [`crate::assemble`]. It asks for no attributes.
///
/// # Errors
/// A common name that cannot stand in a name, or a key that we would refuse.
pub fn csr_info(common_name: &str, spki_der: &[u8]) -> Result<Vec<u8>, X509Error> {
    key::key_kind(spki_der)?;
    let subject = name::encode(&SubjectTemplate::default(), common_name)?;
    let version = tlv::element(tlv::INTEGER, &[&[0]]);
    let attributes = tlv::element(tlv::explicit(0), &[]);
    Ok(tlv::element(tlv::SEQUENCE, &[&version, &subject, spki_der, &attributes]))
}
