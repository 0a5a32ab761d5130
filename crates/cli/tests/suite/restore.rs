//! A backup that was put back, and a clock that can't be right.

use std::path::Path;

use store::Store;
use types::{Clock, Wall};

use crate::site::*;

fn copy_database(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for name in ["bailiwick.db", "bailiwick.db-wal", "bailiwick.db-shm"] {
        let _ = fs_err::remove_file(to.join(name));
        if from.join(name).exists() {
            fs_err::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_from_before_a_revocation_is_not_served_until_it_is_recovered() {
    let site = Site::new();
    let good = site.device("pump-7");
    let served = site.serve();
    let unused = site.bundle_for("pump-9", &served);
    served.stop();
    copy_database(&site.dir, &site.beside("backup"));
    site.device("pump-8");
    site.run(&["device", "revoke", "pump-8"]).done();
    copy_database(&site.beside("backup"), &site.dir);

    let refused = site.try_serve().err().expect("a restored backup is not served");
    refused.refused(1, &["a backup was put back", "run `bailiwick store recover`"]);
    for args in [&["device", "list"][..], &["token", "create", "pump-7", "--replace"], &["status"]] {
        site.run(args).refused(1, &["a backup was put back", "store recover"]);
    }
    // Without --yes it only says what it would do.
    assert!(site.run(&["store", "recover"]).done().out.contains("do it with --yes"));
    assert!(site.try_serve().is_err());

    let recovered = site.json(&["store", "recover", "--yes"]);
    assert!(recovered["tokens_killed"].as_u64().unwrap() >= 1, "{recovered}");
    let served = site.serve();
    served.client(&site, &good, "pump-7").await.unwrap();
    // The token that was unused at the backup may have been used since: it is dead.
    let bundle = agent::Bundle::parse(&served.moved(&unused)).unwrap();
    let outcome = agent::provision(&site.beside("pump-9"), &bundle, &agent_deps()).await;
    assert!(matches!(outcome, Err(agent::AgentError::Refused { status: 403, .. })), "{outcome:?}");
    // What was issued after the backup is in no ledger, so it is not admitted.
    let mark = served.mark();
    assert!(served.client(&site, &site.beside("files"), "pump-8").await.is_err());
    served.line(mark, "conn.refused", |line| line["reason"] == "trust.not_in_ledger");
    assert_eq!(site.json(&["status"])["epoch"], recovered["epoch"]);
    served.stop();
    site.serve().stop();
}

#[test]
fn an_epoch_file_that_cannot_be_read_is_not_passed_over() {
    let site = Site::new();
    fs_err::write(site.dir.join("epoch"), "soon\n").unwrap();
    let refused = site.try_serve().err().expect("an unreadable epoch file is not passed over");
    refused.refused(1, &["epoch file", "store recover"]);
    site.run(&["store", "recover", "--yes"]).done();
    site.serve().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_behind_the_floor_issues_nothing_admits_nobody_and_readyz_says_why() {
    let site = Site::new();
    let served = site.serve();
    let files = site.device("pump-7");
    let unused = site.bundle_for("pump-8", &served);
    served.stop();
    {
        let now = agent::SystemClock.now();
        let store = Store::open(&site.dir, now).unwrap();
        store.note_time(Wall(now.wall.0 + 86_400_000)).await.unwrap();
    }
    let served = site.serve();
    // Through the server's own socket.
    let ready = http::Request::get("/readyz").header("host", "bailiwick").body(Vec::new()).unwrap();
    let (status, body) = server::ask_socket(&site.layout(), ready).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["reasons"][0]["code"]), (503, &"clock.unsound".into()), "{body}");
    assert!(body["reasons"][0]["detail"].as_str().unwrap().contains("which is before"), "{body}");
    assert_eq!(site.json(&["status"])["not_ready"][0]["code"], "clock.unsound");

    let bundle = agent::Bundle::parse(&served.moved(&unused)).unwrap();
    let outcome = agent::provision(&site.beside("pump-8"), &bundle, &agent_deps()).await;
    assert!(matches!(outcome, Err(agent::AgentError::Refused { status: 503, .. })), "{outcome:?}");
    site.run(&["token", "create", "pump-8"]).refused(1, &["the clock shows", "set it first"]);

    let mark = served.mark();
    assert!(served.client(&site, &files, "pump-7").await.is_err());
    served.line(mark, "conn.refused", |line| line["reason"] == "trust.clock_unsound");
    // Revoking is never refused for the clock.
    site.run(&["device", "revoke", "pump-7"]).done();
    served.stop();
}

#[test]
fn a_sound_clock_is_ready() {
    let site = Site::new();
    let served = site.serve();
    let ready = http::Request::get("/readyz").header("host", "bailiwick").body(Vec::new()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (status, body) = runtime.block_on(server::ask_socket(&site.layout(), ready)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, body), (200, serde_json::json!({"status": "ready", "reasons": []})));
    served.stop();
}
