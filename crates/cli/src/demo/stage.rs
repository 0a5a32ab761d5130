//! The installation of the demonstration: made anew in a folder of its own, served in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit::Event;
use http::Request;
use serde_json::{Value, json};
use server::{Addresses, InitPlan, Layout, Listeners, Output, Running, SystemClock};
use signer::{FileKey, SystemEntropy};
use tls::{Connector, Identity};
use tokio::sync::broadcast;
use types::{Clock, Entropy, Secret, Wall};
use x509::Certificate;

use crate::fail::{Done, Fail};
use crate::verbs::handover::Handover;

/// Marks a folder as a demonstration's own, which the next run may remove.
const MARK: &str = "this-is-a-demo";
/// How long an event may take to be logged.
const LOGGED_WITHIN: Duration = Duration::from_secs(5);
/// The name under which everything is reached.
pub(crate) const HOST: &str = "localhost";
/// One more rule for the demonstration: its backend reads the sensors too.
const BACKEND_RULES: &str = "# The backend of the demonstration reads what the sensors send.\nuser backend-service\ntopic read devices/#\n";

/// A served installation.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) addresses: Addresses,
    pub(crate) root: Certificate,
    pub(crate) clock: Arc<dyn Clock>,
    running: Running,
    bundles: std::sync::Mutex<std::collections::BTreeMap<String, String>>,
}

/// The events from a moment on.
pub(crate) struct Feed(broadcast::Receiver<(Wall, Event)>);

impl Feed {
    /// The first event that fits, if it comes in time.
    pub(crate) async fn find(&mut self, fits: impl Fn(&Event) -> bool) -> Result<Event, String> {
        let search = async {
            loop {
                match self.0.recv().await {
                    Ok((_, event)) if fits(&event) => return Some(event),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        match tokio::time::timeout(LOGGED_WITHIN, search).await {
            Ok(Some(event)) => Ok(event),
            _ => Err("nothing was logged".to_owned()),
        }
    }

    /// The reason of the first refused connection, as it was logged.
    pub(crate) async fn refused(&mut self) -> Result<String, String> {
        match self.find(|event| matches!(event, Event::ConnectionRefused { .. })).await? {
            Event::ConnectionRefused { reason, .. } => Ok(reason),
            other => Err(format!("logged {}", other.code())),
        }
    }
}

impl Stage {
    /// Makes and serves the installation.
    pub(crate) async fn start(dir: &Path, any_port: bool) -> Done<Self> {
        clear(dir)?;
        fs_err::create_dir_all(dir)?;
        fs_err::write(dir.join(MARK), "bailiwick demo removes this folder when it runs again\n")?;
        let layout = Layout::new(&dir.join("data"));
        let mut random = [0; 16];
        SystemEntropy.fill(&mut random);
        let passphrase = types::hex(&random);
        let mut plan = InitPlan::new(
            vec![HOST.to_owned(), "127.0.0.1".to_owned()],
            Secret::new(passphrase.clone().into_bytes()),
        );
        plan.replay_mode = "enforce";
        plan.rules.push(("demo.acl".to_owned(), BACKEND_RULES.to_owned()));
        plan.listeners = listeners(any_port);
        server::init(&layout, &plan).await?;
        // A demonstration's root key is worth nothing; the passphrase stays for whoever wants to look.
        fs_err::write(dir.join("root-passphrase"), passphrase)?;
        let log = fs_err::File::create(dir.join("serve.log"))?;
        let running = server::start(&layout, Output::to(Box::new(log))).await.map_err(|error| {
            let hint = matches!(error, server::ServerError::Bind { .. });
            let fail = Fail::failed(error);
            if hint { fail.hint("run the demo with --any-port, or stop what has the port") } else { fail }
        })?;
        let root =
            Certificate::parse_pem(&fs_err::read_to_string(layout.ca("root"))?).map_err(Fail::failed)?;
        let addresses = running.addresses();
        let clock = Arc::new(SystemClock::start());
        Ok(Self { dir: dir.to_owned(), layout, addresses, root, clock, running, bundles: Default::default() })
    }

    /// The events from here on.
    pub(crate) fn listen(&self) -> Feed {
        Feed(self.running.watcher().listen())
    }

    /// A call to the operator API over the server's socket; status and body.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Done<(u16, Value)> {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .map_err(Fail::failed)?;
        let (status, bytes) = server::ask_socket(&self.layout, request).await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// As [`Stage::ask`], where only success will do.
    pub(crate) async fn must(&self, path: &str, body: &Value) -> Done<Value> {
        match self.ask(path, body).await? {
            (status, answer) if (200..300).contains(&status) => Ok(answer),
            (status, answer) => Err(Fail::failed(format!("{path}: {status} {answer}"))),
        }
    }

    /// Registers a device and makes its bundle.
    pub(crate) async fn bundle(&self, device: &str) -> Done<String> {
        self.must("/api/v1/devices", &json!({"id": device})).await?;
        let token = self.must("/generate-token", &json!({"device_id": device})).await?;
        let bundle =
            token["bundle"].as_str().ok_or_else(|| Fail::failed("the answer holds no bundle"))?.to_owned();
        let mut bundles = self.bundles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bundles.insert(device.to_owned(), bundle.clone());
        Ok(bundle)
    }

    /// The bundle that a device has used, as somebody may have read it off its label.
    pub(crate) fn spent_bundle(&self, device: &str) -> Option<String> {
        self.bundles.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(device).cloned()
    }

    /// Registers a service and writes its files.
    pub(crate) async fn service(&self, name: &str) -> Done<PathBuf> {
        let out = self.dir.join("services");
        let handover = Handover::begin(&out, name, &self.root.to_pem())?;
        let body = json!({"name": name, "csr": handover.csr_pem()?});
        let answer = self.must("/api/v1/services", &body).await?;
        handover.finish(&answer)?;
        Ok(out)
    }

    /// A client that believes our root and shows `identity`.
    pub(crate) fn connector(&self, identity: Option<Identity>) -> Done<Connector> {
        Connector::new(std::slice::from_ref(&self.root), identity, self.clock.clone(), Vec::new())
            .map_err(Fail::failed)
    }

    pub(crate) async fn stop(self) {
        self.running.stop("end of the demonstration").await;
    }

    pub(crate) async fn keep(self) {
        self.running.until_stopped().await;
    }
}

/// The identity in a certificate file and a key file.
pub(crate) fn identity(certificate: &Path, key: &Path) -> Done<Identity> {
    let chain = Certificate::parse_pem_chain(&fs_err::read_to_string(certificate)?).map_err(Fail::failed)?;
    let key = FileKey::load(key, None).map_err(Fail::failed)?;
    Identity::new(chain, &key.pkcs8_der()).map_err(Fail::failed)
}

fn listeners(any_port: bool) -> Listeners {
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, if any_port { 0 } else { port }));
    Listeners { mqtt: at(8883), devices: at(8443), admin: at(9443), plain: at(8080) }
}

/// Removes what an earlier run left; never a folder that is not a demonstration's own, and never
/// one from which a demonstration is serving.
fn clear(dir: &Path) -> Done {
    let mut entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    if !dir.join(MARK).exists() {
        return Err(Fail::failed(format!(
            "{} is not a demonstration's folder; nothing was changed",
            dir.display()
        ))
        .hint("name another with --dir DIR"));
    }
    let data = dir.join("data");
    if data.exists() && server::is_served(&Layout::new(&data))? {
        return Err(Fail::failed(format!("a demonstration is serving from {}", dir.display()))
            .hint("stop it, or name another folder with --dir DIR"));
    }
    fs_err::remove_dir_all(dir)?;
    Ok(())
}
