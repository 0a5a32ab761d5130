use std::fmt;
use std::sync::Arc;

use types::DeviceId;

/// Which rule of its table: an index that means nothing to another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub(crate) u32);

/// A rule, named by the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleRef {
    /// No rule speaks of it.
    NoRule,
    /// This rule.
    At {
        /// The file's name.
        file: Arc<str>,
        /// The line, from 1.
        line: u32,
        /// The rule's text.
        text: Arc<str>,
    },
}

impl RuleRef {
    /// `file:line`, or `no rule`: what the log, the metric and the event carry.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::NoRule => "no rule".to_owned(),
            Self::At { file, line, .. } => format!("{file}:{line}"),
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule"),
            Self::At { file, line, text } => write!(f, "{file}:{line} \"{text}\""),
        }
    }
}

/// Of whom a rule speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A `pattern`: every principal.
    Everyone,
    /// A `topic` below `user NAME`: the service or operator of that name.
    Named(DeviceId),
}

/// What a rule gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

impl Access {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "readwrite" => Some(Self::ReadWrite),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// What stands for a word that only the peer's certificate or registry row gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Placeholder {
    /// `%u` and `%c`: the principal's name, never the raw client id.
    Name,
    /// `%p`: the project.
    Project,
    /// `%f`: the fleet.
    Fleet,
}

impl Placeholder {
    pub(crate) const ALL: [Self; 3] = [Self::Name, Self::Project, Self::Fleet];

    pub(crate) fn parse(letter: char) -> Option<Self> {
        match letter {
            'u' | 'c' => Some(Self::Name),
            'p' => Some(Self::Project),
            'f' => Some(Self::Fleet),
            _ => None,
        }
    }
}

/// A piece of a level that holds placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(Box<str>),
    Value(Placeholder),
}

/// One level of a rule's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Literal(Box<str>),
    /// `+`
    Any,
    /// `#`
    Rest,
    Template(Vec<Part>),
}

/// A rule as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) line: u32,
    pub(crate) text: Arc<str>,
    pub(crate) subject: Subject,
    pub(crate) access: Access,
    pub(crate) levels: Vec<Level>,
}
