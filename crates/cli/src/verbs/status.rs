//! `bailiwick status` and `bailiwick reload`

use serde_json::json;

use crate::fail::{Done, Fail};
use crate::print::Printer;
use crate::talk::Talk;

pub(crate) async fn status(talk: &Talk, printer: Printer) -> Done {
    let answer = talk.ask("/api/v1/status").await?;
    printer.show(&answer, |answer| serde_json::to_string_pretty(answer).unwrap_or_default());
    Ok(())
}

pub(crate) async fn reload(talk: &Talk, printer: Printer) -> Done {
    if matches!(talk, Talk::Alone(_)) {
        return Err(Fail::failed("no server is running, so there is nothing to reload")
            .hint("to check what is on the disk: bailiwick serve --check"));
    }
    let answer = talk.post("/api/v1/reload", &json!({})).await?;
    printer.show(&answer, |answer| format!("reloaded: {answer}"));
    Ok(())
}
