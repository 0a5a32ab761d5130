use std::fmt;
use std::sync::Arc;

use trust::VerifiedPeer;
use types::{Action, Blame, Clipped, Principal, Topic, TopicFilter};

use crate::rule::{RuleId, RuleRef};
use crate::table::{Asker, Ruling, Table};

/// What a permit to publish carries.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    topic: Topic<'a>,
}

/// What a permit to subscribe carries.
#[derive(Clone, Debug)]
pub struct Subscribe {
    filter: TopicFilter,
}

/// What a permit to receive carries.
#[derive(Clone, Copy, Debug)]
pub struct Receive {
    _made_here: (),
}

/// That the rules permit a peer to do one thing. Only [`decide_publish`], [`decide_subscribe`] and
/// [`decide_receive`] make one, and the next step takes the peer and the topic out of it.
///
/// ```compile_fail,E0451
/// fn forged(peer: std::sync::Arc<policy::VerifiedPeer>, what: policy::Receive)
/// -> policy::Permitted<policy::Receive> {
///     policy::Permitted { peer, what, ..todo!() }
/// }
/// ```
/// ```compile_fail,E0451
/// let forged = policy::Receive { _made_here: () };
/// ```
#[derive(Debug)]
#[must_use = "a permit is there to be handed on"]
pub struct Permitted<A> {
    peer: Arc<VerifiedPeer>,
    what: A,
    rule: RuleId,
    policy_epoch: u64,
}

impl<A> Permitted<A> {
    /// Who was permitted.
    #[must_use]
    pub fn peer(&self) -> &Arc<VerifiedPeer> {
        &self.peer
    }

    /// Under which compilation of the rules; under another it is decided again.
    #[must_use]
    pub fn policy_epoch(&self) -> u64 {
        self.policy_epoch
    }

    /// Which rule permits it; [`Table::rule`] of the same table says where it was written.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }
}

impl<'t> Permitted<Publish<'t>> {
    /// The topic that may be published to.
    #[must_use]
    pub fn topic(&self) -> Topic<'t> {
        self.what.topic
    }
}

impl Permitted<Subscribe> {
    /// The filter that may be subscribed to.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.what.filter
    }
}

/// That the rules do not permit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What was asked.
    pub action: Action,
    /// The topic or filter, clipped and escaped.
    pub topic: String,
    /// The rule that denies it, or that there is none that grants it.
    pub rule: RuleRef,
    /// Who asked.
    pub principal: Principal,
}

impl Denial {
    /// Stable slug.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "policy.denied"
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        Blame::Peer
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, topic, rule, principal } = self;
        let may_not = match action {
            Action::Publish => "may not publish to",
            Action::Subscribe => "may not subscribe to",
            Action::Receive => "may not receive from",
        };
        write!(f, "{principal} {may_not} \"{topic}\": ")?;
        match rule {
            RuleRef::NoRule => f.write_str("no rule permits it"),
            rule => write!(f, "denied by {rule}"),
        }
    }
}

impl std::error::Error for Denial {}

/// Whether the peer may publish to the topic: also its will and a retained message.
///
/// # Errors
/// The rule that denies it, or that none permits it.
pub fn decide_publish<'t>(
    table: &Table,
    peer: &Arc<VerifiedPeer>,
    topic: Topic<'t>,
) -> Result<Permitted<Publish<'t>>, Denial> {
    decide(table, peer, Action::Publish, topic.as_str(), || Publish { topic })
}

/// Whether the peer may subscribe to the filter: one read rule covers the whole of it, and no deny
/// rule does. A deny rule on a part of it is held at each delivery, by [`decide_receive`].
///
/// # Errors
/// The rule that denies it, or that none permits it.
pub fn decide_subscribe(
    table: &Table,
    peer: &Arc<VerifiedPeer>,
    filter: &TopicFilter,
) -> Result<Permitted<Subscribe>, Denial> {
    decide(table, peer, Action::Subscribe, filter.as_str(), || Subscribe { filter: filter.clone() })
}

/// Whether the peer may be handed a message of this topic; asked for every message and subscriber.
///
/// # Errors
/// The rule that denies it, or that none permits it.
pub fn decide_receive<'t>(
    table: &Table,
    peer: &Arc<VerifiedPeer>,
    topic: Topic<'t>,
) -> Result<Permitted<Receive>, Denial> {
    decide(table, peer, Action::Receive, topic.as_str(), || Receive { _made_here: () })
}

fn decide<A>(
    table: &Table,
    peer: &Arc<VerifiedPeer>,
    action: Action,
    text: &str,
    what: impl FnOnce() -> A,
) -> Result<Permitted<A>, Denial> {
    let principal = peer.principal();
    let asker = Asker {
        kind: principal.kind,
        name: &principal.name,
        project: peer.project().as_str(),
        fleet: peer.fleet(),
    };
    let rule = match table.ruling(asker, action, text) {
        Ruling::Granted(rule) => {
            let policy_epoch = table.epoch();
            return Ok(Permitted { peer: Arc::clone(peer), what: what(), rule, policy_epoch });
        }
        Ruling::Denied(rule) => table.rule(rule),
        Ruling::Silent => RuleRef::NoRule,
    };
    Err(Denial { action, topic: Clipped(text).to_string(), rule, principal: principal.clone() })
}
