use audit::{Chained, Checkpoint, Event};
use types::{IssuerId, Now, Wall};
use x509::CrlEntry;

use crate::rows::{ChainHead, CrlRow, Stats};
use crate::sqlite::{crls, events, meta};
use crate::{Backend, Store, StoreError};

/// CRLs, events, leases, time and counters.
impl Store {
    /// What the issuer's next CRL lists: revoked and suspended certificates and those of denied
    /// names, until one CRL after they expired; ordered by the bytes of the serial.
    ///
    /// # Errors
    /// A failing database.
    pub async fn revoked_rows(&self, issuer: IssuerId, now: Now) -> Result<Vec<CrlEntry>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| crls::revoked_rows(conn, issuer, now)).await,
        }
    }

    /// Takes the issuer's next CRL number; no number is given twice.
    ///
    /// # Errors
    /// The issuer is unknown.
    pub async fn crl_next_number(&self, issuer: IssuerId) -> Result<u64, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| crls::next_number(txn, issuer)).await,
        }
    }

    /// Stores the issuer's newest CRL.
    ///
    /// # Errors
    /// Its number is not above the stored one's, or the issuer is unknown.
    pub async fn crl_put(&self, row: CrlRow) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| crls::put(txn, &row)).await,
        }
    }

    /// The issuer's newest CRL.
    ///
    /// # Errors
    /// A failing database.
    pub async fn crl(&self, issuer: IssuerId) -> Result<Option<CrlRow>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| crls::newest(conn, issuer)).await,
        }
    }

    /// Writes an event that belongs to no other transaction.
    ///
    /// # Errors
    /// A failing database.
    pub async fn event(&self, event: Event, now: Now) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| txn.event(&event, now)).await,
        }
    }

    /// At most `limit` events that are not chained yet, oldest first: number, date, JSON.
    ///
    /// # Errors
    /// A failing database.
    pub async fn events_unchained(&self, limit: usize) -> Result<Vec<(u64, Wall, String)>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| events::unchained(conn, limit)).await,
        }
    }

    /// Moves the oldest unchained events into the log: `lines` must be exactly those events, in
    /// order, chained to the head.
    ///
    /// # Errors
    /// [`StoreError::ChainBroken`] when they are not; then nothing is moved.
    pub async fn events_chain(
        &self,
        lines: Vec<Chained>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| events::chain(txn, &lines, checkpoint.as_ref())).await,
        }
    }

    /// At most `limit` lines of the log after line `seq`.
    ///
    /// # Errors
    /// A failing database.
    pub async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<Chained>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| events::after(conn, seq, limit)).await,
        }
    }

    /// At most `limit` checkpoints that cover lines after line `seq`.
    ///
    /// # Errors
    /// A failing database.
    pub async fn checkpoints_after(&self, seq: u64, limit: usize) -> Result<Vec<Checkpoint>, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(move |conn| events::checkpoints(conn, seq, limit)).await,
        }
    }

    /// The last line of the log.
    ///
    /// # Errors
    /// A failing database.
    pub async fn chain_head(&self) -> Result<ChainHead, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => db.read(events::head).await,
        }
    }

    /// Takes or renews the lease `name` for `holder` until `until`; `false` when somebody else
    /// holds it and it has not run out at `now`.
    ///
    /// # Errors
    /// A failing database.
    pub async fn lease(&self, name: &str, holder: &str, until: Wall, now: Now) -> Result<bool, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| meta::lease(txn, &name, &holder, until, now)).await,
        }
    }

    /// The latest date that was ever noted; a clock below it is not to be believed.
    #[must_use]
    pub fn time_floor(&self) -> Wall {
        match &self.0 {
            Backend::Sqlite(db) => db.shared().time_floor(),
        }
    }

    /// Notes a date that is believed; written only when it is a minute above the last one written.
    ///
    /// # Errors
    /// A failing database.
    pub async fn note_time(&self, wall: Wall) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Sqlite(db) if db.shared().raise_time_floor(wall) => {
                db.write(move |txn| meta::note_time(txn, wall)).await
            }
            Backend::Sqlite(_) => Ok(()),
        }
    }

    /// Accepts a clock that was wrong before: sets the floor to `now`, below the old one or not.
    ///
    /// # Errors
    /// A failing database.
    pub async fn accept_clock(&self, actor: &str, now: Now) -> Result<(), StoreError> {
        let actor = actor.to_owned();
        match &self.0 {
            Backend::Sqlite(db) => db.write(move |txn| meta::accept_clock(txn, &actor, now)).await,
        }
    }

    /// The counters.
    ///
    /// # Errors
    /// A failing database.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        match &self.0 {
            Backend::Sqlite(db) => {
                let mut stats = db.read(meta::stats).await?;
                stats.epoch_file_error = db.shared().epoch_file_error();
                stats.write_error = db.shared().write_error();
                Ok(stats)
            }
        }
    }
}
