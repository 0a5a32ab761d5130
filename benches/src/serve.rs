//! Runs our broker in a process of its own, so that its CPU can be read apart from the load's.
//! In: the folder that the bench filled, the number of shards. Out: `listening ADDRESS` on standard output.
//! Invariant: trust, ledger and rules are the product's own; only the clock and the observer are made here.
//! Never: outlives the bench; it ends when its standard input does.
//! Spec: DESIGN.md section 6.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::{Event, Observer};
use broker::{AddressLimits, Deps, Settings};
use guard::ReplayTable;
use policy::{Source, Table};
use signer::FileKey;
use store::Store;
use tls::{Acceptor, ClientCertificates, Identity, LiveIdentity, MinVersion};
use tokio::sync::watch;
use types::Clock;
use x509::Certificate;

use crate::Failure;
use crate::clock::SystemClock;
use crate::mosquitto::Running;

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "bench-broker";

/// Counts events and drops them: what a server writes of them is not the broker's cost, and
/// Mosquitto's log is off too.
#[derive(Default)]
struct Counting(AtomicU64);

impl Observer for Counting {
    fn note(&self, event: Event) {
        let _ = event.code();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts this program again as a broker with `shards` shards.
pub(crate) async fn start(dir: &Path, shards: usize) -> Result<Running, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(COMMAND)
        .arg(dir)
        .arg(shards.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().ok_or("the broker has no output")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while output.read(&mut byte)? == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        Ok::<String, std::io::Error>(String::from_utf8_lossy(&line).into_owned())
    })
    .await??;
    let address = line
        .strip_prefix("listening ")
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| format!("the broker said {line:?} instead of its address"))?;
    Ok(Running::new(child, address))
}

/// The child's side: serves until standard input ends.
pub(crate) fn serve(dir: &Path, shards: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let store = Store::open(dir, clock.now())?;
        let chain = Certificate::parse_pem_chain(&fs_err::read_to_string(dir.join("server.crt"))?)?;
        let key = FileKey::from_pem(&fs_err::read_to_string(dir.join("server.key"))?, None)?;
        let identity = Arc::new(LiveIdentity::new(Identity::new(chain, &key.pkcs8_der())?));
        let acceptor = Acceptor::new(
            identity,
            store.watch_view(),
            ClientCertificates::Required,
            vec![b"mqtt".to_vec()],
            MinVersion::V12,
            Arc::clone(&clock),
        )?;
        let text = fs_err::read_to_string(dir.join("bench.acl"))?;
        let table = Table::compile(&[Source { file: "bench.acl", text: &text }], 1)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let (policy, policy_watch) = watch::channel(Arc::new(table));
        let (replay, replay_watch) = watch::channel(Arc::new(ReplayTable::new(Vec::new())));
        let deps = Deps {
            store,
            policy: policy_watch,
            replay: replay_watch,
            acceptor: Arc::new(acceptor),
            clock,
            observer: Arc::new(Counting::default()),
        };
        let listener = broker::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let broker = broker::start(settings(shards), listener, deps).await?;
        writeln!(std::io::stdout(), "listening {}", broker.local_addr())?;
        tokio::task::spawn_blocking(|| {
            let mut rest = Vec::new();
            std::io::stdin().read_to_end(&mut rest)
        })
        .await??;
        broker.shutdown().await?;
        drop((policy, replay));
        Ok(())
    })
}

/// As in production, but for what one machine that plays a fleet needs: many clients per
/// identity, from one address, that send without a limit on their rate.
fn settings(shards: usize) -> Settings {
    let defaults = Settings::default();
    Settings {
        shards,
        handshake_threads: 1,
        addresses: AddressLimits {
            per_address_per_second: 1_000_000,
            per_address_burst: 1_000_000,
            ..AddressLimits::default()
        },
        mqtt: mqtt::Limits {
            inflight_max: 100,
            connections_per_identity_max: 100_000,
            sessions_per_identity_max: 100_000,
            device_messages_per_second: 1_000_000,
            device_messages_burst: 1_000_000,
            ..defaults.mqtt.clone()
        },
        ..defaults
    }
}
