//! Services and operators: admin records the order, somebody else carries it out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use admin::Settings;
use common::*;
use serde_json::json;
use store::OrderKind;
use tokio::task::JoinHandle;
use types::{PrincipalKind, Wall};
use x509::{Certificate, KeyKind};

/// Carries out every order with a certificate of the fixture, or refuses it.
fn carrying_out(world: &Arc<World>, refuse: Option<&'static str>) -> JoinHandle<()> {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        let mut orders = world.store.watch_orders();
        loop {
            orders.mark_unchanged();
            for (id, order) in world.store.orders_open().await.unwrap() {
                let outcome = match (refuse, order.kind) {
                    (Some(words), _) => Err(words.to_owned()),
                    (None, OrderKind::Operator) => Ok(world.pki.operator(&order.name).der().to_vec()),
                    (None, _) => Ok(world.pki.service(&order.name).der().to_vec()),
                };
                world.store.order_finish(id, outcome).await.unwrap();
            }
            if orders.changed().await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test]
async fn a_service_and_an_operator_are_registered_and_certified() {
    let world = Arc::new(World::new().await);
    let task = carrying_out(&world, None);
    for (path, kind, name) in
        [("/api/v1/services", "service", "backend"), ("/api/v1/operators", "operator", "bob")]
    {
        let answer = world.post(path, json!({"name": name, "csr": csr_pem(&key(), name)})).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let json = answer.json();
        assert_eq!((&json["name"], &json["kind"]), (&json!(name), &json!(kind)));
        let certificate = Certificate::parse_pem(json["certificate"].as_str().unwrap()).unwrap();
        assert_eq!(certificate.common_names(), [name]);
        assert_eq!(json["serial"], certificate.serial().to_string());
        let chain = Certificate::parse_pem_chain(json["ca_chain"].as_str().unwrap()).unwrap();
        let expected =
            [issuing(&world.pki, "services").certificate().der(), world.pki.root().certificate().der()];
        assert_eq!(chain.iter().map(Certificate::der).collect::<Vec<_>>(), expected);
    }
    let listed = world.get("/api/v1/principals").await.json();
    let names: Vec<_> =
        listed["principals"].as_array().unwrap().iter().map(|p| (&p["kind"], &p["name"])).collect();
    assert_eq!(names, [(&json!("service"), &json!("backend")), (&json!("operator"), &json!("bob"))]);
    assert_eq!(listed["principals"][0]["added_by"], "operator \"ada\"");
    let recorded = world.recorded().await;
    assert!(recorded.contains("\"service_added\"") && recorded.contains("\"operator_added\""));
    task.abort();
}

#[tokio::test]
async fn a_request_that_is_wrong_registers_nothing() {
    let world = Arc::new(World::new().await);
    let good = csr_pem(&key(), "");
    let mut tampered = csr_der(&key(), "");
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let tampered = x509::pem::encode("CERTIFICATE REQUEST", &tampered);
    for (body, place) in [
        (json!({"csr": good}), "/name"),
        (json!({"name": "a b", "csr": good}), "/name"),
        (json!({"name": "backend"}), "/csr"),
        (json!({"name": "backend", "csr": "hello"}), "/csr"),
        (json!({"name": "backend", "csr": tampered}), "/csr"),
        (json!({"name": "backend", "csr": csr_pem(&key(), "admin")}), "/csr"),
        (json!({"name": "backend", "csr": good, "project": "x"}), "/project"),
        (json!({"name": "backend", "csr": good, "days": 3}), "/days"),
    ] {
        for path in ["/api/v1/services", "/api/v1/operators"] {
            let answer = world.post(path, body.clone()).await;
            assert_eq!((answer.problem().0, &answer.json()["place"]), (400, &json!(place)), "{body}");
        }
    }
    world.clock.set_wall(Wall(0));
    let (status, code, _) =
        world.post("/api/v1/services", json!({"name": "backend", "csr": good})).await.problem();
    assert_eq!((status, code.as_str()), (503, "clock.unsound"));
    assert_eq!(world.get("/api/v1/principals").await.json()["principals"], json!([]));
    assert!(world.store.orders_open().await.unwrap().is_empty());
}

#[tokio::test]
async fn names_and_keys_of_others_are_conflicts() {
    let world = Arc::new(World::new().await);
    let task = carrying_out(&world, None);
    let leaf = world.known(PrincipalKind::Device, "pump-7").await;
    world.add_principal(PrincipalKind::Service, "backend").await;
    let ask = async |path: &str, body| world.post(path, body).await.problem();
    let (status, code, detail) =
        ask("/api/v1/services", json!({"name": "PUMP-7", "csr": csr_pem(&key(), "")})).await;
    assert_eq!((status, code.as_str()), (409, "store.name_taken"));
    assert!(detail.ends_with("is taken by the device of that name"), "{detail}");
    let (_, code, _) = ask("/api/v1/operators", json!({"name": "backend", "csr": csr_pem(&key(), "")})).await;
    assert_eq!(code, "store.name_taken");
    let (status, code, detail) =
        ask("/api/v1/services", json!({"name": "other", "csr": csr_pem(leaf.key(), "")})).await;
    assert_eq!((status, code.as_str()), (409, "ca.key_shared"));
    assert_eq!(detail, "/csr: the key is already certified for \"pump-7\"; make a new one");
    // The same name again only on purpose.
    let body = json!({"name": "backend", "csr": csr_pem(&key(), "")});
    let (_, code, detail) = ask("/api/v1/services", body.clone()).await;
    assert_eq!(code, "store.name_taken");
    assert!(detail.contains("reissue"), "{detail}");
    let body = json!({"name": "backend", "csr": csr_pem(&key(), ""), "reissue": true});
    assert_eq!(world.post("/api/v1/services", body).await.status, 201);
    let body = json!({"name": "nobody", "csr": csr_pem(&key(), ""), "reissue": true});
    assert_eq!(ask("/api/v1/services", body).await.1, "store.unknown_principal");
    task.abort();
}

#[tokio::test]
async fn an_order_that_is_refused_or_not_carried_out_says_so() {
    let world = Arc::new(
        World::with(Settings { order_wait: Duration::from_millis(100), ..Settings::default() }).await,
    );
    let body = json!({"name": "backend", "csr": csr_pem(&key(), "")});
    let (status, code, detail) = world.post("/api/v1/services", body).await.problem();
    assert_eq!((status, code.as_str()), (409, "order.refused"));
    assert!(detail.contains("is not finished after 100 ms") && detail.contains("reissue"), "{detail}");
    let task = carrying_out(&world, Some("CA \"services\" expired"));
    let body =
        json!({"name": "other", "csr": csr_pem(&signer::FileKey::generate(KeyKind::P384).unwrap(), "")});
    let (_, _, detail) = world.post("/api/v1/services", body).await.problem();
    assert!(detail.contains("CA \"services\" expired"), "{detail}");
    task.abort();
}
