use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use types::{Clock, Mono, Now, Wall};

/// The machine's clocks; the agent's one reader of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the agent's one reader of the clock")]
    fn now(&self) -> Now {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        let since = Instant::now().saturating_duration_since(start);
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            // A clock before 1970 is one that was never set.
            Err(_) => 0,
        };
        Now { mono: Mono::default().plus(since), wall: Wall(wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second.mono >= first.mono);
        assert!(first.wall > Wall::from_secs(1_700_000_000));
    }
}
