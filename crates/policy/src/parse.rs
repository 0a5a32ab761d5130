use std::sync::Arc;

use types::{Clipped, DeviceId, IdError, TopicError, TopicFilter};

use crate::error::PolicyError;
use crate::rule::{Access, Level, Part, Placeholder, Rule, Subject};
use crate::table::Source;

/// A file with more faults than this is no rule file; the rest would not help.
const FAULTS_MAX: usize = 100;
const KEYWORDS: &str = "a line begins with user, topic, pattern, or # for a comment";
const ACCESS: &str = "access is one of read, write, readwrite, deny";
const COMMENTS: &str = "a comment stands on a line of its own";

/// What is wrong at a byte of a line.
struct Fault {
    at: usize,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Whose `topic` lines follow.
enum Section {
    /// Nobody's yet: in Mosquitto, anonymous clients'.
    Anonymous,
    User(DeviceId),
    /// The `user` line was wrong and has been reported.
    Unknown,
}

/// Reads a file of Mosquitto's ACL syntax (mosquitto.conf(5), `acl_file`).
///
/// Off-spec: tabs separate words as spaces do, lines may end in CRLF, a comment may be indented;
/// `%p` and `%f` are placeholders too; names have the grammar of device ids; a placeholder in a
/// `topic` line, which Mosquitto takes literally, is an error.
pub(crate) fn parse(source: &Source<'_>) -> (Vec<Rule>, Vec<PolicyError>) {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    let mut section = Section::Anonymous;
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(source.text);
    for (index, raw) in text.split('\n').enumerate() {
        let line = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        match parse_line(raw, line, &mut section) {
            Ok(rule) => rules.extend(rule),
            Err(Fault { at, message, hint }) => {
                let before = raw.get(..at).map_or(at, |before| before.chars().count());
                let column = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
                errors.push(PolicyError { file: source.file.to_owned(), line, column, message, hint });
                if errors.len() == FAULTS_MAX {
                    break;
                }
            }
        }
    }
    (rules, errors)
}

/// A word and where it begins in its line.
#[derive(Clone, Copy)]
struct Span<'a> {
    at: usize,
    text: &'a str,
}

impl<'a> Span<'a> {
    /// Without the blanks around it.
    fn trimmed(self) -> Self {
        let start = self.text.len() - self.text.trim_start_matches(is_blank).len();
        Self { at: self.at + start, text: self.text.trim_matches(is_blank) }
    }

    /// The first word, and what follows it.
    fn split(self) -> (Self, Self) {
        let end = self.text.find(is_blank).unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        (Self { text: word, ..self }, Self { at: self.at + end, text: rest }.trimmed())
    }

    fn end(self) -> usize {
        self.at + self.text.len()
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

fn parse_line(raw: &str, line: u32, section: &mut Section) -> Result<Option<Rule>, Fault> {
    let whole = Span { at: 0, text: raw }.trimmed();
    if whole.text.is_empty() || whole.text.starts_with('#') {
        return Ok(None);
    }
    let (keyword, rest) = whole.split();
    let subject = match keyword.text {
        "user" => {
            *section = Section::Unknown;
            *section = Section::User(parse_user(keyword, rest)?);
            return Ok(None);
        }
        "topic" => match section {
            Section::User(name) => Subject::Named(name.clone()),
            Section::Anonymous => {
                let hint = "nobody is anonymous here: put it below a \"user NAME\" line, or write pattern";
                return Err(Fault::new(
                    keyword.at,
                    "topic before any user, which is for anonymous clients",
                    hint,
                ));
            }
            Section::Unknown => Subject::Everyone,
        },
        "pattern" => Subject::Everyone,
        other => return Err(unknown_keyword(keyword.at, other)),
    };
    let (access, topic) = parse_access(keyword, rest)?;
    let levels = parse_levels(keyword.text, topic)?;
    Ok(Some(Rule { line, text: Arc::from(whole.text), subject, access, levels }))
}

fn parse_user(keyword: Span<'_>, name: Span<'_>) -> Result<DeviceId, Fault> {
    if name.text.is_empty() {
        return Err(Fault::new(keyword.end(), "user without a name", "user NAME"));
    }
    DeviceId::parse(name.text).map_err(|error| {
        let at = name.at + if let IdError::BadByte { at, .. } = &error { *at } else { 0 };
        if let Some(comment) = comment_in(name) {
            return Fault::new(comment, "text after the name", COMMENTS);
        }
        let hint = match name.text {
            text if text.contains('%') => Some("a rule for every principal is a pattern".to_owned()),
            text if text.contains(['+', '#', '*']) => Some("a name has no wildcards; use pattern".to_owned()),
            _ => None,
        };
        Fault { at, message: format!("user name: {error}"), hint }
    })
}

fn unknown_keyword(at: usize, word: &str) -> Fault {
    let lower = word.to_ascii_lowercase();
    let bare = lower.trim_end_matches([':', '=', 's']);
    let hint = match bare {
        "user" | "topic" | "pattern" if lower == bare => format!("keywords are lower case: {bare}"),
        "user" | "topic" | "pattern" => format!("the keyword is {bare}, followed by a blank"),
        "allow" | "deny" | "read" | "write" | "readwrite" | "publi" | "publish" | "subscribe" | "acl" => {
            format!("{KEYWORDS}; for example: pattern write devices/%u/telemetry/#")
        }
        _ if word.starts_with("//") || word.starts_with(';') || word.starts_with("--") => {
            "a comment begins with #".to_owned()
        }
        _ => KEYWORDS.to_owned(),
    };
    Fault::new(at, format!("unknown keyword \"{}\"", Clipped(word)), hint)
}

/// The access word of another broker's dialect, and Mosquitto's word for it.
fn foreign_access(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "read" | "subscribe" | "sub" | "r" | "subscribeliteral" => Some("read"),
        "write" | "publish" | "pub" | "w" => Some("write"),
        "readwrite" | "pubsub" | "all" | "allow" | "rw" | "read-write" | "both" => Some("readwrite"),
        "deny" | "none" | "block" => Some("deny"),
        _ => None,
    }
}

fn parse_access<'a>(keyword: Span<'_>, rest: Span<'a>) -> Result<(Access, Span<'a>), Fault> {
    let name = keyword.text;
    if rest.text.is_empty() {
        return Err(Fault::new(
            keyword.end(),
            format!("{name} without a topic"),
            format!("{name} read TOPIC"),
        ));
    }
    let (first, topic) = rest.split();
    if topic.text.is_empty() {
        // One word is a topic with readwrite access, unless it is an access word.
        return match foreign_access(first.text) {
            None => Ok((Access::ReadWrite, first)),
            Some(access) => {
                let message = format!("{name} {} without a topic", first.text);
                let hint =
                    format!("{name} {access} TOPIC; a topic of this name is {name} readwrite {}", first.text);
                Err(Fault::new(first.end(), message, hint))
            }
        };
    }
    if let Some(access) = Access::parse(first.text) {
        let (second, more) = topic.split();
        if let Some(word) = foreign_access(second.text)
            && !more.text.is_empty()
        {
            let (message, hint) = match access {
                Access::Deny => (
                    format!("deny has no direction, found \"{}\"", Clipped(second.text)),
                    format!("{name} deny {} denies both directions", more.text),
                ),
                _ => (
                    format!("two access words, \"{}\" and \"{}\"", first.text, Clipped(second.text)),
                    format!("{name} {word} {}; both are readwrite", more.text),
                ),
            };
            return Err(Fault::new(second.at, message, hint));
        }
        return Ok((access, topic));
    }
    if topic.text.starts_with('#') && topic.text != "#" {
        return Err(Fault::new(topic.at, "text after the topic", COMMENTS));
    }
    let message = format!("unknown access \"{}\"", Clipped(first.text));
    let hint = match foreign_access(first.text) {
        Some(access) => format!("Mosquitto's word is {access}: {name} {access} {}", topic.text),
        None => format!("{ACCESS}; a topic with blanks needs one of them before it"),
    };
    Err(Fault::new(first.at, message, hint))
}

/// Where a comment seems to follow the value.
fn comment_in(value: Span<'_>) -> Option<usize> {
    let blank_then_hash = value.text.char_indices().zip(value.text.chars().skip(1));
    blank_then_hash
        .filter(|((_, blank), hash)| is_blank(*blank) && *hash == '#')
        .map(|((at, _), _)| value.at + at + 1)
        .next()
}

fn parse_levels(keyword: &str, topic: Span<'_>) -> Result<Vec<Level>, Fault> {
    if let Some(at) = comment_in(topic) {
        return Err(Fault::new(at, "text after the topic", COMMENTS));
    }
    if topic.text.starts_with(['"', '\'']) {
        return Err(Fault::new(topic.at, "a quoted topic", "topics are written without quotes"));
    }
    if topic.text.starts_with("$share/") {
        let hint = "a rule names the filter alone; it holds for its shared subscriptions too";
        return Err(Fault::new(topic.at, "a shared subscription in a rule", hint));
    }
    TopicFilter::parse(topic.text).map_err(|error| topic_fault(topic, &error))?;
    let mut levels = Vec::new();
    let mut at = topic.at;
    for text in topic.text.split('/') {
        levels.push(match text {
            "+" => Level::Any,
            "#" => Level::Rest,
            _ => parse_level(keyword, Span { at, text })?,
        });
        at += text.len() + 1;
    }
    Ok(levels)
}

fn topic_fault(topic: Span<'_>, error: &TopicError) -> Fault {
    let (at, hint) = match error {
        TopicError::Misplaced { at, .. } => {
            let found = topic.text.as_bytes().get(*at);
            let hint =
                if found == Some(&b'#') && topic.text.get(at + 1..).is_some_and(|rest| !rest.is_empty()) {
                    "# is the last level; for one level in the middle write +"
                } else {
                    "a wildcard fills its level: a/+/b, a/#"
                };
            (*at, Some(hint.to_owned()))
        }
        TopicError::Control { at, .. } if topic.text.as_bytes().get(*at) == Some(&b'\t') => {
            (*at, Some("a topic has no tab; is this a second value?".to_owned()))
        }
        TopicError::Control { at, .. } => (*at, None),
        _ => (0, None),
    };
    Fault { at: topic.at + at, message: error.to_string(), hint }
}

/// A level that is no wildcard: text, and in a pattern placeholders.
fn parse_level(keyword: &str, level: Span<'_>) -> Result<Level, Fault> {
    if let Some(found) = level.text.find("${").or_else(|| level.text.find("{{")) {
        let hint = "placeholders are %u or %c (name), %p (project), %f (fleet)";
        return Err(Fault::new(level.at + found, "a placeholder of another broker", hint));
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut text = String::new();
    let mut characters = level.text.char_indices().peekable();
    while let Some((found, character)) = characters.next() {
        let letter = characters
            .peek()
            .map(|(_, letter)| *letter)
            .filter(|letter| character == '%' && (letter.is_ascii_alphabetic() || *letter == '%'));
        let Some(letter) = letter else {
            text.push(character);
            continue;
        };
        let at = level.at + found;
        let placeholder = Placeholder::parse(letter);
        if keyword == "topic" {
            if placeholder.is_none() {
                text.push(character);
                continue;
            }
            let message = format!("placeholder %{letter} in a topic rule, which takes it literally");
            return Err(Fault::new(at, message, "placeholders belong to patterns: write pattern"));
        }
        let Some(placeholder) = placeholder else { return Err(unknown_placeholder(at, letter)) };
        let rest = level.text.get(found + 1..).unwrap_or_default();
        if let Some(word) = ["username", "user", "clientid", "client", "project", "fleet"]
            .into_iter()
            .find(|word| rest.starts_with(word))
        {
            let hint = format!("the placeholder is %{letter}, without more letters");
            return Err(Fault::new(at, format!("%{word} is no placeholder"), hint));
        }
        characters.next();
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text).into()));
        }
        parts.push(Part::Value(placeholder));
    }
    if parts.is_empty() {
        return Ok(Level::Literal(text.into()));
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(Level::Template(parts))
}

fn unknown_placeholder(at: usize, letter: char) -> Fault {
    let known = "placeholders are %u or %c (name), %p (project), %f (fleet)";
    let hint = match letter.to_ascii_lowercase() {
        lower if lower != letter && Placeholder::parse(lower).is_some() => {
            format!("placeholders are lower case: %{lower}")
        }
        'i' | 'd' | 'n' | 's' => format!("the name is %u; {known}"),
        _ => known.to_owned(),
    };
    Fault::new(at, format!("unknown placeholder %{letter}"), hint)
}
