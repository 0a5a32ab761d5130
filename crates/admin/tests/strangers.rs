//! Every endpoint, asked by those who may not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::sync::Arc;

use admin::{Actor, ENDPOINTS, Who, listener_router, operator_of, router, unix_router};
use axum::Router;
use axum::body::Body;
use common::*;
use http::{Method, Request};
use testkit::pki::Leaf;
use tls::http::{PeerAddr, PeerChain, PeerUid};
use types::{PrincipalKind, Reason};
use x509::CrlReason;

/// A request to an endpoint whose names in the path are filled in.
fn ask(method: &str, path: &str) -> Request<Body> {
    let path = path.replace("{id}", "pump-7").replace("{issuer}", "devices").replace("{serial}", "01");
    let mut request = request(method.parse::<Method>().unwrap(), &path, None);
    request.extensions_mut().insert(PeerAddr("192.0.2.9:1000".parse().unwrap()));
    request
}

fn with_chain(world: &World, mut request: Request<Body>, leaf: Option<&Leaf>) -> Request<Body> {
    let chain = leaf.map(|leaf| Arc::new(world.pki.chain(leaf, START).unwrap()));
    request.extensions_mut().insert(PeerChain(chain));
    request
}

/// Asks every endpoint with this certificate and expects `status` and `reason` of all but the open ones.
async fn every(world: &World, router: &Router, leaf: Option<&Leaf>, status: u16, code: &str, reason: &str) {
    for endpoint in ENDPOINTS {
        let shown = format!("{} {}", endpoint.method, endpoint.path);
        let request = with_chain(world, ask(endpoint.method, endpoint.path), leaf);
        world.ear.take();
        let answer = send(router, request).await;
        if endpoint.who == Who::Anyone {
            assert_eq!(answer.status, 200, "{shown}");
            assert_eq!(world.ear.reasons(), Vec::<String>::new(), "{shown}");
            continue;
        }
        let (said, slug, _) = answer.problem();
        assert_eq!((said, slug.as_str()), (status, code), "{shown}");
        assert_eq!(world.ear.reasons(), [reason], "{shown}");
    }
}

#[tokio::test]
async fn every_endpoint_refuses_strangers() {
    let world = World::new().await;
    let listener = listener_router(&world.admin);
    every(&world, &listener, None, 401, "admin.no_actor", "tls.no_certificate").await;
    // The bare router has nobody to ask either.
    let bare = router(&world.admin);
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.who == Who::Operator) {
        let answer = send(&bare, ask(endpoint.method, endpoint.path)).await;
        assert_eq!(answer.problem().0, 401, "{} {}", endpoint.method, endpoint.path);
    }
}

#[tokio::test]
async fn every_endpoint_refuses_devices_and_services() {
    let world = World::new().await;
    let listener = listener_router(&world.admin);
    let device = world.known(PrincipalKind::Device, "pump-7").await;
    let service = world.known(PrincipalKind::Service, "backend").await;
    world.store.confirm(device.der_hash(), world.now()).await.unwrap();
    for leaf in [&device, &service] {
        every(&world, &listener, Some(leaf), 403, "admin.not_an_operator", "admin.not_an_operator").await;
    }
}

#[tokio::test]
async fn every_endpoint_refuses_operators_who_are_not_believed() {
    let world = World::new().await;
    let listener = listener_router(&world.admin);
    // Well signed, but never recorded.
    let unknown = world.pki.operator("mallory");
    every(&world, &listener, Some(&unknown), 403, "trust.not_in_ledger", "trust.not_in_ledger").await;
    // An operator of the same name whose certificate the devices CA signed.
    let ada = world.known(PrincipalKind::Operator, "ada").await;
    let wrong_ca = world.pki.by_wrong_ca(PrincipalKind::Operator, "ada");
    let chain = world.pki.chain(&wrong_ca, START).unwrap();
    operator_of(&world.store, &chain, world.now()).await.unwrap_err();
    // Revoked after the connection was made: the next request on it is refused.
    let good = with_chain(&world, ask("GET", "/api/v1/status"), Some(&ada));
    assert_eq!(send(&listener, good).await.status, 200);
    world
        .store
        .revoke_certificate(ada.cert_ref(), CrlReason::KeyCompromise, "test", world.now())
        .await
        .unwrap();
    every(&world, &listener, Some(&ada), 403, "trust.revoked", "trust.revoked").await;
}

#[tokio::test]
async fn an_expired_operator_and_a_wrong_clock_are_refused() {
    let world = World::new().await;
    let ada = world.known(PrincipalKind::Operator, "ada").await;
    let chain = world.pki.chain(&ada, START).unwrap();
    assert_eq!(
        operator_of(&world.store, &chain, world.now()).await.unwrap(),
        Actor("operator \"ada\"".into())
    );
    world.clock.advance(std::time::Duration::from_secs(366 * 86_400));
    let error = operator_of(&world.store, &chain, world.now()).await.unwrap_err();
    assert_eq!(error.code(), Reason::Expired.code());
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_tell_strangers_nothing() {
    let world = World::new().await;
    let bare = router(&world.admin);
    for (method, path) in
        [("GET", "/"), ("GET", "/api/v1/nothing"), ("DELETE", "/api/v1/devices"), ("PUT", "/metrics")]
    {
        assert_eq!(send(&bare, ask(method, path)).await.problem().0, 401, "{method} {path}");
    }
    assert_eq!(
        world.get("/api/v1/nothing").await.problem(),
        (404, "request.no_such_path".into(), "no endpoint GET /api/v1/nothing".into())
    );
    let answer = world.delete("/api/v1/devices").await;
    assert_eq!(
        answer.problem(),
        (405, "request.method".into(), "DELETE is not allowed here; allowed: POST, GET".into())
    );
    assert_eq!(answer.header("allow"), "POST, GET");
}

#[tokio::test]
async fn nobody_brings_an_actor_along() {
    let world = World::new().await;
    let mut forged = with_chain(&world, ask("GET", "/api/v1/status"), None);
    forged.extensions_mut().insert(Actor("operator \"root\"".into()));
    assert_eq!(send(&listener_router(&world.admin), forged).await.problem().0, 401);
    let mut forged = ask("GET", "/api/v1/status");
    forged.extensions_mut().insert(Actor("uid 0".into()));
    assert_eq!(send(&unix_router(&world.admin, vec![0]), forged).await.problem().0, 401);
    // Nor does a header make one.
    let mut forged = with_chain(&world, ask("GET", "/api/v1/status"), None);
    for header in ["x-forwarded-client-cert", "x-ssl-client-s-dn", "forwarded", "authorization"] {
        forged.headers_mut().insert(header, "CN=ada".parse().unwrap());
    }
    assert_eq!(send(&listener_router(&world.admin), forged).await.problem().0, 401);
}

#[tokio::test]
async fn the_socket_is_for_its_users_only() {
    let world = World::new().await;
    let socket = unix_router(&world.admin, vec![0, 1000]);
    for (uid, status) in [(0, 200), (1000, 200), (1001, 403), (u32::MAX, 403)] {
        let mut request = request(Method::GET, "/api/v1/status", None);
        request.extensions_mut().insert(PeerUid(uid));
        assert_eq!(send(&socket, request).await.status.as_u16(), status, "{uid}");
        let expected: &[&str] = if status == 403 { &["admin.wrong_user"] } else { &[] };
        assert_eq!(world.ear.reasons(), expected);
    }
    let mut add = request(Method::POST, "/api/v1/devices", Some(&serde_json::json!({"id": "pump-7"})));
    add.extensions_mut().insert(PeerUid(1000));
    assert_eq!(send(&socket, add).await.json()["added_by"], "uid 1000");
}
