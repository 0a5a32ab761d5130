use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use store::{NewToken, StoreError};
use types::{DeviceId, Secret};
use zeroize::Zeroizing;

use crate::admin::Admin;
use crate::call::{Answer, Call, answer};
use crate::error::ApiError;
use crate::settings::Settings;
use crate::views::TokenView;

/// `POST /generate-token {device_id, ttl?, replace?}`.
pub(crate) async fn generate(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let (device, _) = call.fields.name("device_id")?;
    make(&admin, call, device).await
}

/// `POST /api/v1/devices/{id}/tokens {ttl?, replace?}`.
pub(crate) async fn create(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let device = call.device()?;
    make(&admin, call, device).await
}

/// Makes the token, keeps its hash, and shows it this once.
async fn make(admin: &Admin, mut call: Call, device: DeviceId) -> Answer {
    let settings = &admin.deps.settings;
    let ttl = call.fields.duration("ttl", settings.token_ttl, settings.token_ttl_max)?;
    let replace = call.fields.flag("replace")?;
    call.fields.end()?;
    let now = admin.sound_now()?;
    let id = admin.random_text().to_string();
    let secret = Secret::new(admin.random_text().as_str().as_bytes().to_vec());
    let new = NewToken {
        id: id.clone(),
        secret_hash: x509::sha256(secret.expose()),
        device,
        expires_at: now.wall.plus(ttl),
        replace,
    };
    let row = admin.deps.store.token_create(new, &call.actor.0, now).await?;
    let token = Zeroizing::new(format!("bw1.{id}.{}", secret.expose_str().unwrap_or_default()));
    let bundle = bundle_of(&token, settings);
    Ok(shown_once(&token, &bundle, &row))
}

/// What `shown_once` answers: written from where the token stands, not from a copy in a JSON tree.
#[derive(Serialize)]
struct Shown<'a> {
    token: &'a str,
    token_id: &'a str,
    device_id: &'a str,
    expires_at: String,
    replace: bool,
    bundle: &'a str,
}

fn shown_once(token: &str, bundle: &str, row: &store::TokenRow) -> Response {
    let expires_at = row.expires_at.to_string();
    let (token_id, device_id) = (row.id.as_str(), row.device.as_str());
    answer(
        StatusCode::CREATED,
        &Shown { token, token_id, device_id, expires_at, replace: row.replace, bundle },
    )
}

/// `GET /api/v1/devices/{id}/tokens`.
pub(crate) async fn list(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let id = call.device()?;
    call.fields.end()?;
    if admin.deps.store.device(&id).await?.is_none() {
        return Err(StoreError::UnknownDevice { id: id.to_string() }.into());
    }
    let rows = admin.deps.store.tokens(&id).await?;
    let tokens: Vec<TokenView> = rows.into_iter().map(TokenView::from).collect();
    Ok(answer(StatusCode::OK, &json!({"tokens": tokens})))
}

/// `DELETE /api/v1/tokens/{id}`; a token's certificate that was never used dies with it.
pub(crate) async fn revoke(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let id = call.param("id")?.to_ascii_lowercase();
    // Whoever pastes the whole token by mistake must not find its secret in a log.
    if id.contains('.') || id.len() > 64 {
        let detail = "expected the token's id, the 26 characters between bw1. and the next dot";
        return Err(ApiError::malformed("path", detail));
    }
    let actor = call.actor.0.clone();
    call.fields.end()?;
    let done = admin.deps.store.token_revoke(&id, &actor, admin.now()).await?;
    let certificates: Vec<String> = done.certs.iter().map(|cert| cert.serial.to_string()).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({"token_id": id, "epoch": done.epoch.to_string(), "certificates": certificates}),
    ))
}

/// The token, where to take it, and the keys of the roots that may be believed there.
fn bundle_of(token: &str, settings: &Settings) -> Zeroizing<String> {
    let (host, port) = (&settings.devices_host, settings.devices_port);
    // Room for all of it from the start: a text that grows leaves a copy behind that nobody wipes.
    let room = token.len() + host.len() + 16 + settings.root_pins.len() * 72;
    let mut bundle = Zeroizing::new(String::with_capacity(room));
    let bracketed = host.contains(':') && !host.starts_with('[');
    let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
    // Writing into a String cannot fail.
    let _ = write!(bundle, "{token}@{open}{host}{close}:{port}");
    for (at, pin) in settings.root_pins.iter().enumerate() {
        let _ = write!(bundle, "{}sha256:{pin}", if at == 0 { '#' } else { ',' });
    }
    bundle
}

#[cfg(test)]
mod tests {
    use types::SpkiHash;

    use super::*;

    #[test]
    fn a_bundle_names_token_place_and_pins() {
        let settings = Settings {
            devices_host: "iot.example".to_owned(),
            root_pins: vec![SpkiHash([0xab; 32]), SpkiHash([0x01; 32])],
            ..Settings::default()
        };
        let (ab, one) = ("ab".repeat(32), "01".repeat(32));
        assert_eq!(
            *bundle_of("bw1.i.s", &settings),
            format!("bw1.i.s@iot.example:8443#sha256:{ab},sha256:{one}")
        );
        let settings =
            Settings { devices_host: "::1".to_owned(), root_pins: vec![SpkiHash([1; 32])], ..settings };
        let bundle = bundle_of("bw1.i.s", &settings);
        // It did not grow while it was written.
        assert!(bundle.capacity() >= bundle.len() && bundle.capacity() <= bundle.len() + 32);
        assert_eq!(*bundle, format!("bw1.i.s@[::1]:8443#sha256:{one}"));
    }
}
