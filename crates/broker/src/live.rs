use types::{PrincipalKind, Wall};

use crate::outputs::Who;

/// One live session, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveClient {
    /// The number of the connection, as in the log; the key of the listing.
    pub conn: u64,
    /// What kind of principal it is.
    pub kind: PrincipalKind,
    /// The name in its certificate.
    pub name: String,
    /// The client id that it chose, or that it was given.
    pub client_id: String,
    /// The certificate's serial, in hex.
    pub serial: String,
    /// The label of the CA that signed it.
    pub issuer: String,
    /// Its address and port.
    pub peer: String,
    /// The TLS version.
    pub tls: &'static str,
    /// The cipher suite.
    pub suite: &'static str,
    /// When its handshake was finished.
    pub connected_at: Wall,
}

impl LiveClient {
    /// `None` before CONNECT.
    pub(crate) fn of(who: &Who) -> Option<Self> {
        let principal = who.peer.principal();
        Some(Self {
            conn: who.number,
            kind: principal.kind,
            name: principal.name.to_string(),
            client_id: (**who.client_id.as_ref()?).to_owned(),
            serial: who.peer.cert().serial.to_string(),
            issuer: who.peer.issuer_label().to_owned(),
            peer: who.address.to_string(),
            tls: who.tls,
            suite: who.suite,
            connected_at: who.since,
        })
    }
}
