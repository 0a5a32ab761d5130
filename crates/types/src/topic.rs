use std::fmt;
use std::sync::Arc;

use crate::fault::Clipped;

/// The longest topic or filter, in bytes (MQTT 3.1.1 section 1.5.3).
pub const TOPIC_BYTES_MAX: usize = 65_535;
/// The most levels that a topic or filter may have; a limit of ours against deep tries.
pub const TOPIC_LEVELS_MAX: usize = 32;

/// Why a text is no topic or no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// No character at all [MQTT-4.7.3-1].
    #[error("topic is empty; at least one character is needed")]
    Empty,
    /// Longer than [`TOPIC_BYTES_MAX`] [MQTT-4.7.3-3].
    #[error("topic of {len} bytes; limit 65535")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// More levels than [`TOPIC_LEVELS_MAX`].
    #[error("topic \"{shown}\" has {levels} levels; limit 32")]
    TooDeep {
        /// The text, clipped and escaped.
        shown: String,
        /// How many levels it has.
        levels: usize,
    },
    /// A NUL character [MQTT-4.7.3-2], or a control character that no client needs.
    #[error("topic \"{shown}\": control character at byte {at}")]
    Control {
        /// The text, clipped and escaped.
        shown: String,
        /// The offset.
        at: usize,
    },
    /// A wildcard in the name of a topic [MQTT-3.3.2-2].
    #[error("topic \"{shown}\": wildcard at byte {at}; wildcards are for filters")]
    Wildcard {
        /// The text, clipped and escaped.
        shown: String,
        /// The offset.
        at: usize,
    },
    /// A wildcard that does not fill its level, or `#` that is not the last [MQTT-4.7.1-2], [MQTT-4.7.1-3].
    #[error("filter \"{shown}\": misplaced wildcard at byte {at}; '+' fills a level, '#' ends the filter")]
    Misplaced {
        /// The text, clipped and escaped.
        shown: String,
        /// The offset.
        at: usize,
    },
    /// A `$share` filter without a name or without a filter (MQTT 5.0 section 4.8.2).
    #[error("filter \"{shown}\": a shared subscription is $share/NAME/FILTER")]
    Share {
        /// The text, clipped and escaped.
        shown: String,
    },
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { len: text.len() });
    }
    let bytes = text.as_bytes();
    let mut levels = 1_usize;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte < 0x20 || byte == 0x7f {
            return Err(TopicError::Control { shown: Clipped(text).to_string(), at });
        }
        levels += usize::from(byte == b'/');
    }
    if levels > TOPIC_LEVELS_MAX {
        return Err(TopicError::TooDeep { shown: Clipped(text).to_string(), levels });
    }
    Ok(())
}

/// The name of a topic: no wildcards, at most 32 levels. Borrows, so that reading one off the
/// wire allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// Takes a topic from the wire or a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        match text.bytes().position(|b| b == b'+' || b == b'#') {
            Some(at) => Err(TopicError::Wildcard { shown: Clipped(text).to_string(), at }),
            None => Ok(Self(text)),
        }
    }

    /// The topic's text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels between the slashes, in order; some may be empty.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Whether it begins with `$`, which no leading wildcard matches [MQTT-4.7.2-1].
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A topic that owns its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicBuf(Arc<str>);

impl TopicBuf {
    /// Takes a topic as [`Topic::parse`] does.
    ///
    /// # Errors
    /// As [`Topic::parse`].
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        Topic::parse(text).map(Self::from)
    }

    /// The topic, borrowed.
    #[must_use]
    pub fn as_topic(&self) -> Topic<'_> {
        Topic(&self.0)
    }

    /// The topic's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Topic<'_>> for TopicBuf {
    fn from(topic: Topic<'_>) -> Self {
        Self(Arc::from(topic.0))
    }
}

/// The name of a shared subscription's group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareName(Arc<str>);

impl ShareName {
    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A topic filter: `+` fills one level, `#` ends it (MQTT 3.1.1 section 4.7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Takes a plain filter; `$share/…` is a plain text here.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        let bytes = text.as_bytes();
        for (at, &byte) in bytes.iter().enumerate() {
            let alone =
                (at == 0 || bytes[at - 1] == b'/') && (at + 1 == bytes.len() || bytes[at + 1] == b'/');
            let last = at + 1 == bytes.len();
            if byte == b'+' && !alone || byte == b'#' && !(alone && last) {
                return Err(TopicError::Misplaced { shown: Clipped(text).to_string(), at });
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// Takes a filter that may be shared: `$share/NAME/FILTER`.
    ///
    /// # Errors
    /// As [`TopicFilter::parse`], and a malformed share.
    pub fn parse_shared(text: &str) -> Result<(Option<ShareName>, Self), TopicError> {
        let Some(rest) = text.strip_prefix("$share/") else {
            return Ok((None, Self::parse(text)?));
        };
        match rest.split_once('/') {
            Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) && !filter.is_empty() => {
                Ok((Some(ShareName(Arc::from(name))), Self::parse(filter)?))
            }
            _ => Err(TopicError::Share { shown: Clipped(text).to_string() }),
        }
    }

    /// The filter's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels between the slashes, in order.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it holds a wildcard.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether `topic` matches; see [`topic_matches`].
    #[must_use]
    pub fn matches(&self, topic: Topic<'_>) -> bool {
        topic_matches(self, topic)
    }

    /// Whether every topic that `other` matches is matched by this filter too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let reserved = |filter: &Self| filter.0.starts_with('$');
        let wild_start = |filter: &Self| filter.0.starts_with(['+', '#']);
        if reserved(other) && wild_start(self) {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) => return true,
                (Some("+"), Some(level)) if level != "#" => {}
                (Some(our), Some(their)) if our == their => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The one matcher, for rules and for routing (MQTT 3.1.1 section 4.7): `a/b` does not match
/// `a/b/c`; `a/#` matches `a`; a leading wildcard does not match a topic that begins with `$`.
#[must_use]
pub fn topic_matches(filter: &TopicFilter, topic: Topic<'_>) -> bool {
    if topic.is_reserved() && filter.0.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut levels) = (filter.levels(), topic.levels());
    loop {
        match (filters.next(), levels.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard's words, spelled out on whole lists of levels.
    fn naive(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (Some((&"#", _)), _) => true,
            (None, None) => true,
            (Some((&f, rest)), Some((&t, more))) => (f == "+" || f == t) && naive(rest, more),
            _ => false,
        }
    }

    #[test]
    fn every_small_filter_and_topic_agrees_with_the_naive_matcher() {
        let mut topics = vec![vec![""], vec!["a"], vec!["b"], vec!["$s"]];
        let mut filters = vec![vec![""], vec!["a"], vec!["b"], vec!["$s"], vec!["+"], vec!["#"]];
        for _ in 0..2 {
            let longer: Vec<_> =
                topics.iter().flat_map(|t| ["", "a", "b"].map(|l| [t.clone(), vec![l]].concat())).collect();
            topics.extend(longer);
            let longer: Vec<_> = filters
                .iter()
                .filter(|f| f.last() != Some(&"#"))
                .flat_map(|f| ["", "a", "b", "+", "#"].map(|l| [f.clone(), vec![l]].concat()))
                .collect();
            filters.extend(longer);
        }
        let mut checked = 0;
        for filter in &filters {
            let Ok(parsed) = TopicFilter::parse(&filter.join("/")) else { continue };
            for topic in &topics {
                let joined = topic.join("/");
                let Ok(name) = Topic::parse(&joined) else { continue };
                let hidden = joined.starts_with('$') && matches!(filter[0], "+" | "#");
                assert_eq!(parsed.matches(name), !hidden && naive(filter, topic), "{parsed} {name}");
                checked += 1;
            }
        }
        assert!(checked > 2_000, "{checked}");
    }

    #[test]
    fn a_filter_of_two_levels_does_not_match_three() {
        assert!(!TopicFilter::parse("a/b").unwrap().matches(Topic::parse("a/b/c").unwrap()));
    }

    #[test]
    fn a_filter_that_covers_another_matches_all_that_the_other_matches() {
        for (wide, narrow, covers) in [
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("a/+", "a/b", true),
            ("a/+", "a/#", false),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/+/c", "a/+/c", true),
            ("a/b", "a/+", false),
            ("+/+", "a", false),
            ("assets/+/status", "assets/x/status", true),
        ] {
            let parse = |text| TopicFilter::parse(text).unwrap();
            assert_eq!(parse(wide).covers(&parse(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn malformed_topics_and_filters_name_the_byte() {
        assert_eq!(Topic::parse(""), Err(TopicError::Empty));
        assert!(matches!(Topic::parse("a/+"), Err(TopicError::Wildcard { at: 2, .. })));
        assert!(matches!(Topic::parse("a\0"), Err(TopicError::Control { at: 1, .. })));
        assert!(matches!(TopicFilter::parse("a/b+"), Err(TopicError::Misplaced { at: 3, .. })));
        assert!(matches!(TopicFilter::parse("#/a"), Err(TopicError::Misplaced { at: 0, .. })));
        assert!(matches!(TopicFilter::parse_shared("$share/g"), Err(TopicError::Share { .. })));
        let (share, filter) = TopicFilter::parse_shared("$share/g/a/#").unwrap();
        assert_eq!((share.unwrap().as_str(), filter.as_str()), ("g", "a/#"));
        let deep = "a/".repeat(40);
        assert!(matches!(Topic::parse(&deep), Err(TopicError::TooDeep { levels: 41, .. })));
    }
}
