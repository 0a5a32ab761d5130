//! What a running server does to live sessions: revocation and reload.

use std::time::Duration;

use agent::{Backoff, Bundle, Config, Event, Simulated, Source};
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use crate::site::*;
use crate::wire::Message;

/// Rules under which the backend reads only what trackers say of their status.
const STATUS_ONLY: &str = "\
pattern write assets/%u/telemetry
pattern write assets/%u/status
user backend-service
topic read assets/+/status
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_agent_loses_its_session_and_its_reconnect_is_refused_with_the_alert() {
    let site = Site::new();
    let served = site.serve();
    let home = site.beside("pump-7");
    let bundle = Bundle::parse(&site.bundle_for("pump-7", &served)).unwrap();
    agent::provision(&home, &bundle, &agent_deps()).await.unwrap();
    let mut config = Config::new(&home, Source::Simulated(Simulated::Sensor));
    config.broker = Some(("localhost".to_owned(), served.mqtt.port()));
    config.backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(200) };
    let (stop, stopped) = watch::channel(false);
    let (told, mut events) = mpsc::channel(1000);
    let running = tokio::spawn(agent::run(config, agent_deps(), stopped, told));
    let mut next = async |fits: &dyn Fn(&Event) -> bool| {
        let found = async {
            loop {
                let event = events.recv().await.expect("the agent goes on");
                if fits(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(WITHIN, found).await.expect("an event in time")
    };
    next(&|event| matches!(event, Event::Connected { .. })).await;

    let mark = served.mark();
    let said = site.run(&["device", "revoke", "pump-7"]).done().out;
    assert!(said.contains("; 1 live session closed; CRL "), "{said}");
    next(&|event| matches!(event, Event::Disconnected { .. })).await;
    let refused = next(&|event| event.alert().is_some()).await;
    assert!(refused.alert().unwrap().to_lowercase().contains("revoked"), "{refused:?}");
    served.line(mark, "conn.ended", |line| line["reason"] == "trust.revoked");
    let line = served.line(mark, "conn.refused", |line| line["reason"] == "trust.revoked");
    assert!(line["subject"].as_str().unwrap().contains("pump-7"), "{line}");
    let refusals = site.json(&["client", "refused"]);
    assert_eq!(refusals["refusals"][0]["event"]["reason"], "trust.revoked");
    stop.send(true).unwrap();
    tokio::time::timeout(WITHIN, running).await.unwrap().unwrap().unwrap();
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_new_rules_forbid_gets_nothing_more() {
    let site = Site::new();
    let files = site.device("tracker-1");
    site.service("backend-service");
    let served = site.serve();
    let mut backend = served.client(&site, &files, "backend-service").await.unwrap();
    let mut tracker = served.client(&site, &files, "tracker-1").await.unwrap();
    assert_eq!(backend.subscribe("assets/#").await, Ok(1));
    assert_eq!(backend.subscribe("assets/+/status").await, Ok(1));
    let (telemetry, status) = ("assets/tracker-1/telemetry", "assets/tracker-1/status");
    tracker.publish(telemetry, r#"{"seq":1,"boot":1}"#).await.unwrap();
    let first = backend.message(WITHIN).await.unwrap().unwrap();
    assert_eq!(first.topic, telemetry);

    fs_err::write(site.layout().policy("assets.acl"), STATUS_ONLY).unwrap();
    let mark = served.mark();
    served.signal(Signal::HUP);
    let loaded = served.line(mark, "policy.loaded", |line| line["epoch"] == 2);
    served.line(mark, "config.reloaded", |_| true);
    assert!(loaded["rules"].as_u64().unwrap() > 0);
    // What is asked anew is refused, and that answer says that the rules are in force.
    while backend.subscribe("assets/#").await.unwrap() != 0x80 {}
    // One connection keeps its order: had the first been delivered, it would come before the second.
    tracker.publish(telemetry, r#"{"seq":2,"boot":1}"#).await.unwrap();
    tracker.publish(status, "still here").await.unwrap();
    let next = backend.message(WITHIN).await.unwrap();
    assert_eq!(next, Some(Message { topic: status.to_owned(), payload: "still here".to_owned() }));
    assert_eq!(backend.settled().await.unwrap(), []);
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rules_or_a_bad_configuration_on_reload_change_nothing() {
    let site = Site::new();
    let files = site.device("tracker-1");
    site.service("backend-service");
    let served = site.serve();
    let mut backend = served.client(&site, &files, "backend-service").await.unwrap();
    let mut tracker = served.client(&site, &files, "tracker-1").await.unwrap();
    assert_eq!(backend.subscribe("assets/#").await, Ok(1));
    let good = fs_err::read_to_string(site.layout().policy("assets.acl")).unwrap();
    let config = fs_err::read_to_string(site.layout().config()).unwrap();
    let mut seq = 0;
    let mut still_flows = async |backend: &mut crate::wire::Wire| {
        seq += 1;
        let payload = format!("{{\"seq\":{seq},\"boot\":1}}");
        tracker.publish("assets/tracker-1/telemetry", &payload).await.unwrap();
        assert_eq!(backend.message(WITHIN).await.unwrap().unwrap().payload, payload);
    };
    still_flows(&mut backend).await;

    // The first half of the new rules would forbid what flows; the second half is no rule.
    fs_err::write(site.layout().policy("assets.acl"), format!("{STATUS_ONLY}topic publish x\n")).unwrap();
    let mark = served.mark();
    served.signal(Signal::HUP);
    let line = served.line(mark, "policy.rejected", |_| true);
    assert!(line["detail"].as_str().unwrap().contains("assets.acl:5:"), "{line}");
    still_flows(&mut backend).await;
    site.run(&["reload"]).refused(1, &["assets.acl:5:"]);
    still_flows(&mut backend).await;

    // Good rules with a bad configuration: the whole of it is valid or none of it is used.
    fs_err::write(site.layout().policy("assets.acl"), STATUS_ONLY).unwrap();
    fs_err::write(site.layout().config(), config.clone() + "\n[log]\nlevel = \"loud\"\n").unwrap();
    let mark = served.mark();
    served.signal(Signal::HUP);
    served.line(mark, "policy.rejected", |line| line["detail"].as_str().unwrap().contains("loud"));
    still_flows(&mut backend).await;
    assert_eq!(site.json(&["status"])["policy"]["epoch"], 1);

    fs_err::write(site.layout().config(), &config).unwrap();
    fs_err::write(site.layout().policy("assets.acl"), good).unwrap();
    let reloaded = site.json(&["reload"]);
    assert_eq!(reloaded["policy_epoch"], 2, "{reloaded}");
    still_flows(&mut backend).await;
    served.stop();
}

#[test]
fn the_log_level_follows_a_reload_without_a_restart() {
    let site = Site::new();
    let served = site.serve();
    let config = site.layout().config();
    let text = fs_err::read_to_string(&config).unwrap();
    fs_err::write(&config, text + "\n[log]\nlevel = \"warn\"\n").unwrap();
    site.run(&["reload"]).done();
    let mark = served.mark();
    site.device("pump-7");
    let log = served.stop();
    let quiet: Vec<&str> =
        log.lines().skip(mark).filter(|line| line.contains("\"level\":\"info\"")).collect();
    assert_eq!(quiet, Vec::<&str>::new());
}

#[test]
fn a_reload_puts_limits_in_force_says_what_needs_a_restart_and_moves_no_listener() {
    let site = Site::new();
    let served = site.serve();
    let config = site.layout().config();
    let text = fs_err::read_to_string(&config).unwrap();
    fs_err::write(&config, format!("{text}\n[limits]\nconnections_max = 5\n")).unwrap();
    let parts = site.json(&["reload"])["parts"].clone();
    assert!(parts.as_array().unwrap().contains(&"limits".into()), "{parts}");
    assert!(!parts.to_string().contains("restart"), "{parts}");
    fs_err::write(&config, format!("{text}\n[tls]\nmin_version = \"1.3\"\n")).unwrap();
    let parts = site.json(&["reload"])["parts"].clone();
    assert!(parts.to_string().contains("need a restart"), "{parts}");
    assert!(std::net::TcpStream::connect(served.mqtt).is_ok());
    served.stop();
}

#[test]
fn a_reload_without_a_server_is_an_error_and_says_so() {
    let site = Site::new();
    site.run(&["reload"]).refused(1, &["no server is running, so there is nothing to reload"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_clients_are_listed_with_what_tls_they_speak() {
    let site = Site::new();
    let files = site.device("pump-7");
    let served = site.serve();
    let wire = served.client(&site, &files, "pump-7").await.unwrap();
    let clients = site.json(&["client", "list"]);
    let one = &clients["clients"][0];
    assert_eq!(
        [&one["kind"], &one["name"], &one["client_id"], &one["tls"]],
        ["device", "pump-7", "pump-7-test", "TLSv1.3"]
    );
    let certificate = fs_err::read_to_string(files.join("pump-7.crt")).unwrap();
    let leaf = x509::Certificate::parse_pem_chain(&certificate).unwrap().remove(0);
    assert_eq!(one["serial"], leaf.serial().to_string());
    drop(wire);
    served.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_taken_over_and_stays_silent_holds_up_no_revocation() {
    let site = Site::new();
    let files = site.device("pump-7");
    let other = site.device("pump-8");
    let served = site.serve();
    // The same client id twice: the first is closed, and its client takes no notice.
    let silent = served.client(&site, &files, "pump-7").await.unwrap();
    let mark = served.mark();
    let _second = served.client(&site, &files, "pump-7").await.unwrap();
    served.line(mark, "conn.ended", |line| line["reason"] == "mqtt.taken_over");
    let answer = site.json(&["device", "revoke", "pump-7"]);
    assert_eq!(answer["lagging"], serde_json::json!([]), "{answer}");
    // And nobody else waits for it either.
    served.client(&site, &other, "pump-8").await.unwrap();
    drop(silent);
    served.stop();
}
