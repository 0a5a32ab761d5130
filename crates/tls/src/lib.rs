//! Builds every TLS configuration of the product: acceptors, connectors, live identities, HTTP.
//! In: TCP streams, identities, the watched trust `View`. Out: connections with the verified chain and their evidence.
//! Invariant: no session resumes, no suite outside row B1 is offered, and no switch turns a check off.
//! Never: decides who a verified peer is (`trust::admit` does); sends a secret before the server is verified.
//! Spec: DESIGN.md sections 2 to 4; RFC 8446, RFC 5246, RFC 9457.

mod accept;
mod connect;
mod error;
pub mod http;
mod identity;
mod pinned;
mod profile;
mod server_check;
mod sniff;
mod verify;

pub use accept::{
    Accepted, Acceptor, Checked, ClientCertificates, HandshakeInfo, MinVersion, RefusedHandshake,
};
pub use connect::{Connector, ServerTrust};
pub use error::{ServerRefused, TlsError, alert_in};
pub use identity::{HANDSHAKE_CHAIN_BYTES_MAX, Identity, LiveIdentity};
pub use pinned::{pinned_root, roots_matching};

pub use rustls;
pub use tokio_rustls;
