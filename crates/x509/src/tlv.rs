//! Writes and reads DER, one element at a time.
//! In: bytes. Out: tags, contents, whole elements; or bytes.
//! Invariant: lengths are definite and minimal, tags below 31; anything else is refused.
//! Never: recurses, allocates while reading, or panics on any input.
//! Spec: X.690 sections 8.1 and 10.1.

use std::ops::Range;

use crate::error::X509Error;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The context-specific constructed tag of this number, as in `[3]` EXPLICIT.
pub(crate) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// The context-specific primitive tag of this number, as in `[2]` IMPLICIT IA5String.
pub(crate) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// How many bytes the length itself takes.
fn length_bytes(len: usize) -> usize {
    if len < 0x80 { 0 } else { (len.ilog2() / 8 + 1).try_into().unwrap_or(8) }
}

/// How many bytes the element takes with its tag and length.
pub(crate) fn element_len(content: usize) -> usize {
    2 + length_bytes(content) + content
}

/// Appends the tag and the length of an element whose content follows.
pub(crate) fn push_head(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    let count = length_bytes(len);
    let bytes = len.to_be_bytes();
    match u8::try_from(count) {
        Ok(marker) if marker > 0 => {
            out.push(0x80 | marker);
            out.extend_from_slice(&bytes[bytes.len() - count..]);
        }
        _ => out.push(bytes[bytes.len() - 1]),
    }
}

/// Appends a whole element.
pub(crate) fn push(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    push_head(out, tag, content.len());
    out.extend_from_slice(content);
}

/// An element around its parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(element_len(len));
    push_head(&mut out, tag, len);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Appends a positive INTEGER from its significant bytes, with the sign's zero byte where it is needed.
pub(crate) fn push_unsigned(out: &mut Vec<u8>, significant: &[u8]) {
    let start = significant.iter().position(|&b| b != 0).unwrap_or(significant.len());
    let digits = &significant[start..];
    let signed = digits.first().is_none_or(|&b| b & 0x80 != 0);
    push_head(out, INTEGER, digits.len() + usize::from(signed));
    if signed {
        out.push(0);
    }
    out.extend_from_slice(digits);
}

/// One element as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

/// Reads the elements of one level in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    fn error(&self, detail: &str) -> X509Error {
        X509Error::malformed(self.what, detail)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element; `None` at the end.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the next element.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, X509Error> {
        let (tag, first) = match *self.rest {
            [] | [_] => return Err(self.error("truncated")),
            [tag, _, ..] if tag & 0x1f == 0x1f => return Err(self.error("tag above 30")),
            [tag, first, ..] => (tag, first),
        };
        let (head, len) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            let count = usize::from(first & 0x7f);
            let digits = self.rest.get(2..2 + count).ok_or_else(|| self.error("truncated length"))?;
            if !(1..=4).contains(&count) {
                return Err(self.error("indefinite or oversized length"));
            }
            let len = digits.iter().fold(0_usize, |len, &b| len << 8 | usize::from(b));
            if len < 0x80 || digits[0] == 0 {
                return Err(self.error("length is not minimal"));
            }
            (2 + count, len)
        };
        let end = head.checked_add(len).filter(|&end| end <= self.rest.len());
        let end = end.ok_or_else(|| self.error("truncated"))?;
        let (whole, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Element { tag, content: &whole[head..], whole })
    }

    /// Takes the next element, which must bear this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, X509Error> {
        match self.peek() {
            Some(found) if found != tag => {
                Err(self.error(&format!("tag {found:#04x} instead of {tag:#04x}")))
            }
            _ => self.any(),
        }
    }

    /// Takes the next element if it bears this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, X509Error> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// A reader of the content of the next element, which must bear this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, X509Error> {
        let what = self.what;
        self.expect(tag).map(|element| Self::new(what, element.content))
    }

    /// Ends the level.
    pub(crate) fn finish(self) -> Result<(), X509Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(X509Error::Trailing { what: self.what, len: self.rest.len() })
        }
    }
}

/// The content of the one element that fills `bytes`.
pub(crate) fn only<'a>(what: &'static str, tag: u8, bytes: &'a [u8]) -> Result<Reader<'a>, X509Error> {
    let mut reader = Reader::new(what, bytes);
    let inner = reader.enter(tag)?;
    reader.finish()?;
    Ok(inner)
}

/// The bytes of a BIT STRING that has no unused bits, as keys and signatures have.
pub(crate) fn whole_bits<'a>(what: &'static str, content: &'a [u8]) -> Result<&'a [u8], X509Error> {
    match content {
        [0, bits @ ..] => Ok(bits),
        _ => Err(X509Error::malformed(what, "bit string with unused bits")),
    }
}

/// Where `part` lies in `whole`; `None` if it was not cut out of it.
pub(crate) fn place(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_minimally_and_read_back() {
        for (len, head) in [
            (0, vec![0x04, 0x00]),
            (127, vec![0x04, 0x7f]),
            (128, vec![0x04, 0x81, 0x80]),
            (255, vec![0x04, 0x81, 0xff]),
            (256, vec![0x04, 0x82, 0x01, 0x00]),
            (65_535, vec![0x04, 0x82, 0xff, 0xff]),
            (65_536, vec![0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let content = vec![7; len];
            let mut out = Vec::new();
            push(&mut out, OCTET_STRING, &content);
            assert_eq!(out[..head.len()], head);
            assert_eq!(out.len(), element_len(len));
            assert_eq!(only("test", OCTET_STRING, &out).unwrap().rest, content);
        }
    }

    #[test]
    fn integers_carry_the_sign_byte_only_where_it_is_needed() {
        for (digits, der) in [
            (&[0x7f][..], &[2, 1, 0x7f][..]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 0, 1], &[2, 1, 1]),
            (&[], &[2, 1, 0]),
            (&[0, 0], &[2, 1, 0]),
        ] {
            let mut out = Vec::new();
            push_unsigned(&mut out, digits);
            assert_eq!(out, der);
        }
    }

    #[test]
    fn every_departure_from_der_is_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x05, 0, 0, 0, 0, 0],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x85, 1, 0, 0, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x02, 0],
            &[0x3f, 0x01, 0x00],
        ] {
            assert!(Reader::new("test", bytes).any().is_err(), "{bytes:02x?}");
        }
        assert_eq!(
            only("test", OCTET_STRING, &[4, 0, 9]).unwrap_err(),
            X509Error::Trailing { what: "test", len: 1 }
        );
    }
}
