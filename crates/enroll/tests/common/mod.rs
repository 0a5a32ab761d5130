#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part of the fixture")]

pub mod web;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use enroll::{Deps, Enroll, Settings, devices_router};
use http::Method;
use policy::{Source, Table};
use serde_json::{Value, json};
use signer::{BundleKey, FileKey};
use store::{NewDevice, NewToken, Store};
use tempfile::TempDir;
use testkit::pki::Pki;
use testkit::{Seeded, StepClock};
use tls::http::PeerAddr;
use tokio::sync::watch;
use types::{Clock, DeviceId, Now, ProjectId};
use x509::Certificate;

pub use web::*;

/// One installation: a store in a folder of its own, a hierarchy, enrolment over both.
pub struct World {
    pub dir: TempDir,
    pub pki: Pki,
    pub clock: Arc<StepClock>,
    pub ear: Arc<Ear>,
    pub policy: watch::Sender<Arc<Table>>,
    pub store: Store,
    pub enroll: Arc<Enroll>,
    pub router: Router,
    settings: Settings,
    entropy_start: u64,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let dir = TempDir::new().unwrap();
        let (pki, clock, ear) = (Pki::fixed(), Arc::new(StepClock::default()), Arc::new(Ear::default()));
        let store = Store::open(dir.path(), clock.now()).unwrap();
        store.note_time(START).await.unwrap();
        register(&pki, &store, clock.now()).await;
        let policy = watch::Sender::new(Arc::new(Table::deny_all()));
        let enroll = build(&pki, &clock, &ear, &policy, &store, &settings, 0);
        let router = devices_router(&enroll);
        Self { dir, pki, clock, ear, policy, store, enroll, router, settings, entropy_start: 0 }
    }

    /// As after a loss of power: everything in memory is gone, the folder is there.
    pub fn reopened(self) -> Self {
        let Self { dir, pki, clock, ear, policy, store, enroll, router, settings, entropy_start } = self;
        drop((router, enroll, store));
        let store = Store::open(dir.path(), clock.now()).unwrap();
        let entropy_start = entropy_start + 1_000_000;
        let enroll = build(&pki, &clock, &ear, &policy, &store, &settings, entropy_start);
        let router = devices_router(&enroll);
        Self { dir, pki, clock, ear, policy, store, enroll, router, settings, entropy_start }
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    pub fn rules(&self, text: &str) {
        let table = Table::compile(&[Source { file: "test.acl", text }], 1).unwrap();
        self.policy.send_replace(Arc::new(table));
    }

    pub async fn device(&self, id: &str) -> DeviceId {
        let id = DeviceId::parse(id).unwrap();
        let new = NewDevice {
            id: id.clone(),
            original: None,
            project: ProjectId::parse(ProjectId::DEFAULT).unwrap(),
            fleet: None,
            label: None,
        };
        self.store.device_add(new, "test", self.now()).await.unwrap();
        id
    }

    /// A token for a registered device; `number` makes it different from others.
    pub async fn token(&self, device: &DeviceId, number: u8) -> String {
        self.token_for(device, number, Duration::from_secs(86_400), false).await
    }

    pub async fn token_for(&self, device: &DeviceId, number: u8, ttl: Duration, replace: bool) -> String {
        let (id, secret) = token_parts(number);
        let new = NewToken {
            id: id.clone(),
            secret_hash: x509::sha256(secret.as_bytes()),
            device: device.clone(),
            expires_at: self.now().wall.plus(ttl),
            replace,
        };
        self.store.token_create(new, "test", self.now()).await.unwrap();
        format!("bw1.{id}.{secret}")
    }

    pub async fn post(&self, body: &Value) -> Answered {
        self.post_from("192.0.2.9:1000", body).await
    }

    pub async fn post_from(&self, peer: &str, body: &Value) -> Answered {
        let mut request = request(Method::POST, "/provision", Some(body));
        request.extensions_mut().insert(PeerAddr(peer.parse::<SocketAddr>().unwrap()));
        send(&self.router, request).await
    }

    pub async fn provision(&self, token: &str, key: &FileKey) -> Answered {
        self.post(&json!({"token": token, "csr": csr_pem(key, "")})).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        send(&self.router, request(Method::GET, path, None)).await
    }

    /// What a certificate's first mutual-TLS connection does.
    pub async fn connect(&self, certificate: &Certificate) {
        self.store.confirm(certificate.der_hash(), self.now()).await.unwrap();
    }
}

fn build(
    pki: &Pki,
    clock: &Arc<StepClock>,
    ear: &Arc<Ear>,
    policy: &watch::Sender<Arc<Table>>,
    store: &Store,
    settings: &Settings,
    entropy_start: u64,
) -> Arc<Enroll> {
    Enroll::new(Deps {
        store: store.clone(),
        issuers: pki.issuers(),
        roots: vec![pki.root().certificate().clone()],
        bundle_key: BundleKey::new(key()),
        policy: policy.subscribe(),
        clock: clock.clone(),
        entropy: Arc::new(Mutex::new(Seeded::new(entropy_start))),
        observer: ear.clone(),
        settings: settings.clone(),
    })
    .unwrap()
}

/// The id and the secret of a test's token.
pub fn token_parts(number: u8) -> (String, String) {
    let letter = |at: u8| char::from(b"0123456789abcdefghjkmnpqrstvwxyz"[usize::from(at & 31)]);
    let tail: String = [letter(number >> 5), letter(number)].into_iter().collect();
    (format!("{}{tail}", "a".repeat(24)), format!("{}{tail}", "s".repeat(24)))
}

pub fn certificate(answer: &Answered) -> Certificate {
    assert_eq!(answer.status, 200, "{}", answer.text());
    Certificate::parse_pem(answer.json()["certificate"].as_str().unwrap()).unwrap()
}
