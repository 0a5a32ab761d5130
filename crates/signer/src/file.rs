use std::ffi::OsString;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use types::{Entropy, Secret};
use zeroize::Zeroizing;

use crate::error::SignerError;
use crate::key::FileKey;

const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

impl FileKey {
    /// Reads a key file, as [`FileKey::from_pem`] reads a text.
    ///
    /// # Errors
    /// The file cannot be read or is too large, or as [`FileKey::from_pem`].
    pub fn load(path: &Path, passphrase: Option<&Secret>) -> Result<Self, SignerError> {
        let file = fs_err::File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let shown = || path.display().to_string();
        if bytes > KEY_FILE_BYTES_MAX {
            return Err(SignerError::TooLarge { path: shown(), bytes });
        }
        let mut content = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX as usize));
        file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut content).map_err(io)?;
        let text = std::str::from_utf8(&content)
            .map_err(|_| SignerError::NoKey { found: format!("\"{}\" is no text", path.display()) })?;
        Self::from_pem(text, passphrase)
    }

    /// Writes the key to a new file of mode 0600, encrypted if there is a passphrase, and returns
    /// when it is on the disk. The file appears whole or not at all.
    ///
    /// # Errors
    /// The file exists already, the passphrase is empty, or the disk refuses.
    pub fn save_new(
        &self,
        path: &Path,
        passphrase: Option<&Secret>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), SignerError> {
        let pem = match passphrase {
            Some(passphrase) => Secret::new(self.to_encrypted_pem(passphrase, entropy)?.into_bytes()),
            None => self.to_pem(),
        };
        write_new(path, pem.expose())
    }
}

/// Writes under another name, then links: the link fails when the name is taken, and a loss of
/// power leaves at most the other name behind, which the next attempt clears away.
fn write_new(path: &Path, content: &[u8]) -> Result<(), SignerError> {
    let exists = || SignerError::Exists { path: path.display().to_string() };
    let partial = partial_name(path);
    match fs_err::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    write_synced(&partial, content)?;
    let linked = fs_err::hard_link(&partial, path);
    let linked = match linked {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists()),
        // Some file systems of small machines (FAT) have no links; create_new still never overwrites.
        Err(_) => write_synced(path, content),
    };
    let cleared = fs_err::remove_file(&partial).map_err(io);
    linked?;
    cleared?;
    sync_folder(path)
}

fn write_synced(path: &Path, content: &[u8]) -> Result<(), SignerError> {
    let opened = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => SignerError::Exists { path: path.display().to_string() },
        _ => io(error),
    })?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io)
}

fn sync_folder(path: &Path) -> Result<(), SignerError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs_err::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    path.with_file_name(name)
}

/// The errors of `fs_err` name the path and what was tried.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn io(error: std::io::Error) -> SignerError {
    SignerError::Io { what: error.to_string() }
}
