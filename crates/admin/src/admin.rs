use std::sync::{Arc, PoisonError};

use audit::Event;
use types::{GeneratedId, IdKind, Now, Wall};

use crate::error::ApiError;
use crate::ports::Deps;

/// The operator API's state: what it was given.
pub struct Admin {
    pub(crate) deps: Deps,
}

impl Admin {
    /// Takes what the server wired.
    #[must_use]
    pub fn new(deps: Deps) -> Arc<Self> {
        Arc::new(Self { deps })
    }

    pub(crate) fn now(&self) -> Now {
        self.deps.clock.now()
    }

    /// The date below which the clock cannot be right.
    pub(crate) fn floor(&self) -> Wall {
        self.deps.settings.built_at.max(self.deps.store.time_floor())
    }

    /// The time, if it is to be believed: what expires cannot be made with a clock that is wrong.
    pub(crate) fn sound_now(&self) -> Result<Now, ApiError> {
        let (now, floor) = (self.now(), self.floor());
        if now.wall >= floor {
            return Ok(now);
        }
        let detail = format!("the clock shows {}, which is before {floor}; set it first", now.wall);
        Err(ApiError::Unavailable { code: "clock.unsound", detail })
    }

    /// A fresh random text of 26 characters.
    pub(crate) fn random_text(&self) -> GeneratedId {
        let mut entropy = self.deps.entropy.lock().unwrap_or_else(PoisonError::into_inner);
        GeneratedId::fresh(IdKind::ProvisioningToken, &mut *entropy)
    }

    /// Tells the operator that somebody without a certificate asked.
    pub(crate) fn note_stranger(&self, peer: String, reason: &str, detail: String) {
        self.deps.observer.note(Event::ConnectionRefused {
            peer,
            subject: None,
            serial: None,
            issuer: None,
            sni: None,
            reason: reason.to_owned(),
            detail,
        });
    }
}
