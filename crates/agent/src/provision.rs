use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use signer::{FileKey, RawSigner};
use tls::http::{Client, Response};
use tls::{Connector, TlsError};
use types::{Clipped, Clock, DeviceId, Entropy, Wall};
use x509::{Certificate, ChainAnchors, Usage};

use crate::bundle::Bundle;
use crate::error::AgentError;
use crate::files;
use crate::request::nameless_csr;
use crate::state::{Home, State};
use crate::time::{FlooredClock, parse_date};

/// What the agent takes from the machine.
#[derive(Clone)]
pub struct Deps {
    clock: Arc<dyn Clock>,
    entropy: Arc<Mutex<dyn Entropy>>,
}

impl Deps {
    /// A clock and a source of randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<Mutex<dyn Entropy>>) -> Self {
        Self { clock, entropy }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(crate) fn entropy(&self) -> MutexGuard<'_, dyn Entropy + 'static> {
        self.entropy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device whose first boot is over.
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// Its name, as the server knows it.
    pub device_id: DeviceId,
    /// Its certificate.
    pub certificate: Certificate,
    /// The CAs between the certificate and the root.
    pub chain: Vec<Certificate>,
    /// The root whose key the bundle pinned.
    pub root: Certificate,
    /// Whether it had been provisioned with this bundle before, and nothing was asked.
    pub already: bool,
}

/// The places where the power may fail; a test lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    BundleKept,
    KeyKept,
    RootFetched,
    Answered,
    RootKept,
    ChainKept,
    CertificateKept,
    StateKept,
    BundleErased,
}

/// The first boot. It may be cut at any point: the same call with the same bundle goes on with the
/// same key, and the server gives the same certificate again.
///
/// # Errors
/// Which check refused the server, how the server refused, or what is wrong with the folder.
pub async fn provision(dir: &Path, bundle: &Bundle, deps: &Deps) -> Result<Provisioned, AgentError> {
    provision_with(dir, bundle, deps, &|_| Ok(())).await
}

/// The flow, with a word said after each step that leaves a trace.
pub(crate) async fn provision_with(
    dir: &Path,
    bundle: &Bundle,
    deps: &Deps,
    after: &(dyn Fn(Step) -> Result<(), AgentError> + Sync),
) -> Result<Provisioned, AgentError> {
    let home = Home::new(dir);
    home.create()?;
    // 1. Whether the first boot is over already.
    if let Some(state) = home.read_state()? {
        return already_provisioned(&home, &state, bundle);
    }
    // 2. The bundle stays in the folder until it has served, for a boot that has no other copy.
    if files::read(&home.bundle_file()).map_err(|e| AgentError::state(&home.bundle_file(), e))?.is_none() {
        home.write(&home.bundle_file(), bundle.text().expose_str().unwrap_or_default(), 0o600)?;
    }
    after(Step::BundleKept)?;
    // 3. The key is on the disk before anything made with it leaves the device.
    let key = home.key(deps)?;
    after(Step::KeyKept)?;
    // 4. The root, believed for its pin alone; nothing secret has been said yet.
    let root = tls::pinned_root(bundle.host(), bundle.port(), bundle.pins()).await?;
    after(Step::RootFetched)?;
    // 5. A second connection with every check; only over it the secret is said.
    let clock = Arc::new(FlooredClock::new(deps.clock(), Wall::default()));
    let response = ask(bundle, &root, &key, &clock).await?;
    after(Step::Answered)?;
    // 6. What came back is for this key, from that root, and has one name.
    let answer = Answer::read(&response)?;
    let (device_id, certificate, chain) = verify(&answer, &key, &root)?;
    // 7. On the disk; the state last, because its presence says that all else is there.
    home.write(&home.root_file(), &root.to_pem(), 0o644)?;
    after(Step::RootKept)?;
    let chain_pem: String = chain.iter().map(Certificate::to_pem).collect();
    home.write(&home.chain_file(), &chain_pem, 0o644)?;
    after(Step::ChainKept)?;
    home.write(&home.certificate_file(), &certificate.to_pem(), 0o644)?;
    after(Step::CertificateKept)?;
    home.write_state(&State {
        device_id: device_id.to_string(),
        token_id: bundle.token_id().to_owned(),
        host: bundle.host().to_owned(),
        port: bundle.port(),
        renew_after: answer.renew_after.as_deref().and_then(parse_date).map(|date| date.to_string()),
        time_floor: answer.server_time.to_string(),
        interval_s: None,
        layout: None,
    })?;
    after(Step::StateKept)?;
    // 8. The token has served.
    erase_bundle(&home)?;
    after(Step::BundleErased)?;
    Ok(Provisioned { device_id, certificate, chain, root, already: false })
}

fn already_provisioned(home: &Home, state: &State, bundle: &Bundle) -> Result<Provisioned, AgentError> {
    if state.token_id != bundle.token_id() {
        let dir = home.dir().display().to_string();
        return Err(AgentError::AlreadyProvisioned { dir, device: state.device_id.clone() });
    }
    erase_bundle(home)?;
    let loaded = home.load()?;
    Ok(Provisioned {
        device_id: loaded.id,
        certificate: loaded.identity.leaf().clone(),
        chain: home.read_certificates(&home.chain_file())?,
        root: loaded.root,
        already: true,
    })
}

fn erase_bundle(home: &Home) -> Result<(), AgentError> {
    let path = home.bundle_file();
    files::erase(&path).map_err(|error| AgentError::state(&path, error))
}

/// `POST /provision`. A device without a clock learns from a certificate that lies ahead that it is
/// at least that late; one that has expired stays refused.
async fn ask(
    bundle: &Bundle,
    root: &Certificate,
    key: &FileKey,
    clock: &Arc<FlooredClock>,
) -> Result<Response, AgentError> {
    const CHAIN_LENGTH_MAX: usize = 4;
    let request = json!({
        "token": bundle.token().expose_str().unwrap_or_default(),
        "csr": nameless_csr(key)?,
    });
    let connector =
        Connector::new(std::slice::from_ref(root), None, clock.clone(), vec![b"http/1.1".to_vec()])?;
    let client = Client::new(connector, bundle.host(), bundle.port());
    let mut caught_up = 0;
    loop {
        match client.post_json("/provision", &request).await {
            Ok(response) => return Ok(response),
            Err(error) if caught_up < CHAIN_LENGTH_MAX && clock.catch_up(&error) => caught_up += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The fields that the device API promises; it may add others.
#[derive(Deserialize)]
struct Fields {
    device_id: String,
    #[serde(alias = "cert")]
    certificate: Option<String>,
    #[serde(default)]
    ca_chain: String,
    renew_after: Option<String>,
    server_time: String,
}

struct Answer {
    device_id: String,
    certificate: String,
    ca_chain: String,
    renew_after: Option<String>,
    server_time: Wall,
}

impl Answer {
    fn read(response: &Response) -> Result<Self, AgentError> {
        if response.status != http::StatusCode::OK {
            return Err(refusal(response));
        }
        let bad = |detail: String| AgentError::BadAnswer { detail };
        // `certificate` and `cert` are the same; a struct with an alias would call that twice.
        let mut document = response.json().map_err(|error| bad(error.to_string()))?;
        if let Some(fields) = document.as_object_mut()
            && fields.contains_key("certificate")
        {
            fields.remove("cert");
        }
        let fields: Fields = serde_json::from_value(document).map_err(|error| bad(error.to_string()))?;
        let server_time = parse_date(&fields.server_time)
            .ok_or_else(|| bad(format!("server_time \"{}\" is no date", Clipped(&fields.server_time))))?;
        Ok(Self {
            device_id: fields.device_id,
            certificate: fields.certificate.ok_or_else(|| bad("without a certificate".to_owned()))?,
            ca_chain: fields.ca_chain,
            renew_after: fields.renew_after,
            server_time,
        })
    }
}

/// The server's no, from its problem document as far as there is one.
fn refusal(response: &Response) -> AgentError {
    let problem = response.json().unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let code = text("type").and_then(|urn| urn.strip_prefix("urn:bailiwick:error:").map(str::to_owned));
    let detail = text("detail").or_else(|| text("error")).unwrap_or_else(|| response.text());
    AgentError::Refused {
        status: response.status.as_u16(),
        code: Clipped(&code.unwrap_or_default()).to_string(),
        detail: Clipped(detail.trim()).to_string(),
    }
}

fn verify(
    answer: &Answer,
    key: &FileKey,
    root: &Certificate,
) -> Result<(DeviceId, Certificate, Vec<Certificate>), AgentError> {
    let wrong = |detail: String| AgentError::WrongCertificate { detail };
    let device_id = DeviceId::parse(&answer.device_id)
        .map_err(|error| AgentError::BadAnswer { detail: error.to_string() })?;
    let certificate =
        Certificate::parse_pem(&answer.certificate).map_err(|error| wrong(error.to_string()))?;
    if certificate.spki_der() != key.spki_der() {
        return Err(wrong("it is for another key than ours".to_owned()));
    }
    match certificate.common_names().as_slice() {
        [name] if *name == answer.device_id => {}
        names => {
            let names = names.join(", ");
            let detail = format!("it names \"{}\"; expected \"{device_id}\"", Clipped(&names));
            return Err(wrong(detail));
        }
    }
    let chain: Vec<Certificate> = match answer.ca_chain.trim().is_empty() {
        true => Vec::new(),
        false => Certificate::parse_pem_chain(&answer.ca_chain).map_err(|error| wrong(error.to_string()))?,
    };
    let chain: Vec<Certificate> =
        chain.into_iter().filter(|ca| ca.subject_der() != ca.issuer_der()).collect();
    let anchors = ChainAnchors::new([root]).map_err(|error| wrong(error.to_string()))?;
    let intermediates: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    x509::verify_chain(&anchors, certificate.der(), &intermediates, answer.server_time, Usage::ClientAuth)
        .map_err(|error| wrong(error.to_string()))?;
    Ok((device_id, certificate, chain))
}

/// For errors that a second try cannot mend: whether the server refused, as opposed to a failure on
/// the way.
impl AgentError {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Tls(error) => matches!(
                error,
                TlsError::Unreachable { .. }
                    | TlsError::Timeout { .. }
                    | TlsError::Handshake { .. }
                    | TlsError::Http { .. }
            ),
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Mqtt(_) => true,
            _ => false,
        }
    }
}
