//! Flow C over real TLS: messages between connections of different shards, wills, slow readers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a step of a test that fails has to fail the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use audit::Event;
use common::{Client, DEADLINE, House, Tls, connect_packet, publish_packet, table, tcp_with_small_buffers};
use guard::{Mode, OnMissing, ReplayRule, ReplayTable, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::TopicFilter;

#[tokio::test]
async fn messages_pass_between_the_shards_in_order() {
    let house = House::open().await;
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    assert_eq!(reader.subscribe("devices/#", 1).await, 1);
    // Six identities do not all fall on one shard of two; the reader's flight holds 20 messages.
    for number in 0..6 {
        let name = format!("pump-{number}");
        let leaf = house.device(&name).await;
        let mut client = house.connect(&leaf, &name).await;
        let topic = format!("devices/{name}/telemetry");
        for round in 0..3_u8 {
            client.publish_acked(&topic, &[round]).await;
        }
        client.publish(&topic, b"qos 0").await;
        for round in 0..3_u8 {
            assert_eq!(reader.next().await.unwrap().message(), (topic.clone(), vec![round]));
        }
        assert_eq!(reader.next().await.unwrap().message(), (topic, b"qos 0".to_vec()));
    }
}

#[tokio::test]
async fn a_burst_reaches_every_subscriber_whole() {
    const BURST: usize = 200;
    let house = House::open().await;
    let backend = house.service("backend").await;
    let mut readers = Vec::new();
    for number in 0..6 {
        let leaf = house.device(&format!("pump-{number}")).await;
        let mut client = house.connect(&leaf, "r").await;
        client.subscribe("broadcast/#", 0).await;
        readers.push(client);
    }
    let mut writer = house.connect(&backend, "w").await;
    let mut burst = bytes::BytesMut::new();
    for number in 0..BURST {
        burst.extend_from_slice(&publish_packet("broadcast/all", number.to_string().as_bytes(), None));
    }
    writer.send(&burst).await.unwrap();
    for reader in &mut readers {
        for number in 0..BURST {
            assert_eq!(reader.next().await.unwrap().message().1, number.to_string().into_bytes());
        }
    }
}

#[tokio::test]
async fn a_packet_may_come_byte_by_byte_and_be_larger_than_any_buffer() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("devices/#", 0).await;
    let mut client = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    for byte in connect_packet("a", None) {
        client.send(&[byte]).await.unwrap();
    }
    assert_eq!(client.next().await.unwrap().body, [0, 0]);
    let large: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    client.publish("devices/pump-7/large", &large).await;
    client.publish("devices/pump-7/small", b"after").await;
    assert_eq!(reader.next().await.unwrap().message(), ("devices/pump-7/large".to_owned(), large));
    assert_eq!(
        reader.next().await.unwrap().message(),
        ("devices/pump-7/small".to_owned(), b"after".to_vec())
    );
}

#[tokio::test]
async fn nobody_reaches_into_anothers_space_and_the_rule_is_told() {
    let house = House::open().await;
    let [leaf, _] = [house.device("pump-7").await, house.device("pump-8").await];
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("#", 0).await;
    let mut client = house.connect(&leaf, "a").await;
    assert_eq!(client.subscribe("#", 0).await, 0x80);
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(client.subscribe("devices/pump-8/#", 0).await, 0x80);
    client.publish("devices/pump-8/telemetry", b"forged").await;
    client.publish("devices/pump-7/telemetry", b"own").await;
    assert_eq!(reader.next().await.unwrap().message().1, b"own");
    let wanted = |event: &Event| matches!(event, Event::PublishRefused { topic, .. } if topic == "devices/pump-8/telemetry");
    let Event::PublishRefused { principal, serial, conn, reason, .. } =
        house.heard.wait(DEADLINE, wanted).await
    else {
        panic!("another event")
    };
    assert_eq!((principal.as_str(), reason.as_str()), ("pump-7", "policy.denied"));
    assert_eq!(serial, leaf.cert_ref().serial.to_string());
    let live = house.broker().live(None, 10).await;
    assert!(live.iter().any(|client| client.name == "pump-7" && client.conn == conn));
    assert_eq!(house.heard.count(|event| event.code() == "subscribe.refused"), 2);
    let stats = house.broker().stats();
    assert_eq!((stats.publish_refused_total, stats.subscribe_refused_total, stats.sessions), (1, 2, 2));
}

/// One line a second for each connection and kind of refusal, and every one of them in the counters.
#[tokio::test]
async fn a_client_that_is_refused_all_the_time_does_not_flood_the_record() {
    let house = House::open().await;
    let [loud, other] = [house.device("pump-7").await, house.device("pump-8").await];
    let mut client = house.connect(&loud, "a").await;
    let told = |name: &'static str| {
        let events = house.heard.events();
        let rule_of = |event: Event| match event {
            Event::PublishRefused { principal, rule, .. } if principal == name => Some(rule),
            _ => None,
        };
        events.into_iter().filter_map(rule_of).collect::<Vec<_>>()
    };
    for _ in 0..100 {
        client.publish("devices/pump-8/x", b"forged").await;
    }
    client.ping().await.unwrap();
    let first = told("pump-7");
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(!first[0].contains("more since"), "{first:?}");
    // Neither another kind of refusal nor another connection is hidden by it.
    assert_eq!(client.subscribe("#", 0).await, 0x80);
    assert_eq!(client.subscribe("#", 0).await, 0x80);
    assert_eq!(house.heard.count(|event| event.code() == "subscribe.refused"), 1);
    let mut second = house.connect(&other, "a").await;
    second.publish("devices/pump-7/x", b"forged").await;
    second.ping().await.unwrap();
    assert_eq!(told("pump-8").len(), 1);
    house.clock.advance(Duration::from_secs(1));
    client.publish("devices/pump-8/x", b"forged").await;
    client.publish("devices/pump-8/x", b"forged").await;
    client.ping().await.unwrap();
    let all = told("pump-7");
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[1], format!("{}; 99 more since the last such line", all[0]));
    let stats = house.broker().stats();
    assert_eq!((stats.publish_refused_total, stats.subscribe_refused_total), (103, 2));
}

#[tokio::test]
async fn new_rules_hold_for_live_sessions() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("devices/#", 0).await;
    let mut client = house.connect(&leaf, "a").await;
    client.publish("devices/pump-7/x", b"1").await;
    assert_eq!(reader.next().await.unwrap().message().1, b"1");
    house.policy.send_replace(table("user backend\ntopic read #\npattern write devices/%u/only\n", 2));
    let refused = async {
        while house.heard.count(|event| event.code() == "publish.refused") == 0 {
            client.publish("devices/pump-7/x", b"2").await;
            client.ping().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    client.publish("devices/pump-7/only", b"3").await;
    let mut last = reader.next().await.unwrap().message();
    while last.1 == b"2" {
        last = reader.next().await.unwrap().message();
    }
    assert_eq!(last, ("devices/pump-7/only".to_owned(), b"3".to_vec()));
}

#[tokio::test]
async fn a_will_is_sent_when_the_connection_is_lost_and_not_after_a_goodbye() {
    let house = House::open().await;
    let [lost, polite] = [house.device("lost").await, house.device("polite").await];
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("devices/#", 0).await;
    for (leaf, name, goodbye) in [(&polite, "polite", true), (&lost, "lost", false)] {
        let mut client = Client::open(house.address, &Tls::of(&house.pki, leaf)).await.unwrap();
        let topic = format!("devices/{name}/status");
        client.send(&connect_packet("a", Some((&topic, "offline")))).await.unwrap();
        assert_eq!(client.next().await.unwrap().body, [0, 0]);
        if goodbye {
            client.send(&[0xe0, 0]).await.unwrap();
            assert_eq!(client.rest().await, []);
        } else {
            client.stream.get_ref().0.set_zero_linger().unwrap();
            drop(client);
        }
        house.ended(name).await;
    }
    assert_eq!(
        reader.next().await.unwrap().message(),
        ("devices/lost/status".to_owned(), b"offline".to_vec())
    );
    assert_eq!(
        (house.ended("polite").await.0, house.ended("lost").await.0),
        ("mqtt.client_closed".to_owned(), "conn.lost".to_owned())
    );
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_the_others_nothing() {
    let house = House::open().await;
    let [slow, quick] = [house.device("slow").await, house.device("quick").await];
    let backend = house.service("backend").await;
    let tcp = tcp_with_small_buffers(house.address).await;
    let mut slow_client = Client::over(tcp, &Tls::of(&house.pki, &slow)).await.unwrap();
    slow_client.hello("s").await.unwrap();
    slow_client.subscribe("broadcast/#", 0).await;
    let mut quick_client = house.connect(&quick, "q").await;
    quick_client.subscribe("broadcast/#", 0).await;
    let mut writer = house.connect(&backend, "w").await;
    let payload = vec![7; 100_000];
    for _ in 0..100 {
        writer.publish("broadcast/all", &payload).await;
        assert_eq!(quick_client.next().await.unwrap().message().1.len(), payload.len());
    }
    house.until("a bounded queue", |stats| stats.queued_bytes > 0 && stats.queued_bytes < 4 << 20).await;
    // What was dropped for it was counted, and it is still there when it begins to read.
    assert!(house.broker().stats().shed_total > 0);
    assert_eq!(slow_client.next().await.unwrap().message().1.len(), payload.len());
    assert!(house.broker().live(None, 10).await.iter().any(|client| client.name == "slow"));
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_not_read_either() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let tcp = tcp_with_small_buffers(house.address).await;
    let mut client = Client::over(tcp, &Tls::of(&house.pki, &leaf)).await.unwrap();
    client.hello("a").await.unwrap();
    let (mut read, mut write) = tokio::io::split(client.stream);
    let flood = tokio::spawn(async move {
        let pings = [0xc0_u8, 0].repeat(50_000);
        while write.write_all(&pings).await.is_ok() {}
    });
    house.until("a client that is held back", |stats| stats.queued_bytes > 256 << 10).await;
    // Its socket is not read any more, so its answers stay as few as they are.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let stats = house.broker().stats();
        assert!(stats.queued_bytes < 2 << 20, "{stats:#?}");
    }
    // As soon as it takes its answers it goes on.
    let mut answers = vec![0; 8 << 20];
    tokio::time::timeout(DEADLINE, read.read_exact(&mut answers)).await.unwrap().unwrap();
    assert!(answers.chunks(2).all(|answer| answer == [0xd0, 0]));
    flood.abort();
}

#[tokio::test]
async fn a_replayed_message_is_told_and_dropped_once_the_rule_is_in_force() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("devices/#", 0).await;
    let rule = ReplayRule {
        filter: TopicFilter::parse("devices/+/telemetry").unwrap(),
        mode: Mode::Enforce,
        seq: Some("/seq".to_owned()),
        epoch: None,
        time: None,
        scope: Scope::Device,
        per_topic: false,
        max_forward: 1_000,
        max_skew: Duration::from_secs(60),
        max_age: Duration::from_secs(3600),
        on_missing: OnMissing::Reject,
    };
    house.replay.send_replace(Arc::new(ReplayTable::new(vec![rule])));
    let mut client = house.connect(&leaf, "a").await;
    let refused = async {
        // Until the new rules are in force the same number passes twice.
        let mut number = 1;
        while house.heard.count(|event| event.code() == "replay.refused") == 0 {
            number += 1;
            for _ in 0..2 {
                client.publish("devices/pump-7/telemetry", format!("{{\"seq\":{number}}}").as_bytes()).await;
            }
            client.ping().await.unwrap();
        }
        number
    };
    let number = tokio::time::timeout(DEADLINE, refused).await.unwrap();
    let Some(Event::ReplayRefused { principal, topic, kind, mode, .. }) =
        house.heard.find(|event| event.code() == "replay.refused")
    else {
        panic!("not told")
    };
    assert_eq!((principal.as_str(), topic.as_str()), ("pump-7", "devices/pump-7/telemetry"));
    assert_eq!((kind.as_str(), mode.as_str()), ("duplicate", "enforce"));
    let again = format!("{{\"seq\":{number}}}").into_bytes();
    client.publish("devices/pump-7/other", b"end").await;
    let mut times = 0;
    loop {
        let (topic, payload) = reader.next().await.unwrap().message();
        if topic == "devices/pump-7/other" {
            break;
        }
        times += u32::from(payload == again);
    }
    assert_eq!(times, 1);
}
