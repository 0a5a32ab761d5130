use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::{Map, Value, json};

/// A refusal as RFC 9457 writes it: `application/problem+json` with
/// `type = urn:bailiwick:error:<code>`, and the detail again as plain `error` for small clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: String,
    detail: String,
    retry_after_secs: Option<u64>,
    fields: Map<String, Value>,
}

impl Problem {
    /// A problem with the status's own phrase as its title. `detail` goes out to the client.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { status, code, title, detail: detail.into(), retry_after_secs: None, fields: Map::new() }
    }

    /// The same with a title of its own.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// The same with a further member, which cannot replace one of RFC 9457's.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.to_owned(), value);
        self
    }

    /// The same with a `Retry-After` header.
    #[must_use]
    pub fn with_retry_after_secs(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The slug behind `urn:bailiwick:error:`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is told to the client.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let mut members = self.fields;
        for (name, value) in [
            ("type", json!(format!("urn:bailiwick:error:{}", self.code))),
            ("title", json!(self.title)),
            ("status", json!(self.status.as_u16())),
            ("detail", json!(self.detail)),
            ("error", json!(self.detail)),
        ] {
            members.insert(name.to_owned(), value);
        }
        let mut response = axum::response::Response::new(Body::from(Value::Object(members).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

/// A body that axum could not read as the JSON that a handler asks for.
impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match &rejection {
            JsonRejection::MissingJsonContentType(_) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "request.media_type",
                "the body must be sent as application/json",
            ),
            JsonRejection::BytesRejection(_) => {
                Self::new(rejection.status(), "request.body", rejection.body_text())
            }
            _ => Self::new(StatusCode::BAD_REQUEST, "request.malformed", innermost(&rejection)),
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), "request.body", rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request.query", innermost(&rejection))
    }
}

/// The last error in the chain: serde's, which names line, column and field.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// JSON with a status, for handlers that answer both ways.
impl Problem {
    /// `body` as an answer with `status`.
    #[must_use]
    pub fn json(status: StatusCode, body: Value) -> axum::response::Response {
        (status, Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body_of(response: axum::response::Response) -> Value {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_problem_is_rfc_9457_with_a_plain_error_beside_it() {
        let problem = Problem::new(StatusCode::FORBIDDEN, "token.refused", "the token is not usable")
            .with_title("Not provisioned")
            .with_retry_after_secs(30);
        assert_eq!((problem.status().as_u16(), problem.code()), (403, "token.refused"));
        let response = problem.into_response();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["retry-after"], "30");
        assert_eq!(
            body_of(response).await,
            json!({
                "type": "urn:bailiwick:error:token.refused",
                "title": "Not provisioned",
                "status": 403,
                "detail": "the token is not usable",
                "error": "the token is not usable",
            })
        );
    }

    #[tokio::test]
    async fn a_further_member_cannot_replace_one_of_the_standard() {
        let problem = Problem::new(StatusCode::CONFLICT, "device.exists", "x")
            .with_field("status", json!(200))
            .with_field("device_id", json!("pump-7"));
        let body = body_of(problem.into_response()).await;
        assert_eq!(body["status"], 409);
        assert_eq!(body["title"], "Conflict");
        assert_eq!(body["device_id"], "pump-7");
    }
}
