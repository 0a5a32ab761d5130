use std::fmt;

use types::{Blame, Reason};

/// A refusal: the reason for machines, the detail with its values for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason; its code is the same in the log, the metric and the event.
    pub reason: Reason,
    /// One line with the values that led to it.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: String) -> Self {
        Self { reason, detail }
    }

    /// Stable slug: the reason's.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self.reason {
            Reason::ClockUnsound | Reason::Unavailable => Blame::Us,
            Reason::IssuerInvalid => Blame::Operator,
            _ => Blame::Peer,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refusal {}
