use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use tls::http::PeerAddr;
use types::{Clipped, DeviceId};

use crate::actor::Actor;
use crate::admin::Admin;
use crate::body::Fields;
use crate::error::ApiError;

/// What an endpoint answers.
pub(crate) type Answer = Result<Response, ApiError>;

/// One request of an operator: who asks, the names in the path, the values in body or query.
pub(crate) struct Call {
    pub(crate) actor: Actor,
    params: Vec<(String, String)>,
    pub(crate) fields: Fields,
}

impl FromRequest<Arc<Admin>> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Arc<Admin>) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        // The layer in front has asked already; a route that forgot it must not answer either.
        let actor = parts.extensions.get::<Actor>().cloned().ok_or(ApiError::NoActor)?;
        let params = RawPathParams::from_request_parts(&mut parts, admin)
            .await
            .map_err(|_| ApiError::malformed("path", "a percent escape is not UTF-8"))?
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let fields = if matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE) {
            Fields::from_query(parts.uri.query())?
        } else {
            Fields::from_query(parts.uri.query())?.end()?;
            let limit = admin.deps.settings.body_bytes_max;
            let bytes = axum::body::to_bytes(body, limit).await.map_err(|error| body_fault(&error, limit))?;
            if !bytes.is_empty() {
                require_json(&parts.headers)?;
            }
            Fields::from_json(&bytes)?
        };
        Ok(Self { actor, params, fields })
    }
}

impl Call {
    /// A name in the path, as text.
    pub(crate) fn param(&self, name: &str) -> Result<&str, ApiError> {
        self.params
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| ApiError::malformed("path", format!("no {{{name}}} in it")))
    }

    /// The device id in the path; a MAC in any notation is the device that has it.
    pub(crate) fn device(&self) -> Result<DeviceId, ApiError> {
        let (id, _) = DeviceId::parse_written(self.param("id")?)
            .map_err(|error| ApiError::malformed("path", error.to_string()))?;
        Ok(id)
    }
}

/// Tells a body that is too large from one that broke off.
fn body_fault(error: &axum::Error, limit: usize) -> ApiError {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(fault) = source {
        if fault.to_string().contains("length limit exceeded") {
            return ApiError::TooLarge { limit };
        }
        source = fault.source();
    }
    ApiError::malformed("body", "broke off before its end")
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::MediaType { found: Clipped(text).to_string() })
}

/// A JSON answer that no cache keeps.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Stands before every endpoint that is not open: no `Actor`, no answer.
pub(crate) async fn require_actor(request: Request, next: Next) -> Response {
    if request.extensions().get::<Actor>().is_none() {
        return ApiError::NoActor.into_response();
    }
    next.run(request).await
}

/// The answer for a path that is none; a stranger does not learn which paths there are.
pub(crate) async fn no_such_path(State(_): State<Arc<Admin>>, request: Request) -> Response {
    if request.extensions().get::<Actor>().is_none() {
        return ApiError::NoActor.into_response();
    }
    let what = format!("no endpoint {} {}", request.method(), Clipped(request.uri().path()));
    ApiError::NotFound { code: "request.no_such_path", what }.into_response()
}

/// The answer for a method that a path does not have.
pub(crate) async fn no_such_method(request: Request<Body>) -> Response {
    if request.extensions().get::<Actor>().is_none() {
        return ApiError::NoActor.into_response();
    }
    let path = request.uri().path().to_owned();
    let allowed = crate::endpoints::methods_of(&path).join(", ");
    let mut response =
        ApiError::Method { method: request.method().to_string(), allowed: allowed.clone() }.into_response();
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// The address that a refusal is noted with.
pub(crate) fn peer_of(request: &Request) -> String {
    match request.extensions().get::<PeerAddr>() {
        Some(PeerAddr(address)) => SocketAddr::to_string(address),
        None => "local".to_owned(),
    }
}
