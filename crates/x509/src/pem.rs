//! Wraps DER in PEM and takes it out again.
//! In: a label and bytes, or text. Out: text, or every block in order.
//! Invariant: a block that begins must end with the same label and hold padded base 64 only.
//! Never: reads a file; text outside the blocks is skipped, as OpenSSL writes such text.
//! Spec: RFC 7468.

use base64ct::{Base64, Encoding};
use types::Clipped;

use crate::error::X509Error;

const COLUMNS: usize = 64;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The text of one block, in lines of 64 columns.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = Base64::encode_string(der);
    let mut out = String::with_capacity(body.len() + body.len() / COLUMNS + 2 * label.len() + 36);
    out.push_str(BEGIN);
    out.push_str(label);
    out.push_str(DASHES);
    out.push('\n');
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(COLUMNS));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(END);
    out.push_str(label);
    out.push_str(DASHES);
    out.push('\n');
    out
}

/// Every block of the text with its label, in order.
///
/// # Errors
/// No block at all, a block without its end, or a body that is no base 64; names the line.
pub fn decode(text: &str) -> Result<Vec<(String, Vec<u8>)>, X509Error> {
    let wrong = |line: usize, detail: &str| X509Error::Pem { detail: format!("line {line}: {detail}") };
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String, usize)> = None;
    for (at, line) in text.lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        match &mut open {
            None => {
                if let Some(label) = line.strip_prefix(BEGIN) {
                    let label = label.strip_suffix(DASHES);
                    let label = label.ok_or_else(|| wrong(number, "BEGIN line does not end with dashes"))?;
                    open = Some((label, String::new(), number));
                }
            }
            Some((label, body, began)) => {
                if let Some(ended) = line.strip_prefix(END) {
                    if ended.strip_suffix(DASHES) != Some(*label) {
                        return Err(wrong(number, "END line does not match the BEGIN line"));
                    }
                    let der =
                        Base64::decode_vec(body).map_err(|_| wrong(*began, "body is not padded base 64"))?;
                    blocks.push(((*label).to_owned(), der));
                    open = None;
                } else if line.starts_with(DASHES) {
                    return Err(wrong(number, "block begins inside a block"));
                } else {
                    body.push_str(line);
                }
            }
        }
    }
    match (open, blocks.is_empty()) {
        (Some((label, _, began)), _) => {
            Err(wrong(began, &format!("block \"{}\" has no end", Clipped(label))))
        }
        (None, true) => Err(X509Error::Pem { detail: "no BEGIN line".to_owned() }),
        (None, false) => Ok(blocks),
    }
}

/// The one block of the text, which must bear one of these labels.
pub(crate) fn single(text: &str, labels: &[&str]) -> Result<Vec<u8>, X509Error> {
    let wanted = labels.first().copied().unwrap_or_default();
    let mut blocks = decode(text)?;
    match (blocks.pop(), blocks.len()) {
        (Some((label, der)), 0) if labels.contains(&label.as_str()) => Ok(der),
        (Some((label, _)), 0) => {
            Err(X509Error::Pem { detail: format!("block is \"{}\"; expected \"{wanted}\"", Clipped(&label)) })
        }
        (_, others) => {
            Err(X509Error::Pem { detail: format!("{} blocks; expected one \"{wanted}\"", others + 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_every_length_survive_a_round_trip() {
        for len in 0..200_u8 {
            let der: Vec<u8> = (0..len).collect();
            let text = encode("X", &der);
            assert_eq!(decode(&text).unwrap(), [("X".to_owned(), der.clone())]);
            assert_eq!(decode(&text.replace('\n', "\r\n")).unwrap().len(), 1);
        }
    }

    #[test]
    fn the_text_is_what_openssl_writes() {
        let text = encode("CERTIFICATE", &[0; 49]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "-----BEGIN CERTIFICATE-----");
        assert_eq!((lines[1].len(), lines[2]), (64, "AA=="));
        assert_eq!(lines[3], "-----END CERTIFICATE-----");
    }

    #[test]
    fn text_around_and_between_blocks_is_skipped() {
        let text = format!("subject=CN = a\n{}issuer\n{}bye", encode("A", b"1"), encode("B", b"2"));
        let labels: Vec<_> = decode(&text).unwrap().into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["A", "B"]);
    }

    #[test]
    fn a_broken_block_names_its_line() {
        for (text, detail) in [
            ("", "no BEGIN line"),
            ("\n-----BEGIN A-----\nAA==", "line 2: block \"A\" has no end"),
            ("-----BEGIN A\nAA==\n", "line 1: BEGIN line does not end with dashes"),
            ("-----BEGIN A-----\nAA==\n-----END B-----", "line 3: END line does not match the BEGIN line"),
            ("-----BEGIN A-----\nA=A=\n-----END A-----", "line 1: body is not padded base 64"),
            ("-----BEGIN A-----\n-----BEGIN A-----\n", "line 2: block begins inside a block"),
            (
                "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END A-----",
                "line 1: body is not padded base 64",
            ),
        ] {
            assert_eq!(decode(text).unwrap_err(), X509Error::Pem { detail: detail.to_owned() }, "{text:?}");
        }
    }

    #[test]
    fn a_single_block_must_bear_the_label_and_be_alone() {
        let one = encode("A", b"1");
        assert_eq!(single(&one, &["A"]).unwrap(), b"1");
        assert_eq!(single(&one, &["B", "C"]).unwrap_err().to_string(), "pem: block is \"A\"; expected \"B\"");
        let two = format!("{one}{one}");
        assert_eq!(single(&two, &["A"]).unwrap_err().to_string(), "pem: 2 blocks; expected one \"A\"");
    }
}
