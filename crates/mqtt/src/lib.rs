//! Keeps the broker's state for one shard: sessions, routing, retained messages, wills, flights.
//! In: `Input` and `Now`. Out: frames, commands, records and notes, into the caller's `Sink`.
//! Invariant: a message is routed only beside `Permitted<Publish>` and its replay verdict.
//! Never: reads a clock, a file, or the network; never waits; never logs.
//! Spec: MQTT 3.1.1; DESIGN.md flows B, C and D.

mod api;
mod cleared;
mod codec;
mod core;
mod deliver;
mod error;
mod fields;
mod gate;
mod limits;
mod message;
mod retained;
mod router;
mod session;
mod trie;

pub use crate::api::{
    Command, ConnId, Input, Limit, Lsn, Note, Recheck, Record, SHARDS_MAX, ShardId, Sink, Stats,
};
pub use crate::core::Core;
pub use crate::error::MqttError;
pub use crate::limits::Limits;
pub use crate::message::Message;
pub use crate::session::SessionKey;
