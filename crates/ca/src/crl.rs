use std::time::Duration;

use types::{Epoch, Now, Wall};
use x509::{CrlEntry, CrlHead, SignatureAlgorithm};

use crate::error::CaError;
use crate::issuer::Issuer;
use crate::ticket::{algorithm_of, whole_second};

/// Revocations that come within this time of the last list go into the next one together.
const COALESCE: Duration = Duration::from_secs(1);

/// How often a revocation list is made anew, and how long each is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlSchedule {
    period: Duration,
    validity: Duration,
}

impl CrlSchedule {
    /// A new list at least every `period`, each good for `validity`.
    ///
    /// # Errors
    /// The period is not below half the validity: one missed list would leave verifiers without.
    pub fn new(period: Duration, validity: Duration) -> Result<Self, CaError> {
        if period.is_zero() || period >= validity / 2 {
            return Err(CaError::CrlSchedule {
                period_s: period.as_secs(),
                half_s: (validity / 2).as_secs(),
            });
        }
        Ok(Self { period, validity })
    }
}

impl Default for CrlSchedule {
    /// Daily, good for a week.
    fn default() -> Self {
        Self { period: Duration::from_secs(86_400), validity: Duration::from_secs(7 * 86_400) }
    }
}

/// The list that is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlState {
    /// When it was made.
    pub this_update: Wall,
    /// Until when it is good.
    pub next_update: Wall,
    /// The trust epoch that it shows.
    pub epoch: Epoch,
}

/// Why a list is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlWhy {
    /// There is none yet.
    First,
    /// Trust has changed since the last.
    Changed,
    /// The last is old enough.
    Scheduled,
}

/// What the CRL writer does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlDecision {
    /// Make a list with these dates.
    Publish {
        /// Why.
        why: CrlWhy,
        /// Its thisUpdate.
        this_update: Wall,
        /// Its nextUpdate.
        next_update: Wall,
    },
    /// Nothing, until this date or until the epoch moves.
    Wait {
        /// When to ask again.
        until: Wall,
    },
    /// Nothing ever again: the issuer has expired, and its certificates with it.
    Ended,
}

/// Decides from the level of things, never from an event: asked at any time, any number of times,
/// it gives the same answer.
#[must_use]
pub fn crl_plan(
    last: Option<&CrlState>,
    epoch: Epoch,
    issuer_not_after: Wall,
    schedule: &CrlSchedule,
    now: Now,
) -> CrlDecision {
    if now.wall >= issuer_not_after {
        return CrlDecision::Ended;
    }
    let publish = |why| {
        let this_update = whole_second(now.wall);
        let next_update = this_update.plus(schedule.validity).min(issuer_not_after);
        CrlDecision::Publish { why, this_update, next_update }
    };
    let Some(last) = last else { return publish(CrlWhy::First) };
    // A clock that was put back must not hold back a revocation.
    let clock_went_back = now.wall < last.this_update;
    if epoch > last.epoch {
        let earliest = last.this_update.plus(COALESCE);
        if clock_went_back || now.wall >= earliest {
            return publish(CrlWhy::Changed);
        }
        return CrlDecision::Wait { until: earliest };
    }
    let due = last.this_update.plus(schedule.period).min(last.next_update);
    if now.wall >= due { publish(CrlWhy::Scheduled) } else { CrlDecision::Wait { until: due } }
}

/// A revocation list that was built but not signed; good for one signature.
pub struct CrlTicket {
    tbs: Vec<u8>,
    spki_der: Vec<u8>,
    label: String,
    algorithm: SignatureAlgorithm,
}

impl CrlTicket {
    /// The bytes to sign.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }
}

/// Builds the list of `issuer` with the given number, dates and entries.
///
/// # Errors
/// The issuer is no CA or is out of its dates, or its key is of a kind that we do not use.
pub fn prepare_crl(
    issuer: &Issuer,
    number: u64,
    this_update: Wall,
    next_update: Wall,
    entries: impl ExactSizeIterator<Item = CrlEntry>,
) -> Result<CrlTicket, CaError> {
    issuer.check_usable(Now { wall: this_update, ..Now::default() })?;
    let algorithm = algorithm_of(&issuer.certificate)?;
    let head =
        CrlHead { issuer: &issuer.certificate, number, this_update, next_update, signature: algorithm };
    let tbs = x509::build_crl_tbs(&head, entries);
    let spki_der = issuer.certificate.spki_der().to_vec();
    Ok(CrlTicket { tbs, spki_der, label: issuer.label.clone(), algorithm })
}

/// Puts the signature to the list, after verifying it; the result is DER.
///
/// # Errors
/// The signature does not verify.
pub fn finish_crl(ticket: CrlTicket, signature: &[u8]) -> Result<Vec<u8>, CaError> {
    x509::verify_signature(&ticket.spki_der, ticket.algorithm, &ticket.tbs, signature)
        .map_err(|source| CaError::Signature { label: ticket.label, source })?;
    Ok(x509::assemble(&ticket.tbs, ticket.algorithm, signature))
}
