use mqtt::{Input, Limits, Note, Record};
use types::Reason;

use crate::harness::{World, table};
use crate::packets::{hello, packet, publish, subscribe, unsubscribe};

#[test]
fn each_filter_has_its_answer_in_order() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    let filters = [("t/0", 0), ("secret/x", 1), ("t/1", 1), ("t/2", 2), ("devices/dev-1/#", 0), ("#", 0)];
    assert_eq!(w.send(conn, &subscribe(300, &filters)), ["suback 300 [00, 80, 01, 01, 00, 80]"]);
    assert_eq!(w.core.stats().subscriptions, 4);
    assert_eq!(w.core.stats().subscribe_refused, 2);
    assert_eq!(
        w.refusals(),
        [
            r#"device "dev-1" may not subscribe to "secret/x": no rule permits it"#,
            r##"device "dev-1" may not subscribe to "#": no rule permits it"##,
        ]
    );
}

#[test]
fn an_unsubscribed_filter_delivers_no_more() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    w.send(conn, &subscribe(1, &[("t/a", 0), ("t/b", 0)]));
    assert_eq!(w.send(conn, &unsubscribe(2, &["t/a", "t/never"])), ["unsuback 2"]);
    w.send(conn, &publish("t/a", b"x", 0, 0));
    assert_eq!(w.send(conn, &publish("t/b", b"x", 0, 0)), ["publish t/b=x"]);
    assert_eq!(w.core.stats().subscriptions, 1);
}

#[test]
fn a_filter_given_twice_replaces_its_quality() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    assert_eq!(w.send(conn, &subscribe(2, &[("t/a", 0)])), ["suback 2 [00]"]);
    assert_eq!(w.send(conn, &publish("t/a", b"x", 1, 1)), ["publish t/a=x", "puback 1"]);
    assert_eq!(w.core.stats().subscriptions, 1);
}

#[test]
fn shared_subscriptions_are_refused_and_said() {
    let mut w = World::new();
    let conn = w.client("svc");
    assert_eq!(w.send(conn, &subscribe(1, &[("$share/g/t/a", 1), ("t/a", 1)])), ["suback 1 [80, 01]"]);
    assert!(w.sink.notes.iter().any(|note| matches!(note,
        Note::FilterRefused { detail, .. } if detail == "filter \"$share/g/t/a\": shared subscriptions need MQTT 5")));
}

#[test]
fn a_wildcard_at_the_front_matches_no_topic_that_begins_with_a_dollar() {
    let mut w = World::new();
    let svc = w.client("svc");
    w.send(svc, &subscribe(1, &[("#", 0), ("+/a", 0)]));
    let conn = w.client("dev-1");
    w.send(conn, &publish("$t/a", b"x", 0, 0));
    assert_eq!(w.seen(svc), [""; 0]);
    w.send(conn, &subscribe(1, &[("$t/+", 0)]));
    assert_eq!(w.send(conn, &publish("$t/a", b"x", 0, 0)), ["publish $t/a=x"]);
}

#[test]
fn a_malformed_filter_ends_the_connection() {
    for filter in ["", "t/a#", "t/#/a", "+t", "t\0"] {
        let mut w = World::new();
        let conn = w.client("dev-1");
        assert_eq!(w.send(conn, &subscribe(1, &[("t/a", 0), (filter, 0)])), [""; 0], "{filter:?}");
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)], "{filter:?}");
        let conn = w.client("dev-2");
        w.send(conn, &unsubscribe(1, &[filter]));
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)], "{filter:?}");
    }
}

#[test]
fn a_filter_beyond_our_limits_is_refused_without_harm() {
    let mut w = World::new();
    let conn = w.client("svc");
    let deep = "a/".repeat(40);
    let answer = w.send(conn, &subscribe(1, &[(&deep, 0), ("t/\u{1}", 0), ("t/a", 0)]));
    assert_eq!(answer, ["suback 1 [80, 80, 00]"]);
    assert_eq!(w.send(conn, &unsubscribe(2, &[&deep])), ["unsuback 2"]);
    assert_eq!(w.take_closed(), []);
}

#[test]
fn subscriptions_and_levels_have_limits() {
    let mut w = World::with(Limits { subscriptions_max: 2, topic_levels_max: 3, ..Limits::default() });
    let conn = w.client("dev-1");
    let filters = [("t/a/b/c", 0), ("t/a/b", 0), ("t/b", 0), ("t/c", 0), ("t/b", 1)];
    assert_eq!(w.send(conn, &subscribe(1, &filters)), ["suback 1 [80, 00, 00, 80, 01]"]);
    assert_eq!(w.limits_told(), [(mqtt::Limit::TopicLevels, 1), (mqtt::Limit::Subscriptions, 1)]);
    w.send(conn, &unsubscribe(2, &["t/b"]));
    assert_eq!(w.send(conn, &subscribe(3, &[("t/c", 0)])), ["suback 3 [00]"]);
}

#[test]
fn a_subscribe_without_filters_or_with_reserved_bits_ends_the_connection() {
    for body in [
        &b"\0\x01"[..],
        b"\0\x01\0\x03t/a\x03",
        b"\0\x01\0\x03t/a\x04",
        b"\0\0\0\x03t/a\0",
        b"\0\x01\0\x03t/a",
    ] {
        let mut w = World::new();
        let conn = w.client("dev-1");
        w.send(conn, &packet(0x82, body));
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)], "{body:x?}");
    }
}

#[test]
fn a_suback_of_a_stored_session_waits_for_its_record_and_a_clean_one_does_not() {
    let mut w = World::new();
    w.sink.journal = true;
    let stored = w.client_with("dev-1", &hello("").stored());
    assert_eq!(w.send(stored, &subscribe(1, &[("t/a", 1)])), [""; 0]);
    assert_eq!(w.send(stored, &unsubscribe(2, &["t/a"])), [""; 0]);
    assert_eq!(w.send(stored, &unsubscribe(3, &["t/never"])), [""; 0]);
    w.step(Input::Durable { lsn: 2 });
    assert_eq!(w.seen(stored), ["suback 1 [01]"]);
    w.step(Input::Durable { lsn: 3 });
    assert_eq!(w.seen(stored), ["unsuback 2", "unsuback 3"]);
    assert!(
        matches!(w.sink.records.last(), Some(Record::Unsubscribed { filter, .. }) if filter.as_str() == "t/a")
    );
}

#[test]
fn retained_messages_follow_a_late_suback_only_while_the_subscription_stands() {
    let mut w = World::new();
    let svc = w.client("svc");
    w.send(svc, &crate::packets::retain("t/a", b"kept", 0, 0));
    w.sink.journal = true;
    let stored = w.client_with("dev-1", &hello("").stored());
    assert_eq!(w.send(stored, &subscribe(1, &[("t/a", 0)])), [""; 0]);
    w.step(Input::Policy(table("user svc\ntopic readwrite #\n", 2)));
    w.step(Input::Durable { lsn: 100 });
    assert_eq!(w.seen(stored), ["suback 1 [00]"]);
}
