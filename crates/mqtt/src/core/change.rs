use std::sync::Arc;

use policy::{Table, decide_publish};

use super::Core;
use crate::api::{Note, Sink};

impl Core {
    /// New rules hold at once: for live subscriptions and wills here, for what is queued when it is
    /// delivered, for stored sessions when they resume.
    pub(super) fn change_policy(&mut self, table: Arc<Table>, sink: &mut dyn Sink) {
        self.policy = table;
        let live: Vec<u32> = self
            .hub
            .sessions
            .iter()
            .filter(|(_, session)| session.link.is_some())
            .filter_map(|(at, _)| u32::try_from(at).ok())
            .collect();
        for session in live {
            self.authorise_subscriptions(session, sink);
        }
        for conn in self.conns.values_mut().flatten() {
            let Some(will) = &conn.will else { continue };
            if let Err(denial) = decide_publish(&self.policy, &conn.peer, will.topic.as_topic()) {
                self.hub.stats.publish_refused += 1;
                sink.note(Note::PublishRefused { conn: Some(conn.id), who: Arc::clone(&conn.peer), denial });
                conn.will = None;
            }
        }
    }
}
