use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ca::CaError;
use store::StoreError;
use tls::http::{PeerAddr, Problem};
use types::{Blame, Clipped, IssuerId};
use x509::Certificate;

use crate::error::EnrollError;
use crate::limits::Failure;
use crate::provision::{note, provision};
use crate::shelf::ServedCrl;
use crate::state::Enroll;

/// What devices ask: `/provision`, `/ca/bundle`, and all of [`plain_router`].
pub fn devices_router(enroll: &Arc<Enroll>) -> Router {
    Router::new()
        .route("/provision", post(post_provision))
        .route("/ca/bundle", get(ca_bundle))
        .merge(published())
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .with_state(Arc::clone(enroll))
}

/// What anybody may read without TLS: CA certificates and CRLs, which carry their own signatures.
pub fn plain_router(enroll: &Arc<Enroll>) -> Router {
    published()
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .with_state(Arc::clone(enroll))
}

fn published() -> Router<Arc<Enroll>> {
    Router::new().route("/ca/{file}", get(ca_certificate)).route("/crl/{issuer}/{file}", get(crl))
}

async fn post_provision(State(enroll): State<Arc<Enroll>>, request: Request) -> Response {
    let peer = request.extensions().get::<PeerAddr>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |p| p.0.ip());
    let outcome = match body_of(&enroll, request).await {
        Ok(body) => provision(&enroll, peer, &body).await,
        Err(error) => Err(error),
    };
    let error = match outcome {
        Ok(provisioned) => {
            let mut response = Json(provisioned).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return response;
        }
        Err(error) => error,
    };
    let unread = matches!(
        error,
        EnrollError::Malformed { .. } | EnrollError::TooLarge { .. } | EnrollError::MediaType { .. }
    );
    if unread {
        // Refusals of a token were noted beside it; these have none that could be named.
        note(&enroll, peer, None, None, error.code());
    }
    // Only failures of the peer are counted, and only after the fact: a good request never meets this.
    if error.blame() == Blame::Peer
        && let Failure::Beyond { retry_after_secs } = enroll.failures.count(peer, enroll.now().mono)
    {
        return problem_of(&EnrollError::Limited { retry_after_secs }).into_response();
    }
    problem_of(&error).into_response()
}

/// The body, if it calls itself JSON and is within the cap.
async fn body_of(enroll: &Enroll, request: Request) -> Result<Bytes, EnrollError> {
    require_json(request.headers())?;
    let limit = enroll.deps.settings.body_bytes_max;
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|error| {
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(fault) = source {
            if fault.to_string().contains("length limit exceeded") {
                return EnrollError::TooLarge { limit };
            }
            source = fault.source();
        }
        EnrollError::Malformed { place: "body", detail: "broke off before its end".to_owned() }
    })
}

fn require_json(headers: &HeaderMap) -> Result<(), EnrollError> {
    // Firmware in the field leaves the header out; what says something else is something else.
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(EnrollError::MediaType { found: Clipped(text).to_string() })
}

/// What the peer is told. The reasons of a refused token have one body, to the byte; what went
/// wrong on our side goes to our log, and only its kind goes out.
pub(crate) fn problem_of(error: &EnrollError) -> Problem {
    let code = error.code();
    let plain = |status: StatusCode| Problem::new(status, code, error.to_string());
    let ours = |status: StatusCode, detail: &str| {
        tracing::error!(code, %error, "request not served");
        Problem::new(status, code, detail)
    };
    match error {
        EnrollError::Malformed { place, .. } => {
            plain(StatusCode::BAD_REQUEST).with_field("place", (*place).into())
        }
        EnrollError::TooLarge { .. } => plain(StatusCode::PAYLOAD_TOO_LARGE),
        EnrollError::MediaType { .. } => plain(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        EnrollError::Limited { retry_after_secs } => {
            plain(StatusCode::TOO_MANY_REQUESTS).with_retry_after_secs(*retry_after_secs)
        }
        EnrollError::TokenRefused(_)
        | EnrollError::Decision(CaError::Denied { .. })
        | EnrollError::Store(StoreError::TokenLost { .. } | StoreError::DeviceDenied { .. }) => {
            Problem::new(StatusCode::FORBIDDEN, "enroll.refused", "the token is not accepted")
        }
        EnrollError::Decision(CaError::NameDiffers { .. } | CaError::Key { .. }) => {
            Problem::new(StatusCode::BAD_REQUEST, code, format!("csr: {error}"))
                .with_field("place", "csr".into())
        }
        // Whose key it is, is nobody else's business.
        EnrollError::Decision(CaError::KeyShared { .. }) | EnrollError::Store(StoreError::KeyShared) => {
            Problem::new(
                StatusCode::CONFLICT,
                "ca.key_shared",
                "csr: the key is certified for another name; make a new one",
            )
        }
        EnrollError::Decision(error) if error.blame() == Blame::Peer => plain(StatusCode::CONFLICT),
        EnrollError::ClockUnsound { .. } => plain(StatusCode::SERVICE_UNAVAILABLE).with_retry_after_secs(60),
        EnrollError::Decision(_) | EnrollError::NoIssuer { .. } | EnrollError::Signer(_) => {
            ours(StatusCode::SERVICE_UNAVAILABLE, "the certificate authority cannot issue now")
        }
        EnrollError::Store(store) if store.blame() == Blame::Us => {
            ours(StatusCode::SERVICE_UNAVAILABLE, "the store is not available").with_retry_after_secs(5)
        }
        EnrollError::Store(_) | EnrollError::Unsound(_) | EnrollError::Wiring(_) => {
            ours(StatusCode::INTERNAL_SERVER_ERROR, "an internal check failed; nothing was issued")
        }
    }
}

async fn ca_bundle(State(enroll): State<Arc<Enroll>>, headers: HeaderMap) -> Response {
    let bundle = &enroll.bundle;
    cached(&headers, &bundle.etag, "application/json", 3600, || Bytes::from(bundle.json.clone()))
}

/// `/ca/{id}.cer` is DER as the AIA wants it (RFC 5280 section 4.2.2.1), `.pem` the same for people.
async fn ca_certificate(
    State(enroll): State<Arc<Enroll>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = file.rsplit_once('.').and_then(|(id, form)| Some((ca_named(&enroll, id)?, form.to_owned())));
    let Some((certificate, form)) = found else { return missing("ca certificate", &file) };
    let etag = format!("\"{}\"", certificate.der_hash());
    match form.as_str() {
        "cer" => cached(&headers, &etag, "application/pkix-cert", 86_400, || {
            Bytes::copy_from_slice(certificate.der())
        }),
        "pem" => {
            cached(&headers, &etag, "application/x-pem-file", 86_400, || Bytes::from(certificate.to_pem()))
        }
        _ => missing("ca certificate", &file),
    }
}

/// A CA of ours, by its id in hex or by its label; `root` is the newest root.
fn ca_named(enroll: &Enroll, name: &str) -> Option<Certificate> {
    if let Some((issuer, _)) = enroll.deps.issuers.iter().find(|(issuer, _)| issuer.label == name) {
        return Some(issuer.certificate.clone());
    }
    if name == "root" {
        return enroll.deps.roots.first().cloned();
    }
    let id = IssuerId::parse(name).ok()?;
    let issuers = enroll.deps.issuers.iter().map(|(issuer, _)| &issuer.certificate);
    issuers.chain(&enroll.deps.roots).find(|certificate| certificate.issuer_id_as_ca() == id).cloned()
}

/// `/crl/{issuer}/{shard}.crl` is DER (RFC 5280 section 4.2.1.13), `.pem` the same for people.
async fn crl(
    State(enroll): State<Arc<Enroll>>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let shown = format!("{name}/{file}");
    // One shard at first; its number stands in certificates that live for years.
    let form = match file.as_str() {
        "0.crl" => "application/pkix-crl",
        "0.pem" => "application/x-pem-file",
        _ => return missing("crl", &shown),
    };
    let by_label = enroll.deps.issuers.iter().find(|(issuer, _)| issuer.label == name);
    let Some(id) = by_label.map(|(issuer, _)| issuer.id()).or_else(|| IssuerId::parse(&name).ok()) else {
        return missing("crl", &shown);
    };
    let is_root = enroll.deps.roots.iter().any(|root| root.issuer_id_as_ca() == id);
    if enroll.issuer(id).is_none() && !is_root {
        return missing("crl", &shown);
    }
    let found = if is_root {
        // The ceremony puts the root's list into the store, so only the store knows the newest.
        enroll.deps.store.crl(id).await.map(|row| row.map(|row| Arc::new(ServedCrl::from(row))))
    } else {
        enroll.shelf.find(id, &enroll.deps.store).await
    };
    let served = match found {
        Ok(Some(served)) => served,
        Ok(None) => {
            let detail = format!("no crl of \"{}\" is published yet", Clipped(&name));
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "crl.none_yet", detail)
                .with_retry_after_secs(1)
                .into_response();
        }
        Err(error) => return problem_of(&error.into()).into_response(),
    };
    let left = served.next_update.secs().saturating_sub(enroll.now().wall.secs());
    let etag = format!("\"{id}-{}\"", served.number);
    cached(&headers, &etag, form, u64::try_from(left).unwrap_or(0), || {
        if form == "application/pkix-crl" { served.der.clone() } else { served.pem() }
    })
}

/// A public answer that caches may keep for `max_age` seconds; 304 for who has it already.
fn cached(
    headers: &HeaderMap,
    etag: &str,
    content_type: &'static str,
    max_age: u64,
    body: impl FnOnce() -> Bytes,
) -> Response {
    let wanted = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known =
        wanted.trim() == "*" || wanted.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = Response::new(if known { Body::empty() } else { Body::from(body()) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={max_age}, must-revalidate")) {
        out.insert(header::CACHE_CONTROL, value);
    }
    if let Ok(value) = HeaderValue::from_str(etag) {
        out.insert(header::ETAG, value);
    }
    response
}

fn missing(what: &str, name: &str) -> Response {
    let detail = format!("no {what} \"{}\"", Clipped(name));
    Problem::new(StatusCode::NOT_FOUND, "request.no_such_path", detail).into_response()
}

async fn no_such_path(request: Request) -> Response {
    let detail = format!("no endpoint {} {}", request.method(), Clipped(request.uri().path()));
    Problem::new(StatusCode::NOT_FOUND, "request.no_such_path", detail).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let allowed = if request.uri().path() == "/provision" { "POST" } else { "GET, HEAD" };
    let method: &Method = request.method();
    let detail = format!("{} is not allowed here; allowed: {allowed}", Clipped(method.as_str()));
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "request.method", detail).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
