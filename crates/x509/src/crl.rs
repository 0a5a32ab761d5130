//! Writes and reads revocation lists.
//! In: a head and entries, or DER. Out: DER to be signed, or `Crl`.
//! Invariant: a list that we read is full, numbered and dated; delta, indirect and partial ones are refused.
//! Never: signs, or decides what is revoked.
//! Spec: RFC 5280 section 5.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use types::{Serial, Wall};

use crate::certificate::{CRL_SIGN, Certificate};
use crate::draft::push_raw_extension;
use crate::error::X509Error;
use crate::key::{self, SignatureAlgorithm};
use crate::tlv::{self, Reader};
use crate::{date, name, oid, pem};

const WHAT: &str = "crl";

/// Why a certificate was revoked (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CrlReason {
    /// No reason was given.
    #[default]
    Unspecified = 0,
    /// The private key is or may be known to somebody else.
    KeyCompromise = 1,
    /// The private key of the CA is or may be known to somebody else.
    CaCompromise = 2,
    /// The subject's name or affiliation changed.
    AffiliationChanged = 3,
    /// Another certificate took its place.
    Superseded = 4,
    /// It is no longer needed.
    CessationOfOperation = 5,
    /// It is suspended and may come back.
    CertificateHold = 6,
}

impl CrlReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
    ];

    /// The code that stands in the list.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
        }
    }

    /// The reason of this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The word in RFC 5280's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
        }
    }

    /// The reason of this word, in any case of its letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for CrlReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlEntry {
    /// Its serial under the issuer of the list.
    pub serial: Serial,
    /// Since when.
    pub revoked_at: Wall,
    /// Why.
    pub reason: CrlReason,
}

/// What a list says beside its entries.
#[derive(Clone, Debug)]
pub struct CrlHead<'a> {
    /// The CA that signs it.
    pub issuer: &'a Certificate,
    /// Its number, which only ever grows.
    pub number: u64,
    /// When it was made.
    pub this_update: Wall,
    /// By when the next one is there.
    pub next_update: Wall,
    /// How the issuer will sign.
    pub signature: SignatureAlgorithm,
}

/// The TBSCertList: what the issuer's key will sign.
///
/// The authority key identifier is the issuer's own subject key identifier (RFC 5280 section 5.2.1),
/// never the issuer's authority key identifier, which would point to the root.
#[must_use]
pub fn build_crl_tbs(head: &CrlHead<'_>, entries: impl ExactSizeIterator<Item = CrlEntry>) -> Vec<u8> {
    // Serial 23, date 15, reason 14 bytes and the heads between them.
    const ENTRY_BYTES: usize = 56;
    let mut revoked = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        push_entry(&mut revoked, &entry);
    }
    let algorithm = head.signature.identifier_der();
    let dates = [date::element(head.this_update), date::element(head.next_update)].concat();
    let extensions = list_extensions(head);
    let issuer = head.issuer.subject_der();
    const VERSION_2: [u8; 3] = [tlv::INTEGER, 1, 1];
    // RFC 5280 section 5.1.2.6: without entries the list is absent, not empty.
    let listed = if revoked.is_empty() { 0 } else { tlv::element_len(revoked.len()) };
    let len = VERSION_2.len() + algorithm.len() + issuer.len() + dates.len() + listed + extensions.len();
    let mut out = Vec::with_capacity(tlv::element_len(len));
    tlv::push_head(&mut out, tlv::SEQUENCE, len);
    for part in [&VERSION_2[..], &algorithm, issuer, &dates] {
        out.extend_from_slice(part);
    }
    if !revoked.is_empty() {
        tlv::push(&mut out, tlv::SEQUENCE, &revoked);
    }
    out.extend_from_slice(&extensions);
    out
}

fn push_entry(out: &mut Vec<u8>, entry: &CrlEntry) {
    // The entry is short: its length is one byte, written when the content is there.
    out.extend_from_slice(&[tlv::SEQUENCE, 0]);
    let start = out.len();
    tlv::push_unsigned(out, entry.serial.as_bytes());
    date::push(out, entry.revoked_at);
    // RFC 5280 section 5.3.1: absent rather than unspecified.
    if entry.reason != CrlReason::Unspecified {
        out.extend_from_slice(&[tlv::SEQUENCE, 12, tlv::SEQUENCE, 10, tlv::OID, 3]);
        out.extend_from_slice(oid::REASON_CODE);
        out.extend_from_slice(&[tlv::OCTET_STRING, 3, tlv::ENUMERATED, 1, entry.reason.code()]);
    }
    // At most 23 + 17 + 14 bytes.
    out[start - 1] = u8::try_from(out.len() - start).unwrap_or(0);
}

fn list_extensions(head: &CrlHead<'_>) -> Vec<u8> {
    let mut list = Vec::with_capacity(64);
    // Only a key that cannot be read has no identifier, and such a key can sign nothing either.
    if let Ok(identifier) = head.issuer.signing_key_identifier() {
        let identifier = tlv::element(tlv::implicit(0), &[&identifier]);
        push_raw_extension(
            &mut list,
            oid::AUTHORITY_KEY_ID,
            false,
            &tlv::element(tlv::SEQUENCE, &[&identifier]),
        );
    }
    let mut number = Vec::with_capacity(11);
    tlv::push_unsigned(&mut number, &head.number.to_be_bytes());
    push_raw_extension(&mut list, oid::CRL_NUMBER, false, &number);
    let list = tlv::element(tlv::SEQUENCE, &[&list]);
    tlv::element(tlv::explicit(0), &[&list])
}

/// A revocation list, parsed; who signed it is known only after [`Crl::verify`].
#[derive(Clone)]
pub struct Crl(Arc<Inner>);

struct Inner {
    der: Box<[u8]>,
    tbs: Range<usize>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
    issuer: Range<usize>,
    revoked: Range<usize>,
    count: usize,
    number: u64,
    this_update: Wall,
    next_update: Wall,
    aki: Option<Vec<u8>>,
}

impl Crl {
    /// Reads one full list, which must fill the bytes.
    ///
    /// # Errors
    /// What is malformed; a list without number or nextUpdate; a delta, indirect or partial list, whose
    /// critical extensions we would have to follow.
    pub fn parse_der(der: &[u8]) -> Result<Self, X509Error> {
        let malformed = |detail: &str| X509Error::malformed(WHAT, detail);
        let at = |part: &[u8]| tlv::place(der, part).ok_or_else(|| malformed("field outside of it"));
        let mut outer = tlv::only(WHAT, tlv::SEQUENCE, der)?;
        let tbs = outer.expect(tlv::SEQUENCE)?;
        let algorithm = outer.expect(tlv::SEQUENCE)?.content;
        let signature = tlv::whole_bits(WHAT, outer.expect(tlv::BIT_STRING)?.content)?;
        outer.finish()?;

        let mut list = Reader::new(WHAT, tbs.content);
        if list.expect(tlv::INTEGER)?.content != [1] {
            return Err(malformed("version is not 2"));
        }
        if list.expect(tlv::SEQUENCE)?.content != algorithm {
            return Err(malformed("the two signature algorithms differ"));
        }
        let issuer = list.expect(tlv::SEQUENCE)?.whole;
        name::attributes(WHAT, issuer, |_| {})?;
        let this_update = date::read(WHAT, list.any()?)?;
        let next_update = match list.peek() {
            Some(tlv::UTC_TIME | tlv::GENERALIZED_TIME) => date::read(WHAT, list.any()?)?,
            _ => return Err(malformed("nextUpdate is missing")),
        };
        let revoked = list.optional(tlv::SEQUENCE)?.map_or(&[][..], |revoked| revoked.content);
        let mut entries = Entries(Reader::new(WHAT, revoked));
        let count = entries.try_fold(0, |count, entry| entry.map(|_| count + 1))?;
        let mut number = None;
        let mut aki = None;
        let mut wrapped = list.enter(tlv::explicit(0))?;
        let mut extensions = wrapped.enter(tlv::SEQUENCE)?;
        while !extensions.is_empty() {
            let (id, critical, value) = extension(&mut extensions)?;
            match id {
                oid::CRL_NUMBER => number = Some(crl_number(value)?),
                oid::AUTHORITY_KEY_ID => {
                    let mut identifier = tlv::only(WHAT, tlv::SEQUENCE, value)?;
                    aki = identifier.optional(tlv::implicit(0))?.map(|key| key.content.to_vec());
                }
                other if critical => {
                    let detail = format!("unknown critical extension {}", oid::dotted(other));
                    return Err(X509Error::Malformed { what: WHAT, detail });
                }
                _ => {}
            }
        }
        wrapped.finish()?;
        list.finish()?;
        Ok(Self(Arc::new(Inner {
            tbs: at(tbs.whole)?,
            signature_algorithm: at(algorithm)?,
            signature: at(signature)?,
            issuer: at(issuer)?,
            revoked: if revoked.is_empty() { 0..0 } else { at(revoked)? },
            count,
            number: number.ok_or_else(|| malformed("number is missing"))?,
            this_update,
            next_update,
            aki,
            der: der.into(),
        })))
    }

    /// Reads the one PEM block of the text.
    ///
    /// # Errors
    /// As [`Crl::parse_der`]; several blocks, or one of another kind.
    pub fn parse_pem(text: &str) -> Result<Self, X509Error> {
        Self::parse_der(&pem::single(text, &["X509 CRL"])?)
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.0.der.get(range.clone()).unwrap_or_default()
    }

    /// The bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The bytes as a PEM block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("X509 CRL", self.der())
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> Wall {
        self.0.this_update
    }

    /// By when the next one is there.
    #[must_use]
    pub fn next_update(&self) -> Wall {
        self.0.next_update
    }

    /// The issuer's name, as it stands.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.0.issuer)
    }

    /// The key identifier of the CA that says it signed.
    #[must_use]
    pub fn aki(&self) -> Option<&[u8]> {
        self.0.aki.as_deref()
    }

    /// How many certificates it revokes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Whether it revokes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Every entry in order.
    pub fn entries(&self) -> impl Iterator<Item = CrlEntry> {
        // Every entry was read once when the list was parsed.
        Entries(Reader::new(WHAT, self.part(&self.0.revoked))).map_while(Result::ok)
    }

    /// Every serial with its reason, in order; reasons that we never give count as unspecified.
    #[must_use]
    pub fn serials(&self) -> Vec<(Serial, CrlReason)> {
        self.entries().map(|entry| (entry.serial, entry.reason)).collect()
    }

    /// Verifies that this CA signed the list and may sign lists; its dates are the caller's to check.
    ///
    /// # Errors
    /// Another issuer, a CA without cRLSign, or a wrong signature.
    pub fn verify(&self, issuer: &Certificate) -> Result<(), X509Error> {
        let not = |detail| Err(X509Error::NotACa { subject: issuer.subject_text(), detail });
        if self.issuer_der() != issuer.subject_der() {
            let (named, found) = (name::text(self.issuer_der()), issuer.subject_text());
            return Err(X509Error::malformed(WHAT, format!("issuer \"{named}\" is not \"{found}\"")));
        }
        if !issuer.is_ca() {
            return not("basicConstraints does not say CA:TRUE");
        }
        if !issuer.key_usage_allows(CRL_SIGN) {
            return not("keyUsage does not allow cRLSign");
        }
        if let (Some(aki), Some(ski)) = (self.aki(), issuer.ski())
            && aki != ski
        {
            return Err(X509Error::malformed(WHAT, "authority key identifier is not the issuer's"));
        }
        let algorithm = self.part(&self.0.signature_algorithm);
        key::verify_as(
            WHAT,
            issuer.spki_der(),
            algorithm,
            self.part(&self.0.tbs),
            self.part(&self.0.signature),
        )
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crl({} of {}, {} entries)", self.number(), name::text(self.issuer_der()), self.len())
    }
}

/// One Extension: identifier, whether it is critical, value.
fn extension<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], bool, &'a [u8]), X509Error> {
    let mut extension = reader.enter(tlv::SEQUENCE)?;
    let id = extension.expect(tlv::OID)?.content;
    let critical = extension.optional(tlv::BOOLEAN)?.is_some_and(|flag| flag.content != [0]);
    let value = extension.expect(tlv::OCTET_STRING)?.content;
    extension.finish()?;
    Ok((id, critical, value))
}

fn crl_number(value: &[u8]) -> Result<u64, X509Error> {
    let mut reader = Reader::new(WHAT, value);
    let digits = reader.expect(tlv::INTEGER)?.content;
    reader.finish()?;
    let wrong = || X509Error::malformed(WHAT, "number is negative or above 64 bits");
    if digits.first().is_none_or(|first| first & 0x80 != 0) {
        return Err(wrong());
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        number.checked_mul(256).map(|shifted| shifted | u64::from(digit)).ok_or_else(wrong)
    })
}

struct Entries<'a>(Reader<'a>);

impl Entries<'_> {
    fn read(&mut self) -> Result<CrlEntry, X509Error> {
        let mut entry = self.0.enter(tlv::SEQUENCE)?;
        let serial = entry.expect(tlv::INTEGER)?.content;
        let serial = Serial::from_der_integer(serial);
        let serial = serial.ok_or_else(|| X509Error::malformed(WHAT, "serial is zero"))?;
        let revoked_at = date::read(WHAT, entry.any()?)?;
        let mut reason = CrlReason::Unspecified;
        if let Some(list) = entry.optional(tlv::SEQUENCE)? {
            let mut extensions = Reader::new(WHAT, list.content);
            while !extensions.is_empty() {
                let (id, critical, value) = extension(&mut extensions)?;
                if id == oid::REASON_CODE {
                    let mut code = Reader::new(WHAT, value);
                    let digits = code.expect(tlv::ENUMERATED)?.content;
                    reason = digits.first().and_then(|code| CrlReason::from_code(*code)).unwrap_or_default();
                } else if critical {
                    let detail = format!("unknown critical extension {} of an entry", oid::dotted(id));
                    return Err(X509Error::Malformed { what: WHAT, detail });
                }
            }
        }
        entry.finish()?;
        Ok(CrlEntry { serial, revoked_at, reason })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<CrlEntry, X509Error>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.read())
    }
}
