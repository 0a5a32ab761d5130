use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use signer::FileKey;
use tls::Identity;
use types::{DeviceId, Wall};
use x509::{Certificate, KeyKind};

use crate::bundle::Bundle;
use crate::counters::Counters;
use crate::error::AgentError;
use crate::files;
use crate::layout::Layout;
use crate::provision::Deps;
use crate::time::parse_date;

/// A device's folder: `device.key.pem` · `device.crt` · `chain.crt` · `root.crt` · `agent.json` ·
/// `counters.json` · `bundle` (until the first boot is over).
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// What the agent knows beside its key and certificates. `agent.json` is written last, so its
/// presence says that the first boot is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) device_id: String,
    pub(crate) token_id: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renew_after: Option<String>,
    pub(crate) time_floor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layout: Option<Layout>,
}

impl State {
    pub(crate) fn floor(&self) -> Wall {
        parse_date(&self.time_floor).unwrap_or_default()
    }
}

/// A provisioned device, read from its folder.
pub(crate) struct Loaded {
    pub(crate) id: DeviceId,
    pub(crate) identity: Identity,
    pub(crate) root: Certificate,
    pub(crate) state: State,
}

impl Home {
    /// The folder at `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The private key, PKCS#8 PEM, mode 0600.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("device.key.pem")
    }

    /// The device's certificate alone.
    #[must_use]
    pub fn certificate_file(&self) -> PathBuf {
        self.dir.join("device.crt")
    }

    /// The CAs between the certificate and the root.
    #[must_use]
    pub fn chain_file(&self) -> PathBuf {
        self.dir.join("chain.crt")
    }

    /// The root whose key the bundle pinned.
    #[must_use]
    pub fn root_file(&self) -> PathBuf {
        self.dir.join("root.crt")
    }

    /// The counters of messages and boots.
    #[must_use]
    pub fn counters_file(&self) -> PathBuf {
        self.dir.join("counters.json")
    }

    /// The bundle, while the first boot is not over.
    #[must_use]
    pub fn bundle_file(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    fn state_file(&self) -> PathBuf {
        self.dir.join("agent.json")
    }

    /// The folder's path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn create(&self) -> Result<(), AgentError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|error| AgentError::state(&self.dir, error))
    }

    /// The bundle that a factory, or a first boot that did not end, left in the folder.
    ///
    /// # Errors
    /// The file cannot be read, or is no bundle.
    pub fn kept_bundle(&self) -> Result<Option<Bundle>, AgentError> {
        let path = self.bundle_file();
        match files::read(&path).map_err(|error| AgentError::state(&path, error))? {
            Some(text) => Ok(Some(Bundle::parse(&text)?)),
            None => Ok(None),
        }
    }

    /// The key of this folder, made and put on the disk if there is none yet.
    pub(crate) fn key(&self, deps: &Deps) -> Result<FileKey, AgentError> {
        let path = self.key_file();
        if path.symlink_metadata().is_err() {
            let key = FileKey::generate(KeyKind::P256)?;
            let mut entropy = deps.entropy();
            key.save_new(&path, None, &mut *entropy)?;
        }
        // Read back, so that the key that is used is the one on the disk.
        Ok(FileKey::load(&path, None)?)
    }

    pub(crate) fn read_state(&self) -> Result<Option<State>, AgentError> {
        let path = self.state_file();
        let Some(text) = files::read(&path).map_err(|error| AgentError::state(&path, error))? else {
            return Ok(None);
        };
        let damaged = |detail: String| AgentError::State { path: path.display().to_string(), detail };
        let state: State = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if parse_date(&state.time_floor).is_none() {
            return Err(damaged(format!("time_floor \"{}\" is no date", types::Clipped(&state.time_floor))));
        }
        Ok(Some(state))
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<(), AgentError> {
        let path = self.state_file();
        let text = serde_json::to_string_pretty(state).map_err(|error| AgentError::State {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
        files::write_atomic(&path, text.as_bytes(), 0o600).map_err(|error| AgentError::state(&path, error))
    }

    pub(crate) fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), AgentError> {
        files::write_atomic(path, text.as_bytes(), mode).map_err(|error| AgentError::state(path, error))
    }

    pub(crate) fn read_certificates(&self, path: &Path) -> Result<Vec<Certificate>, AgentError> {
        match files::read(path).map_err(|error| AgentError::state(path, error))? {
            Some(text) if text.trim().is_empty() => Ok(Vec::new()),
            Some(text) => Ok(Certificate::parse_pem_chain(&text)?),
            None => Err(AgentError::NotProvisioned { dir: self.dir.display().to_string() }),
        }
    }

    /// All that a running device needs.
    pub(crate) fn load(&self) -> Result<Loaded, AgentError> {
        let nothing = || AgentError::NotProvisioned { dir: self.dir.display().to_string() };
        let state = self.read_state()?.ok_or_else(nothing)?;
        let id = DeviceId::parse(&state.device_id).map_err(|error| AgentError::State {
            path: self.state_file().display().to_string(),
            detail: error.to_string(),
        })?;
        let mut chain = self.read_certificates(&self.certificate_file())?;
        chain.extend(self.read_certificates(&self.chain_file())?);
        let root = self.read_certificates(&self.root_file())?.into_iter().next().ok_or_else(nothing)?;
        let key = FileKey::load(&self.key_file(), None)?;
        let identity = Identity::new(chain, &key.pkcs8_der())?;
        Ok(Loaded { id, identity, root, state })
    }
}

/// What `status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether the first boot is over.
    pub provisioned: bool,
    /// Whether a private key is there.
    pub has_key: bool,
    /// Whether a bundle waits to be used.
    pub has_bundle: bool,
    /// The device.
    pub device_id: Option<String>,
    /// The certificate's serial.
    pub serial: Option<String>,
    /// Who issued it.
    pub issuer: Option<String>,
    /// Its last second.
    pub not_after: Option<String>,
    /// When to renew it.
    pub renew_after: Option<String>,
    /// The server for devices.
    pub server: Option<String>,
    /// The earliest date that is believed.
    pub time_floor: Option<String>,
    /// How often the device was started.
    pub boot: Option<u64>,
    /// Sequence numbers below this one may have been used.
    pub seq_reserved: Option<u64>,
    /// Seconds between readings, where a command has set them.
    pub interval_s: Option<u64>,
}

/// Reads what the folder holds.
///
/// # Errors
/// A file of it cannot be read, or is damaged.
pub fn status(dir: &Path) -> Result<Status, AgentError> {
    let home = Home::new(dir);
    let state = home.read_state()?;
    let certificate = match &state {
        Some(_) => home.read_certificates(&home.certificate_file())?.into_iter().next(),
        None => None,
    };
    let counters = Counters::peek(&home.counters_file())?;
    Ok(Status {
        provisioned: state.is_some(),
        has_key: home.key_file().exists(),
        has_bundle: home.bundle_file().exists(),
        device_id: state.as_ref().map(|state| state.device_id.clone()),
        serial: certificate.as_ref().map(|certificate| format!("0x{}", certificate.serial())),
        issuer: certificate.as_ref().map(Certificate::issuer_text),
        not_after: certificate.as_ref().map(|certificate| certificate.not_after().to_string()),
        renew_after: state.as_ref().and_then(|state| state.renew_after.clone()),
        server: state.as_ref().map(|state| format!("{}:{}", state.host, state.port)),
        time_floor: state.as_ref().map(|state| state.time_floor.clone()),
        boot: counters.map(|(boot, _)| boot),
        seq_reserved: counters.map(|(_, seq)| seq),
        interval_s: state.as_ref().and_then(|state| state.interval_s),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            device_id: "pump-7".into(),
            token_id: "0".repeat(26),
            host: "broker.example".into(),
            port: 8443,
            renew_after: None,
            time_floor: "2026-08-01T00:00:00Z".into(),
            interval_s: None,
            layout: None,
        }
    }

    #[test]
    fn the_state_survives_a_round_trip_and_ignores_what_a_later_agent_added() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert_eq!(home.read_state().unwrap(), None);
        home.write_state(&state()).unwrap();
        assert_eq!(home.read_state().unwrap(), Some(state()));
        let text = fs_err::read_to_string(home.state_file()).unwrap().replacen('{', "{\"later\":1,", 1);
        fs_err::write(home.state_file(), text).unwrap();
        assert_eq!(home.read_state().unwrap(), Some(state()));
    }

    #[test]
    fn a_damaged_state_is_an_error_and_never_an_empty_folder() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        home.write_state(&State { time_floor: "soon".into(), ..state() }).unwrap();
        assert!(matches!(home.read_state(), Err(AgentError::State { .. })));
        fs_err::write(home.state_file(), "{").unwrap();
        assert!(matches!(home.read_state(), Err(AgentError::State { .. })));
        assert!(matches!(status(dir.path()), Err(AgentError::State { .. })));
    }

    #[test]
    fn an_empty_folder_has_nothing_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let found = status(dir.path()).unwrap();
        assert!(!found.provisioned && !found.has_key && !found.has_bundle);
        assert!(matches!(Home::new(dir.path()).load(), Err(AgentError::NotProvisioned { .. })));
    }
}
