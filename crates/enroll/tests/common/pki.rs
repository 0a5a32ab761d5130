//! A hierarchy made at a fixed time, clocks and randomness that tests set, and an observer that listens.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::{Event, Observer};
use axum::Router;
use axum::body::Body;
use ca::ceremony::{self, Hierarchy, RootWanted, SubWanted};
use ca::{Evidence, Facts, Issuer, RecordedTicket, Wanted};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use signer::{FileKey, IssuingKey, RawSigner};
use store::{CaRow, Store};
use tower::ServiceExt;
use types::{Clock, Entropy, Mono, Now, PrincipalKind, Secret, Serial, Wall};
use x509::{CaPurpose, Certificate, Csr, KeyKind, SubjectTemplate};

/// 2026-08-01T00:00:00Z.
pub const START: Wall = Wall(1_785_542_400_000);

pub struct TestClock {
    wall: AtomicI64,
    mono: AtomicU64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicI64::new(START.0), mono: AtomicU64::new(1) })
    }

    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
        self.mono.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    pub fn set_wall(&self, wall: Wall) {
        self.wall.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        Now { mono: Mono(self.mono.load(Ordering::SeqCst)), wall: Wall(self.wall.load(Ordering::SeqCst)) }
    }
}

/// SHA-256 of a counter: different every time, the same in every run.
pub struct Counted(pub u64);

impl Entropy for Counted {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&x509::sha256(&self.0.to_be_bytes())[..chunk.len()]);
        }
    }
}

#[derive(Default)]
pub struct Ear(Mutex<Vec<Event>>);

impl Observer for Ear {
    fn note(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Ear {
    /// What was heard since the last time.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The reasons of refusals and the codes of alerts since the last time.
    pub fn reasons(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .filter_map(|event| match event {
                Event::TokenRefused { reason, .. } | Event::ConnectionRefused { reason, .. } => Some(reason),
                Event::Alert { code, .. } => Some(format!("alert {code}")),
                Event::ClockUnsound { .. } => Some("clock.unsound".to_owned()),
                _ => None,
            })
            .collect()
    }
}

pub struct Pki {
    pub root: Certificate,
    pub root_key: FileKey,
    subs: Vec<(Issuer, Secret)>,
}

impl Pki {
    /// Root, devices, services (with operators) and servers, all P-256.
    pub fn new() -> Self {
        let now = Now { mono: Mono(0), wall: START };
        let root_key = FileKey::generate(KeyKind::P256).unwrap();
        let ticket = ceremony::plan_root(
            RootWanted {
                common_name: "Test root".to_owned(),
                template: SubjectTemplate::default(),
                spki_der: root_key.spki_der().to_vec(),
                serial: Serial::from_random([1; 20]),
                hierarchy: Hierarchy::Standard,
            },
            now,
        )
        .unwrap();
        let signature = root_key.sign(ticket.tbs()).unwrap();
        let root = ceremony::finish(ticket, &signature).unwrap();
        let parts: [(&str, Vec<PrincipalKind>, bool); 3] = [
            ("devices", vec![PrincipalKind::Device], false),
            ("services", vec![PrincipalKind::Service, PrincipalKind::Operator], false),
            ("servers", vec![], true),
        ];
        let subs = parts
            .into_iter()
            .enumerate()
            .map(|(at, (label, kinds, servers))| {
                let key = FileKey::generate(KeyKind::P256).unwrap();
                let ticket = ceremony::plan_sub(
                    SubWanted {
                        common_name: format!("Test {label} CA"),
                        template: SubjectTemplate::default(),
                        spki_der: key.spki_der().to_vec(),
                        serial: Serial::from_random([u8::try_from(at).unwrap() + 2; 20]),
                        hierarchy: Hierarchy::Standard,
                        purpose: if servers { CaPurpose::Servers } else { CaPurpose::Clients },
                        crl_url: None,
                        aia_url: None,
                    },
                    &root,
                    now,
                )
                .unwrap();
                let signature = root_key.sign(ticket.tbs()).unwrap();
                let certificate = ceremony::finish(ticket, &signature).unwrap();
                let id = certificate.issuer_id_as_ca();
                let issuer = Issuer {
                    label: label.to_owned(),
                    certificate,
                    kinds,
                    servers,
                    crl_url: Some(format!("http://localhost:8080/crl/{id}/0.crl")),
                    aia_url: Some(format!("http://localhost:8080/ca/{id}.cer")),
                    template: SubjectTemplate::default(),
                };
                (issuer, key.pkcs8_der())
            })
            .collect();
        Self { root, root_key, subs }
    }

    pub fn issuers(&self) -> Vec<(Issuer, IssuingKey)> {
        let key = |secret: &Secret| IssuingKey::new(FileKey::from_pkcs8_der(secret.expose()).unwrap());
        self.subs.iter().map(|(issuer, secret)| (issuer.clone(), key(secret))).collect()
    }

    pub fn issuer(&self, label: &str) -> &Issuer {
        &self.subs.iter().find(|(issuer, _)| issuer.label == label).unwrap().0
    }

    /// Tells a new store of every CA.
    pub async fn register(&self, store: &Store, now: Now) {
        let root = CaRow {
            id: self.root.issuer_id_as_ca(),
            label: "root".to_owned(),
            certificate_der: self.root.der().to_vec(),
            parent: None,
            kinds: vec![],
            servers: false,
            key_file: None,
        };
        store.ca_add(root, now).await.unwrap();
        for (issuer, _) in &self.subs {
            let row = CaRow {
                id: issuer.id(),
                label: issuer.label.clone(),
                certificate_der: issuer.certificate.der().to_vec(),
                parent: Some(self.root.issuer_id_as_ca()),
                kinds: issuer.kinds.clone(),
                servers: issuer.servers,
                key_file: None,
            };
            store.ca_add(row, now).await.unwrap();
        }
    }

    /// A certificate that the ledger does not know, by the CA of that label.
    pub fn leaf(&self, label: &str, wanted: Wanted, key: &FileKey, serial: u8, now: Now) -> Certificate {
        let (issuer, secret) = self.subs.iter().find(|(issuer, _)| issuer.label == label).unwrap();
        let csr = Csr::parse_der(&csr_der(key, "")).unwrap();
        let facts =
            Facts { registered: wanted.principal().map(|principal| principal.kind), ..Facts::default() };
        let evidence = match &wanted {
            Wanted::Device { id } => {
                Evidence::ProvisioningToken { device: id.clone(), token_id: "test".to_owned() }
            }
            _ => Evidence::Ceremony,
        };
        let admitted = ca::admit(csr, evidence, wanted, &facts).unwrap();
        let lifetime = Duration::from_secs(90 * 86_400);
        let ticket = ca::prepare(admitted, issuer, Serial::from_random([serial; 20]), lifetime, now).unwrap();
        let (cert, hash) = (ticket.intent().cert, ticket.intent().tbs_hash);
        let recorded = RecordedTicket::assertion(ticket, cert, hash).unwrap();
        let signature = FileKey::from_pkcs8_der(secret.expose()).unwrap().sign(recorded.tbs()).unwrap();
        ca::finish(recorded, issuer, &signature).unwrap()
    }
}

pub fn key() -> FileKey {
    FileKey::generate(KeyKind::P256).unwrap()
}

pub fn csr_pem(key: &FileKey, common_name: &str) -> String {
    x509::pem::encode("CERTIFICATE REQUEST", &csr_der(key, common_name))
}

/// A request; with an empty name, one without a subject, as a device makes it that does not know
/// its name yet.
pub fn csr_der(key: &FileKey, common_name: &str) -> Vec<u8> {
    if !common_name.is_empty() {
        return signer::csr(key, common_name).unwrap();
    }
    let inner = [&[2, 1, 0, 0x30, 0], key.spki_der(), &[0xa0, 0]].concat();
    let len = u16::try_from(inner.len()).unwrap().to_be_bytes();
    let info = match inner.len() {
        0..0x80 => [&[0x30, len[1]], inner.as_slice()].concat(),
        0x80..0x100 => [&[0x30, 0x81, len[1]], inner.as_slice()].concat(),
        _ => [&[0x30, 0x82, len[0], len[1]], inner.as_slice()].concat(),
    };
    x509::assemble(&info, key.algorithm(), &key.sign(&info).unwrap())
}

/// An answer, read whole.
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status, the slug of the problem, its detail.
    pub fn problem(&self) -> (u16, String, String) {
        let json = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{json}");
        assert_eq!(json["status"], self.status.as_u16());
        assert_eq!(json["error"], json["detail"]);
        let slug = json["type"].as_str().unwrap().strip_prefix("urn:bailiwick:error:").unwrap().to_owned();
        (self.status.as_u16(), slug, json["detail"].as_str().unwrap().to_owned())
    }
}

/// Sends a request through a router, in process.
pub async fn send(router: &Router, request: Request<Body>) -> Answered {
    let sent = async {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answered { status: parts.status, headers: parts.headers, body }
    };
    tokio::time::timeout(Duration::from_secs(30), sent).await.expect("an answer within 30 s")
}

pub fn request(method: Method, path: &str, body: Option<&Value>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    match body {
        Some(json) => {
            builder.header("content-type", "application/json").body(Body::from(json.to_string())).unwrap()
        }
        None => builder.body(Body::empty()).unwrap(),
    }
}
