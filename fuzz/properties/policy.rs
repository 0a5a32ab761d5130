//! Rules that compile give an unknown principal nothing but what a `pattern` line gives to everyone, and answer
//! the same each time; rules that do not compile name a place that exists.

use policy::{RuleRef, Source, Table, explain};
use types::{Action, DeviceId, Principal, PrincipalKind, ProjectId};

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let compile = || Table::compile(&[Source { file: "fuzz.acl", text }], 1);
    match (compile(), compile()) {
        (Ok(table), Ok(again)) => decided(&table, &again, text),
        (Err(errors), Err(again)) => {
            assert_eq!(errors, again);
            assert!(!errors.is_empty());
            let lines = text.split('\n').count();
            for error in errors {
                let line = error.line as usize;
                assert!((1..=lines).contains(&line) && error.column >= 1, "{error}");
                assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            }
        }
        _ => panic!("the same text once compiled and once did not"),
    }
}

fn decided(table: &Table, again: &Table, text: &str) {
    // The name may stand in a `user` line: such rules are for services and operators, never for a device.
    let name = DeviceId::parse("nobody-here").unwrap();
    let project = ProjectId::parse(ProjectId::DEFAULT).unwrap();
    let stranger = Principal { kind: PrincipalKind::Device, name };
    let words = text.lines().filter_map(|line| line.split_whitespace().last());
    for word in words.take(64).chain(["#", "+/+", "devices/pump-7/status", "$SYS/broker"]) {
        let topic =
            word.replace("%u", "nobody-here").replace("%c", "nobody-here").replace("%p", project.as_str());
        for action in [Action::Publish, Action::Subscribe, Action::Receive] {
            let answer = explain(table, &stranger, &project, None, action, &topic);
            assert_eq!(answer, explain(again, &stranger, &project, None, action, &topic));
            match &answer.rule {
                RuleRef::At { text, .. } => assert!(text.starts_with("pattern"), "{answer}"),
                RuleRef::NoRule => assert!(!answer.permitted, "{answer}"),
            }
            assert!(!explain(&Table::deny_all(), &stranger, &project, None, action, &topic).permitted);
        }
    }
}
