//! Flow D: the revocation, what follows it, and the sentence that tells of both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::time::Duration;

use admin::Settings;
use common::*;
use serde_json::json;
use store::{AckDetail, Reader};
use tokio::task::JoinHandle;
use types::{CertRef, PrincipalKind, Wall};
use x509::CrlReason;

/// What the broker and the CRL writer do: they follow the view and acknowledge, as long as they live.
fn followers(world: &World, readers: &'static [Reader], closed: Vec<CertRef>) -> JoinHandle<()> {
    let store = world.store.clone();
    let clock = world.clock.clone();
    tokio::spawn(async move {
        let mut views = store.watch_view();
        let mut number = 41;
        loop {
            let epoch = views.borrow_and_update().epoch();
            for reader in readers {
                let detail = match reader {
                    Reader::Handshakes => AckDetail::Nothing,
                    Reader::Sessions => AckDetail::Closed(closed.clone()),
                    Reader::CrlWriter => {
                        AckDetail::Crl(vec![("devices".into(), number), ("services".into(), 7)])
                    }
                };
                store.applied().ack(*reader, epoch, detail);
            }
            number += 1;
            clock.advance(Duration::from_millis(12));
            if views.changed().await.is_err() {
                return;
            }
        }
    })
}

const ALL: &[Reader] = &[Reader::Handshakes, Reader::Sessions, Reader::CrlWriter];

/// Lets the followers apply what is there, so that their next step is the revocation's.
async fn settled(world: &World) {
    let epoch = world.store.view().epoch();
    assert!(
        world.store.applied().wait(epoch, &[Reader::Handshakes], Duration::from_secs(20)).await.is_empty()
    );
}

#[tokio::test]
async fn a_revocation_answers_when_all_of_it_is_done_and_says_so() {
    let world = World::new().await;
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    let before = world.store.view().epoch();
    let task = followers(&world, ALL, vec![leaf.cert_ref()]);
    settled(&world).await;
    let answer = world.post("/api/v1/devices/PUMP-7/revoke", json!({"reason": "keyCompromise"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let epoch = before.next();
    let serial = leaf.certificate().serial().to_string();
    assert_eq!(json["device_id"], "pump-7");
    assert_eq!(json["epoch"], epoch.to_string());
    assert_eq!(json["certificates"], json!([serial]));
    assert_eq!((&json["sessions_closed"], &json["lagging"]), (&json!(1), &json!([])));
    assert_eq!(json["crl"], json!({"number": 42}));
    assert_eq!(json["took_ms"], 12);
    assert_eq!(
        json["text"],
        format!(
            "revoked \"pump-7\" (0x{}…), epoch {epoch}; 1 live session closed; CRL 42 published",
            &serial[..4]
        )
    );
    // The other side: the view, the ledger, the log.
    assert!(world.store.view().is_revoked(&leaf.cert_ref()).is_some());
    let shown = world.get("/api/v1/devices/pump-7").await.json();
    assert_eq!((&shown["standing"], &shown["denied"]), (&json!("revoked"), &json!(true)));
    assert_eq!(shown["certificates"][0]["reason"], "keyCompromise");
    let recorded = world.recorded().await;
    assert!(
        recorded.contains("\"certificate_revoked\"") && recorded.contains("operator \\\"ada\\\""),
        "{recorded}"
    );
    task.abort();
}

#[tokio::test]
async fn what_lags_is_named_and_the_revocation_holds_all_the_same() {
    let world =
        World::with(Settings { revoke_wait: Duration::from_millis(200), ..Settings::default() }).await;
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    let task = followers(&world, &[Reader::Handshakes, Reader::Sessions], vec![]);
    settled(&world).await;
    let json = world.post("/api/v1/devices/pump-7/revoke", json!({})).await.json();
    assert_eq!(json["lagging"], json!([{"reader": "crl", "applied": "0"}]));
    assert_eq!(json["crl"], json!(null));
    let text = json["text"].as_str().unwrap();
    assert!(
        text.ends_with("; 0 live sessions closed; the revocation holds, but the CRL lags at epoch 0"),
        "{text}"
    );
    assert!(world.store.view().is_revoked(&leaf.cert_ref()).is_some());
    task.abort();
}

#[tokio::test]
async fn a_device_without_a_certificate_is_denied_and_can_be_revoked_once() {
    let world = World::new().await;
    let device = world.add_device("pump-7").await;
    let task = followers(&world, ALL, vec![]);
    settled(&world).await;
    let json = world.post("/api/v1/devices/pump-7/revoke", json!({})).await.json();
    assert_eq!((&json["certificates"], &json["crl"]), (&json!([]), &json!(null)));
    let epoch = json["epoch"].as_str().unwrap();
    assert_eq!(
        json["text"],
        format!("revoked \"pump-7\" (no certificate), epoch {epoch}; 0 live sessions closed")
    );
    assert!(world.store.view().is_denied(&device));
    assert_eq!(
        world.post("/api/v1/devices/pump-7/revoke", json!({})).await.problem(),
        (409, "store.already_revoked".into(), format!("\"pump-7\" was already revoked, epoch {epoch}"))
    );
    assert_eq!(world.post("/api/v1/devices/nobody/revoke", json!({})).await.problem().0, 404);
    // No token brings it back.
    let (status, code, _) = world.post("/generate-token", json!({"device_id": "pump-7"})).await.problem();
    assert_eq!((status, code.as_str()), (409, "store.device_denied"));
    task.abort();
}

#[tokio::test]
async fn a_wrong_clock_does_not_stop_a_revocation() {
    let world = World::new().await;
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    let task = followers(&world, ALL, vec![]);
    settled(&world).await;
    world.clock.set_wall(Wall(0));
    assert_eq!(world.post("/api/v1/devices/pump-7/revoke", json!({})).await.status, 200);
    assert!(world.store.view().is_revoked(&leaf.cert_ref()).is_some());
    task.abort();
}

#[tokio::test]
async fn a_hold_is_put_and_lifted() {
    let world = World::new().await;
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    world.store.confirm(leaf.der_hash(), world.now()).await.unwrap();
    let task = followers(&world, ALL, vec![leaf.cert_ref()]);
    settled(&world).await;
    let json = world.post("/api/v1/devices/pump-7/suspend", json!({})).await.json();
    let text = json["text"].as_str().unwrap();
    assert!(text.starts_with("suspended \"pump-7\" (0x") && text.contains("1 live session closed"), "{text}");
    assert!(world.store.view().is_revoked(&leaf.cert_ref()).is_some());
    assert_eq!(world.get("/api/v1/devices/pump-7").await.json()["standing"], "suspended");
    let json = world.post("/api/v1/devices/pump-7/restore", json!({})).await.json();
    let text = json["text"].as_str().unwrap();
    assert!(text.starts_with("restored \"pump-7\" (0x") && !text.contains("session"), "{text}");
    assert!(world.store.view().is_revoked(&leaf.cert_ref()).is_none());
    assert_eq!(
        world.post("/api/v1/devices/pump-7/restore", json!({})).await.problem().1,
        "store.not_suspended"
    );
    for act in ["suspend", "restore", "revoke"] {
        let wrong = world.post(&format!("/api/v1/devices/pump-7/{act}"), json!({"why": "x"})).await;
        assert_eq!(wrong.problem().1, "request.unknown_field", "{act}");
    }
    task.abort();
}

#[tokio::test]
async fn a_reason_is_one_of_rfc_5280s() {
    let world = World::new().await;
    world.add_device("pump-7").await;
    for reason in ["certificateHold", "because", ""] {
        let answer = world.post("/api/v1/devices/pump-7/revoke", json!({"reason": reason})).await;
        assert_eq!((answer.problem().0, &answer.json()["place"]), (400, &json!("/reason")), "{reason}");
    }
    assert_eq!(world.get("/api/v1/devices/pump-7").await.json()["standing"], "active");
    assert_eq!(CrlReason::KeyCompromise.as_str(), "keyCompromise");
}

#[tokio::test]
async fn a_service_or_an_operator_is_revoked_by_name() {
    let world = World::new().await;
    let leaf = world.known(PrincipalKind::Operator, "mallory").await;
    let task = followers(&world, ALL, vec![leaf.cert_ref()]);
    settled(&world).await;
    let json =
        world.post("/api/v1/principals/Mallory/revoke", json!({"reason": "keyCompromise"})).await.json();
    assert_eq!((&json["name"], json.get("device_id")), (&json!("mallory"), None));
    assert_eq!(json["crl"], json!({"number": 7}));
    let text = json["text"].as_str().unwrap();
    assert!(text.starts_with("revoked \"mallory\" (0x") && text.ends_with("; CRL 7 published"), "{text}");
    let chain = world.pki.chain(&leaf, START).unwrap();
    let refused = admin::operator_of(&world.store, &chain, world.now()).await.unwrap_err();
    assert_eq!(refused.code(), "trust.revoked");
    let listed = world.get("/api/v1/principals").await.json();
    assert_eq!(listed["principals"][0]["standing"], "revoked");
    let again = world.post("/api/v1/principals/mallory/revoke", json!({})).await;
    assert_eq!(again.problem().1, "store.already_revoked");
    assert_eq!(world.post("/api/v1/principals/nobody/revoke", json!({})).await.problem().0, 404);
    task.abort();
}

#[tokio::test]
async fn the_certificate_that_a_reissue_replaced_is_revoked_alone() {
    let world = World::new().await;
    let old = world.known(PrincipalKind::Service, "backend").await;
    let new = world.pki.service("backend");
    world.record(&new).await;
    let before = world.store.view().epoch();
    let task = followers(&world, ALL, vec![old.cert_ref()]);
    settled(&world).await;
    let serial = old.certificate().serial().to_string();
    let path = format!("/api/v1/certificates/services/{serial}/revoke");
    let answer = world.post(&path, json!({"reason": "superseded"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!((&json["name"], &json["issuer"]), (&json!("backend"), &json!("services")));
    assert_eq!((&json["certificates"], &json["lagging"]), (&json!([serial]), &json!([])));
    assert_eq!(
        json["text"],
        format!(
            "revoked certificate 0x{}… of \"backend\", epoch {}; 1 live session closed; CRL 7 published",
            &serial[..4],
            before.next()
        )
    );
    assert!(world.store.view().is_revoked(&old.cert_ref()).is_some());
    assert!(world.store.view().is_revoked(&new.cert_ref()).is_none());
    let listed = world.get("/api/v1/principals").await.json();
    let backend = &listed["principals"][0];
    assert_eq!(backend["standing"], "active");
    let states: Vec<_> = backend["certificates"].as_array().unwrap().iter().map(|c| &c["state"]).collect();
    assert_eq!(states, ["revoked", "active"]);
    assert_eq!(backend["certificates"][0]["reason"], "superseded");
    let (status, code, _) = world.post(&path, json!({})).await.problem();
    assert_eq!((status, code.as_str()), (409, "store.already_revoked"));
    // The CA by its id; and what is not there, or not a name of anything.
    let path = |ca: &str, serial: &str| format!("/api/v1/certificates/{ca}/{serial}/revoke");
    let serial = format!("0x{}", new.certificate().serial());
    let ask = async |ca: &str, serial: &str, body| world.post(&path(ca, serial), body).await.problem();
    let (status, code, detail) = ask("nowhere", &serial, json!({})).await;
    assert_eq!((status, code.as_str()), (404, "store.unknown_issuer"));
    assert_eq!(detail, "no CA has the label or id \"nowhere\"");
    let (status, code, _) = ask("devices", &serial, json!({})).await;
    assert_eq!((status, code.as_str()), (404, "store.unknown_certificate"));
    assert_eq!(ask("services", "xyz", json!({})).await.0, 400);
    assert_eq!(ask("services", &serial, json!({"reason": "certificateHold"})).await.0, 400);
    assert_eq!(ask("services", &serial, json!({"why": "x"})).await.1, "request.unknown_field");
    assert!(world.store.view().is_revoked(&new.cert_ref()).is_none());
    let by_id = world.post(&path(&new.issuer().to_string(), &serial), json!({})).await;
    assert_eq!((by_id.status.as_u16(), &by_id.json()["issuer"]), (200, &json!("services")));
    assert!(world.store.view().is_revoked(&new.cert_ref()).is_some());
    task.abort();
}
