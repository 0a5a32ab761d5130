//! Reads certificates and answers what they say.
//! In: DER or PEM. Out: `Certificate`, parsed once, shared by reference count.
//! Invariant: every part is a slice of the bytes that came; nothing is re-encoded.
//! Never: says that a certificate is to be believed; that is `chain`'s.
//! Spec: RFC 5280 section 4.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use types::{CertRef, DerHash, IssuerId, Serial, SpkiHash, Wall};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser;

use crate::error::X509Error;
use crate::key::{self, KeyKind};
use crate::tlv::{self, Reader};
use crate::{name, oid, pem};

/// The longest certificate that we read, in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

const WHAT: &str = "certificate";

/// A certificate, parsed once and cheap to clone. That it parses says nothing about who signed it.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Box<[u8]>,
    tbs: Range<usize>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    spki: Range<usize>,
    serial: Serial,
    version: u8,
    not_before: Wall,
    not_after: Wall,
    extensions: Extensions,
    der_hash: OnceLock<DerHash>,
    spki_hash: OnceLock<SpkiHash>,
}

/// What the extensions say that every decision asks for; the others are kept as places and read on demand.
#[derive(Default)]
struct Extensions {
    ca: bool,
    path_len: Option<u8>,
    key_usage: Option<u16>,
    usages: Option<Usages>,
    ski: Option<Range<usize>>,
    aki: Option<Range<usize>>,
    san: Option<Range<usize>>,
    crl_points: Option<Range<usize>>,
    access: Option<Range<usize>>,
}

#[derive(Clone, Copy, Default)]
struct Usages {
    client_auth: bool,
    server_auth: bool,
}

/// Bits of the keyUsage extension, most significant first (RFC 5280 section 4.2.1.3).
pub(crate) const DIGITAL_SIGNATURE: u16 = 0x8000;
pub(crate) const KEY_CERT_SIGN: u16 = 0x0400;
pub(crate) const CRL_SIGN: u16 = 0x0200;

impl Certificate {
    /// Reads one certificate, which must fill the bytes.
    ///
    /// # Errors
    /// What is malformed, stray bytes behind it, or a repeated extension.
    pub fn parse_der(der: &[u8]) -> Result<Self, X509Error> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(X509Error::TooLarge { what: WHAT, len: der.len(), max: CERTIFICATE_BYTES_MAX });
        }
        let mut outer = tlv::only(WHAT, tlv::SEQUENCE, der)?;
        let tbs = outer.expect(tlv::SEQUENCE)?.whole;
        let signature_algorithm = outer.expect(tlv::SEQUENCE)?.content;
        let signature = tlv::whole_bits(WHAT, outer.expect(tlv::BIT_STRING)?.content)?;
        outer.finish()?;

        let malformed = |detail: &str| X509Error::malformed(WHAT, detail);
        let (rest, parsed) = X509CertificateParser::new()
            .with_deep_parse_extensions(false)
            .parse(der)
            .map_err(|error| malformed(&format!("{error}")))?;
        if !rest.is_empty() {
            return Err(X509Error::Trailing { what: WHAT, len: rest.len() });
        }
        if parsed.signature != parsed.signature_algorithm {
            return Err(malformed("the two signature algorithms differ"));
        }
        let at = |part: &[u8]| tlv::place(der, part).ok_or_else(|| malformed("field outside of it"));
        let serial =
            Serial::from_der_integer(parsed.raw_serial()).ok_or_else(|| malformed("serial is zero"))?;
        for raw in [parsed.issuer.as_raw(), parsed.subject.as_raw()] {
            name::attributes(WHAT, raw, |_| {})?;
        }
        let version = u8::try_from(parsed.version.0).ok().and_then(|v| v.checked_add(1));
        let version = version.filter(|v| (1..=3).contains(v)).ok_or_else(|| malformed("version"))?;
        let mut extensions = Extensions::default();
        let mut seen: Vec<&[u8]> = Vec::with_capacity(12);
        for extension in parsed.extensions() {
            let id = extension.oid.as_bytes();
            if seen.contains(&id) {
                return Err(malformed(&format!("extension {} stands twice", oid::dotted(id))));
            }
            seen.push(id);
            extensions.take(id, extension.value, der)?;
        }
        Ok(Self(Arc::new(Inner {
            tbs: at(tbs)?,
            signature_algorithm: at(signature_algorithm)?,
            signature: at(signature)?,
            issuer: at(parsed.issuer.as_raw())?,
            subject: at(parsed.subject.as_raw())?,
            spki: at(parsed.subject_pki.raw)?,
            serial,
            version,
            not_before: Wall::from_secs(parsed.validity.not_before.timestamp()),
            not_after: Wall::from_secs(parsed.validity.not_after.timestamp()),
            extensions,
            der_hash: OnceLock::new(),
            spki_hash: OnceLock::new(),
            der: der.into(),
        })))
    }

    /// Reads the one PEM block of the text.
    ///
    /// # Errors
    /// As [`Certificate::parse_der`]; several blocks, or one of another kind.
    pub fn parse_pem(text: &str) -> Result<Self, X509Error> {
        Self::parse_der(&pem::single(text, &["CERTIFICATE", "X509 CERTIFICATE"])?)
    }

    /// Reads every certificate of the text in order; blocks of other kinds are skipped.
    ///
    /// # Errors
    /// As [`Certificate::parse_der`]; a text without any certificate.
    pub fn parse_pem_chain(text: &str) -> Result<Vec<Self>, X509Error> {
        let blocks = pem::decode(text)?;
        let certificates =
            blocks.iter().filter(|(label, _)| label == "CERTIFICATE" || label == "X509 CERTIFICATE");
        let chain = certificates.map(|(_, der)| Self::parse_der(der)).collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() {
            return Err(X509Error::Pem { detail: "no block \"CERTIFICATE\"".to_owned() });
        }
        Ok(chain)
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
        pem::encode("CERTIFICATE", self.der())
    }

    /// The fingerprint under which the ledger knows it.
    #[must_use]
    pub fn der_hash(&self) -> DerHash {
        *self.0.der_hash.get_or_init(|| DerHash(key::sha256(self.der())))
    }

    /// The to-be-signed part, as it stands.
    #[must_use]
    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.0.tbs)
    }

    /// The bits of the signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.part(&self.0.signature)
    }

    /// The SubjectPublicKeyInfo, as it stands.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        self.part(&self.0.spki)
    }

    /// The name of its key.
    #[must_use]
    pub fn spki_hash(&self) -> SpkiHash {
        *self.0.spki_hash.get_or_init(|| key::spki_hash(self.spki_der()))
    }

    /// The name under which it signs, if it is a CA's: from its own key.
    #[must_use]
    pub fn issuer_id_as_ca(&self) -> IssuerId {
        let mut out = [0; 16];
        out.copy_from_slice(&self.spki_hash().0[..16]);
        IssuerId(out)
    }

    /// Its reference under the CA that signed it.
    #[must_use]
    pub fn cert_ref(&self, issuer: IssuerId) -> CertRef {
        CertRef { issuer, serial: self.serial() }
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.0.serial
    }

    /// 1, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.0.version
    }

    /// Every common name of the subject, in order; one that is no text holds U+FFFD.
    #[must_use]
    pub fn common_names(&self) -> Vec<String> {
        name::values(self.subject_der(), oid::COMMON_NAME)
    }

    /// Every serialNumber attribute of the subject, in order; one that is no text holds U+FFFD.
    #[must_use]
    pub fn subject_serial_numbers(&self) -> Vec<String> {
        name::values(self.subject_der(), oid::SUBJECT_SERIAL_NUMBER)
    }

    /// The subject for logs and people, escaped and clipped: `C=DE, O=Acme, CN=pump-7`.
    #[must_use]
    pub fn subject_text(&self) -> String {
        name::text(self.subject_der())
    }

    /// The issuer for logs and people, escaped and clipped.
    #[must_use]
    pub fn issuer_text(&self) -> String {
        name::text(self.issuer_der())
    }

    /// The subject's name, as it stands.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        self.part(&self.0.subject)
    }

    /// The issuer's name, as it stands.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.0.issuer)
    }

    /// The first second of its validity.
    #[must_use]
    pub fn not_before(&self) -> Wall {
        self.0.not_before
    }

    /// The last second of its validity, which still belongs to it.
    #[must_use]
    pub fn not_after(&self) -> Wall {
        self.0.not_after
    }

    /// Whether basicConstraints says that it is a CA's.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.extensions.ca
    }

    /// How many CAs may follow below it.
    #[must_use]
    pub fn path_len(&self) -> Option<u8> {
        self.0.extensions.path_len
    }

    /// Whether extendedKeyUsage is there.
    #[must_use]
    pub fn has_eku(&self) -> bool {
        self.0.extensions.usages.is_some()
    }

    /// Whether extendedKeyUsage is there and lists clientAuth.
    #[must_use]
    pub fn allows_client_auth(&self) -> bool {
        self.0.extensions.usages.is_some_and(|usages| usages.client_auth)
    }

    /// Whether extendedKeyUsage is there and lists serverAuth.
    #[must_use]
    pub fn allows_server_auth(&self) -> bool {
        self.0.extensions.usages.is_some_and(|usages| usages.server_auth)
    }

    /// Whether keyUsage is absent or allows all of these bits.
    pub(crate) fn key_usage_allows(&self, bits: u16) -> bool {
        self.0.extensions.key_usage.is_none_or(|usage| usage & bits == bits)
    }

    fn alternative_names(&self, tag: u8) -> Vec<&[u8]> {
        self.0.extensions.san.as_ref().map(|san| general_names(self.part(san), tag)).unwrap_or_default()
    }

    /// The DNS names of the subjectAltName.
    #[must_use]
    pub fn san_dns(&self) -> Vec<String> {
        self.alternative_names(tlv::implicit(2)).into_iter().map(lossy).collect()
    }

    /// The IP addresses of the subjectAltName.
    #[must_use]
    pub fn san_ips(&self) -> Vec<IpAddr> {
        let address = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        };
        self.alternative_names(tlv::implicit(7)).into_iter().filter_map(address).collect()
    }

    /// The URIs of the subjectAltName.
    #[must_use]
    pub fn san_uris(&self) -> Vec<String> {
        self.alternative_names(tlv::implicit(6)).into_iter().map(lossy).collect()
    }

    /// Where the CRLs lie that would name it.
    #[must_use]
    pub fn crl_urls(&self) -> Vec<String> {
        let Some(range) = &self.0.extensions.crl_points else { return Vec::new() };
        let mut urls = Vec::new();
        let Ok(mut points) = tlv::only(WHAT, tlv::SEQUENCE, self.part(range)) else { return urls };
        while let Ok(mut point) = points.enter(tlv::SEQUENCE) {
            let full = point.enter(tlv::explicit(0)).and_then(|mut name| name.expect(tlv::explicit(0)));
            if let Ok(full) = full {
                urls.extend(names_in(full.content, tlv::implicit(6)).into_iter().map(lossy));
            }
        }
        urls
    }

    /// Where its issuer's certificate lies.
    #[must_use]
    pub fn aia_urls(&self) -> Vec<String> {
        let Some(range) = &self.0.extensions.access else { return Vec::new() };
        let mut urls = Vec::new();
        let Ok(mut entries) = tlv::only(WHAT, tlv::SEQUENCE, self.part(range)) else { return urls };
        while let Ok(mut entry) = entries.enter(tlv::SEQUENCE) {
            let method = entry.expect(tlv::OID).map(|id| id.content);
            if let (Ok(oid::CA_ISSUERS), Ok(place)) = (method, entry.expect(tlv::implicit(6))) {
                urls.push(lossy(place.content));
            }
        }
        urls
    }

    /// The subject's key identifier.
    #[must_use]
    pub fn ski(&self) -> Option<Vec<u8>> {
        self.0.extensions.ski.as_ref().map(|range| self.part(range).to_vec())
    }

    /// The issuer's key identifier.
    #[must_use]
    pub fn aki(&self) -> Option<Vec<u8>> {
        self.0.extensions.aki.as_ref().map(|range| self.part(range).to_vec())
    }

    /// The key identifier that its own signatures name: its SKI, or the one of RFC 7093 if it has none.
    pub(crate) fn signing_key_identifier(&self) -> Result<Vec<u8>, X509Error> {
        match self.ski() {
            Some(ski) => Ok(ski),
            None => key::key_identifier(self.spki_der()).map(Vec::from),
        }
    }

    /// What kind of key it binds.
    ///
    /// # Errors
    /// As [`crate::key_kind`].
    pub fn key_kind(&self) -> Result<KeyKind, X509Error> {
        key::key_kind(self.spki_der())
    }

    /// Verifies that `issuer`'s key signed it and that the names agree; dates and rights are not looked at.
    ///
    /// # Errors
    /// The names differ, the algorithm is not accepted, or the signature is wrong.
    pub fn verify_signed_by(&self, issuer: &Self) -> Result<(), X509Error> {
        if self.issuer_der() != issuer.subject_der() {
            let detail = format!("issuer \"{}\" is not \"{}\"", self.issuer_text(), issuer.subject_text());
            return Err(X509Error::Malformed { what: WHAT, detail });
        }
        let algorithm = self.part(&self.0.signature_algorithm);
        key::verify_as(WHAT, issuer.spki_der(), algorithm, self.tbs_der(), self.signature())
    }

    /// Whether it names itself as its issuer and its own key signed it, as a root does.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.verify_signed_by(self).is_ok()
    }
}

impl Extensions {
    fn take(&mut self, id: &[u8], value: &[u8], der: &[u8]) -> Result<(), X509Error> {
        let at = |part: &[u8]| tlv::place(der, part);
        match id {
            oid::BASIC_CONSTRAINTS => {
                let mut constraints = tlv::only("basicConstraints", tlv::SEQUENCE, value)?;
                self.ca = match constraints.optional(tlv::BOOLEAN)?.map(|flag| flag.content) {
                    None | Some([0]) => false,
                    Some([0xff]) => true,
                    Some(_) => return Err(X509Error::malformed("basicConstraints", "boolean")),
                };
                self.path_len = match constraints.optional(tlv::INTEGER)?.map(|len| len.content) {
                    None => None,
                    Some([len]) if *len < 0x80 => Some(*len),
                    Some(_) => return Err(X509Error::malformed("basicConstraints", "path length above 127")),
                };
                constraints.finish()?;
            }
            oid::KEY_USAGE => self.key_usage = Some(key_usage(value)?),
            oid::EXTENDED_KEY_USAGE => {
                let mut usages = Usages::default();
                let mut list = tlv::only("extendedKeyUsage", tlv::SEQUENCE, value)?;
                while !list.is_empty() {
                    let purpose = list.expect(tlv::OID)?.content;
                    usages.client_auth |= purpose == oid::CLIENT_AUTH;
                    usages.server_auth |= purpose == oid::SERVER_AUTH;
                }
                self.usages = Some(usages);
            }
            oid::SUBJECT_KEY_ID => {
                let mut reader = Reader::new("subjectKeyIdentifier", value);
                self.ski = at(reader.expect(tlv::OCTET_STRING)?.content);
                reader.finish()?;
            }
            oid::AUTHORITY_KEY_ID => {
                let mut identifier = tlv::only("authorityKeyIdentifier", tlv::SEQUENCE, value)?;
                self.aki = identifier.optional(tlv::implicit(0))?.and_then(|key| at(key.content));
            }
            oid::SUBJECT_ALT_NAME => {
                let mut names = tlv::only("subjectAltName", tlv::SEQUENCE, value)?;
                while !names.is_empty() {
                    names.any()?;
                }
                self.san = at(value);
            }
            oid::CRL_DISTRIBUTION_POINTS => self.crl_points = at(value),
            oid::AUTHORITY_INFO_ACCESS => self.access = at(value),
            _ => {}
        }
        Ok(())
    }
}

/// The bits of a keyUsage, the first named bit topmost.
fn key_usage(value: &[u8]) -> Result<u16, X509Error> {
    let mut reader = Reader::new("keyUsage", value);
    let content = reader.expect(tlv::BIT_STRING)?.content;
    reader.finish()?;
    match *content {
        [0..=7, high] => Ok(u16::from(high) << 8),
        [0..=7, high, low] => Ok(u16::from(high) << 8 | u16::from(low)),
        _ => Err(X509Error::malformed("keyUsage", "bit string")),
    }
}

fn names_in(content: &[u8], tag: u8) -> Vec<&[u8]> {
    let mut reader = Reader::new(WHAT, content);
    let mut found = Vec::new();
    while let Ok(element) = reader.any() {
        if element.tag == tag {
            found.push(element.content);
        }
    }
    found
}

fn general_names(san: &[u8], tag: u8) -> Vec<&[u8]> {
    let mut reader = Reader::new(WHAT, san);
    reader.expect(tlv::SEQUENCE).map(|names| names_in(names.content, tag)).unwrap_or_default()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate(0x{} {})", self.serial(), self.subject_text())
    }
}
