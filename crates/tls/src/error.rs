use std::io;
use std::time::Duration;

use types::{Blame, Wall};

/// Which check refused a server. Every one of them is made on every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerRefused {
    /// No root that we hold signed the chain, or a signature in it is wrong.
    UnknownIssuer,
    /// The certificate does not bear the name or address that we called.
    WrongHost,
    /// A certificate of the chain, or the root, is past its notAfter.
    Expired,
    /// A certificate of the chain, or the root, is before its notBefore.
    NotYetValid,
    /// The certificate does not allow server authentication.
    WrongUsage,
    /// No CA in the chain is constrained to server certificates: a devices CA must not mint a broker.
    NotAServersCa,
    /// The certificate is an X.509 v1 certificate.
    VersionOne,
    /// The certificate or a CA of the chain is malformed, weak, or no CA.
    Malformed,
    /// The server could not prove that it holds the certificate's key.
    NoPossession,
}

impl ServerRefused {
    /// Stable slug.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "server.unknown_issuer",
            Self::WrongHost => "server.wrong_host",
            Self::Expired => "server.expired",
            Self::NotYetValid => "server.not_yet_valid",
            Self::WrongUsage => "server.wrong_usage",
            Self::NotAServersCa => "server.not_a_servers_ca",
            Self::VersionOne => "server.x509_v1",
            Self::Malformed => "server.malformed",
            Self::NoPossession => "server.no_possession",
        }
    }
}

/// What went wrong while making an identity or a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// An identity without a certificate.
    #[error("identity without a certificate; the leaf comes first, its CAs after it")]
    EmptyChain,
    /// A chain that small devices cannot take in one piece.
    #[error("certificate chain of {bytes} bytes; limit 4096 (mbedTLS before 3.6.3 cannot reassemble more)")]
    ChainTooLong {
        /// Its length, as it stands in the handshake.
        bytes: usize,
    },
    /// The private key cannot be used.
    #[error("private key: {detail}")]
    BadKey {
        /// What is wrong with it; never the key.
        detail: String,
    },
    /// The private key is not the one of the certificate.
    #[error("the private key does not belong to the certificate of \"{subject}\"")]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// A root that cannot be an anchor.
    #[error("root certificate: {detail}")]
    BadRoot {
        /// What is wrong with it.
        detail: String,
    },
    /// rustls refused the configuration.
    #[error("TLS configuration: {detail}")]
    Config {
        /// Its words.
        detail: String,
    },
    /// A host that is neither a DNS name nor an address.
    #[error("host \"{host}\" is neither a DNS name nor an IP address")]
    BadHost {
        /// The host, clipped and escaped.
        host: String,
    },
    /// No connection could be made.
    #[error("cannot reach {to}: {detail}")]
    Unreachable {
        /// Host and port.
        to: String,
        /// What the system said of the last address.
        detail: String,
    },
    /// A deadline passed.
    #[error("{what}: nothing in {} s", after.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// A check of ours refused the server.
    #[error("server \"{host}\" refused: {detail}")]
    Server {
        /// Which check.
        refused: ServerRefused,
        /// The host that was called.
        host: String,
        /// What the check found.
        detail: String,
        /// The notAfter or notBefore that refused it, where it was a date.
        date: Option<Wall>,
    },
    /// The other side ended the handshake or the connection with an alert.
    #[error("the other side refused with the TLS alert {alert}")]
    Alert {
        /// The alert's name in RFC 8446, e.g. `CertificateRevoked`.
        alert: String,
    },
    /// The handshake failed otherwise.
    #[error("TLS handshake: {detail}")]
    Handshake {
        /// What happened.
        detail: String,
    },
    /// No root with a pinned key was offered, or none that may be a root.
    #[error("no root with the pinned key: {detail}")]
    PinnedRoot {
        /// What was offered instead.
        detail: String,
    },
    /// The HTTP exchange failed after the connection was made.
    #[error("http: {detail}")]
    Http {
        /// What happened.
        detail: String,
    },
    /// An answer that is larger than the caller allows.
    #[error("http: answer of more than {limit} bytes")]
    AnswerTooLarge {
        /// The limit.
        limit: usize,
    },
}

impl TlsError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::EmptyChain
            | Self::ChainTooLong { .. }
            | Self::BadKey { .. }
            | Self::KeyMismatch { .. }
            | Self::BadRoot { .. }
            | Self::BadHost { .. } => Blame::Operator,
            Self::Config { .. } => Blame::Bug,
            Self::Unreachable { .. } | Self::Timeout { .. } => Blame::Us,
            Self::Server { .. }
            | Self::Alert { .. }
            | Self::Handshake { .. }
            | Self::PinnedRoot { .. }
            | Self::Http { .. }
            | Self::AnswerTooLarge { .. } => Blame::Peer,
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyChain => "tls.empty_chain",
            Self::ChainTooLong { .. } => "tls.chain_too_long",
            Self::BadKey { .. } => "tls.bad_key",
            Self::KeyMismatch { .. } => "tls.key_mismatch",
            Self::BadRoot { .. } => "tls.bad_root",
            Self::Config { .. } => "tls.config",
            Self::BadHost { .. } => "tls.bad_host",
            Self::Unreachable { .. } => "tls.unreachable",
            Self::Timeout { .. } => "tls.timeout",
            Self::Server { refused, .. } => refused.code(),
            Self::Alert { .. } => "tls.alert",
            Self::Handshake { .. } => "tls.failed",
            Self::PinnedRoot { .. } => "tls.pinned_root",
            Self::Http { .. } => "tls.http",
            Self::AnswerTooLarge { .. } => "tls.answer_too_large",
        }
    }

    /// Which check of ours refused the server, if that is what happened.
    #[must_use]
    pub fn server_refused(&self) -> Option<ServerRefused> {
        match self {
            Self::Server { refused, .. } => Some(*refused),
            _ => None,
        }
    }

    /// An I/O error of a TLS stream: an alert is named, the rest keeps its words.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        match alert_in(error) {
            Some(alert) => Self::Alert { alert },
            // rustls's own words for this end in the address of a manual.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Handshake { detail: "the connection was cut without a goodbye".to_owned() }
            }
            None => Self::Handshake { detail: error.to_string() },
        }
    }
}

/// The name of the TLS alert by which the other side ended the connection, if it was one.
#[must_use]
pub fn alert_in(error: &io::Error) -> Option<String> {
    match rustls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => Some(format!("{alert:?}")),
        _ => None,
    }
}

/// The rustls error inside an I/O error, at whatever depth.
pub(crate) fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        source = match inner.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|deeper| deeper as _),
            None => inner.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_found_at_any_depth() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
        let io = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(alert_in(&io).as_deref(), Some("CertificateRevoked"));
        assert_eq!(TlsError::from_io(&io), TlsError::Alert { alert: "CertificateRevoked".into() });
        assert_eq!(alert_in(&io::Error::other("x")), None);
    }

    #[test]
    fn errors_read_as_the_house_style_asks_and_name_their_check() {
        let error = TlsError::Server {
            refused: ServerRefused::WrongHost,
            host: "broker.example".into(),
            detail: "its certificate bears \"other.example\"".into(),
            date: None,
        };
        assert_eq!(error.code(), "server.wrong_host");
        assert_eq!(error.blame(), Blame::Peer);
        assert_eq!(error.server_refused(), Some(ServerRefused::WrongHost));
        assert_eq!(
            error.to_string(),
            "server \"broker.example\" refused: its certificate bears \"other.example\""
        );
        let late = TlsError::Timeout { what: "connecting", after: Duration::from_millis(1500) };
        assert_eq!(late.to_string(), "connecting: nothing in 1.5 s");
    }
}
