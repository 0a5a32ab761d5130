use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use audit::{Event, Observer};
use tokio::sync::watch;

/// An observer that keeps everything and lets a test wait for what it expects.
#[derive(Debug)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { events: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Observer for Recorder {
    fn note(&self, event: Event) {
        let count = {
            let mut events = self.lock();
            events.push(event);
            events.len()
        };
        self.count.send_replace(count);
    }
}

impl Recorder {
    /// A recorder that has heard nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything so far, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// The codes of everything so far, in order.
    #[must_use]
    pub fn codes(&self) -> Vec<&'static str> {
        self.lock().iter().map(Event::code).collect()
    }

    /// How many events so far answer to `wanted`.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.lock().iter().filter(|event| wanted(event)).count()
    }

    /// The first event so far that answers to `wanted`.
    #[must_use]
    pub fn find(&self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        self.lock().iter().find(|event| wanted(event)).cloned()
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Waits for the first event that answers to `wanted`, past or to come.
    ///
    /// # Panics
    /// None came within `deadline`; the message tells what did.
    pub async fn wait(&self, deadline: Duration, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut count = self.count.subscribe();
        let found = async {
            loop {
                // Marked as seen before looking, so that what comes meanwhile wakes the next wait.
                count.mark_unchanged();
                if let Some(event) = self.find(&wanted) {
                    return event;
                }
                count.changed().await.expect("the sender lives as long as the recorder");
            }
        };
        match tokio::time::timeout(deadline, found).await {
            Ok(event) => event,
            Err(_) => {
                panic!("the awaited event did not come within {deadline:?}; heard: {:#?}", self.events())
            }
        }
    }

    /// Waits for the first event with this code, as [`Recorder::wait`] does.
    ///
    /// # Panics
    /// As [`Recorder::wait`].
    pub async fn wait_code(&self, deadline: Duration, code: &str) -> Event {
        self.wait(deadline, |event| event.code() == code).await
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().expect("no test panics while it notes an event")
    }
}
