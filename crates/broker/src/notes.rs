use std::sync::Arc;
use std::sync::atomic::Ordering;

use audit::{Event, Observer};
use mqtt::{ConnId, Limit, Note};
use policy::Denial;
use trust::VerifiedPeer;
use types::Reason;

use crate::outputs::{Outputs, Slot, Who};
use crate::stats::{Counters, add, take};

/// Turns what the state machine notes into events and counters; the addresses and numbers come
/// from the connection's slot.
pub(crate) struct Teller {
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) counters: Arc<Counters>,
}

impl Teller {
    pub(crate) fn tell(&self, io: &mut Outputs, note: Note) {
        match note {
            Note::Connected { conn, client_id, .. } => self.connected(io, conn, client_id),
            Note::ConnectRefused { conn, return_code, detail, .. } => {
                let detail = format!("CONNECT refused with code {return_code}: {detail}");
                self.ended(io.slot_mut(conn), Reason::Protocol, &detail);
            }
            Note::SessionEnded { conn, reason, detail, .. } => {
                self.ended(io.slot_mut(conn), reason, &detail);
            }
            Note::PublishRefused { conn, who, denial } => self.publish_refused(io, conn, &who, &denial),
            Note::SubscribeRefused { conn, who, denial } => {
                add(&self.counters.subscribe_refused, 1);
                self.observer.note(Event::SubscribeRefused {
                    principal: name(&who),
                    serial: serial(&who),
                    conn: number(io, conn),
                    rule: denial.to_string(),
                    filter: denial.topic,
                    reason: "policy.denied".to_owned(),
                });
            }
            Note::FilterRefused { conn, who, detail } => {
                add(&self.counters.subscribe_refused, 1);
                self.observer.note(Event::SubscribeRefused {
                    principal: name(&who),
                    serial: serial(&who),
                    conn: number(io, Some(conn)),
                    filter: detail,
                    reason: "mqtt.filter".to_owned(),
                    rule: String::new(),
                });
            }
            Note::ReplayRefused { who, topic, kind, enforced, detail, .. } => {
                add(&self.counters.replay_refused, 1);
                self.observer.note(Event::ReplayRefused {
                    principal: name(&who),
                    topic,
                    kind: kind.as_str().to_owned(),
                    mode: if enforced { "enforce" } else { "observe" }.to_owned(),
                    detail,
                });
            }
            Note::LimitReached { conn, who, limit, count } => {
                self.limit_reached(io, conn, &who, limit, count)
            }
            Note::SessionFrozen { who, client_id, reason } => {
                let did = if reason.is_some() { "is frozen" } else { "is delivered to again" };
                tracing::info!(principal = %who.principal().name, client_id = %client_id,
                    reason = reason.map_or("", Reason::code), "stored session {did}");
            }
            Note::Bug { what } => self.observer.note(Event::Alert {
                code: "broker.bug".to_owned(),
                detail: format!("a state that should be impossible: {what}"),
            }),
            _ => {}
        }
    }

    fn connected(&self, io: &mut Outputs, conn: ConnId, client_id: Arc<str>) {
        let Some(slot) = io.slot_mut(conn) else { return };
        let who = &mut slot.who;
        add(&self.counters.sessions, 1);
        add(&self.counters.accepted, 1);
        self.observer.note(Event::ConnectionAccepted {
            principal: name(&who.peer),
            kind: who.peer.principal().kind.as_str().to_owned(),
            serial: serial(&who.peer),
            issuer: who.peer.issuer_label().to_owned(),
            tls: who.tls.to_owned(),
            suite: who.suite.to_owned(),
            peer: who.address.to_string(),
            conn: who.number,
            client_id: Some((*client_id).to_owned()),
            epoch: who.peer.trust_epoch().to_string(),
        });
        who.client_id = Some(client_id);
    }

    /// The end of a connection, told once: a session's, or that of a client that never had one.
    pub(crate) fn ended(&self, slot: Option<&mut Slot>, reason: Reason, detail: &str) {
        let Some(slot) = slot else { return };
        if std::mem::replace(&mut slot.told, true) {
            return;
        }
        let who = &slot.who;
        if who.client_id.is_some() {
            take(&self.counters.sessions, 1);
            self.counters.ended(reason);
            self.observer.note(Event::SessionEnded {
                principal: name(&who.peer),
                serial: serial(&who.peer),
                peer: who.address.to_string(),
                conn: who.number,
                reason: reason.code().to_owned(),
                detail: detail.to_owned(),
            });
        } else {
            self.refused(who, reason, if detail.is_empty() { "no CONNECT was accepted" } else { detail });
        }
    }

    /// A peer that is who it says, but whose connection is not taken.
    pub(crate) fn refused(&self, who: &Who, reason: Reason, detail: &str) {
        self.counters.refused(reason);
        self.observer.note(Event::ConnectionRefused {
            peer: who.address.to_string(),
            subject: Some(who.peer.subject_text().to_owned()),
            serial: Some(serial(&who.peer)),
            issuer: Some(who.peer.issuer_label().to_owned()),
            sni: None,
            reason: reason.code().to_owned(),
            detail: detail.to_owned(),
        });
    }

    fn publish_refused(&self, io: &Outputs, conn: Option<ConnId>, who: &VerifiedPeer, denial: &Denial) {
        add(&self.counters.publish_refused, 1);
        self.observer.note(Event::PublishRefused {
            principal: name(who),
            serial: serial(who),
            conn: number(io, conn),
            topic: denial.topic.clone(),
            reason: "policy.denied".to_owned(),
            rule: denial.to_string(),
        });
    }

    /// A limit on what a client sends refuses its publish; one on what it is sent sheds for it.
    fn limit_reached(
        &self,
        io: &Outputs,
        conn: Option<ConnId>,
        who: &VerifiedPeer,
        limit: Limit,
        count: u64,
    ) {
        let counter = match limit {
            Limit::Rate | Limit::RetainedMessages | Limit::RetainedBytes => &self.counters.publish_refused,
            Limit::Subscriptions | Limit::TopicLevels => &self.counters.subscribe_refused,
            _ => &self.counters.shed,
        };
        counter.fetch_add(count, Ordering::Relaxed);
        self.observer.note(Event::PublishRefused {
            principal: name(who),
            serial: serial(who),
            conn: number(io, conn),
            topic: String::new(),
            reason: format!("limit.{}", limit.code()),
            rule: format!("{count} since the last such line"),
        });
    }
}

fn name(peer: &VerifiedPeer) -> String {
    peer.principal().name.to_string()
}

fn serial(peer: &VerifiedPeer) -> String {
    peer.cert().serial.to_string()
}

/// The connection's number in the log; 0 for a session that has none.
fn number(io: &Outputs, conn: Option<ConnId>) -> u64 {
    conn.and_then(|conn| io.slot(conn)).map_or(0, |slot| slot.who.number)
}
