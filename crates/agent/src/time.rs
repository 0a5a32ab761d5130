use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tls::{ServerRefused, TlsError};
use types::{Clock, Now, Wall};

/// No copy of this agent ran before this date: 2026-01-01T00:00:00Z.
pub(crate) const BUILT: Wall = Wall(1_767_225_600_000);

/// A clock that never shows a date before what is known to have passed: for devices whose own
/// clock starts at 1970 with each boot.
pub(crate) struct FlooredClock {
    inner: Arc<dyn Clock>,
    floor: AtomicI64,
}

impl FlooredClock {
    pub(crate) fn new(inner: Arc<dyn Clock>, floor: Wall) -> Self {
        Self { inner, floor: AtomicI64::new(floor.max(BUILT).0) }
    }

    /// The earliest date that this clock shows.
    pub(crate) fn floor(&self) -> Wall {
        Wall(self.floor.load(Ordering::Relaxed))
    }

    /// From now on, no date before `floor` is shown.
    pub(crate) fn raise(&self, floor: Wall) {
        self.floor.fetch_max(floor.0, Ordering::Relaxed);
    }

    /// Whether the machine's own clock shows a date that can be.
    pub(crate) fn is_set(&self) -> bool {
        self.inner.now().wall >= self.floor()
    }

    /// Takes the date of a certificate that lies ahead, for a clock that is behind: then the check
    /// can be made again. It never helps against a certificate that has expired.
    pub(crate) fn catch_up(&self, error: &TlsError) -> bool {
        match error {
            TlsError::Server { refused: ServerRefused::NotYetValid, date: Some(date), .. } => {
                let behind = self.now().wall < *date;
                self.raise(*date);
                behind
            }
            _ => false,
        }
    }
}

impl Clock for FlooredClock {
    fn now(&self) -> Now {
        let now = self.inner.now();
        Now { mono: now.mono, wall: now.wall.max(self.floor()) }
    }
}

/// A date as the device API writes it: RFC 3339 in UTC, `2026-08-01T00:00:00Z`, with or without a
/// fraction of a second.
pub(crate) fn parse_date(text: &str) -> Option<Wall> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !fits || date.next().is_some() || clock.next().is_some() {
        return None;
    }
    // The inverse of `Wall`'s Display: days from a date, in years that begin in March.
    let shifted_year = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days =
        365 * shifted_year + shifted_year / 4 - shifted_year / 100 + shifted_year / 400 + of_year - 719_468;
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let wall = Wall((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000 + millis);
    // A day that the month does not have would come back as another date.
    wall.to_string().starts_with(text.get(..19)?).then_some(wall)
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use types::Mono;

    use super::*;

    struct Fixed(Wall);
    impl Clock for Fixed {
        fn now(&self) -> Now {
            Now { mono: Mono(7), wall: self.0 }
        }
    }

    fn not_yet(date: Wall) -> TlsError {
        TlsError::Server {
            refused: ServerRefused::NotYetValid,
            host: "h".into(),
            detail: String::new(),
            date: Some(date),
        }
    }

    #[test]
    fn a_clock_at_1970_shows_the_floor_and_a_right_one_itself() {
        let lost = FlooredClock::new(Arc::new(Fixed(Wall(0))), Wall(0));
        assert_eq!(lost.now(), Now { mono: Mono(7), wall: BUILT });
        assert!(!lost.is_set());
        let later = BUILT.plus(std::time::Duration::from_secs(60));
        let right = FlooredClock::new(Arc::new(Fixed(later)), Wall(0));
        assert_eq!(right.now().wall, later);
        assert!(right.is_set());
        right.raise(Wall(later.0 + 1));
        assert!(!right.is_set());
        right.raise(Wall(0));
        assert_eq!(right.floor(), Wall(later.0 + 1));
    }

    #[test]
    fn a_clock_that_is_behind_catches_up_once_with_a_date_ahead() {
        let clock = FlooredClock::new(Arc::new(Fixed(Wall(0))), Wall(0));
        let date = Wall(BUILT.0 + 5_000);
        assert!(clock.catch_up(&not_yet(date)));
        assert_eq!(clock.now().wall, date);
        assert!(!clock.catch_up(&not_yet(date)));
        assert!(!clock.catch_up(&TlsError::EmptyChain));
    }

    #[test]
    fn dates_of_the_api_are_read_back_exactly() {
        for secs in [0, 951_782_400, 1_785_542_400, 1_798_761_599, 2_524_607_999, 4_102_444_800] {
            let wall = Wall::from_secs(secs);
            assert_eq!(parse_date(&wall.to_string()), Some(wall), "{wall}");
        }
        assert_eq!(parse_date("2026-08-01T00:00:00.250Z"), Some(Wall(1_785_542_400_250)));
        for text in [
            "",
            "2026-08-01",
            "2026-08-01T00:00:00",
            "2026-08-01T00:00:00+00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-08-01T24:00:00Z",
            "2026-08-01T00:00:00.xZ",
            "26-08-01T00:00:00:00Z",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
