//! `init`: the ceremony, the keys, the rules, the configuration and the first operator, all or nothing.

mod ceremony;

mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{Clock, Secret};
use x509::KeyKind;

use crate::clock::SystemClock;
use crate::config::{Config, Listeners};
use crate::error::ServerError;
use crate::layout::Layout;
use crate::local::Local;
use crate::server_certificate;

/// What is to be made.
pub struct InitPlan {
    /// Names and addresses of this machine; the first is the one that devices use.
    pub hosts: Vec<String>,
    /// Encrypts the root's key.
    pub root_passphrase: Secret,
    /// The root's key.
    pub root_key: KeyKind,
    /// The organization in the subjects.
    pub organization: String,
    /// Base of the CRL and CA addresses.
    pub public_url: String,
    /// Where the listeners stand.
    pub listeners: Listeners,
    /// `observe` or `enforce` for the two shipped replay rules.
    pub replay_mode: &'static str,
    /// The rule files, each with its name and its text.
    pub rules: Vec<(String, String)>,
}

impl InitPlan {
    /// The plan with every default.
    #[must_use]
    pub fn new(hosts: Vec<String>, root_passphrase: Secret) -> Self {
        let first = hosts.first().map_or("localhost", String::as_str);
        Self {
            public_url: format!(
                "http://{}:8080",
                if first.contains(':') { format!("[{first}]") } else { first.to_owned() }
            ),
            hosts,
            root_passphrase,
            root_key: KeyKind::P256,
            organization: "Bailiwick".to_owned(),
            listeners: Listeners::default(),
            replay_mode: "observe",
            rules: vec![
                ("devices.acl".to_owned(), policy::LAYOUT_DEVICES.to_owned()),
                ("assets.acl".to_owned(), policy::LAYOUT_ASSETS.to_owned()),
            ],
        }
    }
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// SHA-256 of the root's certificate, in hex.
    pub root_fingerprint: String,
    /// Where the root's encrypted key is.
    pub root_key: PathBuf,
    /// Where the first operator's certificate and key are.
    pub operator: PathBuf,
}

/// Makes an installation. It is built in a folder of its own inside the wanted one and moved up when
/// it is whole, so that a failure leaves nothing half-made. A folder that is there stays: it may be
/// a mounted volume, or where somebody stands.
///
/// # Errors
/// The folder holds something already, a host is no name, or a file can't be written.
pub async fn init(layout: &Layout, plan: &InitPlan) -> Result<Made, ServerError> {
    layout.socket_fits()?;
    let dir = layout.dir();
    let building = dir.join(BUILDING);
    let was_there = match fs_err::read_dir(dir) {
        Ok(entries) => {
            // What an attempt left behind that lost its power was never an installation.
            let mut others =
                entries.filter(|entry| entry.as_ref().map_or(true, |e| e.file_name() != BUILDING));
            if others.next().is_some() {
                return Err(ServerError::Exists { dir: dir.to_owned() });
            }
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    remove(&building)?;
    let made = match build(&Layout::new(&building), plan).await {
        Ok(fingerprint) => move_up(&building, dir).map(|()| fingerprint),
        Err(error) => Err(error),
    };
    let root_fingerprint = match made {
        Ok(fingerprint) => fingerprint,
        Err(error) => {
            remove(&building)?;
            if !was_there {
                remove(dir)?;
            }
            return Err(error);
        }
    };
    Ok(Made { root_fingerprint, root_key: layout.root_key(), operator: layout.operator() })
}

/// Where an installation is built until it is whole.
const BUILDING: &str = ".making";

/// Moves what was built to its place. The configuration comes last: without it there is no
/// installation. A failure takes back what was moved.
fn move_up(building: &Path, dir: &Path) -> Result<(), ServerError> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(building)? {
        names.push(entry?.file_name());
    }
    let config = Layout::new(building).config();
    names.sort_by_key(|name| Some(name.as_os_str()) == config.file_name());
    fs_err::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for (at, name) in names.iter().enumerate() {
        if let Err(error) = fs_err::rename(building.join(name), dir.join(name)) {
            for moved in names.iter().take(at) {
                let _ = fs_err::rename(dir.join(moved), building.join(moved));
            }
            return Err(error.into());
        }
    }
    fs_err::remove_dir(building)?;
    // The names are on the disk when the folder that holds them is.
    fs_err::File::open(dir)?.sync_all()?;
    Ok(())
}

fn remove(dir: &Path) -> Result<(), ServerError> {
    match fs_err::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

async fn build(layout: &Layout, plan: &InitPlan) -> Result<String, ServerError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    // 1. The configuration is checked before anything is made of it.
    let text = files::config_text(plan);
    Config::parse(&text, "bailiwick.toml")?;
    files::folders(layout)?;
    files::write_new(&layout.config(), text.as_bytes(), 0o644)?;
    // 2. The rules.
    for (name, text) in &plan.rules {
        files::write_new(&layout.policy(name), text.as_bytes(), 0o644)?;
    }
    // 3. The secret that unlocks the online keys, the keys, the ceremony.
    let made = ceremony::ceremony(layout, plan, clock.as_ref())?;
    // 4. The facts, and the revocation list that only the root's key can sign.
    ceremony::record(layout, made, clock.as_ref()).await?;
    // 5. The first certificates by the one way that certificates are made: through enrolment.
    let Some(local) = Local::open(layout).await? else {
        return Err(ServerError::Locked { dir: layout.dir().to_owned() });
    };
    let outcome = async {
        server_certificate::ensure(local.parts()).await?;
        files::first_operator(layout, &local).await
    }
    .await;
    local.close().await;
    outcome?;
    let root = crate::keys::certificate(&layout.ca("root"))?;
    Ok(root.der_hash().to_string())
}
