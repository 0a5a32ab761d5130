//! Decides whether a peer may act on a topic.
//! In: VerifiedPeer, Action, Topic. Out: Permitted, or a Denial naming the rule.
//! Invariant: no matching rule means deny (test: no_rule_denies), and a deny rule overrides any grant.
//! Never: reads a clock, a file, or the network.
//! Spec: mosquitto.conf(5) acl_file; MQTT 3.1.1 section 4.7.

mod decide;
mod error;
mod explain;
mod layouts;
mod parse;
mod rule;
mod table;
mod trie;

pub use decide::{
    Denial, Permitted, Publish, Receive, Subscribe, decide_publish, decide_receive, decide_subscribe,
};
pub use error::PolicyError;
pub use explain::{Explanation, explain};
pub use layouts::{LAYOUT_ASSETS, LAYOUT_DEVICES};
pub use rule::{RuleId, RuleRef};
pub use table::{Source, Table};
pub use trust::VerifiedPeer;
