//! A small MQTT 3.1.1 client over TLS: connect, publish, subscribe, receive, disconnect.
//! In: a verified stream, packets of the application. Out: messages, acknowledgements, the session.
//! Invariant: an unacknowledged QoS 1 message is sent again, with its packet id, when the session resumes.
//! Never: opens a plain connection by itself; asks for QoS 2.
//! Spec: MQTT 3.1.1 sections 3 and 4; [MQTT-4.4.0-1], [MQTT-4.6.0-1].

mod client;
mod connection;
mod error;
mod options;
mod session;
mod wire;

#[cfg(test)]
mod client_test;
#[cfg(test)]
pub(crate) mod fake;

pub use client::{Client, PendingAck};
pub use error::{ClientError, ConnackRefusal};
pub use options::{Message, Options, Will};
pub use session::Session;
pub use types::QoS;
