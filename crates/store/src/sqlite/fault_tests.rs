use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use types::{DeviceId, Epoch, Now, ProjectId, Wall};

use super::{Sqlite, connect_reader, meta, schema, snapshot};
use crate::{Backend, DATABASE_FILE, EPOCH_FILE, NewDevice, Store, StoreError};

fn now() -> Now {
    Now { wall: Wall::from_secs(1_800_000_000), ..Now::default() }
}

fn open(dir: &Path) -> (Store, Arc<Sqlite>) {
    let store = Store::open(dir, now()).unwrap();
    let Backend::Sqlite(db) = &store.0;
    let db = Arc::clone(db);
    (store, db)
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn device(name: &str, label: usize) -> NewDevice {
    let project = ProjectId::parse(ProjectId::DEFAULT).unwrap();
    NewDevice { id: id(name), original: None, project, fleet: None, label: Some("x".repeat(label)) }
}

async fn pragma(db: &Sqlite, sql: &'static str) {
    db.write(move |txn| Ok(txn.conn.execute_batch(sql)?)).await.unwrap();
}

async fn add(store: &Store, name: &str, label: usize) -> Result<(), StoreError> {
    store.device_add(device(name, label), "ada", now()).await.map(|_| ())
}

/// Counters, rows and events say the same number of devices.
async fn assert_whole(store: &Store, devices: u64) {
    let stats = store.stats().await.unwrap();
    let rows = store.devices(None, usize::MAX).await.unwrap().len() as u64;
    let events = store.events_unchained(usize::MAX).await.unwrap();
    let added = events.iter().filter(|(_, _, body)| body.contains("device_added")).count() as u64;
    assert_eq!((stats.devices, rows, added), (devices, devices, devices));
}

#[tokio::test]
async fn a_full_disk_refuses_clearly_leaves_nothing_half_done_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let (store, db) = open(dir.path());
    add(&store, "first", 10).await.unwrap();
    pragma(&db, "PRAGMA max_page_count = 1").await;
    let mut added = 1;
    let error = loop {
        match add(&store, &format!("d{added}"), 3_000).await {
            Ok(()) => added += 1,
            Err(error) => break error,
        }
        assert!(added < 1_000, "the disk never fills");
    };
    assert!(matches!(&error, StoreError::Full { detail } if detail.contains("full")), "{error}");
    assert_eq!((error.code(), error.blame()), ("store.full", types::Blame::Us));
    assert_eq!(store.stats().await.unwrap().write_error, Some(error.to_string()));
    assert_whole(&store, added).await;
    // A revocation that finds no room changes neither rows nor view.
    let names: Vec<_> = (0..500).map(|n| id(&format!("denied-{n}"))).collect();
    let mut denied = 0;
    for name in &names {
        let before = store.view().epoch();
        match store.deny(name, "ada", now()).await {
            Ok(_) => denied += 1,
            Err(error) => {
                assert_eq!(error.code(), "store.full");
                assert_eq!(store.view().epoch(), before);
                assert!(!store.view().is_denied(name));
                break;
            }
        }
    }
    assert!(denied < 500);
    pragma(&db, "PRAGMA max_page_count = 1000000").await;
    add(&store, "last", 3_000).await.unwrap();
    assert_eq!(store.stats().await.unwrap().write_error, None);
    assert_whole(&store, added + 1).await;
    drop((store, db));
    let (store, _db) = open(dir.path());
    assert_whole(&store, added + 1).await;
    assert_eq!(store.view().epoch(), Epoch { incarnation: 0, counter: denied });
}

#[tokio::test]
async fn a_refused_transaction_in_a_full_group_does_not_harm_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _db) = open(dir.path());
    add(&store, "taken", 1).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..400 {
        let store = store.clone();
        let name = if n % 3 == 0 { "TAKEN".to_owned() } else { format!("d{n}") };
        tasks.spawn(async move { (n, add(&store, &name, 10).await) });
    }
    while let Some(answer) = tasks.join_next().await {
        let (n, answer) = answer.unwrap();
        assert_eq!(
            answer.map_err(|error| error.code()),
            if n % 3 == 0 { Err("store.name_taken") } else { Ok(()) }
        );
    }
    assert_whole(&store, 1 + 266).await;
}

#[tokio::test]
async fn a_refusal_that_rests_on_a_change_of_a_failed_group_is_not_told_as_true() {
    let dir = tempfile::tempdir().unwrap();
    let (store, db) = open(dir.path());
    add(&store, "pump", 1).await.unwrap();
    // The writer waits inside one group while the next one gathers behind it.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let beside = Arc::clone(&db);
    let hold = move |_: &mut super::Txn<'_>| {
        let _ = begin.send(());
        Ok(wait.recv().is_ok())
    };
    let held = tokio::spawn(async move { beside.write(hold).await });
    begun.await.unwrap();
    let reason = x509::CrlReason::Unspecified;
    let pump = id("pump");
    let revoke = || store.revoke_device(&pump, reason, "ada", now());
    let (first, second) = (revoke(), revoke());
    // A foreign key that is looked at only at the end makes the commit of the whole group fail.
    let spoil = db.write(|txn| {
        txn.conn.execute_batch("PRAGMA defer_foreign_keys = ON")?;
        Ok(txn.conn.execute("UPDATE principal SET id = id + 100", [])?)
    });
    let gather = async {
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    };
    let (first, second, spoiled, ()) = tokio::join!(first, second, spoil, gather);
    assert_eq!(held.await.unwrap(), Ok(true));
    for answer in [first.map(|_| ()), second.map(|_| ()), spoiled.map(|_| ())] {
        assert_eq!(answer.as_ref().map_err(StoreError::code), Err("store.database"), "{answer:?}");
    }
    assert!(!store.view().is_denied(&pump));
    store.revoke_device(&pump, reason, "ada", now()).await.unwrap();
}

#[tokio::test]
async fn a_read_only_database_refuses_every_change_and_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (store, db) = open(dir.path());
    add(&store, "pump", 1).await.unwrap();
    pragma(&db, "PRAGMA query_only = ON").await;
    let reason = x509::CrlReason::Unspecified;
    let answers = [
        add(&store, "other", 1).await,
        store.revoke_device(&id("pump"), reason, "ada", now()).await.map(|_| ()),
        store.deny(&id("pump"), "ada", now()).await.map(|_| ()),
        store.note_time(now().wall).await,
        store.lease("chain", "a", now().wall, now()).await.map(|_| ()),
    ];
    for answer in answers {
        assert_eq!(answer.as_ref().map_err(StoreError::code), Err("store.read_only"), "{answer:?}");
    }
    assert_eq!(store.view().epoch(), Epoch::default());
    assert!(store.device(&id("pump")).await.unwrap().is_some());
    drop((store, db));
    let (store, _db) = open(dir.path());
    store.revoke_device(&id("pump"), reason, "ada", now()).await.unwrap();
    assert_whole(&store, 1).await;
}

#[tokio::test]
async fn an_epoch_file_that_cannot_be_written_is_reported_and_the_revocation_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _db) = open(dir.path());
    // A folder in the place of the fresh file: it cannot be created, nor its content renamed.
    fs_err::create_dir(dir.path().join("epoch.new")).unwrap();
    store.deny(&id("pump"), "ada", now()).await.unwrap();
    assert!(store.view().is_denied(&id("pump")));
    let error = store.stats().await.unwrap().epoch_file_error.unwrap();
    assert!(error.contains("epoch.new"), "{error}");
    assert_eq!(fs_err::read_to_string(dir.path().join(EPOCH_FILE)).unwrap(), "0 0\n");
    fs_err::remove_dir(dir.path().join("epoch.new")).unwrap();
    store.deny(&id("valve"), "ada", now()).await.unwrap();
    assert_eq!(store.stats().await.unwrap().epoch_file_error, None);
    assert_eq!(fs_err::read_to_string(dir.path().join(EPOCH_FILE)).unwrap(), "0 2\n");
}

#[tokio::test]
async fn another_process_that_holds_the_database_is_named_as_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (store, db) = open(dir.path());
    pragma(&db, "PRAGMA busy_timeout = 10").await;
    let other = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = add(&store, "pump", 1).await;
    assert_eq!(answer.as_ref().map_err(StoreError::code), Err("store.locked"), "{answer:?}");
    assert_eq!(store.device(&id("pump")).await.unwrap(), None, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    add(&store, "pump", 1).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_the_writer_closes_the_store_and_grants_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, db) = open(dir.path());
    let fate = db.write(|_| -> Result<(), StoreError> { panic!("a bug") }).await;
    assert_eq!(fate, Err(StoreError::Closed));
    assert_eq!(add(&store, "pump", 1).await, Err(StoreError::Closed));
    drop((store, db));
    let (store, _db) = open(dir.path());
    assert_whole(&store, 0).await;
}

#[tokio::test]
async fn a_damaged_value_is_an_error_and_never_a_permission() {
    let dir = tempfile::tempdir().unwrap();
    let (store, db) = open(dir.path());
    add(&store, "pump", 1).await.unwrap();
    pragma(&db, "UPDATE principal SET standing = 9").await;
    let answer = store.device(&id("pump")).await;
    assert_eq!(answer, Err(StoreError::Corrupt { detail: "standing \"9\" is none".to_owned() }));
    pragma(&db, "UPDATE principal SET standing = 0, name = 'a/b'").await;
    let answer = store.device(&id("pump")).await;
    assert_eq!(answer, Err(StoreError::Corrupt { detail: "name \"a/b\" is none".to_owned() }));
}

#[test]
fn a_migration_that_fails_leaves_the_old_schema() {
    let conn = Connection::open_in_memory().unwrap();
    // A table in the way of the migration's last statement.
    conn.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    conn.execute_batch(
        "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)",
    )
    .unwrap();
    conn.execute("INSERT INTO schema_version VALUES (0, 0)", []).unwrap();
    let error = schema::migrate(&conn, "memory", now()).unwrap_err();
    assert_eq!(error.code(), "store.database");
    assert!(conn.is_autocommit(), "the transaction is over");
    let meta: bool = conn
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'meta')", [], |row| row.get(0))
        .unwrap();
    assert!(!meta);
}

#[test]
fn migrating_twice_is_migrating_once() {
    let conn = Connection::open_in_memory().unwrap();
    for _ in 0..2 {
        schema::migrate(&conn, "memory", now()).unwrap();
    }
    assert_eq!(meta::epoch(&conn), Ok(Epoch::default()));
    let versions: i64 =
        conn.query_row("SELECT max(version) FROM schema_version", [], |row| row.get(0)).unwrap();
    assert_eq!(versions, schema::known());
}

/// The look-ups on the paths of connections and requests use an index each; none reads a table.
#[test]
fn no_statement_of_a_hot_path_scans_a_table() {
    let conn = Connection::open_in_memory().unwrap();
    schema::migrate(&conn, "memory", now()).unwrap();
    for sql in [
        "SELECT 1 FROM certificate c JOIN principal p ON p.id = c.principal
           LEFT JOIN device d ON d.folded = p.folded WHERE c.der_hash = x'00'",
        "SELECT 1 FROM token WHERE id = 'x'",
        "SELECT 1 FROM token WHERE principal = 1 ORDER BY number",
        "SELECT 1 FROM intent WHERE token = 1",
        "SELECT id FROM intent WHERE state = 0 AND principal = 1",
        "SELECT 1 FROM certificate WHERE principal = 1 AND state < 4 ORDER BY id",
        "SELECT 1 FROM certificate WHERE intent = (SELECT id FROM intent WHERE token = 1) AND state < 4 ORDER BY id",
        "SELECT 1 FROM certificate WHERE issuer = x'00' AND serial = x'00'",
        "SELECT serial FROM certificate WHERE issuer = x'00' AND state >= 3 AND not_after >= 5 ORDER BY serial",
        "SELECT principal FROM device WHERE folded > '' ORDER BY folded LIMIT 9",
        "SELECT 1 FROM principal p WHERE p.folded > '' AND p.kind <> 0 ORDER BY p.folded LIMIT 9",
        "SELECT id FROM certificate_order WHERE state = 0 ORDER BY id",
        "SELECT seq FROM event_log WHERE seq > 4 ORDER BY seq LIMIT 9",
        "UPDATE token SET state = 3 WHERE state = 0",
    ] {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        for step in &plan {
            let scans = step.starts_with("SCAN") && !step.contains("USING");
            assert!(!scans && !step.contains("TEMP B-TREE"), "{sql}: {plan:?}");
        }
    }
}

/// Makes SQLite refuse to prepare a COMMIT, or not.
fn deny_commits(conn: &mut Connection, deny: bool) {
    let hook = move |context: AuthContext<'_>| match context.action {
        // The one word of its kind that rusqlite has no name for.
        AuthAction::Transaction { operation } if deny && format!("{operation:?}") == "Unknown" => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    };
    conn.authorizer(Some(hook)).unwrap();
}

#[tokio::test]
async fn a_read_whose_end_fails_leaves_no_old_state_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _db) = open(dir.path());
    let mut conn = connect_reader(dir.path()).unwrap();
    let devices = |conn: &Connection| -> Result<i64, StoreError> {
        Ok(conn.query_row("SELECT count(*) FROM principal", [], |row| row.get(0))?)
    };
    deny_commits(&mut conn, true);
    assert_eq!(snapshot(&conn, devices), Ok(0));
    assert!(conn.is_autocommit());
    add(&store, "pump", 1).await.unwrap();
    assert_eq!(devices(&conn), Ok(1));
    deny_commits(&mut conn, false);
    assert_eq!(snapshot(&conn, devices), Ok(1));
}
