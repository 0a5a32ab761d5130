use serde_json::Value;
use types::Clipped;

/// Seconds between readings, within the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) u64);

const SECS_MAX: u64 = 86_400;

/// Reads the payload of the `interval` command: `{"interval_s": 5}`.
///
/// # Errors
/// What is wrong with it, in words for the answer.
pub(crate) fn interval(payload: &[u8]) -> Result<Interval, String> {
    const EXPECTED: &str = "expected {\"interval_s\": 1 to 86400}";
    let document: Value = serde_json::from_slice(payload).map_err(|_| format!("not JSON; {EXPECTED}"))?;
    let value = document.get("interval_s").ok_or_else(|| format!("interval_s is missing; {EXPECTED}"))?;
    match value.as_u64() {
        Some(secs) if (1..=SECS_MAX).contains(&secs) => Ok(Interval(secs)),
        _ => Err(format!("interval_s {}: allowed 1 to {SECS_MAX}", Clipped(&value.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_from_1_to_86400_are_taken() {
        for secs in [1, 5, 86_400] {
            assert_eq!(
                interval(format!("{{\"interval_s\": {secs}, \"x\": 1}}").as_bytes()),
                Ok(Interval(secs))
            );
        }
    }

    #[test]
    fn all_else_is_answered_with_what_is_wrong() {
        for (payload, error) in [
            ("{\"interval_s\": 0}", "interval_s 0: allowed 1 to 86400"),
            ("{\"interval_s\": 86401}", "interval_s 86401: allowed 1 to 86400"),
            ("{\"interval_s\": -5}", "interval_s -5: allowed 1 to 86400"),
            ("{\"interval_s\": 1.5}", "interval_s 1.5: allowed 1 to 86400"),
            ("{\"interval_s\": \"5\"}", "interval_s \\\"5\\\": allowed 1 to 86400"),
            ("{\"interval_s\": null}", "interval_s null: allowed 1 to 86400"),
            ("{}", "interval_s is missing; expected {\"interval_s\": 1 to 86400}"),
            ("5", "interval_s is missing; expected {\"interval_s\": 1 to 86400}"),
            ("", "not JSON; expected {\"interval_s\": 1 to 86400}"),
            ("\u{0}", "not JSON; expected {\"interval_s\": 1 to 86400}"),
        ] {
            assert_eq!(interval(payload.as_bytes()), Err(error.to_owned()), "{payload}");
        }
    }
}
