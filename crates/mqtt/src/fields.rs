//! Finds the few fields that a replay rule names in a JSON payload, without building the document.
//! In: the rule's JSON pointers, a payload. Out: a `Stamp`; a field that is not surely there is missing.
//! Invariant: a field that stands twice is missing, so that no two readers can differ about it.
//! Never: believes a document with bytes after its end.
//! Spec: RFC 6901; RFC 8259; RFC 3339.

use std::fmt;
use std::hash::Hasher;

use guard::{ReplayRule, Stamp, TimeUnit};
use rustc_hash::FxHasher;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Sequence number, boot counter, time.
const FIELDS: usize = 3;

/// What the rule looks at in this payload.
pub(crate) fn stamp(rule: &ReplayRule, payload: &[u8]) -> Stamp {
    let time = rule.time.as_ref();
    let pointers = [rule.seq.as_deref(), rule.epoch.as_deref(), time.map(|(pointer, _)| pointer.as_str())];
    let mut found = Found::default();
    let mut reader = serde_json::Deserializer::from_slice(payload);
    let walk = Walk { rest: pointers, found: &mut found };
    if walk.deserialize(&mut reader).and_then(|()| reader.end()).is_err() {
        found = Found::default();
    }
    let digest = if rule.seq.is_some() {
        0
    } else {
        let mut hasher = FxHasher::default();
        hasher.write(payload);
        hasher.finish()
    };
    let [seq, epoch, at] = found.0;
    Stamp {
        seq: seq.whole(),
        epoch: epoch.whole(),
        time_ms: time.and_then(|(_, unit)| at.time(*unit)),
        digest,
    }
}

/// A scalar of the document.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Scalar {
    /// Not there, there twice, or neither a number nor a date.
    #[default]
    Nothing,
    /// There, but seen a second time.
    Twice,
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// RFC 3339 text, in milliseconds since 1970.
    Date(i64),
}

impl Scalar {
    fn whole(self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(value),
            // A counter that a language without integers wrote, `7.0`, exact below 2^53.
            Self::Float(value) if value >= 0.0 && value.fract() == 0.0 && value < 9e15 => Some(value as u64),
            _ => None,
        }
    }

    fn time(self, unit: TimeUnit) -> Option<i64> {
        let scale = match unit {
            TimeUnit::Rfc3339 => {
                return match self {
                    Self::Date(millis) => Some(millis),
                    _ => None,
                };
            }
            TimeUnit::Millis => 1,
            TimeUnit::Seconds => 1_000,
        };
        match self {
            Self::Unsigned(value) => i64::try_from(value).ok()?.checked_mul(scale),
            Self::Signed(value) => value.checked_mul(scale),
            Self::Float(value) if value.abs() < 9e12 => Some((value * scale as f64).round() as i64),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Found([Scalar; FIELDS]);

impl Found {
    fn put(&mut self, wanted: [bool; FIELDS], value: Scalar) {
        for (slot, _) in self.0.iter_mut().zip(wanted).filter(|(_, wanted)| *wanted) {
            *slot = if *slot == Scalar::Nothing { value } else { Scalar::Twice };
        }
    }
}

/// One value of the document, and what of each pointer is left at it: `Some("")` is a field found.
struct Walk<'a> {
    rest: [Option<&'a str>; FIELDS],
    found: &'a mut Found,
}

impl<'a> Walk<'a> {
    fn here(&self) -> [bool; FIELDS] {
        self.rest.map(|rest| rest == Some(""))
    }

    /// The pointers that go on below the key or index `name`.
    fn below(&self, name: &str) -> [Option<&'a str>; FIELDS] {
        self.rest.map(|rest| {
            let rest = rest?.strip_prefix('/')?;
            let end = rest.find('/').unwrap_or(rest.len());
            token_is(&rest[..end], name).then_some(&rest[end..])
        })
    }
}

/// Whether a pointer's token, where `~1` is `/` and `~0` is `~`, is this name.
fn token_is(token: &str, name: &str) -> bool {
    if !token.contains('~') {
        return token == name;
    }
    token.replace("~1", "/").replace("~0", "~") == name
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let here = self.here();
        self.found.put(here, Scalar::Unsigned(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let here = self.here();
        self.found.put(here, Scalar::Signed(value));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let here = self.here();
        self.found.put(here, Scalar::Float(value));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let here = self.here();
        if here.contains(&true) {
            // A text that is no date still takes the field's place, so that a second one is noticed.
            self.found.put(here, rfc3339_millis(value).map_or(Scalar::Twice, Scalar::Date));
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        let here = self.here();
        self.found.put(here, Scalar::Twice);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        let here = self.here();
        self.found.put(here, Scalar::Twice);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let here = self.here();
        self.found.put(here, Scalar::Twice);
        while let Some(rest) = map.next_key_seed(Key(&self))? {
            // A value that nobody asked for is read all the same: `IgnoredAny` would pass over
            // text that other readers refuse, and they would then differ about the document.
            map.next_value_seed(Walk { rest, found: &mut *self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let here = self.here();
        self.found.put(here, Scalar::Twice);
        let mut at = 0_usize;
        loop {
            let rest = if self.rest.iter().flatten().any(|rest| !rest.is_empty()) {
                self.below(&at.to_string())
            } else {
                [None; FIELDS]
            };
            if items.next_element_seed(Walk { rest, found: &mut *self.found })?.is_none() {
                return Ok(());
            }
            at += 1;
        }
    }
}

/// Reads a key and says which pointers go on below it.
struct Key<'w, 'a>(&'w Walk<'a>);

impl<'de, 'a> DeserializeSeed<'de> for Key<'_, 'a> {
    type Value = [Option<&'a str>; FIELDS];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'_, 'a> {
    type Value = [Option<&'a str>; FIELDS];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.below(name))
    }
}

/// `2026-08-01T00:00:00[.fraction](Z|±hh:mm)` in milliseconds since 1970.
fn rfc3339_millis(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mark =
        |at: usize, allowed: &str| text.as_bytes().get(at).is_some_and(|b| allowed.as_bytes().contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let marks = mark(4, "-") && mark(7, "-") && mark(10, "Tt ") && mark(13, ":") && mark(16, ":");
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let in_range = (1..=12).contains(&month) && (1..=days_in_month).contains(&day);
    if !marks || !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let padded: String = fraction[..digits].chars().chain("00".chars()).take(3).collect();
        millis = padded.parse().ok()?;
        rest = &fraction[digits..];
    }
    let offset_minutes = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) =
                (rest.get(1..3)?.parse::<i64>().ok()?, rest.get(4..6)?.parse::<i64>().ok()?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    // A date to days by the proleptic Gregorian calendar, counted in eras of 400 years from 0000-03-01.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    Some(seconds * 1_000 + millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{TopicFilter, Wall};

    use super::*;

    fn rule(seq: Option<&str>, epoch: Option<&str>, time: Option<(&str, TimeUnit)>) -> ReplayRule {
        let mut rule = ReplayRule::new(TopicFilter::parse("#").unwrap());
        rule.seq = seq.map(str::to_owned);
        rule.epoch = epoch.map(str::to_owned);
        rule.time = time.map(|(pointer, unit)| (pointer.to_owned(), unit));
        rule
    }

    fn seq(pointer: &str, payload: &str) -> Option<u64> {
        stamp(&rule(Some(pointer), None, None), payload.as_bytes()).seq
    }

    #[test]
    fn the_three_fields_are_found_wherever_they_stand() {
        let rule = rule(Some("/seq"), Some("/meta/boot"), Some(("/ts", TimeUnit::Seconds)));
        let payload = br#"{"device":"x","ts":1754000000,"meta":{"a":[1,{"seq":9}],"boot":3},"temp":21.5,"seq":18446744073709551615}"#;
        assert_eq!(
            stamp(&rule, payload),
            Stamp { seq: Some(u64::MAX), epoch: Some(3), time_ms: Some(1_754_000_000_000), digest: 0 }
        );
    }

    #[test]
    fn a_field_that_is_not_surely_there_is_missing() {
        for payload in [
            "",
            "7",
            "null",
            "{}",
            "[]",
            r#"{"seq":"7"}"#,
            r#"{"seq":-1}"#,
            r#"{"seq":1.5}"#,
            r#"{"seq":null}"#,
            r#"{"seq":true}"#,
            r#"{"seq":{"seq":1}}"#,
            r#"{"seq":[1]}"#,
            r#"{"seq":1,"seq":1}"#,
            r#"{"seq":null,"seq":1}"#,
            r#"{"seq":"x","seq":1}"#,
            r#"{"seq":{},"seq":1}"#,
            r#"{"seq":1} x"#,
            r#"{"seq":1}{"seq":2}"#,
            r#"{"seq":1"#,
            r#"{"a":{"seq":1}}"#,
            "{\"seq\":1,\"a\":\"\u{1}\"}",
            r#"{"seq":18446744073709551616}"#,
            r#"{"Seq":1}"#,
        ] {
            assert_eq!(seq("/seq", payload), None, "{payload}");
        }
    }

    #[test]
    fn a_document_that_other_readers_refuse_has_no_fields() {
        for payload in [
            &br#"{"seq":1,"a":"\ud800"}"#[..],
            br#"{"a":["\udc00x"],"seq":1}"#,
            br#"{"\ud800":1,"seq":1}"#,
            b"{\"seq\":1,\"a\":\"\xff\"}",
            br#"{"seq":1,"a":1e999}"#,
            br#"{"seq":1,"a":01}"#,
        ] {
            assert!(serde_json::from_slice::<serde_json::Value>(payload).is_err());
            let stamp = stamp(&rule(Some("/seq"), None, None), payload);
            assert_eq!(stamp.seq, None, "{}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn pointers_follow_arrays_and_escapes() {
        assert_eq!(seq("/a/1/b", r#"{"a":[{"b":1},{"b":2}]}"#), Some(2));
        assert_eq!(seq("/a~1b/~01", r#"{"a/b":{"~1":5}}"#), Some(5));
        assert_eq!(seq("/0", "[8,9]"), Some(8));
        assert_eq!(seq("/", r#"{"":4}"#), Some(4));
        assert_eq!(seq("/seq", r#"{"s\u0065q":6}"#), Some(6));
        assert_eq!(seq("/seq", r#"{"seq":7.0}"#), Some(7));
    }

    #[test]
    fn times_are_read_in_their_unit() {
        let time =
            |unit, payload: &str| stamp(&rule(None, None, Some(("/ts", unit))), payload.as_bytes()).time_ms;
        assert_eq!(time(TimeUnit::Millis, r#"{"ts":1754000000123}"#), Some(1_754_000_000_123));
        assert_eq!(time(TimeUnit::Seconds, r#"{"ts":1754000000.25}"#), Some(1_754_000_000_250));
        assert_eq!(time(TimeUnit::Seconds, r#"{"ts":-5}"#), Some(-5_000));
        assert_eq!(time(TimeUnit::Rfc3339, r#"{"ts":"2026-08-01T00:00:00Z"}"#), Some(1_785_542_400_000));
        assert_eq!(time(TimeUnit::Rfc3339, r#"{"ts":1754000000}"#), None);
        assert_eq!(time(TimeUnit::Millis, r#"{"ts":"2026-08-01T00:00:00Z"}"#), None);
    }

    #[test]
    fn dates_of_rfc_3339_become_milliseconds() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00.5z", Some(951_782_400_500)),
            ("2026-08-01T02:00:00.123456+02:00", Some(1_785_542_400_123)),
            ("2026-07-31T23:00:00-01:00", Some(1_785_542_400_000)),
            ("1969-12-31T23:59:59Z", Some(-1_000)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-08-01T24:00:00Z", None),
            ("2026-08-01T00:00:00", None),
            ("2026-08-01T00:00:00.Z", None),
            ("2026-08-01T00:00:00+2:00", None),
            ("2026-08-0aT00:00:00Z", None),
            ("é026-08-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(rfc3339_millis(text), millis, "{text}");
        }
    }

    #[test]
    fn without_a_sequence_number_the_payload_is_hashed() {
        let rule = rule(None, None, Some(("/ts", TimeUnit::Millis)));
        let (a, b) = (stamp(&rule, br#"{"ts":1,"v":1}"#), stamp(&rule, br#"{"ts":1,"v":2}"#));
        assert_ne!(a.digest, b.digest);
        assert_eq!((a.time_ms, b.time_ms), (Some(1), Some(1)));
    }

    proptest! {
        #[test]
        fn every_printed_date_is_read_back(millis in -30_000_000_000_000_i64..200_000_000_000_000) {
            prop_assert_eq!(rfc3339_millis(&Wall(millis).to_string()), Some(millis));
        }

        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = stamp(&rule(Some("/a"), Some("/b/0"), Some(("/c", TimeUnit::Rfc3339))), &payload);
        }

        #[test]
        fn a_field_is_found_only_in_what_is_a_document_for_every_reader(
            inner in r#"[-0-9.eE\[\]{}:,"a-c\\uDd8 ]{0,40}"#, seq_value: u32,
        ) {
            let text = format!(r#"{{"a":{inner},"seq":{seq_value}}}"#);
            if seq("/seq", &text).is_some() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }

        #[test]
        fn fields_agree_with_a_whole_document(seq_value in any::<u64>(), other in any::<i32>()) {
            let document = serde_json::json!({"x": [other, {"seq": other}], "n": {"seq": seq_value}});
            let text = document.to_string();
            prop_assert_eq!(seq("/n/seq", &text), document.pointer("/n/seq").and_then(|v| v.as_u64()));
        }
    }
}
