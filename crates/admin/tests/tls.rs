//! The operator API over real TLS: who gets in is decided anew for every request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use admin::listener_router;
use common::*;
use http::StatusCode;
use serde_json::json;
use testkit::pki::Leaf;
use tls::http::{Client, HttpLimits, serve};
use tls::{Acceptor, ClientCertificates, Connector, Identity, LiveIdentity, MinVersion};
use tokio::net::TcpListener;
use tokio::sync::watch;
use types::PrincipalKind;
use x509::CrlReason;

async fn serving(world: &World, mode: ClientCertificates) -> (u16, watch::Sender<bool>) {
    let leaf = world.pki.localhost();
    let identity = Identity::new(leaf.chain(), &leaf.key_pkcs8()).unwrap();
    let acceptor = Acceptor::new(
        Arc::new(LiveIdentity::new(identity)),
        world.store.watch_view(),
        mode,
        vec![b"http/1.1".to_vec()],
        MinVersion::V13,
        world.clock.clone(),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = watch::channel(false);
    let (router, observer) = (listener_router(&world.admin), world.ear.clone());
    tokio::spawn(serve(listener, Some(Arc::new(acceptor)), router, HttpLimits::default(), observer, stopped));
    (port, stop)
}

fn client(world: &World, leaf: Option<&Leaf>, port: u16) -> Client {
    let identity = leaf.map(|leaf| Identity::new(leaf.chain(), &leaf.key_pkcs8()).unwrap());
    let roots = [world.pki.root().certificate().clone()];
    let connector = Connector::new(&roots, identity, world.clock.clone(), vec![b"http/1.1".to_vec()]);
    Client::new(connector.unwrap(), "localhost", port).with_deadline(Duration::from_secs(20))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_gets_in_and_nobody_else_does() {
    let world = World::new().await;
    let ada = world.known(PrincipalKind::Operator, "ada").await;
    let device = world.known(PrincipalKind::Device, "pump-7").await;
    let service = world.known(PrincipalKind::Service, "backend").await;
    let (port, _stop) = serving(&world, ClientCertificates::Optional).await;
    let operator = client(&world, Some(&ada), port);
    let added = operator.post_json("/api/v1/devices", &json!({"id": "pump-8"})).await.unwrap();
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text());
    assert_eq!(added.json().unwrap()["added_by"], "operator \"ada\"");
    assert!(world.ear.reasons().is_empty());
    for (leaf, status, reason) in [
        (None, 401, "tls.no_certificate"),
        (Some(&device), 403, "admin.not_an_operator"),
        (Some(&service), 403, "admin.not_an_operator"),
    ] {
        let stranger = client(&world, leaf, port);
        let refused = stranger.post_json("/api/v1/devices", &json!({"id": "pump-9"})).await.unwrap();
        assert_eq!(refused.status.as_u16(), status);
        assert_eq!(world.ear.reasons(), [reason]);
        assert_eq!(stranger.get("/healthz").await.unwrap().status, StatusCode::OK);
    }
    // An operator of another installation whose CAs bear the same names.
    let foreign = world.pki.foreign();
    let mallory = client(&world, Some(&foreign.operator("ada")), port);
    assert!(mallory.get("/api/v1/status").await.is_err());
    assert_eq!(world.ear.reasons(), ["trust.unknown_issuer"]);
    assert_eq!(world.get("/api/v1/devices/pump-9").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_requires_a_certificate_refuses_in_the_handshake() {
    let world = World::new().await;
    let ada = world.known(PrincipalKind::Operator, "ada").await;
    let (port, _stop) = serving(&world, ClientCertificates::Required).await;
    assert!(client(&world, None, port).get("/healthz").await.is_err());
    assert_eq!(world.ear.reasons(), ["tls.no_certificate"]);
    assert_eq!(client(&world, Some(&ada), port).get("/api/v1/status").await.unwrap().status, StatusCode::OK);
    world.store.revoke_certificate(ada.cert_ref(), CrlReason::Superseded, "test", world.now()).await.unwrap();
    assert!(client(&world, Some(&ada), port).get("/api/v1/status").await.is_err());
    assert_eq!(world.ear.reasons(), ["trust.revoked"]);
}
