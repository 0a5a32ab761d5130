use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use audit::{Event, Observer};
use mqtt::{ConnId, Limit, Note};
use trust::VerifiedPeer;
use types::{Mono, Reason};

use crate::outputs::{Outputs, Slot, Who};
use crate::pace::{Pace, withheld_text};
use crate::stats::{Counters, add, take};

/// A connection's refusals of one kind are told at once and then at most this often; the counters
/// have each of them. Otherwise one client could wash all others out of the record.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What is refused; each kind is told at its own pace.
#[derive(Clone, Copy)]
enum Refusal {
    Publish,
    Subscribe,
    Filter,
    Replay,
    /// One that was only looked at must not hide one that was enforced.
    ReplayObserved,
}

/// The paces of one connection, by [`Refusal`].
#[derive(Default)]
pub(crate) struct RefusalPaces([Pace; 5]);

/// Turns what the state machine notes into events and counters; the addresses and numbers come
/// from the connection's slot.
pub(crate) struct Teller {
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) counters: Arc<Counters>,
}

impl Teller {
    pub(crate) fn tell(&self, io: &mut Outputs, note: Note, now: Mono) {
        match note {
            Note::Connected { conn, client_id, .. } => self.connected(io, conn, client_id),
            Note::ConnectRefused { conn, return_code, detail, .. } => {
                let detail = format!("CONNECT refused with code {return_code}: {detail}");
                self.ended(io.slot_mut(conn), Reason::Protocol, &detail);
            }
            Note::SessionEnded { conn, reason, detail, .. } => {
                self.ended(io.slot_mut(conn), reason, &detail);
            }
            note @ (Note::PublishRefused { .. }
            | Note::SubscribeRefused { .. }
            | Note::FilterRefused { .. }
            | Note::ReplayRefused { .. }) => self.refusal(io, note, now),
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

    /// Something that a client asked was refused: counted, and told if its pace allows.
    fn refusal(&self, io: &mut Outputs, note: Note, now: Mono) {
        match note {
            Note::PublishRefused { conn, who, denial } => {
                add(&self.counters.publish_refused, 1);
                let Some(withheld) = pass(io, conn, Refusal::Publish, now) else { return };
                self.observer.note(Event::PublishRefused {
                    principal: name(&who),
                    serial: serial(&who),
                    conn: number(io, conn),
                    rule: format!("{denial}{}", withheld_text(withheld)),
                    topic: denial.topic,
                    reason: "policy.denied".to_owned(),
                });
            }
            Note::SubscribeRefused { conn, who, denial } => {
                add(&self.counters.subscribe_refused, 1);
                let Some(withheld) = pass(io, conn, Refusal::Subscribe, now) else { return };
                self.observer.note(Event::SubscribeRefused {
                    principal: name(&who),
                    serial: serial(&who),
                    conn: number(io, conn),
                    rule: format!("{denial}{}", withheld_text(withheld)),
                    filter: denial.topic,
                    reason: "policy.denied".to_owned(),
                });
            }
            Note::FilterRefused { conn, who, detail } => {
                add(&self.counters.subscribe_refused, 1);
                let Some(withheld) = pass(io, Some(conn), Refusal::Filter, now) else { return };
                self.observer.note(Event::SubscribeRefused {
                    principal: name(&who),
                    serial: serial(&who),
                    conn: number(io, Some(conn)),
                    filter: detail,
                    reason: "mqtt.filter".to_owned(),
                    rule: withheld_text(withheld).trim_start_matches("; ").to_owned(),
                });
            }
            Note::ReplayRefused { conn, who, topic, kind, enforced, detail } => {
                add(&self.counters.replay_refused, 1);
                let (refusal, mode) = if enforced {
                    (Refusal::Replay, "enforce")
                } else {
                    (Refusal::ReplayObserved, "observe")
                };
                let Some(withheld) = pass(io, Some(conn), refusal, now) else { return };
                self.observer.note(Event::ReplayRefused {
                    principal: name(&who),
                    topic,
                    kind: kind.as_str().to_owned(),
                    mode: mode.to_owned(),
                    detail: format!("{detail}{}", withheld_text(withheld)),
                });
            }
            _ => {}
        }
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

/// Whether this one is told, and how many were not since the last; without a connection (the will of
/// one that is over, a stored session under new rules) there is nothing that a client could repeat.
fn pass(io: &mut Outputs, conn: Option<ConnId>, refusal: Refusal, now: Mono) -> Option<u64> {
    let Some(slot) = conn.and_then(|conn| io.slot_mut(conn)) else { return Some(0) };
    let paces = slot.refusals.get_or_insert_default();
    paces.0.get_mut(refusal as usize).map_or(Some(0), |pace| pace.pass(now, LINE_EVERY))
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
