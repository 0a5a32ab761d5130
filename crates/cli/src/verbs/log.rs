//! `bailiwick log …`

use std::path::Path;

use serde_json::Value;

use crate::args::Log;
use crate::fail::{Done, Fail};
use crate::print::Printer;
use crate::talk::Talk;

pub(crate) async fn log(verb: Log, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    match verb {
        Log::Show { after, limit } => {
            let answer = talk.ask(&format!("/api/v1/events?after={after}&limit={limit}")).await?;
            printer.show(&answer, |answer| {
                let rows = answer["events"].as_array().cloned().unwrap_or_default();
                rows.iter().map(|row| format!("{row}\n")).collect()
            });
        }
        Log::Verify => {
            let mut lines: Vec<Value> = Vec::new();
            loop {
                let after = lines.last().and_then(|line| line["seq"].as_u64()).unwrap_or(0);
                let answer = talk.ask(&format!("/api/v1/events?after={after}&limit=1000")).await?;
                let page = answer["events"].as_array().cloned().unwrap_or_default();
                if page.is_empty() {
                    break;
                }
                lines.extend(page);
            }
            let summary = server::verify_log(dir, &lines).map_err(|broken| {
                Fail::failed(broken).hint(
                    "somebody changed the database by hand; the lines before the named one are still proved",
                )
            })?;
            printer.show(&summary, |summary| {
                format!(
                    "{} lines, each linked to the one before; {} checkpoints signed",
                    summary["lines"], summary["checkpoints"]
                )
            });
        }
    }
    Ok(())
}
