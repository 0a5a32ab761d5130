use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::fault::Clipped;

/// The longest device id, in bytes.
pub const DEVICE_ID_BYTES_MAX: usize = 64;

/// The name of a device, a service or an operator, unique in the installation under ASCII
/// case-folding: `[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?`, without `..`.
///
/// Equality and hashing fold ASCII case, so that `Pump-7` can never stand beside `pump-7`
/// (CVE-2017-7650 and its heirs); [`DeviceId::as_str`] keeps the case that was given.
#[derive(Clone)]
pub struct DeviceId(Arc<str>);

/// Why a text is no device id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("device id is empty; allowed 1 to 64 bytes of a-z A-Z 0-9 - _ .")]
    Empty,
    /// The text is longer than [`DEVICE_ID_BYTES_MAX`].
    #[error("device id \"{shown}\": {len} bytes; limit 64")]
    TooLong {
        /// The text, clipped and escaped.
        shown: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A byte that the grammar does not allow at this place.
    #[error("device id \"{shown}\": {found} at byte {at}; {rule}")]
    BadByte {
        /// The text, clipped and escaped.
        shown: String,
        /// What stands there, for a reader.
        found: String,
        /// Its offset, from 0.
        at: usize,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

impl IdError {
    /// Stable slug for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "id.malformed"
    }
}

const ALLOWED: &str = "allowed a-z A-Z 0-9 - _ . (1 to 64 bytes)";
const EDGES: &str = "must begin and end with a letter or digit";
const DOTS: &str = "two dots in a row are not allowed";

impl DeviceId {
    /// Takes an id as it stands in a certificate, a rule or a request.
    ///
    /// # Errors
    /// Names the byte that breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        let shown = || Clipped(text).to_string();
        if bytes.is_empty() {
            return Err(IdError::Empty);
        }
        if bytes.len() > DEVICE_ID_BYTES_MAX {
            return Err(IdError::TooLong { shown: shown(), len: bytes.len() });
        }
        let bad = |at: usize, rule| {
            let found = match text.get(at..).and_then(|rest| rest.chars().next()) {
                Some(' ') => "space".to_owned(),
                Some(ch) => format!("'{}'", ch.escape_default()),
                None => "a byte".to_owned(),
            };
            Err(IdError::BadByte { shown: shown(), found, at, rule })
        };
        for (at, &byte) in bytes.iter().enumerate() {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
                return bad(at, ALLOWED);
            }
            if byte == b'.' && at > 0 && bytes[at - 1] == b'.' {
                return bad(at, DOTS);
            }
        }
        for at in [0, bytes.len() - 1] {
            if !bytes[at].is_ascii_alphanumeric() {
                return bad(at, EDGES);
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// Takes an id as a person writes it: a MAC address in any notation (`24:0A:C4:00:01:02`,
    /// `24-0a-c4-00-01-02`, `240a.c400.0102`) becomes bare lower-case hex; the second value is
    /// the original text when it was changed.
    ///
    /// # Errors
    /// As [`DeviceId::parse`].
    pub fn parse_written(text: &str) -> Result<(Self, Option<String>), IdError> {
        match mac_digits(text) {
            Some(bare) if bare != text => Ok((Self::parse(&bare)?, Some(text.to_owned()))),
            _ => Ok((Self::parse(text)?, None)),
        }
    }

    /// The id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in lower case: the key under which it is unique.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// The twelve hex digits of a MAC address in one of the three usual notations with separators.
fn mac_digits(text: &str) -> Option<String> {
    let shaped = |separator: char, group: usize| {
        text.split(separator).all(|part| part.len() == group && part.bytes().all(|b| b.is_ascii_hexdigit()))
            && text.split(separator).count() * group == 12
    };
    (shaped(':', 2) || shaped('-', 2) || shaped('.', 4))
        .then(|| text.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect())
}

impl PartialEq for DeviceId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for DeviceId {}

impl Hash for DeviceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl PartialOrd for DeviceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DeviceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let folded = |id: &Self| id.0.bytes().map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
        folded(self).cmp(&folded(other))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_accepts_names_serial_numbers_and_bare_macs() {
        for text in ["a", "pump-7", "SN.0001_x", "240ac4000102", &"a".repeat(64)] {
            assert_eq!(DeviceId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn wildcards_separators_and_edges_are_refused_with_their_place() {
        for (text, at) in [
            ("pump 7", 4),
            ("a/b", 1),
            ("a+", 1),
            ("#", 0),
            ("a..b", 2),
            ("-a", 0),
            ("a-", 1),
            (".a", 0),
            ("a.", 1),
            ("a\0b", 1),
            ("pümp", 1),
            ("$SYS", 0),
            ("a:b", 1),
        ] {
            match DeviceId::parse(text) {
                Err(IdError::BadByte { at: found, .. }) => assert_eq!(found, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(DeviceId::parse(""), Err(IdError::Empty));
        assert!(matches!(DeviceId::parse(&"a".repeat(65)), Err(IdError::TooLong { len: 65, .. })));
    }

    #[test]
    fn the_error_reads_as_the_house_style_asks() {
        assert_eq!(
            DeviceId::parse("pump 7").unwrap_err().to_string(),
            "device id \"pump 7\": space at byte 4; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes)"
        );
    }

    #[test]
    fn ids_that_differ_only_in_case_are_the_same_id() {
        let (a, b) = (DeviceId::parse("Pump-7").unwrap(), DeviceId::parse("pump-7").unwrap());
        assert_eq!(a, b);
        assert_eq!(a.folded(), "pump-7");
        let set: std::collections::HashSet<_> = [a, b].into();
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_mac_in_any_notation_becomes_bare_hex_and_keeps_its_original() {
        for text in ["24:0A:C4:00:01:02", "24-0a-c4-00-01-02", "240a.c400.0102"] {
            let (id, original) = DeviceId::parse_written(text).unwrap();
            assert_eq!(id.as_str(), "240ac4000102");
            assert_eq!(original.as_deref(), Some(text));
        }
        assert_eq!(DeviceId::parse_written("pump-7").unwrap().1, None);
    }
}
