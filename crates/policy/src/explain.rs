use std::fmt;
use std::ops::ControlFlow;

use types::{Action, Clipped, Principal, ProjectId, Topic, TopicError, TopicFilter};

use crate::rule::{RuleId, RuleRef};
use crate::table::{Asker, Ruling, Table, granted_by};

/// What the rules say of one question, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who asks.
    pub principal: Principal,
    /// What for.
    pub action: Action,
    /// The topic or filter, clipped and escaped.
    pub topic: String,
    /// Whether it is permitted.
    pub permitted: bool,
    /// The rule that decides.
    pub rule: RuleRef,
    /// Every rule that speaks of it, in the order in which they were written: a grant that a deny
    /// overrides is among them.
    pub matching: Vec<RuleRef>,
    /// Why the text is no topic, or no filter; then it is not permitted.
    pub problem: Option<TopicError>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, action, topic, permitted, rule, matching, problem } = self;
        let word = if *permitted { "permitted" } else { "denied" };
        write!(f, "{word}: {principal} {} \"{topic}\": ", action.as_str())?;
        match (problem, rule, action) {
            (Some(problem), _, _) => write!(f, "{problem}"),
            (None, RuleRef::NoRule, Action::Subscribe) => f.write_str("no read rule covers the whole filter"),
            (None, RuleRef::NoRule, _) => f.write_str("no rule permits it"),
            (None, rule, _) => {
                write!(f, "by {rule}")?;
                let overridden = matching.iter().filter(|other| *other != rule).count();
                if overridden > 0 {
                    write!(f, " (of {} rules that match)", overridden + 1)?;
                }
                Ok(())
            }
        }
    }
}

/// Answers as the broker would, with the rule that decides; for `policy explain`.
#[must_use]
pub fn explain(
    table: &Table,
    principal: &Principal,
    project: &ProjectId,
    fleet: Option<&str>,
    action: Action,
    topic_or_filter: &str,
) -> Explanation {
    let mut explanation = Explanation {
        principal: principal.clone(),
        action,
        topic: Clipped(topic_or_filter).to_string(),
        permitted: false,
        rule: RuleRef::NoRule,
        matching: Vec::new(),
        problem: None,
    };
    let filter = match plain(action, topic_or_filter) {
        Ok(filter) => filter,
        Err(problem) => {
            explanation.problem = Some(problem);
            return explanation;
        }
    };
    let asker = Asker { kind: principal.kind, name: &principal.name, project: project.as_str(), fleet };
    let mut matching: Vec<RuleId> = Vec::new();
    table.show(asker, filter.as_str(), &mut |leaf| {
        matching.extend(leaf.deny.into_iter().chain(granted_by(leaf, action)));
        ControlFlow::Continue(())
    });
    matching.sort_unstable();
    matching.dedup();
    explanation.matching = matching.into_iter().map(|rule| table.rule(rule)).collect();
    match table.ruling(asker, action, filter.as_str()) {
        Ruling::Granted(rule) => {
            explanation.permitted = true;
            explanation.rule = table.rule(rule);
        }
        Ruling::Denied(rule) => explanation.rule = table.rule(rule),
        Ruling::Silent => {}
    }
    explanation
}

/// The text that the rules are asked about: of a shared subscription its filter.
fn plain(action: Action, text: &str) -> Result<TopicFilter, TopicError> {
    match action {
        Action::Publish | Action::Receive => {
            Topic::parse(text)?;
            TopicFilter::parse(text)
        }
        Action::Subscribe => TopicFilter::parse_shared(text).map(|(_, filter)| filter),
    }
}
