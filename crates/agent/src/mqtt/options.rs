use std::time::Duration;

use bytes::Bytes;
use types::QoS;

/// The message that the broker publishes when the connection is lost without a goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// At least once, or at most.
    pub qos: QoS,
    /// Whether it is kept for later subscribers.
    pub retain: bool,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The client id; empty asks the broker for one, with a clean session only.
    pub client_id: String,
    /// Whether the broker forgets what it held of this client, and does so again at the end.
    pub clean_session: bool,
    /// How long the connection may be silent; pings keep it alive.
    pub keep_alive: Duration,
    /// The last will.
    pub will: Option<Will>,
    /// User name and password, for brokers that want them.
    pub login: Option<(String, Vec<u8>)>,
    /// For CONNACK, SUBACK and each write.
    pub answer_deadline: Duration,
    /// QoS 1 messages that may be unacknowledged at one time.
    pub in_flight_max: usize,
    /// Messages that may wait for [`super::Client::recv`]; beyond it nothing more is read.
    pub received_max: usize,
    /// The largest packet that is taken in.
    pub packet_bytes_max: usize,
}

impl Options {
    /// The usual settings for `client_id`: clean session, keep-alive of 60 s.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            clean_session: true,
            keep_alive: Duration::from_secs(60),
            will: None,
            login: None,
            answer_deadline: Duration::from_secs(15),
            in_flight_max: 64,
            received_max: 1024,
            packet_bytes_max: 1024 * 1024,
        }
    }

    /// The same with a session that the broker keeps across connections.
    #[must_use]
    pub fn keeping_session(mut self) -> Self {
        self.clean_session = false;
        self
    }

    /// The same with a last will.
    #[must_use]
    pub fn with_will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// The same with another keep-alive.
    #[must_use]
    pub fn with_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }
}

/// A message that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// The quality of service with which it was delivered.
    pub qos: QoS,
    /// Whether it is an older message that the broker had kept.
    pub retain: bool,
    /// Whether the broker sent it before.
    pub dup: bool,
}
