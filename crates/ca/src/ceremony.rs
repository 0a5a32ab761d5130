//! Plans the root and the CAs below it, in the same steps as a leaf: plan, lint, sign, check.
//! In: names, public keys, dates, the root's certificate. Out: bytes to sign, CA certificates.
//! Invariant: a sub-CA never outlives its root and carries one usage (test: `a_sub_ca_never_outlives_its_root`).
//! Never: holds a key; the root's is needed here and nowhere else.
//! Spec: RFC 5280 sections 4.2.1.3, 4.2.1.9 and 4.2.1.12; DESIGN.md section 3, rows "sub-CAs" and "certificates".

use std::fmt;
use std::time::Duration;

use types::{CertRef, IssuerId, Now, Serial, Wall};
use x509::{CaPurpose, Certificate, Draft, KeyKind, Profile, SubjectTemplate};

use crate::dummy::dummy_signature;
use crate::error::CaError;
use crate::issuer::check_ca;
use crate::ticket::{build_linted, check_serial, lint, whole_second};

/// How far before the present a CA's notBefore lies.
pub const CA_BACKDATED: Duration = Duration::from_secs(DAY);

const DAY: u64 = 86_400;
/// A year with its share of the leap day.
const YEAR: u64 = 31_557_600;

/// How long the CAs live; chosen once, when the hierarchy is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hierarchy {
    /// Root 10 years, CAs below it 5.
    #[default]
    Standard,
    /// All 35 years, for devices whose certificates are never renewed.
    LongLife,
}

impl Hierarchy {
    /// How long the root lives.
    #[must_use]
    pub fn root_lifetime(self) -> Duration {
        match self {
            Self::Standard => Duration::from_secs(10 * YEAR),
            Self::LongLife => Duration::from_secs(35 * YEAR),
        }
    }

    /// How long a CA below the root lives, if the root does.
    #[must_use]
    pub fn sub_lifetime(self) -> Duration {
        match self {
            Self::Standard => Duration::from_secs(5 * YEAR),
            Self::LongLife => Duration::from_secs(35 * YEAR),
        }
    }
}

/// The root that is wanted.
pub struct RootWanted {
    /// Its common name.
    pub common_name: String,
    /// What stands in its subject beside the name.
    pub template: SubjectTemplate,
    /// Its public key: RSA of 4096 bits, P-256 or P-384.
    pub spki_der: Vec<u8>,
    /// Its serial.
    pub serial: Serial,
    /// How long it lives.
    pub hierarchy: Hierarchy,
}

/// The CA below a root that is wanted.
pub struct SubWanted {
    /// Its common name.
    pub common_name: String,
    /// What stands in its subject beside the name.
    pub template: SubjectTemplate,
    /// Its public key: P-256, P-384, or RSA of 3072 bits or more.
    pub spki_der: Vec<u8>,
    /// Its serial.
    pub serial: Serial,
    /// How long it lives.
    pub hierarchy: Hierarchy,
    /// What it may sign: certificates of clients, or of servers.
    pub purpose: CaPurpose,
    /// Where the root's revocation list will be.
    pub crl_url: Option<String>,
    /// Where the root's certificate will be.
    pub aia_url: Option<String>,
}

/// A CA certificate that was built and linted but not signed; good for one signature.
///
/// ```compile_fail,E0382
/// fn twice(ticket: ca::ceremony::CaTicket, signature: &[u8]) {
///     let first = ca::ceremony::finish(ticket, signature);
///     let second = ca::ceremony::finish(ticket, signature);
/// }
/// ```
/// ```compile_fail,E0308
/// fn copied(ticket: &ca::ceremony::CaTicket) -> ca::ceremony::CaTicket {
///     ticket.clone()
/// }
/// ```
pub struct CaTicket {
    tbs: Vec<u8>,
    draft: Draft,
    signer_spki: Vec<u8>,
    signer_label: String,
}

impl CaTicket {
    /// The bytes to sign: with the root's own key for a root, with the root's key for a sub-CA.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// Under which name it will be known.
    #[must_use]
    pub fn cert(&self) -> CertRef {
        CertRef { issuer: x509::issuer_id(&self.signer_spki), serial: self.draft.serial }
    }

    /// The id under which it will itself issue.
    #[must_use]
    pub fn id(&self) -> IssuerId {
        x509::issuer_id(&self.draft.spki_der)
    }

    /// Its last moment.
    #[must_use]
    pub fn not_after(&self) -> Wall {
        self.draft.not_after
    }
}

impl fmt::Debug for CaTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaTicket({})", self.cert())
    }
}

/// Plans a self-signed root.
///
/// # Errors
/// A key that a root must not have, a serial that is not ours, or bytes that fail the lint.
pub fn plan_root(wanted: RootWanted, now: Now) -> Result<CaTicket, CaError> {
    let kind = key_kind(&wanted.spki_der)?;
    if !matches!(kind, KeyKind::P256 | KeyKind::P384 | KeyKind::Rsa { bits: 4096 }) {
        let allowed = "RSA of 4096 bits, P-256, P-384";
        return Err(CaError::CaKey { role: "root", found: shown(kind), allowed });
    }
    check_serial(wanted.serial)?;
    let present = whole_second(now.wall);
    let draft = Draft {
        serial: wanted.serial,
        issuer: None,
        common_name: wanted.common_name,
        template: wanted.template,
        spki_der: wanted.spki_der,
        not_before: present.minus(CA_BACKDATED),
        not_after: present.plus(wanted.hierarchy.root_lifetime()),
        profile: Profile::Root,
        signature: kind.signature_algorithm(),
        crl_url: None,
        aia_url: None,
    };
    let tbs = build_linted(&draft, &dummy_signature(kind))?;
    let (signer_spki, signer_label) = (draft.spki_der.clone(), draft.common_name.clone());
    Ok(CaTicket { tbs, draft, signer_spki, signer_label })
}

/// Plans a CA below `root`.
///
/// # Errors
/// The root is no CA, is out of its dates or may have no CA below it; a key that a sub-CA must not
/// have; a serial that is not ours; bytes that fail the lint.
pub fn plan_sub(wanted: SubWanted, root: &Certificate, now: Now) -> Result<CaTicket, CaError> {
    let label = root.subject_text();
    check_ca(root, &label, now)?;
    if root.path_len() == Some(0) {
        return Err(CaError::NotACa { label });
    }
    let kind = key_kind(&wanted.spki_der)?;
    let strong = match kind {
        KeyKind::P256 | KeyKind::P384 => true,
        KeyKind::Rsa { bits } => bits >= 3072,
        // Small TLS stacks on devices cannot verify it.
        KeyKind::Ed25519 => false,
    };
    if !strong {
        let allowed = "P-256, P-384, RSA of 3072 or 4096 bits";
        return Err(CaError::CaKey { role: "sub-CA", found: shown(kind), allowed });
    }
    check_serial(wanted.serial)?;
    let root_kind = root.key_kind().map_err(|source| CaError::Build { source })?;
    let present = whole_second(now.wall);
    let draft = Draft {
        serial: wanted.serial,
        issuer: Some(root.clone()),
        common_name: wanted.common_name,
        template: wanted.template,
        spki_der: wanted.spki_der,
        not_before: present.minus(CA_BACKDATED).max(root.not_before()),
        not_after: present.plus(wanted.hierarchy.sub_lifetime()).min(root.not_after()),
        profile: Profile::SubCa { purpose: wanted.purpose },
        signature: root_kind.signature_algorithm(),
        crl_url: wanted.crl_url,
        aia_url: wanted.aia_url,
    };
    let tbs = build_linted(&draft, &dummy_signature(root_kind))?;
    Ok(CaTicket { tbs, draft, signer_spki: root.spki_der().to_vec(), signer_label: label })
}

/// Puts the signature to the bytes and checks the whole once more.
///
/// # Errors
/// The signature does not verify, or the bytes fail the lint.
pub fn finish(ticket: CaTicket, signature: &[u8]) -> Result<Certificate, CaError> {
    let CaTicket { tbs, draft, signer_spki, signer_label } = ticket;
    x509::verify_signature(&signer_spki, draft.signature, &tbs, signature)
        .map_err(|source| CaError::Signature { label: signer_label, source })?;
    let der = x509::assemble(&tbs, draft.signature, signature);
    lint(&der, &draft)?;
    Certificate::parse_der(&der).map_err(|source| CaError::Build { source })
}

fn key_kind(spki_der: &[u8]) -> Result<KeyKind, CaError> {
    x509::key_kind(spki_der).map_err(|source| CaError::Key { source })
}

fn shown(kind: KeyKind) -> String {
    match kind {
        KeyKind::P256 => "P-256".to_owned(),
        KeyKind::P384 => "P-384".to_owned(),
        KeyKind::Ed25519 => "Ed25519".to_owned(),
        KeyKind::Rsa { bits } => format!("RSA of {bits} bits"),
    }
}
