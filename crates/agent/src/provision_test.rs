use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use testkit::pki::{Leaf, Pki};
use testkit::{FixedClock, Recorder, Seeded, fixed_now};
use tls::http::{HttpLimits, Problem, serve};
use tls::{Acceptor, ClientCertificates, Identity, LiveIdentity, MinVersion, ServerRefused, TlsError};
use tokio::sync::watch;
use types::{Clock, Now, SpkiHash, Wall};
use x509::{Certificate, Csr};

use crate::bundle::Bundle;
use crate::error::AgentError;
use crate::provision::{Deps, Step, provision, provision_with};
use crate::state::{Home, status};

const TOKEN: &str = "bw1.0123456789abcdefghjkmnpqrs.zyxwvtsrqpnmkjhgfedcba9876";
const DEADLINE: Duration = Duration::from_secs(30);

/// What the fake server remembers and how it answers.
struct Server {
    pki: Pki,
    roots: Vec<String>,
    /// The key and the certificate that the token is bound to.
    bound: Mutex<Option<(SpkiHash, Certificate)>>,
    /// Every path that was asked for, and every body.
    asked: Mutex<Vec<(String, String)>>,
    twist: Mutex<Twist>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twist {
    Right,
    OtherKey,
    OtherName,
    ForeignIssuer,
    NoDate,
    NoJson,
    NoCertificate,
    Spent,
    OnlyCert,
}

struct Fake {
    port: u16,
    server: Arc<Server>,
    _stop: watch::Sender<bool>,
    _view: watch::Sender<Arc<trust::View>>,
}

async fn fake(pki: Pki, leaf: &Leaf, roots: Vec<String>) -> Fake {
    let identity = Identity::new(leaf.chain(), &leaf.key_pkcs8()).unwrap();
    let (view, watched) = watch::channel(Arc::new(pki.view()));
    let acceptor = Acceptor::new(
        Arc::new(LiveIdentity::new(identity)),
        watched,
        ClientCertificates::Optional,
        vec![b"http/1.1".to_vec()],
        MinVersion::V12,
        Arc::new(FixedClock::default()),
    )
    .unwrap();
    let server = Arc::new(Server {
        pki,
        roots,
        bound: Mutex::default(),
        asked: Mutex::default(),
        twist: Mutex::new(Twist::Right),
    });
    let router = Router::new()
        .route("/ca/bundle", get(bundle))
        .route("/provision", post(answer))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = watch::channel(false);
    let observer = Arc::new(Recorder::new());
    tokio::spawn(serve(listener, Some(Arc::new(acceptor)), router, HttpLimits::default(), observer, stopped));
    Fake { port, server, _stop: stop, _view: view }
}

/// A server that is what it says.
async fn right() -> Fake {
    let pki = Pki::fixed();
    let (leaf, roots) = (pki.localhost(), vec![pki.root_pem()]);
    fake(pki, &leaf, roots).await
}

async fn bundle(Shared(server): Shared<Arc<Server>>) -> Json<Value> {
    server.asked.lock().unwrap().push(("/ca/bundle".to_owned(), String::new()));
    Json(json!({"version": 1, "roots": server.roots, "intermediates": []}))
}

async fn answer(Shared(server): Shared<Arc<Server>>, body: String) -> axum::response::Response {
    server.asked.lock().unwrap().push(("/provision".to_owned(), body.clone()));
    let twist = *server.twist.lock().unwrap();
    let fields: Value = serde_json::from_str(&body).unwrap();
    let csr = Csr::parse_pem(fields["csr"].as_str().unwrap()).unwrap();
    let refused =
        || Problem::new(StatusCode::FORBIDDEN, "token.refused", "the token is not usable").into_response();
    if fields["token"] != TOKEN || twist == Twist::Spent {
        return refused();
    }
    let mut bound = server.bound.lock().unwrap();
    let spki = csr.spki_hash();
    let (key, certificate) =
        bound.get_or_insert_with(|| (spki, server.pki.certify_device(csr, "pump-7"))).clone();
    if key != spki {
        return refused();
    }
    let pki = &server.pki;
    let certificate = match twist {
        Twist::OtherKey => pki.device("pump-7").certificate(),
        Twist::ForeignIssuer => {
            let csr = Csr::parse_pem(fields["csr"].as_str().unwrap()).unwrap();
            pki.foreign().certify_device(csr, "pump-7")
        }
        _ => certificate,
    };
    let mut document = json!({
        "device_id": if twist == Twist::OtherName { "pump-8" } else { "pump-7" },
        "certificate": certificate.to_pem(),
        "cert": certificate.to_pem(),
        "ca_chain": pki.devices().certificate().to_pem() + &pki.root_pem(),
        "renew_after": "2027-04-01T00:00:00Z",
        "server_time": fixed_now().wall.to_string(),
        "later": {"unknown": true},
    });
    match twist {
        Twist::NoJson => return "certainly".into_response(),
        Twist::NoDate => document["server_time"] = json!("soon"),
        Twist::NoCertificate => {
            document.as_object_mut().unwrap().remove("certificate");
            document.as_object_mut().unwrap().remove("cert");
        }
        Twist::OnlyCert => {
            document.as_object_mut().unwrap().remove("certificate");
        }
        _ => {}
    }
    Json(document).into_response()
}

impl Fake {
    fn bundle_for(&self, pins: &[SpkiHash]) -> Bundle {
        let pins: Vec<_> = pins.iter().map(|pin| format!("sha256:{pin}")).collect();
        Bundle::parse(&format!("{TOKEN}@127.0.0.1:{}#{}", self.port, pins.join(","))).unwrap()
    }

    fn bundle(&self) -> Bundle {
        self.bundle_for(&[self.server.pki.pin()])
    }

    fn asked(&self) -> Vec<String> {
        self.server.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// The keys for which the token was shown.
    fn keys_seen(&self) -> Vec<SpkiHash> {
        let asked = self.server.asked.lock().unwrap();
        let bodies = asked.iter().filter(|(path, _)| path == "/provision").map(|(_, body)| body);
        bodies
            .map(|body| {
                let fields: Value = serde_json::from_str(body).unwrap();
                Csr::parse_pem(fields["csr"].as_str().unwrap()).unwrap().spki_hash()
            })
            .collect()
    }

    fn secret_seen(&self) -> bool {
        self.server.asked.lock().unwrap().iter().any(|(_, body)| body.contains(&TOKEN[31..]))
    }
}

fn deps_at(now: Now) -> Deps {
    let clock: Arc<dyn Clock> = Arc::new(FixedClock(now));
    Deps::new(clock, Arc::new(Mutex::new(Seeded::new(7))))
}

fn deps() -> Deps {
    deps_at(fixed_now())
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

fn mode_of(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(path).unwrap().permissions()) & 0o777
}

#[tokio::test]
async fn the_first_boot_leaves_a_key_a_certificate_and_no_token() {
    let fake = right().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(&dir.path().join("device"));
    let device = within(provision(home.dir(), &fake.bundle(), &deps())).await.unwrap();
    assert_eq!(device.device_id.as_str(), "pump-7");
    assert!(!device.already);
    assert_eq!(device.root.der(), fake.server.pki.root().certificate().der());
    assert_eq!(device.chain.len(), 1, "the devices CA, without the root");
    assert_eq!(fake.asked(), ["/ca/bundle", "/provision"]);
    assert_eq!(fake.keys_seen(), [device.certificate.spki_hash()]);
    assert_eq!(mode_of(&home.key_file()), 0o600);
    assert_eq!(mode_of(home.dir()), 0o700);
    assert!(!home.bundle_file().exists());
    for entry in fs_err::read_dir(home.dir()).unwrap() {
        let text = fs_err::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains(&TOKEN[31..]), "the secret is in no file");
    }
    let shown = status(home.dir()).unwrap();
    assert_eq!(shown.device_id.as_deref(), Some("pump-7"));
    assert_eq!(shown.renew_after.as_deref(), Some("2027-04-01T00:00:00Z"));
    assert_eq!(shown.time_floor, Some(fixed_now().wall.to_string()));
    assert_eq!(shown.serial, Some(format!("0x{}", device.certificate.serial())));
    let loaded = home.load().unwrap();
    assert_eq!(loaded.identity.leaf().der(), device.certificate.der());
}

#[tokio::test]
async fn a_second_run_with_the_same_bundle_asks_nothing_and_another_bundle_is_refused() {
    let fake = right().await;
    let dir = tempfile::tempdir().unwrap();
    let first = within(provision(dir.path(), &fake.bundle(), &deps())).await.unwrap();
    let again = within(provision(dir.path(), &fake.bundle(), &deps())).await.unwrap();
    assert!(again.already);
    assert_eq!(again.certificate.der(), first.certificate.der());
    assert_eq!(fake.asked().len(), 2);
    let other = TOKEN.replace("0123", "3210");
    let other = Bundle::parse(&format!("{other}@127.0.0.1:1#sha256:{}", SpkiHash([0; 32]))).unwrap();
    let error = within(provision(dir.path(), &other, &deps())).await.unwrap_err();
    assert!(matches!(error, AgentError::AlreadyProvisioned { device, .. } if device == "pump-7"));
}

#[tokio::test]
async fn a_power_loss_after_any_step_is_mended_by_the_same_call_with_the_same_key() {
    let steps = [
        Step::BundleKept,
        Step::KeyKept,
        Step::RootFetched,
        Step::Answered,
        Step::RootKept,
        Step::ChainKept,
        Step::CertificateKept,
        Step::StateKept,
        Step::BundleErased,
    ];
    let lost = || AgentError::Source { detail: "power".into() };
    for cut in steps {
        let fake = right().await;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let fails = |step| if step == cut { Err(lost()) } else { Ok(()) };
        // Twice at the same place, then to the end.
        for _ in 0..2 {
            let result = within(provision_with(dir.path(), &fake.bundle(), &deps(), &fails)).await;
            let over = matches!(cut, Step::StateKept | Step::BundleErased) && result.is_ok();
            assert!(over || result.unwrap_err() == lost(), "{cut:?}");
        }
        // The boot after that has only what is in the folder, as long as it is needed.
        let bundle = match home.kept_bundle().unwrap() {
            Some(kept) => kept,
            None => {
                assert!(home.read_state().unwrap().is_some(), "{cut:?}: no bundle and no state");
                fake.bundle()
            }
        };
        let device = within(provision(dir.path(), &bundle, &deps())).await.unwrap();
        let keys = fake.keys_seen();
        assert!(!keys.is_empty() && keys.iter().all(|key| *key == device.certificate.spki_hash()), "{cut:?}");
        assert!(!home.bundle_file().exists(), "{cut:?}");
        assert!(home.load().is_ok(), "{cut:?}");
        let (_, bound) = fake.server.bound.lock().unwrap().clone().unwrap();
        assert_eq!(bound.der(), device.certificate.der(), "{cut:?}: one certificate, given again");
    }
}

#[tokio::test]
async fn the_key_is_on_the_disk_before_anything_is_sent() {
    let fake = right().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let asked_nothing = |step| match step {
        Step::KeyKept => {
            assert!(fake.asked().is_empty());
            assert!(home.key_file().exists());
            Ok(())
        }
        Step::RootFetched => {
            assert_eq!(fake.asked(), ["/ca/bundle"]);
            Ok(())
        }
        _ => Ok(()),
    };
    within(provision_with(dir.path(), &fake.bundle(), &deps(), &asked_nothing)).await.unwrap();
}

#[tokio::test]
async fn false_servers_never_see_the_secret() {
    let hosts = ["localhost"];
    let ips = ["127.0.0.1".parse().unwrap()];
    let pki = Pki::fixed();
    let foreign = pki.foreign();
    // Each has the true root to show, for it is public.
    let cases = [
        ("same-name CA", foreign.localhost(), Some(ServerRefused::UnknownIssuer)),
        ("wrong host", pki.server(&["other.example"], &[]), Some(ServerRefused::WrongHost)),
        ("expired", pki.expired_server(&hosts, &ips), Some(ServerRefused::Expired)),
        ("devices CA", pki.server_by_devices_ca(&hosts, &ips), Some(ServerRefused::NotAServersCa)),
        ("a device", pki.device("pump-9"), Some(ServerRefused::WrongUsage)),
    ];
    for (what, leaf, refused) in cases {
        let fake = fake(Pki::fixed(), &leaf, vec![pki.root_pem()]).await;
        let dir = tempfile::tempdir().unwrap();
        let bundle = fake.bundle_for(&[pki.pin()]);
        let error = within(provision(dir.path(), &bundle, &deps())).await.unwrap_err();
        match &error {
            AgentError::Tls(tls) => assert_eq!(tls.server_refused(), refused, "{what}: {error}"),
            other => panic!("{what}: {other}"),
        }
        assert!(error.is_denial());
        assert_eq!(fake.asked(), ["/ca/bundle"], "{what}");
        assert!(!fake.secret_seen(), "{what}");
        assert!(
            Home::new(dir.path()).kept_bundle().unwrap().is_some(),
            "{what}: the token is kept for the true one"
        );
    }
    // One that shows its own root of the same name is refused at the first step.
    let fake = fake(foreign, &pki.foreign().localhost(), vec![pki.foreign().root_pem()]).await;
    let dir = tempfile::tempdir().unwrap();
    let error = within(provision(dir.path(), &fake.bundle_for(&[pki.pin()]), &deps())).await.unwrap_err();
    assert!(matches!(error, AgentError::Tls(TlsError::PinnedRoot { .. })), "{error}");
    assert!(!fake.secret_seen());
}

#[tokio::test]
async fn a_wrong_answer_is_refused_and_nothing_is_kept_of_it() {
    for (twist, words) in [
        (Twist::OtherKey, "the certificate that came back: it is for another key than ours"),
        (Twist::OtherName, "the certificate that came back: it names \"pump-7\"; expected \"pump-8\""),
        (Twist::ForeignIssuer, "the certificate that came back: "),
        (Twist::NoDate, "the server's answer: server_time \"soon\" is no date"),
        (Twist::NoJson, "the server's answer: "),
        (Twist::NoCertificate, "the server's answer: without a certificate"),
        (Twist::Spent, "the server refused with 403: the token is not usable"),
    ] {
        let fake = right().await;
        *fake.server.twist.lock().unwrap() = twist;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let error = within(provision(dir.path(), &fake.bundle(), &deps())).await.unwrap_err();
        assert!(error.to_string().starts_with(words), "{twist:?}: {error}");
        assert_eq!(error.is_denial(), twist == Twist::Spent, "{twist:?}");
        assert!(!home.certificate_file().exists() && home.read_state().unwrap().is_none(), "{twist:?}");
        assert!(matches!(home.load(), Err(AgentError::NotProvisioned { .. })));
        // When the server is right again, the device is, too.
        *fake.server.twist.lock().unwrap() = Twist::OnlyCert;
        within(provision(dir.path(), &fake.bundle(), &deps())).await.unwrap();
    }
}

#[tokio::test]
async fn a_device_without_a_clock_takes_the_time_from_the_verified_server() {
    let fake = right().await;
    let dir = tempfile::tempdir().unwrap();
    let lost = Now { wall: Wall(0), ..fixed_now() };
    within(provision(dir.path(), &fake.bundle(), &deps_at(lost))).await.unwrap();
    assert_eq!(Home::new(dir.path()).read_state().unwrap().unwrap().floor(), fixed_now().wall);
}

#[tokio::test]
async fn an_unreachable_server_is_temporary_and_the_bundle_stays() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::parse(&format!("{TOKEN}@127.0.0.1:{port}#sha256:{}", SpkiHash([1; 32]))).unwrap();
    let error = within(provision(dir.path(), &bundle, &deps())).await.unwrap_err();
    assert!(matches!(error, AgentError::Tls(TlsError::Unreachable { .. })), "{error}");
    assert!(error.is_temporary() && !error.is_denial());
    let kept = Home::new(dir.path()).kept_bundle().unwrap().unwrap();
    assert_eq!(kept.token().expose_str(), Some(TOKEN));
    assert_eq!(mode_of(&Home::new(dir.path()).bundle_file()), 0o600);
}
