use std::sync::Arc;

use types::{Topic, TopicError};

use crate::codec;

/// A message, encoded once and shared by every session, shard and record that holds it.
#[derive(Debug, Default)]
pub struct Message {
    /// A PUBLISH of QoS 1 whose packet id is zero.
    frame: Vec<u8>,
    /// Where the topic's text begins and ends.
    topic: (usize, usize),
}

impl Message {
    /// Encodes a message.
    #[must_use]
    pub fn new(topic: Topic<'_>, payload: &[u8]) -> Self {
        let mut message = Self::default();
        message.fill(topic, payload);
        message
    }

    fn fill(&mut self, topic: Topic<'_>, payload: &[u8]) {
        let id_at = codec::encode_publish(&mut self.frame, topic.as_str(), payload, true, false).unwrap_or(0);
        self.topic = (id_at - topic.as_str().len(), id_at);
    }

    /// The topic's text.
    #[must_use]
    pub fn topic_str(&self) -> &str {
        self.frame
            .get(self.topic.0..self.topic.1)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }

    /// The topic.
    ///
    /// # Errors
    /// Never for a message that [`Message::new`] made of a topic.
    pub fn topic(&self) -> Result<Topic<'_>, TopicError> {
        Topic::parse(self.topic_str())
    }

    /// What was published.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.frame.get(self.topic.1 + 2..).unwrap_or(&[])
    }

    /// The bytes that it takes in memory, roughly, and on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// The PUBLISH with QoS 1 and packet id zero.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Where the packet id stands in [`Message::frame`].
    pub(crate) fn id_at(&self) -> usize {
        self.topic.1
    }
}

/// Messages that nobody holds any more, kept for their buffers, so that the QoS 1 path allocates
/// nothing once it is warm.
#[derive(Default)]
pub(crate) struct Pool {
    free: Vec<Arc<Message>>,
}

/// How many messages the pool keeps, and the longest that it keeps.
const POOL_MESSAGES_MAX: usize = 1_024;
const POOL_MESSAGE_BYTES_MAX: usize = 4 * 1024;

impl Pool {
    /// A message, in an old buffer if there is one.
    pub(crate) fn message(&mut self, topic: Topic<'_>, payload: &[u8]) -> Arc<Message> {
        if let Some(mut old) = self.free.pop()
            && let Some(message) = Arc::get_mut(&mut old)
        {
            message.fill(topic, payload);
            return old;
        }
        Arc::new(Message::new(topic, payload))
    }

    /// Takes a message back; whoever lets go last gives the buffer.
    pub(crate) fn give_back(&mut self, mut message: Arc<Message>) {
        let small = message.frame.capacity() <= POOL_MESSAGE_BYTES_MAX;
        if small && self.free.len() < POOL_MESSAGES_MAX && Arc::get_mut(&mut message).is_some() {
            self.free.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_gives_back_its_topic_and_payload() {
        let topic = Topic::parse("a/bc").unwrap();
        let message = Message::new(topic, b"xyz");
        assert_eq!(message.frame(), b"\x32\x0b\x00\x04a/bc\x00\x00xyz");
        assert_eq!((message.topic(), message.payload()), (Ok(topic), &b"xyz"[..]));
        assert_eq!(message.id_at(), 8);
        let long = vec![7_u8; 20_000];
        let message = Message::new(topic, &long);
        assert_eq!((message.topic_str(), message.payload()), ("a/bc", &long[..]));
    }

    #[test]
    fn the_pool_reuses_a_buffer_only_when_nobody_holds_it() {
        let mut pool = Pool::default();
        let topic = Topic::parse("t").unwrap();
        let first = pool.message(topic, b"one");
        let held = Arc::clone(&first);
        pool.give_back(first);
        assert_eq!(pool.free.len(), 0);
        let address = Arc::as_ptr(&held);
        pool.give_back(held);
        assert_eq!(pool.free.len(), 1);
        let second = pool.message(topic, b"two");
        assert_eq!(Arc::as_ptr(&second), address);
        assert_eq!(second.payload(), b"two");
    }

    #[test]
    fn the_pool_keeps_no_long_message() {
        let mut pool = Pool::default();
        let message = pool.message(Topic::parse("t").unwrap(), &vec![0; POOL_MESSAGE_BYTES_MAX + 1]);
        pool.give_back(message);
        assert_eq!(pool.free.len(), 0);
    }
}
