//! Writes and reads the dates of certificates and revocation lists.
//! In: dates or DER elements. Out: DER elements or dates.
//! Invariant: years 1950 to 2049 are UTCTime, all others GeneralizedTime, both to the second in UTC.
//! Spec: RFC 5280 section 4.1.2.5.

use time::{Date, Month, OffsetDateTime, Time};
use types::Wall;

use crate::error::X509Error;
use crate::tlv;

/// The last second that a certificate can name: 9999-12-31T23:59:59Z.
pub(crate) const LAST: Wall = Wall(253_402_300_799_000);
/// The first second that we write: 0000-01-01T00:00:00Z.
const FIRST: Wall = Wall(-62_167_219_200_000);

fn digits(out: &mut Vec<u8>, value: u32, count: u32) {
    for place in (0..count).rev() {
        let digit = value / 10_u32.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// Appends the date, cut to the second; dates that no certificate can name become the nearest that it can.
pub(crate) fn push(out: &mut Vec<u8>, date: Wall) {
    let secs = date.clamp(FIRST, LAST).secs();
    let at = OffsetDateTime::from_unix_timestamp(secs).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let year = u32::try_from(at.year()).unwrap_or(0);
    if (1950..2050).contains(&year) {
        tlv::push_head(out, tlv::UTC_TIME, 13);
        digits(out, year % 100, 2);
    } else {
        tlv::push_head(out, tlv::GENERALIZED_TIME, 15);
        digits(out, year, 4);
    }
    for part in [u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()] {
        digits(out, u32::from(part), 2);
    }
    out.push(b'Z');
}

/// The date as a whole element.
pub(crate) fn element(date: Wall) -> Vec<u8> {
    let mut out = Vec::with_capacity(17);
    push(&mut out, date);
    out
}

/// Reads a date in one of the two forms, to the second and in UTC as DER demands.
pub(crate) fn read(what: &'static str, element: tlv::Element<'_>) -> Result<Wall, X509Error> {
    let wrong = || X509Error::malformed(what, "date");
    let (year_digits, text) = match element.tag {
        tlv::UTC_TIME => (2, element.content),
        tlv::GENERALIZED_TIME => (4, element.content),
        _ => return Err(wrong()),
    };
    if text.len() != year_digits + 11 || text.last() != Some(&b'Z') {
        return Err(wrong());
    }
    let number = |from: usize, count: usize| {
        text[from..from + count].iter().try_fold(0_u16, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + u16::from(byte - b'0')).ok_or_else(wrong)
        })
    };
    let year = match (year_digits, number(0, year_digits)?) {
        (2, short) if short < 50 => 2000 + short,
        (2, short) => 1900 + short,
        (_, full) => full,
    };
    let mut parts = [0_u8; 5];
    for (at, part) in parts.iter_mut().enumerate() {
        *part = u8::try_from(number(year_digits + 2 * at, 2)?).map_err(|_| wrong())?;
    }
    let [month, day, hour, minute, second] = parts;
    let month = Month::try_from(month).map_err(|_| wrong())?;
    let date = Date::from_calendar_date(i32::from(year), month, day).map_err(|_| wrong())?;
    let time = Time::from_hms(hour, minute, second).map_err(|_| wrong())?;
    Ok(Wall::from_secs(OffsetDateTime::new_utc(date, time).unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(der: &[u8]) -> Result<Wall, X509Error> {
        read("test", tlv::Reader::new("test", der).any().unwrap())
    }

    #[test]
    fn the_form_changes_at_2050_and_before_1950() {
        for (secs, text) in [
            (2_524_607_999, "\x17\x0d491231235959Z"),
            (2_524_608_000, "\x18\x0f20500101000000Z"),
            (-631_152_000, "\x17\x0d500101000000Z"),
            (-631_152_001, "\x18\x0f19491231235959Z"),
            (0, "\x17\x0d700101000000Z"),
            (951_782_400, "\x17\x0d000229000000Z"),
            (253_402_300_799, "\x18\x0f99991231235959Z"),
        ] {
            let der = element(Wall::from_secs(secs));
            assert_eq!(String::from_utf8(der.clone()).unwrap(), text);
            assert_eq!(read_back(&der).unwrap(), Wall::from_secs(secs));
        }
    }

    #[test]
    fn milliseconds_are_cut_and_unnameable_dates_are_clamped() {
        assert_eq!(element(Wall(999)), element(Wall(0)));
        assert_eq!(element(Wall(i64::MAX)), element(LAST));
        assert_eq!(read_back(&element(Wall(i64::MIN))).unwrap(), FIRST);
    }

    #[test]
    fn dates_that_der_forbids_are_refused() {
        for text in [
            "\x17\x0b4912312359Z",
            "\x17\x0d4912312359599",
            "\x17\x0d491331235959Z",
            "\x17\x0d490230235959Z",
            "\x17\x0d490228245959Z",
            "\x17\x0d49022x235959Z",
            "\x18\x1120500101000000.1Z",
            "\x16\x0d491231235959Z",
        ] {
            assert!(read_back(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
