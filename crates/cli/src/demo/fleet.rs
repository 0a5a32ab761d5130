//! The devices of the demonstration: three trackers, provisioned by first boot, with the agent that real
//! devices run, and a sensor beside each of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::{Backoff, Bundle, Config, Deps, Home, Simulated, Source};
use signer::SystemEntropy;
use tls::Identity;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::demo::backend::Backend;
use crate::demo::stage::{HOST, Stage, identity};
use crate::demo::table::Table;
use crate::demo::wire::Wire;
use crate::fail::{Done, Fail};

const GROUP: &str = "first boot";
const NAMES: [&str; 3] = ["tracker-1", "tracker-2", "tracker-3"];
/// How often the devices of the demonstration send.
const EVERY: Duration = Duration::from_secs(1);

/// The running devices and the backend that reads them.
pub(crate) struct Fleet {
    pub(crate) backend: Backend,
    devices: Vec<Device>,
    stop: watch::Sender<bool>,
}

struct Device {
    name: &'static str,
    home: PathBuf,
    interruptions: Arc<AtomicUsize>,
    lost: watch::Receiver<Option<Instant>>,
    agent: JoinHandle<Result<(), agent::AgentError>>,
    watching: JoinHandle<()>,
    sensor: JoinHandle<()>,
}

impl Fleet {
    /// Provisions the devices, starts them and the backend, and waits until everything flows.
    pub(crate) async fn start(stage: &Stage, table: &mut Table) -> Done<Self> {
        let backend = Backend::start(stage).await?;
        let (stop, stopped) = watch::channel(false);
        let mut devices = Vec::new();
        for name in NAMES {
            let home = stage.dir.join("devices").join(name);
            let bundle = stage.bundle(name).await?;
            let outcome = provision(stage, &home, &bundle).await;
            table.show(
                GROUP,
                format!("{name} by bundle, key made on the device"),
                outcome.map_err(|fail| fail.to_string()),
            );
            devices.push(Device::start(stage, name, home, &stopped)?);
        }
        let fleet = Self { backend, devices, stop };
        for name in NAMES {
            for topic in [
                format!("assets/{name}/status"),
                format!("assets/{name}/telemetry"),
                format!("devices/{name}/telemetry/environment"),
            ] {
                let arrived = fleet.backend.wait(|seen| seen.topic == topic).await;
                table.show(
                    "telemetry",
                    format!("the backend reads {topic}"),
                    arrived.map(|seen| seen.payload),
                );
            }
        }
        let token = stage.bundle_used(NAMES[0], &stage.dir.join("devices").join("thief")).await;
        table.show(GROUP, "the same token for another key", token);
        Ok(fleet)
    }

    /// A device's name.
    pub(crate) fn name(&self, at: usize) -> &'static str {
        self.devices.get(at).map_or("", |device| device.name)
    }

    /// A device's own certificate and key: for what the device itself would do wrong.
    pub(crate) fn identity(&self, at: usize) -> Done<Identity> {
        let device = self.devices.get(at).ok_or_else(|| Fail::failed("no such device"))?;
        let home = Home::new(&device.home);
        identity(&home.certificate_file(), &home.key_file())
    }

    /// How often a device's own session was cut.
    pub(crate) fn interruptions(&self, at: usize) -> usize {
        self.devices.get(at).map_or(0, |device| device.interruptions.load(Ordering::SeqCst))
    }

    /// When a device's session was last lost, as the device noticed it.
    pub(crate) fn lost(&self, at: usize) -> Option<watch::Receiver<Option<Instant>>> {
        self.devices.get(at).map(|device| device.lost.clone())
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for device in self.devices {
            device.sensor.abort();
            let _ = tokio::time::timeout(Duration::from_secs(5), device.agent).await;
            device.watching.abort();
        }
    }
}

fn deps(stage: &Stage) -> Deps {
    Deps::new(stage.clock.clone(), Arc::new(Mutex::new(SystemEntropy)))
}

async fn provision(stage: &Stage, home: &std::path::Path, bundle: &str) -> Done<String> {
    let bundle = Bundle::parse(bundle).map_err(Fail::failed)?;
    let made = agent::provision(home, &bundle, &deps(stage)).await.map_err(Fail::failed)?;
    Ok(format!("certificate 0x{}, until {}", made.certificate.serial(), made.certificate.not_after()))
}

impl Stage {
    /// Somebody who has read a used bundle tries it with a key of his own.
    async fn bundle_used(&self, device: &str, home: &std::path::Path) -> Result<String, String> {
        let kept = self.spent_bundle(device).ok_or("no spent bundle")?;
        let mut feed = self.listen();
        match provision(self, home, &kept).await {
            Ok(_) => Err("it was given a certificate".to_owned()),
            Err(fail) => {
                let logged = feed.find(|event| matches!(event, audit::Event::TokenRefused { .. })).await?;
                let audit::Event::TokenRefused { reason, .. } = logged else {
                    return Err("not logged".to_owned());
                };
                Ok(format!("{reason}; the thief was told: {fail}"))
            }
        }
    }
}

impl Device {
    fn start(
        stage: &Stage,
        name: &'static str,
        home: PathBuf,
        stopped: &watch::Receiver<bool>,
    ) -> Done<Self> {
        let mut config = Config::new(&home, Source::Simulated(Simulated::Tracker));
        config.broker = Some((HOST.to_owned(), stage.addresses.mqtt.port()));
        config.interval = Some(EVERY);
        config.backoff = Backoff { base: Duration::from_millis(300), cap: Duration::from_secs(2) };
        let (events, mut told) = mpsc::channel(256);
        let agent = tokio::spawn(agent::run(config, deps(stage), stopped.clone(), events));
        let interruptions = Arc::new(AtomicUsize::new(0));
        let (lost_sender, lost) = watch::channel(None);
        let counted = interruptions.clone();
        let watching = tokio::spawn(async move {
            let mut connected = false;
            while let Some(event) = told.recv().await {
                match event {
                    agent::Event::Connected { .. } => connected = true,
                    agent::Event::Disconnected { .. } if connected => {
                        connected = false;
                        counted.fetch_add(1, Ordering::SeqCst);
                        lost_sender.send_replace(Some(moment()));
                    }
                    _ => {}
                }
            }
        });
        let files = Home::new(&home);
        let own = identity(&files.certificate_file(), &files.key_file())?;
        let sensor = tokio::spawn(sensor(stage.connector(Some(own))?, stage.addresses.mqtt, name));
        Ok(Self { name, home, interruptions, lost, agent, watching, sensor })
    }
}

/// The moment at which something was seen; only the milliseconds that people read come from it.
#[expect(clippy::disallowed_methods, reason = "the demonstration measures how long a revocation takes")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// A room sensor that shares the tracker's identity: its own connection, its own counter.
async fn sensor(connector: tls::Connector, at: std::net::SocketAddr, name: &'static str) {
    let topic = format!("devices/{name}/telemetry/environment");
    let Ok(mut wire) = Wire::open(&connector, at, HOST, &format!("{name}-sensor")).await else { return };
    for seq in 1_u64.. {
        let (temp, hum) = (20.0 + f64::from(u32::try_from(seq % 20).unwrap_or(0)) / 10.0, 45);
        let reading = serde_json::json!({"device": name, "temp": temp, "hum": hum, "uptime": seq, "seq": seq, "boot": 1});
        if wire.publish(&topic, &reading.to_string()).await.is_err() {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}
