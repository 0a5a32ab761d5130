//! The compiled table against a naive evaluator of the rules as they are written.

#[cfg(test)]
mod tests {
    use policy::{RuleRef, Source, Table, explain};
    use proptest::prelude::*;
    use types::{Action, DeviceId, Principal, PrincipalKind, ProjectId, Topic, TopicFilter};

    /// A rule as its line says it, and whose it is.
    #[derive(Clone, Debug)]
    struct Line {
        user: Option<&'static str>,
        access: &'static str,
        topic: String,
    }

    #[derive(Clone, Debug)]
    struct Asker {
        kind: PrincipalKind,
        name: &'static str,
        fleet: Option<&'static str>,
    }

    /// mosquitto.conf(5): what no rule grants is denied; a deny rule overrides any grant; patterns hold for everybody,
    /// topics for their user; a topic that begins with `$` is matched only by a rule that begins so.
    fn naive(lines: &[Line], asker: &Asker, action: Action, text: &str) -> bool {
        let speaking: Vec<&Line> = lines.iter().filter(|line| speaks(line, asker, text)).collect();
        let wanted = if action == Action::Publish { "write" } else { "read" };
        let granted = speaking.iter().any(|line| line.access == wanted || line.access == "readwrite");
        granted && !speaking.iter().any(|line| line.access == "deny")
    }

    fn speaks(line: &Line, asker: &Asker, text: &str) -> bool {
        let is_for = match line.user {
            None => true,
            Some(user) => asker.kind != PrincipalKind::Device && user.eq_ignore_ascii_case(asker.name),
        };
        if !is_for || text.starts_with('$') && !line.topic.starts_with('$') {
            return false;
        }
        let ours: Vec<&str> = line.topic.split('/').collect();
        let theirs: Vec<&str> = text.split('/').collect();
        covers(&ours, &theirs, line.user.is_none(), asker)
    }

    /// Level by level: `#` covers the rest and the level above it, `+` one level but not `#`.
    fn covers(ours: &[&str], theirs: &[&str], is_pattern: bool, asker: &Asker) -> bool {
        match (ours, theirs) {
            (["#"], _) => true,
            ([], []) => true,
            ([our, ours @ ..], [their, theirs @ ..]) => {
                let fits = match *our {
                    "+" => *their != "#",
                    text => {
                        let text = if is_pattern { filled(text, asker) } else { Some(text.to_owned()) };
                        text.as_deref() == Some(*their) && !matches!(*their, "+" | "#")
                    }
                };
                fits && covers(ours, theirs, is_pattern, asker)
            }
            _ => false,
        }
    }

    fn filled(level: &str, asker: &Asker) -> Option<String> {
        let fleet = asker.fleet.filter(|fleet| !fleet.is_empty());
        if level.contains("%f") && fleet.is_none() {
            return None;
        }
        let level = level.replace("%u", asker.name).replace("%c", asker.name).replace("%p", "default");
        Some(level.replace("%f", fleet.unwrap_or_default()))
    }

    fn level(pattern: bool) -> impl Strategy<Value = &'static str> {
        let literals = vec!["a", "b", "", "pump-7", "dev", "$s", "+", "a", "b", "+"];
        let placeholders = vec![
            "%u", "%c", "%p", "%f", "dev%u", "dev%c", "%u-x", "a%ub", "%p-%u", "%u%u", "%f-%u", "$%f", "a%f",
            "%", "%u", "%u",
        ];
        prop::sample::select(if pattern { [literals, placeholders].concat() } else { literals })
    }

    fn filter(pattern: bool) -> impl Strategy<Value = String> {
        (prop::collection::vec(level(pattern), 0..4), any::<bool>())
            .prop_map(|(mut levels, rest)| {
                if rest {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a rule has a topic, without a blank at its ends", |text| !text.is_empty())
    }

    fn line() -> impl Strategy<Value = Line> {
        let access = prop::sample::select(vec!["read", "write", "readwrite", "read", "write", "deny"]);
        let user =
            prop::sample::select(vec![None, None, None, Some("pump-7"), Some("a"), Some("A"), Some("zoe")]);
        (user, access).prop_flat_map(|(user, access)| {
            filter(user.is_none()).prop_map(move |topic| Line { user, access, topic })
        })
    }

    fn asker() -> impl Strategy<Value = Asker> {
        let kind = prop::sample::select(vec![
            PrincipalKind::Device,
            PrincipalKind::Service,
            PrincipalKind::Operator,
        ]);
        let name = prop::sample::select(vec!["pump-7", "a", "A", "aa", "7"]);
        let fleet = prop::sample::select(vec![
            None,
            Some(""),
            Some("north"),
            Some("+"),
            Some("#"),
            Some("a/b"),
            Some("$s"),
        ]);
        (kind, name, fleet).prop_map(|(kind, name, fleet)| Asker { kind, name, fleet })
    }

    fn asked() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec![
            "a",
            "b",
            "",
            "pump-7",
            "dev",
            "$s",
            "devpump-7",
            "deva",
            "pump-7-x",
            "aab",
            "aaab",
            "default",
            "default-pump-7",
            "north",
            "north-a",
            "$north",
            "anorth",
            "aa",
            "aaaa",
            "%",
            "%u",
            "+",
            "+",
            "7",
            "a7b",
        ]);
        (prop::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    fn text_of(lines: &[Line]) -> String {
        let mut text = String::new();
        for line in lines {
            match line.user {
                None => text.push_str(&format!("pattern {} {}\n", line.access, line.topic)),
                Some(user) => text.push_str(&format!("user {user}\ntopic {} {}\n", line.access, line.topic)),
            }
        }
        text
    }

    fn compile(lines: &[Line]) -> Table {
        Table::compile(&[Source { file: "f", text: &text_of(lines) }], 1).unwrap()
    }

    fn explained(table: &Table, asker: &Asker, action: Action, text: &str) -> policy::Explanation {
        let who = Principal { kind: asker.kind, name: DeviceId::parse(asker.name).unwrap() };
        explain(table, &who, &ProjectId::parse("default").unwrap(), asker.fleet, action, text)
    }

    /// Topics that a filter may match: each wildcard filled in several ways.
    fn instances(filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        for fill in ["a", "", "pump-7", "$s", "b"] {
            for rest in ["a", "", "a/b", "pump-7/dev"] {
                let levels = filter.split('/').map(|level| match level {
                    "+" => fill,
                    "#" => rest,
                    other => other,
                });
                found.push(levels.collect::<Vec<_>>().join("/"));
            }
        }
        found.extend(filter.strip_suffix("/#").map(str::to_owned));
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_table_decides_as_the_naive_evaluator_and_line_order_does_not_matter(
            lines in prop::collection::vec(line(), 0..12),
            shuffle in any::<prop::sample::Index>(),
            asker in asker(),
            asked in prop::collection::vec(asked(), 12),
        ) {
            let table = compile(&lines);
            let mut turned = lines.clone();
            turned.rotate_left(shuffle.index(lines.len().max(1)).min(lines.len()));
            turned.reverse();
            let turned = compile(&turned);
            for text in &asked {
                let wild = text.contains(['+', '#']);
                for action in [Action::Publish, Action::Subscribe, Action::Receive] {
                    let expected = naive(&lines, &asker, action, text)
                        && (action == Action::Subscribe || !wild)
                        && !text.is_empty();
                    let found = explained(&table, &asker, action, text);
                    prop_assert_eq!(found.permitted, expected, "{}\n{:?} {:?}", text_of(&lines), asker, found);
                    let other = explained(&turned, &asker, action, text);
                    prop_assert_eq!(other.permitted, expected, "another order of the lines");
                    prop_assert_eq!(found.permitted, found.permitted && found.rule != RuleRef::NoRule);
                }
            }
        }

        #[test]
        fn whoever_may_subscribe_may_receive_all_that_comes_but_for_denied_parts(
            lines in prop::collection::vec(line(), 0..12),
            asker in asker(),
            filters in prop::collection::vec(asked(), 12),
        ) {
            let table = compile(&lines);
            let written = lines.iter().filter_map(|line| filled(&line.topic, &asker));
            for filter in filters.into_iter().chain(written) {
                let Ok(parsed) = TopicFilter::parse(&filter) else { continue };
                if !explained(&table, &asker, Action::Subscribe, &filter).permitted {
                    continue;
                }
                for text in instances(&filter) {
                    let Ok(topic) = Topic::parse(&text) else { continue };
                    if !parsed.matches(topic) {
                        continue;
                    }
                    let denied = lines.iter().any(|line| line.access == "deny" && speaks(line, &asker, &text));
                    prop_assert_eq!(
                        explained(&table, &asker, Action::Receive, &text).permitted,
                        !denied,
                        "{}\n{} {}", text_of(&lines), filter, text
                    );
                }
            }
        }

        #[test]
        fn the_rule_that_an_explanation_names_stands_at_its_line_and_decides(
            lines in prop::collection::vec(line(), 1..12),
            asker in asker(),
            text in asked(),
        ) {
            let source = text_of(&lines);
            let table = compile(&lines);
            let found = explained(&table, &asker, Action::Subscribe, &text);
            match &found.rule {
                RuleRef::NoRule => prop_assert!(!found.permitted && found.matching.is_empty()),
                RuleRef::At { file, line, text: written } => {
                    prop_assert_eq!(&**file, "f");
                    prop_assert_eq!(source.lines().nth(*line as usize - 1), Some(&**written));
                    let is_deny = written.split(' ').nth(1) == Some("deny");
                    prop_assert_eq!(is_deny, !found.permitted);
                    prop_assert!(found.matching.contains(&found.rule));
                }
            }
        }
    }
}
