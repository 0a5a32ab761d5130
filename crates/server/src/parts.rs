//! What `serve` and a lone command have in common: store, enrolment, rules, operator API.

use std::sync::{Arc, Mutex};

use admin::Admin;
use audit::{Event, Observer};
use ca::Issuer;
use enroll::Enroll;
use guard::ReplayTable;
use policy::Table;
use signer::SystemEntropy;
use store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use types::{Clock, Entropy};
use x509::SubjectTemplate;

use crate::addresses::Addresses;
use crate::clock::built_at;
use crate::config::Config;
use crate::error::ServerError;
use crate::hierarchy::{SUB_CAS, aia_url, crl_url, kinds};
use crate::keys::{self, Unlock};
use crate::layout::Layout;
use crate::observer::Watcher;
use crate::ports::{LivePort, MetricsPort};
use crate::reload::Reloader;
use crate::rules::compile_rules;

/// The parts, wired, with the tasks that carry out what is recorded.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) enroll: Arc<Enroll>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) policy: watch::Receiver<Arc<Table>>,
    pub(crate) replay: watch::Receiver<Arc<ReplayTable>>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) live: Arc<LivePort>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) shutdown: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// How often the date is written down, so that a clock that falls back is noticed after a restart.
const NOTE_TIME_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

impl Parts {
    /// Wires everything that needs no port. `listening` says where the listeners stand, if they do.
    pub(crate) async fn assemble(
        layout: &Layout,
        config: Config,
        clock: Arc<dyn Clock>,
        watcher: Arc<Watcher>,
        recorded: mpsc::Receiver<Event>,
        listening: Option<Addresses>,
    ) -> Result<Self, ServerError> {
        let unlock = Unlock::read(layout)?;
        let files: Vec<_> = config.policy.files.iter().map(|file| layout.relative(file)).collect();
        let table = compile_rules(&files, 1)?;
        let replay_table = config.replay_table()?;
        let store =
            Store::open(layout.dir(), clock.now()).map_err(|error| ServerError::part("store")(&error))?;
        // A clock before the day on which this program was built is wrong, whatever the store has seen.
        store.note_time(built_at()).await.map_err(|error| ServerError::part("store")(&error))?;
        watcher.note(Event::PolicyLoaded {
            epoch: table.epoch(),
            rules: u64::try_from(table.rules()).unwrap_or(u64::MAX),
        });
        let (policy_sender, policy) = watch::channel(Arc::new(table));
        let (replay_sender, replay) = watch::channel(Arc::new(replay_table));
        let root = keys::certificate(&layout.ca("root"))?;
        let entropy: Arc<Mutex<dyn Entropy>> = Arc::new(Mutex::new(SystemEntropy));

        let enroll = Enroll::new(enroll::Deps {
            store: store.clone(),
            issuers: issuers(layout, &config, &unlock)?,
            roots: vec![root.clone()],
            bundle_key: keys::bundle(layout, &unlock)?,
            policy: policy.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            observer: watcher.clone(),
            settings: enroll_settings(&config),
        })
        .map_err(|error| ServerError::part("enrolment")(&error))?;
        enroll::recover_intents(&enroll)
            .await
            .map_err(|error| ServerError::part("recovery of unfinished certificates")(&error))?;

        let live = Arc::new(LivePort::default());
        let reloader = Arc::new(Reloader::new(
            layout.clone(),
            config.clone(),
            policy_sender,
            replay_sender,
            watcher.clone(),
            live.clone(),
        ));
        let admin = Admin::new(admin::Deps {
            store: store.clone(),
            policy: policy.clone(),
            clock: clock.clone(),
            entropy,
            observer: watcher.clone(),
            clients: live.clone(),
            refusals: watcher.clone(),
            reload: reloader.clone(),
            metrics: Arc::new(MetricsPort::new(watcher.clone(), live.clone())),
            settings: admin::Settings {
                built_at: built_at(),
                devices_host: config.installation.public_host.clone(),
                devices_port: listening.map_or(config.listeners.devices, |open| open.devices).port(),
                listeners: listening.map_or_else(Vec::new, |open| {
                    open.named().map(|(name, at)| (name.to_owned(), at.to_string())).to_vec()
                }),
                root_pins: vec![root.spki_hash()],
                token_ttl: config.certificates.token_ttl.0,
                ..admin::Settings::default()
            },
        });
        let (shutdown, stop) = watch::channel(false);
        let checkpoint = Arc::new(keys::checkpoint(layout, &unlock)?);
        let tasks = vec![
            tokio::spawn(enroll::carry_out_orders(enroll.clone(), stop.clone())),
            tokio::spawn(enroll::write_crls(enroll.clone(), stop.clone())),
            tokio::spawn(admin::sequence_events(
                store.clone(),
                checkpoint,
                format!("process {}", std::process::id()),
                clock.clone(),
                watcher.clone(),
                stop.clone(),
            )),
            tokio::spawn(record_events(store.clone(), recorded, clock.clone(), stop.clone())),
            tokio::spawn(note_time(store.clone(), clock.clone(), stop)),
        ];
        Ok(Self {
            layout: layout.clone(),
            config,
            store,
            enroll,
            admin,
            policy,
            replay,
            watcher,
            clock,
            live,
            reloader,
            shutdown,
            tasks,
        })
    }

    /// Ends the tasks, each at a point where nothing is half-done.
    pub(crate) async fn close(self) {
        let _ = self.shutdown.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

fn issuers(
    layout: &Layout,
    config: &Config,
    unlock: &Unlock,
) -> Result<Vec<(Issuer, signer::IssuingKey)>, ServerError> {
    let base = &config.installation.public_url;
    let mut issuers = Vec::new();
    for label in SUB_CAS {
        let (certificate, key) = keys::issuing(layout, unlock, label)?;
        let id = certificate.issuer_id_as_ca();
        let template = SubjectTemplate {
            organization: Some(config.installation.organization.clone()),
            ..SubjectTemplate::default()
        };
        let issuer = Issuer {
            label: label.to_owned(),
            certificate,
            kinds: kinds(label),
            servers: label == "servers",
            crl_url: Some(crl_url(base, id)),
            aia_url: Some(aia_url(base, id)),
            template,
        };
        issuers.push((issuer, key));
    }
    Ok(issuers)
}

fn enroll_settings(config: &Config) -> enroll::Settings {
    let defaults = enroll::Settings::default();
    enroll::Settings {
        built_at: built_at(),
        lifetimes: enroll::Lifetimes {
            device: config.certificates.device_lifetime.0,
            service: config.certificates.service_lifetime.0,
            operator: config.certificates.operator_lifetime.0,
            server: config.certificates.server_lifetime.0,
        },
        crl: enroll::CrlSettings {
            validity: config.certificates.crl_validity.0,
            // Strictly under half, so that one missed list never leaves readers without one.
            period: config.certificates.crl_validity.0 * 9 / 20,
            ..defaults.crl
        },
        ..defaults
    }
}

/// Writes the observer's recorded events into the store's log.
async fn record_events(
    store: Store,
    mut recorded: mpsc::Receiver<Event>,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let event = tokio::select! {
            event = recorded.recv() => event,
            _ = stop.wait_for(|stop| *stop) => match recorded.try_recv() {
                Ok(event) => Some(event),
                Err(_) => return,
            },
        };
        let Some(event) = event else { return };
        if let Err(error) = store.event(event, clock.now()).await {
            tracing::error!(%error, "an event did not reach the log");
        }
    }
}

/// Writes the date down every minute: the floor below which no clock is believed.
async fn note_time(store: Store, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
    loop {
        let wall = clock.now().wall;
        if wall >= built_at()
            && let Err(error) = store.note_time(wall).await
        {
            tracing::warn!(%error, "the date could not be written down");
        }
        if tokio::time::timeout(NOTE_TIME_EVERY, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}
