use mqtt::{Input, Limit, Limits};
use types::Reason;

use crate::harness::World;
use crate::packets::{PINGREQ, hello, publish, subscribe};

/// A stored subscriber that is away, and a publisher.
fn asleep(limits: Limits) -> (World, u32) {
    let mut w = World::with(limits);
    let to = w.client_with("dev-1", &hello("").stored());
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    w.lose(to);
    let from = w.client("svc");
    (w, from)
}

#[test]
fn a_full_queue_refuses_the_newest_counts_and_says_so() {
    let (mut w, from) = asleep(Limits { queue_messages_max: 2, ..Limits::default() });
    for (id, payload) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        assert_eq!(w.send(from, &publish("t/a", payload.as_bytes(), 1, id)), [format!("puback {id}")]);
    }
    assert_eq!(w.core.stats().queue_dropped, 2);
    assert_eq!(w.limits_told(), [(Limit::QueueMessages, 1)]);
    let to = w.open("dev-1");
    let answer = w.send(to, &hello("").stored().bytes());
    assert_eq!(answer, ["connack 1 0", "publish q1 #1 t/a=a", "publish q1 #2 t/a=b"]);
}

#[test]
fn bytes_in_a_queue_have_a_limit() {
    let (mut w, from) = asleep(Limits { queue_bytes_max: 100, ..Limits::default() });
    w.send(from, &publish("t/a", &[b'x'; 80], 1, 1));
    w.send(from, &publish("t/a", &[b'x'; 80], 1, 2));
    w.send(from, &publish("t/a", b"s", 1, 3));
    assert_eq!(w.core.stats().queued_messages, 2);
    assert_eq!(w.limits_told(), [(Limit::QueueBytes, 1)]);
}

#[test]
fn bytes_in_all_queues_have_a_limit() {
    let (mut w, from) = asleep(Limits { queue_bytes_total_max: 150, ..Limits::default() });
    let other = w.client_with("dev-2", &hello("").stored());
    w.send(other, &subscribe(1, &[("t/a", 1)]));
    w.lose(other);
    w.send(from, &publish("t/a", &[b'x'; 80], 1, 1));
    assert_eq!((w.core.stats().queued_messages, w.core.stats().queue_dropped), (1, 1));
    assert_eq!(w.limits_told(), [(Limit::QueueBytesTotal, 1)]);
}

#[test]
fn a_client_that_does_not_read_loses_quality_0_and_keeps_quality_1_in_its_queue() {
    let mut w = World::with(Limits { output_bytes_max: 100, ..Limits::default() });
    let to = w.client("dev-1");
    w.send(to, &subscribe(1, &[("t/a", 1)]));
    w.sink.deaf.insert(to);
    let from = w.client("svc");
    for _ in 0..10 {
        w.send(from, &publish("t/a", &[b'x'; 30], 0, 0));
    }
    assert_eq!(w.core.stats().output_dropped, 7);
    assert_eq!(w.limits_told(), [(Limit::Output, 1)]);
    assert_eq!(w.seen(to).len(), 3);
    w.send(from, &publish("t/a", b"waits", 1, 1));
    assert_eq!(w.seen(to), [""; 0]);
    assert_eq!((w.core.stats().queued_messages, w.core.stats().output_bytes), (1, 111));
    w.sink.waiting.insert(to, 0);
    w.step(Input::Drained { conn: to });
    assert_eq!(w.seen(to), ["publish q1 #1 t/a=waits"]);
    assert_eq!((w.core.stats().queued_messages, w.core.stats().output_bytes), (0, 14));
    w.send(from, &publish("t/a", b"live", 0, 0));
    assert_eq!(w.seen(to), ["publish t/a=live"]);
    assert_eq!(w.take_closed(), []);
}

#[test]
fn bytes_for_all_sockets_have_a_limit() {
    let mut w = World::with(Limits { output_bytes_total_max: 100, ..Limits::default() });
    let slow = [w.client("dev-1"), w.client("dev-2"), w.client("dev-3")];
    for conn in slow {
        w.send(conn, &subscribe(1, &[("t/a", 0)]));
        w.sink.deaf.insert(conn);
    }
    let from = w.client("svc");
    w.send(from, &publish("t/a", &[b'x'; 40], 0, 0));
    w.send(from, &publish("t/a", &[b'x'; 40], 0, 0));
    assert_eq!(w.core.stats().output_dropped, 3);
    assert_eq!(w.limits_told(), [(Limit::OutputTotal, 1); 3]);
    w.lose(slow[0]);
    w.lose(slow[1]);
    w.send(from, &publish("t/a", &[b'x'; 40], 0, 0));
    assert_eq!(w.core.stats().output_dropped, 3);
}

#[test]
fn a_client_that_asks_and_never_reads_is_closed() {
    let mut w = World::with(Limits { output_bytes_max: 10, ..Limits::default() });
    let conn = w.client("dev-1");
    w.sink.deaf.insert(conn);
    for _ in 0..10 {
        w.send(conn, &PINGREQ);
    }
    assert_eq!(w.take_closed(), []);
    w.send(conn, &PINGREQ);
    assert_eq!(w.take_closed(), [(conn, Reason::SlowConsumer)]);
    assert_eq!((w.core.stats().connections, w.core.stats().output_bytes), (0, 0));
}

#[test]
fn one_read_full_of_questions_does_not_outrun_the_limit_by_more_than_its_answers() {
    let mut w = World::with(Limits { output_bytes_max: 10, ..Limits::default() });
    let conn = w.client("dev-1");
    w.sink.deaf.insert(conn);
    w.send(conn, &PINGREQ.repeat(100));
    assert_eq!(w.take_closed(), [(conn, Reason::SlowConsumer)]);
}

#[test]
fn a_packet_beyond_the_limit_ends_the_connection_before_it_has_come() {
    let mut w = World::with(Limits { packet_bytes_max: 100, ..Limits::default() });
    let conn = w.client("dev-1");
    // 2 header bytes, 2 of length, 3 of topic: 93 bytes of payload are exactly 100.
    assert_eq!(w.send(conn, &publish("t/a", &[b'x'; 93], 0, 0)), [""; 0]);
    assert_eq!(w.take_closed(), []);
    w.send(conn, &[0x30, 99]);
    assert_eq!(w.take_closed(), [(conn, Reason::Limit)]);
    assert_eq!(w.last_end(), "conn.limit: packet of 101 bytes; limit 100");
}

#[test]
fn new_limits_hold_for_what_comes_from_then_on() {
    let mut w = World::with(Limits { packet_bytes_max: 100, ..Limits::default() });
    let (small, large) = (w.client("dev-1"), w.client("dev-2"));
    w.step(Input::Limits(Box::new(Limits { packet_bytes_max: 101, ..Limits::default() })));
    assert_eq!(w.send(small, &publish("t/a", &[b'x'; 94], 0, 0)), [""; 0]);
    assert_eq!(w.take_closed(), []);
    w.send(large, &[0x30, 100]);
    assert_eq!(w.last_end(), "conn.limit: packet of 102 bytes; limit 101");
    assert_eq!(w.take_closed(), [(large, Reason::Limit)]);
}

#[test]
fn the_defaults_are_those_of_the_documents() {
    let limits = Limits::default();
    assert_eq!(limits.packet_bytes_max, 262_144);
    assert_eq!((limits.inflight_max, limits.received_max), (20, 100));
    assert_eq!((limits.queue_messages_max, limits.queue_bytes_max), (1_000, 4_194_304));
    assert_eq!((limits.subscriptions_max, limits.topic_levels_max), (100, 32));
    assert_eq!((limits.connections_per_identity_max, limits.sessions_per_identity_max), (4, 8));
}
