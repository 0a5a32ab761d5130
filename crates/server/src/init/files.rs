use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use http::Request;
use signer::{FileKey, RawSigner, SystemEntropy};
use x509::KeyKind;

use super::InitPlan;
use crate::error::ServerError;
use crate::layout::Layout;
use crate::local::Local;

/// The first operator's name; the shipped rules give it what an administrator needs.
const FIRST_OPERATOR: &str = "admin";

/// The folders, readable by their owner only.
pub(super) fn folders(layout: &Layout) -> Result<(), ServerError> {
    for folder in std::iter::once(layout.dir().to_owned()).chain(layout.folders()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| ServerError::File { path: folder.clone(), error: error.to_string() })?;
    }
    Ok(())
}

/// Writes a file that must not be there, and returns when it is on the disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ServerError> {
    let failed =
        |error: std::io::Error| ServerError::File { path: path.to_owned(), error: error.to_string() };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// A text as a TOML string.
fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

/// The configuration of a new installation: what was chosen, and a word on the rest.
pub(super) fn config_text(plan: &InitPlan) -> String {
    let names: Vec<String> = plan.hosts.iter().map(|host| text(host)).collect();
    let address = |address: SocketAddr| text(&address.to_string());
    let rules: Vec<String> = plan.rules.iter().map(|(name, _)| text(&format!("policy/{name}"))).collect();
    let first = plan.hosts.first().map_or("", String::as_str);
    let replay = |filter: &str| {
        format!(
            "[[replay]]\nfilter = \"{filter}\"\nmode = \"{}\"\nseq = \"/seq\"\nepoch = \"/boot\"\n",
            plan.replay_mode
        )
    };
    format!(
        "# Bailiwick. What is not here has its default; every setting stands in conf/full.toml of the sources.\n\n\
         [installation]\norganization = {}\npublic_host = {}\nserver_names = [{}]\npublic_url = {}\n\n\
         [listeners]\nmqtt = {}\ndevices = {}\nadmin = {}\nplain = {}\n\n\
         [policy]\nfiles = [{}]\n\n\
         # \"observe\" tells what would be refused; \"enforce\" refuses it.\n{}\n{}",
        text(&plan.organization),
        text(first),
        names.join(", "),
        text(&plan.public_url),
        address(plan.listeners.mqtt),
        address(plan.listeners.devices),
        address(plan.listeners.admin),
        address(plan.listeners.plain),
        rules.join(", "),
        replay("devices/+/telemetry/#"),
        replay("assets/+/telemetry"),
    )
}

/// The first operator, through the same API that makes every later one.
pub(super) async fn first_operator(layout: &Layout, local: &Local) -> Result<(), ServerError> {
    let failed = |error: &dyn std::fmt::Display| ServerError::Part {
        what: "first operator",
        error: error.to_string(),
    };
    let key = FileKey::generate(KeyKind::P256).map_err(|error| failed(&error))?;
    let folder = layout.operator();
    key.save_new(&folder.join("admin.key"), None, &mut SystemEntropy).map_err(|error| failed(&error))?;
    let csr = signer::csr(&key as &dyn RawSigner, FIRST_OPERATOR).map_err(|error| failed(&error))?;
    let body =
        serde_json::json!({"name": FIRST_OPERATOR, "csr": x509::pem::encode("CERTIFICATE REQUEST", &csr)});
    let request = Request::post("/api/v1/operators")
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| failed(&error))?;
    let (status, answer) = local.ask(request).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if status != 200 && status != 201 {
        return Err(failed(&format!("{status}: {answer}")));
    }
    let value: serde_json::Value = serde_json::from_str(&answer).map_err(|error| failed(&error))?;
    let mut chain = value["certificate"].as_str().unwrap_or_default().trim_end().to_owned() + "\n";
    chain.push_str(&fs_err::read_to_string(layout.ca("services"))?);
    write_new(&folder.join("admin.crt"), chain.as_bytes(), 0o644)?;
    fs_err::copy(layout.ca("root"), folder.join("ca.crt"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use types::Secret;

    #[test]
    fn the_configuration_of_a_new_installation_is_valid_whatever_its_names() {
        for host in ["localhost", "192.168.30.5", "fd00::1", "broker.example"] {
            let plan = InitPlan::new(vec![host.to_owned(), "other".to_owned()], Secret::new(Vec::new()));
            let config = Config::parse(&config_text(&plan), "f").unwrap();
            assert_eq!(config.installation.public_host, host);
            assert_eq!(config.replay.len(), 2);
        }
    }

    #[test]
    fn quotes_in_a_name_do_not_break_out_of_their_value() {
        let mut plan = InitPlan::new(vec!["localhost".to_owned()], Secret::new(Vec::new()));
        plan.organization = "A \"B\"\n[limits]\nshards = 9".to_owned();
        let config = Config::parse(&config_text(&plan), "f").unwrap();
        assert_eq!(config.installation.organization, plan.organization);
        assert_eq!(config.limits.shards, 0);
    }
}
