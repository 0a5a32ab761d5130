use std::ops::ControlFlow;

use rustc_hash::FxHashMap;

use crate::rule::{Access, Level, Part, Placeholder, RuleId};

/// The values of a peer's placeholders. One that is `None` or empty matches nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) name: &'a str,
    pub(crate) project: &'a str,
    pub(crate) fleet: Option<&'a str>,
}

impl<'a> Values<'a> {
    fn value(&self, placeholder: Placeholder) -> Option<&'a str> {
        let value = match placeholder {
            Placeholder::Name => Some(self.name),
            Placeholder::Project => Some(self.project),
            Placeholder::Fleet => self.fleet,
        };
        value.filter(|value| !value.is_empty())
    }
}

/// The rules that end at one place; of several that give the same the first written is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) read: Option<RuleId>,
    pub(crate) write: Option<RuleId>,
    pub(crate) deny: Option<RuleId>,
}

impl Leaf {
    fn add(&mut self, access: Access, rule: RuleId) {
        let Self { read, write, deny } = self;
        let (first, second) = match access {
            Access::Read => (read, None),
            Access::Write => (write, None),
            Access::ReadWrite => (read, Some(write)),
            Access::Deny => (deny, None),
        };
        for place in [Some(first), second].into_iter().flatten() {
            *place = Some(place.map_or(rule, |held| held.min(rule)));
        }
    }

    fn is_empty(&self) -> bool {
        self.read.is_none() && self.write.is_none() && self.deny.is_none()
    }
}

type NodeId = u32;

/// A placeholder with fixed text around it: `dev%u`, `%u-in`.
#[derive(Clone, Debug)]
struct Affixed {
    value: Placeholder,
    prefix: Box<str>,
    suffix: Box<str>,
    next: NodeId,
}

impl Affixed {
    fn key(&self) -> (Placeholder, &str, &str) {
        (self.value, &self.prefix, &self.suffix)
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: FxHashMap<Box<str>, NodeId>,
    any: Option<NodeId>,
    /// `%u`, `%p`, `%f` that fill their level, in the order of [`Placeholder::ALL`].
    values: [Option<NodeId>; 3],
    /// Sorted by [`Affixed::key`], so that their number costs a logarithm only.
    affixed: Vec<Affixed>,
    /// Levels of several placeholders, such as `%p-%u`.
    mixed: Vec<(Vec<Part>, NodeId)>,
    /// Rules whose filter ends here.
    ends: Leaf,
    /// Rules whose filter goes on with `#`.
    rest: Leaf,
}

/// Rules by the levels of their filters: the cost of a walk depends on the topic's levels, not on
/// how many rules or peers there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
}

impl Trie {
    pub(crate) fn add(&mut self, levels: &[Level], access: Access, rule: RuleId) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0_usize;
        for level in levels {
            let next = match level {
                Level::Rest => {
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.rest.add(access, rule);
                    }
                    return;
                }
                other => self.step(at, other),
            };
            at = next as usize;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.ends.add(access, rule);
        }
    }

    /// The node below `at` over this level, made if it is not there.
    fn step(&mut self, at: usize, level: &Level) -> NodeId {
        let fresh = self.nodes.len() as NodeId;
        let Some(node) = self.nodes.get_mut(at) else { return 0 };
        let next = match level {
            Level::Literal(text) => *node.literals.entry(text.clone()).or_insert(fresh),
            Level::Any | Level::Rest => *node.any.get_or_insert(fresh),
            Level::Template(parts) => match parts.as_slice() {
                [Part::Value(value)] => *node.values[*value as usize].get_or_insert(fresh),
                [Part::Text(prefix), Part::Value(value)] => node.affix(*value, prefix, "", fresh),
                [Part::Value(value), Part::Text(suffix)] => node.affix(*value, "", suffix, fresh),
                [Part::Text(prefix), Part::Value(value), Part::Text(suffix)] => {
                    node.affix(*value, prefix, suffix, fresh)
                }
                _ => match node.mixed.iter().find(|(held, _)| held == parts) {
                    Some((_, next)) => *next,
                    None => {
                        node.mixed.push((parts.clone(), fresh));
                        fresh
                    }
                },
            },
        };
        if next == fresh {
            self.nodes.push(Node::default());
        }
        next
    }

    /// Shows every leaf whose filter covers `text`, a topic or a filter, until `show` breaks.
    /// A wildcard in `text` is covered by a wildcard only; the value of a placeholder is one
    /// literal level, whatever characters it has.
    pub(crate) fn walk<F>(&self, text: &str, values: &Values<'_>, show: &mut F) -> ControlFlow<()>
    where
        F: FnMut(&Leaf) -> ControlFlow<()>,
    {
        match self.nodes.first() {
            None => ControlFlow::Continue(()),
            Some(root) => {
                // No leading wildcard or placeholder covers what begins with `$` [MQTT-4.7.2-1].
                self.below(root, Some(text), text.starts_with('$'), values, show)
            }
        }
    }

    fn below<F>(
        &self,
        node: &Node,
        text: Option<&str>,
        reserved: bool,
        values: &Values<'_>,
        show: &mut F,
    ) -> ControlFlow<()>
    where
        F: FnMut(&Leaf) -> ControlFlow<()>,
    {
        if !reserved && !node.rest.is_empty() {
            show(&node.rest)?;
        }
        let Some(text) = text else {
            return if node.ends.is_empty() { ControlFlow::Continue(()) } else { show(&node.ends) };
        };
        let (level, tail) = match text.split_once('/') {
            Some((level, tail)) => (level, Some(tail)),
            None => (text, None),
        };
        let mut go = |next: NodeId| match self.nodes.get(next as usize) {
            Some(next) => self.below(next, tail, false, values, show),
            None => ControlFlow::Continue(()),
        };
        if level == "#" {
            return ControlFlow::Continue(());
        }
        if let Some(next) = node.any.filter(|_| !reserved) {
            go(next)?;
        }
        if level == "+" {
            return ControlFlow::Continue(());
        }
        if let Some(next) = node.literals.get(level) {
            go(*next)?;
        }
        for (placeholder, next) in Placeholder::ALL.into_iter().zip(node.values) {
            if let Some(next) = next.filter(|_| !reserved)
                && values.value(placeholder) == Some(level)
            {
                go(next)?;
            }
        }
        if !node.affixed.is_empty() {
            node.affixed_matches(level, reserved, values, &mut go)?;
        }
        for (parts, next) in &node.mixed {
            if fills(parts, level, reserved, values) {
                go(*next)?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Node {
    fn affix(&mut self, value: Placeholder, prefix: &str, suffix: &str, fresh: NodeId) -> NodeId {
        match self.affixed.binary_search_by(|held| held.key().cmp(&(value, prefix, suffix))) {
            Ok(at) => self.affixed.get(at).map_or(fresh, |held| held.next),
            Err(at) => {
                self.affixed
                    .insert(at, Affixed { value, prefix: prefix.into(), suffix: suffix.into(), next: fresh });
                fresh
            }
        }
    }

    /// Every place in the level where a value stands splits it into a prefix and a suffix, which
    /// are looked up.
    fn affixed_matches<G>(
        &self,
        level: &str,
        reserved: bool,
        values: &Values<'_>,
        go: &mut G,
    ) -> ControlFlow<()>
    where
        G: FnMut(NodeId) -> ControlFlow<()>,
    {
        for placeholder in Placeholder::ALL {
            let Some(value) = values.value(placeholder) else { continue };
            for at in usize::from(reserved)..level.len() {
                let Some(suffix) = level.get(at..).and_then(|rest| rest.strip_prefix(value)) else {
                    continue;
                };
                let Some(prefix) = level.get(..at) else { continue };
                let key = (placeholder, prefix, suffix);
                if let Ok(found) = self.affixed.binary_search_by(|held| held.key().cmp(&key))
                    && let Some(found) = self.affixed.get(found)
                {
                    go(found.next)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn fills(parts: &[Part], level: &str, reserved: bool, values: &Values<'_>) -> bool {
    if reserved && !matches!(parts.first(), Some(Part::Text(_))) {
        return false;
    }
    let rest = parts.iter().try_fold(level, |rest, part| match part {
        Part::Text(text) => rest.strip_prefix(&**text),
        Part::Value(placeholder) => rest.strip_prefix(values.value(*placeholder)?),
    });
    rest == Some("")
}
