//! `log verify`: holds the chained lines against each other and against the signed checkpoints.

use std::path::Path;

use audit::{Chained, Checkpoint, Summary};
use serde_json::Value;
use types::Wall;

use crate::error::ServerError;
use crate::keys::{self, Unlock};
use crate::layout::Layout;

/// Checks the whole log, in the words in which the operator API gives it.
///
/// # Errors
/// The first line that does not follow from the one before, a checkpoint that this installation did
/// not sign, or an answer that is no log.
pub fn verify_log(dir: &Path, lines: &[Value], checkpoints: &[Value]) -> Result<Summary, ServerError> {
    let layout = Layout::new(dir);
    let key = keys::checkpoint(&layout, &Unlock::read(&layout)?)?;
    let lines: Option<Vec<Chained>> = lines.iter().map(line_of).collect();
    let marks: Option<Vec<Checkpoint>> = checkpoints.iter().map(mark_of).collect();
    let (Some(lines), Some(marks)) = (lines, marks) else {
        return Err(ServerError::Part { what: "log", error: "the answer is no log".to_owned() });
    };
    audit::verify(lines.into_iter(), &marks, |message, signature| key.is_signed(message, signature))
        .map_err(|broken| ServerError::part("log")(&broken))
}

fn hash_of(value: &Value) -> Option<[u8; 32]> {
    types::unhex(value.as_str()?).ok()?.try_into().ok()
}

fn line_of(value: &Value) -> Option<Chained> {
    Some(Chained {
        seq: value["seq"].as_u64()?,
        at: Wall(value["at_ms"].as_i64()?),
        prev: hash_of(&value["prev"])?,
        hash: hash_of(&value["hash"])?,
        body: value["body"].as_str()?.to_owned(),
    })
}

fn mark_of(value: &Value) -> Option<Checkpoint> {
    Some(Checkpoint {
        seq: value["seq"].as_u64()?,
        hash: hash_of(&value["hash"])?,
        at: Wall(value["at_ms"].as_i64()?),
        signature: types::unhex(value["signature"].as_str()?).ok()?,
    })
}
