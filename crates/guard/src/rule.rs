use std::fmt;
use std::time::Duration;

use types::{Blame, Topic, TopicFilter};

/// How strictly a rule is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not at all.
    #[default]
    Off,
    /// Verdicts are reported, nothing is refused.
    Observe,
    /// What is not fresh is refused.
    Enforce,
}

impl Mode {
    /// The lower-case word: `off`, `observe`, `enforce`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }

    /// The mode that [`Mode::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::Observe, Self::Enforce].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// How long a sequence lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// As long as the device has its key.
    #[default]
    Device,
    /// One connection: right for a counter that restarts at boot. Sound against anyone without the
    /// key, because a new connection proves the key.
    Connection,
}

impl Scope {
    /// The lower-case word: `device`, `connection`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Connection => "connection",
        }
    }

    /// The scope that [`Scope::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Device, Self::Connection].into_iter().find(|scope| scope.as_str() == text)
    }
}

/// How a timestamp is written; whole seconds need a longer memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// Milliseconds since 1970.
    #[default]
    Millis,
    /// Seconds since 1970.
    Seconds,
    /// RFC 3339 text, often of whole seconds.
    Rfc3339,
}

impl TimeUnit {
    /// The word of the configuration: `ms`, `s`, `rfc3339`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::Rfc3339 => "rfc3339",
        }
    }

    /// The unit that [`TimeUnit::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Millis, Self::Seconds, Self::Rfc3339].into_iter().find(|unit| unit.as_str() == text)
    }
}

/// What happens to a message that lacks a field of its rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnMissing {
    /// It passes unchecked.
    Accept,
    /// It is refused.
    #[default]
    Reject,
}

impl OnMissing {
    /// The lower-case word: `accept`, `reject`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        }
    }

    /// The choice that [`OnMissing::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Accept, Self::Reject].into_iter().find(|choice| choice.as_str() == text)
    }
}

/// What a replay rule asks of the messages on its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRule {
    /// The topics that it speaks of.
    pub filter: TopicFilter,
    /// How strictly.
    pub mode: Mode,
    /// Where the sequence number is: a JSON pointer, for example `/seq`.
    pub seq: Option<String>,
    /// Where the boot counter is, for example `/boot`.
    pub epoch: Option<String>,
    /// Where the timestamp is, and how it is written.
    pub time: Option<(String, TimeUnit)>,
    /// How long a sequence lasts.
    pub scope: Scope,
    /// Whether each topic has a sequence of its own; at most [`crate::STREAMS_MAX`] for a device.
    pub per_topic: bool,
    /// How far ahead of the highest sequence number the next may lie; keeps garbage from locking the device out.
    pub max_forward: u64,
    /// How far ahead of our clock a timestamp may lie.
    pub max_skew: Duration,
    /// How far behind it may lie.
    pub max_age: Duration,
    /// What happens to a message without its fields.
    pub on_missing: OnMissing,
}

impl ReplayRule {
    /// A rule with the defaults of the documents: enforced, `/seq` and `/boot`, scope device, one
    /// stream, 1,000,000 forward, 5 minutes of skew, 24 hours of age, missing fields refused.
    #[must_use]
    pub fn new(filter: TopicFilter) -> Self {
        Self {
            filter,
            mode: Mode::Enforce,
            seq: Some("/seq".to_owned()),
            epoch: Some("/boot".to_owned()),
            time: None,
            scope: Scope::Device,
            per_topic: false,
            max_forward: 1_000_000,
            max_skew: Duration::from_secs(5 * 60),
            max_age: Duration::from_secs(24 * 60 * 60),
            on_missing: OnMissing::Reject,
        }
    }

    /// Checks what the types alone do not hold.
    ///
    /// # Errors
    /// The field that makes no sense.
    pub fn validate(&self) -> Result<(), GuardError> {
        let filter = || self.filter.as_str().to_owned();
        if self.mode != Mode::Off && self.seq.is_none() && self.time.is_none() {
            return Err(GuardError::NothingToCheck { filter: filter() });
        }
        if self.epoch.is_some() && self.seq.is_none() {
            return Err(GuardError::EpochAlone { filter: filter() });
        }
        if self.seq.is_some() && self.max_forward == 0 {
            return Err(GuardError::NoForward { filter: filter() });
        }
        let pointers =
            self.seq.iter().chain(&self.epoch).chain(self.time.as_ref().map(|(pointer, _)| pointer));
        for pointer in pointers {
            if !pointer.starts_with('/') {
                let shown = types::Clipped(pointer).to_string();
                return Err(GuardError::BadPointer { filter: filter(), shown });
            }
        }
        Ok(())
    }
}

/// Why a replay rule makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// Neither a sequence number nor a timestamp.
    #[error("replay rule for \"{filter}\" names neither seq nor time; one of them is needed")]
    NothingToCheck {
        /// The rule's filter.
        filter: String,
    },
    /// A boot counter orders sequence numbers only.
    #[error("replay rule for \"{filter}\" names epoch without seq")]
    EpochAlone {
        /// The rule's filter.
        filter: String,
    },
    /// No step forward is allowed, so that nothing after the first message could be fresh.
    #[error("replay rule for \"{filter}\": max_forward is 0; at least 1 is needed")]
    NoForward {
        /// The rule's filter.
        filter: String,
    },
    /// Not a JSON pointer (RFC 6901).
    #[error("replay rule for \"{filter}\": \"{shown}\" is no JSON pointer, which begins with '/'")]
    BadPointer {
        /// The rule's filter.
        filter: String,
        /// The text, clipped and escaped.
        shown: String,
    },
}

impl GuardError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Operator
    }

    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NothingToCheck { .. } => "replay.nothing_to_check",
            Self::EpochAlone { .. } => "replay.epoch_alone",
            Self::NoForward { .. } => "replay.no_forward",
            Self::BadPointer { .. } => "replay.bad_pointer",
        }
    }
}

/// The replay rules in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct ReplayTable(Vec<ReplayRule>);

impl ReplayTable {
    /// The table of these rules; see [`ReplayRule::validate`].
    #[must_use]
    pub fn new(rules: Vec<ReplayRule>) -> Self {
        Self(rules)
    }

    /// The first rule whose filter matches.
    #[must_use]
    pub fn rule_for(&self, topic: Topic<'_>) -> Option<&ReplayRule> {
        self.0.iter().find(|rule| rule.filter.matches(topic))
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[ReplayRule] {
        &self.0
    }

    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a message says of its place in the device's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its sequence number.
    pub seq: Option<u64>,
    /// The device's boot counter.
    pub epoch: Option<u64>,
    /// Its timestamp, in milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// A hash of its payload: what tells two messages of one timestamp apart where there is no
    /// sequence number; 0 if the rule has one.
    pub digest: u64,
}

/// Why a message is not fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplayKind {
    /// This very message was accepted before.
    Duplicate,
    /// Too old for anyone to tell.
    Stale,
    /// Too far ahead.
    Jump,
    /// A field of the rule is not there.
    Missing,
    /// The timestamp lies ahead of our clock.
    Skew,
}

impl ReplayKind {
    /// The lower-case word: `duplicate`, `stale`, `jump`, `missing`, `skew`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::Jump => "jump",
            Self::Missing => "missing",
            Self::Skew => "skew",
        }
    }
}

/// A message that was refused as not fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRefusal {
    /// Why.
    pub kind: ReplayKind,
    /// One line with the values that led to it.
    pub detail: String,
}

impl ReplayRefusal {
    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind {
            ReplayKind::Duplicate => "replay.duplicate",
            ReplayKind::Stale => "replay.stale",
            ReplayKind::Jump => "replay.jump",
            ReplayKind::Missing => "replay.missing",
            ReplayKind::Skew => "replay.skew",
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Peer
    }
}

impl fmt::Display for ReplayRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for ReplayRefusal {}
