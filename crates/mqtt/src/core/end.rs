use std::sync::Arc;

use policy::{VerifiedPeer, decide_publish};
use types::{Now, Reason};

use super::{Conn, Core, End};
use crate::api::{ConnId, Note, Recheck, Record, Sink};
use crate::cleared;
use crate::codec::WillPacket;

impl Core {
    /// The network connection is gone.
    pub(super) fn lost(&mut self, now: Now, id: ConnId, reason: Reason, sink: &mut dyn Sink) {
        if let Some(conn) = self.conns.remove(&id).flatten() {
            self.end(now, *conn, End::new(reason, ""), false, sink);
        }
    }

    /// The trust in the peer has ended: nothing more goes out in its name, and nothing to it.
    pub(super) fn trust_ended(&mut self, now: Now, id: ConnId, reason: Reason, sink: &mut dyn Sink) {
        let Some(conn) = self.conns.remove(&id).flatten() else { return };
        if let Some((session, _)) = &conn.session
            && let Some(session) = self.hub.sessions.get_mut(*session as usize)
        {
            session.frozen = Some(reason);
        }
        self.end(now, *conn, End { reason, detail: String::new(), will: false }, false, sink);
    }

    /// Every connection is closed, and wills are sent: the clients are gone for whoever watches them.
    pub(super) fn drain(&mut self, now: Now, sink: &mut dyn Sink) {
        self.draining = true;
        let mut all: Vec<_> = self.conns.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            if let Some(conn) = self.conns.remove(&id).flatten() {
                self.end(now, *conn, End::new(Reason::ServerStops, ""), true, sink);
            }
        }
    }

    /// Deals with a connection that was taken out already: session, will, close.
    pub(super) fn end(&mut self, now: Now, conn: Conn, end: End, close: bool, sink: &mut dyn Sink) {
        let Conn { id, serial_no, peer, session, will, .. } = conn;
        self.windows.forget_connection(serial_no);
        let client_id = match &session {
            Some((_, client_id)) => Arc::clone(client_id),
            None => Arc::from(""),
        };
        if let Some((at, _)) = session {
            self.unlink(now, at, sink);
        }
        // The shell hears of the end before it hears of what the will does.
        let who = Arc::clone(&peer);
        sink.note(Note::SessionEnded { conn: id, who, client_id, reason: end.reason, detail: end.detail });
        if close {
            sink.close(id, end.reason);
        }
        // [MQTT-3.1.2-8] the will of a connection that ended without a goodbye is published.
        if end.will
            && let Some(will) = will
        {
            self.publish_will(now, &peer, &will, sink);
        }
    }

    /// A session loses its connection, and a clean session ends [MQTT-3.1.2-6].
    fn unlink(&mut self, now: Now, at: u32, sink: &mut dyn Sink) {
        let Some(session) = self.hub.sessions.get_mut(at as usize) else { return };
        session.left_at = now.mono;
        if let Some(link) = session.link.take() {
            self.hub.stats.output_bytes = self.hub.stats.output_bytes.saturating_sub(link.waiting);
        }
        if !session.persistent {
            self.discard(at, sink);
        }
    }

    /// A session ends with all that it holds.
    pub(super) fn discard(&mut self, at: u32, sink: &mut dyn Sink) {
        let Some(mut session) = self.hub.sessions.try_remove(at as usize) else { return };
        for (filter, _) in session.filters.drain() {
            self.router.unsubscribe(at, session.persistent, &filter, sink);
        }
        self.by_key.remove(&session.key);
        let identity = session.key.identity();
        if let Some(sessions) = self.identities.get_mut(identity) {
            sessions.retain(|&other| other != at);
            if sessions.is_empty() {
                self.identities.remove(identity);
            }
        }
        if session.persistent {
            sink.persist(Record::SessionEnded { session: Arc::clone(&session.key) });
        }
        self.hub.empty(session);
    }

    /// A will goes the way of every message, and is decided by the rules of the day it is sent.
    fn publish_will(&mut self, now: Now, peer: &Arc<VerifiedPeer>, will: &WillPacket, sink: &mut dyn Sink) {
        match decide_publish(&self.policy, peer, will.topic.as_topic()) {
            Ok(permit) => {
                let cleared = cleared::will(permit);
                // [MQTT-3.1.2-16], [MQTT-3.1.2-17] retained or not, as the CONNECT said.
                self.route(now, &cleared, &will.payload, will.qos, will.retain, None, sink);
            }
            Err(denial) => {
                self.hub.stats.publish_refused += 1;
                sink.note(Note::PublishRefused { conn: None, who: Arc::clone(peer), denial });
            }
        }
    }

    /// Freezes the stored sessions whose owners are believed no more, and thaws the others.
    pub(super) fn recheck(&mut self, recheck: Recheck<'_>, sink: &mut dyn Sink) {
        for (_, session) in self.hub.sessions.iter_mut().filter(|(_, session)| session.link.is_none()) {
            let refused = recheck(&session.owner);
            if refused != session.frozen {
                session.frozen = refused;
                sink.note(Note::SessionFrozen {
                    who: Arc::clone(&session.owner),
                    client_id: Arc::clone(session.key.client_id()),
                    reason: refused,
                });
            }
        }
    }
}
