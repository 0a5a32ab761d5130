use std::io;

use types::Blame;

/// Why the broker could not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A setting is outside its limits.
    #[error("broker setting {name} is {value}; allowed {allowed}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What it was.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The operating system refused a socket, a thread or a runtime.
    #[error("broker could not {act}")]
    System {
        /// What was tried.
        act: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A shard's thread ended by itself.
    #[error("broker shard {shard} ended before it was told to")]
    ShardLost {
        /// Which one.
        shard: u16,
    },
}

/// By kind and text: what an `io::Error` wraps has no equality of its own.
impl PartialEq for BrokerError {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::System { source: a, .. }, Self::System { source: b, .. }) => {
                a.kind() == b.kind() && self.to_string() == other.to_string()
            }
            _ => self.to_string() == other.to_string(),
        }
    }
}

impl BrokerError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Setting { .. } => Blame::Operator,
            Self::System { .. } => Blame::Us,
            Self::ShardLost { .. } => Blame::Bug,
        }
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "broker.setting",
            Self::System { .. } => "broker.system",
            Self::ShardLost { .. } => "broker.shard_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_and_who_has_to_act() {
        let setting = BrokerError::Setting { name: "shards", value: 65_536, allowed: "1 to 1024" };
        assert_eq!(setting.to_string(), "broker setting shards is 65536; allowed 1 to 1024");
        assert_eq!((setting.blame(), setting.code()), (Blame::Operator, "broker.setting"));
        let system =
            BrokerError::System { act: "listen", source: io::Error::new(io::ErrorKind::AddrInUse, "taken") };
        assert_eq!(system.to_string(), "broker could not listen");
        assert_eq!((system.blame(), system.code()), (Blame::Us, "broker.system"));
        let other_kind = BrokerError::System {
            act: "listen",
            source: io::Error::new(io::ErrorKind::PermissionDenied, "no"),
        };
        assert_ne!(system, other_kind);
        let lost = BrokerError::ShardLost { shard: 3 };
        assert_eq!(lost.to_string(), "broker shard 3 ended before it was told to");
        assert_eq!((lost.blame(), lost.code()), (Blame::Bug, "broker.shard_lost"));
    }
}
