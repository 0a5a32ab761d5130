//! Certificates of any shape, made at fixed times with keys of the moment.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use trust::{Admission, Anchor, CertState, IdentitySource, LedgerEntry};
use types::{CertRef, DeviceId, Mono, Now, Principal, PrincipalKind, ProjectId, Serial, Wall};
use x509::{
    CaPurpose, Certificate, ChainAnchors, Draft, Profile, SignatureAlgorithm, SubjectTemplate, Usage,
    VerifiedChain,
};

/// 2026-08-01T00:00:00Z: the end of the leaves.
pub(crate) const END: i64 = 1_785_542_400;
/// 2026-07-01T00:00:00Z: when most checks happen.
pub(crate) const JULY: i64 = 1_782_864_000;
/// 2026-01-01T00:00:00Z: the beginning of the leaves.
pub(crate) const BEGIN: i64 = 1_767_225_600;

pub(crate) fn at(secs: i64) -> Now {
    Now { mono: Mono(0), wall: Wall::from_secs(secs) }
}

pub(crate) fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn fresh() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn seal(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), tbs).unwrap();
        x509::assemble(tbs, SignatureAlgorithm::EcdsaP256Sha256, signature.as_ref())
    }
}

pub(crate) struct Ca {
    pub(crate) key: Key,
    pub(crate) certificate: Certificate,
}

fn serial(number: u64) -> Serial {
    Serial::from_der_integer(&number.to_be_bytes()).unwrap()
}

impl Ca {
    pub(crate) fn root() -> Self {
        Self::made("Root", None, Profile::Root, END + 1_000_000)
    }

    pub(crate) fn below(&self, label: &str, end: i64) -> Self {
        Self::made(label, Some(self), Profile::SubCa { purpose: CaPurpose::Clients }, end)
    }

    fn made(common_name: &str, issuer: Option<&Self>, profile: Profile, end: i64) -> Self {
        let key = Key::fresh();
        let draft = Draft {
            serial: serial(1),
            issuer: issuer.map(|ca| ca.certificate.clone()),
            common_name: common_name.to_owned(),
            template: SubjectTemplate::default(),
            spki_der: key.spki(),
            not_before: Wall::from_secs(BEGIN),
            not_after: Wall::from_secs(end),
            profile,
            signature: SignatureAlgorithm::EcdsaP256Sha256,
            crl_url: None,
            aia_url: None,
        };
        let tbs = x509::build_tbs(&draft).unwrap();
        let der = issuer.map_or(&key, |ca| &ca.key).seal(&tbs);
        Self { certificate: Certificate::parse_der(&der).unwrap(), key }
    }

    pub(crate) fn anchor(&self, label: &str, kinds: &[PrincipalKind]) -> Anchor {
        Anchor {
            id: self.certificate.issuer_id_as_ca(),
            label: label.to_owned(),
            certificate: self.certificate.clone(),
            kinds: kinds.to_vec(),
            admission: Admission::Registered,
            identity: IdentitySource::CommonName,
        }
    }

    /// A chain of a leaf that this CA signed directly, verified in July.
    pub(crate) fn chain(&self, leaf: &Leaf<'_>) -> VerifiedChain {
        let anchors = ChainAnchors::new([&self.certificate]).unwrap();
        x509::verify_chain(&anchors, &leaf.der(self), &[], Wall::from_secs(JULY), Usage::ClientAuth).unwrap()
    }
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7f => out.push(u8::try_from(len).unwrap()),
        len @ 0x80..=0xff => out.extend([0x81, u8::try_from(len).unwrap()]),
        len => {
            out.push(0x82);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// A leaf whose names can be anything.
pub(crate) struct Leaf<'a> {
    pub(crate) serial: u64,
    pub(crate) common_names: &'a [&'a str],
    pub(crate) serial_numbers: &'a [&'a str],
    pub(crate) uris: &'a [&'a str],
    pub(crate) begin: i64,
    pub(crate) end: i64,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self {
            serial: 0x1f3a,
            common_names: &["pump-7"],
            serial_numbers: &[],
            uris: &[],
            begin: BEGIN,
            end: END,
        }
    }
}

impl Leaf<'_> {
    pub(crate) fn der(&self, issuer: &Ca) -> Vec<u8> {
        const SEQUENCE: u8 = 0x30;
        let attribute = |kind: u8, text: &str| {
            let pair = [element(6, &[&[0x55, 4, kind]]), element(0x0c, &[text.as_bytes()])].concat();
            element(0x31, &[&element(SEQUENCE, &[&pair])])
        };
        let names = self.common_names.iter().map(|text| attribute(3, text));
        let numbers = self.serial_numbers.iter().map(|text| attribute(5, text));
        let subject = element(SEQUENCE, &[&names.chain(numbers).flatten().collect::<Vec<u8>>()]);
        let date = |secs: i64| {
            let digits: String =
                Wall::from_secs(secs).to_string().chars().filter(char::is_ascii_digit).collect();
            element(0x18, &[digits.as_bytes(), b"Z"])
        };
        // RFC 5280 wants UTCTime before 2050.
        let utc = |secs: i64| {
            let general = date(secs);
            element(0x17, &[&general[4..]])
        };
        let extension =
            |id: &[u8], value: &[u8]| element(SEQUENCE, &[&element(6, &[id]), &element(4, &[value])]);
        let client_auth = element(SEQUENCE, &[&element(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, 2]])]);
        let mut extensions = extension(&[0x55, 0x1d, 0x25], &client_auth);
        if !self.uris.is_empty() {
            let uris: Vec<u8> = self.uris.iter().flat_map(|uri| element(0x86, &[uri.as_bytes()])).collect();
            extensions.extend(extension(&[0x55, 0x1d, 0x11], &element(SEQUENCE, &[&uris])));
        }
        let number = self.serial.to_be_bytes();
        let first = number.iter().position(|byte| *byte != 0).unwrap();
        assert!(number[first] < 0x80, "such a serial would need a sign byte");
        let tbs = element(
            SEQUENCE,
            &[
                &element(0xa0, &[&[2, 1, 2]]),
                &element(2, &[&number[first..]]),
                &SignatureAlgorithm::EcdsaP256Sha256.identifier_der(),
                issuer.certificate.subject_der(),
                &element(SEQUENCE, &[&utc(self.begin), &utc(self.end)]),
                &subject,
                &Key::fresh().spki(),
                &element(0xa3, &[&element(SEQUENCE, &[&extensions])]),
            ],
        );
        issuer.key.seal(&tbs)
    }
}

/// The ledger's row of a chain, as an honest issuance left it.
pub(crate) fn entry(chain: &VerifiedChain, kind: PrincipalKind, name: &str) -> LedgerEntry {
    LedgerEntry {
        der_hash: chain.leaf().der_hash(),
        cert: chain.cert_ref(),
        principal: Principal { kind, name: id(name) },
        anchor: *chain.issuers().last().unwrap(),
        project: ProjectId::parse("default").unwrap(),
        fleet: Some("north".to_owned()),
        state: CertState::Active,
    }
}

pub(crate) fn other_serial(cert: CertRef) -> CertRef {
    CertRef { serial: serial(99), ..cert }
}
