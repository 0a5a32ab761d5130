use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use types::{Clock, IssuerId, Wall};
use x509::{Certificate, ChainError, Usage};

use crate::connect::ServerTrust;
use crate::error::ServerRefused;
use crate::profile;

/// Why a server was refused.
pub(crate) struct Finding {
    pub(crate) refused: ServerRefused,
    pub(crate) detail: String,
    pub(crate) date: Option<Wall>,
}

impl Finding {
    fn new(refused: ServerRefused, detail: impl Into<String>) -> Self {
        Self { refused, detail: detail.into(), date: None }
    }
}

/// The check of one connection's server: chain to a root, dates, usage in the leaf and in a CA,
/// and the host name. It owns the finding, so that the caller learns which check refused.
pub(crate) struct ServerCheck {
    trust: Arc<ServerTrust>,
    clock: Arc<dyn Clock>,
    finding: Mutex<Option<Finding>>,
}

impl ServerCheck {
    pub(crate) fn new(trust: Arc<ServerTrust>, clock: Arc<dyn Clock>) -> Self {
        Self { trust, clock, finding: Mutex::default() }
    }

    /// Why the server was refused, if it was.
    pub(crate) fn take_finding(&self) -> Option<Finding> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[&[u8]],
        host: &ServerName<'_>,
    ) -> Result<(), Finding> {
        // 1. Chain, dates and purpose.
        let wall = self.clock.now().wall;
        let chain = x509::verify_chain(&self.trust.anchors, leaf, intermediates, wall, Usage::ServerAuth)
            .map_err(|error| self.finding_for(&error, leaf, intermediates, wall))?;
        // 2. serverAuth spelled out in the leaf: a certificate for any purpose is none of a server's.
        if !chain.leaf().allows_server_auth() {
            return Err(Finding::new(ServerRefused::WrongUsage, "the certificate does not list serverAuth"));
        }
        // 3. A CA of the path that is constrained to servers, so that no other CA can mint one.
        if !self.passes_a_servers_ca(chain.issuers(), intermediates) {
            let detail = "no CA of the chain is constrained to server certificates";
            return Err(Finding::new(ServerRefused::NotAServersCa, detail));
        }
        // 4. The name.
        let named = ParsedCertificate::try_from(leaf).and_then(|parsed| verify_server_name(&parsed, host));
        named.map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Finding::new(ServerRefused::WrongHost, names_of(chain.leaf())),
            other => Finding::new(ServerRefused::Malformed, other.to_string()),
        })
    }

    /// The chain check's error as a finding about a server. Where a CA is at fault, the CAs above
    /// the leaf are looked at to say which way: only the words depend on this, never the refusal.
    fn finding_for(&self, error: &ChainError, leaf: &[u8], intermediates: &[&[u8]], now: Wall) -> Finding {
        let detail = error.to_string();
        match error {
            ChainError::Expired { not_after, .. } => {
                Finding { date: Some(*not_after), ..Finding::new(ServerRefused::Expired, detail) }
            }
            ChainError::NotYetValid { not_before, .. } => {
                Finding { date: Some(*not_before), ..Finding::new(ServerRefused::NotYetValid, detail) }
            }
            ChainError::UnknownIssuer { .. } | ChainError::BadSignature { .. } => {
                Finding::new(ServerRefused::UnknownIssuer, detail)
            }
            ChainError::VersionOne => Finding::new(ServerRefused::VersionOne, detail),
            ChainError::WrongUsage { .. } => Finding::new(ServerRefused::WrongUsage, detail),
            ChainError::IssuerInvalid { .. } => {
                let above = self.cas_above(leaf, intermediates);
                if let Some(ca) = above.iter().find(|ca| ca.has_eku() && !ca.allows_server_auth()) {
                    let subject = ca.subject_text();
                    let detail = format!("\"{}\" may not sign server certificates", types::Clipped(&subject));
                    return Finding::new(ServerRefused::NotAServersCa, detail);
                }
                if let Some(ca) = above.iter().find(|ca| now.secs() > ca.not_after().secs()) {
                    return Finding {
                        date: Some(ca.not_after()),
                        ..Finding::new(ServerRefused::Expired, detail)
                    };
                }
                match above.iter().map(Certificate::not_before).max() {
                    Some(date) if now.secs() < date.secs() => {
                        Finding { date: Some(date), ..Finding::new(ServerRefused::NotYetValid, detail) }
                    }
                    _ => Finding::new(ServerRefused::Malformed, detail),
                }
            }
            _ => Finding::new(ServerRefused::Malformed, detail),
        }
    }

    /// The CAs that signed their way down to the leaf, nearest first, as far as they are known here.
    fn cas_above(&self, leaf: &[u8], intermediates: &[&[u8]]) -> Vec<Certificate> {
        const DEPTH_MAX: usize = 6;
        let presented = intermediates.iter().filter_map(|der| Certificate::parse_der(der).ok());
        let known: Vec<_> = presented.chain(self.trust.roots.iter().cloned()).take(DEPTH_MAX * 4).collect();
        let mut above: Vec<Certificate> = Vec::new();
        let mut below = Certificate::parse_der(leaf).ok();
        while let Some(certificate) = below.take() {
            let signer = known.iter().find(|ca| certificate.verify_signed_by(ca).is_ok());
            if let Some(ca) = signer.filter(|ca| above.len() < DEPTH_MAX && ca.der() != certificate.der()) {
                above.push(ca.clone());
                below = Some(ca.clone());
            }
        }
        above
    }

    fn passes_a_servers_ca(&self, path: &[IssuerId], intermediates: &[&[u8]]) -> bool {
        let presented = intermediates.iter().filter_map(|der| Certificate::parse_der(der).ok());
        presented
            .chain(self.trust.roots.iter().cloned())
            .filter(|ca| path.contains(&ca.issuer_id_as_ca()))
            .any(|ca| ca.is_ca() && ca.has_eku() && ca.allows_server_auth() && !ca.allows_client_auth())
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
            Err(finding) => {
                let alert = alert_for(finding.refused);
                *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = Some(finding);
                Err(rustls::Error::InvalidCertificate(alert))
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
