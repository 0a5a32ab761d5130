//! `bailiwick policy …`

use std::path::{Path, PathBuf};

use serde_json::json;
use server::{Config, Layout};

use crate::args::Policy;
use crate::fail::{Done, Fail};
use crate::print::Printer;
use crate::talk::{Talk, segment};

/// Compiles rule files without touching the installation; without a name, those of the configuration.
pub(crate) fn check(dir: &Path, files: Vec<PathBuf>, printer: Printer) -> Done {
    let files = if files.is_empty() {
        let layout = Layout::new(dir);
        Config::read(&layout.config())?.policy.files.iter().map(|file| layout.relative(file)).collect()
    } else {
        files
    };
    let table = server::compile_rules(&files, 0)?;
    let shown = json!({"rules": table.rules(), "files": files});
    printer.show(&shown, |_| format!("{} rules in {} files: in order", table.rules(), files.len()));
    Ok(())
}

pub(crate) async fn policy(verb: Policy, talk: &Talk, printer: Printer) -> Done {
    let Policy::Explain { principal, action, topic } = verb else {
        return Err(Fail::usage("policy check does not ask a server"));
    };
    let topic: String = topic.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!(
        "/api/v1/policy/explain?principal={}&action={}&topic={topic}",
        segment(&principal)?,
        segment(&action)?
    );
    let answer = talk.ask(&path).await?;
    printer.show(&answer, |answer| answer["text"].as_str().unwrap_or_default().to_owned());
    if answer["permitted"].as_bool() == Some(false) {
        return Err(Fail::denied(format!("{principal} may not {action}")));
    }
    Ok(())
}
