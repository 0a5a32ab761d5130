use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use types::SpkiHash;
use x509::Certificate;

use crate::accept::MinVersion;
use crate::connect::{dial, server_name};
use crate::error::TlsError;
use crate::http::client::{Exchange, exchange};
use crate::profile;

/// The most bytes of a CA bundle that the bootstrap reads from a server it does not know yet.
const BUNDLE_BYTES_MAX: usize = 256 * 1024;
const DEADLINE: Duration = Duration::from_secs(20);

/// The bootstrap of DESIGN.md section 4: fetches `/ca/bundle` over a connection that proves
/// nothing, sends no secret over it, and keeps only a root whose key is pinned.
///
/// # Errors
/// The server cannot be reached, or offers no root with a pinned key, or none that may be a root.
pub async fn pinned_root(host: &str, port: u16, pins: &[SpkiHash]) -> Result<Certificate, TlsError> {
    let name = server_name(host)?;
    let wrong = |error: rustls::Error| TlsError::Config { detail: error.to_string() };
    let mut config = ClientConfig::builder_with_details(profile::provider(), Arc::new(NoTime))
        .with_protocol_versions(profile::versions(MinVersion::V12))
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Stranger))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let fetched = async {
        let tcp = dial(host, port).await?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .map_err(|error| TlsError::from_io(&error))?;
        let request = http::Request::get("/ca/bundle")
            .header(http::header::HOST, crate::http::client::host_header(host, port))
            .body(Vec::new())
            .map_err(|error| TlsError::Http { detail: error.to_string() })?;
        exchange(stream, request, Exchange { answer_bytes_max: BUNDLE_BYTES_MAX, deadline: DEADLINE }).await
    };
    let answer = timeout(DEADLINE, fetched)
        .await
        .map_err(|_| TlsError::Timeout { what: "fetching the CA bundle", after: DEADLINE })??;
    if answer.status != http::StatusCode::OK {
        return Err(TlsError::PinnedRoot { detail: format!("the server answered {}", answer.status) });
    }
    roots_matching(&answer.body, pins)?
        .into_iter()
        .next()
        .ok_or_else(|| TlsError::PinnedRoot { detail: "no certificate".to_owned() })
}

/// The roots of a CA bundle (JSON that holds PEM, or PEM) whose keys are pinned, in its order;
/// all else in it is discarded unread.
///
/// # Errors
/// None has a pinned key, or the one that has may not be a root.
pub fn roots_matching(bundle: &[u8], pins: &[SpkiHash]) -> Result<Vec<Certificate>, TlsError> {
    let refused = |detail: String| TlsError::PinnedRoot { detail };
    let text = std::str::from_utf8(bundle).map_err(|_| refused("the bundle is not text".to_owned()))?;
    let mut pems = Vec::new();
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(document) => collect_pem(&document, &mut pems),
        Err(_) => pems.push(text.to_owned()),
    }
    let mut seen = 0_usize;
    let mut roots: Vec<Certificate> = Vec::new();
    for certificate in pems.iter().filter_map(|pem| Certificate::parse_pem_chain(pem).ok()).flatten() {
        seen += 1;
        if pins.contains(&certificate.spki_hash()) {
            may_be_root(&certificate).map_err(refused)?;
            if roots.iter().all(|root| root.der() != certificate.der()) {
                roots.push(certificate);
            }
        }
    }
    match roots.is_empty() {
        true => Err(refused(format!("{seen} certificates offered, none with a pinned key"))),
        false => Ok(roots),
    }
}

fn collect_pem(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) if text.contains("-----BEGIN CERTIFICATE-----") => {
            out.push(text.clone())
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_pem(item, out)),
        serde_json::Value::Object(fields) => fields.values().for_each(|item| collect_pem(item, out)),
        _ => {}
    }
}

/// A pinned key alone is not enough: the certificate around it has to be signed by that key, be a
/// CA, and the key be strong. Dates are left out in this one step, for a device without a clock.
fn may_be_root(certificate: &Certificate) -> Result<(), String> {
    if certificate.subject_der() != certificate.issuer_der() {
        return Err("the certificate with the pinned key is not self-issued".to_owned());
    }
    if !certificate.is_ca() {
        return Err("the certificate with the pinned key is no CA".to_owned());
    }
    certificate.key_kind().map_err(|error| error.to_string())?;
    certificate.verify_signed_by(certificate).map_err(|error| format!("its self-signature: {error}"))
}

/// Believes any server: what the bootstrap fetches is checked by its pin alone. Private to this
/// module, whose one connection carries no secret and no identity.
#[derive(Debug)]
struct Stranger;

impl ServerCertVerifier for Stranger {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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

/// No date is looked at in this step.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}
