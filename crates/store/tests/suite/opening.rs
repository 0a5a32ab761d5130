use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;
use store::{DATABASE_FILE, EPOCH_FILE, Store, StoreError, TokenAnswer, TokenRefusal, TokenState};
use trust::CertState;
use types::{Blame, Epoch};
use x509::CrlReason;

use crate::place::*;

fn refused(place: &Place) -> StoreError {
    match place.try_open() {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_new_store_is_empty_and_readable_by_its_user_only() {
    let place = Place::fresh();
    let store = place.open();
    assert_eq!(store.view().epoch(), Epoch::default());
    assert_eq!(store.view().anchors().len(), 0);
    assert_eq!(store.device_count().await, Ok(0));
    let mode = fs_err::metadata(place.path().join(DATABASE_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    add(&store, "pump").await;
    let wal = place.path().join(format!("{DATABASE_FILE}-wal"));
    assert_eq!(fs_err::metadata(wal).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let place = Place::fresh();
    let error = Store::open(&place.path().join("gone"), now(0)).err().unwrap();
    assert!(matches!(&error, StoreError::Io { detail } if detail.contains("gone")), "{error}");
    assert_eq!((error.blame(), error.code()), (Blame::Us, "store.io"));
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Place::fresh();
    drop(place.open());
    let conn = Connection::open(place.path().join(DATABASE_FILE)).unwrap();
    conn.execute("INSERT INTO schema_version VALUES (2, 0)", []).unwrap();
    drop(conn);
    let error = refused(&place);
    assert_eq!(error, StoreError::Newer { found: 2, known: 1 });
    assert_eq!(
        error.to_string(),
        "the database has schema 2, this release knows up to 1; run the newer release"
    );
}

#[test]
fn a_file_of_another_program_is_refused_and_not_touched() {
    let place = Place::fresh();
    let path = place.path().join(DATABASE_FILE);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    drop(conn);
    let before = fs_err::read(&path).unwrap();
    assert_eq!(refused(&place), StoreError::Foreign { path: path.display().to_string() });
    assert_eq!(fs_err::read(&path).unwrap(), before);
    fs_err::write(&path, "this is no database, but a text of more than one hundred bytes ".repeat(20))
        .unwrap();
    let error = refused(&place);
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn the_database_of_schema_1_opens_with_all_that_it_held() {
    let place = Place::fresh();
    let conn = Connection::open(place.path().join(DATABASE_FILE)).unwrap();
    conn.execute_batch(include_str!("fixtures/schema_1.sql")).unwrap();
    drop(conn);
    fs_err::write(place.path().join(EPOCH_FILE), "0 6\n").unwrap();
    let store = place.open();
    let view = store.view();
    assert_eq!(view.epoch(), Epoch { incarnation: 0, counter: 6 });
    assert_eq!(view.anchors().len(), 3);
    assert!(view.is_denied(&id("gone")) && view.is_denied(&id("stranger")));
    let state = async |n| store.admission(hash_of(&der(n, 1))).await.unwrap().unwrap().state;
    assert_eq!(state(1).await, CertState::Active);
    assert_eq!(state(2).await, CertState::Revoked);
    assert_eq!(state(3).await, CertState::Suspended);
    assert_eq!(state(4).await, CertState::Unconfirmed);
    assert!(matches!(check(&store, "waiting", key(4)).await, TokenAnswer::Bound { .. }));
    assert_eq!(refusal(&store, "free", key(9)).await, None);
    let unfinished = store.unfinished_intents().await.unwrap();
    assert_eq!((unfinished.len(), unfinished[0].tbs.clone()), (1, tbs(5)));
    assert_eq!(store.chain_head().await.unwrap().seq, 4);
    assert_eq!(store.orders_open().await.unwrap().len(), 1);
    assert_eq!(store.crl(ca_rows()[1].id).await.unwrap().unwrap().number, 1);
    assert_eq!(store.time_floor(), at(100));
    assert_eq!(store.stats().await.unwrap().devices, 6);
}

#[tokio::test]
async fn a_restored_backup_is_refused_until_it_is_recovered() {
    let place = Place::fresh();
    let store = place.open();
    for row in &ca_rows()[..2] {
        store.ca_add(row.clone(), now(0)).await.unwrap();
    }
    let devices_ca = ca_rows()[1].id;
    for _ in 0..3 {
        store.crl_next_number(devices_ca).await.unwrap();
    }
    live_device(&store, "pump", 1, key(1)).await;
    add(&store, "new").await;
    make_token(&store, "unused", "new").await;
    make_token(&store, "bound", "new").await;
    issue(&store, "bound", "new", 2, key(2)).await;
    let backup = place.copy();
    // What happens after the backup is lost with the restore.
    store.revoke_device(&id("pump"), CrlReason::KeyCompromise, "ada", now(9)).await.unwrap();
    let reached = store.view().epoch();
    drop(store);
    fs_err::copy(place.path().join(EPOCH_FILE), backup.path().join(EPOCH_FILE)).unwrap();
    let error = refused(&backup);
    let database = Epoch { incarnation: 0, counter: 1 };
    assert_eq!(error, StoreError::Restored { database, file: reached });
    assert_eq!((error.blame(), error.code()), (Blame::Operator, "store.restored"));
    assert!(error.to_string().contains("`bailiwick store recover`"), "{error}");

    let recovered = Store::recover(backup.path(), "ada", now(20)).unwrap();
    assert_eq!(recovered.epoch, Epoch { incarnation: 1, counter: 3 });
    assert_eq!(recovered.tokens_killed, 1);
    let store = backup.open();
    assert_eq!(store.view().epoch(), recovered.epoch);
    assert!(store.view().epoch() > reached);
    assert_eq!(refusal(&store, "unused", key(3)).await, Some(TokenRefusal::Revoked));
    assert!(matches!(check(&store, "bound", key(2)).await, TokenAnswer::Bound { .. }));
    assert_eq!(store.crl_next_number(devices_ca).await, Ok((1 << 32) + 1));
    assert_eq!(words(&store, 0).await.last().unwrap(), "alert");
    let raised = store.deny(&id("x"), "ada", now(21)).await.unwrap().epoch;
    assert_eq!(raised, Epoch { incarnation: 1, counter: 4 });
}

#[tokio::test]
async fn a_lost_database_is_noticed_by_the_epoch_that_is_left() {
    let place = Place::fresh();
    let store = place.open();
    store.deny(&id("x"), "ada", now(1)).await.unwrap();
    drop(store);
    fs_err::remove_file(place.path().join(DATABASE_FILE)).unwrap();
    let file = Epoch { incarnation: 0, counter: 1 };
    assert_eq!(refused(&place), StoreError::Restored { database: Epoch::default(), file });
}

#[tokio::test]
async fn an_epoch_file_that_lags_is_brought_up_to_the_database_and_a_wrong_one_is_refused() {
    let place = Place::fresh();
    let store = place.open();
    for n in 0..3 {
        store.deny(&id(&format!("d{n}")), "ada", now(1)).await.unwrap();
    }
    drop(store);
    let path = place.path().join(EPOCH_FILE);
    // A crash between commit and file leaves the file one behind.
    fs_err::write(&path, "0 2\n").unwrap();
    drop(place.open());
    assert_eq!(fs_err::read_to_string(&path).unwrap(), "0 3\n");
    fs_err::write(&path, "three\n").unwrap();
    let error = refused(&place);
    assert!(matches!(error, StoreError::EpochFile { .. }), "{error}");
    let recovered = Store::recover(place.path(), "ada", now(2)).unwrap();
    assert_eq!(recovered.epoch, Epoch { incarnation: 1, counter: 4 });
    assert_eq!(place.open().view().epoch(), recovered.epoch);
}

#[tokio::test]
async fn a_database_without_its_epoch_file_is_taken_for_a_restored_one() {
    let place = Place::fresh();
    // A crash between the first migration and the file leaves a database that has seen nothing.
    drop(place.open());
    let path = place.path().join(EPOCH_FILE);
    fs_err::remove_file(&path).unwrap();
    let store = place.open();
    store.deny(&id("x"), "ada", now(1)).await.unwrap();
    drop(store);
    // Put back into an empty folder, a backup comes without the file that would give it away.
    fs_err::remove_file(&path).unwrap();
    assert_eq!(
        refused(&place).to_string(),
        format!(
            "epoch file {}: it is gone, and the database has reached epoch 1; \
             run `bailiwick store recover`, which kills unused tokens",
            path.display()
        )
    );
    assert!(!path.exists());
    let recovered = Store::recover(place.path(), "ada", now(2)).unwrap();
    assert_eq!(recovered.epoch, Epoch { incarnation: 1, counter: 2 });
    assert_eq!(place.open().view().epoch(), recovered.epoch);
}

#[tokio::test]
async fn a_crash_between_intent_and_record_loses_neither_token_nor_device() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    let before_intent = place.copy();
    let receipt = intend(&store, "t", "pump", 1, key(1)).await;
    let between = place.copy();
    store.record_certificate(receipt, &der(1, 1), now(2)).await.unwrap();
    let recorded = place.copy();
    store.confirm(hash_of(&der(1, 1)), now(3)).await.unwrap();
    let confirmed = place.copy();
    drop(store);

    let store = before_intent.open();
    assert!(matches!(check(&store, "t", key(1)).await, TokenAnswer::Unused { .. }));
    assert_eq!(store.unfinished_intents().await.unwrap().len(), 0);

    let store = between.open();
    assert_eq!(refusal(&store, "t", key(2)).await, Some(TokenRefusal::OtherKey));
    let TokenAnswer::Bound { device, certificate_der, intent } = check(&store, "t", key(1)).await else {
        panic!("the token is not bound");
    };
    assert_eq!((device, certificate_der), (id("pump"), None));
    assert_eq!((intent.tbs.clone(), intent.spki, intent.not_after), (tbs(1), key(1), at(31_536_000)));
    assert_eq!((intent.issuer_label.as_str(), intent.receipt.cert()), ("devices", cert(1)));
    let unfinished = store.unfinished_intents().await.unwrap();
    assert_eq!(unfinished[0].receipt, intent.receipt);
    assert_eq!(unfinished[0].principal.as_ref().unwrap().name, id("pump"));
    // The same bytes, signed again: another signature, the same serial.
    store.record_certificate(intent.receipt, &der(1, 2), now(9)).await.unwrap();
    assert_eq!(store.unfinished_intents().await.unwrap().len(), 0);
    store.confirm(hash_of(&der(1, 2)), now(10)).await.unwrap();

    let store = recorded.open();
    match check(&store, "t", key(1)).await {
        TokenAnswer::Bound { certificate_der, .. } => assert_eq!(certificate_der, Some(der(1, 1))),
        other => panic!("{other:?}"),
    }
    let store = confirmed.open();
    assert_eq!(refusal(&store, "t", key(1)).await, Some(TokenRefusal::Spent));
}

#[tokio::test]
async fn a_write_ahead_log_cut_at_any_byte_shows_whole_transactions_only() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    make_replacing_token(&store, "next", "pump").await;
    issue(&store, "next", "pump", 2, key(2)).await;
    store.confirm(hash_of(&der(2, 1)), now(6)).await.unwrap();
    store.revoke_device(&id("pump"), CrlReason::KeyCompromise, "ada", now(7)).await.unwrap();
    let crashed = place.copy();
    drop(store);
    let log = fs_err::read(crashed.path().join(format!("{DATABASE_FILE}-wal"))).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..=60 {
        let cut = crashed.copy();
        let kept = log.len() * step / 60;
        fs_err::write(cut.path().join(format!("{DATABASE_FILE}-wal")), &log[..kept]).unwrap();
        fs_err::remove_file(cut.path().join(format!("{DATABASE_FILE}-shm"))).unwrap();
        // The epoch file would notice the loss; here it is the database's own order that is looked at.
        fs_err::write(cut.path().join(EPOCH_FILE), "0 0\n").unwrap();
        let store = cut.open();
        seen.insert(whole(&store).await);
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

/// Checks that the rows agree with each other, and says how far the story has come.
async fn whole(store: &Store) -> String {
    let Some(row) = store.device(&id("pump")).await.unwrap() else {
        assert_eq!(events(store).await, 0);
        return "nothing".to_owned();
    };
    let revoked = row.certificates.iter().filter(|row| row.state == CertState::Revoked).count();
    assert_eq!(store.view().revoked_len(), revoked);
    let gone = matches!(row.standing, store::Standing::Revoked(_));
    assert_eq!(gone, row.denied);
    assert_eq!(gone, store.view().is_denied(&id("pump")));
    assert_eq!(store.view().epoch().counter, u64::from(gone) + u64::from(revoked > 0));
    let unfinished = store.unfinished_intents().await.unwrap().len();
    let bound = |row: &&store::TokenRow| !matches!(row.state, TokenState::Unused);
    assert_eq!(row.certificates.len() + unfinished, row.tokens.iter().filter(bound).count());
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.events, events(store).await as u64);
    assert_eq!((stats.devices, stats.certificates), (1, row.certificates.len() as u64));
    assert_eq!((stats.tokens, stats.revoked), (row.tokens.len() as u64, revoked as u64));
    format!("{} events, {} certificates, {revoked} revoked", stats.events, row.certificates.len())
}

#[tokio::test]
async fn a_store_that_is_dropped_has_finished_what_was_asked() {
    let place = Place::fresh();
    let store = place.open();
    for n in 0..100 {
        // The caller goes away at once; the transaction stands or not, but whole.
        let adding = {
            let store = store.clone();
            tokio::spawn(async move { add(&store, &format!("d{n}")).await })
        };
        tokio::task::yield_now().await;
        adding.abort();
        let _ = adding.await;
    }
    drop(store);
    let store = place.open();
    let devices = store.devices(None, 200).await.unwrap().len() as u64;
    assert_eq!((store.device_count().await, store.stats().await.unwrap().events), (Ok(devices), devices));
}

#[test]
fn errors_speak_of_their_subject_in_the_houses_style() {
    let samples = [
        StoreError::UnknownDevice { id: "pump".to_owned() },
        StoreError::NameTaken { name: "ada".to_owned(), kind: types::PrincipalKind::Operator },
        StoreError::AlreadyRevoked { name: "pump".to_owned(), epoch: Epoch { incarnation: 1, counter: 7 } },
        StoreError::TokenLost { id: "t".to_owned() },
        StoreError::KeyShared,
        StoreError::Closed,
    ];
    let texts = samples.map(|error| {
        assert!(error.code().starts_with("store."));
        error.to_string()
    });
    assert_eq!(
        texts,
        [
            "device \"pump\" is not registered",
            "name \"ada\" is taken by the operator of that name",
            "\"pump\" was already revoked, epoch 1.7",
            "token \"t\" is no longer usable for this request",
            "the key is certified for another name",
            "the store is closed",
        ]
    );
}
