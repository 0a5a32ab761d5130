//! `bailiwick init`

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use serde_json::json;
use server::{InitPlan, Layout};
use types::Secret;
use x509::KeyKind;

use crate::args::{Init, RootKey};
use crate::fail::{Done, Fail};
use crate::print::Printer;

/// The shortest passphrase of a root key.
const PASSPHRASE_BYTES_MIN: usize = 8;

pub(crate) async fn init(dir: &Path, init: Init, printer: Printer) -> Done {
    let passphrase = passphrase(&init)?;
    let mut plan = InitPlan::new(init.hosts, passphrase);
    plan.organization = init.organization;
    plan.root_key = match init.root_key {
        RootKey::P256 => KeyKind::P256,
        RootKey::P384 => KeyKind::P384,
        RootKey::Rsa4096 => KeyKind::Rsa { bits: 4096 },
    };
    if let Some(url) = init.public_url {
        plan.public_url = url;
    }
    plan.listeners.mqtt = init.mqtt.unwrap_or(plan.listeners.mqtt);
    plan.listeners.devices = init.devices.unwrap_or(plan.listeners.devices);
    plan.listeners.admin = init.admin.unwrap_or(plan.listeners.admin);
    plan.listeners.plain = init.plain.unwrap_or(plan.listeners.plain);
    let made = server::init(&Layout::new(dir), &plan).await?;
    let shown = json!({"dir": dir, "root_fingerprint": made.root_fingerprint, "root_key": made.root_key, "operator": made.operator});
    printer.show(&shown, |_| {
        format!(
            "made {}\nroot      sha256:{}\nroot key  {} (encrypted; move it off this machine: bailiwick --dir {} ca root detach FOLDER)\noperator  {}\nnext      bailiwick --dir {} serve",
            dir.display(), made.root_fingerprint, made.root_key.display(), dir.display(), made.operator.display(), dir.display()
        )
    });
    Ok(())
}

/// From the file, the environment or the terminal; never from the command line, which others can read.
fn passphrase(init: &Init) -> Done<Secret> {
    let text = if let Some(path) = &init.root_passphrase_file {
        fs_err::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned()
    } else if let Ok(text) = std::env::var("BAILIWICK_ROOT_PASSPHRASE") {
        text
    } else if std::io::stdin().is_terminal() {
        asked()?
    } else {
        return Err(Fail::usage("the root key needs a passphrase")
            .hint("give --root-passphrase-file FILE, or BAILIWICK_ROOT_PASSPHRASE in the environment"));
    };
    if text.len() < PASSPHRASE_BYTES_MIN {
        return Err(Fail::usage(format!(
            "the passphrase has {} bytes; at least {PASSPHRASE_BYTES_MIN} are needed",
            text.len()
        )));
    }
    Ok(Secret::new(text.into_bytes()))
}

/// Asked twice on the terminal, without echo where the terminal can.
fn asked() -> Done<String> {
    let quiet = Echo::off();
    let line = |prompt: &str| -> Done<String> {
        eprint!("{prompt}: ");
        std::io::stderr().flush()?;
        let mut text = String::new();
        std::io::stdin().lock().read_line(&mut text)?;
        eprintln!();
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let (first, second) = (line("passphrase for the root key")?, line("once more")?);
    drop(quiet);
    if first != second {
        return Err(Fail::usage("the two passphrases differ; nothing was made"));
    }
    Ok(first)
}

/// The terminal's echo, off until this is dropped.
struct Echo;

impl Echo {
    fn off() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// `stty` is part of every Debian and needs no terminal library; without it the text is only visible.
fn stty(setting: &str) {
    let _ = std::process::Command::new("stty").arg(setting).status();
}
