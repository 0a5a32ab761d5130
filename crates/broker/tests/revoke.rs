//! Flow D over real TLS: what a revocation, a date or an operator does to live sessions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a step of a test that fails has to fail the test")]

mod common;

use std::time::Duration;

use audit::Event;
use common::{Client, House, Tls, connect_packet, id, tcp_with_small_buffers};
use types::{Clock, Wall};
use x509::CrlReason;

#[tokio::test]
async fn a_revocation_closes_the_live_session_and_the_next_handshake_fails() {
    let house = House::open().await;
    let [leaf, other] = [house.device("pump-7").await, house.device("pump-8").await];
    let client = house.connect(&leaf, "a").await;
    let second = house.connect(&leaf, "b").await;
    let mut bystander = house.connect(&other, "a").await;
    assert_eq!(house.revoke("pump-7").await, 2);
    // Once it is acknowledged the socket is closed, not only going to be.
    assert_eq!((client.rest().await, second.rest().await), (vec![], vec![]));
    let (reason, detail) = house.ended("pump-7").await;
    assert!(["trust.revoked", "trust.denied"].contains(&reason.as_str()), "{reason}: {detail}");
    assert!(house.try_connect(&Tls::of(&house.pki, &leaf), "a").await.is_err());
    bystander.ping().await.unwrap();
    let stats = house.broker().stats();
    assert_eq!((stats.sessions, stats.ended_total[reason.as_str()]), (1, 2));
}

#[tokio::test]
async fn a_revoked_device_sends_no_will() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("#", 0).await;
    let mut client = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    client.send(&connect_packet("a", Some(("devices/pump-7/status", "offline")))).await.unwrap();
    client.next().await.unwrap();
    assert_eq!(house.revoke("pump-7").await, 1);
    let mut marker = house.connect(&backend, "m").await;
    marker.publish("marker", b"after").await;
    assert_eq!(reader.next().await.unwrap().message().0, "marker");
}

#[tokio::test]
async fn a_revocation_interrupts_a_blocked_write() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let tcp = tcp_with_small_buffers(house.address).await;
    let mut deaf = Client::over(tcp, &Tls::of(&house.pki, &leaf)).await.unwrap();
    deaf.hello("a").await.unwrap();
    deaf.subscribe("broadcast/#", 0).await;
    let mut writer = house.connect(&backend, "w").await;
    let payload = vec![7; 100_000];
    let blocked = async {
        while house.broker().stats().queued_bytes == 0 || house.broker().stats().shed_total == 0 {
            writer.publish("broadcast/all", &payload).await;
            writer.ping().await.unwrap();
        }
    };
    tokio::time::timeout(common::DEADLINE, blocked).await.unwrap();
    assert_eq!(house.revoke("pump-7").await, 1);
    house.until("an empty queue", |stats| stats.queued_bytes == 0 && stats.connections == 1).await;
    // The kernel's own queue is thrown away too: the client gets at most what it held already.
    let got = deaf.rest().await;
    assert!(got.len() < 60, "{} messages came after all", got.len());
    writer.ping().await.unwrap();
}

#[tokio::test]
async fn a_suspended_device_is_closed_and_may_come_back_when_restored() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let client = house.connect(&leaf, "a").await;
    let now = house.clock.now();
    let held = house.store.suspend_device(&id("pump-7"), "test", now).await.unwrap();
    house.sessions_applied(held.epoch).await;
    assert_eq!(client.rest().await, []);
    assert_eq!(house.ended("pump-7").await.0, "trust.suspended");
    let back = house.store.restore_device(&id("pump-7"), "test", now).await.unwrap();
    house.sessions_applied(back.epoch).await;
    house.connect(&leaf, "a").await.ping().await.unwrap();
}

#[tokio::test]
async fn one_certificate_of_a_device_can_be_revoked_alone() {
    let house = House::open().await;
    let first = house.device("pump-7").await;
    let mut client = house.connect(&first, "a").await;
    client.ping().await.unwrap();
    let now = house.clock.now();
    let revoked =
        house.store.revoke_certificate(first.cert_ref(), CrlReason::Superseded, "test", now).await.unwrap();
    house.sessions_applied(revoked.epoch).await;
    assert_eq!(client.rest().await, []);
    let second = house.pki.device("pump-7");
    house.record(&second).await;
    house.connect(&second, "a").await.ping().await.unwrap();
    assert_eq!(house.ended("pump-7").await.0, "trust.revoked");
}

#[tokio::test]
async fn a_session_ends_with_its_certificates_last_day() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let mut client = house.connect(&leaf, "a").await;
    let end = leaf.certificate().not_after();
    house.set_wall(end.minus(Duration::from_secs(1)));
    client.ping().await.unwrap();
    house.set_wall(Wall(end.0 + 1000));
    assert_eq!(house.ended("pump-7").await.0, "trust.expired");
    assert_eq!(client.rest().await, []);
    assert!(house.try_connect(&Tls::of(&house.pki, &leaf), "a").await.is_err());
}

/// Dates are looked at by the clock, however much the shard is asked meanwhile.
#[tokio::test]
async fn a_certificate_ends_its_session_on_a_shard_whose_mailbox_is_always_filled() {
    let mut settings = common::settings();
    settings.tick = Duration::from_millis(50);
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let client = house.connect(&leaf, "a").await;
    house.set_wall(Wall(leaf.certificate().not_after().0 + 1000));
    let busy = async {
        loop {
            house.broker().live(None, 1).await;
        }
    };
    let (reason, _) = tokio::select! {
        ended = house.ended("pump-7") => ended,
        () = busy => panic!("it never rests"),
    };
    assert_eq!(reason, "trust.expired");
    assert_eq!(client.rest().await, []);
}

/// A connection that was told to close waits for its client's goodbye; a kill has to reach it there.
#[tokio::test]
async fn a_silent_client_whose_session_was_taken_over_holds_up_no_revocation() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let other = house.device("pump-8").await;
    // The first is closed, and its client takes no notice.
    let silent = house.connect(&leaf, "same").await;
    let _second = house.connect(&leaf, "same").await;
    house.revoke("pump-7").await;
    let mut bystander = house.connect(&other, "x").await;
    bystander.ping().await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn every_epoch_is_acknowledged_even_without_a_session() {
    let house = House::open().await;
    house.sessions_applied(house.store.view().epoch()).await;
    house.device("pump-7").await;
    assert_eq!(house.revoke("pump-7").await, 0);
    for name in ["a", "b", "c"] {
        let denied = house.store.deny(&id(name), "test", house.clock.now()).await.unwrap();
        house.sessions_applied(denied.epoch).await;
    }
}

#[tokio::test]
async fn many_sessions_fall_in_one_epoch_and_each_is_counted() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let other = house.device("pump-8").await;
    let mut clients = Vec::new();
    for number in 0..4 {
        clients.push(house.connect(&leaf, &format!("c{number}")).await);
    }
    let mut bystander = house.connect(&other, "x").await;
    assert_eq!(house.revoke("pump-7").await, 4);
    for client in clients {
        assert_eq!(client.rest().await, []);
    }
    bystander.ping().await.unwrap();
    let told = house
        .heard
        .count(|event| matches!(event, Event::SessionEnded { principal, .. } if principal == "pump-7"));
    assert_eq!(told, 4);
}

#[tokio::test]
async fn handshakes_that_race_a_revocation_leave_no_session_behind() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    house.connect(&leaf, "warm").await.ping().await.unwrap();
    let tls = Tls::of(&house.pki, &leaf);
    let racers = (0..16).map(|number| {
        let (tls, address) = (tls.clone(), house.address);
        tokio::spawn(async move {
            let mut client = Client::open(address, &tls).await.ok()?;
            client.hello(&format!("r{}", number % 3)).await.ok()?;
            Some(client)
        })
    });
    let racers: Vec<_> = racers.collect();
    house.revoke("pump-7").await;
    for racer in racers {
        if let Some(mut client) = racer.await.unwrap() {
            // It was in before the revocation was applied, and it is out now.
            assert!(client.ping().await.is_err());
        }
    }
    house.until("no session", |stats| stats.sessions == 0 && stats.connections == 0).await;
}

#[tokio::test]
async fn an_operator_can_end_one_connection() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let client = house.connect(&leaf, "a").await;
    let live = house.broker().live(None, 10).await;
    assert!(house.broker().disconnect(live[0].conn).await);
    assert!(!house.broker().disconnect(live[0].conn + 1_000).await);
    assert_eq!(client.rest().await, []);
    let (reason, detail) = house.ended("pump-7").await;
    assert_eq!((reason.as_str(), detail.as_str()), ("server.stops", "ended by an operator"));
    house.connect(&leaf, "a").await.ping().await.unwrap();
}

/// To end a connection takes no trust away, so what the client keeps here goes on as for any lost one.
#[tokio::test]
async fn a_stored_session_whose_connection_an_operator_ended_goes_on_being_filled() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let mut hello = connect_packet("a", None);
    // The flags of CONNECT: no clean session.
    hello[9] = 0;
    let mut client = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    client.send(&hello).await.unwrap();
    assert_eq!(client.next().await.unwrap().body, [0, 0]);
    assert_eq!(client.subscribe("broadcast/#", 1).await, 1);
    let live = house.broker().live(None, 10).await;
    assert!(house.broker().disconnect(live[0].conn).await);
    assert_eq!(client.rest().await, []);
    house.connect(&backend, "w").await.publish_acked("broadcast/all", b"meanwhile").await;
    let mut again = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    again.send(&hello).await.unwrap();
    // The session is present, and so is what came in between.
    assert_eq!(again.next().await.unwrap().body, [1, 0]);
    let message = again.next().await.unwrap().message();
    assert_eq!(message, ("broadcast/all".to_owned(), b"meanwhile".to_vec()));
}

#[tokio::test]
async fn a_shutdown_closes_every_session_and_the_port() {
    // Elsewhere a test that runs beside this one may be given the port that was just freed.
    let mut house = House::at([127, 0, 0, 77].into(), common::settings()).await;
    let leaf = house.device("pump-7").await;
    let client = house.connect(&leaf, "a").await;
    let broker = house.broker.take().unwrap();
    let (stopped, rest) =
        tokio::join!(tokio::time::timeout(common::DEADLINE, broker.shutdown()), client.rest());
    assert_eq!(stopped.unwrap(), Ok(()));
    assert_eq!(rest, []);
    assert_eq!(house.ended("pump-7").await.0, "server.stops");
    assert!(tokio::net::TcpStream::connect(house.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_client_that_does_not_answer() {
    let mut settings = common::settings();
    settings.shutdown_timeout = Duration::from_millis(200);
    let mut house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    // It holds its socket open and reads nothing.
    let _client = house.connect(&leaf, "a").await;
    let broker = house.broker.take().unwrap();
    assert_eq!(tokio::time::timeout(common::DEADLINE, broker.shutdown()).await.unwrap(), Ok(()));
    assert_eq!(house.ended("pump-7").await.0, "server.stops");
}
