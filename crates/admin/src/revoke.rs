use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use store::{Lagging, Reader, RevokedDevice, StoreError};
use types::{CertRef, Clipped, DeviceId, IssuerId, Mono, PrincipalKind, Serial};
use x509::CrlReason;

use crate::admin::Admin;
use crate::call::{Answer, Call, answer};
use crate::error::ApiError;

/// Who follows the epoch: each must say that it has applied a revocation.
const READERS: [Reader; 3] = [Reader::Handshakes, Reader::Sessions, Reader::CrlWriter];

/// What was done to a device; the word of the sentence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Revoked,
    Suspended,
    Restored,
}

impl Act {
    fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
            Self::Restored => "restored",
        }
    }
}

/// What a change was asked for by.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// A name, and all its certificates with it.
    Name(&'a DeviceId),
    /// One certificate of this CA.
    Certificate(&'a str),
}

/// `POST /api/v1/devices/{id}/revoke {reason?}`: flow D.
pub(crate) async fn revoke(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let id = call.device()?;
    let reason = reason(&call.fields.text("reason")?)?;
    let actor = call.actor.0.clone();
    call.fields.end()?;
    let began = admin.now();
    // 1. One transaction: the rows, the event, epoch += 1. That alone is the revocation.
    let done = admin.deps.store.revoke_device(&id, reason, &actor, began).await?;
    // 2. The followers of the epoch apply it, each by itself; 3. say what they did.
    report(&admin, Act::Revoked, Target::Name(&id), &done, began.mono).await
}

/// `POST /api/v1/principals/{id}/revoke {reason?}`: the same for a service or an operator.
pub(crate) async fn revoke_principal(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let name = call.device()?;
    let reason = reason(&call.fields.text("reason")?)?;
    let actor = call.actor.0.clone();
    call.fields.end()?;
    let began = admin.now();
    let Some(row) = admin.deps.store.principal(&name).await? else {
        let what = format!("\"{name}\" is not registered");
        return Err(ApiError::NotFound { code: "store.unknown_principal", what });
    };
    let kind = row.principal.kind;
    let done = admin.deps.store.revoke_principal(kind, &name, reason, &actor, began).await?;
    report(&admin, Act::Revoked, Target::Name(&name), &done, began.mono).await
}

/// `POST /api/v1/certificates/{issuer}/{serial}/revoke {reason?}`: one certificate, such as the one
/// that a reissue replaced; its bearer's other certificates stay good.
pub(crate) async fn revoke_certificate(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let serial = Serial::parse(call.param("serial")?)
        .map_err(|error| ApiError::malformed("path", format!("serial: {error}")))?;
    let reason = reason(&call.fields.text("reason")?)?;
    let actor = call.actor.0.clone();
    let asked = call.param("issuer")?.to_owned();
    call.fields.end()?;
    let began = admin.now();
    let store = &admin.deps.store;
    let cas = store.ca_list().await?;
    let id = IssuerId::parse(&asked).ok();
    let by_label = cas.iter().find(|ca| ca.label == asked);
    let Some(ca) = by_label.or_else(|| cas.iter().find(|ca| Some(ca.id) == id)) else {
        let what = format!("no CA has the label or id \"{}\"", Clipped(&asked));
        return Err(ApiError::NotFound { code: "store.unknown_issuer", what });
    };
    let cert = CertRef { issuer: ca.id, serial };
    let done = store.revoke_certificate(cert, reason, &actor, began).await?;
    report(&admin, Act::Revoked, Target::Certificate(&ca.label), &done, began.mono).await
}

/// `POST /api/v1/devices/{id}/suspend`.
pub(crate) async fn suspend(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let id = call.device()?;
    let actor = call.actor.0.clone();
    call.fields.end()?;
    let began = admin.now();
    let done = admin.deps.store.suspend_device(&id, &actor, began).await?;
    report(&admin, Act::Suspended, Target::Name(&id), &done, began.mono).await
}

/// `POST /api/v1/devices/{id}/restore`.
pub(crate) async fn restore(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let id = call.device()?;
    let actor = call.actor.0.clone();
    call.fields.end()?;
    let began = admin.now();
    let done = admin.deps.store.restore_device(&id, &actor, began).await?;
    report(&admin, Act::Restored, Target::Name(&id), &done, began.mono).await
}

/// A reason in RFC 5280 spelling. A hold is what `suspend` is for.
fn reason(text: &Option<String>) -> Result<CrlReason, ApiError> {
    let Some(text) = text else { return Ok(CrlReason::Unspecified) };
    let known = [
        CrlReason::Unspecified,
        CrlReason::KeyCompromise,
        CrlReason::AffiliationChanged,
        CrlReason::Superseded,
        CrlReason::CessationOfOperation,
    ];
    known.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|reason| reason.as_str()).collect();
        ApiError::malformed("/reason", format!("expected one of {}", words.join(", ")))
    })
}

/// Waits for the followers and says what is done, or which of them lags.
async fn report(admin: &Admin, act: Act, target: Target<'_>, done: &RevokedDevice, began: Mono) -> Answer {
    let applied = admin.deps.store.applied();
    let lagging = applied.wait(done.epoch, &READERS, admin.deps.settings.revoke_wait).await;
    let sessions_closed = applied.sessions_closed(done.epoch, &done.certs);
    let crl = crl_of(admin, done, &applied.crls(done.epoch)).await?;
    let outcome = Outcome { act, target, done, sessions_closed, crl, lagging: &lagging };
    let took_ms = u64::try_from(admin.now().mono.since(began).as_millis()).unwrap_or(u64::MAX);
    let serials: Vec<String> = done.certs.iter().map(|cert| cert.serial.to_string()).collect();
    let lags: Vec<Value> = lagging
        .iter()
        .map(|lag| json!({"reader": lag.reader.as_str(), "applied": lag.applied.to_string()}))
        .collect();
    let mut body = json!({
        "epoch": done.epoch.to_string(),
        "certificates": serials,
        "sessions_closed": sessions_closed,
        "crl": outcome.crl.map(|number| json!({"number": number})),
        "lagging": lags,
        "took_ms": took_ms,
        "text": outcome.sentence(),
    });
    let subject = match done.principal.as_ref().map(|principal| principal.kind) {
        Some(PrincipalKind::Service | PrincipalKind::Operator) => "name",
        Some(PrincipalKind::Device) | None => "device_id",
    };
    // A server's certificate has a CA, but no principal.
    if let Some(name) = outcome.name() {
        body[subject] = name.as_str().into();
    }
    if let Target::Certificate(ca) = target {
        body["issuer"] = ca.into();
    }
    Ok(answer(StatusCode::OK, &body))
}

/// The number of the CRL that shows the epoch, of the CA that signed the device's certificate.
async fn crl_of(
    admin: &Admin,
    done: &RevokedDevice,
    crls: &[(String, u64)],
) -> Result<Option<u64>, StoreError> {
    let Some(cert) = done.certs.first() else { return Ok(None) };
    let Some(ca) = admin.deps.store.ca(cert.issuer).await? else { return Ok(None) };
    Ok(crls.iter().find(|(label, _)| *label == ca.label).map(|(_, number)| *number))
}

struct Outcome<'a> {
    act: Act,
    target: Target<'a>,
    done: &'a RevokedDevice,
    sessions_closed: usize,
    crl: Option<u64>,
    lagging: &'a [Lagging],
}

impl Outcome<'_> {
    /// Whom it was done to: in the registry's spelling, whatever the request had.
    fn name(&self) -> Option<&DeviceId> {
        let registered = self.done.principal.as_ref().map(|principal| &principal.name);
        registered.or(match self.target {
            Target::Name(name) => Some(name),
            Target::Certificate(_) => None,
        })
    }

    /// What it was done to, in words.
    fn object(&self) -> String {
        let shown = match self.done.certs.as_slice() {
            [] => "no certificate".to_owned(),
            certs => certs.iter().map(short).collect::<Vec<_>>().join(", "),
        };
        match (self.target, self.name()) {
            (Target::Name(asked), name) => format!("\"{}\" ({shown})", name.unwrap_or(asked)),
            (Target::Certificate(_), Some(name)) => format!("certificate {shown} of \"{name}\""),
            (Target::Certificate(ca), None) => format!("certificate {shown} of CA \"{ca}\""),
        }
    }

    /// The sentence of flow D.
    fn sentence(&self) -> String {
        let mut text = format!("{} {}, epoch {}", self.act.as_str(), self.object(), self.done.epoch);
        let lags = |reader: Reader| self.lagging.iter().find(|lag| lag.reader == reader);
        if self.act != Act::Restored && lags(Reader::Sessions).is_none() {
            let plural = if self.sessions_closed == 1 { "" } else { "s" };
            text.push_str(&format!("; {} live session{plural} closed", self.sessions_closed));
        }
        if lags(Reader::CrlWriter).is_none()
            && let Some(number) = self.crl
        {
            text.push_str(&format!("; CRL {number} published"));
        }
        if self.lagging.is_empty() {
            return text;
        }
        text.push_str(match self.act {
            Act::Revoked => "; the revocation holds, but ",
            Act::Suspended => "; the suspension holds, but ",
            Act::Restored => "; the restoration holds, but ",
        });
        let lagging: Vec<String> = self
            .lagging
            .iter()
            .map(|lag| {
                let part = match lag.reader {
                    Reader::Handshakes => "new handshakes",
                    Reader::Sessions => "live sessions",
                    Reader::CrlWriter => "the CRL",
                };
                format!(
                    "{part} lag{} at epoch {}",
                    if lag.reader == Reader::CrlWriter { "s" } else { "" },
                    lag.applied
                )
            })
            .collect();
        text.push_str(&lagging.join(", "));
        text
    }
}

/// The first four digits of a serial, as people compare them.
fn short(cert: &CertRef) -> String {
    let serial = cert.serial.to_string();
    match serial.get(..4) {
        Some(head) if serial.len() > 4 => format!("0x{head}…"),
        _ => format!("0x{serial}"),
    }
}

#[cfg(test)]
mod tests {
    use types::{Epoch, Principal};

    use super::*;

    fn epoch(counter: u64) -> Epoch {
        Epoch { incarnation: 0, counter }
    }

    fn cert(serial: &str) -> CertRef {
        CertRef { issuer: IssuerId([0; 16]), serial: Serial::parse(serial).unwrap() }
    }

    fn text(
        act: Act,
        certs: &[&str],
        sessions_closed: usize,
        crl: Option<u64>,
        lagging: &[Lagging],
    ) -> String {
        let id = DeviceId::parse("pump-7").unwrap();
        let certs = certs.iter().map(|serial| cert(serial)).collect();
        let done = RevokedDevice { epoch: epoch(42), certs, principal: None };
        Outcome { act, target: Target::Name(&id), done: &done, sessions_closed, crl, lagging }.sentence()
    }

    #[test]
    fn one_certificate_is_named_with_its_bearer_or_its_ca() {
        let name = DeviceId::parse("backend").unwrap();
        for (principal, of) in [
            (Some(Principal { kind: PrincipalKind::Service, name }), "\"backend\""),
            (None, "CA \"servers\""),
        ] {
            let done = RevokedDevice { epoch: epoch(42), certs: vec![cert("1f3a99aa")], principal };
            let target = Target::Certificate("servers");
            let outcome = Outcome {
                act: Act::Revoked,
                target,
                done: &done,
                sessions_closed: 1,
                crl: Some(3),
                lagging: &[],
            };
            assert_eq!(
                outcome.sentence(),
                format!(
                    "revoked certificate 0x1f3a… of {of}, epoch 42; 1 live session closed; CRL 3 published"
                )
            );
        }
    }

    #[test]
    fn the_sentence_of_flow_d() {
        assert_eq!(
            text(Act::Revoked, &["1f3a99aa"], 1, Some(42), &[]),
            "revoked \"pump-7\" (0x1f3a…), epoch 42; 1 live session closed; CRL 42 published"
        );
        assert_eq!(
            text(Act::Revoked, &["1f3a", "22bb01"], 0, Some(7), &[]),
            "revoked \"pump-7\" (0x1f3a, 0x22bb…), epoch 42; 0 live sessions closed; CRL 7 published"
        );
        assert_eq!(
            text(Act::Revoked, &[], 0, None, &[]),
            "revoked \"pump-7\" (no certificate), epoch 42; 0 live sessions closed"
        );
        assert_eq!(
            text(Act::Suspended, &["1f3a99"], 2, Some(8), &[]),
            "suspended \"pump-7\" (0x1f3a…), epoch 42; 2 live sessions closed; CRL 8 published"
        );
        assert_eq!(
            text(Act::Restored, &["1f3a99"], 0, Some(9), &[]),
            "restored \"pump-7\" (0x1f3a…), epoch 42; CRL 9 published"
        );
    }

    #[test]
    fn what_lags_is_named_and_the_revocation_holds() {
        let crl = Lagging { reader: Reader::CrlWriter, applied: epoch(41) };
        let sessions = Lagging { reader: Reader::Sessions, applied: epoch(40) };
        let handshakes = Lagging { reader: Reader::Handshakes, applied: epoch(39) };
        assert_eq!(
            text(Act::Revoked, &["1f3a99"], 1, Some(41), &[crl]),
            "revoked \"pump-7\" (0x1f3a…), epoch 42; 1 live session closed; \
             the revocation holds, but the CRL lags at epoch 41"
        );
        assert_eq!(
            text(Act::Revoked, &["1f3a99"], 1, None, &[handshakes, sessions, crl]),
            "revoked \"pump-7\" (0x1f3a…), epoch 42; the revocation holds, but \
             new handshakes lag at epoch 39, live sessions lag at epoch 40, the CRL lags at epoch 41"
        );
    }

    #[test]
    fn reasons_are_rfc_5280s_and_a_hold_is_none_of_them() {
        assert_eq!(reason(&None).unwrap(), CrlReason::Unspecified);
        assert_eq!(reason(&Some("keyCompromise".into())).unwrap(), CrlReason::KeyCompromise);
        for wrong in ["certificateHold", "cACompromise", "KEYCOMPROMISE", ""] {
            assert!(
                reason(&Some(wrong.into())).unwrap_err().to_string().starts_with("/reason: expected one of")
            );
        }
    }
}
