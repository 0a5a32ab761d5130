use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::AgentError;
use crate::files;

/// How many sequence numbers are taken from the disk at a time (RFC 8613 appendix B.1.1): one
/// write per thousand messages, and after a loss of power a gap, never a number twice.
pub const SEQ_AHEAD: u64 = 1_000;

/// What a message is stamped with, so that a recorded one can be told from a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Rises by one with each message, across boots.
    pub seq: u64,
    /// Rises by one with each start.
    pub boot: u64,
}

/// The two counters of a device, kept across boots and losses of power.
#[derive(Debug)]
pub struct Counters {
    path: PathBuf,
    boot: u64,
    next: u64,
    reserved: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: u64,
    seq_reserved: u64,
}

impl Counters {
    /// Begins a boot: the boot counter rises, and sequence numbers go on above all that may have
    /// been used.
    ///
    /// # Errors
    /// The file cannot be read or written, or is damaged: then no message is sent, because the
    /// server would take it for a recorded one.
    pub fn begin_boot(path: &Path) -> Result<Self, AgentError> {
        let kept = read(path)?.unwrap_or(Kept { boot: 0, seq_reserved: 0 });
        let mut counters = Self {
            path: path.to_owned(),
            boot: kept.boot.saturating_add(1),
            next: kept.seq_reserved,
            reserved: kept.seq_reserved,
        };
        counters.reserve().map_err(|error| AgentError::state(path, error))?;
        Ok(counters)
    }

    /// The next stamp; every thousandth writes the file first.
    ///
    /// # Errors
    /// The file cannot be written; the number is not used then.
    pub fn stamp(&mut self) -> Result<Stamp, AgentError> {
        if self.next >= self.reserved {
            self.reserve().map_err(|error| AgentError::state(&self.path, error))?;
        }
        let seq = self.next;
        self.next += 1;
        Ok(Stamp { seq, boot: self.boot })
    }

    /// The boot counter.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// What the file holds: the boot counter and the first number that is not reserved.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn peek(path: &Path) -> Result<Option<(u64, u64)>, AgentError> {
        Ok(read(path)?.map(|kept| (kept.boot, kept.seq_reserved)))
    }

    fn reserve(&mut self) -> io::Result<()> {
        let reserved = self.next.saturating_add(SEQ_AHEAD);
        let kept = Kept { boot: self.boot, seq_reserved: reserved };
        files::write_atomic(&self.path, serde_json::to_string(&kept)?.as_bytes(), 0o600)?;
        self.reserved = reserved;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Kept>, AgentError> {
    match files::read(path).map_err(|error| AgentError::state(path, error))? {
        None => Ok(None),
        Some(text) => serde_json::from_str(&text).map(Some).map_err(|error| AgentError::State {
            path: path.display().to_string(),
            detail: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_rise_across_boots_and_never_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters.json");
        let mut last = None;
        for boot in 1..=4_u64 {
            let mut counters = Counters::begin_boot(&path).unwrap();
            assert_eq!(counters.boot(), boot);
            for _ in 0..boot * 700 {
                let stamp = counters.stamp().unwrap();
                assert_eq!(stamp.boot, boot);
                assert!(last.is_none_or(|last| stamp.seq > last), "{last:?} {stamp:?}");
                last = Some(stamp.seq);
            }
        }
    }

    #[test]
    fn the_first_number_is_0_and_the_file_is_a_thousand_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters.json");
        let mut counters = Counters::begin_boot(&path).unwrap();
        assert_eq!(Counters::peek(&path).unwrap(), Some((1, 1_000)));
        for seq in 0..1_000 {
            assert_eq!(counters.stamp().unwrap(), Stamp { seq, boot: 1 });
        }
        assert_eq!(Counters::peek(&path).unwrap(), Some((1, 1_000)));
        assert_eq!(counters.stamp().unwrap().seq, 1_000);
        assert_eq!(Counters::peek(&path).unwrap(), Some((1, 2_000)));
        drop(counters);
        assert_eq!(Counters::begin_boot(&path).unwrap().stamp().unwrap(), Stamp { seq: 2_000, boot: 2 });
    }

    #[test]
    fn a_damaged_file_stops_the_boot_instead_of_starting_again_at_0() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counters.json");
        for text in ["", "{", "{\"boot\":1}", "{\"boot\":-1,\"seq_reserved\":0}"] {
            fs_err::write(&path, text).unwrap();
            assert!(matches!(Counters::begin_boot(&path), Err(AgentError::State { .. })), "{text}");
        }
    }
}
