//! The bench's clock: the one place here that looks at the machine's.
//! In: nothing. Out: both clocks.
//! Invariant: `mono` starts at zero and never goes back.
//! Never: used to measure a cost; that is the operating system's CPU time.
//! Spec: none.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use types::{Clock, Mono, Now, Wall};

/// The machine's clocks.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "a binary has to read the clock somewhere: here")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "a binary has to read the clock somewhere: here")]
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            wall: Wall(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}
