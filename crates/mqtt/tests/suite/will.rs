use std::time::Duration;

use mqtt::{Input, Limits, Note};
use types::Reason;

use crate::harness::{World, table};
use crate::packets::{DISCONNECT, PINGREQ, hello, subscribe};

fn watched(will_qos: u8, retain: bool) -> (World, u32, u32) {
    let mut w = World::new();
    let watcher = w.client("svc");
    w.send(watcher, &subscribe(1, &[("devices/#", 1)]));
    let connect = hello("").keep_alive(10).will("devices/dev-1/status", "offline", will_qos, retain);
    let conn = w.client_with("dev-1", &connect);
    (w, watcher, conn)
}

#[test]
fn a_lost_connection_sends_its_will_with_its_quality() {
    for (qos, seen) in [(0, "publish"), (1, "publish q1 #1"), (2, "publish q1 #1")] {
        let (mut w, watcher, conn) = watched(qos, false);
        w.lose(conn);
        assert_eq!(w.seen(watcher), [format!("{seen} devices/dev-1/status=offline")]);
        assert_eq!(w.core.stats().retained_messages, 0);
    }
}

#[test]
fn a_goodbye_discards_the_will() {
    let (mut w, watcher, conn) = watched(1, true);
    w.send(conn, &DISCONNECT);
    assert_eq!(w.seen(watcher), [""; 0]);
    assert_eq!(w.take_closed(), [(conn, Reason::ClientClosed)]);
}

#[test]
fn silence_a_protocol_error_a_takeover_and_the_drain_send_the_will() {
    let (mut w, watcher, conn) = watched(0, false);
    w.later(Duration::from_secs(15));
    assert_eq!(w.take_closed(), [(conn, Reason::KeepAlive)]);
    assert_eq!(w.seen(watcher), ["publish devices/dev-1/status=offline"]);

    let (mut w, watcher, conn) = watched(0, false);
    w.send(conn, &[0xf0, 0]);
    assert_eq!(w.seen(watcher), ["publish devices/dev-1/status=offline"]);

    let (mut w, watcher, _) = watched(0, false);
    w.client("dev-1");
    assert_eq!(w.seen(watcher), ["publish devices/dev-1/status=offline"]);

    let (mut w, _, _) = watched(0, true);
    w.step(Input::Drain);
    assert_eq!(w.core.stats().retained_messages, 1);
}

#[test]
fn a_retained_will_is_retained() {
    let (mut w, _, conn) = watched(1, true);
    w.lose(conn);
    let late = w.client("svc");
    let seen = w.send(late, &subscribe(1, &[("devices/dev-1/status", 0)]));
    assert_eq!(seen, ["suback 1 [00]", "publish retain devices/dev-1/status=offline"]);
}

#[test]
fn a_will_that_the_rules_forbid_refuses_the_connection() {
    let mut w = World::new();
    let watcher = w.client("svc");
    w.send(watcher, &subscribe(1, &[("#", 0)]));
    let conn = w.open("dev-1");
    let connect = hello("").will("devices/dev-2/status", "offline", 0, true);
    assert_eq!(w.send(conn, &connect.bytes()), ["connack 0 5"]);
    assert_eq!(w.take_closed(), [(conn, Reason::Denied)]);
    assert_eq!(
        w.refusals(),
        [r#"device "dev-1" may not publish to "devices/dev-2/status": no rule permits it"#]
    );
    assert_eq!(w.seen(watcher), [""; 0]);
    assert_eq!(w.core.stats().sessions, 1);
    assert!(w.sink.notes.iter().any(|note| matches!(note, Note::ConnectRefused { return_code: 5, .. })));
}

#[test]
fn a_refused_connect_takes_nothing_over() {
    let mut w = World::new();
    let old = w.client("dev-1");
    let conn = w.open("dev-1");
    w.send(conn, &hello("").will("secret/x", "x", 0, false).bytes());
    assert_eq!(w.take_closed(), [(conn, Reason::Denied)]);
    assert_eq!(w.send(old, &PINGREQ), ["pingresp"]);
}

#[test]
fn a_will_too_deep_for_the_limit_refuses_the_connection() {
    let mut w = World::with(Limits { topic_levels_max: 2, ..Limits::default() });
    let conn = w.open("svc");
    assert_eq!(w.send(conn, &hello("").will("t/a/b", "x", 0, false).bytes()), ["connack 0 5"]);
}

#[test]
fn new_rules_take_a_will_away_at_once() {
    let (mut w, watcher, conn) = watched(0, false);
    w.step(Input::Policy(table("pattern readwrite t/#\nuser svc\ntopic readwrite #\n", 2)));
    assert_eq!(
        w.refusals(),
        [r#"device "dev-1" may not publish to "devices/dev-1/status": no rule permits it"#]
    );
    w.lose(conn);
    assert_eq!(w.seen(watcher), [""; 0]);
    assert_eq!(w.refusals().len(), 1);
}

#[test]
fn a_will_is_decided_again_for_its_receivers() {
    let mut w = World::new();
    let other = w.client("dev-2");
    w.send(other, &subscribe(1, &[("t/+", 0)]));
    let conn = w.client_with("dev-1", &hello("").will("t/will", "gone", 0, false));
    w.step(Input::Policy(table("pattern readwrite t/#\npattern deny t/will\n", 2)));
    w.lose(conn);
    assert_eq!(w.seen(other), [""; 0]);
}

#[test]
fn the_end_is_noted_before_the_will_moves() {
    let (mut w, _, conn) = watched(0, true);
    w.sink.notes.clear();
    w.lose(conn);
    assert!(matches!(w.sink.notes.first(), Some(Note::SessionEnded { reason: Reason::ConnectionLost, .. })));
}
