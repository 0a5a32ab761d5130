//! `bailiwick device …`

use std::path::Path;

use serde_json::{Value, json};
use server::Layout;

use crate::args::Device;
use crate::fail::{Done, Fail};
use crate::print::{Printer, print, table};
use crate::talk::{Talk, segment};
use crate::verbs::handover::Handover;
use crate::verbs::settings;

pub(crate) async fn device(verb: Device, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    match verb {
        Device::Add { id, project, fleet, label, out } => {
            let body = json!({"id": id, "project": project, "fleet": fleet, "label": label});
            add(&id, &body, out.as_deref(), dir, talk, printer).await
        }
        Device::List { after, limit } => {
            if let Some(after) = &after {
                segment(after)?;
            }
            let answer = talk.list("devices", after, limit).await?;
            printer.show(&answer, |answer| {
                let rows = answer["devices"].as_array().cloned().unwrap_or_default();
                table(&rows, &["id", "project", "fleet", "standing", "label"])
            });
            Ok(())
        }
        Device::Show { id, client, files } => {
            let device = talk.ask(&format!("/api/v1/devices/{}", segment(&id)?)).await?;
            match client {
                Some(client) => {
                    let status = talk.ask("/api/v1/status").await?;
                    let id = device["id"].as_str().unwrap_or(&id);
                    let reach = settings::Reach::new(dir, &status)?;
                    print(settings::render(client, id, &files, &reach).trim_end());
                }
                None => printer.show(&device, shown),
            }
            Ok(())
        }
        Device::Revoke { id, reason } => {
            let path = format!("/api/v1/devices/{}/revoke", segment(&id)?);
            act(talk, &path, &json!({"reason": reason.as_deref().map(rfc_5280)}), printer).await
        }
        Device::Suspend { id } => {
            act(talk, &format!("/api/v1/devices/{}/suspend", segment(&id)?), &json!({}), printer).await
        }
        Device::Restore { id } => {
            act(talk, &format!("/api/v1/devices/{}/restore", segment(&id)?), &json!({}), printer).await
        }
    }
}

/// `key-compromise` as RFC 5280 spells it, `keyCompromise`; what is spelled so already stays.
fn rfc_5280(reason: &str) -> String {
    let mut words = reason.split('-');
    let mut spelled = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        spelled.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        spelled.push_str(letters.as_str());
    }
    spelled
}

async fn act(talk: &Talk, path: &str, body: &Value, printer: Printer) -> Done {
    let answer = talk.post(path, body).await?;
    printer.show(&answer, |answer| answer["text"].as_str().unwrap_or_default().to_owned());
    Ok(())
}

/// Registers; with a folder the key is made here and certified by the same flow that a device in
/// the field goes through: a one-time token and a certificate request.
async fn add(id: &str, body: &Value, out: Option<&Path>, dir: &Path, talk: &Talk, printer: Printer) -> Done {
    let Some(out) = out else {
        let device = talk.post("/api/v1/devices", body).await?;
        printer.show(&device, |device| format!("added {}", device["id"].as_str().unwrap_or_default()));
        return Ok(());
    };
    let (name, _) = types::DeviceId::parse_written(id).map_err(Fail::usage)?;
    let root = fs_err::read_to_string(Layout::new(dir).ca("root"))?;
    let handover = Handover::begin(out, name.as_str(), &root)?;
    let device = talk.post("/api/v1/devices", body).await?;
    let token = talk.post("/generate-token", &json!({"device_id": name.as_str(), "ttl": "10m"})).await?;
    let request = json!({"token": token["token"], "csr": handover.csr_pem()?});
    let answer = talk.post("/provision", &request).await.map_err(|fail| {
        fail.hint(format!("the device is registered; try again with: bailiwick token create {name}"))
    })?;
    let files = handover.finish(&answer)?;
    let value = json!({"device": device, "files": files});
    printer.show(&value, |_| {
        let paths: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        format!("added {name}\nwrote {}", paths.join(", "))
    });
    Ok(())
}

fn shown(device: &Value) -> String {
    let text = |key: &str| device[key].as_str().unwrap_or("-").to_owned();
    let mut lines = vec![
        format!("id        {}", text("id")),
        format!("project   {}", text("project")),
        format!("fleet     {}", text("fleet")),
        format!("label     {}", text("label")),
        format!("standing  {}", text("standing")),
        format!("added     {} by {}", text("added_at"), text("added_by")),
    ];
    let certificates = device["certificates"].as_array().cloned().unwrap_or_default();
    if !certificates.is_empty() {
        lines.push(String::new());
        lines.push(table(
            &certificates,
            &["serial", "issuer", "state", "not_before", "not_after", "fingerprint"],
        ));
    }
    lines.join("\n")
}
