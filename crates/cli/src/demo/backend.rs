//! The backend service of the demonstration: reads everything that the devices send, and remembers it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::demo::stage::{HOST, Stage, identity};
use crate::demo::wire::Wire;
use crate::fail::{Done, Fail};

/// How long a message may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// A message that the backend was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) topic: String,
    pub(crate) payload: String,
}

/// A running backend service.
pub(crate) struct Backend {
    seen: Arc<Mutex<Vec<Seen>>>,
    arrived: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Backend {
    /// Enrols as `backend-service`, connects, and subscribes to all that it may read.
    pub(crate) async fn start(stage: &Stage) -> Done<Self> {
        const NAME: &str = "backend-service";
        let folder = stage.service(NAME).await?;
        let identity = identity(&folder.join(format!("{NAME}.crt")), &folder.join(format!("{NAME}.key")))?;
        let connector = stage.connector(Some(identity))?;
        let mut wire =
            Wire::open(&connector, stage.addresses.mqtt, HOST, NAME).await.map_err(Fail::failed)?;
        for filter in ["assets/#", "devices/#"] {
            let granted = wire.subscribe(filter).await.map_err(Fail::failed)?;
            if granted != 1 {
                return Err(Fail::failed(format!(
                    "the backend's subscription to {filter} was answered with {granted:#x}"
                )));
            }
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (count, arrived) = watch::channel(0);
        let store = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                match wire.message(Duration::from_secs(20)).await {
                    Ok(Some((topic, payload))) => {
                        let mut seen = store.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.push(Seen { topic, payload });
                        count.send_replace(seen.len());
                    }
                    // A quiet fleet: a PINGREQ keeps the link.
                    Ok(None) => {
                        if wire.send(&[0xc0, 0]).await.is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(Self { seen, arrived, task })
    }

    fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a message that fits has arrived.
    pub(crate) fn saw(&self, fits: impl Fn(&Seen) -> bool) -> bool {
        self.all().iter().any(fits)
    }

    /// How many messages that fit have arrived.
    pub(crate) fn count(&self, fits: impl Fn(&Seen) -> bool) -> usize {
        self.all().iter().filter(|seen| fits(seen)).count()
    }

    /// The first message that fits, waiting for it if it has not arrived.
    pub(crate) async fn wait(&self, fits: impl Fn(&Seen) -> bool) -> Result<Seen, String> {
        let mut arrived = self.arrived.clone();
        let search = async {
            loop {
                arrived.mark_unchanged();
                if let Some(found) = self.all().into_iter().find(&fits) {
                    return Some(found);
                }
                if arrived.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(ARRIVES_WITHIN, search).await {
            Ok(Some(found)) => Ok(found),
            _ => Err("the backend was not given the message".to_owned()),
        }
    }

    /// Waits until at least `wanted` messages that fit have arrived.
    pub(crate) async fn wait_count(&self, wanted: usize, fits: impl Fn(&Seen) -> bool) -> Result<(), String> {
        let mut arrived = self.arrived.clone();
        let reached = async {
            while self.count(&fits) < wanted {
                if arrived.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        match tokio::time::timeout(ARRIVES_WITHIN, reached).await {
            Ok(true) => Ok(()),
            _ => Err(format!("the backend was given {} messages of {wanted}", self.count(&fits))),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}
