use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::sync::watch;
use trust::View;
use types::{Clock, Reason, Serial};
use x509::{Certificate, Usage, VerifiedChain};

use crate::accept::ClientCertificates;
use crate::profile;

/// What one handshake has shown so far.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) chain: Option<VerifiedChain>,
    pub(crate) view: Option<Arc<View>>,
    pub(crate) refusal: Option<(Reason, String)>,
    pub(crate) presented: Option<Presented>,
}

/// Who a refused certificate says it is; unverified, for the log only.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: Serial,
}

/// The client check of one connection. It owns that connection's evidence, because a verifier
/// that several connections share cannot tell which of them failed.
pub(crate) struct ConnectionVerifier {
    view: watch::Receiver<Arc<View>>,
    clock: Arc<dyn Clock>,
    mode: ClientCertificates,
    evidence: Mutex<Evidence>,
}

impl ConnectionVerifier {
    pub(crate) fn new(
        view: watch::Receiver<Arc<View>>,
        clock: Arc<dyn Clock>,
        mode: ClientCertificates,
    ) -> Self {
        Self { view, clock, mode, evidence: Mutex::default() }
    }

    /// Takes the evidence out; what remains is empty.
    pub(crate) fn take_evidence(&self) -> Evidence {
        std::mem::take(&mut *self.evidence.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self, leaf: &[u8], intermediates: &[&[u8]]) -> Result<(), Reason> {
        let view = self.view.borrow().clone();
        let now = self.clock.now();
        let checked =
            x509::verify_chain(view.client_anchors(), leaf, intermediates, now.wall, Usage::ClientAuth)
                .map_err(|error| (error.reason(), error.to_string()))
                .and_then(|chain| match trust::precheck(&view, &chain, now) {
                    Ok(()) => Ok(chain),
                    Err(refusal) => Err((refusal.reason, refusal.detail)),
                });
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        evidence.view = Some(view);
        match checked {
            Ok(chain) => {
                evidence.chain = Some(chain);
                Ok(())
            }
            Err((reason, detail)) => {
                evidence.presented = presented(leaf);
                evidence.refusal = Some((reason, detail));
                Err(reason)
            }
        }
    }
}

/// Who the certificate says it is, if it can be read.
pub(crate) fn presented(leaf: &[u8]) -> Option<Presented> {
    let certificate = Certificate::parse_der(leaf).ok()?;
    Some(Presented {
        subject: certificate.subject_text(),
        issuer: certificate.issuer_text(),
        serial: certificate.serial(),
    })
}

/// The error whose TLS alert tells the client as much as RFC 8446 section 6.2 has words for.
/// Reasons that arise after the handshake are here too, so that none falls through.
pub(crate) fn certificate_error(reason: Reason) -> CertificateError {
    match reason {
        // certificate_revoked
        Reason::Revoked | Reason::Suspended | Reason::Superseded => CertificateError::Revoked,
        // certificate_expired
        Reason::Expired => CertificateError::Expired,
        Reason::NotYetValid => CertificateError::NotValidYet,
        // unknown_ca
        Reason::UnknownIssuer | Reason::IssuerInvalid => CertificateError::UnknownIssuer,
        // unsupported_certificate
        Reason::VersionOne | Reason::WrongUsage => CertificateError::InvalidPurpose,
        // bad_certificate
        Reason::Malformed | Reason::BadName | Reason::NoCertificate => CertificateError::BadEncoding,
        // access_denied
        Reason::Denied
        | Reason::NotInLedger
        | Reason::WrongAnchor
        | Reason::ClockUnsound
        | Reason::Unavailable
        | Reason::TlsFailed
        | Reason::Timeout
        | Reason::Limit
        | Reason::Protocol
        | Reason::TakenOver
        | Reason::KeepAlive
        | Reason::ClientClosed
        | Reason::ConnectionLost
        | Reason::SlowConsumer
        | Reason::ServerStops => CertificateError::ApplicationVerificationFailure,
        // A reason that a later version of `types` adds is a denial like any other.
        _ => CertificateError::ApplicationVerificationFailure,
    }
}

impl fmt::Debug for ConnectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionVerifier")
    }
}

impl ClientCertVerifier for ConnectionVerifier {
    fn offer_client_auth(&self) -> bool {
        match self.mode {
            ClientCertificates::Required | ClientCertificates::Optional => true,
            ClientCertificates::NotAsked => false,
        }
    }

    fn client_auth_mandatory(&self) -> bool {
        match self.mode {
            ClientCertificates::Required => true,
            ClientCertificates::Optional | ClientCertificates::NotAsked => false,
        }
    }

    // No hints: a device has one certificate, and every name would count against the 4 KB.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let intermediates: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        match self.check(end_entity, &intermediates) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(reason) => Err(rustls::Error::InvalidCertificate(certificate_error(reason))),
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

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn every_reason_of_a_certificate_has_its_own_alert() {
        use AlertDescription as Alert;
        for (reason, alert) in [
            (Reason::Revoked, Alert::CertificateRevoked),
            (Reason::Suspended, Alert::CertificateRevoked),
            (Reason::Superseded, Alert::CertificateRevoked),
            (Reason::Expired, Alert::CertificateExpired),
            (Reason::NotYetValid, Alert::CertificateExpired),
            (Reason::UnknownIssuer, Alert::UnknownCA),
            (Reason::IssuerInvalid, Alert::UnknownCA),
            (Reason::VersionOne, Alert::UnsupportedCertificate),
            (Reason::WrongUsage, Alert::UnsupportedCertificate),
            (Reason::Malformed, Alert::BadCertificate),
            (Reason::BadName, Alert::BadCertificate),
            (Reason::Denied, Alert::AccessDenied),
            (Reason::NotInLedger, Alert::AccessDenied),
            (Reason::WrongAnchor, Alert::AccessDenied),
            (Reason::ClockUnsound, Alert::AccessDenied),
            (Reason::Unavailable, Alert::AccessDenied),
        ] {
            assert_eq!(AlertDescription::from(certificate_error(reason)), alert, "{reason:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_present_nobody() {
        assert!(presented(b"").is_none());
        assert!(presented(&[0x30, 0x03, 0x02, 0x01, 0x01]).is_none());
    }
}
