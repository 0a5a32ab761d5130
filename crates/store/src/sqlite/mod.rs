//! The SQLite backend: one connection that writes in groups, a few that read, one thread for each.
//! In: closures over a transaction or a connection, made here. Out: their results, after the commit.
//! Invariant: nobody is answered before the commit is on the disk and the view is published.
//! Never: runs SQL on a caller's thread after `open`, but for the ledger's one look-up.
//! Spec: DESIGN.md section 3, row "store"; sqlite.org/wal.html.

pub(crate) mod cas;
pub(crate) mod certificates;
mod codec;
pub(crate) mod crls;
pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod intents;
mod load;
pub(crate) mod meta;
pub(crate) mod orders;
pub(crate) mod principals;
pub(crate) mod revoking;
mod schema;
mod shared;
pub(crate) mod tokens;
mod writer;

#[cfg(test)]
mod fault_tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fs_err::os::unix::fs::OpenOptionsExt;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};
use types::{Epoch, Now};

use crate::epoch_file::EpochFile;
use crate::rows::Recovered;
use crate::{DATABASE_FILE, StoreError};
pub(crate) use shared::Shared;
pub(crate) use writer::Txn;
use writer::{Call, Job};

/// Reading threads. Reads are short; more threads than this only wait for the processor.
const READERS: usize = 3;
/// Connections on which a caller looks up by itself; more callers than these go to the threads.
const NEAR: usize = 2;
/// Callers beyond this wait in line before they are queued.
const QUEUE_MAX: usize = 1024;
/// How long a connection waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements kept by each connection.
const STATEMENTS_CACHED: usize = 128;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// An open database and its threads; dropping it waits until they have finished what was queued.
pub(crate) struct Sqlite {
    writes: Option<mpsc::Sender<Box<dyn Job>>>,
    reads: Option<mpsc::Sender<Read>>,
    writer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    /// Dropped before the writer, as the readers are.
    near: Vec<Mutex<Connection>>,
    shared: Arc<Shared>,
}

impl Sqlite {
    pub(crate) fn open(dir: &Path, now: Now) -> Result<Self, StoreError> {
        let conn = connect_writer(dir, now)?;
        let epoch_file = EpochFile::new(dir);
        let database = meta::epoch(&conn)?;
        let file = epoch_file.read()?;
        match file {
            Some(file) if database < file => return Err(StoreError::Restored { database, file }),
            Some(file) if database == file => {}
            // Whoever puts only the database back, in a new folder, would go on without its revocations.
            None if database != Epoch::default() => return Err(epoch_file.gone(database)),
            // A crash between commit and file leaves the file behind; a new folder has none yet.
            _ => epoch_file.write(database)?,
        }
        let view = load::view(&conn)?;
        let shared = Arc::new(Shared::new(view, meta::time_floor(&conn)?, epoch_file));
        let readers = (0..READERS).map(|_| connect_reader(dir)).collect::<Result<Vec<_>, StoreError>>()?;
        let near =
            (0..NEAR).map(|_| connect_reader(dir).map(Mutex::new)).collect::<Result<_, StoreError>>()?;
        let mut sqlite = Self::start(conn, readers, shared)?;
        sqlite.near = near;
        Ok(sqlite)
    }

    fn start(conn: Connection, readers: Vec<Connection>, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (writes, write_queue) = mpsc::channel(QUEUE_MAX);
        let (reads, read_queue) = mpsc::channel(QUEUE_MAX);
        let for_writer = Arc::clone(&shared);
        let writer = spawn("store-write", move || writer::run(&conn, write_queue, &for_writer))?;
        let mut threads = Vec::new();
        let read_queue = Arc::new(Mutex::new(read_queue));
        for conn in readers {
            let queue = Arc::clone(&read_queue);
            threads.push(spawn("store-read", move || run_reader(&conn, &queue))?);
        }
        Ok(Self {
            writes: Some(writes),
            reads: Some(reads),
            writer: Some(writer),
            readers: threads,
            near: Vec::new(),
            shared,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs `work` as one transaction on the writer thread.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (call, answer) = Call::new(work);
        let queue = self.writes.as_ref().ok_or(StoreError::Closed)?;
        queue.send(Box::new(call)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on a reading thread; all its statements see one state of the database.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.look_up(|conn| snapshot(conn, work)).await
    }

    /// Runs a `work` of one statement that reads one row: on the caller's thread if a connection is
    /// free, which costs a tenth of two thread switches, else on a reading thread.
    pub(crate) async fn look_up_near<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        for conn in &self.near {
            if let Ok(conn) = conn.try_lock() {
                return work(&conn);
            }
        }
        self.look_up(work).await
    }

    /// Runs a `work` of one statement on a reading thread; it needs no transaction around it.
    pub(crate) async fn look_up<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = move |conn: &Connection| {
            // A caller that went away has no use for the answer.
            let _ = reply.send(work(conn));
        };
        let queue = self.reads.as_ref().ok_or(StoreError::Closed)?;
        queue.send(Box::new(job)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The readers close first: the last to close empties the write-ahead log into the database,
        // and only the writer can.
        self.reads = None;
        self.near.clear();
        for thread in self.readers.drain(..) {
            // A thread that panicked has told its callers by dropping their channels.
            let _ = thread.join();
        }
        self.writes = None;
        if let Some(thread) = self.writer.take() {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(run)?)
}

fn run_reader(conn: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match next {
            Some(read) => read(conn),
            None => return,
        }
    }
}

/// Several statements of one read see one state of the database.
fn snapshot<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let outcome = work(conn);
    let ended = conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    // A transaction that stayed open would show its old state to every look-up that comes after it.
    if ended.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    outcome
}

fn connect_writer(dir: &Path, now: Now) -> Result<Connection, StoreError> {
    let path = dir.join(DATABASE_FILE);
    // Made by us, so that only our user may read it; SQLite's own files beside it follow its mode.
    fs_err::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    let conn = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    schema::migrate(&conn, &path.display().to_string(), now)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    Ok(conn)
}

fn connect_reader(dir: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(dir.join(DATABASE_FILE), flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(conn)
}

/// Accepts a database that is older than the epoch file; see [`crate::Store::recover`].
pub(crate) fn recover(dir: &Path, actor: &str, now: Now) -> Result<Recovered, StoreError> {
    let conn = connect_writer(dir, now)?;
    let epoch_file = EpochFile::new(dir);
    let database = meta::epoch(&conn)?;
    // A file that cannot be read is one reason to recover; the database's own epoch remains.
    let reached = epoch_file.read().ok().flatten().unwrap_or_default().max(database);
    let epoch = Epoch { incarnation: reached.incarnation + 1, counter: reached.counter + 1 };
    let tokens_killed = writer::alone(&conn, |txn| meta::recover(txn, epoch, actor, now))?;
    epoch_file.write(epoch)?;
    Ok(Recovered { epoch, tokens_killed })
}
