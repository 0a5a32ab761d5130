use std::ops::ControlFlow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use types::{Action, DeviceId, PrincipalKind};

use crate::error::PolicyError;
use crate::parse::parse;
use crate::rule::{RuleId, RuleRef, Subject};
use crate::trie::{Leaf, Trie, Values};

/// A rule file: its name for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name, as messages shall show it.
    pub file: &'a str,
    /// The text.
    pub text: &'a str,
}

/// Where a compiled rule was written.
#[derive(Clone, Debug)]
struct Written {
    file: Arc<str>,
    line: u32,
    text: Arc<str>,
}

/// The topic rules, compiled. Immutable; a reload makes a new one.
#[derive(Clone, Debug)]
pub struct Table {
    epoch: u64,
    written: Vec<Written>,
    everyone: Trie,
    named: FxHashMap<DeviceId, Trie>,
}

/// Who asks, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) kind: PrincipalKind,
    pub(crate) name: &'a DeviceId,
    pub(crate) project: &'a str,
    pub(crate) fleet: Option<&'a str>,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Granted(RuleId),
    Denied(RuleId),
    Silent,
}

impl Table {
    /// Compiles the files together; the order of files and lines does not matter, except that a
    /// `topic` belongs to the `user` above it in the same file.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files, in their order.
    pub fn compile(sources: &[Source<'_>], epoch: u64) -> Result<Self, Vec<PolicyError>> {
        let mut table = Self { epoch, ..Self::deny_all() };
        let mut errors = Vec::new();
        for source in sources {
            let file: Arc<str> = Arc::from(source.file);
            let (rules, wrong) = parse(source);
            errors.extend(wrong);
            for rule in rules {
                let id = RuleId(u32::try_from(table.written.len()).unwrap_or(u32::MAX));
                let trie = match rule.subject {
                    Subject::Everyone => &mut table.everyone,
                    Subject::Named(name) => table.named.entry(name).or_default(),
                };
                trie.add(&rule.levels, rule.access, id);
                table.written.push(Written { file: Arc::clone(&file), line: rule.line, text: rule.text });
            }
        }
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }

    /// The table without a rule: everything is denied.
    #[must_use]
    pub fn deny_all() -> Self {
        Self { epoch: 0, written: Vec::new(), everyone: Trie::default(), named: FxHashMap::default() }
    }

    /// Which compilation this is; what was decided under another is decided again.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many rules there are.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.written.len()
    }

    /// Whether some `user` rule names it, ASCII case folded: such a name is no device's.
    #[must_use]
    pub fn bears_name(&self, name: &DeviceId) -> bool {
        self.named.contains_key(name)
    }

    /// Where the rule was written.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> RuleRef {
        match self.written.get(id.0 as usize) {
            None => RuleRef::NoRule,
            Some(Written { file, line, text }) => {
                RuleRef::At { file: Arc::clone(file), line: *line, text: Arc::clone(text) }
            }
        }
    }

    /// Asks the rules about a topic, or about a filter that has to be covered whole.
    pub(crate) fn ruling(&self, asker: Asker<'_>, action: Action, text: &str) -> Ruling {
        let mut granted: Option<RuleId> = None;
        let mut denied = None;
        self.show(asker, text, &mut |leaf| {
            if leaf.deny.is_some() {
                denied = leaf.deny;
                return ControlFlow::Break(());
            }
            granted = match (granted, granted_by(leaf, action)) {
                (Some(held), Some(found)) => Some(held.min(found)),
                (held, found) => held.or(found),
            };
            ControlFlow::Continue(())
        });
        match (denied, granted) {
            (Some(rule), _) => Ruling::Denied(rule),
            (None, Some(rule)) => Ruling::Granted(rule),
            (None, None) => Ruling::Silent,
        }
    }

    /// Shows every leaf that speaks of this asker and this text.
    pub(crate) fn show<F>(&self, asker: Asker<'_>, text: &str, show: &mut F)
    where
        F: FnMut(&Leaf) -> ControlFlow<()>,
    {
        let values = Values { name: asker.name.as_str(), project: asker.project, fleet: asker.fleet };
        if self.everyone.walk(text, &values, show).is_break() {
            return;
        }
        // A device that was enrolled under the name of a rule gets nothing from it.
        if asker.kind != PrincipalKind::Device
            && let Some(trie) = self.named.get(asker.name)
        {
            let _ended_early = trie.walk(text, &values, show);
        }
    }
}

/// The rule of a leaf that permits the action.
pub(crate) fn granted_by(leaf: &Leaf, action: Action) -> Option<RuleId> {
    match action {
        Action::Publish => leaf.write,
        Action::Subscribe | Action::Receive => leaf.read,
    }
}
