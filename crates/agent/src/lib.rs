//! The device: first boot, the connection that lasts, telemetry, commands. Its binary is `bailiwick-agent`.
//! In: a bundle or a provisioned folder, a clock, entropy. Out: a certificate, a session, events.
//! Invariant: the key is on the disk before it is used, and no secret leaves before the server is verified.
//! Never: turns a check of the server off; sends a private key; reaches the server's crates.
//! Spec: DESIGN.md section 4 (bootstrap, MQTT); MQTT 3.1.1.

mod bundle;
mod clock;
mod command;

mod counters;
mod error;
mod files;
mod layout;
pub mod mqtt;
mod outbox;
mod provision;
mod request;
mod run;
mod source;
mod state;
mod time;

#[cfg(test)]
mod provision_test;
#[cfg(test)]
mod run_test;

pub use bundle::{Bundle, BundleError};
pub use clock::SystemClock;
pub use counters::{Counters, SEQ_AHEAD, Stamp};
pub use error::AgentError;
pub use layout::Layout;
pub use provision::{Deps, Provisioned, provision};
pub use run::{Backoff, Config, Event, run};
pub use source::{Simulated, Source};
pub use state::{Home, Status, status};
