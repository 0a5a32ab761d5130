use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use types::DeviceId;

use crate::counters::Counters;
use crate::error::AgentError;

/// A message that waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) seq: u64,
}

/// What waits to be sent, in the order of its sequence numbers: a server that enforces them would
/// take a message that overtakes many others for the newest, and refuse the others. Bounded; when
/// it is full, the oldest is dropped.
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    changed: Notify,
    max: usize,
}

struct Inner {
    queue: VecDeque<Outgoing>,
    counters: Counters,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(counters: Counters, max: usize) -> Self {
        let inner = Inner { queue: VecDeque::new(), counters, closed: false };
        Self { inner: Mutex::new(inner), changed: Notify::new(), max: max.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stamps `fields` with the device, the sequence number and the boot, and queues them. Returns
    /// the sequence number, and that of a message that was dropped for it.
    pub(crate) fn push(
        &self,
        topic: &str,
        device: &DeviceId,
        mut fields: Map<String, Value>,
    ) -> Result<(u64, Option<u64>), AgentError> {
        let mut inner = self.lock();
        let stamp = inner.counters.stamp()?;
        fields.insert("device".to_owned(), json!(device.as_str()));
        fields.insert("seq".to_owned(), json!(stamp.seq));
        fields.insert("boot".to_owned(), json!(stamp.boot));
        let payload = Value::Object(fields).to_string().into_bytes();
        let dropped = if inner.queue.len() >= self.max { inner.queue.pop_front() } else { None };
        inner.queue.push_back(Outgoing { topic: topic.to_owned(), payload, seq: stamp.seq });
        drop(inner);
        self.changed.notify_one();
        Ok((stamp.seq, dropped.map(|outgoing| outgoing.seq)))
    }

    /// Puts a message back that could not be handed over.
    pub(crate) fn give_back(&self, outgoing: Outgoing) {
        self.lock().queue.push_front(outgoing);
        self.changed.notify_one();
    }

    /// The next message, as soon as there is one; `None` when no more will come.
    pub(crate) async fn next(&self) -> Option<Outgoing> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(outgoing) = inner.queue.pop_front() {
                    return Some(outgoing);
                }
                if inner.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Says that no more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    pub(crate) fn boot(&self) -> u64 {
        self.lock().counters.boot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(max: usize) -> (tempfile::TempDir, Outbox, DeviceId) {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::begin_boot(&dir.path().join("counters.json")).unwrap();
        (dir, Outbox::new(counters, max), DeviceId::parse("pump-7").unwrap())
    }

    #[tokio::test]
    async fn messages_are_stamped_and_come_out_in_order() {
        let (_dir, outbox, id) = outbox(8);
        let fields =
            |n: i64| Map::from_iter([("n".to_owned(), json!(n)), ("seq".to_owned(), json!("forged"))]);
        assert_eq!(outbox.push("t", &id, fields(1)).unwrap(), (0, None));
        assert_eq!(outbox.push("t", &id, fields(2)).unwrap(), (1, None));
        let first = outbox.next().await.unwrap();
        let body: Value = serde_json::from_slice(&first.payload).unwrap();
        assert_eq!(body, json!({"n": 1, "device": "pump-7", "seq": 0, "boot": 1}));
        outbox.give_back(first.clone());
        assert_eq!(outbox.next().await.unwrap(), first);
        assert_eq!(outbox.next().await.unwrap().seq, 1);
        outbox.close();
        assert_eq!(outbox.next().await, None);
    }

    #[tokio::test]
    async fn a_full_outbox_drops_the_oldest_and_says_which() {
        let (_dir, outbox, id) = outbox(2);
        for seq in 0..2 {
            assert_eq!(outbox.push("t", &id, Map::new()).unwrap(), (seq, None));
        }
        assert_eq!(outbox.push("t", &id, Map::new()).unwrap(), (2, Some(0)));
        assert_eq!(outbox.next().await.unwrap().seq, 1);
    }
}
