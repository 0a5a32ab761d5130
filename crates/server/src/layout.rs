//! Where things stand in the data folder.

use std::path::{Path, PathBuf};

use crate::error::ServerError;

/// The longest path of a Unix socket, on Linux: 108 bytes with the zero at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The data folder of one installation.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The folder as the command line named it.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("bailiwick.toml")
    }

    /// A path that the configuration gives relative to the data folder.
    #[must_use]
    pub fn relative(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// The lock of the one writer.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The socket between the command line and a running server.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("bailiwick.sock")
    }

    /// Whether the socket's path fits into a Unix address, whoever names the folder and from wherever.
    ///
    /// # Errors
    /// The path is longer than every system takes.
    pub fn socket_fits(&self) -> Result<(), ServerError> {
        let path = std::path::absolute(self.socket())?;
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            let error = format!(
                "{length} bytes; a socket's path has {SOCKET_PATH_BYTES_MAX} at most: shorten the folder's"
            );
            return Err(ServerError::File { path, error });
        }
        Ok(())
    }

    /// The secret that unlocks the online keys, 0600.
    #[must_use]
    pub fn unlock_secret(&self) -> PathBuf {
        self.dir.join("unlock.secret")
    }

    /// An online key, encrypted under the unlock secret: `devices`, `services`, `servers`, `server`, `checkpoint`, `bundle`.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{name}.key.pem"))
    }

    /// The root's key, encrypted under its own passphrase; it can be moved off the machine.
    #[must_use]
    pub fn root_key(&self) -> PathBuf {
        self.dir.join("root").join("root.key.pem")
    }

    /// A CA certificate: `root`, `devices`, `services`, `servers`.
    #[must_use]
    pub fn ca(&self, label: &str) -> PathBuf {
        self.dir.join("ca").join(format!("{label}.crt"))
    }

    /// The certificate, chain first to last, of our own listeners.
    #[must_use]
    pub fn server_chain(&self) -> PathBuf {
        self.dir.join("ca").join("server-fullchain.crt")
    }

    /// The rules that `init` ships.
    #[must_use]
    pub fn policy(&self, name: &str) -> PathBuf {
        self.dir.join("policy").join(name)
    }

    /// The first operator's files.
    #[must_use]
    pub fn operator(&self) -> PathBuf {
        self.dir.join("operator")
    }

    /// Every folder that `init` makes.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        ["keys", "root", "ca", "policy", "operator"].map(|name| self.dir.join(name)).to_vec()
    }
}
