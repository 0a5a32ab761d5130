use std::sync::Arc;

use audit::Event;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use trust::Change;
use types::{Blame, Epoch, Now};

use super::meta;
use super::shared::{Effects, Shared};
use crate::StoreError;

/// The most transactions that share one commit; bounds how long the first of them waits.
const GROUP_MAX: usize = 256;

/// One caller's transaction, inside its savepoint: the connection, and what is to happen after
/// the commit.
pub(crate) struct Txn<'c> {
    pub(crate) conn: &'c Connection,
    pub(crate) effects: Effects,
}

impl Txn<'_> {
    /// Raises the epoch and notes what changes in the view with it.
    pub(crate) fn raise_epoch(&mut self, change: Change) -> Result<Epoch, StoreError> {
        let epoch = meta::raise_epoch(self.conn)?;
        self.effects.changes.push(Change { epoch, ..change });
        Ok(epoch)
    }

    /// Writes an event, unchained.
    pub(crate) fn event(&mut self, event: &Event, now: Now) -> Result<(), StoreError> {
        let sql = "INSERT INTO event (at, body) VALUES (?1, ?2)";
        self.conn.prepare_cached(sql)?.execute((now.wall.0, event.to_json()))?;
        self.count("events", 1)
    }

    /// Adds to a counter.
    pub(crate) fn count(&mut self, name: &str, more: i64) -> Result<(), StoreError> {
        let sql = "INSERT INTO counter (name, value) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET value = value + excluded.value";
        self.conn.prepare_cached(sql)?.execute((name, more))?;
        Ok(())
    }
}

/// A caller's transaction in the writer's queue.
pub(super) trait Job: Send {
    /// Runs it; the effects, or why it was refused.
    fn run(&mut self, conn: &Connection) -> Result<Effects, StoreError>;
    /// Tells the caller: its own refusal, or what became of the group.
    fn answer(self: Box<Self>, group: &Result<(), StoreError>);
}

/// A [`Job`] made of a closure and the channel on which its caller waits.
pub(super) struct Call<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Call<T, F> {
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work: Some(work), outcome: None, reply }, answer)
    }
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, conn: &Connection) -> Result<Effects, StoreError> {
        let mut txn = Txn { conn, effects: Effects::default() };
        let work = self.work.take().ok_or(StoreError::Closed)?;
        let outcome = work(&mut txn);
        let result = outcome.as_ref().map(|_| txn.effects).map_err(StoreError::clone);
        self.outcome = Some(outcome);
        result
    }

    fn answer(self: Box<Self>, group: &Result<(), StoreError>) {
        let outcome = match (self.outcome, group) {
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(StoreError::Closed),
            // A refusal too: "already revoked" may rest on a change of the same group, which is gone.
            (_, Err(error)) => Err(error.clone()),
        };
        // A caller that went away has no use for the answer; its transaction stands.
        let _ = self.reply.send(outcome);
    }
}

/// The writer thread: takes what has queued up, commits it as one group, publishes, answers.
pub(super) fn run(conn: &Connection, mut queue: mpsc::Receiver<Box<dyn Job>>, shared: &Arc<Shared>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(job) = queue.try_recv()
        {
            group.push(job);
        }
        let before = conn.total_changes();
        let committed = commit(conn, &mut group);
        let group_result = match committed {
            Ok(mut effects) => {
                // A group that changed nothing proves nothing about the disk.
                let failed = effects.write_error.take();
                if failed.is_some() || conn.total_changes() > before {
                    shared.keep_write_error(failed);
                }
                shared.publish(effects);
                Ok(())
            }
            Err(error) => {
                shared.keep_write_error(Some(error.to_string()));
                Err(error)
            }
        };
        for job in group {
            job.answer(&group_result);
        }
    }
}

/// Runs every job in a savepoint of its own inside one transaction; a refused job leaves no trace
/// and harms no other, a failed commit fails them all.
fn commit(conn: &Connection, group: &mut [Box<dyn Job>]) -> Result<Effects, StoreError> {
    let outcome = run_group(conn, group).and_then(|effects| {
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(effects)
    });
    if outcome.is_err() && !conn.is_autocommit() {
        // Nothing is left to be done if this fails too: the next BEGIN will say so.
        let _ = conn.execute_batch("ROLLBACK");
    }
    outcome
}

/// Runs one transaction on a connection that has no writer thread; what it changes outside the
/// database is dropped.
pub(super) fn alone<T>(
    conn: &Connection,
    work: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let outcome = work(&mut Txn { conn, effects: Effects::default() })
        .and_then(|value| conn.execute_batch("COMMIT").map(|()| value).map_err(StoreError::from));
    if outcome.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    outcome
}

fn run_group(conn: &Connection, group: &mut [Box<dyn Job>]) -> Result<Effects, StoreError> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut effects = Effects::default();
    for job in group {
        conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        match job.run(conn) {
            Ok(more) => effects.absorb(more),
            // A full disk or a failing one can roll the whole transaction back by itself.
            Err(error) if conn.is_autocommit() => return Err(error),
            Err(error) => {
                if error.blame() == Blame::Us {
                    effects.write_error = Some(error.to_string());
                }
                conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
        }
        conn.prepare_cached("RELEASE job")?.execute([])?;
    }
    Ok(effects)
}
