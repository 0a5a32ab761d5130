use std::net::IpAddr;

use audit::Event;
use bytes::Bytes;
use ca::{CaError, Evidence, Wanted};
use serde::Serialize;
use serde_json::Value;
use store::{RecordedIntent, StoreError, TokenAnswer, TokenRefusal};
use types::{DeviceId, Now};
use x509::{CSR_BYTES_MAX, Certificate, Csr};

use crate::error::EnrollError;
use crate::issue::{Request, renew_after};
use crate::state::Enroll;
use crate::token::PresentedToken;

/// The answer of `POST /provision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provisioned {
    /// The device that the token was for.
    pub device_id: String,
    /// The certificate as PEM.
    pub certificate: String,
    /// The same, under the name that older devices read.
    pub cert: String,
    /// The CA that signed it and its root, as PEM.
    pub ca_chain: String,
    /// When to renew, RFC 3339.
    pub renew_after: String,
    /// The time of the server, RFC 3339, for devices without a clock.
    pub server_time: String,
}

/// How often a token may be lost to a request that broke off; each took a place in the store's queue.
const LOST_MAX: usize = 3;

/// Flow A for a provisioning token, step by step; `body` is at most one byte over the cap.
///
/// # Errors
/// What was wrong with the request, or why nothing can be issued now.
pub async fn provision(enroll: &Enroll, peer: IpAddr, body: &Bytes) -> Result<Provisioned, EnrollError> {
    // 1. Size cap.
    let limit = enroll.deps.settings.body_bytes_max;
    if body.len() > limit {
        return Err(EnrollError::TooLarge { limit });
    }
    // 2. Evidence: the token, only its shape as yet, so that a stranger costs no work of the store.
    let (token, csr_text) = fields_of(body)?;
    let token = PresentedToken::parse(&token)
        .map_err(|shape| EnrollError::Malformed { place: "token", detail: shape.to_string() })?;
    // 3. The request, and 4. the proof of possession over its raw bytes: a `Csr` exists only after both.
    let csr = csr_of(&csr_text)?;
    // 5. Facts and decision: the clock, then the token for this very key. From here on requests
    //    with one token go one after another.
    let now = enroll.sound_now()?;
    let _gate = enroll.gate(&token.id).await;
    let mut lost = 0;
    let (device, certificate) = loop {
        match check(enroll, &token, &csr, now).await? {
            TokenAnswer::Refused(refusal) => return Err(refused(enroll, peer, &token, refusal, now).await),
            TokenAnswer::Bound { device, certificate_der: Some(der), .. } => {
                break (device, parse_own(&der)?);
            }
            // The power failed between intent and record: the same bytes are signed again.
            TokenAnswer::Bound { device, certificate_der: None, intent } => {
                match finish_bound(enroll, &token, &csr, *intent, now).await {
                    Ok(certificate) => break (device, certificate),
                    Err(error) => return Err(not_issued(enroll, peer, &token, error, now).await),
                }
            }
            // 6. Prepare, 7. intent (token bound to this key, serial taken), 8. sign, 9. record.
            TokenAnswer::Unused { device, .. } => {
                match issue_for(enroll, &device, &token, csr.clone(), now).await {
                    Ok(certificate) => break (device, certificate),
                    // The connection of an earlier request broke off while its intent was on its way
                    // into the store: if that was this very key, the next look finds it bound.
                    Err(EnrollError::Store(StoreError::TokenLost { .. })) if lost < LOST_MAX => lost += 1,
                    Err(error) => return Err(not_issued(enroll, peer, &token, error, now).await),
                }
            }
        }
    };
    // 10. Answer.
    Ok(answer_for(enroll, &device, &certificate, now))
}

/// The two fields; unknown ones are ignored, because device endpoints only ever grow.
fn fields_of(body: &[u8]) -> Result<(String, String), EnrollError> {
    // The error of a syntax fault has a place and no content, so no token can leak through it.
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| EnrollError::Malformed { place: "body", detail: error.to_string() })?;
    let Value::Object(mut fields) = value else {
        let detail = "not a JSON object; expected {\"token\", \"csr\"}".to_owned();
        return Err(EnrollError::Malformed { place: "body", detail });
    };
    let mut text = |place: &'static str| match fields.remove(place) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(EnrollError::Malformed { place, detail: "not a text".to_owned() }),
        None => Err(EnrollError::Malformed { place, detail: "missing; expected a text".to_owned() }),
    };
    Ok((text("token")?, text("csr")?))
}

/// A certificate request in PEM, or its DER in base64 as small devices write it.
fn csr_of(text: &str) -> Result<Csr, EnrollError> {
    let malformed = |detail: String| EnrollError::Malformed { place: "csr", detail };
    // Base64 and the PEM frame make four bytes of three.
    let text_bytes_max = CSR_BYTES_MAX / 3 * 4 + 1024;
    if text.len() > text_bytes_max {
        return Err(malformed(format!("{} bytes; limit {text_bytes_max}", text.len())));
    }
    if text.trim_start().starts_with("-----BEGIN") {
        return Csr::parse_pem(text).map_err(|error| malformed(error.to_string()));
    }
    let compact: String = text.chars().filter(|ch| !ch.is_ascii_whitespace()).collect();
    let der = <base64ct::Base64 as base64ct::Encoding>::decode_vec(&compact)
        .map_err(|_| malformed("neither PEM nor the base64 of DER".to_owned()))?;
    Csr::parse_der(&der).map_err(|error| malformed(error.to_string()))
}

async fn check(
    enroll: &Enroll,
    token: &PresentedToken,
    csr: &Csr,
    now: Now,
) -> Result<TokenAnswer, StoreError> {
    enroll.deps.store.token_check(&token.id, token.secret_hash(), csr.spki_hash(), now).await
}

async fn issue_for(
    enroll: &Enroll,
    device: &DeviceId,
    token: &PresentedToken,
    csr: Csr,
    now: Now,
) -> Result<Certificate, EnrollError> {
    let row = enroll.deps.store.device(device).await?;
    let project = match row {
        Some(row) => row.project,
        None => return Err(StoreError::UnknownDevice { id: device.to_string() }.into()),
    };
    let evidence = Evidence::ProvisioningToken { device: device.clone(), token_id: token.id.clone() };
    let request = Request {
        csr,
        ground: evidence.to_string(),
        evidence,
        wanted: Wanted::Device { id: device.clone() },
        project,
        token_id: Some(token.id.clone()),
    };
    enroll.issue(request, now).await
}

/// Signs a bound intent again; when another writer was faster, its certificate is the answer.
async fn finish_bound(
    enroll: &Enroll,
    token: &PresentedToken,
    csr: &Csr,
    intent: RecordedIntent,
    now: Now,
) -> Result<Certificate, EnrollError> {
    match enroll.finish_intent(intent, now).await {
        Err(EnrollError::Store(StoreError::AlreadyRecorded { cert })) => {
            match check(enroll, token, csr, now).await? {
                TokenAnswer::Bound { certificate_der: Some(der), .. } => parse_own(&der),
                _ => Err(StoreError::AlreadyRecorded { cert }.into()),
            }
        }
        other => other,
    }
}

fn parse_own(der: &[u8]) -> Result<Certificate, EnrollError> {
    Certificate::parse_der(der)
        .map_err(|error| StoreError::Corrupt { detail: format!("recorded certificate: {error}") }.into())
}

fn answer_for(enroll: &Enroll, device: &DeviceId, certificate: &Certificate, now: Now) -> Provisioned {
    let pem = certificate.to_pem();
    let signed_by = |issuer: &ca::Issuer| issuer.certificate.subject_der() == certificate.issuer_der();
    let ca_chain = enroll
        .deps
        .issuers
        .iter()
        .find(|(issuer, _)| signed_by(issuer))
        .map(|(issuer, _)| enroll.chain_of(issuer))
        .unwrap_or_default();
    Provisioned {
        device_id: device.to_string(),
        certificate: pem.clone(),
        cert: pem,
        ca_chain,
        renew_after: renew_after(certificate.not_before(), certificate.not_after()).to_string(),
        server_time: types::Wall::from_secs(now.wall.secs()).to_string(),
    }
}

/// The token was good when it was checked; what took it away in between is answered like any other
/// refusal, and what the decision found is noted beside its token.
async fn not_issued(
    enroll: &Enroll,
    peer: IpAddr,
    token: &PresentedToken,
    error: EnrollError,
    now: Now,
) -> EnrollError {
    match &error {
        EnrollError::Store(StoreError::TokenLost { .. }) => {
            refused(enroll, peer, token, TokenRefusal::Revoked, now).await
        }
        EnrollError::Store(StoreError::DeviceDenied { .. })
        | EnrollError::Decision(CaError::Denied { .. }) => {
            refused(enroll, peer, token, TokenRefusal::DeviceDenied, now).await
        }
        EnrollError::Store(StoreError::KeyShared) | EnrollError::Decision(_) => {
            note(enroll, peer, Some(token.id.clone()), None, error.code());
            error
        }
        _ => error,
    }
}

/// Tells the operator of a refused request.
pub(crate) fn note(
    enroll: &Enroll,
    peer: IpAddr,
    token_id: Option<String>,
    device: Option<String>,
    reason: &str,
) {
    enroll.deps.observer.note(Event::TokenRefused {
        peer: peer.to_string(),
        token_id,
        device,
        reason: reason.to_owned(),
    });
}

/// Notes the refusal for the operator. A good secret in the wrong hands, that is with another key
/// or after the first connection, is an alert of its own; each is counted against the address first,
/// so that one stolen token cannot fill the log.
async fn refused(
    enroll: &Enroll,
    peer: IpAddr,
    token: &PresentedToken,
    refusal: TokenRefusal,
    now: Now,
) -> EnrollError {
    let store = &enroll.deps.store;
    let device = match store.token_state(&token.id).await {
        Ok(Some(row)) => Some(row.device.to_string()),
        _ => None,
    };
    note(enroll, peer, Some(token.id.clone()), device.clone(), refusal.code());
    if matches!(refusal, TokenRefusal::OtherKey | TokenRefusal::Spent) {
        let what = match refusal {
            TokenRefusal::OtherKey => "with another key than the one that it is bound to",
            _ => "after the first connection with its certificate",
        };
        let alert = Event::Alert {
            code: refusal.code().to_owned(),
            detail: format!(
                "token {} for \"{}\" was presented by {peer} {what}",
                token.id,
                device.unwrap_or_default()
            ),
        };
        enroll.alert(peer, alert, now);
    }
    EnrollError::TokenRefused(refusal)
}
