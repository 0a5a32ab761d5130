use proptest::prelude::*;
use types::Reason;

use crate::harness::World;
use crate::packets::{
    PINGREQ, again, hello, packet, puback, publish, pubrel, retain, subscribe, unsubscribe,
};

#[test]
fn malformed_packets_end_the_connection_with_their_reason() {
    let topic = [0, 3, b't', b'/', b'a'];
    let with_topic = |rest: &[u8]| [&topic[..], rest].concat();
    for (bytes, detail) in [
        (packet(0x36, &with_topic(&[0, 1])), "PUBLISH: quality of service 3"),
        (packet(0x38, &topic), "PUBLISH: DUP set with QoS 0"),
        (packet(0x30, &[0]), "PUBLISH: no topic"),
        (packet(0x30, &[0, 5, b't']), "PUBLISH: topic cut short"),
        (packet(0x30, &[0, 2, 0xff, 0xfe]), "PUBLISH: topic is not UTF-8"),
        (packet(0x30, &[0, 0]), "PUBLISH: topic is empty; at least one character is needed"),
        (
            packet(0x30, &[0, 3, b't', b'/', b'+']),
            "PUBLISH: topic \"t/+\": wildcard at byte 2; wildcards are for filters",
        ),
        (packet(0x30, &[0, 2, b't', 0]), "PUBLISH: topic \"t\\u{0}\": control character at byte 1"),
        (packet(0x32, &topic), "PUBLISH: no packet id"),
        (packet(0x32, &with_topic(&[0, 0])), "PUBLISH: packet id 0"),
        (packet(0x40, &[0]), "PUBACK: not two bytes long"),
        (packet(0x40, &[0, 1, 0]), "PUBACK: not two bytes long"),
        (packet(0x40, &[0, 0]), "PUBACK: packet id 0"),
        (packet(0x41, &[0, 1]), "PUBACK with flag bits 0b0001"),
        (packet(0x60, &[0, 1]), "PUBREL with flag bits 0b0000"),
        (packet(0x80, &[0, 1, 0, 1, b't', 0]), "SUBSCRIBE with flag bits 0b0000"),
        (packet(0x82, &[0]), "SUBSCRIBE: not filters and qualities, one or more"),
        (packet(0xa0, &[0, 1, 0, 1, b't']), "UNSUBSCRIBE with flag bits 0b0000"),
        (packet(0xa2, &[0, 1]), "UNSUBSCRIBE: not filters, one or more"),
        (packet(0xa2, &[0, 0, 0, 1, b't']), "UNSUBSCRIBE: packet id 0"),
        (packet(0xc0, &[0]), "PINGREQ: has a body"),
        (packet(0xc1, &[]), "PINGREQ with flag bits 0b0001"),
        (packet(0xe0, &[0]), "DISCONNECT: has a body"),
        (packet(0xe1, &[]), "DISCONNECT with flag bits 0b0001"),
        (packet(0x00, &[]), "packet type 0 is not a client's to send"),
        (packet(0x20, &[0, 0]), "packet type 2 is not a client's to send"),
        (packet(0x90, &[0, 1, 0]), "packet type 9 is not a client's to send"),
        (packet(0xb0, &[0, 1]), "packet type 11 is not a client's to send"),
        (packet(0xd0, &[]), "packet type 13 is not a client's to send"),
        (packet(0xf0, &[]), "packet type 15 is not a client's to send"),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff], "remaining length of more than four bytes"),
    ] {
        let mut w = World::new();
        let conn = w.client("dev-1");
        assert_eq!(w.send(conn, &bytes), [""; 0]);
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)], "{detail}");
        assert_eq!(w.last_end(), format!("mqtt.protocol: {detail}"));
        assert_eq!(w.send(conn, &PINGREQ), [""; 0], "nothing after the end");
    }
}

#[test]
fn malformed_connects_end_the_connection() {
    let connect =
        |flags: u8, fields: &[u8]| packet(0x10, &[&b"\0\x04MQTT\x04"[..], &[flags, 0, 60], fields].concat());
    for (bytes, detail) in [
        (connect(0x03, b"\0\x01a"), "CONNECT: reserved connect flag set"),
        (connect(0x0a, b"\0\x01a"), "CONNECT: will QoS or retain without a will"),
        (connect(0x22, b"\0\x01a"), "CONNECT: will QoS or retain without a will"),
        (connect(0x1e, b"\0\x01a\0\x01t\0\x01x"), "CONNECT: will QoS 3"),
        (connect(0x42, b"\0\x01a\0\x01p"), "CONNECT: password without user name"),
        (connect(0x02, b"\0\x05a"), "CONNECT: a field is cut short or not UTF-8"),
        (connect(0x02, b"\0\x01\xff"), "CONNECT: a field is cut short or not UTF-8"),
        (connect(0x06, b"\0\x01a\0\x01t"), "CONNECT: a field is cut short or not UTF-8"),
        (connect(0x82, b"\0\x01a"), "CONNECT: a field is cut short or not UTF-8"),
        (connect(0x02, b"\0\x01ab"), "CONNECT: bytes after the last field"),
        (connect(0x02, b"\0\x02a\0"), "CONNECT: NUL in a string"),
        (
            connect(0x06, b"\0\x01a\0\x01#\0\x01x"),
            "CONNECT: topic \"#\": wildcard at byte 0; wildcards are for filters",
        ),
        (packet(0x10, b"\0\x04MQTT"), "CONNECT: cut short"),
        (packet(0x10, b"\0\x04MQTT\x04"), "CONNECT: cut short"),
        (packet(0x10, b"\0\x04MQTX\x04\x02\0\0\0\x01a"), "CONNECT: unknown protocol name"),
        (packet(0x10, b"\0\x06MQIsdp\x04\x02\0\0\0\x01a"), "CONNECT: unknown protocol name"),
        (packet(0x10, b"\0\x04MQTT\x03\x02\0\0\0\x01a"), "CONNECT: unknown protocol name"),
        (packet(0x11, b"\0\x04MQTT\x04\x02\0\0\0\x01a"), "CONNECT with flag bits 0b0001"),
        (packet(0x10, b""), "CONNECT: unknown protocol name"),
    ] {
        let mut w = World::new();
        let conn = w.open("dev-1");
        assert_eq!(w.send(conn, &bytes), [""; 0], "{detail}");
        assert_eq!(w.take_closed(), [(conn, Reason::Protocol)], "{detail}");
        assert_eq!(w.last_end(), format!("mqtt.protocol: {detail}"));
    }
}

/// A whole life of one client, every packet that it may send.
fn life() -> Vec<u8> {
    let mut connect = hello("c").stored().will("t/will", "gone", 1, true);
    connect.user = Some(("u".to_owned(), Some(b"p".to_vec())));
    [
        connect.bytes(),
        subscribe(1, &[("t/#", 1), ("t/+/b", 0)]),
        publish("t/a", b"{\"seq\":1}", 0, 0),
        publish("t/a", b"{\"seq\":2}", 1, 2),
        puback(1),
        retain("t/b", b"kept", 1, 3),
        publish("t/a", &[7; 200], 2, 4),
        again("t/a", &[7; 200], 2, 4),
        pubrel(4),
        unsubscribe(5, &["t/+/b"]),
        PINGREQ.to_vec(),
    ]
    .concat()
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), connected in any::<bool>()) {
        let mut w = World::new();
        let conn = if connected { w.client("dev-1") } else { w.open("dev-1") };
        w.send(conn, &bytes);
        w.lose(conn);
        prop_assert_eq!(w.core.stats().connections, 0);
    }

    #[test]
    fn a_life_with_flipped_bits_never_panics_and_leaves_nothing_behind(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut bytes = life();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut w = World::new();
        let conn = w.open("dev-1");
        let mut from = 0;
        for end in ends {
            w.send(conn, &bytes[from..end]);
            from = end;
        }
        w.lose(conn);
        let clean = w.open("dev-1");
        w.send(clean, &hello("c").bytes());
        w.lose(clean);
        let stats = w.core.stats();
        prop_assert_eq!((stats.connections, stats.output_bytes), (0, 0));
        let bug = w.sink.notes.iter().any(|note| matches!(note, mqtt::Note::Bug { .. }));
        prop_assert!(!bug);
    }

    #[test]
    fn a_life_in_any_pieces_has_the_same_answers(cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let bytes = life();
        let mut whole = World::new();
        let conn = whole.open("dev-1");
        let expected = whole.send(conn, &bytes);
        prop_assert_eq!(whole.take_closed(), []);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut w = World::new();
        let conn = w.open("dev-1");
        let (mut from, mut got) = (0, Vec::new());
        for end in ends {
            got.extend(w.send(conn, &bytes[from..end]));
            from = end;
        }
        prop_assert_eq!(got, expected);
    }
}
