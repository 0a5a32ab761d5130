//! Holds the live sessions: listener, limits, handshakes, shards, and the I/O around the MQTT state machine.
//! In: TCP connections, the ledger, watched trust and policy. Out: MQTT over mutual TLS, and events.
//! Invariant: after an epoch is acknowledged nothing more passes for what it refuses (test: `revoke`).
//! Never: issues or signs; waits on one client, or one shard, for another.
//! Spec: DESIGN.md flows B, C and D, sections 3 and 6; MQTT 3.1.1.

mod board;
mod broker;
mod connect;
mod connection;
mod error;
mod limits;
mod live;
mod mailbox;
mod notes;
mod outputs;
mod pace;
mod settings;
mod shard;
mod stats;

pub use broker::{Broker, listen, start};
pub use error::BrokerError;
pub use live::LiveClient;
pub use settings::{AddressLimits, Deps, Settings};
pub use stats::Stats;
