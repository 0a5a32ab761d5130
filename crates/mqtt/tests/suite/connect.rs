use std::time::Duration;

use mqtt::{Input, Note};
use types::{Mono, Reason};

use crate::harness::World;
use crate::packets::{DISCONNECT, PINGREQ, hello, packet, publish, subscribe};

#[test]
fn a_connect_is_answered_first_and_noted() {
    let mut w = World::new();
    let conn = w.open("dev-1");
    assert_eq!(w.send(conn, &hello("mine").bytes()), ["connack 0 0"]);
    let Some(Note::Connected { conn: noted, who, client_id, clean, resumed }) = w.sink.notes.last() else {
        panic!("no note");
    };
    assert_eq!((*noted, who.principal().name.as_str(), &**client_id), (conn, "dev-1", "mine"));
    assert_eq!((*clean, *resumed), (true, false));
    assert_eq!(w.core.stats().connections, 1);
}

#[test]
fn an_empty_client_id_is_the_device_id_clean_or_stored() {
    for connect in [hello(""), hello("").stored()] {
        let mut w = World::new();
        w.client_with("dev-1", &connect);
        assert!(
            matches!(w.sink.notes.last(), Some(Note::Connected { client_id, .. }) if &**client_id == "dev-1")
        );
    }
}

#[test]
fn user_name_and_password_are_read_over() {
    let mut w = World::new();
    let mut connect = hello("x");
    connect.user = Some(("svc".to_owned(), Some(b"secret".to_vec())));
    let conn = w.open("dev-1");
    assert_eq!(w.send(conn, &connect.bytes()), ["connack 0 0"]);
    assert!(matches!(w.sink.notes.last(),
        Some(Note::Connected { who, .. }) if who.principal().name.as_str() == "dev-1"));
    // The rules of the certificate's name hold, not those of the user name.
    w.send(conn, &subscribe(1, &[("#", 0)]));
    assert_eq!(w.refusals().len(), 1);
}

#[test]
fn level_5_gets_a_connack_of_mqtt_5_and_the_close() {
    let mut w = World::new();
    let conn = w.open("dev-1");
    assert_eq!(w.send(conn, &packet(0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a")), ["connack 0 132"]);
    assert_eq!(w.take_closed(), [(conn, Reason::Protocol)]);
    assert_eq!(w.last_end(), "mqtt.protocol: protocol level 5; spoken: 4 (MQTT 3.1.1)");
    assert!(w.sink.notes.iter().any(|note| matches!(note, Note::ConnectRefused { return_code: 0x84, .. })));
}

#[test]
fn the_connack_of_mqtt_5_is_whole() {
    let mut w = World::new();
    let conn = w.open("dev-1");
    let mut buffer = bytes::BytesMut::from(&packet(0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a")[..]);
    w.step(Input::Bytes { conn, buffer: &mut buffer });
    assert_eq!(w.sink.out[&conn], [0x20, 3, 0, 0x84, 0]);
}

#[test]
fn other_levels_get_return_code_1_and_the_close() {
    for body in [&b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a"[..], b"\0\x04MQTT\x06\x02\0\x3c\0\x01a"] {
        let mut w = World::new();
        let conn = w.open("dev-1");
        assert_eq!(w.send(conn, &packet(0x10, body)), ["connack 0 1"]);
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)]);
    }
}

#[test]
fn nothing_but_a_connect_comes_first_and_none_comes_second() {
    for first in
        [PINGREQ.to_vec(), publish("t/1", b"x", 0, 0), subscribe(1, &[("t/1", 0)]), DISCONNECT.to_vec()]
    {
        let mut w = World::new();
        let conn = w.open("dev-1");
        assert_eq!(w.send(conn, &first), [""; 0]);
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)]);
        assert_eq!(w.last_end(), "mqtt.protocol: a packet came before CONNECT");
    }
    let mut w = World::new();
    let conn = w.client("dev-1");
    assert_eq!(w.send(conn, &hello("").bytes()), [""; 0]);
    assert_eq!(w.take_closed(), [(conn, Reason::Protocol)]);
    assert_eq!(w.last_end(), "mqtt.protocol: CONNECT came a second time");
}

#[test]
fn packets_of_one_read_are_stepped_in_order_and_a_rest_is_left() {
    let mut w = World::new();
    let conn = w.open("dev-1");
    let mut bytes = hello("").bytes();
    bytes.extend(subscribe(1, &[("t/#", 1)]));
    bytes.extend(publish("t/1", b"one", 1, 9));
    let last = bytes.split_off(bytes.len() - 3);
    assert_eq!(w.send(conn, &bytes), ["connack 0 0", "suback 1 [01]"]);
    assert_eq!(w.send(conn, &last), ["publish q1 #1 t/1=one", "puback 9"]);
}

#[test]
fn a_client_that_sends_no_connect_is_closed_in_time() {
    let mut w = World::new();
    let conn = w.open("dev-1");
    assert_eq!(w.core.next_deadline(), Some(w.now.mono.plus(Duration::from_secs(10))));
    w.send(conn, &hello("").bytes()[..5]);
    w.later(Duration::from_secs(10));
    assert_eq!(w.take_closed(), [(conn, Reason::Timeout)]);
    assert_eq!(w.core.stats().connections, 0);
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").keep_alive(10));
    w.later(Duration::from_millis(14_999));
    assert_eq!(w.take_closed(), []);
    assert_eq!(w.send(conn, &PINGREQ), ["pingresp"]);
    w.later(Duration::from_millis(14_999));
    assert_eq!(w.take_closed(), []);
    w.later(Duration::from_millis(1));
    assert_eq!(w.take_closed(), [(conn, Reason::KeepAlive)]);
}

#[test]
fn half_a_packet_does_not_count_as_heard() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").keep_alive(10));
    w.later(Duration::from_secs(14));
    w.send(conn, &publish("t/1", b"x", 0, 0)[..4]);
    w.later(Duration::from_secs(1));
    assert_eq!(w.take_closed(), [(conn, Reason::KeepAlive)]);
}

#[test]
fn a_keep_alive_beyond_the_servers_and_none_at_all_count_as_the_servers() {
    for asked in [0, 100] {
        let mut w = World::with(mqtt::Limits { keep_alive_secs_max: 20, ..mqtt::Limits::default() });
        let conn = w.client_with("dev-1", &hello("").keep_alive(asked));
        w.later(Duration::from_millis(29_999));
        assert_eq!(w.take_closed(), []);
        w.later(Duration::from_millis(1));
        assert_eq!(w.take_closed(), [(conn, Reason::KeepAlive)]);
    }
}

#[test]
fn deadlines_wait_for_nobody_who_is_gone() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").keep_alive(10));
    w.send(conn, &DISCONNECT);
    w.later(Duration::from_secs(100));
    assert_eq!(w.core.next_deadline(), None::<Mono>);
    assert_eq!(w.take_closed(), [(conn, Reason::ClientClosed)]);
}

#[test]
fn a_client_id_too_long_or_unprintable_is_rejected() {
    for id in ["x".repeat(257), "a\tb".to_owned()] {
        let mut w = World::new();
        let conn = w.open("dev-1");
        assert_eq!(w.send(conn, &hello(&id).bytes()), ["connack 0 2"]);
        assert_eq!(w.take_closed(), [(conn, Reason::Limit)]);
        assert_eq!(w.core.stats().sessions, 0);
    }
    let mut w = World::new();
    w.client_with("dev-1", &hello(&"x".repeat(256)));
}

#[test]
fn a_number_used_again_ends_the_connection_that_had_it() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").will("t/will", "gone", 0, false));
    let watcher = w.client("dev-2");
    w.send(watcher, &subscribe(1, &[("t/will", 0)]));
    let peer = w.peer("dev-3");
    w.step(Input::Opened { conn, peer, serial_no: 77 });
    assert_eq!(w.seen(watcher), ["publish t/will=gone"]);
    assert_eq!(w.send(conn, &hello("").bytes()), ["connack 0 0"]);
}

#[test]
fn after_the_drain_nobody_is_let_in() {
    let mut w = World::new();
    let conn = w.client("dev-1");
    w.step(Input::Drain);
    assert_eq!(w.take_closed(), [(conn, Reason::ServerStops)]);
    let late = w.open("dev-2");
    assert_eq!(w.take_closed(), [(late, Reason::ServerStops)]);
    assert_eq!(w.core.stats().connections, 0);
}

#[test]
fn reconnecting_often_leaves_few_timers() {
    let mut w = World::new();
    for _ in 0..5_000 {
        let conn = w.client_with("dev-1", &hello("").keep_alive(0));
        w.lose(conn);
    }
    let conn = w.client_with("dev-1", &hello("").keep_alive(10));
    let mut fired = 0;
    while w.core.next_deadline().is_some() && w.core.stats().connections > 0 {
        w.now.mono = w.core.next_deadline().unwrap();
        w.step(Input::Tick);
        fired += 1;
    }
    assert_eq!(w.take_closed(), [(conn, Reason::KeepAlive)]);
    assert!(fired < 600, "{fired}");
}
