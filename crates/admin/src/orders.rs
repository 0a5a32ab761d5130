use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use store::{Order, OrderKind, StoreError};
use types::{DeviceId, PrincipalKind};
use x509::{Certificate, Csr};

use crate::admin::Admin;
use crate::call::{Answer, Call, answer};
use crate::devices::{page, project};
use crate::error::ApiError;
use crate::views::PrincipalView;

/// `POST /api/v1/services {name, csr, project?, reissue?}`.
pub(crate) async fn service(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    order(&admin, call, PrincipalKind::Service).await
}

/// `POST /api/v1/operators {name, csr, project?, reissue?}`.
pub(crate) async fn operator(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    order(&admin, call, PrincipalKind::Operator).await
}

/// Checks everything that can be checked without the CA, so that a refused request leaves nothing
/// behind; then registers the name and records the order that enrolment carries out.
async fn order(admin: &Admin, mut call: Call, kind: PrincipalKind) -> Answer {
    let (name, _) = call.fields.name("name")?;
    let csr = call.fields.required_text("csr")?;
    let project = project(&mut call.fields)?;
    let reissue = call.fields.flag("reissue")?;
    call.fields.end()?;
    let csr = csr_of(&csr, &name)?;
    let now = admin.sound_now()?;
    let store = &admin.deps.store;
    if let Some(owner) = store.key_owner(csr.spki_hash()).await?
        && owner != name
    {
        let detail = format!("/csr: the key is already certified for \"{owner}\"; make a new one");
        return Err(ApiError::Conflict { code: "ca.key_shared", detail });
    }
    match store.principal_kind(&name).await? {
        Some(found) if found == kind && reissue => {}
        Some(found) if found == kind => {
            let detail = format!(
                "/name: {} \"{name}\" exists already; reissue it to certify a new key",
                kind.as_str()
            );
            return Err(ApiError::Conflict { code: "store.name_taken", detail });
        }
        Some(found) => return Err(StoreError::NameTaken { name: name.to_string(), kind: found }.into()),
        None if reissue => {
            return Err(StoreError::UnknownPrincipal { kind, name: name.to_string() }.into());
        }
        None => store.principal_add(kind, name.clone(), project, &call.actor.0, now).await?,
    }
    let order_kind = match kind {
        PrincipalKind::Operator => OrderKind::Operator,
        PrincipalKind::Service | PrincipalKind::Device => OrderKind::Service,
    };
    let order =
        Order { kind: order_kind, name: name.to_string(), csr_der: csr.der().to_vec(), actor: call.actor.0 };
    let id = store.order_submit(order, now).await?;
    let der = store.order_wait(id, admin.deps.settings.order_wait).await.map_err(|words| {
        let detail = format!("order {id}: {words}; \"{name}\" is registered, repeat with reissue");
        ApiError::Conflict { code: "order.refused", detail }
    })?;
    let certificate = Certificate::parse_der(&der)
        .map_err(|error| StoreError::Corrupt { detail: format!("ordered certificate: {error}") })?;
    let ca_chain = chain_above(admin, &certificate).await?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({
            "name": name.as_str(),
            "kind": kind.as_str(),
            "serial": certificate.serial().to_string(),
            "not_after": certificate.not_after().to_string(),
            "certificate": certificate.to_pem(),
            "ca_chain": ca_chain,
        }),
    ))
}

/// A certificate request in PEM whose proof of possession holds and that names nobody else.
fn csr_of(text: &str, name: &DeviceId) -> Result<Csr, ApiError> {
    let wrong = |detail: String| ApiError::malformed("/csr", detail);
    let csr = Csr::parse_pem(text).map_err(|error| wrong(error.to_string()))?;
    match csr.common_name() {
        Some(found) if DeviceId::parse(found).ok().as_ref() != Some(name) => {
            let found = types::Clipped(found);
            Err(wrong(format!("common name \"{found}\"; expected \"{name}\" or none")))
        }
        _ => Ok(csr),
    }
}

/// The CA certificates above a certificate, as PEM, up to and with the root.
async fn chain_above(admin: &Admin, certificate: &Certificate) -> Result<String, ApiError> {
    let rows = admin.deps.store.ca_list().await?;
    let corrupt = |error: x509::X509Error| StoreError::Corrupt { detail: format!("recorded ca: {error}") };
    let mut chain = String::new();
    let mut wanted = certificate.issuer_der().to_vec();
    // No chain is longer than there are CAs; this bounds the walk whatever the rows say.
    for _ in 0..rows.len() {
        let mut found = None;
        for row in &rows {
            let ca = Certificate::parse_der(&row.certificate_der).map_err(corrupt)?;
            if ca.subject_der() == wanted {
                found = Some(ca);
                break;
            }
        }
        let Some(ca) = found else { break };
        chain.push_str(&ca.to_pem());
        if ca.issuer_der() == ca.subject_der() {
            break;
        }
        wanted = ca.issuer_der().to_vec();
    }
    Ok(chain)
}

/// `GET /api/v1/principals?after&limit`: services and operators.
pub(crate) async fn principals(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let (after, limit) = page(&mut call.fields)?;
    call.fields.end()?;
    let rows = admin.deps.store.principals(after, limit).await?;
    let next = (rows.len() == limit).then(|| rows.last().map(|row| row.principal.name.to_string())).flatten();
    let principals: Vec<PrincipalView> = rows.into_iter().map(PrincipalView::from).collect();
    Ok(answer(StatusCode::OK, &json!({"principals": principals, "next": next})))
}
