//! The words that every other crate speaks: identities, topics, serials, time, secrets.
//! In: raw text and bytes. Out: values that are valid by construction.
//! Invariant: a value of these types obeys its grammar; no raw string travels.
//! Never: reads a clock, a file, the network, or randomness.
//! Spec: DESIGN.md sections 1 and 3; MQTT 3.1.1 section 4.7; RFC 5280 section 4.1.2.2.

mod action;
mod cert;
mod entropy;
mod epoch;
mod fault;
mod hex;
mod id;
mod ids;
mod now;
mod principal;
mod reason;
mod secret;
mod topic;

pub use action::{Action, QoS};
pub use cert::{CertRef, DerHash, IssuerId, Serial, SpkiHash};
pub use entropy::Entropy;
pub use epoch::Epoch;
pub use fault::{Blame, Clipped};
pub use hex::{HexError, hex, unhex};
pub use id::{DEVICE_ID_BYTES_MAX, DeviceId, IdError};
pub use ids::{GeneratedId, IdKind, ProjectId};
pub use now::{Clock, Mono, Now, Wall};
pub use principal::{Principal, PrincipalKind};
pub use reason::Reason;
pub use secret::Secret;
pub use topic::{
    ShareName, TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX, Topic, TopicBuf, TopicError, TopicFilter, topic_matches,
};
