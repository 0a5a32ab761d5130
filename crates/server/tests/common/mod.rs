//! An installation that is made and served in this process, and clients of it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub(crate) mod wire;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Request;
use serde_json::{Value, json};
use server::{InitPlan, Layout, Listeners, Output, Running, SystemClock};
use signer::{FileKey, RawSigner};
use tempfile::TempDir;
use tls::{Connector, Identity};
use types::{Clock, Secret};
use x509::{Certificate, KeyKind};

/// The log of a server, as it grows.
#[derive(Clone, Default)]
pub(crate) struct LogText(Arc<Mutex<Vec<u8>>>);

impl Write for LogText {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LogText {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// An installation in a folder of its own.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) layout: Layout,
}

/// A name's certificate chain, leaf first, with its key.
pub(crate) struct Made {
    pub(crate) chain: Vec<Certificate>,
    pub(crate) key: FileKey,
}

impl Made {
    pub(crate) fn identity(&self) -> Identity {
        Identity::new(self.chain.clone(), &self.key.pkcs8_der()).unwrap()
    }
}

/// Listeners on free ports of this machine only.
pub(crate) fn free() -> Listeners {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listeners { mqtt: any, devices: any, admin: any, plain: any }
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(free(), &[]).await
    }

    /// With these listeners, and rules beside the shipped ones.
    pub(crate) async fn with(listeners: Listeners, rules: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let layout = Layout::new(&folder.path().join("fleet"));
        let passphrase = Secret::new(b"correct horse battery staple".to_vec());
        let mut plan = InitPlan::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()], passphrase);
        plan.listeners = listeners;
        plan.rules.extend(rules.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        server::init(&layout, &plan).await.unwrap();
        Self { folder, layout }
    }

    pub(crate) async fn serve(&self) -> (Running, LogText) {
        let log = LogText::default();
        let running = server::start(&self.layout, Output::to(Box::new(log.clone()))).await.unwrap();
        (running, log)
    }

    /// A call over the server's socket; status and body.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path)
            .header("host", "bailiwick")
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .unwrap();
        let (status, bytes) = server::ask_socket(&self.layout, request).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) async fn must(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// A device with a certificate, by the way that devices in the field go.
    pub(crate) async fn device(&self, name: &str) -> Made {
        self.must("/api/v1/devices", &json!({"id": name})).await;
        let token = self.must("/generate-token", &json!({"device_id": name})).await;
        let (key, csr) = request_of(name);
        let answer = self.must("/provision", &json!({"token": token["token"], "csr": csr})).await;
        made(&answer, key)
    }

    /// A service or an operator with a certificate.
    pub(crate) async fn principal(&self, path: &str, name: &str) -> Made {
        let (key, csr) = request_of(name);
        made(&self.must(path, &json!({"name": name, "csr": csr})).await, key)
    }

    pub(crate) fn root(&self) -> Certificate {
        self.ca("root")
    }

    pub(crate) fn ca(&self, label: &str) -> Certificate {
        Certificate::parse_pem(&fs_err::read_to_string(self.layout.ca(label)).unwrap()).unwrap()
    }

    pub(crate) fn connector(&self, identity: Option<Identity>, alpn: &[&[u8]]) -> Connector {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let alpn = alpn.iter().map(|name| name.to_vec()).collect();
        Connector::new(&[self.root()], identity, clock, alpn).unwrap()
    }

    /// An HTTPS client that shows `identity`.
    pub(crate) fn https(&self, identity: Option<Identity>, at: SocketAddr) -> tls::http::Client {
        tls::http::Client::new(self.connector(identity, &[b"http/1.1"]), "localhost", at.port())
    }
}

fn request_of(name: &str) -> (FileKey, String) {
    let key = FileKey::generate(KeyKind::P256).unwrap();
    let csr = signer::csr(&key as &dyn RawSigner, name).unwrap();
    (key, x509::pem::encode("CERTIFICATE REQUEST", &csr))
}

fn made(answer: &Value, key: FileKey) -> Made {
    let Some(leaf) = answer["certificate"].as_str() else { panic!("no certificate in {answer}") };
    let mut chain = Certificate::parse_pem_chain(leaf).unwrap();
    let above = Certificate::parse_pem_chain(answer["ca_chain"].as_str().unwrap()).unwrap();
    chain.extend(above.into_iter().filter(|ca| ca.subject_der() != ca.issuer_der()));
    Made { chain, key }
}
