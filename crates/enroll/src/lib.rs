//! Issues certificates: every way in, the orders of operators, and the CRLs that end trust.
//! In: HTTP requests of devices, orders in the store, the watched trust view. Out: certificates, CA bundle, CRLs.
//! Invariant: nothing is signed that was not admitted, linted and recorded first, in this order (test: provision).
//! Never: reads a clock or randomness of its own, writes a token to a log, imports another outer crate.
//! Spec: DESIGN.md flows A and D, section 4; RFC 2986, RFC 5280, RFC 9457.

mod bundle;
mod crl;
mod error;
mod http;
mod issue;
mod limits;
mod orders;
mod provision;
mod settings;
mod shelf;
mod state;
mod token;

pub use crl::{Round, publish_due, write_crls};
pub use error::EnrollError;
pub use http::{devices_router, plain_router};
pub use orders::{carry_out_orders, recover_intents};
pub use provision::{Provisioned, provision};
pub use settings::{CrlSettings, FailureLimits, Lifetimes, Settings};
pub use state::{Deps, Enroll};
