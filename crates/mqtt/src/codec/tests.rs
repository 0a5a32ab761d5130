use mqtt_protocol_core::mqtt::packet::{Qos, SubEntry, SubOpts, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;
use proptest::prelude::*;
use types::{QoS, Topic, TopicBuf, TopicFilter, hex, unhex};

use super::*;

/// One table for what clients send: the bytes and what they mean.
fn table() -> Vec<(&'static str, Incoming<'static>)> {
    let topic = |text: &'static str| Topic::parse(text).unwrap();
    let filter = |text: &str, qos| (Ok(TopicFilter::parse(text).unwrap()), qos);
    vec![
        (
            "100d00044d5154540402003c000161",
            Incoming::Connect(ConnectPacket {
                client_id: "a".into(),
                clean: true,
                keep_alive: 60,
                will: None,
            }),
        ),
        (
            "101a00044d51545404f400000000000177000178000175000370773a",
            Incoming::Connect(ConnectPacket {
                client_id: String::new(),
                clean: false,
                keep_alive: 0,
                will: Some(WillPacket {
                    topic: TopicBuf::parse("w").unwrap(),
                    payload: bytes::Bytes::from_static(b"x"),
                    qos: QoS::ExactlyOnce,
                    retain: true,
                }),
            }),
        ),
        (
            "3008000474656d703231",
            Incoming::Publish(PublishPacket {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: topic("temp"),
                id: 0,
                payload: b"21",
            }),
        ),
        (
            "3b050001740102",
            Incoming::Publish(PublishPacket {
                dup: true,
                qos: QoS::AtLeastOnce,
                retain: true,
                topic: topic("t"),
                id: 0x0102,
                payload: b"",
            }),
        ),
        (
            "3406000174ffff7a",
            Incoming::Publish(PublishPacket {
                dup: false,
                qos: QoS::ExactlyOnce,
                retain: false,
                topic: topic("t"),
                id: u16::MAX,
                payload: b"z",
            }),
        ),
        ("40020001", Incoming::Puback(1)),
        ("50021234", Incoming::Pubrec(0x1234)),
        ("62020a00", Incoming::Pubrel(0x0a00)),
        ("7002ffff", Incoming::Pubcomp(u16::MAX)),
        (
            "820c00070001230000032b2f6102",
            Incoming::Subscribe(SubscribePacket {
                id: 7,
                entries: vec![filter("#", QoS::AtMostOnce), filter("+/a", QoS::ExactlyOnce)],
            }),
        ),
        (
            "a20900080001610002622f",
            Incoming::Unsubscribe(UnsubscribePacket {
                id: 8,
                filters: ["a", "b/"].map(|text| TopicFilter::parse(text).unwrap()).to_vec(),
            }),
        ),
        ("c000", Incoming::Pingreq),
        ("e000", Incoming::Disconnect),
    ]
}

/// The lengths in the table's two long rows are right by construction.
fn row_bytes(row: &str) -> Vec<u8> {
    let mut bytes = unhex(row).unwrap();
    bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
    bytes
}

#[test]
fn every_row_of_the_table_is_decoded_as_it_says() {
    for (row, packet) in table() {
        let bytes = row_bytes(row);
        let frame = next_frame(&bytes, 1_000).unwrap().unwrap();
        assert_eq!(frame.len, bytes.len());
        assert_eq!(decode(&frame).unwrap_or_else(|error| panic!("{row}: {error}")), packet, "{row}");
    }
}

#[test]
fn every_row_cut_anywhere_waits_for_the_rest() {
    for (row, _) in table() {
        let bytes = row_bytes(row);
        for end in 0..bytes.len() {
            assert_eq!(next_frame(&bytes[..end], 1_000), Ok(None), "{row} {end}");
        }
    }
}

#[test]
fn every_row_with_any_bit_flipped_is_decoded_or_refused() {
    let mut refused = 0;
    for (row, _) in table() {
        for bit in 0..row.len() * 4 {
            let mut bytes = row_bytes(row);
            bytes[bit / 8] ^= 1 << (bit % 8);
            match next_frame(&bytes, 1_000) {
                Ok(Some(frame)) => refused += usize::from(decode(&frame).is_err()),
                Ok(None) | Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn what_we_send_has_these_bytes() {
    let mut out = Vec::new();
    assert_eq!(encode_publish(&mut out, "a/b", b"xy", false, false), None);
    assert_eq!(hex(&out), "30070003612f627879");
    assert_eq!(encode_publish(&mut out, "a/b", b"xy", true, true), Some(7));
    assert_eq!(hex(&out), "33090003612f6200007879");
    for (bytes, text) in [
        (puback(0x1234).to_vec(), "40021234"),
        (pubrec(1).to_vec(), "50020001"),
        (pubcomp(1).to_vec(), "70020001"),
        (unsuback(0xff00).to_vec(), "b002ff00"),
        (pingresp().to_vec(), "d000"),
        (connack(false, ConnectReturnCode::Accepted), "20020000"),
        (connack(true, ConnectReturnCode::Accepted), "20020100"),
        (connack(false, ConnectReturnCode::NotAuthorized), "20020005"),
        (connack_v5_unsupported(), "2003008400"),
        (
            suback(1, &[Some(QoS::AtMostOnce), None, Some(QoS::AtLeastOnce), Some(QoS::ExactlyOnce)]),
            "9006000100800102",
        ),
    ] {
        assert_eq!(hex(&bytes), text);
    }
}

#[test]
fn the_length_is_written_in_as_few_bytes_as_it_takes() {
    for (payload, head) in
        [(123, "307e"), (124, "307f"), (125, "308001"), (16_380, "30ff7f"), (16_381, "30808001")]
    {
        let mut out = Vec::new();
        encode_publish(&mut out, "t", &vec![0; payload], false, false);
        assert_eq!(hex(&out[..head.len() / 2]), head);
        let frame = next_frame(&out, usize::MAX).unwrap().unwrap();
        assert_eq!((frame.len, frame.body.len()), (out.len(), payload + 3));
    }
}

#[test]
fn the_limit_counts_the_whole_packet() {
    let bytes = row_bytes("3008000474656d703231");
    assert!(next_frame(&bytes, 10).is_ok());
    assert_eq!(next_frame(&bytes[..2], 9), Err(MqttError::TooLarge { bytes: 10, limit: 9 }));
    assert_eq!(
        next_frame(&[0x30, 0xff, 0xff, 0xff, 0x7f], 1_000).map_err(|error| error.code()),
        Err("mqtt.too_large")
    );
    assert_eq!(next_frame(&[0x30, 0xff, 0xff, 0xff], 1_000), Ok(None));
    assert_eq!(next_frame(&[0x30, 0x80, 0x80, 0x80, 0x80], 1_000), Err(MqttError::BadLength));
}

fn wire(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

proptest! {
    /// Any flags and any body: what one refuses the other refuses, but for what is stricter in ours.
    #[test]
    fn our_publish_reads_what_the_crate_reads(
        flags in 0_u8..16,
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            ("[a-c/+#$é]{0,6}", proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(topic, rest)| {
                let mut body = (topic.len() as u16).to_be_bytes().to_vec();
                body.extend_from_slice(topic.as_bytes());
                body.extend(rest);
                body
            }),
        ],
    ) {
        let ours = PublishPacket::decode(0x30 | flags, &body);
        let theirs = v3_1_1::Publish::parse(flags, body.as_slice().into());
        match (ours, theirs) {
            (Ok(ours), Ok((theirs, used))) => {
                prop_assert_eq!(used, body.len());
                prop_assert_eq!(ours.topic.as_str(), theirs.topic_name());
                prop_assert_eq!(ours.id, theirs.packet_id().unwrap_or(0));
                prop_assert_eq!(ours.payload, theirs.payload().as_slice());
                prop_assert_eq!((ours.dup, ours.retain), (theirs.dup(), theirs.retain()));
                prop_assert_eq!(wire(ours.qos), theirs.qos());
            }
            (Ok(_), Err(error)) => prop_assert!(false, "only ours reads it: {:?}", error),
            (Err(error), Ok((theirs, _))) => {
                let topic = Topic::parse(theirs.topic_name()).is_err();
                let id = theirs.packet_id() == Some(0);
                let dup = theirs.dup() && theirs.qos() == Qos::AtMostOnce;
                prop_assert!(topic || id || dup, "only the crate reads it: {}", error);
            }
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn our_publish_writes_what_the_crate_writes(
        topic in "[a-z]{1,5}(/[a-z]{0,3}){0,3}",
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        with_id: bool,
        retain: bool,
        id in 1_u16..,
    ) {
        let mut ours = Vec::new();
        let id_at = encode_publish(&mut ours, &topic, &payload, with_id, retain);
        if let Some(at) = id_at {
            ours[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        let builder = v3_1_1::Publish::builder().topic_name(topic.as_str()).unwrap().payload(payload).retain(retain);
        let theirs = if with_id { builder.qos(Qos::AtLeastOnce).packet_id(id) } else { builder.qos(Qos::AtMostOnce) };
        prop_assert_eq!(ours, theirs.build().unwrap().to_continuous_buffer());
    }

    #[test]
    fn our_acknowledgements_are_the_crates(id in 1_u16..) {
        prop_assert_eq!(
            puback(id).to_vec(),
            v3_1_1::Puback::builder().packet_id(id).build().unwrap().to_continuous_buffer()
        );
        prop_assert_eq!(
            pubrec(id).to_vec(),
            v3_1_1::Pubrec::builder().packet_id(id).build().unwrap().to_continuous_buffer()
        );
        prop_assert_eq!(
            pubcomp(id).to_vec(),
            v3_1_1::Pubcomp::builder().packet_id(id).build().unwrap().to_continuous_buffer()
        );
        prop_assert_eq!(
            unsuback(id).to_vec(),
            v3_1_1::Unsuback::builder().packet_id(id).build().unwrap().to_continuous_buffer()
        );
    }

    #[test]
    fn acknowledgements_that_the_crate_writes_are_read(id in 1_u16..) {
        let rows = [
            (v3_1_1::Puback::builder().packet_id(id).build().unwrap().to_continuous_buffer(), Incoming::Puback(id)),
            (v3_1_1::Pubrec::builder().packet_id(id).build().unwrap().to_continuous_buffer(), Incoming::Pubrec(id)),
            (v3_1_1::Pubrel::builder().packet_id(id).build().unwrap().to_continuous_buffer(), Incoming::Pubrel(id)),
            (v3_1_1::Pubcomp::builder().packet_id(id).build().unwrap().to_continuous_buffer(), Incoming::Pubcomp(id)),
        ];
        for (bytes, packet) in rows {
            let frame = next_frame(&bytes, 100).unwrap().unwrap();
            prop_assert_eq!(decode(&frame), Ok(packet));
        }
    }

    #[test]
    fn subscriptions_that_the_crate_writes_are_read(
        id in 1_u16..,
        entries in proptest::collection::vec(("[a-z]{1,4}(/[a-z]{0,3}){0,3}", qos()), 1..5),
    ) {
        let built = v3_1_1::Subscribe::builder()
            .packet_id(id)
            .entries(
                entries
                    .iter()
                    .map(|(filter, qos)| SubEntry::new(filter, SubOpts::new().set_qos(wire(*qos))).unwrap())
                    .collect::<Vec<_>>(),
            )
            .build()
            .unwrap();
        let bytes = built.to_continuous_buffer();
        prop_assert_eq!(built.size(), bytes.len());
        let frame = next_frame(&bytes, 1_000).unwrap().unwrap();
        let wanted = entries.iter().map(|(filter, qos)| (Ok(TopicFilter::parse(filter).unwrap()), *qos)).collect();
        prop_assert_eq!(decode(&frame), Ok(Incoming::Subscribe(SubscribePacket { id, entries: wanted })));
    }

    #[test]
    fn connects_that_the_crate_writes_are_read(
        client_id in "[a-zA-Z0-9]{1,30}",
        clean: bool,
        keep_alive: u16,
        will in proptest::option::of(("[a-z]{1,5}", proptest::collection::vec(any::<u8>(), 0..20), qos(), any::<bool>())),
        user in proptest::option::of("[a-z]{0,5}"),
    ) {
        let mut builder =
            v3_1_1::Connect::builder().client_id(&client_id).unwrap().clean_session(clean).keep_alive(keep_alive);
        if let Some((topic, payload, qos, retain)) = &will {
            builder = builder.will_message(topic, payload.clone(), wire(*qos), *retain).unwrap();
        }
        if let Some(user) = &user {
            builder = builder.user_name(user).unwrap();
        }
        let bytes = builder.build().unwrap().to_continuous_buffer();
        let frame = next_frame(&bytes, 1_000).unwrap().unwrap();
        let will = will.map(|(topic, payload, qos, retain)| WillPacket {
            topic: TopicBuf::parse(&topic).unwrap(),
            payload: payload.into(),
            qos,
            retain,
        });
        prop_assert_eq!(decode(&frame), Ok(Incoming::Connect(ConnectPacket { client_id, clean, keep_alive, will })));
    }

    #[test]
    fn no_frame_panics(first: u8, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let frame = Frame { first, body: &body, len: body.len() + 2 };
        let _ = decode(&frame);
    }
}
