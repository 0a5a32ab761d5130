//! Keeps the facts: registry, tokens, ledger, orders, CRLs, events, and the epoch of trust.
//! In: one call for one whole domain transaction. Out: rows, proofs of record, and the published `trust::View`.
//! Invariant: only what changes trust raises the epoch (test: `the_view_equals_one_rebuilt_from_scratch`).
//! Never: signs, decides who may have a certificate, reads a clock, or lends out a database handle.
//! Spec: DESIGN.md flows A, B and D, sections 3 and 5.

mod applied;
mod chronicle;
mod epoch_file;
mod error;
mod issuing;
mod registry;
mod rows;
mod sqlite;
mod trusting;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use trust::View;
use types::Now;

pub use applied::{AckDetail, Applied, CLOSED_KEPT_MAX, Lagging, Reader};
pub use error::StoreError;
pub use rows::{
    CaRow, CertRow, ChainHead, Confirmed, CrlRow, DeviceRow, NewDevice, NewIntent, NewToken, Order, OrderId,
    OrderKind, PrincipalRow, Receipt, RecordedIntent, Recovered, RevokedDevice, Standing, Stats, TokenAnswer,
    TokenRefusal, TokenRow, TokenState,
};

/// The file name of the database in the data folder.
pub const DATABASE_FILE: &str = "bailiwick.db";
/// The file name of the epoch file in the data folder.
pub const EPOCH_FILE: &str = "epoch";

/// The store; a clone is another name for the same one. Each method is one whole transaction: it
/// answers after the change is on the disk and the view is published, and a refusal changed nothing.
#[derive(Clone)]
pub struct Store(Backend);

#[derive(Clone)]
enum Backend {
    Sqlite(Arc<sqlite::Sqlite>),
}

impl Store {
    /// Opens the database in the data folder `dir`, which must exist, and makes it if there is
    /// none; brings an older schema up to date and loads the view.
    ///
    /// # Errors
    /// A newer schema, a foreign or damaged file, a folder that cannot be written, or
    /// [`StoreError::Restored`] when the database is older than the epoch file; a database that has
    /// had an epoch is not opened without the file at all.
    pub fn open(dir: &Path, now: Now) -> Result<Self, StoreError> {
        sqlite::Sqlite::open(dir, now).map(|db| Self(Backend::Sqlite(Arc::new(db))))
    }

    /// Accepts a database that was put back from a backup: raises the incarnation and the CRL
    /// numbers and kills the tokens that were unused.
    ///
    /// # Errors
    /// As [`Store::open`], except that an older database is what is expected.
    pub fn recover(dir: &Path, actor: &str, now: Now) -> Result<Recovered, StoreError> {
        sqlite::recover(dir, actor, now)
    }

    /// Who is believed now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        match &self.0 {
            Backend::Sqlite(db) => db.shared().view(),
        }
    }

    /// The view and every later one, each published after its change was committed.
    #[must_use]
    pub fn watch_view(&self) -> watch::Receiver<Arc<View>> {
        match &self.0 {
            Backend::Sqlite(db) => db.shared().watch_view(),
        }
    }

    /// The board on which the followers of the view say how far they are.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        match &self.0 {
            Backend::Sqlite(db) => db.shared().applied(),
        }
    }
}
