//! The words of the audit, the one door that takes them, and the hash-chained log that keeps them.
//! In: what the other crates saw, as [`Event`]. Out: codes, levels, chained lines, a verdict on a whole log.
//! Invariant: an edited, dropped or moved line is named by [`verify`] (test: `an_edited_line_is_named`).
//! Never: carries a secret, reads a clock, writes a file.
//! Spec: DESIGN.md section 3, rows "events" and "log lines".

mod chain;
mod event;

pub use chain::{ChainBreak, ChainFault};
pub use chain::{
    Chained, Checkpoint, GENESIS, Start, Summary, chain, checkpoint_message, verify, verify_from,
};
pub use event::{Event, Level};

/// Who is told what happened: writes the log line, counts the metric, keeps the operator's view.
///
/// An implementation returns at once and never fails; a full buffer is counted, not waited for.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn note(&self, event: Event);
}
