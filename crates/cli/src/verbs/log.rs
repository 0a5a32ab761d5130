//! `bailiwick log …`

use std::path::Path;

use serde_json::{Value, json};

use crate::args::Log;
use crate::fail::{Done, Fail};
use crate::print::Printer;
use crate::talk::Talk;

pub(crate) async fn log(verb: Log, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    match verb {
        Log::Show { after, limit } => {
            let answer = talk.list("events", Some(after.to_string()), limit).await?;
            printer.show(&answer, |answer| {
                let rows = answer["events"].as_array().cloned().unwrap_or_default();
                rows.iter().map(line).collect()
            });
        }
        Log::Verify => {
            // The signatures are asked for first: a line that comes meanwhile has none to miss.
            let checkpoints = all(talk, "checkpoints").await?;
            let lines = all(talk, "events").await?;
            let summary = server::verify_log(dir, &lines, &checkpoints).map_err(|broken| {
                Fail::failed(broken)
                    .hint("the database was changed by hand; the lines before the named one are still proved")
            })?;
            let shown = json!({
                "lines": summary.lines,
                "checkpoints": summary.checkpoints,
                "signed_through": summary.signed_through,
            });
            printer.show(&shown, |_| {
                format!(
                    "{} lines, each linked to the one before; {} signed checkpoints, the last over line {}",
                    summary.lines, summary.checkpoints, summary.signed_through
                )
            });
        }
    }
    Ok(())
}

/// One line of the log for a person: number, date, what happened.
fn line(row: &Value) -> String {
    format!("{}  {}  {}\n", row["seq"], row["at"].as_str().unwrap_or("-"), row["event"])
}

/// Every page of a listing that is keyed by `seq`.
async fn all(talk: &Talk, what: &str) -> Done<Vec<Value>> {
    let mut rows: Vec<Value> = Vec::new();
    loop {
        let after = rows.last().and_then(|row| row["seq"].as_u64()).unwrap_or(0);
        let answer = talk.ask(&format!("/api/v1/{what}?after={after}&limit=1000")).await?;
        let page = answer[what].as_array().cloned().unwrap_or_default();
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}
