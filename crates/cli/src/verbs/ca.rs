//! `bailiwick ca …`

use std::path::Path;

use serde_json::json;
use server::{Config, Layout};

use crate::fail::{Done, Fail};
use crate::print::{Printer, table};
use crate::talk::Talk;

/// The sub-CAs, in the order of the export.
const SUB_CAS: [&str; 3] = ["devices", "services", "servers"];

pub(crate) async fn status(dir: &Path, talk: &Talk, printer: Printer) -> Done {
    let layout = Layout::new(dir);
    let mut rows = Vec::new();
    for label in ["root"].iter().chain(&SUB_CAS) {
        let certificate = read(&layout.ca(label))?;
        rows.push(json!({
            "ca": label,
            "subject": certificate.subject_text(),
            "serial": certificate.serial().to_string(),
            "not_after": certificate.not_after().to_string(),
            "spki_sha256": certificate.spki_hash().to_string(),
        }));
    }
    let status = talk.ask("/api/v1/status").await?;
    let attached = layout.root_key().exists();
    let shown = json!({"cas": rows, "root_key_attached": attached, "epoch": status["epoch"]});
    printer.show(&shown, |_| {
        let root = if attached { "on this machine: move it off with `ca root detach`" } else { "detached" };
        format!("{}\nroot key {root}", table(&rows, &["ca", "subject", "serial", "not_after", "spki_sha256"]))
    });
    Ok(())
}

fn read(path: &Path) -> Done<x509::Certificate> {
    x509::Certificate::parse_pem(&fs_err::read_to_string(path)?)
        .map_err(|error| Fail::failed(format!("{}: {error}", path.display())))
}

/// Row C2: `root/ca.crt`, `intermediate/…`, `server/…`, `devices/<id>.crt`. The root key is never in it.
pub(crate) async fn export(dir: &Path, out: &Path, printer: Printer) -> Done {
    let layout = Layout::new(dir);
    Config::read(&layout.config())?;
    if out.exists() && fs_err::read_dir(out)?.next().is_some() {
        return Err(Fail::failed(format!("{} is not empty; nothing was written", out.display())));
    }
    for folder in ["root", "intermediate", "server", "devices"] {
        fs_err::create_dir_all(out.join(folder))?;
    }
    fs_err::copy(layout.ca("root"), out.join("root/ca.crt"))?;
    let mut all = String::new();
    for label in SUB_CAS {
        let pem = fs_err::read_to_string(layout.ca(label))?;
        fs_err::write(out.join("intermediate").join(format!("{label}.crt")), &pem)?;
        all.push_str(&pem);
    }
    fs_err::write(out.join("intermediate/intermediate.crt"), all)?;
    let chain = fs_err::read_to_string(layout.server_chain())?;
    fs_err::write(out.join("server/broker-fullchain.crt"), &chain)?;
    let leaf = x509::Certificate::parse_pem_chain(&chain).map_err(Fail::failed)?;
    let leaf = leaf.first().ok_or_else(|| Fail::failed("the server's chain is empty"))?;
    fs_err::write(out.join("server/broker.crt"), leaf.to_pem())?;
    server::export_server_key(&layout, &out.join("server/broker.key"))?;
    let talk = Talk::open(dir).await?;
    let outcome = export_devices(&talk, out).await;
    talk.close().await;
    let devices = outcome?;
    printer.show(&json!({"out": out, "devices": devices}), |_| {
        format!("wrote {} ({devices} devices)", out.display())
    });
    Ok(())
}

/// Every device's newest certificate; their keys were never here.
async fn export_devices(talk: &Talk, out: &Path) -> Done<usize> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let page = talk.ask(&format!("/api/v1/devices?limit=1000{after}")).await?;
        let rows = page["devices"].as_array().cloned().unwrap_or_default();
        let Some(last) = rows.last().and_then(|row| row["id"].as_str()) else { return Ok(count) };
        after = format!("&after={last}");
        for id in rows.iter().filter_map(|row| row["id"].as_str()) {
            let device = talk.ask(&format!("/api/v1/devices/{id}")).await?;
            let newest = device["certificates"].as_array().and_then(|list| list.last()).cloned();
            if let Some(pem) = newest.as_ref().and_then(|row| row["pem"].as_str()) {
                fs_err::write(out.join("devices").join(format!("{id}.crt")), pem)?;
                count += 1;
            }
        }
    }
}

/// Copies the root's key to a medium, reads it back, and only then removes it here.
pub(crate) fn detach(dir: &Path, to: &Path, printer: Printer) -> Done {
    let layout = Layout::new(dir);
    let from = layout.root_key();
    if !from.exists() {
        return Err(Fail::failed(format!(
            "{} is not there: the root key is detached already",
            from.display()
        )));
    }
    let target = to.join("root.key.pem");
    if target.exists() {
        return Err(Fail::failed(format!("{} is there already; nothing was moved", target.display())));
    }
    fs_err::create_dir_all(to)?;
    let bytes = fs_err::read(&from)?;
    fs_err::copy(&from, &target)?;
    fs_err::File::open(&target)?.sync_all()?;
    if fs_err::read(&target)? != bytes {
        return Err(Fail::failed(format!(
            "{} does not hold what was written; the key stays here",
            target.display()
        )));
    }
    fs_err::copy(layout.ca("root"), to.join("ca.crt"))?;
    fs_err::remove_file(&from)?;
    printer.show(&json!({"root_key": target}), |_| {
        format!("moved the root key to {}; serve runs without it", target.display())
    });
    Ok(())
}
