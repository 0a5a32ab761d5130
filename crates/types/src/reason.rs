/// Why a connection, a certificate or a session was refused or ended. The slug of
/// [`Reason::code`] is the same in the log, the metric label, the event and the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The peer showed no certificate.
    NoCertificate,
    /// No anchor of ours signed the certificate, or a signature in the chain is wrong.
    UnknownIssuer,
    /// The certificate is an X.509 v1 certificate, which has no extensions to check.
    VersionOne,
    /// The certificate's notAfter has passed.
    Expired,
    /// The certificate's notBefore has not come.
    NotYetValid,
    /// The certificate does not allow client authentication.
    WrongUsage,
    /// The certificate is malformed, carries an unknown critical extension, or a weak key.
    Malformed,
    /// The certificate names no device, several, or one outside the grammar.
    BadName,
    /// The certificate was revoked.
    Revoked,
    /// The certificate is suspended (certificateHold).
    Suspended,
    /// The device stands on the deny-list.
    Denied,
    /// A CA in the chain was revoked, has expired, or is no CA.
    IssuerInvalid,
    /// The certificate is well signed but not in the ledger.
    NotInLedger,
    /// The certificate was replaced and its overlap has ended.
    Superseded,
    /// The name belongs to another anchor or another kind of principal.
    WrongAnchor,
    /// The date of this machine is not to be believed, so no certificate can be.
    ClockUnsound,
    /// The data that the check needs is missing, stale or unreadable.
    Unavailable,
    /// The peer's TLS handshake failed before it showed who it is.
    TlsFailed,
    /// The peer did not finish its handshake, or its CONNECT, in time.
    Timeout,
    /// A limit on connections, rates or sizes was reached.
    Limit,
    /// The peer broke the MQTT protocol.
    Protocol,
    /// Another connection took the session over.
    TakenOver,
    /// Nothing was heard for one and a half keep-alive intervals [MQTT-3.1.2-24].
    KeepAlive,
    /// The peer said goodbye.
    ClientClosed,
    /// The network connection was lost.
    ConnectionLost,
    /// The peer does not read, and its queue is full.
    SlowConsumer,
    /// The server stops.
    ServerStops,
}

impl Reason {
    /// Stable slug.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoCertificate => "tls.no_certificate",
            Self::UnknownIssuer => "trust.unknown_issuer",
            Self::VersionOne => "trust.x509_v1",
            Self::Expired => "trust.expired",
            Self::NotYetValid => "trust.not_yet_valid",
            Self::WrongUsage => "trust.wrong_usage",
            Self::Malformed => "trust.malformed",
            Self::BadName => "trust.bad_name",
            Self::Revoked => "trust.revoked",
            Self::Suspended => "trust.suspended",
            Self::Denied => "trust.denied",
            Self::IssuerInvalid => "trust.issuer_invalid",
            Self::NotInLedger => "trust.not_in_ledger",
            Self::Superseded => "trust.superseded",
            Self::WrongAnchor => "trust.wrong_anchor",
            Self::ClockUnsound => "trust.clock_unsound",
            Self::Unavailable => "trust.unavailable",
            Self::TlsFailed => "tls.failed",
            Self::Timeout => "conn.timeout",
            Self::Limit => "conn.limit",
            Self::Protocol => "mqtt.protocol",
            Self::TakenOver => "mqtt.taken_over",
            Self::KeepAlive => "mqtt.keep_alive",
            Self::ClientClosed => "mqtt.client_closed",
            Self::ConnectionLost => "conn.lost",
            Self::SlowConsumer => "mqtt.slow_consumer",
            Self::ServerStops => "server.stops",
        }
    }
}
