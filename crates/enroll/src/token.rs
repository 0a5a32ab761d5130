use types::{Clipped, Secret};

/// How a provisioning token is not one; never carries the token's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TokenShape {
    #[error("empty; expected bw1.<id>.<secret>")]
    Empty,
    #[error("{len} bytes; expected 57, as bw1.<id>.<secret>")]
    Length { len: usize },
    #[error("begins with \"{shown}\"; expected bw1.<id>.<secret>")]
    Version { shown: String },
    #[error("a whole bundle; expected only the part before the @")]
    Bundle,
    #[error("character {at} is not one of a-z 0-9 without i l o u, or a dot is missing")]
    Character { at: usize },
}

/// A provisioning token as a device presents it: `bw1.<id>.<secret>`.
pub(crate) struct PresentedToken {
    /// The public half, under which the store finds it.
    pub(crate) id: String,
    /// The secret half; only its hash goes on from here.
    secret: Secret,
}

const HALF: usize = 26;
const WHOLE: usize = 4 + HALF + 1 + HALF;
const CROCKFORD: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl PresentedToken {
    /// Takes the token apart; upper case is taken as lower case, for tokens that a person typed.
    pub(crate) fn parse(text: &str) -> Result<Self, TokenShape> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenShape::Empty);
        }
        if text.contains('@') {
            return Err(TokenShape::Bundle);
        }
        if text.len() != WHOLE {
            return Err(TokenShape::Length { len: text.len() });
        }
        let lower = Secret::new(text.to_ascii_lowercase().into_bytes());
        let bytes = lower.expose();
        let version = bytes.get(..4).unwrap_or_default();
        if version != b"bw1." {
            // At most the four characters that stand where the version should be.
            let shown = Clipped(&String::from_utf8_lossy(version)).to_string();
            return Err(TokenShape::Version { shown });
        }
        for (at, &byte) in bytes.iter().enumerate().skip(4) {
            let fits = if at == 4 + HALF { byte == b'.' } else { CROCKFORD.contains(&byte) };
            if !fits {
                return Err(TokenShape::Character { at: at + 1 });
            }
        }
        let id = String::from_utf8_lossy(bytes.get(4..4 + HALF).unwrap_or_default()).into_owned();
        let secret = Secret::new(bytes.get(4 + HALF + 1..).unwrap_or_default().to_vec());
        Ok(Self { id, secret })
    }

    /// What the store compares: SHA-256 of the secret's text.
    pub(crate) fn secret_hash(&self) -> [u8; 32] {
        x509::sha256(self.secret.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdefghjkmnpqrs";
    const SECRET: &str = "zyxwvtsrqpnmkjhgfedcba9876";

    #[test]
    fn a_token_is_its_version_its_id_and_its_secret() {
        let token = PresentedToken::parse(&format!("bw1.{ID}.{SECRET}")).ok().unwrap();
        assert_eq!(token.id, ID);
        assert_eq!(token.secret_hash(), x509::sha256(SECRET.as_bytes()));
    }

    #[test]
    fn case_and_the_newline_of_a_file_do_not_matter() {
        let text = format!("bw1.{ID}.{SECRET}\n").to_ascii_uppercase();
        let token = PresentedToken::parse(&text).ok().unwrap();
        assert_eq!(token.id, ID);
        assert_eq!(token.secret_hash(), x509::sha256(SECRET.as_bytes()));
    }

    #[test]
    fn every_other_shape_is_named_without_the_secret() {
        let check = |text: String, expected: &str| {
            let error = PresentedToken::parse(&text).err().unwrap().to_string();
            assert_eq!(error, expected);
            assert!(!error.contains(&SECRET[..8]), "{error}");
        };
        check(String::new(), "empty; expected bw1.<id>.<secret>");
        check("x".into(), "1 bytes; expected 57, as bw1.<id>.<secret>");
        check(format!("bw1.{ID}.{SECRET}z"), "58 bytes; expected 57, as bw1.<id>.<secret>");
        check(format!("bw2.{ID}.{SECRET}"), "begins with \"bw2.\"; expected bw1.<id>.<secret>");
        check(
            format!("bw1.{ID}-{SECRET}"),
            "character 31 is not one of a-z 0-9 without i l o u, or a dot is missing",
        );
        check(
            format!("bw1.{ID}.{}i", &SECRET[1..]),
            "character 57 is not one of a-z 0-9 without i l o u, or a dot is missing",
        );
        check(
            format!("bw1.{ID}.{SECRET}@host:1#sha256:00"),
            "a whole bundle; expected only the part before the @",
        );
    }

    #[test]
    fn text_that_is_not_ascii_is_refused_and_does_not_break_the_cut() {
        for text in ["é".repeat(28) + "x", format!("bw1.{}é.{SECRET}", &ID[2..])] {
            assert_eq!(text.len(), WHOLE);
            assert!(PresentedToken::parse(&text).is_err());
        }
    }
}
