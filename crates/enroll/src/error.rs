use ca::CaError;
use signer::SignerError;
use store::{StoreError, TokenRefusal};
use types::{Blame, Wall};

/// Why nothing was issued or published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// The request cannot be read; names the field and what is wrong with it, never a token.
    #[error("{place}: {detail}")]
    Malformed {
        /// `body`, `token`, `csr`, or a header.
        place: &'static str,
        /// What is wrong there.
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
    /// The token is refused. The peer is never told which of the reasons it was.
    #[error("the token is not accepted")]
    TokenRefused(TokenRefusal),
    /// The token is good, but this request may not be signed.
    #[error(transparent)]
    Decision(CaError),
    /// Too many failures came from this address.
    #[error("too many failed requests from this address; try again in {retry_after_secs} s")]
    Limited {
        /// When to come back.
        retry_after_secs: u64,
    },
    /// The date of this machine is not to be believed.
    #[error("the clock shows {wall}, which is before {floor}; nothing is issued until it is set")]
    ClockUnsound {
        /// What the clock shows.
        wall: Wall,
        /// The date below which it cannot be right.
        floor: Wall,
    },
    /// There is no CA for what is wanted.
    #[error("no issuing ca for {what}")]
    NoIssuer {
        /// `device`, `service`, `operator`, `server`.
        what: &'static str,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The issuing key failed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// Our own certificate did not come out as it was admitted.
    #[error("certificate not made as admitted: {0}")]
    Unsound(CaError),
    /// What enrolment was given does not fit together.
    #[error("{0}")]
    Wiring(String),
}

impl EnrollError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::MediaType { .. }
            | Self::TokenRefused(_)
            | Self::Limited { .. } => Blame::Peer,
            Self::Decision(error) => error.blame(),
            Self::ClockUnsound { .. } | Self::NoIssuer { .. } | Self::Wiring(_) => Blame::Operator,
            Self::Store(error) => error.blame(),
            Self::Signer(_) => Blame::Us,
            Self::Unsound(_) => Blame::Bug,
        }
    }

    /// Stable slug for logs, metrics and problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "request.malformed",
            Self::TooLarge { .. } => "request.too_large",
            Self::MediaType { .. } => "request.media_type",
            Self::TokenRefused(_) => "enroll.refused",
            Self::Decision(error) | Self::Unsound(error) => error.code(),
            Self::Limited { .. } => "enroll.limited",
            Self::ClockUnsound { .. } => "clock.unsound",
            Self::NoIssuer { .. } => "enroll.no_issuer",
            Self::Store(error) => error.code(),
            Self::Signer(error) => error.code(),
            Self::Wiring(_) => "enroll.wiring",
        }
    }
}
