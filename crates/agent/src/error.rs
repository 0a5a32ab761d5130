use std::io;
use std::path::Path;

use signer::SignerError;
use tls::TlsError;
use types::Blame;
use x509::X509Error;

use crate::bundle::BundleError;
use crate::mqtt::ClientError;

/// What kept a device from being provisioned or from running.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The connection to the server failed, or a check refused it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server refused the request.
    #[error("the server refused with {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The slug of its problem document, if it sent one.
        code: String,
        /// Its words, clipped and escaped.
        detail: String,
    },
    /// The server's answer is not what its API promises.
    #[error("the server's answer: {detail}")]
    BadAnswer {
        /// What is wrong with it.
        detail: String,
    },
    /// The certificate that came back is not one for this device.
    #[error("the certificate that came back: {detail}")]
    WrongCertificate {
        /// What is wrong with it.
        detail: String,
    },
    /// The private key cannot be made, read or used.
    #[error(transparent)]
    Key(#[from] SignerError),
    /// A certificate in the folder cannot be read.
    #[error(transparent)]
    X509(#[from] X509Error),
    /// A file of the folder cannot be read or written, or is damaged.
    #[error("{path}: {detail}")]
    State {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The folder holds a device already.
    #[error("\"{dir}\" holds device \"{device}\" already; another device needs another folder")]
    AlreadyProvisioned {
        /// The folder.
        dir: String,
        /// The device.
        device: String,
    },
    /// The folder holds no device yet.
    #[error("\"{dir}\" holds no certificate yet; run provision first")]
    NotProvisioned {
        /// The folder.
        dir: String,
    },
    /// The MQTT connection failed.
    #[error(transparent)]
    Mqtt(#[from] ClientError),
    /// The source of telemetry ended or failed.
    #[error("source of telemetry: {detail}")]
    Source {
        /// What happened.
        detail: String,
    },
}

impl AgentError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Bundle(_) | Self::AlreadyProvisioned { .. } | Self::NotProvisioned { .. } => {
                Blame::Operator
            }
            Self::Tls(error) => error.blame(),
            Self::Refused { .. } | Self::BadAnswer { .. } | Self::WrongCertificate { .. } => Blame::Peer,
            Self::Key(error) => error.blame(),
            Self::X509(_) | Self::State { .. } | Self::Source { .. } => Blame::Us,
            Self::Mqtt(error) => error.blame(),
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "agent.bundle",
            Self::Tls(error) => error.code(),
            Self::Refused { .. } => "agent.refused",
            Self::BadAnswer { .. } => "agent.bad_answer",
            Self::WrongCertificate { .. } => "agent.wrong_certificate",
            Self::Key(error) => error.code(),
            Self::X509(_) => "agent.certificate",
            Self::State { .. } => "agent.state",
            Self::AlreadyProvisioned { .. } => "agent.already_provisioned",
            Self::NotProvisioned { .. } => "agent.not_provisioned",
            Self::Mqtt(error) => error.code(),
            Self::Source { .. } => "agent.source",
        }
    }

    /// Whether somebody said no, as opposed to something not working.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 401 | 403),
            Self::Tls(TlsError::Server { .. } | TlsError::Alert { .. } | TlsError::PinnedRoot { .. }) => true,
            Self::Mqtt(error) => error.is_denial(),
            _ => false,
        }
    }

    pub(crate) fn state(path: &Path, error: io::Error) -> Self {
        Self::State { path: path.display().to_string(), detail: error.to_string() }
    }
}
