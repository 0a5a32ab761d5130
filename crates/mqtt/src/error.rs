use types::{Blame, TopicError};

/// Why a peer's bytes are refused; each of these ends the connection [MQTT-4.8.0-1].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MqttError {
    /// The remaining length takes more than four bytes (MQTT 3.1.1 section 2.2.3).
    #[error("remaining length of more than four bytes")]
    BadLength,
    /// The packet is longer than the limit.
    #[error("packet of {bytes} bytes; limit {limit}")]
    TooLarge {
        /// Its whole length.
        bytes: usize,
        /// The limit that it breaks.
        limit: usize,
    },
    /// The reserved bits of the fixed header are wrong [MQTT-2.2.2-2].
    #[error("{packet} with flag bits {flags:#06b}")]
    BadFlags {
        /// The packet's name.
        packet: &'static str,
        /// The four low bits of its first byte.
        flags: u8,
    },
    /// Packet type 0 or 15, or a packet that only a server sends.
    #[error("packet type {kind} is not a client's to send")]
    BadType {
        /// The four high bits of its first byte.
        kind: u8,
    },
    /// The packet's content breaks its grammar.
    #[error("{packet}: {what}")]
    Malformed {
        /// The packet's name.
        packet: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A topic or filter breaks the grammar of topics.
    #[error("{packet}: {source}")]
    BadTopic {
        /// The packet's name.
        packet: &'static str,
        /// What is wrong with it.
        source: TopicError,
    },
    /// The protocol level is none that we speak [MQTT-3.1.2-2].
    #[error("protocol level {level}; spoken: 4 (MQTT 3.1.1)")]
    UnsupportedLevel {
        /// The level that was asked for.
        level: u8,
    },
    /// The packet may not come at this point of the connection [MQTT-3.1.0-1], [MQTT-3.1.0-2].
    #[error("{packet} {when}")]
    Unexpected {
        /// The packet's name.
        packet: &'static str,
        /// At which point it came.
        when: &'static str,
    },
}

impl MqttError {
    /// Stable slug for logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadLength | Self::BadFlags { .. } | Self::BadType { .. } | Self::Malformed { .. } => {
                "mqtt.malformed"
            }
            Self::TooLarge { .. } => "mqtt.too_large",
            Self::BadTopic { .. } => "mqtt.bad_topic",
            Self::UnsupportedLevel { .. } => "mqtt.unsupported_level",
            Self::Unexpected { .. } => "mqtt.unexpected",
        }
    }

    /// Always the peer: these are its bytes.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Peer
    }
}
