use std::sync::Mutex;
use std::time::Duration;

use types::{Clock, Mono, Now, Wall};

/// 2026-08-01T00:00:00Z, in seconds since 1970: the date of every fixture that names no other.
pub const FIXED_SECS: i64 = 1_785_542_400;

/// The moment of every fixture that names no other.
#[must_use]
pub fn fixed_now() -> Now {
    Now { mono: Mono(1_000_000_000), wall: Wall::from_secs(FIXED_SECS) }
}

/// A clock that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedClock(pub Now);

impl Default for FixedClock {
    fn default() -> Self {
        Self(fixed_now())
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Now {
        self.0
    }
}

/// A clock that moves when the test says so, and whose date can be set apart from its time.
#[derive(Debug)]
pub struct StepClock(Mutex<Now>);

impl StepClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self(Mutex::new(now))
    }

    /// Both clocks go on by `by`.
    pub fn advance(&self, by: Duration) {
        self.change(|now| Now { mono: now.mono.plus(by), wall: now.wall.plus(by) });
    }

    /// Somebody sets the date; the monotonic clock does not notice.
    pub fn set_wall(&self, wall: Wall) {
        self.change(|now| Now { wall, ..now });
    }

    /// Sets the monotonic clock alone.
    pub fn set_mono(&self, mono: Mono) {
        self.change(|now| Now { mono, ..now });
    }

    /// Sets both.
    pub fn set(&self, to: Now) {
        self.change(|_| to);
    }

    fn change(&self, to: impl FnOnce(Now) -> Now) {
        let mut now = self.0.lock().expect("no test panics while it sets the clock");
        *now = to(*now);
    }
}

impl Default for StepClock {
    fn default() -> Self {
        Self::new(fixed_now())
    }
}

impl Clock for StepClock {
    fn now(&self) -> Now {
        *self.0.lock().expect("no test panics while it sets the clock")
    }
}
