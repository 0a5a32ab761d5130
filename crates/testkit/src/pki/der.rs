//! The few lines of DER that certificates need which no code of ours would build.

use types::{Serial, Wall};
use x509::SignatureAlgorithm;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const OCTET_STRING: u8 = 0x04;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// What stands in the extendedKeyUsage of a leaf by hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HandUsage {
    Client,
    Server,
    Absent,
}

/// A TBSCertificate by hand: whatever is asked for is written, right or wrong.
pub(super) struct HandTbs<'a> {
    pub(super) version_one: bool,
    pub(super) serial: Serial,
    /// The issuer's name as DER; its own subject, if there is none.
    pub(super) issuer: Option<&'a [u8]>,
    pub(super) issuer_key_id: Option<Vec<u8>>,
    pub(super) not_before: Wall,
    pub(super) not_after: Wall,
    pub(super) common_names: &'a [&'a str],
    pub(super) spki_der: &'a [u8],
    pub(super) usage: HandUsage,
    pub(super) is_ca: bool,
    pub(super) uri: Option<String>,
    pub(super) algorithm: SignatureAlgorithm,
}

impl HandTbs<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let subject = name(self.common_names);
        let version = if self.version_one { vec![] } else { tlv(0xa0, &[&[0x02, 1, 2]]) };
        // Our serials have their top bit clear, so they need no sign byte.
        let serial = tlv(0x02, &[self.serial.as_bytes()]);
        let validity = tlv(SEQUENCE, &[&time(self.not_before), &time(self.not_after)]);
        let extensions = if self.version_one { vec![] } else { self.extensions() };
        tlv(
            SEQUENCE,
            &[
                &version,
                &serial,
                &self.algorithm.identifier_der(),
                self.issuer.unwrap_or(&subject),
                &validity,
                &subject,
                self.spki_der,
                &extensions,
            ],
        )
    }

    fn extensions(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let constraints: &[u8] = if self.is_ca { &[0x01, 1, 0xff] } else { &[] };
        all.extend(extension(&[0x55, 0x1d, 0x13], true, &tlv(SEQUENCE, &[constraints])));
        // digitalSignature, or keyCertSign and cRLSign.
        let usage: [u8; 4] = if self.is_ca { [0x03, 2, 1, 0x06] } else { [0x03, 2, 7, 0x80] };
        all.extend(extension(&[0x55, 0x1d, 0x0f], true, &usage));
        let purpose = match self.usage {
            HandUsage::Client => Some(CLIENT_AUTH),
            HandUsage::Server => Some(SERVER_AUTH),
            HandUsage::Absent => None,
        };
        if let Some(purpose) = purpose {
            let purposes = tlv(SEQUENCE, &[&tlv(OBJECT_ID, &[purpose])]);
            all.extend(extension(&[0x55, 0x1d, 0x25], false, &purposes));
        }
        let own = &x509::sha256(self.spki_der)[..20];
        all.extend(extension(&[0x55, 0x1d, 0x0e], false, &tlv(OCTET_STRING, &[own])));
        if let Some(key_id) = &self.issuer_key_id {
            all.extend(extension(&[0x55, 0x1d, 0x23], false, &tlv(SEQUENCE, &[&tlv(0x80, &[key_id])])));
        }
        if let Some(uri) = &self.uri {
            let names = tlv(SEQUENCE, &[&tlv(0x86, &[uri.as_bytes()])]);
            all.extend(extension(&[0x55, 0x1d, 0x11], false, &names));
        }
        tlv(0xa3, &[&tlv(SEQUENCE, &[&all])])
    }
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 1, 0xff] } else { &[] };
    tlv(SEQUENCE, &[&tlv(OBJECT_ID, &[id]), critical, &tlv(OCTET_STRING, &[value])])
}

/// A distinguished name of common names only, each in an RDN of its own.
fn name(common_names: &[&str]) -> Vec<u8> {
    let rdns: Vec<u8> = common_names
        .iter()
        .flat_map(|text| {
            let value = tlv(UTF8_STRING, &[text.as_bytes()]);
            tlv(SET, &[&tlv(SEQUENCE, &[&tlv(OBJECT_ID, &[COMMON_NAME]), &value])])
        })
        .collect();
    tlv(SEQUENCE, &[&rdns])
}

/// UTCTime up to 2049, GeneralizedTime from 2050 (RFC 5280 section 4.1.2.5).
fn time(wall: Wall) -> Vec<u8> {
    let shown = Wall::from_secs(wall.secs()).to_string();
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    match digits.strip_prefix("20") {
        Some(short) if digits.as_str() < "2050" => tlv(0x17, &[short.as_bytes(), b"Z"]),
        _ => tlv(0x18, &[digits.as_bytes(), b"Z"]),
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        Ok(byte) => out.extend([0x81, byte]),
        Err(_) => {
            let long = u16::try_from(length).expect("no fixture has 64 KiB");
            out.push(0x82);
            out.extend(long.to_be_bytes());
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}
