//! One-time tokens: one device, one key, once; shown once and written nowhere.

use agent::{AgentError, Bundle};

use crate::site::*;
use crate::wire::Wire;

fn parsed(bundle: &str) -> Bundle {
    Bundle::parse(bundle).unwrap()
}

fn is_403(outcome: Result<agent::Provisioned, AgentError>) -> bool {
    matches!(outcome, Err(AgentError::Refused { status: 403, .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_makes_one_device_and_a_second_key_is_refused_and_alerted() {
    let site = Site::new();
    let served = site.serve();
    let text = site.bundle_for("pump-7", &served);
    let bundle = parsed(&text);
    let made = agent::provision(&site.beside("pump-7"), &bundle, &agent_deps()).await.unwrap();
    assert_eq!((made.device_id.as_str(), made.already), ("pump-7", false));
    assert_eq!(made.root.der(), site.root().der());
    // The same device again, before its first connection and after: nothing new is made.
    let again = agent::provision(&site.beside("pump-7"), &bundle, &agent_deps()).await.unwrap();
    assert_eq!((again.already, again.certificate.der()), (true, made.certificate.der()));

    let mark = served.mark();
    assert!(is_403(agent::provision(&site.beside("thief"), &bundle, &agent_deps()).await));
    let line = served.line(mark, "token.refused", |line| line["reason"] == "token.other_key");
    assert_eq!(line["device"], "pump-7");
    let alert = served.line(mark, "token.other_key", |line| line["level"] == "alert");
    assert!(alert["detail"].as_str().unwrap().contains("pump-7"), "{alert}");
    let certificates = site.json(&["device", "show", "pump-7"])["certificates"].as_array().unwrap().len();
    assert_eq!(certificates, 1);
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_first_connection_the_token_is_spent_for_everybody() {
    let site = Site::new();
    let served = site.serve();
    let bundle = parsed(&site.bundle_for("pump-7", &served));
    let home = site.beside("pump-7");
    let made = agent::provision(&home, &bundle, &agent_deps()).await.unwrap();
    let files = agent::Home::new(&home);
    let key = fs_err::read(files.key_file()).unwrap();
    let out = site.beside("out");
    fs_err::create_dir(&out).unwrap();
    let chain = made.certificate.to_pem() + &made.chain[0].to_pem();
    fs_err::write(out.join("pump-7.crt"), chain).unwrap();
    fs_err::write(out.join("pump-7.key"), &key).unwrap();
    let mark = served.mark();
    served.client(&site, &out, "pump-7").await.unwrap();
    served.line(mark, "conn.accepted", |line| line["principal"].as_str().unwrap().contains("pump-7"));
    // The very same key, in a folder that has forgotten its certificate.
    let copy = site.beside("copy");
    fs_err::create_dir(&copy).unwrap();
    fs_err::write(agent::Home::new(&copy).key_file(), &key).unwrap();
    let mark = served.mark();
    assert!(is_403(agent::provision(&copy, &bundle, &agent_deps()).await));
    served.line(mark, "token.refused", |line| line["reason"] == "token.spent");
    assert_eq!(site.json(&["token", "list", "pump-7"])["tokens"][0]["state"], "spent");
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_and_one_with_a_wrong_secret_are_refused_alike() {
    let site = Site::new();
    let served = site.serve();
    let text = site.bundle_for("pump-7", &served);
    let (head, tail) = text.split_once('@').unwrap();
    let wrong = format!("{}{}@{tail}", &head[..head.len() - 1], if head.ends_with('0') { '1' } else { '0' });
    let mark = served.mark();
    assert!(is_403(agent::provision(&site.beside("a"), &parsed(&wrong), &agent_deps()).await));
    served.line(mark, "token.refused", |line| line["reason"] == "token.wrong_secret");

    let id = text.split('.').nth(1).unwrap();
    assert_eq!(site.run(&["token", "revoke", id]).done().out, format!("revoked token {id}\n"));
    let mark = served.mark();
    assert!(is_403(agent::provision(&site.beside("b"), &parsed(&text), &agent_deps()).await));
    served.line(mark, "token.refused", |line| line["reason"] == "token.revoked");
    assert_eq!(site.json(&["token", "list", "pump-7"])["tokens"][0]["state"], "revoked");
    site.run(&["token", "revoke", "0123456789abcdefghjkmnpqrs"]).refused(1, &["is unknown"]);
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_with_another_pin_says_nothing_secret_to_this_server() {
    let site = Site::new();
    let served = site.serve();
    let text = site.bundle_for("pump-7", &served);
    let (head, _) = text.split_once('#').unwrap();
    let other = format!("{head}#sha256:{}", "ab".repeat(32));
    let outcome = agent::provision(&site.beside("a"), &parsed(&other), &agent_deps()).await;
    assert!(matches!(outcome, Err(AgentError::Tls(tls::TlsError::PinnedRoot { .. }))), "{outcome:?}");
    assert_eq!(site.json(&["token", "list", "pump-7"])["tokens"][0]["state"], "unused");
    agent::provision(&site.beside("b"), &parsed(&text), &agent_deps()).await.unwrap();
    served.stop();
}

#[test]
fn a_token_is_shown_once_and_the_bundle_is_the_only_line_on_stdout() {
    let site = Site::new();
    let served = site.serve();
    site.run(&["device", "add", "pump-7"]).done();
    let ran = site.run(&["token", "create", "pump-7", "--ttl", "2h"]).done();
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    assert!(ran.out.starts_with("bw1.") && ran.err.contains("this is shown once; it expires "), "{ran:?}");
    let secret = ran.out.split(['.', '@']).nth(2).unwrap().to_owned();
    assert_eq!(secret.len(), 26);
    let list = site.run(&["--json", "token", "list", "pump-7"]).done();
    assert!(!list.out.contains(&secret));
    assert_eq!(list.json()["tokens"].as_array().unwrap().len(), 1);
    let log = served.stop();
    assert!(!log.contains(&secret));
    for (path, _, bytes) in picture(&site.dir) {
        let found = bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes()));
        assert!(!found, "{}", path.display());
    }
}

#[test]
fn a_token_for_a_live_device_has_to_say_that_it_replaces() {
    let site = Site::new();
    let files = site.device("pump-7");
    let served = site.serve();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(served.client(&site, &files, "pump-7")).unwrap();
    site.run(&["token", "create", "pump-7"]).refused(1, &["has a live certificate", "replace"]);
    site.run(&["token", "create", "pump-7", "--replace"]).done();
    site.run(&["token", "create", "nobody"]).refused(1, &["\"nobody\" is not registered"]);
    for ttl in ["0s", "tomorrow", "-1h", "100000d"] {
        let ran = site.run(&["token", "create", "pump-7", "--replace", &format!("--ttl={ttl}")]);
        ran.refused(1, &["ttl"]);
    }
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_connection_of_a_replacement_ends_the_old_certificate() {
    let site = Site::new();
    let files = site.device("pump-7");
    let served = site.serve();
    let mut old = served.client(&site, &files, "pump-7").await.unwrap();
    let bundle =
        site.json(&["token", "create", "pump-7", "--replace"])["bundle"].as_str().unwrap().to_owned();
    let home = site.beside("pump-7");
    agent::provision(&home, &parsed(&bundle), &agent_deps()).await.unwrap();
    // Until the new one is used the old one is good, and each client id is a session of its own.
    let again = Wire::open(&site.connector(&files, "pump-7"), served.mqtt, "another").await.unwrap();
    let home = agent::Home::new(&home);
    let out = site.beside("new");
    fs_err::create_dir(&out).unwrap();
    fs_err::copy(home.key_file(), out.join("pump-7.key")).unwrap();
    fs_err::copy(home.certificate_file(), out.join("pump-7.crt")).unwrap();
    let new = Wire::open(&site.connector(&out, "pump-7"), served.mqtt, "the-new-one").await.unwrap();
    old.ended().await.unwrap();
    drop(again);
    assert!(served.client(&site, &files, "pump-7").await.is_err());
    let states = site.json(&["device", "show", "pump-7"])["certificates"].clone();
    let states: Vec<&str> =
        states.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["revoked", "active"]);
    drop(new);
    served.stop();
}
