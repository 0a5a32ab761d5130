//! Issues certificates: every way in, the orders of operators, and the CRLs that end trust.
//! In: HTTP requests of devices, orders in the store, the watched trust view. Out: certificates, CA bundle, CRLs.
//! Invariant: nothing is signed that was not admitted, linted and recorded first, in this order (test: provision).
//! Never: reads a clock or randomness of its own, writes a token to a log, imports another outer crate.
//! Spec: DESIGN.md flows A and D, section 4; RFC 2986, RFC 5280, RFC 9457.

mod settings;
mod state;

pub use settings::{CrlSettings, FailureLimits, Lifetimes, Settings};
pub use state::{Deps, Enroll};
