//! Wires an installation: configuration, keys, store, enrolment, broker, operator API, socket.
//! In: a data folder. Out: a running server, or the operator API in this process when none runs.
//! Invariant: every port is bound only after the whole configuration is valid (test: a_taken_port_opens_no_other).
//! Never: needs the root key; decides who is trusted.
//! Spec: DESIGN.md sections 3 and 4.

mod addresses;
mod api;
mod clock;
mod config;
mod error;
mod hierarchy;
mod init;
mod keys;
mod layout;
mod local;
mod lock;
mod log;
mod logcheck;
mod observer;
mod parts;
mod ports;
mod reload;
mod rules;
mod server_certificate;
mod span;
mod start;

pub use addresses::Addresses;
pub use clock::{SystemClock, built_at};
pub use config::{
    Certificates, Config, Installation, Limits, Listeners, LogLevel, Replay, ReplayMode, Tls, TlsVersion,
};
pub use error::ServerError;
pub use init::{InitPlan, Made, init};
pub use keys::export_server_key;
pub use layout::Layout;
pub use local::{Local, accept_clock, ask_socket, is_served, recover};
pub use logcheck::verify_log;
pub use observer::Watcher;
pub use rules::compile_rules;
pub use span::Span;
pub use start::{Output, Running, Signals, check, start};
