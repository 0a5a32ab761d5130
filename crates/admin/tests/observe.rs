//! What an operator looks at: health, status, metrics, sessions, refusals, events, explanations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use admin::{Reloaded, Settings, document};
use audit::Event;
use common::*;
use http::Method;
use serde_json::json;
use types::{PrincipalKind, Wall};

#[tokio::test]
async fn health_is_open_and_readiness_names_each_reason() {
    let world = World::new().await;
    let stranger = admin::router(&world.admin);
    let ask = async |path: &str| send(&stranger, request(Method::GET, path, None)).await;
    assert_eq!(ask("/healthz").await.json(), json!({"status": "ok"}));
    let ready = ask("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()), (200, json!({"status": "ready", "reasons": []})));
    world.clock.set_wall(Wall(START.0 - 1));
    let ready = ask("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"][0]["code"], "clock.unsound");
    assert_eq!(
        ready.json()["reasons"][0]["detail"],
        "the clock shows 2026-07-31T23:59:59.999Z, which is before 2026-08-01T00:00:00Z"
    );
    assert_eq!(ask("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_clock_before_the_build_is_not_ready_either() {
    let world = World::with(Settings { built_at: Wall(START.0 + 1), ..Settings::default() }).await;
    assert_eq!(world.get("/readyz").await.status, 503);
    let status = world.get("/api/v1/status").await.json();
    assert_eq!(status["not_ready"][0]["code"], "clock.unsound");
}

#[tokio::test]
async fn the_status_counts_and_lists_the_cas() {
    let world = World::with(Settings {
        version: "1.2.3".into(),
        listeners: vec![("mqtt".into(), "0.0.0.0:8883".into())],
        ..Settings::default()
    })
    .await;
    world.rules("pattern write devices/%u/telemetry/#\n");
    world.known(PrincipalKind::Device, "pump-7").await;
    world.known(PrincipalKind::Service, "backend").await;
    let json = world.get("/api/v1/status").await.json();
    assert_eq!((&json["version"], &json["server_time"]), (&json!("1.2.3"), &json!("2026-08-01T00:00:00Z")));
    assert_eq!(
        (&json["devices"], &json["principals"], &json["certificates"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(json["policy"], json!({"epoch": 4, "rules": 1}));
    assert_eq!(json["listeners"], json!({"mqtt": "0.0.0.0:8883"}));
    let labels: Vec<_> =
        json["cas"].as_array().unwrap().iter().map(|ca| ca["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["root", "devices", "services", "servers"]);
    assert_eq!(json["cas"][1]["kinds"], json!(["device"]));
    assert_eq!(json["cas"][1]["crl"], json!(null));
    assert_eq!(json["epoch"], world.store.view().epoch().to_string());
}

#[tokio::test]
async fn metrics_are_in_the_text_format_and_name_no_device() {
    let world = World::new().await;
    world.known(PrincipalKind::Device, "pump-7").await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    for line in [
        "# TYPE bailiwick_devices gauge",
        "bailiwick_devices 1",
        "bailiwick_certificates 1",
        "bailiwick_clock_sound 1",
        "bailiwick_events_total{code=\"conn.refused\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains("pump-7"));
    world.clock.set_wall(Wall(0));
    assert!(world.get("/metrics").await.text().contains("bailiwick_clock_sound 0\n"));
}

#[tokio::test]
async fn the_document_is_served_and_describes_this_version() {
    let world = World::with(Settings { version: "1.2.3".into(), ..Settings::default() }).await;
    let served = world.get("/api/openapi.json").await.json();
    assert_eq!(served, document("1.2.3"));
    assert_eq!((&served["openapi"], &served["info"]["version"]), (&json!("3.1.0"), &json!("1.2.3")));
}

#[tokio::test]
async fn sessions_and_refusals_come_from_the_server_in_pages() {
    let world = World::new().await;
    let json = world.get("/api/v1/clients?limit=5&after=7").await.json();
    assert_eq!((&json["next"], &json["clients"][0]["conn"]), (&json!("1"), &json!(5)));
    assert_eq!(
        (&json["clients"][0]["client_id"], &json["clients"][0]["tls"]),
        (&json!("7"), &json!("TLSv1.3"))
    );
    let json = world.get("/api/v1/refusals?limit=2").await.json();
    assert_eq!(json["refusals"].as_array().unwrap().len(), 2);
    assert_eq!(json["refusals"][0]["event"]["event"], "token_refused");
    for path in ["/api/v1/clients?limit=0", "/api/v1/refusals?limit=x", "/api/v1/refusals?after=1"] {
        assert_eq!(world.get(path).await.problem().0, 400, "{path}");
    }
}

#[tokio::test]
async fn events_are_shown_in_the_order_of_the_log_and_a_stray_body_as_it_stands() {
    let world = World::new().await;
    let mut head = ([0; 32], 0);
    for number in 0..3_u64 {
        let event = Event::PolicyLoaded { epoch: number, rules: 1 };
        world.store.event(event, world.now()).await.unwrap();
    }
    let lines: Vec<audit::Chained> = world
        .store
        .events_unchained(100)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, at, body)| {
            let line = audit::chain(head.0, head.1 + 1, at, &body);
            head = (line.hash, line.seq);
            line
        })
        .collect();
    let count = lines.len();
    world.store.events_chain(lines, None).await.unwrap();
    let all = world.get("/api/v1/events").await.json();
    let events = all["events"].as_array().unwrap();
    assert_eq!((events.len(), &all["next"]), (count, &json!(null)));
    assert_eq!(events[count - 1]["event"], json!({"event": "policy_loaded", "epoch": 2, "rules": 1}));
    assert_eq!(events[1]["prev"], events[0]["hash"]);
    let page = world.get(&format!("/api/v1/events?limit=1&after={}", count - 2)).await.json();
    assert_eq!(page["events"][0]["seq"], count - 1);
    assert_eq!(page["next"], count - 1);
    assert_eq!(world.get("/api/v1/events?after=-1").await.problem().0, 400);
}

#[tokio::test]
async fn the_rules_are_explained_for_registered_names() {
    let world = World::new().await;
    world.rules("pattern write devices/%u/telemetry/#\nuser backend\ntopic read devices/#\n");
    world.add_device("pump-7").await;
    world.add_principal(PrincipalKind::Service, "backend").await;
    let ask = async |principal: &str, action: &str, topic: &str| {
        let topic = topic.replace('#', "%23").replace('+', "%2B");
        world
            .get(&format!("/api/v1/policy/explain?principal={principal}&action={action}&topic={topic}"))
            .await
    };
    for (principal, action, topic, permitted) in [
        ("pump-7", "publish", "devices/pump-7/telemetry/environment", true),
        ("pump-7", "publish", "devices/pump-8/telemetry/environment", false),
        ("pump-7", "subscribe", "#", false),
        ("backend", "subscribe", "devices/#", true),
        ("backend", "receive", "devices/pump-7/status", true),
        ("backend", "publish", "devices/pump-7/status", false),
    ] {
        let json = ask(principal, action, topic).await.json();
        assert_eq!(json["permitted"], permitted, "{principal} {action} {topic}: {json}");
        assert_eq!(json["policy_epoch"], 4);
    }
    let json = ask("pump-7", "publish", "devices/pump-7/telemetry/x").await.json();
    assert_eq!(
        (&json["principal"], &json["rule"]),
        (&json!("device \"pump-7\""), &json!("test.acl:1 \"pattern write devices/%u/telemetry/#\""))
    );
    assert_eq!(ask("nobody", "publish", "a").await.problem().0, 404);
    assert_eq!(
        ask("pump-7", "write", "a").await.problem().2,
        "?action: expected publish, subscribe or receive"
    );
    assert_eq!(world.get("/api/v1/policy/explain?principal=pump-7&action=publish").await.problem().0, 400);
}

#[tokio::test]
async fn a_reload_is_all_or_nothing_and_knows_who_asked() {
    let world = World::new().await;
    let answer = world.post("/api/v1/reload", json!({})).await;
    assert_eq!(answer.json(), json!({"policy_epoch": 2, "rules": 5, "parts": ["policy"]}));
    assert_eq!(*world.fakes.reloaded_by.lock().unwrap(), ["operator \"ada\""]);
    *world.fakes.reload.lock().unwrap() = Err(vec!["a.acl:1:2: x".into(), "b.acl:3:4: y".into()]);
    assert_eq!(
        world.post("/api/v1/reload", json!({})).await.problem(),
        (409, "reload.refused".into(), "nothing changed: a.acl:1:2: x; b.acl:3:4: y".into())
    );
    assert_eq!(world.post("/api/v1/reload", json!({"force": true})).await.problem().0, 400);
    let _: Result<Reloaded, Vec<String>> = world.fakes.reload.lock().unwrap().clone();
}
