use std::path::PathBuf;

use types::Blame;

/// Why the server can't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A file can't be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// The configuration is wrong; each line is `file:line:column: what`.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// The topic rules are wrong; each line is `file:line:column: what`.
    #[error("{}", .0.join("\n"))]
    Policy(Vec<String>),
    /// `init` found an installation already.
    #[error("{} holds an installation already; nothing was changed", dir.display())]
    Exists {
        /// The data folder.
        dir: PathBuf,
    },
    /// There is no installation in the folder.
    #[error("{} holds no installation; make one with: bailiwick --dir {} init --host NAME", dir.display(), dir.display())]
    Missing {
        /// The data folder.
        dir: PathBuf,
    },
    /// Another process serves from the folder.
    #[error("{} is in use by another process, which holds the lock {}", dir.display(), dir.join("lock").display())]
    Locked {
        /// The data folder.
        dir: PathBuf,
    },
    /// A listener can't have its address.
    #[error("listener {listener}: cannot listen on {address}: {error}; change listeners.{listener} in {}", config.display())]
    Bind {
        /// The listener's name in the configuration.
        listener: &'static str,
        /// The address that it was to have.
        address: String,
        /// What the system said.
        error: String,
        /// The file to change.
        config: PathBuf,
    },
    /// A key or a certificate of the installation is not usable.
    #[error("{what}: {error}")]
    Key {
        /// Which key or certificate.
        what: String,
        /// What is wrong with it.
        error: String,
    },
    /// A part below failed.
    #[error("{what}: {error}")]
    Part {
        /// What was being done.
        what: &'static str,
        /// What the part said.
        error: String,
    },
}

impl ServerError {
    /// An error of a part below, with what was being done.
    pub(crate) fn part(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |error| Self::Part { what, error: error.to_string() }
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Config(_)
            | Self::Policy(_)
            | Self::Exists { .. }
            | Self::Missing { .. }
            | Self::Locked { .. }
            | Self::Bind { .. }
            | Self::Key { .. } => Blame::Operator,
            Self::File { .. } | Self::Part { .. } => Blame::Us,
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "server.file",
            Self::Config(_) => "server.config",
            Self::Policy(_) => "server.policy",
            Self::Exists { .. } => "server.exists",
            Self::Missing { .. } => "server.missing",
            Self::Locked { .. } => "server.locked",
            Self::Bind { .. } => "server.bind",
            Self::Key { .. } => "server.key",
            Self::Part { .. } => "server.part",
        }
    }
}

/// What `fs_err` says already names the path.
impl From<std::io::Error> for ServerError {
    fn from(error: std::io::Error) -> Self {
        Self::Part { what: "file", error: error.to_string() }
    }
}
