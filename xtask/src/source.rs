//! Reads the workspace's own files for the rules that no compiler knows.

use std::path::{Path, PathBuf};

use crate::run::{Outcome, captured, command, root};

/// A file may have this many lines; a longer one is to be split.
const LINES_MAX: usize = 600;
const JUNK: &[&str] = &["util", "utils", "helper", "helpers", "misc", "common", "manager"];

/// A file that git tracks, with its text.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The Rust files that git tracks or would track.
pub(crate) fn rust_files() -> Outcome<Vec<Source>> {
    let listed =
        captured(command("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]))?;
    let mut files = Vec::new();
    for line in listed.lines() {
        let path = PathBuf::from(line);
        match std::fs::File::open(root().join(&path)) {
            Ok(mut file) => {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut file, &mut text).map_err(|e| format!("{line}: {e}"))?;
                files.push(Source { path, text });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{line}: {error}")),
        }
    }
    Ok(files)
}

/// Whether a file is of a crate's shipped source, not of its tests, benches or the build's commands.
fn shipped(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.starts_with("crates/") && text.contains("/src/") && !text.starts_with("crates/testkit/")
}

/// Every breach of the rules for files, a sentence each.
pub(crate) fn breaches(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for Source { path, text } in files {
        let shown = path.display();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{shown}: {lines} lines; limit {LINES_MAX}: split it by what it does"));
        }
        if path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| JUNK.contains(&stem)) {
            found.push(format!("{shown}: a junk-drawer name; name the file after the one thing in it"));
        }
        // Spelled in two parts, so that this file does not breach its own rule.
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimplemented", "!(")] {
            if let Some(at) = text.lines().position(|line| line.contains(mark)) {
                found.push(format!("{shown}:{}: unfinished mark {mark}", at + 1));
            }
        }
        // rustls would take an expired CRL and hash the whole list at every handshake; ours never sees one.
        for forbidden in [concat!("with_", "crls("), concat!("Expiration", "Policy")] {
            if text.contains(forbidden) {
                found.push(format!(
                    "{shown}: {forbidden} hands a CRL to rustls; revocation is checked in trust"
                ));
            }
        }
        let first_code = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let root_file = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if shipped(path) && root_file && !first_code.starts_with("//!") {
            found.push(format!("{shown}: the crate's root has no module documentation"));
        }
        if text.contains(concat!("RecordedTicket::", "assertion(")) && !may_assert(path) {
            found.push(format!(
                "{shown}: calls RecordedTicket::assertion; only enroll and the ceremony may vouch"
            ));
        }
    }
    found
}

/// The one place outside `ca` that may say "this ticket is recorded" is the flow of `enroll`; the
/// ceremony of `server` makes the installation's first certificates; tests of `ca` and the test kit show it.
fn may_assert(path: &Path) -> bool {
    ["crates/ca", "crates/enroll/src", "crates/server/src/init", "crates/testkit"]
        .iter()
        .any(|allowed| path.starts_with(allowed) || path.to_string_lossy().starts_with(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn each_rule_for_files_can_fail() {
        let long = "x\n".repeat(LINES_MAX + 1);
        for (file, word) in [
            (source("crates/a/src/b.rs", &long), "601 lines"),
            (source("crates/a/src/utils.rs", ""), "junk-drawer"),
            (source("crates/a/src/b.rs", concat!("// TO", "DO")), "unfinished"),
            (source("crates/a/src/b.rs", concat!("b.with_", "crls(list)")), "hands a CRL to rustls"),
            (source("crates/a/src/lib.rs", "fn a() {}"), "no module documentation"),
            (source("crates/broker/src/b.rs", concat!("RecordedTicket::", "assertion(t)")), "may vouch"),
        ] {
            let found = breaches(&[file]);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
        assert!(breaches(&[source("crates/a/src/lib.rs", "//! What it does.\n")]).is_empty());
    }
}
