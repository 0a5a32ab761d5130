//! The server's one reader of the real clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use types::{Clock, Mono, Now, Wall};

/// Seconds since 1970 at which this program was built, at the earliest.
const BUILT_AT: &str = env!("BAILIWICK_BUILT_AT");

/// The date before which a clock can't be right: when this program was built.
#[must_use]
pub fn built_at() -> Wall {
    Wall::from_secs(BUILT_AT.parse().unwrap_or_default())
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The monotonic clock starts at this call.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one reader of the monotonic clock in the server")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock in the server")]
    fn now(&self) -> Now {
        let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock before 1970 is as wrong as one at 1970; the floor refuses both.
            Err(_) => 0,
        };
        let mono = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now { mono: Mono(mono), wall: Wall(millis) }
    }
}
