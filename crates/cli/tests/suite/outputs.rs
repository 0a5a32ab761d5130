//! Exit codes, JSON, the log of the server and the chained log: what scripts and people read.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::site::*;

#[test]
fn exit_codes_are_0_done_1_failed_2_usage_3_denied() {
    let site = Site::new();
    site.run(&["device", "add", "pump-7"]).done();
    for (code, args) in [
        (0, &["device", "list"][..]),
        (0, &["--help"]),
        (0, &["--version"]),
        (1, &["device", "show", "nobody"]),
        (1, &["device", "add", "pump-7"]),
        (2, &[]),
        (2, &["device"]),
        (2, &["device", "lst"]),
        (2, &["device", "show"]),
        (2, &["device", "show", "a b"]),
        (2, &["device", "list", "--limit", "many"]),
        (2, &["init"]),
        (2, &["init", "--host", "localhost", "--mqtt", "nowhere"]),
        (3, &["policy", "explain", "pump-7", "subscribe", "#"]),
    ] {
        let ran = site.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn the_folder_may_come_from_the_environment_and_the_option_wins() {
    let site = Site::new();
    site.run(&["device", "add", "pump-7"]).done();
    let listed = |command: &mut std::process::Command| ran(command.args(["device", "list"]));
    let from_environment = listed(bailiwick().env("BAILIWICK_DIR", &site.dir));
    assert!(from_environment.done().out.contains("pump-7"));
    let wins = listed(bailiwick().env("BAILIWICK_DIR", "/nonexistent").arg("--dir").arg(&site.dir));
    assert!(wins.done().out.contains("pump-7"));
}

#[test]
fn every_command_with_json_prints_one_json_value() {
    let site = Site::new();
    let served = site.serve();
    let export = site.beside("export");
    let medium = site.beside("medium");
    for args in [
        &["device", "add", "pump-7"][..],
        &["device", "add", "pump-8", "--out", "files"],
        &["device", "list"],
        &["device", "show", "pump-7"],
        &["token", "create", "pump-7"],
        &["token", "list", "pump-7"],
        &["device", "suspend", "pump-8"],
        &["device", "restore", "pump-8"],
        &["device", "revoke", "pump-8"],
        &["service", "add", "reader", "--out", "files"],
        &["operator", "add", "ada", "--out", "files"],
        &["operator", "list"],
        &["client", "list"],
        &["client", "refused"],
        &["policy", "check"],
        &["policy", "explain", "pump-7", "publish", "devices/pump-7/status"],
        &["ca", "status"],
        &["ca", "export", export.to_str().unwrap()],
        &["ca", "root", "detach", medium.to_str().unwrap()],
        &["log", "show"],
        &["status"],
        &["reload"],
        &["serve", "--check"],
        &["store", "recover"],
    ] {
        let ran = site.run(&[&["--json"], args].concat());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        assert!(ran.json().is_object(), "{args:?}: {ran:?}");
        assert_eq!(ran.out.lines().count(), 1, "{args:?}: {ran:?}");
    }
    served.stop();
}

#[test]
fn a_reader_that_stops_reading_is_no_crash() {
    let site = Site::new();
    for args in [&["device", "list"][..], &["--json", "status"], &["device", "show", "admin-7"]] {
        let mut child = site.command(args).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!err.contains("panicked"), "{args:?}: {err}");
        assert_ne!(output.status.code(), Some(101), "{args:?}");
    }
}

#[test]
fn the_chained_log_shows_who_did_what_and_pages_by_number() {
    let site = Site::new();
    let served = site.serve();
    site.device("pump-7");
    site.run(&["device", "revoke", "pump-7"]).done();
    // The chain follows within a second; until then the page ends earlier.
    let all = (0..600)
        .find_map(|_| {
            let all = site.json(&["log", "show"])["events"].as_array().unwrap().clone();
            all.iter().any(|row| row.to_string().contains("certificate_revoked")).then_some(all)
        })
        .expect("the revocation is in the chain");
    let text = Value::Array(all.clone()).to_string();
    for word in ["device_added", "token_created", "certificate_issued", "ca_created", "operator_added"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let seqs: Vec<u64> = all.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.last().copied().unwrap()).collect::<Vec<_>>());
    let page = site.json(&["log", "show", "--after", "2", "--limit", "3"]);
    let page: Vec<u64> =
        page["events"].as_array().unwrap().iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert_eq!(page, [3, 4, 5]);
    let lines = site.run(&["log", "show"]).done().out;
    for (line, seq) in lines.lines().zip(1..) {
        assert!(line.starts_with(&format!("{seq}  20")), "{line}");
    }
    let verified = site.run(&["log", "verify"]).done().out;
    assert!(verified.contains("each linked to the one before"), "{verified}");
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_the_log_of_the_server_whatever_happens() {
    let site = Site::new();
    let config = site.layout().config();
    let text = fs_err::read_to_string(&config).unwrap();
    fs_err::write(&config, text + "\n[log]\nlevel = \"debug\"\n").unwrap();
    let served = site.serve();
    let files = site.device("pump-7");
    site.service("reader");
    let used = site.bundle_for("pump-8", &served);
    let kept = site.bundle_for("pump-9", &served);
    let home = site.beside("pump-8");
    let parsed = agent::Bundle::parse(&used).unwrap();
    agent::provision(&home, &parsed, &agent_deps()).await.unwrap();
    assert!(agent::provision(&site.beside("thief"), &parsed, &agent_deps()).await.is_err());
    let _live = served.client(&site, &files, "pump-7").await.unwrap();
    site.run(&["device", "revoke", "pump-7"]).done();
    assert!(served.client(&site, &files, "pump-7").await.is_err());
    // Broken requests that carry a token.
    let token = kept.split('@').next().unwrap();
    let client = tls::http::Client::new(
        tls::Connector::new(
            &[site.root()],
            None,
            std::sync::Arc::new(agent::SystemClock),
            vec![b"http/1.1".to_vec()],
        )
        .unwrap(),
        "localhost",
        served.devices.port(),
    );
    for body in
        [serde_json::json!({"token": token, "csr": "no request"}), serde_json::json!({"token": token})]
    {
        assert_eq!(client.post_json("/provision", &body).await.unwrap().status, 400);
    }
    let _ = client.get(&format!("/provision?token={token}")).await;
    let _ = client.get(&format!("/{token}")).await;

    let mut secrets = vec![PASSPHRASE.to_owned()];
    secrets.push(fs_err::read_to_string(site.layout().unlock_secret()).unwrap());
    for bundle in [&used, &kept] {
        secrets.push(bundle.split(['.', '@']).nth(2).unwrap().to_owned());
    }
    let keys = [
        files.join("pump-7.key"),
        files.join("reader.key"),
        agent::Home::new(&home).key_file(),
        site.layout().key("devices"),
        site.layout().root_key(),
        site.layout().operator().join("admin.key"),
    ];
    for key in keys {
        // Every line of a key but its frame.
        let pem = fs_err::read_to_string(&key).unwrap();
        secrets.extend(pem.lines().filter(|line| !line.starts_with("--")).map(str::to_owned));
    }
    let log = served.stop();
    assert!(log.lines().count() > 10, "{log}");
    for secret in secrets {
        assert!(secret.len() >= 8, "{secret}");
        assert!(!log.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {log}");
    }
    assert!(!log.contains("PRIVATE KEY"));
}

#[test]
fn every_line_of_the_log_is_json_with_the_keys_of_the_design() {
    let site = Site::new();
    let served = site.serve();
    let mut stranger = std::net::TcpStream::connect(served.mqtt).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    served.line(0, "conn.refused", |line| line["peer"].as_str().is_some());
    for line in served.stop().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["ts", "level", "code"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
        assert!(line.as_object().unwrap().values().all(|value| !value.is_object()), "{line}");
    }
}

#[test]
fn an_export_holds_what_people_know_and_never_the_root_key() {
    let site = Site::new();
    site.device("pump-7");
    let out = site.beside("export");
    site.run(&["ca", "export", out.to_str().unwrap()]).done();
    for file in [
        "root/ca.crt",
        "intermediate/intermediate.crt",
        "server/broker.crt",
        "server/broker-fullchain.crt",
        "server/broker.key",
        "devices/pump-7.crt",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let keys: Vec<_> = picture(&out)
        .into_iter()
        .filter(|(_, _, bytes)| String::from_utf8_lossy(bytes).contains("PRIVATE KEY"))
        .collect();
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].0.ends_with("server/broker.key"), keys[0].1), (true, 0o600));
    let before = picture(&out);
    site.run(&["ca", "export", out.to_str().unwrap()]).refused(1, &["is not empty; nothing was written"]);
    assert_eq!(picture(&out), before);
}

#[test]
fn help_goes_to_stdout_and_mistakes_to_stderr() {
    let site = Site::new();
    let help = site.run(&["device", "--help"]).done();
    assert!(help.out.contains("revoke") && help.err.is_empty(), "{help:?}");
    let mut command = site.command(&["device", "lst"]);
    let mistake = ran(command.stdin(Stdio::null()));
    assert!(mistake.out.is_empty() && mistake.err.contains("list"), "{mistake:?}");
}
