//! Devices and their tokens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use admin::Settings;
use common::*;
use http::{Method, Request};
use serde_json::json;
use store::TokenAnswer;
use types::{PrincipalKind, SpkiHash, Wall};

#[tokio::test]
async fn a_device_is_added_shown_and_listed() {
    let world = World::new().await;
    let answer = world
        .post("/api/v1/devices", json!({"id": "24:0A:C4:00:01:02", "fleet": "north", "label": "Pump hall 7"}))
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.json(),
        json!({
            "id": "240ac4000102", "original": "24:0A:C4:00:01:02", "project": "default", "fleet": "north",
            "label": "Pump hall 7", "standing": "active", "denied": false,
            "added_at": "2026-08-01T00:00:00Z", "added_by": "operator \"ada\"", "certificates": [], "tokens": [],
        })
    );
    // Any notation finds it.
    for path in ["240ac4000102", "240AC4000102", "24-0a-c4-00-01-02", "24%3A0a%3Ac4%3A00%3A01%3A02"] {
        assert_eq!(world.get(&format!("/api/v1/devices/{path}")).await.json(), answer.json(), "{path}");
    }
    assert!(world.recorded().await.contains("\"device_added\""));
}

#[tokio::test]
async fn a_shown_device_has_its_certificates_as_pem() {
    let world = World::new().await;
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    let json = world.get("/api/v1/devices/pump-7").await.json();
    let shown = &json["certificates"][0];
    assert_eq!(shown["serial"], leaf.certificate().serial().to_string());
    assert_eq!(shown["fingerprint"], leaf.der_hash().to_string());
    assert_eq!((&shown["state"], &shown["generation"]), (&json!("unconfirmed"), &json!(1)));
    assert_eq!(shown["pem"], leaf.certificate_pem());
    let listed = world.get("/api/v1/devices").await.json();
    assert_eq!(listed["devices"][0]["certificates"][0].get("pem"), None);
}

#[tokio::test]
async fn names_that_would_lend_rights_or_are_taken_are_refused() {
    let world = World::new().await;
    world.rules("user Backend-Service\ntopic read #\n");
    world.add_principal(PrincipalKind::Operator, "ada").await;
    world.add_device("pump-7").await;
    for (id, code, said) in [
        (
            "backend-service",
            "device.name_in_rules",
            "/id: \"backend-service\" is the name of a user in the topic rules",
        ),
        ("ADA", "store.name_taken", "name \"ADA\" is taken by the operator of that name"),
        ("Pump-7", "store.name_taken", "name \"Pump-7\" is taken by the device of that name"),
    ] {
        let (status, slug, detail) = world.post("/api/v1/devices", json!({"id": id})).await.problem();
        assert_eq!((status, slug.as_str()), (409, code));
        assert!(detail.starts_with(said), "{detail}");
    }
    assert_eq!(world.get("/api/v1/devices").await.json()["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn wrong_bodies_name_the_field_and_add_nothing() {
    let world = World::new().await;
    for (body, place, said) in [
        (json!({}), "/id", "/id: missing; expected a text"),
        (json!({"id": ""}), "/id", "/id: empty; expected a text"),
        (json!({"id": 7}), "/id", "/id: a number; expected a text"),
        (json!({"id": "pump 7"}), "/id", "/id: device id \"pump 7\": space at byte 4;"),
        (json!({"id": "a/b"}), "/id", "/id: device id"),
        (json!({"id": "a", "project": "x"}), "/project", "/project: expected \"default\" or proj_"),
        (json!({"id": "a", "fleet": "a/b"}), "/fleet", "/fleet: '/' at byte 1;"),
        (json!({"id": "a", "fleet": "+"}), "/fleet", "/fleet: '+' at byte 0;"),
        (json!({"id": "a", "label": "x".repeat(129)}), "/label", "/label: 129 bytes; allowed 1 to 128"),
        (json!({"id": "a", "label": "a\nb"}), "/label", "/label: control character at byte 1"),
        (json!({"id": "a", "flet": "x"}), "/flet", "/flet: unknown field; known: id, project, fleet, label"),
        (json!(["a"]), "body", "body: not a JSON object"),
    ] {
        let answer = world.post("/api/v1/devices", body.clone()).await;
        let (status, _, detail) = answer.problem();
        assert_eq!((status, &answer.json()["place"]), (400, &json!(place)), "{body}");
        assert!(detail.starts_with(said), "{detail}");
    }
    let unknown = world.post("/api/v1/devices", json!({"id": "a", "x": 1})).await;
    assert_eq!(unknown.problem().1, "request.unknown_field");
    assert_eq!(world.get("/api/v1/devices").await.json()["devices"], json!([]));
}

#[tokio::test]
async fn bodies_of_another_type_or_size_and_stray_parameters_are_refused() {
    let world = World::new().await;
    let post = async |body: String, content_type: &str| {
        let request = Request::post("/api/v1/devices")
            .header("content-type", content_type)
            .body(axum::body::Body::from(body))
            .unwrap();
        send(&world.router, request).await.problem()
    };
    assert_eq!(post("{}".into(), "text/plain").await.1, "request.media_type");
    assert_eq!(
        post("x".repeat(65_537), "application/json").await,
        (413, "request.too_large".into(), "body: more than 65536 bytes".into())
    );
    assert_eq!(post("x".repeat(65_536), "application/json").await.0, 400);
    assert_eq!(
        post("{\"id\":".into(), "application/json").await.2,
        "body: EOF while parsing a value at line 1 column 6"
    );
    let stray = request(Method::POST, "/api/v1/devices?dry=1", Some(&json!({"id": "a"})));
    assert_eq!(send(&world.router, stray).await.problem().2, "?dry: unknown parameter; known: none");
    assert_eq!(
        world.get("/api/v1/devices?page=2").await.problem().2,
        "?page: unknown parameter; known: after, limit"
    );
    assert_eq!(world.get("/api/v1/devices?limit=0").await.problem().0, 400);
    assert_eq!(world.get("/api/v1/devices?limit=1001").await.problem().0, 400);
    assert_eq!(world.get("/api/v1/devices/a%20b").await.problem().0, 400);
    assert_eq!(
        world.get("/api/v1/devices/nobody").await.problem(),
        (404, "store.unknown_device".into(), "device \"nobody\" is not registered".into())
    );
}

#[tokio::test]
async fn pages_follow_one_another_without_a_gap() {
    let world = World::new().await;
    for number in 0..25 {
        world.add_device(&format!("Sensor-{number:03}")).await;
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let query = after.map_or(String::new(), |after| format!("&after={after}"));
        let json = world.get(&format!("/api/v1/devices?limit=10{query}")).await.json();
        seen.extend(json["devices"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match json["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|number| format!("Sensor-{number:03}")).collect();
    assert_eq!((seen, pages), (expected, 3));
}

#[tokio::test]
async fn a_token_is_shown_once_with_its_bundle_and_only_its_hash_is_kept() {
    let world = World::with(Settings {
        devices_host: "iot.example".into(),
        devices_port: 8443,
        ..Settings::default()
    })
    .await;
    let device = world.add_device("pump-7").await;
    let answer = world.post("/generate-token", json!({"device_id": "PUMP-7"})).await;
    assert_eq!(answer.status, 201);
    let json = answer.json();
    let token = json["token"].as_str().unwrap();
    let [version, id, secret] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    assert_eq!((version, id.len(), secret.len()), ("bw1", 26, 26));
    assert_eq!((&json["device_id"], &json["expires_at"]), (&json!("pump-7"), &json!("2026-08-02T00:00:00Z")));
    assert_eq!((&json["token_id"], &json["replace"]), (&json!(id), &json!(false)));
    assert_eq!(json["bundle"], format!("{token}@iot.example:8443#sha256:{}", world.pki.pin()));
    // It is what the store takes for that device.
    let hash = x509::sha256(secret.as_bytes());
    let said = world.store.token_check(id, hash, SpkiHash([1; 32]), world.now()).await.unwrap();
    assert!(matches!(said, TokenAnswer::Unused { device: of, replace: false } if of == device));
    // Nothing that is kept or shown later has the secret.
    let shown = world.get("/api/v1/devices/pump-7/tokens").await;
    assert_eq!(
        shown.json(),
        json!({"tokens": [{
            "id": id, "device_id": "pump-7", "state": "unused", "expires_at": "2026-08-02T00:00:00Z",
            "replace": false, "created_at": "2026-08-01T00:00:00Z", "created_by": "operator \"ada\"",
        }]})
    );
    assert!(!world.recorded().await.contains(secret));
    assert!(!world.get("/api/v1/devices/pump-7").await.text().contains(secret));
    for file in fs_err::read_dir(world.dir.path()).unwrap() {
        let bytes = fs_err::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn tokens_differ_live_as_long_as_asked_and_no_longer_than_allowed() {
    let world = World::new().await;
    world.add_device("pump-7").await;
    let mut seen = BTreeSet::new();
    for (ttl, expires) in [
        (json!("15m"), "2026-08-01T00:15:00Z"),
        (json!(1), "2026-08-01T00:00:01Z"),
        (json!("90d"), "2026-10-30T00:00:00Z"),
    ] {
        let json = world.post("/api/v1/devices/pump-7/tokens", json!({"ttl": ttl})).await.json();
        assert_eq!(json["expires_at"], expires);
        assert!(seen.insert(json["token"].as_str().unwrap().to_owned()));
    }
    for ttl in [json!("91d"), json!(0), json!("1y"), json!(-1), json!(true)] {
        let answer = world.post("/generate-token", json!({"device_id": "pump-7", "ttl": ttl})).await;
        assert_eq!((answer.problem().0, &answer.json()["place"]), (400, &json!("/ttl")));
    }
    let stray = world.post("/api/v1/devices/pump-7/tokens", json!({"device_id": "pump-7"})).await;
    assert_eq!(stray.problem().2, "/device_id: unknown field; known: ttl, replace");
}

#[tokio::test]
async fn a_token_needs_a_device_a_clock_and_for_a_live_one_replace() {
    let world = World::new().await;
    let ask = async |body| world.post("/generate-token", body).await.problem();
    assert_eq!(ask(json!({"device_id": "nobody"})).await.1, "store.unknown_device");
    assert_eq!(ask(json!({})).await.2, "/device_id: missing; expected a text");
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    world.store.confirm(leaf.der_hash(), world.now()).await.unwrap();
    let (status, code, _) = ask(json!({"device_id": "pump-7"})).await;
    assert_eq!((status, code.as_str()), (409, "store.needs_replace"));
    let made = world.post("/generate-token", json!({"device_id": "pump-7", "replace": true})).await;
    assert_eq!((made.status.as_u16(), &made.json()["replace"]), (201, &json!(true)));
    world.clock.set_wall(Wall(0));
    let (status, code, detail) = ask(json!({"device_id": "pump-7", "replace": true})).await;
    assert_eq!((status, code.as_str()), (503, "clock.unsound"));
    assert!(
        detail.starts_with("the clock shows 1970-01-01T00:00:00Z, which is before 2026-08-01"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_token_is_taken_back_by_its_id_and_a_pasted_secret_is_not_repeated() {
    let world = World::new().await;
    world.add_device("pump-7").await;
    let token = world.post("/generate-token", json!({"device_id": "pump-7"})).await.json();
    let (token, id) = (token["token"].as_str().unwrap(), token["token_id"].as_str().unwrap());
    let pasted = world.delete(&format!("/api/v1/tokens/{token}")).await;
    assert_eq!(pasted.problem().0, 400);
    assert!(!pasted.text().contains(&token[31..]));
    assert_eq!(world.delete("/api/v1/tokens/nothing").await.problem().1, "store.unknown_token");
    let done = world.delete(&format!("/api/v1/tokens/{id}")).await;
    assert_eq!((done.status.as_u16(), &done.json()["token_id"]), (200, &json!(id)));
    let shown = world.get("/api/v1/devices/pump-7/tokens").await.json();
    assert_eq!(shown["tokens"][0]["state"], "revoked");
    assert_eq!(world.get("/api/v1/devices/nobody/tokens").await.problem().0, 404);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.delete(&format!("/api/v1/tokens/{id}")).await.status, 200);
}
