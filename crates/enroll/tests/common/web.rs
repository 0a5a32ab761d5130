//! What tests through a router need beside testkit: requests, answers, an observer that forgets.

use std::sync::Mutex;
use std::time::Duration;

use audit::{Event, Observer};
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use signer::{FileKey, RawSigner};
use store::{CaRow, Store};
use testkit::pki::{Authority, Pki};
use tower::ServiceExt;
use types::{Now, Wall};
use x509::KeyKind;

/// 2026-08-01T00:00:00Z.
pub const START: Wall = Wall(testkit::FIXED_SECS * 1000);

/// Tells a new store of every CA.
pub async fn register(pki: &Pki, store: &Store, now: Now) {
    for authority in [pki.root(), pki.devices(), pki.services(), pki.servers()] {
        let issuer = authority.issuer();
        let row = CaRow {
            id: authority.id(),
            label: issuer.label.clone(),
            certificate_der: issuer.certificate.der().to_vec(),
            parent: authority.parent().map(|_| pki.root().id()),
            kinds: issuer.kinds.clone(),
            servers: issuer.servers,
            key_file: None,
        };
        store.ca_add(row, now).await.unwrap();
    }
}

/// The issuing CA of that label.
pub fn issuing<'a>(pki: &'a Pki, label: &str) -> &'a Authority {
    [pki.devices(), pki.services(), pki.servers()]
        .into_iter()
        .find(|authority| authority.label() == label)
        .unwrap()
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
