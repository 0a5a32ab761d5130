use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use audit::Observer;
use policy::Table;
use serde::Serialize;
use store::Store;
use tokio::sync::watch;
use types::{Clock, Entropy};

use crate::settings::Settings;

/// What the operator API is given by the server.
pub struct Deps {
    /// Facts and orders.
    pub store: Store,
    /// The topic rules: `explain`, and names that a device may not bear.
    pub policy: watch::Receiver<Arc<Table>>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Where tokens come from.
    pub entropy: Arc<Mutex<dyn Entropy>>,
    /// Where refusals are noted.
    pub observer: Arc<dyn Observer>,
    /// The live sessions of the broker.
    pub clients: Arc<dyn LiveClients>,
    /// The newest refused connections and requests.
    pub refusals: Arc<dyn Refusals>,
    /// Reads policy, limits and certificates again.
    pub reload: Arc<dyn Reload>,
    /// The server's own counters.
    pub metrics: Arc<dyn Metrics>,
    /// How it behaves.
    pub settings: Settings,
}

/// An answer that comes later, from a trait object.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The broker's live sessions, as an operator sees them.
pub trait LiveClients: Send + Sync {
    /// At most `limit` sessions whose key comes after `after`, in the order of their keys.
    fn live<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Later<'a, LivePage>;
}

/// One page of live sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LivePage {
    /// The sessions.
    pub clients: Vec<LiveClient>,
    /// What to pass as `after` for the next page; none if this was the last.
    pub next: Option<String>,
}

/// One live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveClient {
    /// `device`, `service` or `operator`.
    pub kind: String,
    /// The name in the certificate.
    pub name: String,
    /// The client id that it chose, or that it was given.
    pub client_id: String,
    /// The certificate's serial, in hex.
    pub serial: String,
    /// The label of the CA that signed it.
    pub issuer: String,
    /// Its address and port.
    pub peer: String,
    /// The TLS version.
    pub tls: String,
    /// The cipher suite.
    pub suite: String,
    /// The number of the connection, as in the log.
    pub conn: u64,
    /// When it connected, RFC 3339.
    pub connected_at: String,
}

/// The ring of newest refusals.
pub trait Refusals: Send + Sync {
    /// At most `limit` refusals, newest first.
    fn newest(&self, limit: usize) -> Vec<Refused>;
}

/// One refused connection or act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// When, RFC 3339.
    pub at: String,
    /// The level: `info`, `warn`, `alert`.
    pub level: String,
    /// The event as it stands in the log.
    pub event: serde_json::Value,
}

/// Reads the configuration again: all of it is valid or nothing changes.
pub trait Reload: Send + Sync {
    /// What is now in force, or each mistake as `file:line:col: what`.
    fn reload<'a>(&'a self, actor: &'a str) -> Later<'a, Result<Reloaded, Vec<String>>>;
}

/// What a reload put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The policy's epoch.
    pub policy_epoch: u64,
    /// How many rules it has.
    pub rules: usize,
    /// What else was read again, one word each.
    pub parts: Vec<String>,
}

/// The server's own counters and gauges.
pub trait Metrics: Send + Sync {
    /// All of them; samples of one name stand together.
    fn samples(&self) -> Vec<Sample>;
}

/// One value in the Prometheus text format.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `bailiwick_connections_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: SampleKind,
    /// Label names and values; no identity, no secret.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Whether a value may fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// It only rises until a restart.
    Counter,
    /// It rises and falls.
    Gauge,
}
