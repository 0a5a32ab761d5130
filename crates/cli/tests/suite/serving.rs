//! `serve`: what stops it from starting, how it stops, and what is there after it was killed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::site::*;

#[test]
fn an_unlock_secret_that_others_can_read_is_refused() {
    let site = Site::new();
    let secret = site.layout().unlock_secret();
    for mode in [0o644, 0o640, 0o604] {
        fs_err::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
        for args in [&["serve"][..], &["serve", "--check"], &["device", "list"]] {
            let said = format!("unlock.secret: mode {mode:04o} lets others read it; make it 0600");
            site.run(args).refused(1, &[&said]);
        }
    }
    fs_err::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    site.run(&["serve", "--check"]).done();
}

#[test]
fn a_wrong_unlock_secret_is_named_without_being_shown() {
    let site = Site::new();
    let secret = site.layout().unlock_secret();
    fs_err::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let ran = site.run(&["serve"]);
    ran.refused(1, &["keys/devices.key.pem"]);
    assert!(!ran.err.contains("0123456789abcdef"), "{ran:?}");
}

#[test]
fn a_taken_port_is_named_with_the_setting_to_change() {
    for listener in ["mqtt", "devices", "admin", "plain"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let site = Site::new();
        let config = site.layout().config();
        let text = fs_err::read_to_string(&config).unwrap();
        let changed =
            text.replace(&format!("{listener} = \"127.0.0.1:0\""), &format!("{listener} = \"{address}\""));
        assert_ne!(changed, text);
        fs_err::write(&config, changed).unwrap();
        let ran = site.run(&["serve"]);
        ran.refused(
            1,
            &[
                &format!("listener {listener}: cannot listen on {address}: "),
                &format!("change listeners.{listener} in {}", config.display()),
            ],
        );
        assert!(!ran.err.contains("server.started"), "{ran:?}");
        drop(taken);
        site.serve().stop();
    }
}

#[test]
fn a_second_serve_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let site = Site::new();
    let served = site.serve();
    site.run(&["serve"]).refused(1, &["is in use by another process, which holds the lock"]);
    site.run(&["store", "recover", "--yes"]).refused(1, &["is in use by another process"]);
    assert_eq!(site.json(&["device", "list"])["devices"], Value::Array(Vec::new()));
    served.stop();
    site.serve().stop();
}

#[test]
fn a_check_reads_everything_opens_nothing_and_works_beside_a_running_server() {
    let site = Site::new();
    assert_eq!(site.run(&["serve", "--check"]).done().out, "configuration, rules and keys are in order\n");
    assert!(!site.layout().socket().exists());
    let served = site.serve();
    assert_eq!(site.json(&["serve", "--check"]), serde_json::json!({"checked": true}));
    served.stop();
    let key = site.layout().key("services");
    fs_err::copy(site.layout().key("devices"), &key).unwrap();
    site.run(&["serve", "--check"]).refused(1, &["services.key.pem: is not the key of", "services.crt"]);
}

#[test]
fn a_stop_in_order_says_so_exits_0_and_leaves_neither_socket_nor_addresses() {
    for (signal, why) in [(Signal::TERM, "terminate"), (Signal::INT, "interrupt")] {
        let site = Site::new();
        let served = site.serve();
        assert!(site.layout().socket().exists());
        assert_eq!(fs_err::metadata(site.layout().socket()).unwrap().permissions().mode() & 0o777, 0o600);
        let (code, log) = served.end(signal);
        assert_eq!(code, 0, "{log}");
        let stopped: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!((&stopped["code"], &stopped["reason"]), (&"server.stopped".into(), &why.into()), "{log}");
        assert!(!site.layout().socket().exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_live_sessions_and_is_not_kept_waiting_by_them() {
    let site = Site::new();
    let files = site.device("pump-7");
    let served = site.serve();
    let mut wire = served.client(&site, &files, "pump-7").await.unwrap();
    // A client that says nothing at all, in the middle of its handshake.
    let silent = std::net::TcpStream::connect(served.mqtt).unwrap();
    let mut held = tokio::net::TcpStream::connect(served.admin).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut held, &[0x16]).await.unwrap();
    served.stop();
    wire.ended().await.unwrap();
    drop((silent, held));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_devices_connect_and_tokens_and_ledger_are_there() {
    let site = Site::new();
    let served = site.serve();
    let files = site.device("pump-7");
    let gone = site.device("pump-8");
    let bundle_text = site.bundle_for("pump-9", &served);
    site.run(&["device", "revoke", "pump-8"]).done();
    let before = site.json(&["device", "show", "pump-7"]);
    let live = served.client(&site, &files, "pump-7").await.unwrap();
    served.end(Signal::KILL);
    drop(live);
    assert!(site.layout().socket().exists(), "nobody was there to remove it");

    let served = site.serve();
    let after = site.json(&["device", "show", "pump-7"]);
    assert_eq!(before["certificates"][0]["fingerprint"], after["certificates"][0]["fingerprint"]);
    assert_eq!(after["certificates"][0]["state"], "active");
    served.client(&site, &files, "pump-7").await.unwrap();
    let mark = served.mark();
    assert!(served.client(&site, &gone, "pump-8").await.is_err());
    served.line(mark, "conn.refused", |line| line["reason"] == "trust.revoked");
    // The token of before is good for the first boot after; the ports are others now.
    let bundle = agent::Bundle::parse(&served.moved(&bundle_text)).unwrap();
    let made = agent::provision(&site.beside("pump-9"), &bundle, &agent_deps()).await.unwrap();
    assert_eq!(made.device_id.as_str(), "pump-9");
    served.stop();
}

#[test]
fn everything_but_the_root_works_when_the_root_key_is_detached() {
    let site = Site::new();
    let medium = site.beside("medium");
    let said = site.run(&["ca", "root", "detach", medium.to_str().unwrap()]).done();
    assert!(said.out.contains("serve runs without it"), "{said:?}");
    assert!(!site.layout().root_key().exists());
    let key = medium.join("root.key.pem");
    assert_eq!(fs_err::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(signer::FileKey::load(&key, Some(&types::Secret::new(PASSPHRASE.into()))).is_ok());
    site.run(&["ca", "root", "detach", medium.to_str().unwrap()]).refused(1, &["is detached already"]);

    site.run(&["serve", "--check"]).done();
    let served = site.serve();
    site.device("pump-7");
    site.service("reader");
    site.run(&["token", "create", "pump-7", "--replace"]).done();
    site.run(&["device", "revoke", "pump-7"]).done();
    assert_eq!(site.json(&["ca", "status"])["root_key_attached"], false);
    served.stop();
    assert_eq!(site.json(&["ca", "status"])["root_key_attached"], false);
}

#[test]
fn a_root_key_is_never_moved_over_another_file() {
    let site = Site::new();
    let medium = site.beside("medium");
    fs_err::create_dir(&medium).unwrap();
    fs_err::write(medium.join("root.key.pem"), "another root").unwrap();
    let before = picture(&site.dir);
    site.run(&["ca", "root", "detach", medium.to_str().unwrap()])
        .refused(1, &["is there already; nothing was moved"]);
    assert_eq!(fs_err::read_to_string(medium.join("root.key.pem")).unwrap(), "another root");
    assert_eq!(picture(&site.dir), before);
}

#[test]
fn commands_give_the_same_data_with_and_without_a_running_server() {
    let site = Site::new();
    site.device("pump-7");
    site.run(&["device", "add", "pump-8", "--project", "default", "--fleet", "north", "--label", "roof"])
        .done();
    site.service("reader");
    site.run(&["token", "create", "pump-8"]).done();
    site.run(&["device", "suspend", "pump-7"]).done();
    let commands: [&[&str]; 9] = [
        &["device", "list"],
        &["device", "show", "pump-7"],
        &["device", "show", "pump-8"],
        &["token", "list", "pump-8"],
        &["operator", "list"],
        &["client", "list"],
        &["ca", "status"],
        &["policy", "explain", "pump-7", "publish", "devices/pump-7/telemetry/environment"],
        &["device", "show", "nobody"],
    ];
    let all = |site: &Site| -> Vec<(i32, String)> {
        commands
            .iter()
            .map(|args| site.run(&[&["--json"], *args].concat()))
            .map(|ran| (ran.code, ran.out))
            .collect()
    };
    let alone = all(&site);
    let said = site.run(&["device", "list"]).err;
    assert!(said.contains("no server is running; using the store in"), "{said}");
    let served = site.serve();
    assert_eq!(all(&site), alone);
    let said = site.run(&["device", "list"]).err;
    assert_eq!(said, "");
    served.stop();
    assert_eq!(all(&site), alone);
}
