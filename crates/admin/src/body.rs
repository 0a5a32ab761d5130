use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use types::{Clipped, DeviceId};

use crate::error::ApiError;

/// The named values of one request, from its body or its query. Each is taken out by the endpoint
/// that knows it; whatever is left over is refused, so a misspelt field never goes unnoticed.
pub(crate) struct Fields {
    values: BTreeMap<String, Value>,
    known: Vec<&'static str>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Body,
    Query,
}

impl Fields {
    /// Takes a JSON object; an empty body is an empty object.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, ApiError> {
        let values = if bytes.iter().all(u8::is_ascii_whitespace) {
            BTreeMap::new()
        } else {
            serde_json::from_slice::<Unique>(bytes)
                .map_err(|error| ApiError::malformed("body", json_fault(&error)))?
                .0
        };
        Ok(Self { values, known: Vec::new(), place: Place::Body })
    }

    /// Takes a query string.
    pub(crate) fn from_query(query: Option<&str>) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (unescape(name)?, unescape(value)?);
            if values.contains_key(&name) {
                return Err(ApiError::malformed(
                    "query",
                    format!("parameter \"{}\" given twice", Clipped(&name)),
                ));
            }
            values.insert(name, Value::String(value));
        }
        Ok(Self { values, known: Vec::new(), place: Place::Query })
    }

    fn at(&self, name: &str) -> String {
        match self.place {
            Place::Body => format!("/{name}"),
            Place::Query => format!("?{name}"),
        }
    }

    fn wrong(&self, name: &str, detail: impl Into<String>) -> ApiError {
        ApiError::malformed(self.at(name), detail)
    }

    /// The value of `name` if it is there and not null.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// A text, if it is there.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, format!("{}; expected a text", kind_of(&other)))),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, name: &'static str) -> Result<String, ApiError> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.wrong(name, "empty; expected a text")),
            None => Err(self.wrong(name, "missing; expected a text")),
        }
    }

    /// A free text of at most `bytes_max` bytes without control characters, if it is there.
    pub(crate) fn short_text(
        &mut self,
        name: &'static str,
        bytes_max: usize,
    ) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if text.is_empty() || text.len() > bytes_max {
            return Err(self.wrong(name, format!("{} bytes; allowed 1 to {bytes_max}", text.len())));
        }
        match text.char_indices().find(|(_, ch)| ch.is_control()) {
            Some((at, _)) => Err(self.wrong(name, format!("control character at byte {at}"))),
            None => Ok(Some(text)),
        }
    }

    /// A name in the grammar of device ids, and the original text if it was written as a MAC.
    pub(crate) fn name(&mut self, field: &'static str) -> Result<(DeviceId, Option<String>), ApiError> {
        let text = self.required_text(field)?;
        DeviceId::parse_written(&text).map_err(|error| self.wrong(field, error.to_string()))
    }

    /// A yes or no; no if it is missing.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(name, format!("{}; expected true or false", kind_of(&other)))),
        }
    }

    /// A whole number within a range.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ApiError> {
        let number = match self.take(name) {
            None => return Ok(default),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) if self.place == Place::Query => text.parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(number) if range.contains(&number) => Ok(number),
            _ => Err(self
                .wrong(name, format!("expected a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A length of time: whole seconds, or a text such as `90s`, `15m`, `24h`, `7d`.
    pub(crate) fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        max: Duration,
    ) -> Result<Duration, ApiError> {
        let secs = match self.take(name) {
            None => return Ok(default),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => duration_secs(&text),
            Some(_) => None,
        };
        match secs {
            Some(secs) if secs > 0 && secs <= max.as_secs() => Ok(Duration::from_secs(secs)),
            Some(secs) => Err(self.wrong(name, format!("{secs} s; allowed 1 s to {} s", max.as_secs()))),
            None => {
                Err(self.wrong(name, "expected whole seconds, or a text such as \"15m\", \"24h\", \"7d\""))
            }
        }
    }

    /// Refuses what no endpoint asked for.
    pub(crate) fn end(self) -> Result<(), ApiError> {
        let Some(name) = self.values.keys().next() else { return Ok(()) };
        let what = match self.place {
            Place::Body => "field",
            Place::Query => "parameter",
        };
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        Err(ApiError::UnknownField {
            place: self.at(&Clipped(name).to_string()),
            detail: format!("unknown {what}; known: {known}"),
        })
    }
}

/// A JSON object in which no name stands twice.
struct Unique(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Objects;
        impl<'de> Visitor<'de> for Objects {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if values.contains_key(&name) {
                        let shown = Clipped(&name).to_string();
                        return Err(serde::de::Error::custom(format_args!("field \"{shown}\" given twice")));
                    }
                    values.insert(name, value);
                }
                Ok(Unique(values))
            }
        }
        deserializer.deserialize_map(Objects)
    }
}

/// The fault and its place; of a value of the wrong type only the type, never its text.
fn json_fault(error: &serde_json::Error) -> String {
    if error.is_data() && !error.to_string().starts_with("field ") {
        return format!("not a JSON object, at line {} column {}", error.line(), error.column());
    }
    error.to_string()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn duration_secs(text: &str) -> Option<u64> {
    let unit_at = text.len().checked_sub(1)?;
    if !text.is_char_boundary(unit_at) {
        return None;
    }
    let (digits, unit) = text.split_at(unit_at);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Percent-decoding with `+` as a space, as forms and query strings are written.
fn unescape(text: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::malformed("query", "a percent escape is not UTF-8 in hexadecimal");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next().ok_or_else(wrong)?, bytes.next().ok_or_else(wrong)?];
                let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
                out.extend(types::unhex(digits).map_err(|_| wrong())?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(result: Result<impl Sized, ApiError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn a_field_that_no_endpoint_knows_is_refused_by_name() {
        let mut fields = Fields::from_json(br#"{"id": "a", "fleeet": "x"}"#).unwrap();
        assert_eq!(fields.required_text("id").unwrap(), "a");
        assert_eq!(fields.text("fleet").unwrap(), None);
        assert_eq!(fault(fields.end()), "/fleeet: unknown field; known: id, fleet");
        let fields = Fields::from_query(Some("limit=1")).unwrap();
        assert_eq!(fault(fields.end()), "?limit: unknown parameter; known: none");
    }

    #[test]
    fn broken_json_names_line_and_column() {
        assert_eq!(fault(Fields::from_json(b"{\n \"id\": }")), "body: expected value at line 2 column 8");
        assert_eq!(
            fault(Fields::from_json(br#"{"a":1,"a":2}"#)),
            "body: field \"a\" given twice at line 1 column 13"
        );
        assert!(
            fault(Fields::from_json(b"\"bw1.secret\""))
                .starts_with("body: not a JSON object, at line 1 column")
        );
        assert!(fault(Fields::from_json(b"[]")).starts_with("body: not a JSON object"));
        assert!(Fields::from_json(b"").unwrap().end().is_ok());
        assert!(Fields::from_json(b" \n").unwrap().end().is_ok());
        assert!(Fields::from_json(b"{} x").is_err());
    }

    #[test]
    fn values_of_the_wrong_type_are_named_with_their_field() {
        let mut fields = Fields::from_json(br#"{"id": 5, "replace": "yes", "n": -1, "e": ""}"#).unwrap();
        assert_eq!(fault(fields.text("id")), "/id: a number; expected a text");
        assert_eq!(fault(fields.flag("replace")), "/replace: a text; expected true or false");
        assert_eq!(fault(fields.number("n", 1, 1..=9)), "/n: expected a whole number from 1 to 9");
        assert_eq!(fault(fields.required_text("e")), "/e: empty; expected a text");
        assert_eq!(fault(fields.required_text("gone")), "/gone: missing; expected a text");
    }

    #[test]
    fn names_obey_the_grammar_and_macs_are_normalised() {
        let mut fields = Fields::from_json(br#"{"a": "pump 7", "b": "24:0A:C4:00:01:02"}"#).unwrap();
        assert_eq!(
            fault(fields.name("a")),
            "/a: device id \"pump 7\": space at byte 4; allowed a-z A-Z 0-9 - _ . (1 to 64 bytes)"
        );
        let (id, original) = fields.name("b").unwrap();
        assert_eq!((id.as_str(), original.as_deref()), ("240ac4000102", Some("24:0A:C4:00:01:02")));
    }

    #[test]
    fn durations_are_seconds_or_a_number_with_a_unit() {
        let day = Duration::from_secs(86_400);
        let read = |json: &str| {
            let mut fields = Fields::from_json(json.as_bytes()).unwrap();
            fields.duration("ttl", day, day * 90)
        };
        for (json, secs) in [
            ("{}", 86_400),
            (r#"{"ttl":1}"#, 1),
            (r#"{"ttl":"15m"}"#, 900),
            (r#"{"ttl":"24h"}"#, 86_400),
            (r#"{"ttl":"90d"}"#, 90 * 86_400),
            (r#"{"ttl":"1s"}"#, 1),
            (r#"{"ttl":null}"#, 86_400),
        ] {
            assert_eq!(read(json).unwrap().as_secs(), secs, "{json}");
        }
        for json in [
            r#"{"ttl":0}"#,
            r#"{"ttl":"91d"}"#,
            r#"{"ttl":"h"}"#,
            r#"{"ttl":"-1h"}"#,
            r#"{"ttl":"1w"}"#,
            r#"{"ttl":""}"#,
            r#"{"ttl":"1é"}"#,
            r#"{"ttl":1.5}"#,
            r#"{"ttl":"99999999999999999999d"}"#,
        ] {
            assert!(fault(read(json)).starts_with("/ttl: "), "{json}");
        }
    }

    #[test]
    fn queries_are_decoded_and_bounded() {
        let mut fields = Fields::from_query(Some("topic=a%2Fb+c%23&limit=7&empty")).unwrap();
        assert_eq!(fields.text("topic").unwrap().unwrap(), "a/b c#");
        assert_eq!(fields.number("limit", 50, 1..=100).unwrap(), 7);
        assert_eq!(fields.text("empty").unwrap().unwrap(), "");
        assert!(fields.end().is_ok());
        assert!(Fields::from_query(Some("a=%f")).is_err());
        assert!(Fields::from_query(Some("a=%ff")).is_err());
        assert!(Fields::from_query(Some("a=1&a=2")).is_err());
        let mut fields = Fields::from_query(Some("limit=101")).unwrap();
        assert_eq!(
            fault(fields.number("limit", 50, 1..=100)),
            "?limit: expected a whole number from 1 to 100"
        );
    }
}
