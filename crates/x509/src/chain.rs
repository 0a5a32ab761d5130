//! Decides whether a chain of certificates leads to one of our CAs.
//! In: anchors, DER, a date, a use. Out: `VerifiedChain` or the reason.
//! Invariant: signatures, dates, rights and path lengths hold for every certificate, the anchor included.
//! Never: asks for revocation; that is `trust`'s.
//! Spec: RFC 5280 section 6.1.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use types::{Blame, CertRef, IssuerId, Reason, Wall};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::certificate::{Certificate, DIGITAL_SIGNATURE, KEY_CERT_SIGN};
use crate::error::X509Error;
use crate::key;

/// The most CA certificates that a peer may send beside its own.
pub const INTERMEDIATES_MAX: usize = 8;

/// The CAs below which a chain is believed: roots, or sub-CAs directly.
///
/// webpki knows an anchor by its name and key only, so that an expired CA and a certificate that is no
/// CA's would still anchor a chain; what it leaves out stands beside it here and is checked by us.
#[derive(Clone, Default)]
pub struct ChainAnchors {
    anchors: Vec<TrustAnchor<'static>>,
    facts: Vec<AnchorFacts>,
}

#[derive(Clone)]
struct AnchorFacts {
    certificate: Certificate,
    /// The anchor alone, for the chains that it signed directly.
    issuers: Arc<[IssuerId]>,
}

impl ChainAnchors {
    /// Takes the CAs, in the order in which they are tried. No CA at all is allowed and believes nobody.
    ///
    /// # Errors
    /// A certificate that is not v3, has no CA bit, may not sign certificates, or has a weak key. Dates
    /// are looked at for every chain, not here: they pass while the anchors live.
    pub fn new<'a>(cas: impl IntoIterator<Item = &'a Certificate>) -> Result<Self, X509Error> {
        let mut out = Self::default();
        for ca in cas {
            let not = |detail| Err(X509Error::NotACa { subject: ca.subject_text(), detail });
            if ca.version() != 3 {
                return not("it is not an X.509 v3 certificate");
            }
            if !ca.is_ca() {
                return not("basicConstraints does not say CA:TRUE");
            }
            if !ca.key_usage_allows(KEY_CERT_SIGN) {
                return not("keyUsage does not allow keyCertSign");
            }
            ca.key_kind()?;
            let der = CertificateDer::from(ca.der());
            let anchor = webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| X509Error::malformed("ca certificate", error.to_string()))?;
            out.anchors.push(anchor.to_owned());
            out.facts
                .push(AnchorFacts { certificate: ca.clone(), issuers: Arc::from([ca.issuer_id_as_ca()]) });
        }
        Ok(out)
    }

    /// Whether no CA is believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// The CAs, in order.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.facts.iter().map(|facts| &facts.certificate)
    }

    /// What we know of the anchor that webpki ended at.
    fn facts_of(&self, anchor: &TrustAnchor<'_>) -> Option<&AnchorFacts> {
        // By address: two anchors may share name and key and differ in their dates.
        self.anchors
            .iter()
            .position(|own| std::ptr::addr_eq(std::ptr::from_ref(own), std::ptr::from_ref(anchor)))
            .and_then(|at| self.facts.get(at))
    }
}

impl fmt::Debug for ChainAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.certificates()).finish()
    }
}

/// What a chain is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// The peer is a client of ours.
    ClientAuth,
    /// The peer is a server.
    ServerAuth,
}

impl Usage {
    fn is_allowed_by(self, certificate: &Certificate) -> bool {
        !certificate.has_eku()
            || match self {
                Self::ClientAuth => certificate.allows_client_auth(),
                Self::ServerAuth => certificate.allows_server_auth(),
            }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::ClientAuth => "clientAuth",
            Self::ServerAuth => "serverAuth",
        }
    }
}

/// Why a chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// What `openssl x509 -req` without `-extfile` makes.
    #[error("certificate is X.509 v1, which has no extensions to check; expected v3")]
    VersionOne,
    /// The certificate's last second has passed.
    #[error("certificate expired {not_after}, now {now}")]
    Expired {
        /// Its last second.
        not_after: Wall,
        /// The date of the check.
        now: Wall,
    },
    /// The certificate's first second has not come.
    #[error("certificate is not valid before {not_before}, now {now}")]
    NotYetValid {
        /// Its first second.
        not_before: Wall,
        /// The date of the check.
        now: Wall,
    },
    /// No anchor, and no CA certificate that came along, bears the issuer's name.
    #[error("no known CA bears the issuer's name \"{issuer}\"")]
    UnknownIssuer {
        /// The issuer that the certificate names.
        issuer: String,
    },
    /// A CA bears the issuer's name, but its key did not sign: what a CA of the same name makes.
    #[error("the key of \"{issuer}\" did not sign this certificate")]
    BadSignature {
        /// The issuer that the certificate names.
        issuer: String,
    },
    /// The certificate is not for this use.
    #[error("certificate is not for {usage}: {detail}")]
    WrongUsage {
        /// The use that was asked for.
        usage: &'static str,
        /// What forbids it.
        detail: &'static str,
    },
    /// A CA of the chain has expired, is no CA, or may not issue for this use.
    #[error("ca of the chain is not valid: {detail}")]
    IssuerInvalid {
        /// What is wrong with it.
        detail: String,
    },
    /// The certificate cannot be read, has a weak key, or demands what we do not know.
    #[error("certificate is not acceptable: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
}

impl ChainError {
    /// The reason in the log, the metric and the event.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::VersionOne => Reason::VersionOne,
            Self::Expired { .. } => Reason::Expired,
            Self::NotYetValid { .. } => Reason::NotYetValid,
            Self::UnknownIssuer { .. } | Self::BadSignature { .. } => Reason::UnknownIssuer,
            Self::WrongUsage { .. } => Reason::WrongUsage,
            Self::IssuerInvalid { .. } => Reason::IssuerInvalid,
            Self::Malformed { .. } => Reason::Malformed,
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::IssuerInvalid { .. } => Blame::Operator,
            _ => Blame::Peer,
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.reason().code()
    }
}

/// A chain from a leaf to one of our anchors, of which every signature, date and right was checked.
#[derive(Clone, Debug)]
pub struct VerifiedChain {
    leaf: Certificate,
    issuers: Arc<[IssuerId]>,
    not_after: Wall,
}

impl VerifiedChain {
    /// The peer's own certificate.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The CA that signed the leaf.
    #[must_use]
    pub fn issuer(&self) -> IssuerId {
        // Only verify_chain makes the list, and never an empty one.
        self.issuers.first().copied().unwrap_or(IssuerId([0; 16]))
    }

    /// Every CA of the chain: the one that signed the leaf first, the anchor last.
    #[must_use]
    pub fn issuers(&self) -> &[IssuerId] {
        &self.issuers
    }

    /// The anchor at which the chain ended.
    #[must_use]
    pub fn anchor(&self) -> IssuerId {
        self.issuers.last().copied().unwrap_or(IssuerId([0; 16]))
    }

    /// The leaf, named for revocation.
    #[must_use]
    pub fn cert_ref(&self) -> CertRef {
        self.leaf.cert_ref(self.issuer())
    }

    /// The earliest last second in the chain, the anchor's included.
    #[must_use]
    pub fn not_after(&self) -> Wall {
        self.not_after
    }
}

/// Verifies the leaf up to one of the anchors, with the help of the CA certificates that came along.
///
/// A certificate without extendedKeyUsage is for every use (RFC 5280 section 4.2.1.12); a CA with one
/// limits what is below it, also where it is the anchor itself.
///
/// # Errors
/// The first thing that is wrong, by its reason.
pub fn verify_chain(
    anchors: &ChainAnchors,
    leaf_der: &[u8],
    intermediates: &[&[u8]],
    now: Wall,
    usage: Usage,
) -> Result<VerifiedChain, ChainError> {
    // 1. What the leaf says of itself.
    let leaf =
        Certificate::parse_der(leaf_der).map_err(|e| ChainError::Malformed { detail: e.to_string() })?;
    check_leaf(&leaf, now, usage)?;
    if intermediates.len() > INTERMEDIATES_MAX {
        let detail = format!("{} CA certificates came along; limit {INTERMEDIATES_MAX}", intermediates.len());
        return Err(ChainError::Malformed { detail });
    }

    // 2. Signatures, names, name constraints and critical extensions: webpki (RFC 5280 section 6.1).
    let der = CertificateDer::from(leaf_der);
    let entity = EndEntityCert::try_from(&der).map_err(|e| refused(&e, &leaf, usage))?;
    let helpers: Vec<CertificateDer<'_>> =
        intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let wanted = match usage {
        Usage::ClientAuth => KeyUsage::client_auth(),
        Usage::ServerAuth => KeyUsage::server_auth(),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.secs()).unwrap_or(0)));

    // 3. The CAs of each candidate path, by us; a path that fails leaves its reason and the next is tried.
    let found: RefCell<Result<Option<Ends>, ChainError>> = RefCell::new(Ok(None));
    let check_path = |path: &VerifiedPath<'_>| match check_issuers(anchors, path, now, usage) {
        Ok(ends) => {
            *found.borrow_mut() = Ok(Some(ends));
            Ok(())
        }
        Err(error) => {
            *found.borrow_mut() = Err(error);
            Err(webpki::Error::UnknownIssuer)
        }
    };
    let verified = entity.verify_for_usage(
        key::VERIFIERS,
        &anchors.anchors,
        &helpers,
        time,
        wanted,
        None,
        Some(&check_path),
    );
    match (verified, found.into_inner()) {
        (Ok(_), Ok(Some(ends))) => {
            let not_after = ends.not_after.min(leaf.not_after());
            Ok(VerifiedChain { leaf, issuers: ends.issuers, not_after })
        }
        (_, Err(error)) => Err(error),
        (Err(error), Ok(_)) => Err(refused(&error, &leaf, usage)),
        (Ok(_), Ok(None)) => Err(ChainError::Malformed { detail: "path was not checked".to_owned() }),
    }
}

fn check_leaf(leaf: &Certificate, now: Wall, usage: Usage) -> Result<(), ChainError> {
    let wrong = |detail| Err(ChainError::WrongUsage { usage: usage.as_str(), detail });
    if leaf.version() == 1 {
        return Err(ChainError::VersionOne);
    }
    if now.secs() > leaf.not_after().secs() {
        return Err(ChainError::Expired { not_after: leaf.not_after(), now });
    }
    if now.secs() < leaf.not_before().secs() {
        return Err(ChainError::NotYetValid { not_before: leaf.not_before(), now });
    }
    if leaf.is_ca() {
        return wrong("it is a CA's");
    }
    if !usage.is_allowed_by(leaf) {
        return wrong("extendedKeyUsage does not list it");
    }
    if !leaf.key_usage_allows(DIGITAL_SIGNATURE) {
        return wrong("keyUsage does not allow digitalSignature");
    }
    leaf.key_kind().map_err(|e| ChainError::Malformed { detail: e.to_string() })?;
    Ok(())
}

/// What a path that passed says of the chain above the leaf.
struct Ends {
    issuers: Arc<[IssuerId]>,
    not_after: Wall,
}

fn check_issuers(
    anchors: &ChainAnchors,
    path: &VerifiedPath<'_>,
    now: Wall,
    usage: Usage,
) -> Result<Ends, ChainError> {
    let invalid = |detail: &str| ChainError::IssuerInvalid { detail: detail.to_owned() };
    let anchor = anchors.facts_of(path.anchor()).ok_or_else(|| invalid("anchor is not ours"))?;
    check_ca(&anchor.certificate, now, usage)?;
    let mut not_after = anchor.certificate.not_after();
    let mut issuers = Vec::new();
    for between in path.intermediate_certificates() {
        let ca = Certificate::parse_der(&between.der()).map_err(|e| invalid(&e.to_string()))?;
        check_ca(&ca, now, usage)?;
        ca.key_kind().map_err(|e| invalid(&e.to_string()))?;
        not_after = not_after.min(ca.not_after());
        issuers.push(ca.issuer_id_as_ca());
    }
    // webpki does not know an anchor's path length (RFC 5280 section 4.2.1.9).
    if anchor.certificate.path_len().is_some_and(|len| issuers.len() > usize::from(len)) {
        let detail = format!("\"{}\" allows no CA below it at this depth", anchor.certificate.subject_text());
        return Err(ChainError::IssuerInvalid { detail });
    }
    if issuers.is_empty() {
        return Ok(Ends { issuers: Arc::clone(&anchor.issuers), not_after });
    }
    issuers.push(anchor.certificate.issuer_id_as_ca());
    Ok(Ends { issuers: issuers.into(), not_after })
}

fn check_ca(ca: &Certificate, now: Wall, usage: Usage) -> Result<(), ChainError> {
    let invalid =
        |what: String| Err(ChainError::IssuerInvalid { detail: format!("\"{}\" {what}", ca.subject_text()) });
    if now.secs() > ca.not_after().secs() {
        return invalid(format!("expired {}, now {now}", ca.not_after()));
    }
    if now.secs() < ca.not_before().secs() {
        return invalid(format!("is not valid before {}, now {now}", ca.not_before()));
    }
    if !ca.is_ca() {
        return invalid("has no CA bit".to_owned());
    }
    if !ca.key_usage_allows(KEY_CERT_SIGN) {
        return invalid("may not sign certificates".to_owned());
    }
    if !usage.is_allowed_by(ca) {
        return invalid(format!("may not issue for {}", usage.as_str()));
    }
    Ok(())
}

/// webpki's answer in our words; the leaf's own dates and rights were looked at before.
fn refused(error: &webpki::Error, leaf: &Certificate, usage: Usage) -> ChainError {
    use webpki::Error;
    match error {
        Error::UnknownIssuer => ChainError::UnknownIssuer { issuer: leaf.issuer_text() },
        Error::InvalidSignatureForPublicKey => ChainError::BadSignature { issuer: leaf.issuer_text() },
        Error::CaUsedAsEndEntity => ChainError::WrongUsage { usage: usage.as_str(), detail: "it is a CA's" },
        Error::EmptyEkuExtension => {
            ChainError::WrongUsage { usage: usage.as_str(), detail: "extendedKeyUsage is empty" }
        }
        Error::CertExpired { .. }
        | Error::CertNotValidYet { .. }
        | Error::EndEntityUsedAsCa
        | Error::PathLenConstraintViolated
        | Error::NameConstraintViolation
        | Error::RequiredEkuNotFoundContext(_)
        | Error::UnsupportedCertVersion => ChainError::IssuerInvalid { detail: format!("{error:?}") },
        other => ChainError::Malformed { detail: format!("{other:?}") },
    }
}
