use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use types::{Clock, IssuerId, Reason};
use x509::{Certificate, Usage};

use crate::connect::ServerTrust;
use crate::error::ServerRefused;
use crate::profile;

/// The check of one connection's server: chain to a root, dates, usage in the leaf and in a CA,
/// and the host name. It owns the finding, so that the caller learns which check refused.
pub(crate) struct ServerCheck {
    trust: Arc<ServerTrust>,
    clock: Arc<dyn Clock>,
    finding: Mutex<Option<(ServerRefused, String)>>,
}

impl ServerCheck {
    pub(crate) fn new(trust: Arc<ServerTrust>, clock: Arc<dyn Clock>) -> Self {
        Self { trust, clock, finding: Mutex::default() }
    }

    /// Why the server was refused, if it was.
    pub(crate) fn take_finding(&self) -> Option<(ServerRefused, String)> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[&[u8]],
        host: &ServerName<'_>,
    ) -> Result<(), (ServerRefused, String)> {
        // 1. Chain, dates and purpose.
        let wall = self.clock.now().wall;
        let chain = x509::verify_chain(&self.trust.anchors, leaf, intermediates, wall, Usage::ServerAuth)
            .map_err(|error| (refused_for(error.reason(), leaf), error.to_string()))?;
        // 2. serverAuth spelled out in the leaf: a certificate for any purpose is none of a server's.
        if !chain.leaf().allows_server_auth() {
            return Err((ServerRefused::WrongUsage, "the certificate does not list serverAuth".to_owned()));
        }
        // 3. A CA of the path that is constrained to servers, so that no other CA can mint one.
        if !self.passes_a_servers_ca(chain.issuers(), intermediates) {
            let detail = "no CA of the chain is constrained to server certificates".to_owned();
            return Err((ServerRefused::NotAServersCa, detail));
        }
        // 4. The name.
        let named = ParsedCertificate::try_from(leaf).and_then(|parsed| verify_server_name(&parsed, host));
        named.map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => (ServerRefused::WrongHost, names_of(chain.leaf())),
            other => (ServerRefused::Malformed, other.to_string()),
        })
    }

    fn passes_a_servers_ca(&self, path: &[IssuerId], intermediates: &[&[u8]]) -> bool {
        let presented = intermediates.iter().filter_map(|der| Certificate::parse_der(der).ok());
        presented
            .chain(self.trust.roots.iter().cloned())
            .filter(|ca| path.contains(&ca.issuer_id_as_ca()))
            .any(|ca| ca.is_ca() && ca.has_eku() && ca.allows_server_auth() && !ca.allows_client_auth())
    }
}

/// The chain check's reason as a finding about a server. A purpose that fails although the leaf
/// allows it fails in a CA above it: that CA is not one of servers.
fn refused_for(reason: Reason, leaf: &[u8]) -> ServerRefused {
    match reason {
        Reason::Expired => ServerRefused::Expired,
        Reason::NotYetValid => ServerRefused::NotYetValid,
        Reason::UnknownIssuer => ServerRefused::UnknownIssuer,
        Reason::VersionOne => ServerRefused::VersionOne,
        Reason::WrongUsage => match Certificate::parse_der(leaf) {
            Ok(leaf) if leaf.allows_server_auth() => ServerRefused::NotAServersCa,
            Ok(_) | Err(_) => ServerRefused::WrongUsage,
        },
        _ => ServerRefused::Malformed,
    }
}

fn names_of(leaf: &Certificate) -> String {
    let dns = leaf.san_dns().into_iter();
    let all: Vec<_> = dns.chain(leaf.san_ips().iter().map(ToString::to_string)).take(8).collect();
    match all.is_empty() {
        true => "its certificate bears no host name or address".to_owned(),
        false => format!("its certificate bears \"{}\"", types::Clipped(&all.join(", "))),
    }
}

fn alert_for(refused: ServerRefused) -> CertificateError {
    match refused {
        ServerRefused::UnknownIssuer => CertificateError::UnknownIssuer,
        ServerRefused::WrongHost => CertificateError::NotValidForName,
        ServerRefused::Expired => CertificateError::Expired,
        ServerRefused::NotYetValid => CertificateError::NotValidYet,
        ServerRefused::WrongUsage | ServerRefused::NotAServersCa | ServerRefused::VersionOne => {
            CertificateError::InvalidPurpose
        }
        ServerRefused::Malformed => CertificateError::BadEncoding,
        ServerRefused::NoPossession => CertificateError::BadSignature,
    }
}

impl fmt::Debug for ServerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCheck")
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let intermediates: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        match self.check(end_entity, &intermediates, server_name) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err((refused, detail)) => {
                *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = Some((refused, detail));
                Err(rustls::Error::InvalidCertificate(alert_for(refused)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &profile::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &profile::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        profile::provider().signature_verification_algorithms.supported_schemes()
    }
}
