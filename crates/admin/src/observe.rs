use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use types::{Action, DeviceId, Principal, PrincipalKind, ProjectId, hex};

use crate::admin::Admin;
use crate::call::{Answer, Call, answer};
use crate::error::ApiError;
use crate::ports::{Sample, SampleKind};
use crate::{metrics as text_format, openapi};

/// `GET /metrics`, in the Prometheus text format.
pub(crate) async fn metrics(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    call.fields.end()?;
    let stats = admin.deps.store.stats().await?;
    let head = admin.deps.store.chain_head().await?;
    // A count above 2^53 is shown rounded; the fleet is smaller.
    let gauge = |name: &'static str, help: &'static str, value: u64| Sample {
        name,
        help,
        kind: SampleKind::Gauge,
        labels: Vec::new(),
        value: value as f64,
    };
    let table = Arc::clone(&admin.deps.policy.borrow());
    let mut samples = vec![
        gauge("bailiwick_devices", "Registered devices.", stats.devices),
        gauge("bailiwick_principals", "Registered services and operators.", stats.principals),
        gauge("bailiwick_certificates", "Certificates in the ledger.", stats.certificates),
        gauge("bailiwick_certificates_revoked", "Certificates that were revoked.", stats.revoked),
        gauge("bailiwick_tokens", "Provisioning tokens that were made.", stats.tokens),
        gauge("bailiwick_events", "Events that were written.", stats.events),
        gauge("bailiwick_events_chained", "The last line of the chained log.", head.seq),
        gauge("bailiwick_trust_epoch", "The epoch of trust.", stats.epoch.counter),
        gauge("bailiwick_policy_epoch", "The epoch of the topic rules.", table.epoch()),
        gauge("bailiwick_policy_rules", "Topic rules in force.", table.rules() as u64),
        gauge(
            "bailiwick_clock_sound",
            "Whether the clock is believed: 1 or 0.",
            u64::from(admin.now().wall >= admin.floor()),
        ),
    ];
    samples.extend(admin.deps.metrics.samples());
    let body = text_format::render(&samples);
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, plain)], body).into_response())
}

/// `GET /api/openapi.json`.
pub(crate) async fn document(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    call.fields.end()?;
    Ok(answer(StatusCode::OK, &openapi::document(&admin.deps.settings.version)))
}

/// `GET /api/v1/clients?after&limit`: the live sessions.
pub(crate) async fn clients(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let after = call.fields.text("after")?;
    let limit = call.fields.number("limit", 100, 1..=1000)?;
    call.fields.end()?;
    let page = admin.deps.clients.live(after.as_deref(), usize::try_from(limit).unwrap_or(1000)).await;
    Ok(answer(StatusCode::OK, &page))
}

/// `GET /api/v1/refusals?limit`: the newest refusals, newest first.
pub(crate) async fn refusals(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let limit = call.fields.number("limit", 100, 1..=1000)?;
    call.fields.end()?;
    let refusals = admin.deps.refusals.newest(usize::try_from(limit).unwrap_or(1000));
    Ok(answer(StatusCode::OK, &json!({"refusals": refusals})))
}

/// `GET /api/v1/events?after&limit`: lines of the chained log.
pub(crate) async fn events(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    // The largest number that every JSON reader keeps exactly.
    let after = call.fields.number("after", 0, 0..=1 << 53)?;
    let limit = call.fields.number("limit", 100, 1..=1000)?;
    call.fields.end()?;
    let limit = usize::try_from(limit).unwrap_or(1000);
    let lines = admin.deps.store.events_after(after, limit).await?;
    let next = (lines.len() == limit).then(|| lines.last().map(|line| line.seq)).flatten();
    let events: Vec<Value> = lines
        .into_iter()
        .map(|line| {
            // A body that is no JSON any more is shown as it stands; `log verify` names its line.
            let event = serde_json::from_str(&line.body).unwrap_or_else(|_| Value::String(line.body.clone()));
            json!({
                "seq": line.seq,
                "at": line.at.to_string(),
                "at_ms": line.at.0,
                "body": line.body,
                "prev": hex(&line.prev),
                "hash": hex(&line.hash),
                "event": event,
            })
        })
        .collect();
    Ok(answer(StatusCode::OK, &json!({"events": events, "next": next})))
}

/// `GET /api/v1/checkpoints?after&limit`: the signatures over the chained log.
pub(crate) async fn checkpoints(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let after = call.fields.number("after", 0, 0..=1 << 53)?;
    let limit = call.fields.number("limit", 100, 1..=1000)?;
    call.fields.end()?;
    let limit = usize::try_from(limit).unwrap_or(1000);
    let marks = admin.deps.store.checkpoints_after(after, limit).await?;
    let next = (marks.len() == limit).then(|| marks.last().map(|mark| mark.seq)).flatten();
    let shown = |mark: &audit::Checkpoint| {
        json!({
            "seq": mark.seq,
            "hash": hex(&mark.hash),
            "at_ms": mark.at.0,
            "signature": hex(&mark.signature),
        })
    };
    let checkpoints: Vec<Value> = marks.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &json!({"checkpoints": checkpoints, "next": next})))
}

/// `GET /api/v1/policy/explain?principal&action&topic`: what the rules say, and which of them.
pub(crate) async fn explain(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let (name, _) = call.fields.name("principal")?;
    let action = match call.fields.required_text("action")?.as_str() {
        "publish" => Action::Publish,
        "subscribe" => Action::Subscribe,
        "receive" => Action::Receive,
        _ => return Err(ApiError::malformed("?action", "expected publish, subscribe or receive")),
    };
    let topic = call.fields.required_text("topic")?;
    call.fields.end()?;
    let (principal, project, fleet) = registered(&admin, name).await?;
    let table = Arc::clone(&admin.deps.policy.borrow());
    let explanation = policy::explain(&table, &principal, &project, fleet.as_deref(), action, &topic);
    Ok(answer(
        StatusCode::OK,
        &json!({
            "principal": principal.to_string(),
            "action": action.as_str(),
            "topic": topic,
            "policy_epoch": table.epoch(),
            "permitted": explanation.permitted,
            "rule": explanation.rule.to_string(),
            "matching": explanation.matching.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "text": explanation.to_string(),
        }),
    ))
}

/// Who bears the name, with what placeholders stand for.
async fn registered(
    admin: &Admin,
    name: DeviceId,
) -> Result<(Principal, ProjectId, Option<String>), ApiError> {
    let store = &admin.deps.store;
    if let Some(row) = store.device(&name).await? {
        return Ok((Principal { kind: PrincipalKind::Device, name: row.id }, row.project, row.fleet));
    }
    match store.principal(&name).await? {
        Some(row) => Ok((row.principal, row.project, None)),
        None => Err(ApiError::NotFound {
            code: "store.unknown_principal",
            what: format!("\"{name}\" is not registered"),
        }),
    }
}

/// `POST /api/v1/reload`: all of it is valid, or nothing changes.
pub(crate) async fn reload(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let actor = call.actor.0.clone();
    call.fields.end()?;
    match admin.deps.reload.reload(&actor).await {
        Ok(reloaded) => Ok(answer(StatusCode::OK, &reloaded)),
        Err(mistakes) => {
            let detail = format!("nothing changed: {}", mistakes.join("; "));
            Err(ApiError::Conflict { code: "reload.refused", detail })
        }
    }
}
