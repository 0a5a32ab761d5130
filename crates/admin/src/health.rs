use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::admin::Admin;
use crate::call::{Answer, Call, answer};

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Response {
    answer(StatusCode::OK, &json!({"status": "ok"}))
}

/// `GET /readyz`: whether certificates are issued and admitted now, and if not, why.
pub(crate) async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let reasons = not_ready(&admin).await;
    if reasons.is_empty() {
        return answer(StatusCode::OK, &json!({"status": "ready", "reasons": []}));
    }
    let mut response =
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "reasons": reasons})))
            .into_response();
    response.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// Each reason with its slug. No names, no paths: strangers may read them.
async fn not_ready(admin: &Admin) -> Vec<Value> {
    let mut reasons = Vec::new();
    let (now, floor) = (admin.now(), admin.floor());
    if now.wall < floor {
        reasons.push(json!({
            "code": "clock.unsound",
            "detail": format!("the clock shows {}, which is before {floor}", now.wall),
        }));
    }
    match admin.deps.store.stats().await {
        Ok(stats) if stats.epoch_file_error.is_some() => {
            reasons.push(json!({"code": "store.epoch_file", "detail": "the epoch file cannot be written"}));
        }
        Ok(stats) if stats.write_error.is_some() => {
            reasons
                .push(json!({"code": "store.not_written", "detail": "the last change could not be written"}));
        }
        Ok(_) => {}
        Err(error) => {
            tracing::error!(code = error.code(), %error, "not ready");
            reasons.push(json!({"code": error.code(), "detail": "the store does not answer"}));
        }
    }
    reasons
}

/// `GET /api/v1/status`: what an operator looks at first.
pub(crate) async fn status(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    call.fields.end()?;
    let store = &admin.deps.store;
    let stats = store.stats().await?;
    let head = store.chain_head().await?;
    let mut cas = Vec::new();
    for ca in store.ca_list().await? {
        let crl = store.crl(ca.id).await?;
        let not_after =
            x509::Certificate::parse_der(&ca.certificate_der).ok().map(|c| c.not_after().to_string());
        cas.push(json!({
            "id": ca.id.to_string(),
            "label": ca.label,
            "kinds": ca.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
            "servers": ca.servers,
            "not_after": not_after,
            "crl": crl.map(|row| json!({
                "number": row.number,
                "epoch": row.epoch.to_string(),
                "this_update": row.this_update.to_string(),
                "next_update": row.next_update.to_string(),
            })),
        }));
    }
    let listeners: Map<String, Value> =
        admin.deps.settings.listeners.iter().map(|(name, at)| (name.clone(), json!(at))).collect();
    let (policy_epoch, rules) = {
        let table = admin.deps.policy.borrow();
        (table.epoch(), table.rules())
    };
    Ok(answer(
        StatusCode::OK,
        &json!({
            "version": admin.deps.settings.version,
            "server_time": admin.now().wall.to_string(),
            "time_floor": admin.floor().to_string(),
            "not_ready": not_ready(&admin).await,
            "epoch": stats.epoch.to_string(),
            "policy": {"epoch": policy_epoch, "rules": rules},
            "devices": stats.devices,
            "principals": stats.principals,
            "certificates": stats.certificates,
            "revoked": stats.revoked,
            "tokens": stats.tokens,
            "events": {"written": stats.events, "chained": head.seq},
            "cas": cas,
            "listeners": listeners,
        }),
    ))
}
