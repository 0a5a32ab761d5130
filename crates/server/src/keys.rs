//! Loads the online keys, each under the unlock secret, each for its one purpose.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use signer::{BundleKey, CheckpointKey, FileKey, IssuingKey, RawSigner};
use types::Secret;
use x509::Certificate;

use crate::error::ServerError;
use crate::layout::Layout;

/// The one secret that is in clear on this machine: it unlocks the online keys.
pub(crate) struct Unlock(Secret);

impl Unlock {
    /// From systemd's credentials if the unit hands one over, else from the data folder, where it
    /// must be readable by its owner only.
    pub(crate) fn read(layout: &Layout) -> Result<Self, ServerError> {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| PathBuf::from(folder).join("bailiwick-unlock"))
            .filter(|path| path.exists());
        let path = credential.clone().unwrap_or_else(|| layout.unlock_secret());
        let mode = fs_err::metadata(&path)?.permissions().mode() & 0o777;
        if credential.is_none() && mode & 0o077 != 0 {
            return Err(ServerError::Key {
                what: path.display().to_string(),
                error: format!("mode {mode:04o} lets others read it; make it 0600"),
            });
        }
        let text = Secret::new(fs_err::read(&path)?);
        let fault =
            |error: &str| ServerError::Key { what: path.display().to_string(), error: error.to_owned() };
        let trimmed = text.expose_str().ok_or_else(|| fault("is not UTF-8"))?.trim_end_matches(['\r', '\n']);
        if trimmed.is_empty() {
            return Err(fault("is empty"));
        }
        Ok(Self(Secret::new(trimmed.as_bytes().to_vec())))
    }

    /// The secret that `init` has just made.
    pub(crate) fn fresh(secret: Secret) -> Self {
        Self(secret)
    }

    /// Reads an online key.
    pub(crate) fn load(&self, path: &Path) -> Result<FileKey, ServerError> {
        FileKey::load(path, Some(&self.0))
            .map_err(|error| ServerError::Key { what: path.display().to_string(), error: error.to_string() })
    }

    /// Writes a new online key.
    pub(crate) fn save(&self, key: &FileKey, path: &Path) -> Result<(), ServerError> {
        key.save_new(path, Some(&self.0), &mut signer::SystemEntropy)
            .map_err(|error| ServerError::Key { what: path.display().to_string(), error: error.to_string() })
    }
}

/// A certificate file of one certificate.
pub(crate) fn certificate(path: &Path) -> Result<Certificate, ServerError> {
    let chain = certificates(path)?;
    chain.into_iter().next().ok_or_else(|| ServerError::Key {
        what: path.display().to_string(),
        error: "holds no certificate".to_owned(),
    })
}

/// A certificate file, in its order.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, ServerError> {
    Certificate::parse_pem_chain(&fs_err::read_to_string(path)?)
        .map_err(|error| ServerError::Key { what: path.display().to_string(), error: error.to_string() })
}

/// An issuing CA: its certificate and its key, which must belong together.
pub(crate) fn issuing(
    layout: &Layout,
    unlock: &Unlock,
    label: &str,
) -> Result<(Certificate, IssuingKey), ServerError> {
    let certificate = certificate(&layout.ca(label))?;
    let key = unlock.load(&layout.key(label))?;
    if key.spki_der() != certificate.spki_der() {
        return Err(ServerError::Key {
            what: layout.key(label).display().to_string(),
            error: format!("is not the key of {}", layout.ca(label).display()),
        });
    }
    Ok((certificate, IssuingKey::new(key)))
}

pub(crate) fn checkpoint(layout: &Layout, unlock: &Unlock) -> Result<CheckpointKey, ServerError> {
    unlock.load(&layout.key("checkpoint")).map(CheckpointKey::new)
}

pub(crate) fn bundle(layout: &Layout, unlock: &Unlock) -> Result<BundleKey, ServerError> {
    unlock.load(&layout.key("bundle")).map(BundleKey::new)
}

/// The listeners' certificate and key as they are on the disk, if they belong together.
pub(crate) fn listeners_identity(layout: &Layout) -> Result<tls::Identity, ServerError> {
    let chain = certificates(&layout.server_chain())?;
    let key = Unlock::read(layout)?.load(&layout.key("server"))?;
    tls::Identity::new(chain, &key.pkcs8_der()).map_err(|error| ServerError::Key {
        what: layout.server_chain().display().to_string(),
        error: error.to_string(),
    })
}

/// Writes the listeners' private key in clear, for another broker that takes over (row C2); 0600.
///
/// # Errors
/// The key can't be read, or the file is there already.
pub fn export_server_key(layout: &Layout, to: &Path) -> Result<(), ServerError> {
    let key = Unlock::read(layout)?.load(&layout.key("server"))?;
    key.save_new(to, None, &mut signer::SystemEntropy)
        .map_err(|error| ServerError::Key { what: to.display().to_string(), error: error.to_string() })
}
