//! HTTP on our own acceptor: problem documents, the bounded server, the clients.
//! In: a listener and an axum router; requests. Out: served connections with peer evidence; answers.
//! Invariant: every wait has a deadline, every size a limit, and a slow client holds back nobody else.
//! Never: serves TLS without the checks of [`crate::Acceptor`]; trusts a proxy header for identity.
//! Spec: RFC 9112, RFC 9457; DESIGN.md section 4.

pub(crate) mod client;
mod limits;
mod problem;
mod serve;
mod stall;
mod unix;

pub use client::{Client, Response};
pub use limits::HttpLimits;
pub use problem::Problem;
pub use serve::{PeerAddr, PeerChain, serve};
pub use unix::{PeerUid, serve_unix, unix_request};
