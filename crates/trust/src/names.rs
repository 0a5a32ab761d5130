use types::{Clipped, DeviceId, PrincipalKind, Reason};
use x509::Certificate;

use crate::anchor::IdentitySource;
use crate::refusal::Refusal;

const URN: &str = "urn:bailiwick:";
/// The content bytes of the OID 2.5.4.5, serialNumber.
const OID_SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;

/// The one name that the certificate carries where its anchor says. Whatever else names a
/// principal in the certificate must say the same, so that no two readers see two names.
pub(crate) fn name_of(certificate: &Certificate, source: IdentitySource) -> Result<DeviceId, Refusal> {
    let uris = urn_names(certificate)?;
    let found = match source {
        IdentitySource::CommonName => certificate.common_names(),
        IdentitySource::SerialNumber => subject_serial_numbers(certificate.subject_der()),
        IdentitySource::SanUri => uris.iter().map(|(_, name)| name.clone()).collect(),
    };
    let serial = certificate.serial();
    let bad = |detail: String| Refusal::new(Reason::BadName, format!("certificate 0x{serial}: {detail}"));
    let text = match found.as_slice() {
        [one] => one,
        [] => return Err(bad(format!("it carries no {}; exactly one is needed", source.as_str()))),
        [first, second, ..] => {
            return Err(bad(format!(
                "it carries {} names as {}, \"{}\" and \"{}\"; exactly one is needed",
                found.len(),
                source.as_str(),
                Clipped(first),
                Clipped(second)
            )));
        }
    };
    let name = DeviceId::parse(text).map_err(|error| bad(format!("{}: {error}", source.as_str())))?;
    for (_, other) in &uris {
        if !other.eq_ignore_ascii_case(name.as_str()) {
            return Err(bad(format!(
                "its {} says \"{name}\" and its SAN URI \"{}\"",
                source.as_str(),
                Clipped(other)
            )));
        }
    }
    Ok(name)
}

/// The kinds that the certificate's own `urn:bailiwick:` names claim; checked against the ledger.
pub(crate) fn urn_names(certificate: &Certificate) -> Result<Vec<(PrincipalKind, String)>, Refusal> {
    let mut names = Vec::new();
    for uri in certificate.san_uris() {
        let Some(rest) = uri.strip_prefix(URN) else { continue };
        let parsed = rest
            .split_once(':')
            .and_then(|(kind, name)| PrincipalKind::parse(kind).map(|kind| (kind, name.to_owned())));
        names.push(parsed.ok_or_else(|| {
            let serial = certificate.serial();
            let detail = format!(
                "certificate 0x{serial}: SAN URI \"{}\" is not urn:bailiwick:device|service|operator:NAME",
                Clipped(&uri)
            );
            Refusal::new(Reason::BadName, detail)
        })?);
    }
    Ok(names)
}

/// Every serialNumber attribute of a Name (RFC 5280 section 4.1.2.4); what is no valid DER holds none.
fn subject_serial_numbers(name_der: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let Some((SEQUENCE, mut sets, [])) = element(name_der) else { return found };
    while let Some((SET, mut attributes, rest)) = element(sets) {
        sets = rest;
        while let Some((SEQUENCE, attribute, more)) = element(attributes) {
            attributes = more;
            let Some((OID, OID_SERIAL_NUMBER, value)) = element(attribute) else { continue };
            if let Some((UTF8_STRING | PRINTABLE_STRING, text, [])) = element(value) {
                // Text that is no UTF-8 stays in the list, so that it counts and is refused as a name.
                found.push(String::from_utf8_lossy(text).into_owned());
            } else {
                found.push(String::new());
            }
        }
    }
    found
}

/// The first DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&len, rest)| (usize::from(len), rest))?,
        0x82 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    (rest.len() >= len).then(|| rest.split_at(len)).map(|(content, after)| (tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        if content.len() < 0x80 {
            out.push(u8::try_from(content.len()).unwrap());
        } else {
            out.push(0x82);
            out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
        out.extend(content);
        out
    }

    fn attribute(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        der(SEQUENCE, &[der(OID, oid), der(tag, text)].concat())
    }

    #[test]
    fn the_serial_number_attribute_is_found_wherever_it_stands() {
        let common_name = attribute(&[0x55, 4, 3], UTF8_STRING, b"SN-1");
        let serial = attribute(OID_SERIAL_NUMBER, PRINTABLE_STRING, b"SN-0001");
        let alone = der(SEQUENCE, &[der(SET, &common_name), der(SET, &serial)].concat());
        assert_eq!(subject_serial_numbers(&alone), ["SN-0001"]);
        let together = der(SEQUENCE, &der(SET, &[common_name.clone(), serial.clone()].concat()));
        assert_eq!(subject_serial_numbers(&together), ["SN-0001"]);
        let twice = der(SEQUENCE, &[der(SET, &serial), der(SET, &serial)].concat());
        assert_eq!(subject_serial_numbers(&twice), ["SN-0001", "SN-0001"]);
        assert_eq!(subject_serial_numbers(&der(SEQUENCE, &der(SET, &common_name))), Vec::<String>::new());
    }

    #[test]
    fn a_serial_number_of_another_string_type_counts_as_a_name_that_is_refused() {
        let bmp = der(SEQUENCE, &der(SET, &attribute(OID_SERIAL_NUMBER, 0x1e, b"\0S")));
        assert_eq!(subject_serial_numbers(&bmp), [""]);
    }

    #[test]
    fn broken_der_holds_no_name_and_does_not_panic() {
        let long = der(SEQUENCE, &der(SET, &attribute(OID_SERIAL_NUMBER, UTF8_STRING, &[b'a'; 300])));
        assert_eq!(subject_serial_numbers(&long), ["a".repeat(300)]);
        for end in 0..long.len() {
            assert_eq!(subject_serial_numbers(&long[..end]), Vec::<String>::new(), "{end}");
        }
        assert_eq!(subject_serial_numbers(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), Vec::<String>::new());
    }
}
