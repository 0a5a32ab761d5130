//! What the tests of every crate need: a clock, randomness, a hierarchy, an observer, all under their control.
//! In: a seed, a date, names. Out: values that the real code of x509, ca, signer and trust has made.
//! Invariant: the same seed and date give the same serials and dates; only keys are fresh.
//! Never: is a dependency of anything that ships; makes a proof by another way than the real one.
//! Spec: DESIGN.md section 7; RFC 5280.
#![expect(clippy::expect_used, reason = "a fixture that cannot be made has to fail its test at once")]
#![expect(clippy::panic, reason = "what a test waits for in vain has to fail it, with all that did happen")]

mod clock;
mod entropy;
pub mod pki;
mod recorder;

pub use clock::{FIXED_SECS, FixedClock, StepClock, fixed_now};
pub use entropy::Seeded;
pub use recorder::Recorder;
