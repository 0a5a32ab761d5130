use std::sync::{Mutex, PoisonError};

use store::{AckDetail, Reader, Store};
use types::{CertRef, Epoch};

/// Collects how far each shard has followed the trust epoch, and acknowledges to the store what
/// all of them have applied.
pub(crate) struct TrustBoard {
    store: Store,
    progress: Mutex<Progress>,
}

struct Progress {
    shards: Vec<Option<Epoch>>,
    acknowledged: Option<Epoch>,
    /// Certificates whose sessions were closed, with the epoch that closed them.
    closed: Vec<(Epoch, CertRef)>,
}

impl Progress {
    fn new(shards: usize) -> Self {
        Self { shards: vec![None; shards], acknowledged: None, closed: Vec::new() }
    }

    /// Notes one shard's progress; the answer is what may be acknowledged now, if that is news.
    fn done(&mut self, shard: usize, epoch: Epoch, closed: Vec<CertRef>) -> Option<(Epoch, Vec<CertRef>)> {
        if let Some(at) = self.shards.get_mut(shard) {
            *at = (*at).max(Some(epoch));
        }
        self.closed.extend(closed.into_iter().map(|cert| (epoch, cert)));
        let slowest = self.shards.iter().copied().min().flatten()?;
        // A session that was closed by a later epoch is reported with that epoch.
        let (ready, later) = self.closed.drain(..).partition::<Vec<_>, _>(|(at, _)| *at <= slowest);
        self.closed = later;
        if self.acknowledged >= Some(slowest) && ready.is_empty() {
            return None;
        }
        self.acknowledged = Some(slowest);
        Some((slowest, ready.into_iter().map(|(_, cert)| cert).collect()))
    }
}

impl TrustBoard {
    pub(crate) fn new(store: Store, shards: usize) -> Self {
        Self { store, progress: Mutex::new(Progress::new(shards)) }
    }

    /// A shard has checked every session against the view of `epoch` and closed those of `closed`.
    pub(crate) fn done(&self, shard: usize, epoch: Epoch, closed: Vec<CertRef>) {
        let news = self.progress.lock().unwrap_or_else(PoisonError::into_inner).done(shard, epoch, closed);
        if let Some((epoch, closed)) = news {
            self.store.applied().ack(Reader::Sessions, epoch, AckDetail::Closed(closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{IssuerId, Serial};

    use super::*;

    fn epoch(counter: u64) -> Epoch {
        Epoch { incarnation: 0, counter }
    }

    fn cert(serial: u8) -> CertRef {
        CertRef { issuer: IssuerId([1; 16]), serial: Serial::from_der_integer(&[serial]).unwrap() }
    }

    #[test]
    fn nothing_is_acknowledged_before_the_slowest_shard_is_done() {
        let mut progress = Progress::new(2);
        assert_eq!(progress.done(0, epoch(1), vec![]), None);
        assert_eq!(progress.done(1, epoch(1), vec![]), Some((epoch(1), vec![])));
        assert_eq!(progress.done(0, epoch(2), vec![cert(7)]), None);
        assert_eq!(progress.done(1, epoch(2), vec![cert(8)]), Some((epoch(2), vec![cert(7), cert(8)])));
        assert_eq!(progress.done(1, epoch(2), vec![]), None);
    }

    #[test]
    fn a_session_is_reported_with_an_epoch_that_is_not_older_than_the_one_that_closed_it() {
        let mut progress = Progress::new(2);
        progress.done(0, epoch(1), vec![]);
        progress.done(1, epoch(1), vec![]);
        assert_eq!(progress.done(0, epoch(3), vec![cert(7)]), None);
        assert_eq!(progress.done(1, epoch(2), vec![]), Some((epoch(2), vec![])));
        assert_eq!(progress.done(1, epoch(4), vec![]), Some((epoch(3), vec![cert(7)])));
    }

    #[test]
    fn a_view_that_changed_within_its_epoch_still_reports_what_it_closed() {
        let mut progress = Progress::new(1);
        assert_eq!(progress.done(0, epoch(5), vec![]), Some((epoch(5), vec![])));
        assert_eq!(progress.done(0, epoch(5), vec![cert(9)]), Some((epoch(5), vec![cert(9)])));
        assert_eq!(progress.done(0, epoch(4), vec![]), None);
    }
}
