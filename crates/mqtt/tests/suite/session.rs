use mqtt::{Input, Limits, Note, Record};
use types::{PrincipalKind, Reason};

use crate::harness::World;
use crate::packets::{DISCONNECT, hello, puback, publish, subscribe};
use crate::pki::PKI;

#[test]
fn a_stored_session_is_resumed_with_its_subscriptions_and_its_queue() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("a").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1), ("t/b", 0)]));
    w.send(conn, &DISCONNECT);
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"one", 1, 1));
    w.send(from, &publish("t/a", b"two", 1, 2));
    w.send(from, &publish("t/a", b"zero", 0, 0));
    w.send(from, &publish("t/b", b"zero", 1, 3));
    let conn = w.open("dev-1");
    let answer = w.send(conn, &hello("a").stored().bytes());
    assert_eq!(answer, ["connack 1 0", "publish q1 #1 t/a=one", "publish q1 #2 t/a=two"]);
    w.send(from, &publish("t/a", b"three", 1, 4));
    assert_eq!(w.seen(conn), ["publish q1 #3 t/a=three"]);
    assert!(w.sink.notes.iter().any(|note| matches!(note, Note::Connected { resumed: true, .. })));
}

#[test]
fn what_was_in_flight_is_sent_again_with_dup_and_its_id_before_the_queue() {
    let mut w = World::with(Limits { inflight_max: 2, ..Limits::default() });
    let conn = w.client_with("dev-1", &hello("").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-2");
    for (id, payload) in [(1, "a"), (2, "b"), (3, "c")] {
        w.send(from, &publish("t/a", payload.as_bytes(), 1, id));
    }
    w.send(conn, &puback(1));
    assert_eq!(w.seen(conn), [""; 0], "the queue followed with the acknowledgement");
    w.lose(conn);
    let conn = w.open("dev-1");
    let answer = w.send(conn, &hello("").stored().bytes());
    assert_eq!(answer, ["connack 1 0", "publish q1 #2 dup t/a=b", "publish q1 #3 dup t/a=c"]);
    w.send(conn, &puback(2));
    w.send(conn, &puback(3));
    w.lose(conn);
    let conn = w.open("dev-1");
    assert_eq!(w.send(conn, &hello("").stored().bytes()), ["connack 1 0"]);
}

#[test]
fn a_clean_connect_discards_the_stored_session() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    w.lose(conn);
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"x", 1, 1));
    assert_eq!(w.core.stats().queued_messages, 1);
    let conn = w.open("dev-1");
    assert_eq!(w.send(conn, &hello("").bytes()), ["connack 0 0"]);
    assert!(matches!(w.sink.records.last(), Some(Record::SessionEnded { .. })));
    let stats = w.core.stats();
    assert_eq!(
        (stats.sessions, stats.subscriptions, stats.queued_messages, stats.queued_bytes),
        (2, 0, 0, 0)
    );
    w.lose(conn);
    let conn = w.open("dev-1");
    assert_eq!(w.send(conn, &hello("").stored().bytes()), ["connack 0 0"]);
}

#[test]
fn a_clean_session_ends_with_its_connection() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    w.lose(conn);
    let stats = w.core.stats();
    assert_eq!((stats.connections, stats.sessions, stats.subscriptions), (0, 0, 0));
}

#[test]
fn a_second_connection_of_the_same_client_takes_the_session_over() {
    let mut w = World::new();
    let old = w.client_with("dev-1", &hello("a").stored());
    w.send(old, &subscribe(1, &[("t/a", 1)]));
    let new = w.open("dev-1");
    assert_eq!(w.send(new, &hello("a").stored().bytes()), ["connack 1 0"]);
    assert_eq!(w.take_closed(), [(old, Reason::TakenOver)]);
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"x", 1, 1));
    assert_eq!(w.seen(old), [""; 0]);
    assert_eq!(w.seen(new), ["publish q1 #1 t/a=x"]);
    // What the socket of the old one still delivers is nobody's.
    assert_eq!(w.send(old, &publish("t/a", b"late", 0, 0)), [""; 0]);
    assert_eq!(w.seen(new), [""; 0]);
}

#[test]
fn the_same_client_id_of_another_identity_is_another_session() {
    let mut w = World::new();
    let victim = w.client_with("dev-1", &hello("shared").stored());
    w.send(victim, &subscribe(1, &[("t/a", 1)]));
    let other = w.open("dev-2");
    assert_eq!(w.send(other, &hello("shared").stored().bytes()), ["connack 0 0"]);
    assert_eq!(w.take_closed(), []);
    w.lose(victim);
    let from = w.client("dev-3");
    w.send(from, &publish("t/a", b"x", 1, 1));
    assert_eq!(w.seen(other), [""; 0]);
    // Not even by the victim's name as client id.
    let thief = w.open("dev-2");
    assert_eq!(w.send(thief, &hello("dev-1").stored().bytes()), ["connack 0 0"]);
    let victim = w.open("dev-1");
    assert_eq!(w.send(victim, &hello("shared").stored().bytes()), ["connack 1 0", "publish q1 #1 t/a=x"]);
}

#[test]
fn identities_that_differ_only_in_case_are_one() {
    let mut w = World::new();
    let old = w.client_with("Dev-1", &hello("a").stored());
    let peer = PKI.peer(PrincipalKind::Device, "dev-1");
    let new = w.open_as(peer);
    assert_eq!(w.send(new, &hello("a").stored().bytes()), ["connack 1 0"]);
    assert_eq!(w.take_closed(), [(old, Reason::TakenOver)]);
}

#[test]
fn connections_of_one_identity_are_limited_but_a_takeover_is_none_more() {
    let mut w = World::with(Limits { connections_per_identity_max: 2, ..Limits::default() });
    let a = w.client_with("dev-1", &hello("a"));
    w.client_with("dev-1", &hello("b"));
    let third = w.open("dev-1");
    assert_eq!(w.send(third, &hello("c").bytes()), ["connack 0 3"]);
    assert_eq!(w.take_closed(), [(third, Reason::Limit)]);
    assert_eq!(w.limits_told(), [(mqtt::Limit::Connections, 1)]);
    let again = w.open("dev-1");
    assert_eq!(w.send(again, &hello("a").bytes()), ["connack 0 0"]);
    assert_eq!(w.take_closed(), [(a, Reason::TakenOver)]);
    let other = w.open("dev-2");
    assert_eq!(w.send(other, &hello("c").bytes()), ["connack 0 0"]);
}

#[test]
fn the_session_that_was_left_first_makes_room_for_one_more() {
    let mut w = World::with(Limits { sessions_per_identity_max: 2, ..Limits::default() });
    let (a, b) = (w.client_with("dev-1", &hello("a").stored()), w.client_with("dev-1", &hello("b").stored()));
    w.lose(b);
    w.later(std::time::Duration::from_secs(1));
    w.lose(a);
    let third = w.open("dev-1");
    assert_eq!(w.send(third, &hello("c").stored().bytes()), ["connack 0 0"]);
    assert_eq!(w.limits_told(), [(mqtt::Limit::Sessions, 1)]);
    // "b" was left before "a", so "a" is still there.
    let known = w.open("dev-1");
    assert_eq!(w.send(known, &hello("a").stored().bytes()), ["connack 1 0"]);
    w.lose(known);
    w.lose(third);
    let lost = w.open("dev-1");
    assert_eq!(w.send(lost, &hello("b").stored().bytes()), ["connack 0 0"]);
}

#[test]
fn sessions_that_are_all_live_make_no_room() {
    let mut w = World::with(Limits { sessions_per_identity_max: 2, ..Limits::default() });
    let live = [w.client_with("dev-1", &hello("a")), w.client_with("dev-1", &hello("b"))];
    let third = w.open("dev-1");
    assert_eq!(w.send(third, &hello("c").bytes()), ["connack 0 3"]);
    // A clean session that ends gives its place back.
    w.lose(live[0]);
    let fourth = w.open("dev-1");
    assert_eq!(w.send(fourth, &hello("c").stored().bytes()), ["connack 0 0"]);
}

#[test]
fn a_session_whose_trust_ended_is_kept_but_nothing_is_queued_or_delivered() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").stored().will("t/will", "gone", 1, false));
    w.send(conn, &subscribe(1, &[("t/#", 1)]));
    let from = w.client("dev-2");
    w.send(from, &subscribe(1, &[("t/will", 0)]));
    w.send(from, &publish("t/a", b"before", 1, 1));
    w.seen(conn);
    w.step(Input::Ended { conn, reason: Reason::Revoked });
    assert_eq!(w.take_closed(), [], "the shell closes what it ended itself");
    assert_eq!(w.seen(from), [""; 0], "no will");
    w.send(from, &publish("t/a", b"after", 1, 2));
    assert_eq!(w.send(conn, &publish("t/will", b"late", 0, 0)), [""; 0]);
    let stats = w.core.stats();
    assert_eq!((stats.sessions, stats.queued_messages), (2, 0));
    // A new certificate of the same name finds its session, and what was in flight.
    let peer = PKI.peer(PrincipalKind::Device, "dev-1");
    let conn = w.open_as(peer);
    let answer = w.send(conn, &hello("").stored().bytes());
    assert_eq!(answer, ["connack 1 0", "publish q1 #1 dup t/a=before"]);
    w.send(from, &publish("t/a", b"now", 1, 3));
    assert_eq!(w.seen(conn), ["publish q1 #2 t/a=now"]);
}

#[test]
fn a_trusts_end_takes_a_clean_session_and_its_will_away() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").will("t/will", "gone", 1, true));
    let from = w.client("dev-2");
    w.send(from, &subscribe(1, &[("t/will", 0)]));
    w.step(Input::Ended { conn, reason: Reason::Expired });
    assert_eq!(w.seen(from), [""; 0]);
    assert_eq!((w.core.stats().sessions, w.core.stats().retained_messages), (1, 0));
    assert_eq!(w.last_end(), "trust.expired: ");
}

#[test]
fn stored_sessions_freeze_and_thaw_with_the_trust_in_their_owner() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    w.lose(conn);
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"one", 1, 1));
    let refused = |peer: &policy::VerifiedPeer| {
        (peer.principal().name.as_str() == "dev-1").then_some(Reason::Suspended)
    };
    w.step(Input::Trust(&refused));
    w.step(Input::Trust(&refused));
    w.send(from, &publish("t/a", b"two", 1, 2));
    w.step(Input::Trust(&|_| None));
    w.send(from, &publish("t/a", b"three", 1, 3));
    let told: Vec<_> = w
        .sink
        .notes
        .iter()
        .filter_map(|note| match note {
            Note::SessionFrozen { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Some(Reason::Suspended), None]);
    let conn = w.open("dev-1");
    let answer = w.send(conn, &hello("").stored().bytes());
    assert_eq!(answer, ["connack 1 0", "publish q1 #1 t/a=one", "publish q1 #2 t/a=three"]);
}

#[test]
fn trust_is_checked_for_stored_sessions_only_live_ones_are_the_shells() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    w.step(Input::Trust(&|_| Some(Reason::Revoked)));
    assert_eq!(w.send(conn, &publish("t/a", b"x", 1, 1)), ["publish q1 #1 t/a=x", "puback 1"]);
}

#[test]
fn nothing_is_left_of_a_thousand_sessions_that_came_and_went() {
    let mut w = World::with(Limits {
        connections_per_identity_max: 2_000,
        sessions_per_identity_max: 2_000,
        ..Limits::default()
    });
    for round in 0..1_000 {
        let conn = w.client_with("dev-1", &hello(&format!("c{round}")));
        w.send(conn, &subscribe(1, &[("t/a", 1), ("t/+/b", 0)]));
        w.send(conn, &publish("t/a", b"x", 1, 1));
    }
    let conns: Vec<_> = (1..=1_000).collect();
    assert_eq!(w.core.stats().subscriptions, 2_000);
    for conn in conns {
        w.lose(conn);
    }
    let stats = w.core.stats();
    assert_eq!((stats.connections, stats.sessions, stats.subscriptions, stats.queued_bytes), (0, 0, 0, 0));
}

#[test]
fn a_stored_session_takes_nothing_more_in_after_its_owners_certificate() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    w.lose(conn);
    let from = w.client_with("dev-2", &hello("").keep_alive(0));
    let end = w.peer("dev-1").session_end();
    w.now.wall = types::Wall(end.0 - 1);
    w.send(from, &publish("t/a", b"in time", 1, 1));
    w.now.wall = end;
    w.send(from, &publish("t/a", b"too late", 1, 2));
    w.send(from, &publish("t/a", b"too late", 1, 3));
    assert_eq!(w.core.stats().queued_messages, 1);
    let frozen = w.sink.notes.iter().filter(|note| matches!(note, Note::SessionFrozen { .. })).count();
    assert_eq!(frozen, 1);
}
