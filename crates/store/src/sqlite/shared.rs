use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use trust::{Change, View};
use types::{Epoch, Wall};

use crate::applied::Applied;
use crate::epoch_file::EpochFile;

/// How far the floor must rise before it is written again.
const FLOOR_STEP: Duration = Duration::from_secs(60);

/// What the callers and the writer thread share.
pub(crate) struct Shared {
    view: watch::Sender<Arc<View>>,
    orders: watch::Sender<u64>,
    finished: watch::Sender<u64>,
    time_floor: AtomicI64,
    floor_written: AtomicI64,
    epoch_file: EpochFile,
    epoch_file_error: Mutex<Option<String>>,
    write_error: Mutex<Option<String>>,
    applied: Applied,
    /// Whether a merge is on its way.
    merging: AtomicBool,
}

/// What a transaction changes outside the database, once it is committed.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) changes: Vec<Change>,
    pub(crate) order_submitted: bool,
    pub(crate) order_finished: bool,
    /// A date that the floor rises to.
    pub(crate) floor_noted: Option<Wall>,
    /// A date that the floor is set to, below the old one or not.
    pub(crate) floor_accepted: Option<Wall>,
    /// What kept a job of the group from being written, where the fault is the store's own.
    pub(crate) write_error: Option<String>,
}

impl Effects {
    pub(crate) fn absorb(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.order_submitted |= later.order_submitted;
        self.order_finished |= later.order_finished;
        self.floor_noted = later.floor_noted.max(self.floor_noted);
        self.floor_accepted = later.floor_accepted.or(self.floor_accepted);
        self.write_error = later.write_error.or(self.write_error.take());
    }
}

impl Shared {
    pub(crate) fn new(view: View, time_floor: Wall, epoch_file: EpochFile) -> Self {
        Self {
            view: watch::Sender::new(Arc::new(view.with_time_floor(time_floor))),
            orders: watch::Sender::new(0),
            finished: watch::Sender::new(0),
            time_floor: AtomicI64::new(time_floor.0),
            floor_written: AtomicI64::new(time_floor.0),
            epoch_file,
            epoch_file_error: Mutex::new(None),
            write_error: Mutex::new(None),
            applied: Applied::new(),
            merging: AtomicBool::new(false),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    pub(crate) fn watch_view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    pub(crate) fn watch_orders(&self) -> watch::Receiver<u64> {
        self.orders.subscribe()
    }

    pub(crate) fn watch_finished(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }

    pub(crate) fn applied(&self) -> &Applied {
        &self.applied
    }

    pub(crate) fn time_floor(&self) -> Wall {
        Wall(self.time_floor.load(Ordering::Relaxed))
    }

    /// Raises the floor in memory; true when it should be written too.
    pub(crate) fn raise_time_floor(&self, wall: Wall) -> bool {
        self.time_floor.fetch_max(wall.0, Ordering::Relaxed);
        wall >= Wall(self.floor_written.load(Ordering::Relaxed)).plus(FLOOR_STEP)
    }

    pub(crate) fn epoch_file_error(&self) -> Option<String> {
        self.epoch_file_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn write_error(&self) -> Option<String> {
        self.write_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps how the last group fared, so that `/readyz` says it before a device finds out.
    pub(crate) fn keep_write_error(&self, error: Option<String>) {
        *self.write_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Writes the epoch file. A failure does not undo the committed change, which holds; it is
    /// kept for the counters, and the next commit that raises the epoch tries again.
    fn keep_epoch(&self, epoch: Epoch) {
        let error = self.epoch_file.write(epoch).err().map(|error| error.to_string());
        *self.epoch_file_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Makes a committed group's changes visible; the writer thread calls this before it answers.
    pub(crate) fn publish(self: &Arc<Self>, effects: Effects) {
        if let Some(epoch) = effects.changes.last().map(|change| change.epoch) {
            self.keep_epoch(epoch);
        }
        if let Some(floor) = effects.floor_accepted {
            self.floor_written.store(floor.0, Ordering::Relaxed);
            self.time_floor.store(floor.0, Ordering::Relaxed);
        }
        if let Some(floor) = effects.floor_noted {
            self.floor_written.fetch_max(floor.0, Ordering::Relaxed);
            self.time_floor.fetch_max(floor.0, Ordering::Relaxed);
        }
        let trust_changed = !effects.changes.is_empty();
        if trust_changed || effects.floor_noted.or(effects.floor_accepted).is_some() {
            self.view.send_if_modified(|view| {
                let mut next = View::clone(view);
                for change in effects.changes {
                    next = next.with(change);
                }
                *view = Arc::new(next.with_time_floor(self.time_floor()));
                // A moved floor alone is no reason to check every live session again.
                trust_changed
            });
            self.merge_if_needed();
        }
        if effects.order_submitted {
            self.orders.send_modify(|count| *count = count.wrapping_add(1));
        }
        if effects.order_finished {
            self.finished.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Merges the view's overlays on a thread of its own; what changes meanwhile is kept. One at a
    /// time: each copies the whole base, and a burst of revocations would begin one for each commit.
    fn merge_if_needed(self: &Arc<Self>) {
        let view = self.view();
        if !view.needs_merge() || self.merging.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared: Weak<Self> = Arc::downgrade(self);
        let merge = move || {
            let merged = view.merged();
            drop(view);
            if let Some(shared) = shared.upgrade() {
                shared.view.send_if_modified(|view| {
                    *view = Arc::new(view.rebased(&merged));
                    // The facts are the same, so nobody needs to look.
                    false
                });
                shared.merging.store(false, Ordering::Release);
            }
        };
        if std::thread::Builder::new().name("store-merge".to_owned()).spawn(merge).is_err() {
            // Without a thread the overlay stays; look-ups are right all the same.
            self.merging.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use trust::{DeniedSet, OVERLAY_ENTRIES_MAX, RevokedSet};
    use types::DeviceId;

    use super::*;

    fn shared(dir: &std::path::Path) -> Arc<Shared> {
        let view = View::new(Epoch::default(), Vec::new(), RevokedSet::default(), DeniedSet::default());
        Arc::new(Shared::new(view.unwrap(), Wall(0), EpochFile::new(dir)))
    }

    fn deny(names: std::ops::Range<usize>) -> Effects {
        let deny = names.map(|n| DeviceId::parse(&format!("d{n}")).unwrap()).collect();
        Effects { changes: vec![Change { deny, ..Change::default() }], ..Effects::default() }
    }

    #[test]
    fn one_merge_runs_at_a_time_and_the_next_change_begins_another() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        // As while a merge is on its way: no change begins a second one, however many come.
        shared.merging.store(true, Ordering::Release);
        let over = OVERLAY_ENTRIES_MAX + 1;
        shared.publish(deny(0..over));
        shared.publish(deny(over..over + 1));
        assert!(shared.view().needs_merge());
        shared.merging.store(false, Ordering::Release);
        shared.publish(deny(over + 1..over + 2));
        let deadline = std::time::Duration::from_secs(10);
        let (done, waits) = std::sync::mpsc::channel();
        let merged = Arc::clone(&shared);
        std::thread::spawn(move || {
            while merged.view().needs_merge() || merged.merging.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            let _ = done.send(());
        });
        waits.recv_timeout(deadline).unwrap();
        assert!((0..over + 2).all(|n| shared.view().is_denied(&DeviceId::parse(&format!("d{n}")).unwrap())));
    }
}
