//! `bailiwick client …`

use serde_json::Value;

use crate::args::Client;
use crate::fail::Done;
use crate::print::{Printer, table};
use crate::talk::Talk;

pub(crate) async fn client(verb: Client, talk: &Talk, printer: Printer) -> Done {
    match verb {
        Client::List => {
            let answer = talk.ask("/api/v1/clients").await?;
            printer.show(&answer, |answer| {
                let rows = answer["clients"].as_array().cloned().unwrap_or_default();
                table(&rows, &["kind", "name", "client_id", "serial", "peer", "tls", "connected_at"])
            });
        }
        Client::Refused { limit } => {
            let answer = talk.ask(&format!("/api/v1/refusals?limit={limit}")).await?;
            printer.show(&answer, |answer| {
                let rows = answer["refusals"].as_array().cloned().unwrap_or_default();
                rows.iter().map(line).collect()
            });
        }
    }
    Ok(())
}

/// One refusal in a line: when, what, who, why.
fn line(row: &Value) -> String {
    let event = &row["event"];
    let text = |keys: &[&str]| keys.iter().find_map(|key| event[*key].as_str()).unwrap_or("-").to_owned();
    format!(
        "{}  {}  {}  {}  {}\n",
        row["at"].as_str().unwrap_or("-"),
        text(&["event"]),
        text(&["principal", "subject", "peer"]),
        text(&["reason", "kind", "code"]),
        text(&["detail", "rule", "topic"]),
    )
}
