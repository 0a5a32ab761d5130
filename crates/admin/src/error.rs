use axum::response::{IntoResponse, Response};
use http::StatusCode;
use store::StoreError;
use tls::http::Problem;
use types::Blame;

/// Why an operator's request is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Nobody is known to ask.
    #[error("this needs an operator's certificate, or the server's own socket")]
    NoActor,
    /// Somebody is known to ask, but not as an operator.
    #[error("{detail}")]
    Forbidden {
        /// The slug of the reason.
        code: &'static str,
        /// Who asked, and why not.
        detail: String,
    },
    /// A value is missing or wrong.
    #[error("{place}: {detail}")]
    Malformed {
        /// Where: a JSON pointer, `?parameter`, `path` or `body`.
        place: String,
        /// What.
        detail: String,
    },
    /// A field or parameter that the endpoint does not know.
    #[error("{place}: {detail}")]
    UnknownField {
        /// Where.
        place: String,
        /// Which are known.
        detail: String,
    },
    /// The body is larger than the limit.
    #[error("body: more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body is not JSON by its own account.
    #[error("header content-type: \"{found}\"; expected application/json")]
    MediaType {
        /// What it says, clipped.
        found: String,
    },
    /// There is no such thing.
    #[error("{what}")]
    NotFound {
        /// The slug.
        code: &'static str,
        /// What is missing.
        what: String,
    },
    /// There is such a path, but not with this method.
    #[error("{method} is not allowed here; allowed: {allowed}")]
    Method {
        /// The method of the request.
        method: String,
        /// The methods of the path.
        allowed: String,
    },
    /// The present state forbids it.
    #[error("{detail}")]
    Conflict {
        /// The slug.
        code: &'static str,
        /// What stands in the way.
        detail: String,
    },
    /// The clock or a service below cannot be relied on now.
    #[error("{detail}")]
    Unavailable {
        /// The slug.
        code: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApiError {
    /// A value that is missing or wrong, with its place.
    pub(crate) fn malformed(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Malformed { place: place.into(), detail: detail.into() }
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unavailable { .. } => Blame::Us,
            Self::Store(error) => error.blame(),
            Self::NoActor
            | Self::Forbidden { .. }
            | Self::Malformed { .. }
            | Self::UnknownField { .. }
            | Self::TooLarge { .. }
            | Self::MediaType { .. }
            | Self::NotFound { .. }
            | Self::Method { .. }
            | Self::Conflict { .. } => Blame::Peer,
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoActor => "admin.no_actor",
            Self::Malformed { .. } => "request.malformed",
            Self::UnknownField { .. } => "request.unknown_field",
            Self::TooLarge { .. } => "request.too_large",
            Self::MediaType { .. } => "request.media_type",
            Self::Method { .. } => "request.method",
            Self::Forbidden { code, .. }
            | Self::NotFound { code, .. }
            | Self::Conflict { code, .. }
            | Self::Unavailable { code, .. } => code,
            Self::Store(error) => error.code(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoActor => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Malformed { .. } | Self::UnknownField { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(
                StoreError::UnknownDevice { .. }
                | StoreError::UnknownPrincipal { .. }
                | StoreError::UnknownToken { .. }
                | StoreError::UnknownCertificate { .. },
            ) => StatusCode::NOT_FOUND,
            Self::Store(error) => match error.blame() {
                Blame::Peer | Blame::Operator => StatusCode::CONFLICT,
                Blame::Us => StatusCode::SERVICE_UNAVAILABLE,
                Blame::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = (self.status(), self.code());
        // What went wrong on our side stays in our log; the operator on the other end reads it there.
        let detail = match status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(code, error = %self, "request not served");
                "an internal check failed; the log says which".to_owned()
            }
            _ => self.to_string(),
        };
        let problem = Problem::new(status, code, detail);
        match self {
            Self::Malformed { place, .. } | Self::UnknownField { place, .. } => {
                problem.with_field("place", place.into()).into_response()
            }
            Self::Unavailable { .. } => problem.with_retry_after_secs(5).into_response(),
            _ => problem.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status_and_its_slug() {
        let id = || "pump-7".to_owned();
        for (error, status, code) in [
            (ApiError::NoActor, 401, "admin.no_actor"),
            (ApiError::Forbidden { code: "trust.revoked", detail: id() }, 403, "trust.revoked"),
            (ApiError::malformed("/id", "empty"), 400, "request.malformed"),
            (ApiError::UnknownField { place: id(), detail: id() }, 400, "request.unknown_field"),
            (ApiError::TooLarge { limit: 1 }, 413, "request.too_large"),
            (ApiError::MediaType { found: id() }, 415, "request.media_type"),
            (ApiError::NotFound { code: "x", what: id() }, 404, "x"),
            (ApiError::Method { method: id(), allowed: id() }, 405, "request.method"),
            (ApiError::Conflict { code: "y", detail: id() }, 409, "y"),
            (ApiError::Unavailable { code: "clock.unsound", detail: id() }, 503, "clock.unsound"),
            (StoreError::UnknownDevice { id: id() }.into(), 404, "store.unknown_device"),
            (StoreError::UnknownToken { id: id() }.into(), 404, "store.unknown_token"),
            (StoreError::NeedsReplace { id: id() }.into(), 409, "store.needs_replace"),
            (StoreError::Full { detail: id() }.into(), 503, "store.full"),
            (StoreError::Closed.into(), 503, "store.closed"),
            (StoreError::Database { detail: id() }.into(), 500, "store.database"),
        ] {
            assert_eq!((error.status().as_u16(), error.code()), (status, code));
        }
    }
}
