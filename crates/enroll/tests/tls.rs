//! The whole first boot over real TLS: pinned root, verified connection, token, certificate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use enroll::{devices_router, plain_router};
use http::StatusCode;
use serde_json::json;
use tls::http::{Client, HttpLimits, serve};
use tls::{Acceptor, ClientCertificates, Connector, Identity, LiveIdentity, MinVersion};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::SpkiHash;
use x509::Certificate;

struct Serving {
    port: u16,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    async fn devices(world: &World) -> Self {
        let leaf = world.pki.localhost();
        let identity = Identity::new(leaf.chain(), &leaf.key_pkcs8()).unwrap();
        let acceptor = Acceptor::new(
            Arc::new(LiveIdentity::new(identity)),
            world.store.watch_view(),
            ClientCertificates::Optional,
            vec![b"http/1.1".to_vec()],
            MinVersion::V12,
            world.clock.clone(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = watch::channel(false);
        let router = devices_router(&world.enroll);
        let observer = world.ear.clone();
        let acceptor = Some(Arc::new(acceptor));
        let task = tokio::spawn(serve(listener, acceptor, router, HttpLimits::default(), observer, stopped));
        Self { port, stop, task }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap();
    }
}

fn client(world: &World, root: &Certificate, identity: Option<Identity>, port: u16) -> Client {
    let connector =
        Connector::new(std::slice::from_ref(root), identity, world.clock.clone(), vec![b"http/1.1".to_vec()]);
    Client::new(connector.unwrap(), "localhost", port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_boot_goes_from_pin_to_certificate_and_back_in_with_it() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    let serving = Serving::devices(&world).await;
    // 1. Over an unverified connection, only the pinned root.
    let wrong = tls::pinned_root("localhost", serving.port, &[SpkiHash([7; 32])]).await;
    assert!(wrong.is_err());
    let root = tls::pinned_root("localhost", serving.port, &[world.pki.pin()]).await.unwrap();
    assert_eq!(root.der(), world.pki.root().certificate().der());
    // 2. Over a verified one, the token.
    let key = key();
    let body = json!({"token": token, "csr": csr_pem(&key, "")});
    let plain = client(&world, &root, None, serving.port);
    let answer = plain.post_json("/provision", &body).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let json = answer.json().unwrap();
    let leaf = Certificate::parse_pem(json["certificate"].as_str().unwrap()).unwrap();
    let chain = Certificate::parse_pem_chain(json["ca_chain"].as_str().unwrap()).unwrap();
    // 3. Back in with the certificate: the listener's verifier takes it.
    let identity = Identity::new(vec![leaf.clone(), chain[0].clone()], &key.pkcs8_der()).unwrap();
    let known = client(&world, &root, Some(identity), serving.port);
    assert_eq!(known.get("/ca/bundle").await.unwrap().status, StatusCode::OK);
    // 4. Once it was used, the token is spent, for everybody and with one body.
    world.connect(&leaf).await;
    let spent = plain.post_json("/provision", &body).await.unwrap();
    let other = json!({"token": token, "csr": csr_pem(&common::key(), "")});
    let other = plain.post_json("/provision", &other).await.unwrap();
    assert_eq!((spent.status, other.status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    assert_eq!(spent.body, other.body);
    assert_eq!(world.ear.reasons(), ["token.spent", "alert token.spent", "token.spent", "alert token.spent"]);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_is_refused_in_the_handshake_and_its_serial_is_in_the_crl() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let key = key();
    let answer = world.provision(&world.token(&device, 1).await, &key).await;
    let leaf = certificate(&answer);
    let serving = Serving::devices(&world).await;
    let root = world.pki.root().certificate();
    let identity =
        Identity::new(vec![leaf.clone(), world.pki.devices().certificate().clone()], &key.pkcs8_der())
            .unwrap();
    let known = client(&world, root, Some(identity), serving.port);
    assert_eq!(known.get("/ca/bundle").await.unwrap().status, StatusCode::OK);
    world.ear.take();
    let done = world
        .store
        .revoke_device(&device, x509::CrlReason::KeyCompromise, "test", world.now())
        .await
        .unwrap();
    assert!(known.get("/ca/bundle").await.is_err());
    assert_eq!(world.ear.reasons(), ["trust.revoked"]);
    enroll::publish_due(&world.enroll, done.epoch, world.now()).await.unwrap();
    let stranger = client(&world, root, None, serving.port);
    let served = stranger.get("/crl/devices/0.crl").await.unwrap();
    let crl = x509::Crl::parse_der(&served.body).unwrap();
    crl.verify(world.pki.devices().certificate()).unwrap();
    assert_eq!(crl.serials(), [(leaf.serial(), x509::CrlReason::KeyCompromise)]);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_listener_serves_crls_without_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    enroll::publish_due(&world.enroll, world.store.view().epoch(), world.now()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let router = plain_router(&world.enroll);
    let task = tokio::spawn(serve(listener, None, router, HttpLimits::default(), world.ear.clone(), stopped));
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.write_all(b"GET /crl/devices/0.pem HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let read = tcp.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("-----BEGIN X509 CRL-----"));
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
}
