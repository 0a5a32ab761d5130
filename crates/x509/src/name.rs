//! Writes and reads distinguished names.
//! In: a subject template, or the DER of a name. Out: DER, common names, a text that is safe to print.
//! Invariant: a value that is no text reads as U+FFFD, never as nothing, so that it can match no id.
//! Spec: RFC 5280 section 4.1.2.4; RFC 4514 section 2.

use crate::draft::SubjectTemplate;
use crate::error::X509Error;
use crate::{oid, tlv};

/// One attribute of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) oid: &'a [u8],
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    /// Whether it begins a new RDN, and does not stand beside the one before.
    pub(crate) begins: bool,
}

/// Every attribute of the name, in order.
pub(crate) fn attributes<'a>(
    what: &'static str,
    name_der: &'a [u8],
    mut each: impl FnMut(Attribute<'a>),
) -> Result<(), X509Error> {
    let mut rdns = tlv::only(what, tlv::SEQUENCE, name_der)?;
    while !rdns.is_empty() {
        let mut rdn = rdns.enter(tlv::SET)?;
        let mut begins = true;
        while !rdn.is_empty() {
            let mut pair = rdn.enter(tlv::SEQUENCE)?;
            let oid = pair.expect(tlv::OID)?.content;
            let value = pair.any()?;
            pair.finish()?;
            each(Attribute { oid, tag: value.tag, value: value.content, begins });
            begins = false;
        }
    }
    Ok(())
}

/// The text of a value by the type of its string; bytes that are none become U+FFFD.
fn text_of(attribute: Attribute<'_>) -> String {
    match attribute.tag {
        tlv::UTF8_STRING => String::from_utf8_lossy(attribute.value).into_owned(),
        0x1e => {
            let (units, rest) = attribute.value.as_chunks::<2>();
            let text = char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)));
            let mut text: String = text.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            text.extend(rest.first().map(|_| char::REPLACEMENT_CHARACTER));
            text
        }
        0x12 | tlv::PRINTABLE_STRING | 0x14 | 0x16 | 0x1a => attribute
            .value
            .iter()
            .map(|&b| if b.is_ascii() { char::from(b) } else { char::REPLACEMENT_CHARACTER })
            .collect(),
        _ => char::REPLACEMENT_CHARACTER.to_string(),
    }
}

/// The texts of every attribute of this type.
pub(crate) fn values(name_der: &[u8], wanted: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let walked = attributes("name", name_der, |attribute| {
        if attribute.oid == wanted {
            found.push(text_of(attribute));
        }
    });
    // A name that cannot be read must not look like a name without attributes.
    if walked.is_err() {
        found.push(char::REPLACEMENT_CHARACTER.to_string());
    }
    found
}

fn short_name(id: &[u8]) -> String {
    match id {
        oid::COMMON_NAME => "CN".to_owned(),
        oid::COUNTRY => "C".to_owned(),
        oid::STATE => "ST".to_owned(),
        oid::LOCALITY => "L".to_owned(),
        oid::ORGANIZATION => "O".to_owned(),
        oid::UNIT => "OU".to_owned(),
        oid::SUBJECT_SERIAL_NUMBER => "serialNumber".to_owned(),
        oid::EMAIL => "emailAddress".to_owned(),
        oid::DOMAIN_COMPONENT => "DC".to_owned(),
        oid::USER_ID => "UID".to_owned(),
        other => oid::dotted(other),
    }
}

/// The name for logs and people: `C=DE, O=Acme, CN=pump-7`; separators inside a value are escaped
/// as RFC 4514 does, control and non-ASCII characters as Rust does, and long names are clipped.
pub(crate) fn text(name_der: &[u8]) -> String {
    const ATTRIBUTES_MAX: usize = 16;
    const CHARACTERS_MAX: usize = 64;
    let mut out = String::new();
    let mut count = 0;
    let walked = attributes("name", name_der, |attribute| {
        count += 1;
        if count > ATTRIBUTES_MAX {
            return;
        }
        if !out.is_empty() {
            out.push_str(if attribute.begins { ", " } else { "+" });
        }
        out.push_str(&short_name(attribute.oid));
        out.push('=');
        for (at, ch) in text_of(attribute).chars().enumerate() {
            match ch {
                _ if at == CHARACTERS_MAX => {
                    out.push('…');
                    break;
                }
                ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => out.extend(['\\', ch]),
                ' '..='~' => out.push(ch),
                _ => out.extend(ch.escape_default()),
            }
        }
    });
    if count > ATTRIBUTES_MAX {
        out.push_str(", …");
    }
    match walked {
        Ok(()) => out,
        Err(_) => "unreadable name".to_owned(),
    }
}

/// One value that stands in a subject, in the order C, ST, O, OU, CN.
pub(crate) struct Part<'a> {
    pub(crate) field: &'static str,
    pub(crate) oid: &'static [u8],
    pub(crate) value: &'a str,
    pub(crate) max: usize,
}

/// The subject's values, in order.
pub(crate) fn parts<'a>(template: &'a SubjectTemplate, common_name: &'a str) -> Vec<Part<'a>> {
    let wanted = [
        ("subject country", oid::COUNTRY, template.country.as_deref(), 2),
        ("subject state", oid::STATE, template.state.as_deref(), 128),
        ("subject organization", oid::ORGANIZATION, template.organization.as_deref(), 64),
        ("subject unit", oid::UNIT, template.unit.as_deref(), 64),
        ("common name", oid::COMMON_NAME, Some(common_name), 64),
    ];
    wanted
        .into_iter()
        .filter_map(|(field, oid, value, max)| value.map(|value| Part { field, oid, value, max }))
        .collect()
}

/// The DER of a subject.
pub(crate) fn encode(template: &SubjectTemplate, common_name: &str) -> Result<Vec<u8>, X509Error> {
    let mut rdns = Vec::new();
    for part in parts(template, common_name) {
        let shown = types::Clipped(part.value);
        let length = part.value.chars().count();
        if length == 0 || length > part.max {
            let detail = format!("\"{shown}\" has {length} characters; allowed 1 to {}", part.max);
            return Err(X509Error::field(part.field, detail));
        }
        if part.value.chars().any(char::is_control) {
            return Err(X509Error::field(part.field, format!("\"{shown}\" holds a control character")));
        }
        let tag = if part.oid == oid::COUNTRY {
            if length != 2 || !part.value.bytes().all(|b| b.is_ascii_uppercase()) {
                let detail = format!("\"{shown}\" is no country code; expected two letters A-Z");
                return Err(X509Error::field(part.field, detail));
            }
            tlv::PRINTABLE_STRING
        } else {
            tlv::UTF8_STRING
        };
        let id = tlv::element(tlv::OID, &[part.oid]);
        let value = tlv::element(tag, &[part.value.as_bytes()]);
        let pair = tlv::element(tlv::SEQUENCE, &[&id, &value]);
        tlv::push(&mut rdns, tlv::SET, &pair);
    }
    Ok(tlv::element(tlv::SEQUENCE, &[&rdns]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> SubjectTemplate {
        SubjectTemplate {
            country: Some("DE".to_owned()),
            state: Some("Bayern".to_owned()),
            organization: Some("Müller, Söhne".to_owned()),
            unit: Some("Pumps".to_owned()),
        }
    }

    fn name(values: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let mut rdns = Vec::new();
        for (id, tag, value) in values {
            let id = tlv::element(tlv::OID, &[id]);
            let value = tlv::element(*tag, &[value]);
            let pair = tlv::element(tlv::SEQUENCE, &[&id, &value]);
            tlv::push(&mut rdns, tlv::SET, &pair);
        }
        tlv::element(tlv::SEQUENCE, &[&rdns])
    }

    #[test]
    fn a_subject_stands_in_the_usual_order_and_prints_safely() {
        let der = encode(&template(), "pump-7").unwrap();
        assert_eq!(text(&der), r"C=DE, ST=Bayern, O=M\u{fc}ller\, S\u{f6}hne, OU=Pumps, CN=pump-7");
        assert_eq!(values(&der, oid::COMMON_NAME), ["pump-7"]);
        assert_eq!(values(&der, oid::ORGANIZATION), ["Müller, Söhne"]);
        assert_eq!(text(&encode(&SubjectTemplate::default(), "a").unwrap()), "CN=a");
    }

    #[test]
    fn values_outside_the_bounds_of_rfc_5280_are_refused_by_name() {
        let with = |change: fn(&mut SubjectTemplate)| {
            let mut changed = template();
            change(&mut changed);
            encode(&changed, "a").unwrap_err().to_string()
        };
        assert_eq!(
            with(|t| t.country = Some("de".to_owned())),
            "subject country: \"de\" is no country code; expected two letters A-Z"
        );
        assert_eq!(
            with(|t| t.country = Some("DEU".to_owned())),
            "subject country: \"DEU\" has 3 characters; allowed 1 to 2"
        );
        assert_eq!(
            with(|t| t.unit = Some(String::new())),
            "subject unit: \"\" has 0 characters; allowed 1 to 64"
        );
        assert_eq!(
            with(|t| t.state = Some("a\nb".to_owned())),
            "subject state: \"a\\nb\" holds a control character"
        );
        assert!(encode(&template(), &"x".repeat(64)).is_ok());
        assert!(encode(&template(), &"x".repeat(65)).is_err());
    }

    #[test]
    fn every_string_type_is_read_and_what_is_no_text_is_never_an_id() {
        for (tag, value, expected) in [
            (tlv::UTF8_STRING, &b"pump-7"[..], "pump-7"),
            (tlv::PRINTABLE_STRING, b"pump-7", "pump-7"),
            (0x16, b"pump-7", "pump-7"),
            (0x14, b"p\xfcmp", "p\u{fffd}mp"),
            (0x1e, b"\0p\0u", "pu"),
            (0x1e, b"\0p\0", "p\u{fffd}"),
            (0x1e, b"\xd8\0", "\u{fffd}"),
            (tlv::UTF8_STRING, b"\xff", "\u{fffd}"),
            (tlv::OCTET_STRING, b"pump-7", "\u{fffd}"),
        ] {
            assert_eq!(values(&name(&[(oid::COMMON_NAME, tag, value)]), oid::COMMON_NAME), [expected]);
        }
        assert_eq!(values(b"\x30\x05\x31", oid::COMMON_NAME), ["\u{fffd}"]);
        assert_eq!(text(b"\x30\x05\x31"), "unreadable name");
    }

    #[test]
    fn long_and_crowded_names_are_clipped() {
        let long = "x".repeat(70);
        let der = name(&[(oid::COMMON_NAME, tlv::UTF8_STRING, long.as_bytes())]);
        assert_eq!(text(&der), format!("CN={}…", "x".repeat(64)));
        let crowded = name(&[(oid::UNIT, tlv::UTF8_STRING, &b"a"[..]); 17]);
        assert_eq!(text(&crowded), format!("{}, …", ["OU=a"; 16].join(", ")));
    }

    #[test]
    fn a_long_attribute_type_is_clipped_like_a_long_value() {
        let arcs = [0x01; 4_000];
        let der = name(&[(&arcs, tlv::UTF8_STRING, b"a")]);
        // Two arcs stand in the first byte, a dot between all of them.
        assert_eq!(text(&der), format!("0{}…=a", ".1".repeat(31) + "."));
    }
}
