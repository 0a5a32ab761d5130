use aws_lc_rs::digest::{Context, SHA256};
use types::{Wall, hex};

/// What stands before the first line of a log.
pub const GENESIS: [u8; 32] = [0; 32];

const LINE_TAG: &[u8] = b"bailiwick log line v1\0";
const CHECKPOINT_TAG: &[u8] = b"bailiwick log checkpoint v1\0";

/// One line of the log, bound to all lines before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Its number; the first line is 1 and none is left out.
    pub seq: u64,
    /// When it was written.
    pub at: Wall,
    /// The hash of the line before it, [`GENESIS`] for the first.
    pub prev: [u8; 32],
    /// SHA-256 over all the other fields.
    pub hash: [u8; 32],
    /// The event as JSON.
    pub body: String,
}

/// Binds `body` to the line before it.
#[must_use]
pub fn chain(prev: [u8; 32], seq: u64, at: Wall, body: &str) -> Chained {
    Chained { seq, at, prev, hash: line_hash(prev, seq, at, body), body: body.to_owned() }
}

/// The tag and the fixed width of every field before the body make the hashed bytes unambiguous.
fn line_hash(prev: [u8; 32], seq: u64, at: Wall, body: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(LINE_TAG);
    context.update(&prev);
    context.update(&seq.to_be_bytes());
    context.update(&at.0.to_be_bytes());
    context.update(body.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A signature over the log up to one line: whoever can write the log but not sign can no longer
/// rewrite what stands before it, nor cut it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last line that it covers.
    pub seq: u64,
    /// That line's hash.
    pub hash: [u8; 32],
    /// When it was signed.
    pub at: Wall,
    /// The checkpoint key's signature over [`checkpoint_message`].
    pub signature: Vec<u8>,
}

/// The bytes that a checkpoint's signature covers.
#[must_use]
pub fn checkpoint_message(seq: u64, hash: &[u8; 32], at: Wall) -> Vec<u8> {
    [CHECKPOINT_TAG, &seq.to_be_bytes(), hash, &at.0.to_be_bytes()].concat()
}

/// Where a stretch of the log begins: the line before its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The number of the line before, 0 for a whole log.
    pub seq: u64,
    /// The hash of the line before, [`GENESIS`] for a whole log.
    pub hash: [u8; 32],
}

impl Default for Start {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS }
    }
}

/// What a sound log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many lines were read.
    pub lines: u64,
    /// The number of the last line, or of the line before when there was none.
    pub last_seq: u64,
    /// The hash of that line.
    pub last_hash: [u8; 32],
    /// How many checkpoints were verified.
    pub checkpoints: u64,
    /// The last line that a checkpoint covers; 0 if none does.
    pub signed_through: u64,
}

/// The first line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log line {seq}: {fault}")]
pub struct ChainBreak {
    /// The number of the line at which the log stops being sound.
    pub seq: u64,
    /// What is wrong there.
    pub fault: ChainFault,
}

impl ChainBreak {
    /// Somebody or something changed the log; only the operator can find out who.
    #[must_use]
    pub fn blame(&self) -> types::Blame {
        types::Blame::Operator
    }

    /// Stable slug for logs, metrics and documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.fault {
            ChainFault::OutOfOrder { .. } => "log.out_of_order",
            ChainFault::NotLinked { .. } => "log.not_linked",
            ChainFault::Edited { .. } => "log.edited",
            ChainFault::CheckpointDiffers { .. } => "log.checkpoint_differs",
            ChainFault::BadSignature => "log.bad_signature",
            ChainFault::CutOff { .. } => "log.cut_off",
        }
    }
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// Another line stands in its place: one was dropped, added or moved.
    #[error("missing; line {found} stands in its place")]
    OutOfOrder {
        /// The number that was found.
        found: u64,
    },
    /// It names another predecessor than the line before it.
    #[error("names {named} as the line before it, which has {before}")]
    NotLinked {
        /// What it names, in hex.
        named: String,
        /// The hash of the line before it, in hex.
        before: String,
    },
    /// Its hash does not fit its content.
    #[error("was changed: its hash is {written}, its content has {computed}")]
    Edited {
        /// The hash as written, in hex.
        written: String,
        /// The hash of the content, in hex.
        computed: String,
    },
    /// A signed checkpoint remembers another line here.
    #[error("was rewritten: its hash is {written}, the signed checkpoint has {signed}")]
    CheckpointDiffers {
        /// The hash as written, in hex.
        written: String,
        /// The hash in the checkpoint, in hex.
        signed: String,
    },
    /// The checkpoint for this line carries a wrong signature.
    #[error("its checkpoint carries a wrong signature")]
    BadSignature,
    /// A checkpoint covers a line that is not there.
    #[error("missing; a signed checkpoint covers line {covered}, the log ends before it")]
    CutOff {
        /// The line that the checkpoint covers.
        covered: u64,
    },
}

/// Reads a whole log, from its first line, against its checkpoints. `is_signed` says whether a
/// signature by the checkpoint key fits a message.
///
/// # Errors
/// The first line that is wrong, and how.
pub fn verify(
    lines: impl Iterator<Item = Chained>,
    checkpoints: &[Checkpoint],
    is_signed: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Summary, ChainBreak> {
    verify_from(Start::default(), lines, checkpoints, is_signed)
}

/// Reads a stretch of a log that begins after `start`; checkpoints at or before `start` must fit it
/// or are passed over when they lie before it.
///
/// # Errors
/// As [`verify`].
pub fn verify_from(
    start: Start,
    lines: impl Iterator<Item = Chained>,
    checkpoints: &[Checkpoint],
    is_signed: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Summary, ChainBreak> {
    let mut marks: Vec<&Checkpoint> = checkpoints.iter().filter(|mark| mark.seq >= start.seq).collect();
    marks.sort_by_key(|mark| mark.seq);
    let mut marks = marks.into_iter().peekable();
    let mut summary =
        Summary { lines: 0, last_seq: start.seq, last_hash: start.hash, checkpoints: 0, signed_through: 0 };
    let settle = |summary: &mut Summary, marks: &mut std::iter::Peekable<_>| {
        while let Some(mark) = marks.next_if(|mark: &&Checkpoint| mark.seq == summary.last_seq) {
            check_mark(mark, summary.last_hash, &is_signed)?;
            summary.checkpoints += 1;
            summary.signed_through = mark.seq;
        }
        Ok(())
    };
    settle(&mut summary, &mut marks)?;
    for line in lines {
        check_line(&line, &summary)?;
        summary.lines += 1;
        summary.last_seq = line.seq;
        summary.last_hash = line.hash;
        settle(&mut summary, &mut marks)?;
    }
    match marks.next() {
        Some(mark) => Err(ChainBreak {
            seq: summary.last_seq.saturating_add(1),
            fault: ChainFault::CutOff { covered: mark.seq },
        }),
        None => Ok(summary),
    }
}

fn check_line(line: &Chained, before: &Summary) -> Result<(), ChainBreak> {
    let wanted = before.last_seq.saturating_add(1);
    let broken = |fault| Err(ChainBreak { seq: wanted, fault });
    if line.seq != wanted {
        return broken(ChainFault::OutOfOrder { found: line.seq });
    }
    let computed = line_hash(line.prev, line.seq, line.at, &line.body);
    if computed != line.hash {
        return broken(ChainFault::Edited { written: hex(&line.hash), computed: hex(&computed) });
    }
    if line.prev != before.last_hash {
        return broken(ChainFault::NotLinked { named: hex(&line.prev), before: hex(&before.last_hash) });
    }
    Ok(())
}

fn check_mark(
    mark: &Checkpoint,
    hash: [u8; 32],
    is_signed: &impl Fn(&[u8], &[u8]) -> bool,
) -> Result<(), ChainBreak> {
    let broken = |fault| Err(ChainBreak { seq: mark.seq, fault });
    if !is_signed(&checkpoint_message(mark.seq, &mark.hash, mark.at), &mark.signature) {
        return broken(ChainFault::BadSignature);
    }
    if mark.hash != hash {
        return broken(ChainFault::CheckpointDiffers { written: hex(&hash), signed: hex(&mark.hash) });
    }
    Ok(())
}
