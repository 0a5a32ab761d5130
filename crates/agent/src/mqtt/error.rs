use std::io;
use std::time::Duration;

use tls::TlsError;
use types::Blame;

/// The CONNACK return codes that refuse (MQTT 3.1.1 section 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnackRefusal {
    /// 1: the server does not speak 3.1.1.
    ProtocolVersion,
    /// 2: the client id is not allowed.
    Identifier,
    /// 3: the service is not available.
    Unavailable,
    /// 4: malformed user name or password.
    BadUserNameOrPassword,
    /// 5: the client may not connect.
    NotAuthorized,
}

impl ConnackRefusal {
    fn words(self) -> &'static str {
        match self {
            Self::ProtocolVersion => "unacceptable protocol version",
            Self::Identifier => "client id rejected",
            Self::Unavailable => "server unavailable",
            Self::BadUserNameOrPassword => "bad user name or password",
            Self::NotAuthorized => "not authorized",
        }
    }
}

/// How an MQTT connection failed or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The TLS connection failed: a check refused the server, or the server refused us.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server answered CONNECT with a refusal.
    #[error("the broker refused the connection: {}", why.words())]
    Refused {
        /// Its return code.
        why: ConnackRefusal,
    },
    /// The server does not let us subscribe.
    #[error("the broker refused the subscription to \"{filter}\"")]
    SubscriptionRefused {
        /// The filter.
        filter: String,
    },
    /// The connection ended.
    #[error("connection closed: {detail}")]
    Closed {
        /// What is known of why.
        detail: String,
    },
    /// Nothing was heard in time.
    #[error("{what}: nothing in {} s", after.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The server broke the protocol.
    #[error("protocol: {detail}")]
    Protocol {
        /// What it sent.
        detail: String,
    },
    /// What the application asked for cannot be sent.
    #[error("{detail}")]
    Unsendable {
        /// What is wrong with it.
        detail: String,
    },
}

impl ClientError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Tls(error) => error.blame(),
            Self::Refused { .. } | Self::SubscriptionRefused { .. } | Self::Protocol { .. } => Blame::Peer,
            Self::Closed { .. } | Self::Timeout { .. } => Blame::Us,
            Self::Unsendable { .. } => Blame::Operator,
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tls(error) => error.code(),
            Self::Refused { .. } => "mqtt.refused",
            Self::SubscriptionRefused { .. } => "mqtt.subscription_refused",
            Self::Closed { .. } => "mqtt.closed",
            Self::Timeout { .. } => "mqtt.timeout",
            Self::Protocol { .. } => "mqtt.protocol",
            Self::Unsendable { .. } => "mqtt.unsendable",
        }
    }

    /// Whether somebody said no, as opposed to something not working.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Tls(error) => matches!(error, TlsError::Server { .. } | TlsError::Alert { .. }),
            Self::Refused { .. } | Self::SubscriptionRefused { .. } => true,
            _ => false,
        }
    }

    /// The name of the TLS alert by which the server ended the connection, if it was one.
    #[must_use]
    pub fn alert(&self) -> Option<&str> {
        match self {
            Self::Tls(TlsError::Alert { alert }) => Some(alert),
            _ => None,
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        match tls::alert_in(error) {
            Some(alert) => Self::Tls(TlsError::Alert { alert }),
            // rustls's own words for this end in the address of a manual.
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Closed { detail: "cut without a goodbye".to_owned() }
            }
            None => Self::Closed { detail: error.to_string() },
        }
    }

    pub(crate) fn protocol(detail: impl Into<String>) -> Self {
        Self::Protocol { detail: detail.into() }
    }
}
