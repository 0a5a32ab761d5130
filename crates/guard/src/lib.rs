//! Decides whether a message is fresh, and whether a peer keeps its rate.
//! In: StreamKey, ReplayRule, Stamp, Now. Out: Fresh, to be committed, or a ReplayRefusal.
//! Invariant: no stamp is committed twice; a stamp that is newer than all before is never a replay.
//! Never: reads a clock or a file; its memory is bounded.
//! Spec: DEVICE.md section 3; RFC 6479.

mod bucket;
mod ring;
mod rule;
mod stamps;
mod windows;

pub use bucket::Bucket;
pub use rule::{
    GuardError, Mode, OnMissing, ReplayKind, ReplayRefusal, ReplayRule, ReplayTable, Scope, Stamp, TimeUnit,
};
pub use windows::{Fresh, Limits, STREAMS_MAX, StreamKey, Windows};
