use std::time::Duration;

use mqtt::{Input, Limits, Note, Record};
use types::Reason;

use crate::harness::World;
use crate::packets::{again, hello, puback, publish, pubrel, subscribe};

#[test]
fn a_message_reaches_its_subscribers_with_the_lower_quality() {
    let mut w = World::new();
    let (zero, one) = (w.client("dev-1"), w.client("dev-2"));
    w.send(zero, &subscribe(1, &[("t/+", 0)]));
    w.send(one, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-3");
    assert_eq!(w.send(from, &publish("t/a", b"q0", 0, 0)), [""; 0]);
    assert_eq!(w.seen(zero), ["publish t/a=q0"]);
    assert_eq!(w.seen(one), ["publish t/a=q0"]);
    assert_eq!(w.send(from, &publish("t/a", b"q1", 1, 5)), ["puback 5"]);
    assert_eq!(w.seen(zero), ["publish t/a=q1"]);
    assert_eq!(w.seen(one), ["publish q1 #1 t/a=q1"]);
}

#[test]
fn dup_and_retain_do_not_travel_to_a_live_subscription() {
    let mut w = World::new();
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-2");
    w.send(from, &again("t/a", b"x", 1, 5));
    w.send(from, &crate::packets::retain("t/a", b"y", 0, 0));
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=x", "publish t/a=y"]);
}

#[test]
fn overlapping_subscriptions_deliver_once_with_the_highest_quality() {
    let mut w = World::new();
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/#", 0), ("t/+", 1), ("t/a", 0)]));
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"x", 1, 1));
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=x"]);
}

#[test]
fn a_publisher_hears_its_own_message() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    assert_eq!(w.send(conn, &publish("t/a", b"x", 1, 3)), ["publish q1 #1 t/a=x", "puback 3"]);
}

#[test]
fn a_topic_of_two_levels_does_not_reach_a_filter_of_three_nor_the_other_way() {
    let mut w = World::new();
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 0), ("t/b/c", 0)]));
    let from = w.client("dev-2");
    w.send(from, &publish("t/a/b", b"x", 0, 0));
    w.send(from, &publish("t/b", b"x", 0, 0));
    assert_eq!(w.seen(to), [""; 0]);
}

#[test]
fn what_the_rules_forbid_is_acknowledged_dropped_and_named() {
    let mut w = World::new();
    let svc = w.client("svc");
    w.send(svc, &subscribe(1, &[("#", 1)]));
    let from = w.client("dev-1");
    assert_eq!(w.send(from, &publish("secret/x", b"x", 1, 8)), ["puback 8"]);
    assert_eq!(w.send(from, &publish("secret/x", b"x", 0, 0)), [""; 0]);
    assert_eq!(w.send(from, &publish("secret/x", b"x", 2, 9)), ["pubrec 9"]);
    assert_eq!(w.send(from, &pubrel(9)), ["pubcomp 9"]);
    assert_eq!(w.seen(svc), [""; 0]);
    assert_eq!(w.refusals(), [r#"device "dev-1" may not publish to "secret/x": no rule permits it"#; 3]);
    assert_eq!(w.core.stats().publish_refused, 3);
    assert!(
        matches!(w.sink.notes.last(), Some(Note::PublishRefused { conn: Some(conn), .. }) if *conn == from)
    );
    assert_eq!(w.take_closed(), []);
}

#[test]
fn another_devices_space_is_closed_in_both_directions() {
    let mut w = World::new();
    let thief = w.client("dev-2");
    assert_eq!(
        w.send(thief, &subscribe(1, &[("devices/dev-1/#", 1), ("devices/+/x", 0)])),
        ["suback 1 [80, 80]"]
    );
    let svc = w.client("svc");
    w.send(svc, &subscribe(1, &[("devices/dev-1/x", 0)]));
    w.send(thief, &publish("devices/dev-1/x", b"forged", 0, 0));
    assert_eq!(w.seen(svc), [""; 0]);
}

#[test]
fn a_quality_2_message_is_routed_once_until_its_release() {
    let mut w = World::new();
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 2)]));
    let from = w.client("dev-2");
    assert_eq!(w.send(from, &publish("t/a", b"x", 2, 7)), ["pubrec 7"]);
    assert_eq!(w.send(from, &again("t/a", b"x", 2, 7)), ["pubrec 7"]);
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=x"]);
    assert_eq!(w.send(from, &pubrel(7)), ["pubcomp 7"]);
    assert_eq!(w.send(from, &pubrel(7)), ["pubcomp 7"]);
    assert_eq!(w.send(from, &publish("t/a", b"y", 2, 7)), ["pubrec 7"]);
    assert_eq!(w.seen(to), ["publish q1 #2 t/a=y"]);
}

#[test]
fn a_stored_session_remembers_the_quality_2_ids_that_it_has_received() {
    let mut w = World::new();
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    let from = w.client_with("dev-2", &hello("").stored());
    assert_eq!(w.send(from, &publish("t/a", b"x", 2, 7)), ["pubrec 7"]);
    w.lose(from);
    let from = w.client_with("dev-2", &hello("").stored());
    assert_eq!(w.send(from, &again("t/a", b"x", 2, 7)), ["pubrec 7"]);
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=x"]);
    w.send(from, &pubrel(7));
    let ids: Vec<_> = w
        .sink
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Received { id, .. } => Some(("received", *id)),
            Record::Released { id, .. } => Some(("released", *id)),
            _ => None,
        })
        .collect();
    assert_eq!(ids, [("received", 7), ("released", 7)]);
}

#[test]
fn packet_ids_run_and_are_used_again_only_after_their_acknowledgement() {
    let mut w = World::with(Limits { inflight_max: 3, device_messages_per_second: 0, ..Limits::default() });
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-2");
    for id in 1..=2 {
        w.send(from, &publish("t/a", b"x", 1, id));
    }
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=x", "publish q1 #2 t/a=x"]);
    w.send(to, &puback(2));
    // Id 1 stays unacknowledged while the counter goes round.
    for round in 3..=65_537_u32 {
        w.send(from, &publish("t/a", b"x", 1, 9));
        let id = (round - 1) % 65_535 + 1;
        let id = if id == 1 { 2 } else { u16::try_from(id).unwrap() };
        if round == 65_536 {
            assert_eq!(w.seen(to), ["publish q1 #2 t/a=x"]);
            w.send(to, &puback(2));
        } else if round < 65_536 {
            assert_eq!(w.seen(to), [format!("publish q1 #{id} t/a=x")]);
            w.send(to, &puback(id));
        }
    }
    assert_eq!(w.seen(to), ["publish q1 #3 t/a=x"]);
}

#[test]
fn an_acknowledgement_of_nothing_changes_nothing() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    assert_eq!(w.send(conn, &puback(77)), [""; 0]);
    assert_eq!(w.send(conn, &crate::packets::packet(0x50, &[0, 1])), [""; 0]);
    assert_eq!(w.send(conn, &crate::packets::packet(0x70, &[0, 1])), [""; 0]);
    assert_eq!(w.take_closed(), []);
}

#[test]
fn more_than_the_inflight_limit_waits_in_order_and_follows_each_acknowledgement() {
    let mut w = World::with(Limits { inflight_max: 2, ..Limits::default() });
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-2");
    for (id, payload) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        assert_eq!(w.send(from, &publish("t/a", payload.as_bytes(), 1, id)), [format!("puback {id}")]);
    }
    // QoS 0 is not held up by the flight.
    w.send(from, &publish("t/a", b"zero", 0, 0));
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=a", "publish q1 #2 t/a=b", "publish t/a=zero"]);
    assert_eq!((w.core.stats().queued_messages, w.core.stats().queued_bytes > 0), (2, true));
    assert_eq!(w.send(to, &puback(1)), ["publish q1 #3 t/a=c"]);
    assert_eq!(w.send(to, &puback(2)), ["publish q1 #4 t/a=d"]);
    assert_eq!((w.core.stats().queued_messages, w.core.stats().queued_bytes), (0, 0));
}

#[test]
fn a_gate_holds_the_publishers_acknowledgement_until_the_message_is_durable() {
    let mut w = World::new();
    w.sink.journal = true;
    let to = w.client_with("dev-1", &hello("").stored());
    assert_eq!(w.send(to, &subscribe(1, &[("t/a", 1)])), [""; 0]);
    let lsn = w.sink.records.len() as u64;
    w.step(Input::Durable { lsn });
    assert_eq!(w.seen(to), ["suback 1 [01]"]);
    let from = w.client("dev-2");
    assert_eq!(w.send(from, &publish("t/a", b"x", 1, 1)), [""; 0]);
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=x"]);
    // What needs no gate still waits for its turn: acknowledgements keep the order of the messages.
    assert_eq!(w.send(from, &publish("t/nobody", b"x", 1, 2)), [""; 0]);
    // A retry while the first waits is not routed again.
    assert_eq!(w.send(from, &again("t/a", b"x", 1, 1)), [""; 0]);
    assert_eq!(w.seen(to), [""; 0]);
    w.step(Input::Durable { lsn });
    assert_eq!(w.seen(from), [""; 0]);
    w.step(Input::Durable { lsn: lsn + 1 });
    assert_eq!(w.seen(from), ["puback 1", "puback 2", "puback 1"]);
    assert_eq!(w.send(from, &publish("t/nobody", b"x", 1, 3)), ["puback 3"]);
}

#[test]
fn clean_sessions_need_no_record_and_no_gate() {
    let mut w = World::new();
    w.sink.journal = true;
    let to = w.client("dev-1");
    assert_eq!(w.send(to, &subscribe(1, &[("t/a", 1)])), ["suback 1 [01]"]);
    let from = w.client("dev-2");
    assert_eq!(w.send(from, &publish("t/a", b"x", 1, 1)), ["puback 1"]);
    w.send(to, &puback(1));
    assert_eq!(w.sink.records.len(), 0);
}

#[test]
fn a_recorded_message_is_settled_when_it_is_acknowledged() {
    let mut w = World::new();
    let to = w.client_with("dev-1", &hello("").stored());
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"x", 1, 1));
    w.send(to, &puback(1));
    let lines: Vec<_> = w
        .sink
        .records
        .iter()
        .map(|record| match record {
            Record::SessionStarted { session } => format!("started {session:?}"),
            Record::Subscribed { session, filter, qos } => format!("subscribed {session:?} {filter} {qos:?}"),
            Record::Queued { session, number, message, retain } => {
                format!("queued {session:?} {number} {} {retain}", message.topic_str())
            }
            Record::Settled { session, number } => format!("settled {session:?} {number}"),
            _ => "other".to_owned(),
        })
        .collect();
    assert_eq!(
        lines,
        [
            "started dev-1/dev-1",
            "subscribed dev-1/dev-1 t/a AtLeastOnce",
            "queued dev-1/dev-1 1 t/a false",
            "settled dev-1/dev-1 1",
        ]
    );
}

#[test]
fn a_connection_that_is_over_takes_its_waiting_acknowledgements_along() {
    let mut w = World::new();
    w.sink.journal = true;
    let to = w.client_with("dev-1", &hello("").stored());
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    let from = w.client("dev-2");
    w.send(from, &publish("t/a", b"x", 1, 1));
    w.lose(from);
    w.step(Input::Durable { lsn: 100 });
    assert_eq!(w.seen(from), [""; 0]);
}

#[test]
fn empty_payloads_and_long_ones_travel_whole() {
    let mut w = World::new();
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/#", 1)]));
    let from = w.client("dev-2");
    for length in [0, 1, 120, 121, 122, 123, 16_370, 16_380, 100_000] {
        let payload = "z".repeat(length);
        w.send(from, &publish("t/a", payload.as_bytes(), 0, 0));
        assert_eq!(w.seen(to), [format!("publish t/a={payload}")]);
        w.send(from, &publish("t/a", payload.as_bytes(), 1, 1));
        let seen = w.seen(to);
        assert!(seen[0].ends_with(&format!("t/a={payload}")), "{length}");
        let id = seen[0].split(['#', ' ']).nth(3).unwrap().parse().unwrap();
        w.send(to, &puback(id));
    }
}

#[test]
fn a_topic_deeper_than_the_limit_ends_the_connection() {
    let mut w = World::with(Limits { topic_levels_max: 3, ..Limits::default() });
    let conn = w.client("dev-1");
    w.send(conn, &publish("t/b/c", b"x", 0, 0));
    assert_eq!(w.take_closed(), []);
    w.send(conn, &publish("t/b/c/d", b"x", 0, 0));
    assert_eq!(w.take_closed(), [(conn, Reason::Limit)]);
    assert_eq!(w.last_end(), "conn.limit: topic \"t/b/c/d\" has too many levels");
}

#[test]
fn messages_within_the_rate_pass_and_those_beyond_are_acknowledged_and_dropped() {
    let limits = Limits { device_messages_per_second: 2, device_messages_burst: 3, ..Limits::default() };
    let mut w = World::with(limits);
    let to = w.client("svc");
    w.send(to, &subscribe(1, &[("t/a", 0)]));
    let from = w.client("dev-1");
    for id in 1..=6 {
        assert_eq!(w.send(from, &publish("t/a", b"x", 1, id)), [format!("puback {id}")]);
    }
    assert_eq!(w.seen(to).len(), 3);
    assert_eq!(w.core.stats().rate_dropped, 3);
    assert_eq!(w.limits_told(), [(mqtt::Limit::Rate, 1)]);
    w.later(Duration::from_secs(1));
    for id in 1..=3 {
        w.send(from, &publish("t/a", b"x", 1, id));
    }
    assert_eq!(w.seen(to).len(), 2);
    assert_eq!(w.limits_told(), [(mqtt::Limit::Rate, 1), (mqtt::Limit::Rate, 3)]);
    // A service has a rate of its own, here none.
    for _ in 0..10 {
        w.send(to, &publish("t/a", b"x", 0, 0));
    }
    assert_eq!(w.seen(to).len(), 0, "each send has shown its own");
    assert_eq!(w.core.stats().rate_dropped, 4);
}

#[test]
fn too_many_unreleased_quality_2_messages_end_the_connection() {
    let mut w = World::with(Limits { received_max: 2, ..Limits::default() });
    let conn = w.client("dev-1");
    for id in 1..=2 {
        w.send(conn, &publish("t/a", b"x", 2, id));
    }
    w.send(conn, &again("t/a", b"x", 2, 2));
    assert_eq!(w.take_closed(), []);
    w.send(conn, &publish("t/a", b"x", 2, 3));
    assert_eq!(w.take_closed(), [(conn, Reason::Limit)]);
}

#[test]
fn a_retry_over_a_new_connection_waits_for_what_the_first_waited_for() {
    let mut w = World::new();
    w.sink.journal = true;
    let from = w.client_with("dev-1", &hello("").stored());
    assert_eq!(w.send(from, &publish("t/a", b"x", 2, 7)), [""; 0]);
    let lsn = w.sink.records.len() as u64;
    w.lose(from);
    let from = w.client_with("dev-1", &hello("").stored());
    assert_eq!(w.send(from, &again("t/a", b"x", 2, 7)), [""; 0]);
    w.step(Input::Durable { lsn: lsn - 1 });
    assert_eq!(w.seen(from), [""; 0]);
    w.step(Input::Durable { lsn });
    assert_eq!(w.seen(from), ["pubrec 7"]);
}
