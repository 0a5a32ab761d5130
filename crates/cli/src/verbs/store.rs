//! `bailiwick store …`

use std::path::Path;

use serde_json::json;
use server::Layout;

use crate::fail::Done;
use crate::print::Printer;

/// Takes in a restored backup: a higher incarnation, higher CRL numbers, unused tokens dead.
pub(crate) async fn recover(dir: &Path, yes: bool, printer: Printer) -> Done {
    if !yes {
        printer.show(&json!({"dry_run": true}), |_| {
            "would raise the incarnation and the CRL numbers and kill the tokens that were unused at the backup; do it with --yes".to_owned()
        });
        return Ok(());
    }
    let recovered = server::recover(&Layout::new(dir)).await?;
    let shown = json!({"epoch": recovered.epoch.to_string(), "tokens_killed": recovered.tokens_killed});
    printer.show(&shown, |_| {
        format!("recovered: epoch {}, {} unused tokens killed", recovered.epoch, recovered.tokens_killed)
    });
    Ok(())
}

/// Lowers the floor under the clock to now: for a machine whose clock once ran ahead.
pub(crate) async fn accept_clock(dir: &Path, yes: bool, printer: Printer) -> Done {
    if !yes {
        printer.show(&json!({"dry_run": true}), |_| {
            "would believe this machine's clock as it is now, although a later date was seen; do it with --yes"
                .to_owned()
        });
        return Ok(());
    }
    let now = server::accept_clock(&Layout::new(dir)).await?;
    printer.show(&json!({"now": now.to_string()}), |_| format!("the clock is believed from {now} on"));
    Ok(())
}
