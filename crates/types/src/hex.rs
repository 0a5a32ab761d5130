use std::fmt;

/// Lower-case hexadecimal of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Text that is not an even number of hexadecimal digits, or not the expected number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexError {
    /// Byte offset of the first digit that is wrong, or the length when that is wrong.
    pub at: usize,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not hexadecimal, or of the wrong length, at byte {}", self.at)
    }
}

impl std::error::Error for HexError {}

/// Bytes of hexadecimal text; accepts both cases.
///
/// # Errors
/// The offset of the first character that is not a digit, or the length if it is odd.
pub fn unhex(text: &str) -> Result<Vec<u8>, HexError> {
    if !text.len().is_multiple_of(2) {
        return Err(HexError { at: text.len() });
    }
    let digit = |at: usize, byte: u8| {
        char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(HexError { at })
    };
    text.as_bytes()
        .chunks_exact(2)
        .enumerate()
        .map(|(i, pair)| Ok(digit(2 * i, pair[0])? << 4 | digit(2 * i + 1, pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_survives_a_round_trip_and_names_the_wrong_byte() {
        assert_eq!(hex(&[0x00, 0x1f, 0xff]), "001fff");
        assert_eq!(unhex("001FfF").unwrap(), [0x00, 0x1f, 0xff]);
        assert_eq!(unhex("0g"), Err(HexError { at: 1 }));
        assert_eq!(unhex("012"), Err(HexError { at: 3 }));
    }
}
