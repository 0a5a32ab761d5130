#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part of the fixture")]

#[path = "../../../enroll/tests/common/web.rs"]
mod web;

use std::sync::{Arc, Mutex};

use admin::{
    Actor, Admin, Deps, Later, LiveClient, LiveClients, LivePage, Metrics, Refusals, Refused, Reload,
    Reloaded, Sample, SampleKind, Settings, router,
};
use axum::{Extension, Router};
use http::Method;
use policy::{Source, Table};
use serde_json::{Value, json};
use store::{NewIntent, Store};
use tempfile::TempDir;
use testkit::pki::{Leaf, Pki};
use testkit::{Seeded, StepClock};
use tokio::sync::watch;
use types::{Clock, DeviceId, Now, PrincipalKind, ProjectId};

pub use web::*;

/// The ports of a server that is not there.
pub struct Fakes {
    /// What a reload answers.
    pub reload: Mutex<Result<Reloaded, Vec<String>>>,
    pub reloaded_by: Mutex<Vec<String>>,
}

impl LiveClients for Fakes {
    fn live<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Later<'a, LivePage> {
        let client = LiveClient {
            kind: "device".into(),
            name: "pump-7".into(),
            client_id: after.unwrap_or("first").into(),
            serial: "1f3a".into(),
            issuer: "devices".into(),
            peer: "192.0.2.9:1000".into(),
            tls: "TLSv1.3".into(),
            suite: "TLS13_AES_128_GCM_SHA256".into(),
            conn: limit as u64,
            connected_at: "2026-08-01T00:00:00Z".into(),
        };
        Box::pin(async move { LivePage { clients: vec![client], next: Some("1".into()) } })
    }
}

impl Refusals for Fakes {
    fn newest(&self, limit: usize) -> Vec<Refused> {
        let refused = Refused {
            at: "2026-08-01T00:00:00Z".into(),
            level: "warn".into(),
            event: json!({"event": "token_refused"}),
        };
        vec![refused; limit.min(3)]
    }
}

impl Reload for Fakes {
    fn reload<'a>(&'a self, actor: &'a str) -> Later<'a, Result<Reloaded, Vec<String>>> {
        self.reloaded_by.lock().unwrap().push(actor.to_owned());
        Box::pin(async move { self.reload.lock().unwrap().clone() })
    }
}

impl Metrics for Fakes {
    fn samples(&self) -> Vec<Sample> {
        vec![Sample {
            name: "bailiwick_events_total",
            help: "Events.",
            kind: SampleKind::Counter,
            labels: vec![("code", "conn.refused".into())],
            value: 3.0,
        }]
    }
}

/// One installation as an operator sees it.
pub struct World {
    pub dir: TempDir,
    pub pki: Pki,
    pub clock: Arc<StepClock>,
    pub ear: Arc<Ear>,
    pub policy: watch::Sender<Arc<Table>>,
    pub store: Store,
    pub fakes: Arc<Fakes>,
    pub admin: Arc<Admin>,
    /// With an operator in front.
    pub router: Router,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let dir = TempDir::new().unwrap();
        let pki = Pki::fixed();
        let (clock, ear) = (Arc::new(StepClock::default()), Arc::new(Ear::default()));
        let store = Store::open(dir.path(), clock.now()).unwrap();
        store.note_time(START).await.unwrap();
        register(&pki, &store, clock.now()).await;
        let policy = watch::Sender::new(Arc::new(Table::deny_all()));
        let fakes = Arc::new(Fakes {
            reload: Mutex::new(Ok(Reloaded { policy_epoch: 2, rules: 5, parts: vec!["policy".into()] })),
            reloaded_by: Mutex::default(),
        });
        let admin = Admin::new(Deps {
            store: store.clone(),
            policy: policy.subscribe(),
            clock: clock.clone(),
            entropy: Arc::new(Mutex::new(Seeded::new(3))),
            observer: ear.clone(),
            clients: fakes.clone(),
            refusals: fakes.clone(),
            reload: fakes.clone(),
            metrics: fakes.clone(),
            settings: Settings { root_pins: vec![pki.pin()], ..settings },
        });
        let router = router(&admin).layer(Extension(Actor("operator \"ada\"".into())));
        Self { dir, pki, clock, ear, policy, store, fakes, admin, router }
    }

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    pub fn rules(&self, text: &str) {
        let table = Table::compile(&[Source { file: "test.acl", text }], 4).unwrap();
        self.policy.send_replace(Arc::new(table));
    }

    pub async fn get(&self, path: &str) -> Answered {
        send(&self.router, request(Method::GET, path, None)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answered {
        send(&self.router, request(Method::POST, path, Some(&body))).await
    }

    pub async fn delete(&self, path: &str) -> Answered {
        send(&self.router, request(Method::DELETE, path, None)).await
    }

    pub async fn add_device(&self, id: &str) -> DeviceId {
        let answer = self.post("/api/v1/devices", json!({"id": id})).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        DeviceId::parse_written(id).unwrap().0
    }

    pub async fn add_principal(&self, kind: PrincipalKind, name: &str) -> DeviceId {
        let name = DeviceId::parse(name).unwrap();
        let project = ProjectId::parse(ProjectId::DEFAULT).unwrap();
        self.store.principal_add(kind, name.clone(), project, "test", self.now()).await.unwrap();
        name
    }

    /// Takes a certificate of the fixture into the ledger, as if enrolment had made it.
    pub async fn record(&self, leaf: &Leaf) {
        let certificate = leaf.certificate();
        let tbs = tbs_of(leaf.der()).to_vec();
        let intent = NewIntent {
            token_id: None,
            cert: leaf.cert_ref(),
            spki: certificate.spki_hash(),
            tbs_hash: x509::sha256(&tbs),
            tbs,
            principal: leaf.principal().cloned(),
            project: ProjectId::parse(ProjectId::DEFAULT).unwrap(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            issuer_label: "test".into(),
            evidence: "test".into(),
        };
        let receipt = self.store.record_intent(intent, self.now()).await.unwrap();
        self.store.record_certificate(receipt, leaf.der(), self.now()).await.unwrap();
    }

    /// A registered principal with a certificate in the ledger.
    pub async fn known(&self, kind: PrincipalKind, name: &str) -> Leaf {
        match kind {
            PrincipalKind::Device => {
                self.add_device(name).await;
            }
            _ => {
                self.add_principal(kind, name).await;
            }
        }
        let leaf = self.pki.principal(kind, name);
        self.record(&leaf).await;
        leaf
    }

    /// Everything that was recorded, as text.
    pub async fn recorded(&self) -> String {
        let events = self.store.events_unchained(1000).await.unwrap();
        events.into_iter().map(|(_, _, body)| body + "\n").collect()
    }
}

/// The first element of a certificate's SEQUENCE: what is signed.
fn tbs_of(der: &[u8]) -> &[u8] {
    let element = |at: usize| -> (usize, usize) {
        match der[at + 1] {
            short @ 0..0x80 => (at + 2, usize::from(short)),
            long => {
                let count = usize::from(long & 0x7f);
                let length =
                    der[at + 2..at + 2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (at + 2 + count, length)
            }
        }
    };
    let (inner, _) = element(0);
    let (content, length) = element(inner);
    &der[inner..content + length]
}
