use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Observer, chain};
use signer::CheckpointKey;
use store::{Store, StoreError};
use tokio::sync::watch;
use types::Clock;

/// How often unchained events are looked for: each is in the log within a second.
const BEAT: Duration = Duration::from_millis(250);
/// How long a sequencer that died holds up the next one.
const LEASE: Duration = Duration::from_secs(5);
const LEASE_NAME: &str = "sequencer";
/// Events in one transaction.
const BATCH: usize = 500;

/// Chains the events that transactions wrote, and signs the log after each batch, until
/// `shutdown`. Of several sequencers one holds the lease and works; the others wait.
pub async fn sequence_events(
    store: Store,
    key: Arc<CheckpointKey>,
    holder: String,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        let outcome = sequence_once(&store, &key, &holder, clock.as_ref()).await;
        match &outcome {
            Ok(_) => failing = false,
            Err(error) => {
                tracing::error!(code = error.code(), %error, "events not chained, trying again");
                // One alert for each time that it begins to fail, not one for each beat.
                if !failing {
                    let detail = error.to_string();
                    observer.note(Event::Alert { code: "log.not_chained".to_owned(), detail });
                }
                failing = true;
            }
        }
        let stop = *shutdown.borrow();
        let more = matches!(outcome, Ok(Sequenced::Chained(count)) if count == BATCH);
        if stop && !more {
            return;
        }
        if more {
            continue;
        }
        // At the end the loop runs once more, so that the last words are in the log.
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

/// What one pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// Somebody else holds the lease.
    NotOurs,
    /// So many events are in the log now.
    Chained(usize),
}

/// Why a pass chained nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint could not be signed.
    #[error(transparent)]
    Signer(#[from] signer::SignerError),
}

impl SequenceError {
    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Signer(error) => error.code(),
        }
    }
}

/// One pass: lease → read → chain → sign → one transaction.
///
/// # Errors
/// The store or the key failed; nothing was chained.
pub async fn sequence_once(
    store: &Store,
    key: &CheckpointKey,
    holder: &str,
    clock: &dyn Clock,
) -> Result<Sequenced, SequenceError> {
    let events = store.events_unchained(BATCH).await?;
    if events.is_empty() {
        return Ok(Sequenced::Chained(0));
    }
    let now = clock.now();
    if !store.lease(LEASE_NAME, holder, now.wall.plus(LEASE), now).await? {
        return Ok(Sequenced::NotOurs);
    }
    // Under the lease: what another holder chained before it lapsed is not chained again.
    let events = store.events_unchained(BATCH).await?;
    let head = store.chain_head().await?;
    let mut lines = Vec::with_capacity(events.len());
    let (mut seq, mut hash) = (head.seq, head.hash);
    for (_, at, body) in events {
        seq += 1;
        let line = chain(hash, seq, at, &body);
        hash = line.hash;
        lines.push(line);
    }
    if lines.is_empty() {
        return Ok(Sequenced::Chained(0));
    }
    let count = lines.len();
    let checkpoint = key.checkpoint(seq, hash, now.wall)?;
    store.events_chain(lines, Some(checkpoint)).await?;
    Ok(Sequenced::Chained(count))
}
