//! Lengths of time in the configuration.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A length of time as a person writes it: `500ms`, `30s`, `5m`, `24h`, `365d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole days.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self(Duration::from_secs(days * 86_400))
    }

    /// Takes the text of a length of time.
    ///
    /// # Errors
    /// The text and the forms that are allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
            Some(total) if total > 0 => Ok(Self(Duration::from_millis(total))),
            _ => Err(format!(
                "\"{}\" is no length of time; write 500ms, 30s, 5m, 24h or 365d",
                types::Clipped(text)
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"30s\" or \"365d\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_write_them() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("2d", 172_800_000)]
        {
            assert_eq!(Span::parse(text), Ok(Span(Duration::from_millis(millis))));
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5h", "1y", "99999999999999999999d", "999999999999999999d"]
        {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }
}
