use std::sync::Arc;

use guard::{Fresh, ReplayRefusal, ReplayRule, ReplayTable, StreamKey, Windows};
use policy::{Permitted, Publish, VerifiedPeer};
use types::{Now, Topic};

use crate::fields;

/// A message that may be routed: its sender may publish it, and no replay rule objects. The only
/// ways to one lead through [`check`] and [`will`], and both consume the permission.
pub(crate) struct Cleared<'t> {
    permit: Permitted<Publish<'t>>,
    fresh: Option<Fresh>,
}

/// Who sends, for the replay windows.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    /// The connection's number.
    pub(crate) serial_no: u64,
}

/// The rule that a topic stands under, if it is one that looks at anything.
pub(crate) fn rule<'r>(table: &'r ReplayTable, topic: Topic<'_>) -> Option<&'r ReplayRule> {
    if table.is_empty() {
        return None;
    }
    table.rule_for(topic).filter(|rule| rule.mode != guard::Mode::Off)
}

/// Asks the replay rule of the topic, if there is one, whether the message is fresh.
pub(crate) fn check<'t>(
    permit: Permitted<Publish<'t>>,
    payload: &[u8],
    rule: Option<&ReplayRule>,
    windows: &mut Windows,
    stream: Stream,
    now: Now,
) -> Result<Cleared<'t>, ReplayRefusal> {
    let Some(rule) = rule else { return Ok(Cleared { permit, fresh: None }) };
    let stamp = fields::stamp(rule, payload);
    let peer = permit.peer();
    let key = StreamKey {
        device: &peer.principal().name,
        spki: peer.spki_hash(),
        conn: stream.serial_no,
        topic: permit.topic(),
    };
    let fresh = windows.check(key, rule, stamp, now)?;
    Ok(Cleared { permit, fresh: Some(fresh) })
}

/// Clears a will: its content was fixed at CONNECT, so no counter in it can be fresh.
pub(crate) fn will(permit: Permitted<Publish<'_>>) -> Cleared<'_> {
    Cleared { permit, fresh: None }
}

impl<'t> Cleared<'t> {
    /// The topic that was permitted.
    pub(crate) fn topic(&self) -> Topic<'t> {
        self.permit.topic()
    }

    /// Records that the message was routed, so that it is fresh no more.
    pub(crate) fn commit(self, windows: &mut Windows) {
        if let Some(fresh) = self.fresh {
            // One message of a device is checked and committed before the next, so it is fresh still.
            let _fresh_still = windows.commit(fresh);
        }
    }

    /// What the replay rule would have objected to, if it did more than observe.
    pub(crate) fn observed(&self) -> Option<&ReplayRefusal> {
        self.fresh.as_ref().and_then(Fresh::observed_refusal)
    }

    /// Who was permitted.
    pub(crate) fn peer(&self) -> &Arc<VerifiedPeer> {
        self.permit.peer()
    }
}
