use std::sync::Arc;
use std::time::Duration;

use audit::Event;
use ca::{CrlDecision, CrlState};
use signer::RawSigner;
use store::{AckDetail, CrlRow, Reader};
use tokio::sync::watch;
use types::{Epoch, Now, Wall};

use crate::error::EnrollError;
use crate::state::Enroll;

/// What one round of the CRL writer did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The CRLs that it published: the issuer's label and the CRL's number.
    pub published: Vec<(String, u64)>,
    /// Whether every issuer now shows the epoch of the round.
    pub current: bool,
    /// When to look again, if nothing changes before.
    pub next: Option<Wall>,
}

/// The longest sleep: a wall clock that jumps is noticed within it.
const NAP_MAX: Duration = Duration::from_secs(60);
/// The longest pause after failures: a disk that has room again is noticed within it.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const NAP_MIN: Duration = Duration::from_millis(10);

/// Keeps a current CRL for every issuer until `shutdown`. It follows the epoch of the view,
/// level-triggered: whatever was missed or failed is seen again at the next look.
pub async fn write_crls(enroll: Arc<Enroll>, mut shutdown: watch::Receiver<bool>) {
    let mut views = enroll.deps.store.watch_view();
    let retry = enroll.deps.settings.crl.retry.max(NAP_MIN);
    let mut backoff = retry;
    loop {
        let epoch = views.borrow_and_update().epoch();
        let now = enroll.now();
        let nap = match publish_due(&enroll, epoch, now).await {
            Ok(round) => {
                backoff = retry;
                match round.next {
                    Some(next) => until(next, enroll.now()).clamp(NAP_MIN, NAP_MAX),
                    None => NAP_MAX,
                }
            }
            Err(error) => {
                tracing::error!(code = error.code(), %error, epoch = %epoch, "crl not published, trying again");
                let nap = backoff;
                backoff = (backoff * 2).min(BACKOFF_MAX.max(retry));
                nap
            }
        };
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(nap) => {}
        }
    }
}

/// Publishes what is due for `epoch`, and acknowledges the epoch once every issuer shows it.
///
/// # Errors
/// The clock is unsound, the store or a key failed. One issuer's failure does not hold back the
/// CRLs of the others.
pub async fn publish_due(enroll: &Arc<Enroll>, epoch: Epoch, now: Now) -> Result<Round, EnrollError> {
    enroll.sound_now()?;
    let mut round = Round { current: true, ..Round::default() };
    let mut failed = None;
    for at in 0..enroll.deps.issuers.len() {
        match publish_one(enroll, at, epoch, now).await {
            Ok(done) => {
                round.published.extend(done.published);
                round.current &= done.current;
                round.next = [round.next, done.next].into_iter().flatten().min();
            }
            Err(error) => failed = Some(error),
        }
    }
    let applied = enroll.deps.store.applied();
    match failed {
        Some(error) => Err(error),
        None => {
            if round.current {
                applied.ack(Reader::CrlWriter, epoch, AckDetail::Crl(round.published.clone()));
            }
            Ok(round)
        }
    }
}

/// One issuer: plan → rows → number → build and sign → store → serve.
async fn publish_one(enroll: &Arc<Enroll>, at: usize, epoch: Epoch, now: Now) -> Result<Round, EnrollError> {
    let Some((issuer, _)) = enroll.deps.issuers.get(at) else { return Ok(Round::default()) };
    let store = &enroll.deps.store;
    let id = issuer.id();
    let last = store.crl(id).await?.map(|row| CrlState {
        this_update: row.this_update,
        next_update: row.next_update,
        epoch: row.epoch,
    });
    let not_after = issuer.certificate.not_after();
    let (this_update, next_update) =
        match ca::crl_plan(last.as_ref(), epoch, not_after, &enroll.schedule, now) {
            CrlDecision::Ended => return Ok(Round { current: true, ..Round::default() }),
            CrlDecision::Wait { until } => {
                let current = last.is_some_and(|last| last.epoch >= epoch);
                return Ok(Round { current, next: Some(until), published: Vec::new() });
            }
            CrlDecision::Publish { this_update, next_update, .. } => (this_update, next_update),
        };
    let entries = store.revoked_rows(id, now).await?;
    let listed = entries.len() as u64;
    let number = store.crl_next_number(id).await?;
    let der = {
        let enroll = Arc::clone(enroll);
        // A million entries take a tenth of a second to encode and sign: not on a thread that others need.
        tokio::task::spawn_blocking(move || {
            let (issuer, key) = &enroll.deps.issuers[at];
            let ticket = ca::prepare_crl(issuer, number, this_update, next_update, entries.into_iter())
                .map_err(EnrollError::Unsound)?;
            let signature = key.sign(ticket.tbs())?;
            ca::finish_crl(ticket, &signature).map_err(EnrollError::Unsound)
        })
        .await
        .map_err(|error| EnrollError::Wiring(format!("crl encoder: {error}")))??
    };
    let row = CrlRow { issuer: id, number, der, this_update, next_update, epoch };
    store.crl_put(row.clone()).await?;
    enroll.shelf.put(row);
    let event = Event::CrlPublished {
        issuer: issuer.label.clone(),
        number,
        entries: listed,
        next_update: next_update.to_string(),
    };
    enroll.deps.observer.note(event);
    let next = this_update.plus(enroll.deps.settings.crl.period).min(next_update);
    Ok(Round { published: vec![(issuer.label.clone(), number)], current: true, next: Some(next) })
}

/// How long it is from `now` until `then`.
fn until(then: Wall, now: Now) -> Duration {
    Duration::from_millis(u64::try_from(then.0.saturating_sub(now.wall.0)).unwrap_or_default())
}
