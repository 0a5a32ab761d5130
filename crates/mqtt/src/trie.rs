//! A tree of topic levels: filters found by a topic, or topics found by a filter.
//! In: levels of filters or topics, a leaf value each. Out: the leaves that match.
//! Invariant: agrees with `types::topic_matches` (test: the_trie_agrees_with_the_naive_matcher).
//! Never: keeps an empty branch.
//! Spec: MQTT 3.1.1 section 4.7.

use rustc_hash::FxHashMap;
use slab::Slab;
use types::Topic;

/// A value at the end of a filter; a branch goes when its leaf has nothing left.
pub(crate) trait Leaf: Default {
    /// Whether nothing is left in it.
    fn is_empty(&self) -> bool;
}

struct Node<L> {
    children: FxHashMap<Box<str>, usize>,
    /// The child under `+`, which each topic level visits, so it is not looked up by name.
    plus: Option<usize>,
    /// The leaf of the filter that ends here with `#`.
    rest: L,
    /// The leaf of the filter that ends here.
    leaf: L,
}

impl<L: Leaf> Node<L> {
    fn new() -> Self {
        Self { children: FxHashMap::default(), plus: None, rest: L::default(), leaf: L::default() }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.rest.is_empty() && self.leaf.is_empty()
    }
}

/// The tree. A topic is stored like a filter without wildcards.
pub(crate) struct Trie<L> {
    nodes: Slab<Node<L>>,
    root: usize,
}

impl<L: Leaf> Trie<L> {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new());
        Self { nodes, root }
    }

    /// Changes the leaf of `filter`, which is made if it is not there and goes if it is empty after.
    pub(crate) fn change<R>(&mut self, filter: &str, change: impl FnOnce(&mut L) -> R) -> R {
        let mut path = [(self.root, ""); types::TOPIC_LEVELS_MAX + 1];
        let mut depth = 0;
        let mut at = self.root;
        let mut rest = false;
        for level in filter.split('/') {
            if level == "#" {
                rest = true;
                break;
            }
            let next = self.child(at, level);
            // A topic or filter has at most this many levels by its type; more would share the last node.
            if depth < types::TOPIC_LEVELS_MAX {
                path[depth] = (at, level);
                depth += 1;
            }
            at = next;
        }
        let node = &mut self.nodes[at];
        let result = change(if rest { &mut node.rest } else { &mut node.leaf });
        for &(parent, level) in path[..depth].iter().rev() {
            if !self.nodes[at].is_empty() {
                break;
            }
            self.nodes.remove(at);
            if level == "+" {
                self.nodes[parent].plus = None;
            } else {
                self.nodes[parent].children.remove(level);
            }
            at = parent;
        }
        result
    }

    fn child(&mut self, at: usize, level: &str) -> usize {
        let known =
            if level == "+" { self.nodes[at].plus } else { self.nodes[at].children.get(level).copied() };
        known.unwrap_or_else(|| {
            let new = self.nodes.insert(Node::new());
            if level == "+" {
                self.nodes[at].plus = Some(new);
            } else {
                self.nodes[at].children.insert(Box::from(level), new);
            }
            new
        })
    }

    /// The leaf of exactly this topic.
    pub(crate) fn exact(&self, topic: &str) -> Option<&L> {
        let mut at = self.root;
        for level in topic.split('/') {
            at = *self.nodes[at].children.get(level)?;
        }
        Some(&self.nodes[at].leaf).filter(|leaf| !leaf.is_empty())
    }

    /// Calls `found` with the leaf of every filter that matches `topic`.
    pub(crate) fn filters_matching(&self, topic: Topic<'_>, found: &mut impl FnMut(&L)) {
        // [MQTT-4.7.2-1] a leading wildcard does not match a topic that begins with `$`.
        self.descend(self.root, Some(topic.as_str()), !topic.is_reserved(), found);
    }

    fn descend(&self, at: usize, topic: Option<&str>, wild: bool, found: &mut impl FnMut(&L)) {
        let node = &self.nodes[at];
        // MQTT 3.1.1 section 4.7.1.2: `a/#` matches `a` too, so the rest is asked even at the end.
        if wild && !node.rest.is_empty() {
            found(&node.rest);
        }
        let Some(topic) = topic else {
            if !node.leaf.is_empty() {
                found(&node.leaf);
            }
            return;
        };
        let (level, below) = match topic.as_bytes().iter().position(|&byte| byte == b'/') {
            Some(slash) => (&topic[..slash], Some(&topic[slash + 1..])),
            None => (topic, None),
        };
        if !node.children.is_empty()
            && let Some(&child) = node.children.get(level)
        {
            self.descend(child, below, true, found);
        }
        if wild && let Some(plus) = node.plus {
            self.descend(plus, below, true, found);
        }
    }

    /// Calls `found` with the leaf of every stored topic that `filter` matches.
    pub(crate) fn topics_matching(&self, filter: &str, found: &mut impl FnMut(&L)) {
        self.search(self.root, Some(filter), found);
    }

    fn search(&self, at: usize, filter: Option<&str>, found: &mut impl FnMut(&L)) {
        let node = &self.nodes[at];
        let Some(filter) = filter else {
            if !node.leaf.is_empty() {
                found(&node.leaf);
            }
            return;
        };
        let (level, below) = match filter.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (filter, None),
        };
        // [MQTT-4.7.2-1] again, from the filter's side.
        let visible = |name: &str| at != self.root || !name.starts_with('$');
        match level {
            "#" => self.everything(at, found),
            "+" => {
                for (_, &child) in node.children.iter().filter(|(name, _)| visible(name)) {
                    self.search(child, below, found);
                }
            }
            _ => {
                if let Some(&child) = node.children.get(level) {
                    self.search(child, below, found);
                }
            }
        }
    }

    fn everything(&self, at: usize, found: &mut impl FnMut(&L)) {
        let node = &self.nodes[at];
        if !node.leaf.is_empty() {
            found(&node.leaf);
        }
        for (name, &child) in &node.children {
            if at != self.root || !name.starts_with('$') {
                self.everything(child, found);
            }
        }
    }

    /// How many nodes there are beside the root.
    #[cfg(test)]
    pub(crate) fn branches(&self) -> usize {
        self.nodes.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{TopicFilter, topic_matches};

    use super::*;

    impl Leaf for Vec<u32> {
        fn is_empty(&self) -> bool {
            Vec::is_empty(self)
        }
    }

    fn found(trie: &Trie<Vec<u32>>, topic: &str) -> Vec<u32> {
        let mut all = Vec::new();
        trie.filters_matching(Topic::parse(topic).unwrap(), &mut |leaf| all.extend_from_slice(leaf));
        all.sort_unstable();
        all
    }

    #[test]
    fn a_filter_is_found_by_the_topics_that_it_matches_and_by_no_other() {
        let mut trie = Trie::new();
        for (value, filter) in ["a/b", "a/+", "a/#", "#", "+/+", "$SYS/#", "a//b", "/"].iter().enumerate() {
            trie.change(filter, |leaf: &mut Vec<u32>| leaf.push(value as u32));
        }
        assert_eq!(found(&trie, "a/b"), [0, 1, 2, 3, 4]);
        assert_eq!(found(&trie, "a"), [2, 3]);
        assert_eq!(found(&trie, "a/b/c"), [2, 3]);
        assert_eq!(found(&trie, "$SYS/x"), [5]);
        assert_eq!(found(&trie, "$SYS"), [5]);
        assert_eq!(found(&trie, "a//b"), [2, 3, 6]);
        assert_eq!(found(&trie, "/"), [3, 4, 7]);
    }

    #[test]
    fn an_emptied_leaf_takes_its_branch_with_it() {
        let mut trie: Trie<Vec<u32>> = Trie::new();
        for filter in ["a/b/c", "a/+/#", "a", "#"] {
            trie.change(filter, |leaf| leaf.push(1));
        }
        assert_eq!(trie.branches(), 4);
        for filter in ["a/b/c", "a/+/#", "a", "#"] {
            trie.change(filter, Vec::clear);
        }
        assert_eq!(trie.branches(), 0);
        trie.change("x/y", |_| ());
        assert_eq!(trie.branches(), 0);
    }

    #[test]
    fn exact_finds_a_topic_but_no_branch_above_it() {
        let mut trie: Trie<Vec<u32>> = Trie::new();
        trie.change("a/b", |leaf| leaf.push(1));
        assert_eq!(trie.exact("a/b"), Some(&vec![1]));
        assert_eq!(trie.exact("a"), None);
        assert_eq!(trie.exact("a/b/c"), None);
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$s")]
    }

    fn topic() -> impl Strategy<Value = String> {
        proptest::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"))
    }

    fn filter() -> impl Strategy<Value = String> {
        let part = prop_oneof![3 => level(), 1 => Just("+")];
        (proptest::collection::vec(part, 0..5), any::<bool>()).prop_map(|(mut levels, rest)| {
            if rest || levels.is_empty() {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_the_naive_matcher(
            filters in proptest::collection::vec(filter(), 0..20),
            gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
            topics in proptest::collection::vec(topic(), 1..20),
        ) {
            let mut filters: Vec<_> = filters.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
            filters.sort();
            filters.dedup();
            let mut trie: Trie<Vec<u32>> = Trie::new();
            for (at, filter) in filters.iter().enumerate() {
                trie.change(filter.as_str(), |leaf| leaf.push(at as u32));
            }
            let mut live: Vec<bool> = vec![true; filters.len()];
            for index in gone.iter().filter(|_| !filters.is_empty()) {
                let at = index.index(filters.len());
                live[at] = false;
                trie.change(filters[at].as_str(), Vec::clear);
            }
            for text in topics.iter().filter(|text| !text.is_empty()) {
                let name = Topic::parse(text).unwrap();
                let naive: Vec<u32> = (0..filters.len())
                    .filter(|&at| live[at] && topic_matches(&filters[at], name))
                    .map(|at| at as u32)
                    .collect();
                prop_assert_eq!(found(&trie, text), naive, "{}", text);
            }
        }

        #[test]
        fn stored_topics_are_found_by_every_filter_that_matches_them(
            topics in proptest::collection::vec(topic(), 0..20),
            filter in filter(),
        ) {
            let Ok(parsed) = TopicFilter::parse(&filter) else { return Ok(()) };
            let mut topics: Vec<_> = topics.into_iter().filter(|text| !text.is_empty()).collect();
            topics.sort();
            topics.dedup();
            let mut trie: Trie<Vec<u32>> = Trie::new();
            for (at, text) in topics.iter().enumerate() {
                trie.change(text, |leaf| leaf.push(at as u32));
            }
            let mut hits = Vec::new();
            trie.topics_matching(&filter, &mut |leaf| hits.extend_from_slice(leaf));
            hits.sort_unstable();
            let naive: Vec<u32> = (0..topics.len())
                .filter(|&at| topic_matches(&parsed, Topic::parse(&topics[at]).unwrap()))
                .map(|at| at as u32)
                .collect();
            prop_assert_eq!(hits, naive);
        }
    }
}
