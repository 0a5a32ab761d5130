use std::fmt;

use crate::hex::{HexError, hex, unhex};

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Takes the value from its hexadecimal text.
            ///
            /// # Errors
            /// The byte that is no hexadecimal digit, or the length if that is wrong.
            pub fn parse(text: &str) -> Result<Self, HexError> {
                let bytes = unhex(text)?;
                bytes.try_into().map(Self).map_err(|_| HexError { at: text.len() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

digest_type!(
    /// SHA-256 of a certificate's DER bytes: the fingerprint under which the ledger knows it.
    DerHash, 32
);
digest_type!(
    /// SHA-256 of a SubjectPublicKeyInfo: the name of a key.
    SpkiHash, 32
);
digest_type!(
    /// The first 16 bytes of the SHA-256 of an issuer's SubjectPublicKeyInfo: which CA signed.
    IssuerId, 16
);

/// A certificate's serial number: 1 to 20 bytes, positive, no leading zero byte but for the sign
/// (RFC 5280 section 4.1.2.2). Kept without the sign's zero byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    len: u8,
    bytes: [u8; 20],
}

impl Serial {
    /// Takes the content bytes of the DER INTEGER, with or without leading zero bytes; foreign
    /// certificates are cut to their last 20 bytes, so `None` only for zero and the empty string.
    #[must_use]
    pub fn from_der_integer(content: &[u8]) -> Option<Self> {
        let start = content.iter().position(|&b| b != 0)?;
        let significant = &content[start..];
        let kept = &significant[significant.len().saturating_sub(20)..];
        let mut bytes = [0; 20];
        bytes[..kept.len()].copy_from_slice(kept);
        u8::try_from(kept.len()).ok().map(|len| Self { len, bytes })
    }

    /// The 20-byte serial that our own CAs use: the top bit cleared and the next one set, so that
    /// it is positive and always 20 bytes long; 158 bits stay random.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 20]) -> Self {
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Self { len: 20, bytes }
    }

    /// Takes the serial from its hexadecimal text, with or without `0x`.
    ///
    /// # Errors
    /// As [`unhex`]; zero and the empty string are refused too.
    pub fn parse(text: &str) -> Result<Self, HexError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        Self::from_der_integer(&unhex(digits)?).ok_or(HexError { at: 0 })
    }

    /// The significant bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.as_bytes()))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// A certificate, named: never by its serial alone, which several sub-CAs may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertRef {
    /// Who signed it.
    pub issuer: IssuerId,
    /// Its serial under that issuer.
    pub serial: Serial,
}

impl fmt::Display for CertRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_drop_the_sign_byte_and_keep_their_order() {
        let serial = Serial::from_der_integer(&[0, 0x80, 1]).unwrap();
        assert_eq!(serial.as_bytes(), [0x80, 1]);
        assert_eq!(serial, Serial::parse("0x8001").unwrap());
        assert_eq!(Serial::from_der_integer(&[0]), None);
        assert_eq!(Serial::from_der_integer(&[0xab; 22]).unwrap().as_bytes().len(), 20);
    }

    #[test]
    fn our_own_serials_are_positive_and_20_bytes() {
        for first in [0x00, 0x7f, 0x80, 0xff] {
            let mut random = [0; 20];
            random[0] = first;
            let serial = Serial::from_random(random);
            assert_eq!(serial.as_bytes().len(), 20);
            assert_eq!(serial.as_bytes()[0] & 0x80, 0);
        }
    }
}
