//! Reads the configuration again: the whole of it is valid, or nothing changes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use admin::{Later, Reload, Reloaded};
use audit::{Event, Observer};
use guard::ReplayTable;
use policy::Table;
use tls::LiveIdentity;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::ServerError;
use crate::keys;
use crate::layout::Layout;
use crate::observer::Watcher;
use crate::ports::LivePort;
use crate::rules::compile_rules;

/// Puts rules, replay protection, certificates and the log level in force while running.
pub(crate) struct Reloader {
    layout: Layout,
    started_with: Config,
    policy: watch::Sender<Arc<Table>>,
    replay: watch::Sender<Arc<ReplayTable>>,
    watcher: Arc<Watcher>,
    live: Arc<LivePort>,
    identity: OnceLock<Arc<LiveIdentity>>,
    one_at_a_time: Mutex<()>,
}

impl Reloader {
    pub(crate) fn new(
        layout: Layout,
        started_with: Config,
        policy: watch::Sender<Arc<Table>>,
        replay: watch::Sender<Arc<ReplayTable>>,
        watcher: Arc<Watcher>,
        live: Arc<LivePort>,
    ) -> Self {
        Self {
            layout,
            started_with,
            policy,
            replay,
            watcher,
            live,
            identity: OnceLock::new(),
            one_at_a_time: Mutex::new(()),
        }
    }

    /// The listeners' certificate, which a reload reads again.
    pub(crate) fn put_identity(&self, identity: Arc<LiveIdentity>) {
        let _ = self.identity.set(identity);
    }

    /// Reads everything, then puts everything in force.
    pub(crate) fn reload_now(&self, actor: &str) -> Result<Reloaded, ServerError> {
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.read();
        let (config, table, replay, identity) = read.inspect_err(|error| {
            self.watcher.note(Event::PolicyRejected { detail: error.to_string() });
        })?;
        let mut parts = vec!["policy".to_owned(), "replay".to_owned(), "log".to_owned()];
        if let (Some(live), Some(identity)) = (self.identity.get(), identity) {
            live.replace(identity);
            parts.push("certificate".to_owned());
        }
        if self.live.set_limits(&config.limits) {
            parts.push("limits".to_owned());
        }
        if config.listeners != self.started_with.listeners
            || config.installation != self.started_with.installation
            || config.tls != self.started_with.tls
            || config.limits.shards != self.started_with.limits.shards
        {
            parts.push("listeners, tls, installation and shards: need a restart".to_owned());
        }
        self.watcher.sink().set_level(config.log.level);
        let (epoch, rules) = (table.epoch(), table.rules());
        self.watcher.note(Event::PolicyLoaded { epoch, rules: u64::try_from(rules).unwrap_or(u64::MAX) });
        self.watcher.note(Event::ConfigReloaded { detail: format!("by {actor}") });
        self.policy.send_replace(Arc::new(table));
        self.replay.send_replace(Arc::new(replay));
        Ok(Reloaded { policy_epoch: epoch, rules, parts })
    }

    fn read(&self) -> Result<(Config, Table, ReplayTable, Option<tls::Identity>), ServerError> {
        let config = Config::read(&self.layout.config())?;
        let files: Vec<_> = config.policy.files.iter().map(|file| self.layout.relative(file)).collect();
        let table = compile_rules(&files, self.policy.borrow().epoch() + 1)?;
        let replay = config.replay_table()?;
        let identity = self.identity.get().map(|_| keys::listeners_identity(&self.layout)).transpose()?;
        Ok((config, table, replay, identity))
    }
}

impl Reload for Reloader {
    fn reload<'a>(&'a self, actor: &'a str) -> Later<'a, Result<Reloaded, Vec<String>>> {
        let lines = |error: ServerError| error.to_string().lines().map(str::to_owned).collect();
        Box::pin(async move { self.reload_now(actor).map_err(lines) })
    }
}
