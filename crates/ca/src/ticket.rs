use std::fmt;
use std::time::Duration;

use types::{CertRef, Now, Principal, PrincipalKind, Serial, SpkiHash, Wall};
use x509::{Certificate, Draft, Profile, SignatureAlgorithm};

use crate::admit::{AdmittedCsr, Wanted};
use crate::dummy::dummy_signature;
use crate::error::CaError;
use crate::issuer::Issuer;

/// How far before the present a leaf's notBefore lies: a small machine's clock may be slow.
pub const BACKDATED: Duration = Duration::from_secs(10 * 60);
/// How long a leaf lives if nobody says otherwise: one year.
pub const LEAF_LIFETIME_DEFAULT: Duration = Duration::from_secs(365 * DAY);
/// How long a leaf may live outside the long-life hierarchy: four years with their leap day.
pub const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(1461 * DAY);
/// How long a leaf may live at all: as the CAs of the long-life hierarchy.
const LONG_LIFETIME_MAX: Duration = Duration::from_secs(12_784 * DAY);

const DAY: u64 = 86_400;

/// What the store writes down before anything is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The issuer and the serial.
    pub cert: CertRef,
    /// The key.
    pub spki: SpkiHash,
    /// SHA-256 of the bytes that will be signed.
    pub tbs_hash: [u8; 32],
    /// Whom it will speak for; a server is no principal.
    pub principal: Option<Principal>,
    /// Its first moment.
    pub not_before: Wall,
    /// Its last moment.
    pub not_after: Wall,
}

/// A certificate that was built and linted but not signed. Good for one signature, after it has
/// been recorded.
///
/// ```compile_fail,E0451
/// // Only `prepare` makes one.
/// let forged = ca::Ticket { tbs: vec![], draft: todo!(), intent: todo!() };
/// ```
/// ```compile_fail,E0382
/// // It is used once: recording consumes it.
/// fn twice(ticket: ca::Ticket, intent: ca::Intent) {
///     let first = ca::RecordedTicket::assertion(ticket, intent.cert, intent.tbs_hash);
///     let second = ca::RecordedTicket::assertion(ticket, intent.cert, intent.tbs_hash);
/// }
/// ```
/// ```compile_fail,E0308
/// fn copied(ticket: &ca::Ticket) -> ca::Ticket {
///     ticket.clone()
/// }
/// ```
/// ```compile_fail,E0308
/// // What was not recorded is not finished.
/// fn unrecorded(ticket: ca::Ticket, issuer: &ca::Issuer, signature: &[u8]) {
///     let _ = ca::finish(ticket, issuer, signature);
/// }
/// ```
pub struct Ticket {
    tbs: Vec<u8>,
    draft: Draft,
    intent: Intent,
}

impl Ticket {
    /// The bytes that will be signed.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// What has to be recorded first.
    #[must_use]
    pub fn intent(&self) -> Intent {
        self.intent.clone()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.intent.cert)
    }
}

/// Builds the certificate's bytes, closes them with a dummy signature, and lints them, so that the
/// real key never signs bytes that are wrong.
///
/// ```
/// // The straight line: nothing on it can be left out.
/// fn certify(
///     admitted: ca::AdmittedCsr,
///     issuer: &ca::Issuer,
///     serial: types::Serial,
///     now: types::Now,
///     record: impl FnOnce(&ca::Intent) -> (types::CertRef, [u8; 32]),
///     sign: impl FnOnce(&[u8]) -> Vec<u8>,
/// ) -> Result<x509::Certificate, ca::CaError> {
///     let ticket = ca::prepare(admitted, issuer, serial, ca::LEAF_LIFETIME_DEFAULT, now)?;
///     let (cert, tbs_hash) = record(&ticket.intent());
///     let recorded = ca::RecordedTicket::assertion(ticket, cert, tbs_hash)?;
///     let signature = sign(recorded.tbs());
///     ca::finish(recorded, issuer, &signature)
/// }
/// ```
///
/// # Errors
/// The issuer does not sign for this kind or is out of its dates, the lifetime is outside the
/// limits, or the bytes fail the lint.
pub fn prepare(
    admitted: AdmittedCsr,
    issuer: &Issuer,
    serial: Serial,
    lifetime: Duration,
    now: Now,
) -> Result<Ticket, CaError> {
    // 1. The right CA, and a living one.
    check_issuer(&admitted.wanted, issuer)?;
    issuer.check_usable(now)?;
    // 2. The dates: whole seconds, a little back, never past the issuer.
    check_lifetime(lifetime, issuer)?;
    let (not_before, not_after) = dates(issuer, lifetime, now);
    // 3. The serial has the shape that the revocation lists count on.
    check_serial(serial)?;
    // 4. Build, close with a constant that is no signature, lint.
    let issuer_kind = issuer.certificate.key_kind().map_err(|source| CaError::Build { source })?;
    let (profile, common_name) = profile(&admitted.wanted);
    let draft = Draft {
        serial,
        issuer: Some(issuer.certificate.clone()),
        common_name,
        template: issuer.template.clone(),
        spki_der: admitted.spki_der,
        not_before,
        not_after,
        profile,
        signature: issuer_kind.signature_algorithm(),
        crl_url: issuer.crl_url.clone(),
        aia_url: issuer.aia_url.clone(),
    };
    let tbs = build_linted(&draft, &dummy_signature(issuer_kind))?;
    let intent = Intent {
        cert: CertRef { issuer: issuer.id(), serial },
        spki: x509::spki_hash(&draft.spki_der),
        tbs_hash: x509::sha256(&tbs),
        principal: admitted.wanted.principal(),
        not_before,
        not_after,
    };
    Ok(Ticket { tbs, draft, intent })
}

/// A ticket of which the store has said that it is on the disk. The signature may be made now.
///
/// ```compile_fail,E0451
/// let forged = ca::RecordedTicket { tbs: vec![], origin: todo!(), cert: todo!() };
/// ```
/// ```compile_fail,E0382
/// fn twice(recorded: ca::RecordedTicket, issuer: &ca::Issuer, signature: &[u8]) {
///     let first = ca::finish(recorded, issuer, signature);
///     let second = ca::finish(recorded, issuer, signature);
/// }
/// ```
pub struct RecordedTicket {
    tbs: Vec<u8>,
    origin: Origin,
    cert: CertRef,
}

enum Origin {
    /// Prepared in this run: the draft is still there to lint against.
    Prepared(Box<Draft>),
    /// Read back from the store after a crash: the bytes were linted before they were recorded.
    Recovered,
}

impl RecordedTicket {
    /// Vouches that `recorded` and `recorded_tbs_hash` are what the store's receipt says.
    ///
    /// # Errors
    /// The store recorded something else.
    pub fn assertion(
        ticket: Ticket,
        recorded: CertRef,
        recorded_tbs_hash: [u8; 32],
    ) -> Result<Self, CaError> {
        if recorded != ticket.intent.cert {
            return Err(CaError::RecordDiffers { what: "issuer and serial" });
        }
        if recorded_tbs_hash != ticket.intent.tbs_hash {
            return Err(CaError::RecordDiffers { what: "bytes to be signed" });
        }
        let Ticket { tbs, draft, intent } = ticket;
        Ok(Self { tbs, origin: Origin::Prepared(Box::new(draft)), cert: intent.cert })
    }

    /// Vouches that these bytes are an intent that the store recorded before a crash, for which
    /// no certificate was recorded. Signing it again gives the same certificate but for the
    /// signature's own randomness.
    ///
    /// # Errors
    /// The bytes are not those whose hash was recorded, or carry another serial.
    pub fn assertion_recovered(
        tbs: Vec<u8>,
        recorded: CertRef,
        recorded_tbs_hash: [u8; 32],
    ) -> Result<Self, CaError> {
        if x509::sha256(&tbs) != recorded_tbs_hash {
            return Err(CaError::RecordDiffers { what: "bytes to be signed" });
        }
        Ok(Self { tbs, origin: Origin::Recovered, cert: recorded })
    }

    /// The bytes to sign.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }
}

impl fmt::Debug for RecordedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordedTicket({})", self.cert)
    }
}

/// Puts the signature to the bytes and checks the whole once more: what leaves here is what was
/// recorded, signed by the issuer's key.
///
/// # Errors
/// Another issuer's ticket, a signature that does not verify, or bytes that fail the lint.
pub fn finish(recorded: RecordedTicket, issuer: &Issuer, signature: &[u8]) -> Result<Certificate, CaError> {
    let RecordedTicket { tbs, origin, cert } = recorded;
    if cert.issuer != issuer.id() {
        return Err(CaError::OtherIssuer { wanted: cert.issuer, found: issuer.id() });
    }
    let algorithm = algorithm_of(&issuer.certificate)?;
    x509::verify_signature(issuer.certificate.spki_der(), algorithm, &tbs, signature)
        .map_err(|source| CaError::Signature { label: issuer.label.clone(), source })?;
    let der = x509::assemble(&tbs, algorithm, signature);
    let certificate = Certificate::parse_der(&der).map_err(|source| CaError::Build { source })?;
    match origin {
        Origin::Prepared(draft) => lint(&der, &draft)?,
        Origin::Recovered => check_recovered(&certificate, issuer)?,
    }
    if certificate.tbs_der() != tbs {
        return Err(CaError::RecordDiffers { what: "bytes to be signed" });
    }
    if certificate.serial() != cert.serial {
        return Err(CaError::RecordDiffers { what: "serial" });
    }
    Ok(certificate)
}

/// The draft is gone, but the few things that would make a leaf dangerous can be read off it.
fn check_recovered(certificate: &Certificate, issuer: &Issuer) -> Result<(), CaError> {
    if certificate.is_ca() {
        return Err(CaError::RecordDiffers { what: "CA bit" });
    }
    if certificate.issuer_der() != issuer.certificate.subject_der() {
        return Err(CaError::RecordDiffers { what: "issuer's name" });
    }
    if certificate.not_after() > issuer.certificate.not_after() {
        return Err(CaError::RecordDiffers { what: "last moment" });
    }
    Ok(())
}

pub(crate) fn algorithm_of(certificate: &Certificate) -> Result<SignatureAlgorithm, CaError> {
    let kind = certificate.key_kind().map_err(|source| CaError::Build { source })?;
    Ok(kind.signature_algorithm())
}

pub(crate) fn build_linted(draft: &Draft, dummy: &[u8]) -> Result<Vec<u8>, CaError> {
    let tbs = x509::build_tbs(draft).map_err(|source| CaError::Build { source })?;
    lint(&x509::assemble(&tbs, draft.signature, dummy), draft)?;
    Ok(tbs)
}

pub(crate) fn lint(der: &[u8], draft: &Draft) -> Result<(), CaError> {
    x509::lint(der, draft).map_err(|findings| {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        CaError::Lint { findings: findings.join("; ") }
    })
}

pub(crate) fn check_serial(serial: Serial) -> Result<(), CaError> {
    match serial.as_bytes() {
        [first, rest @ ..] if rest.len() == 19 && *first < 0x80 => Ok(()),
        bytes => Err(CaError::Serial { serial: serial.to_string(), bytes: bytes.len() }),
    }
}

/// Dates in certificates have whole seconds.
pub(crate) fn whole_second(wall: Wall) -> Wall {
    Wall::from_secs(wall.secs())
}

fn check_issuer(wanted: &Wanted, issuer: &Issuer) -> Result<(), CaError> {
    let signs = match wanted {
        Wanted::Device { .. } => issuer.kinds.contains(&PrincipalKind::Device),
        Wanted::Service { .. } => issuer.kinds.contains(&PrincipalKind::Service),
        Wanted::Operator { .. } => issuer.kinds.contains(&PrincipalKind::Operator),
        Wanted::Server { .. } => issuer.servers,
    };
    if signs {
        Ok(())
    } else {
        Err(CaError::WrongIssuer { label: issuer.label.clone(), wanted: wanted.to_string() })
    }
}

fn check_lifetime(lifetime: Duration, issuer: &Issuer) -> Result<(), CaError> {
    let limit = if issuer.is_long_life() { LONG_LIFETIME_MAX } else { LEAF_LIFETIME_MAX };
    if lifetime < Duration::from_secs(1) || lifetime > limit {
        return Err(CaError::Lifetime {
            asked_days: lifetime.as_secs().div_ceil(DAY),
            limit_days: limit.as_secs() / DAY,
            label: issuer.label.clone(),
        });
    }
    Ok(())
}

fn dates(issuer: &Issuer, lifetime: Duration, now: Now) -> (Wall, Wall) {
    let present = whole_second(now.wall);
    let not_before = present.minus(BACKDATED).max(issuer.certificate.not_before());
    let not_after = present.plus(lifetime).min(issuer.certificate.not_after());
    (not_before, not_after)
}

fn profile(wanted: &Wanted) -> (Profile, String) {
    match wanted.clone() {
        Wanted::Device { id } => (Profile::Device { id: id.clone() }, id.to_string()),
        Wanted::Service { name } => (Profile::Service { name: name.clone() }, name.to_string()),
        Wanted::Operator { name } => (Profile::Operator { name: name.clone() }, name.to_string()),
        Wanted::Server { name, dns, ips } => (Profile::Server { dns, ips }, name),
    }
}
