//! Flow B over real TLS: who is let in, who is turned away, and what is told about either.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a step of a test that fails has to fail the test")]

mod common;

use std::time::Duration;

use audit::Event;
use common::{Client, DEADLINE, House, Tls, connect_packet, id};
use testkit::pki::Leaf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trust::CertState;
use types::{Clock, PrincipalKind};
use x509::CrlReason;

#[tokio::test]
async fn an_accepted_connection_is_told_with_its_evidence() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let client = house.connect(&leaf, "my-own-id").await;
    let local = client.stream.get_ref().0.local_addr().unwrap();
    let Event::ConnectionAccepted {
        principal,
        kind,
        serial,
        issuer,
        tls,
        suite,
        peer,
        conn,
        client_id,
        epoch,
    } = house.heard.wait_code(DEADLINE, "conn.accepted").await
    else {
        panic!("another event with this code")
    };
    assert_eq!((principal.as_str(), kind.as_str(), issuer.as_str()), ("pump-7", "device", "devices"));
    assert_eq!(serial, leaf.cert_ref().serial.to_string());
    assert_eq!((tls.as_str(), suite.as_str()), ("TLSv1.3", "TLS13_AES_128_GCM_SHA256"));
    assert_eq!((peer, client_id.as_deref()), (local.to_string(), Some("my-own-id")));
    assert_eq!(epoch, house.store.view().epoch().to_string());
    let live = house.broker().live(None, 10).await;
    assert_eq!(live.len(), 1);
    assert_eq!(
        (live[0].conn, live[0].name.as_str(), live[0].client_id.as_str()),
        (conn, "pump-7", "my-own-id")
    );
    assert_eq!(live[0].connected_at, house.clock.now().wall);
    assert_eq!(house.broker().live(Some(conn), 10).await, []);
}

#[tokio::test]
async fn the_first_connection_confirms_the_certificate() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let state = async || house.store.admission(leaf.der_hash()).await.unwrap().unwrap().state;
    assert_eq!(state().await, CertState::Unconfirmed);
    drop(house.connect(&leaf, "a").await);
    assert_eq!(state().await, CertState::Active);
    drop(house.connect(&leaf, "a").await);
}

#[tokio::test]
async fn tls_1_2_is_spoken_too_and_a_leaf_without_its_chain_is_enough() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    for tls in [
        Tls::leaf_only(&house.pki, &leaf),
        Tls::version(&house.pki, &leaf, &rustls::version::TLS12),
        Tls::version(&house.pki, &leaf, &rustls::version::TLS13),
    ] {
        let mut client = house.try_connect(&tls, "a").await.unwrap();
        client.ping().await.unwrap();
    }
    let versions = |event: &Event| match event {
        Event::ConnectionAccepted { tls, .. } => Some(tls.clone()),
        _ => None,
    };
    let spoken: Vec<String> = house.heard.events().iter().filter_map(versions).collect();
    assert_eq!(spoken, ["TLSv1.3", "TLSv1.2", "TLSv1.3"]);
}

/// Connects, must be turned away with `code`, and no session may have begun.
async fn turned_away(house: &House, tls: &Tls, code: &str) -> Event {
    house.heard.clear();
    let tried = house.try_connect(tls, "a").await;
    assert!(tried.is_err(), "{code} was let in");
    let event = house.refused(code).await;
    assert_eq!(house.heard.codes(), ["conn.refused"], "{code}");
    event
}

#[tokio::test]
async fn each_wrong_certificate_is_refused_by_its_own_reason_and_with_what_it_showed() {
    let house = House::open().await;
    house.register("pump-7").await;
    let pki = &house.pki;
    let cases: Vec<(&str, Leaf)> = vec![
        ("trust.unknown_issuer", pki.foreign().device("pump-7")),
        ("trust.unknown_issuer", pki.self_signed("pump-7")),
        ("trust.expired", pki.expired_device("pump-7")),
        ("trust.not_yet_valid", pki.not_yet_valid_device("pump-7")),
        ("trust.wrong_usage", pki.wrong_usage("pump-7")),
        ("trust.x509_v1", pki.version_one("pump-7")),
        ("trust.not_in_ledger", pki.device("pump-7")),
        ("trust.bad_name", pki.odd_name("+")),
        ("trust.bad_name", pki.odd_name("a/b")),
        ("trust.bad_name", pki.two_names("pump-7", "pump-8")),
        ("trust.bad_name", pki.empty_name()),
        ("trust.bad_name", pki.no_name()),
        ("trust.wrong_usage", pki.with_ca_bit("pump-7")),
    ];
    for (code, leaf) in cases {
        let event = turned_away(&house, &Tls::of(pki, &leaf), code).await;
        let Event::ConnectionRefused { subject, serial, sni, detail, .. } = event else {
            panic!("{event:?}")
        };
        assert!(subject.is_some(), "{code} without the subject that was shown");
        assert_eq!(serial, Some(leaf.cert_ref().serial.to_string()), "{code}");
        assert_eq!(sni.as_deref(), Some("localhost"), "{code}");
        assert!(!detail.is_empty(), "{code}");
    }
    let stats = house.broker().stats();
    assert_eq!((stats.accepted_total, stats.refused_total["trust.bad_name"]), (0, 5));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let house = House::open().await;
    let event = turned_away(&house, &Tls::nameless(&house.pki), "tls.no_certificate").await;
    let Event::ConnectionRefused { subject, serial, issuer, .. } = event else { panic!("{event:?}") };
    assert_eq!((subject, serial, issuer), (None, None, None));
}

#[tokio::test]
async fn a_device_of_another_ca_or_another_kind_is_not_its_namesake() {
    let house = House::open().await;
    let leaf = house.pki.by_wrong_ca(PrincipalKind::Device, "pump-7");
    house.register("pump-7").await;
    assert!(house.try_connect(&Tls::of(&house.pki, &leaf), "a").await.is_err());
    let Event::ConnectionRefused { reason, .. } = house.heard.wait_code(DEADLINE, "conn.refused").await
    else {
        panic!("another event with this code")
    };
    assert!(["trust.wrong_anchor", "trust.not_in_ledger"].contains(&reason.as_str()), "{reason}");
}

#[tokio::test]
async fn whoever_lost_its_trust_before_is_refused_at_the_door() {
    let house = House::open().await;
    let now = house.clock.now();
    let [revoked, suspended, denied, withdrawn] =
        [house.device("a").await, house.device("b").await, house.device("c").await, house.device("d").await];
    house.store.revoke_device(&id("a"), CrlReason::KeyCompromise, "test", now).await.unwrap();
    house.store.suspend_device(&id("b"), "test", now).await.unwrap();
    house.store.deny(&id("c"), "test", now).await.unwrap();
    house.store.revoke_certificate(withdrawn.cert_ref(), CrlReason::Superseded, "test", now).await.unwrap();
    for (leaf, codes) in [
        (&revoked, ["trust.revoked", "trust.denied"]),
        (&suspended, ["trust.suspended", "trust.suspended"]),
        (&denied, ["trust.denied", "trust.suspended"]),
        (&withdrawn, ["trust.revoked", "trust.revoked"]),
    ] {
        house.heard.clear();
        assert!(house.try_connect(&Tls::of(&house.pki, leaf), "a").await.is_err());
        let event = house.heard.wait_code(DEADLINE, "conn.refused").await;
        let Event::ConnectionRefused { reason, .. } = &event else { panic!("{event:?}") };
        assert!(codes.contains(&reason.as_str()), "{event:?}");
    }
    house.store.restore_device(&id("b"), "test", now).await.unwrap();
    house.connect(&suspended, "a").await;
}

/// What nobody could look up is not believed, and no CONNACK says otherwise.
#[tokio::test]
async fn a_ledger_that_cannot_be_read_refuses_the_connection() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    house.connect(&leaf, "a").await.ping().await.unwrap();
    house.sql("ALTER TABLE certificate RENAME TO hidden");
    house.heard.clear();
    let tls = Tls::of(&house.pki, &leaf);
    // By TLS 1.3 the client's side of the handshake may end well; then it reads to the end.
    if let Ok(mut client) = Client::open(house.address, &tls).await {
        let _ = client.send(&connect_packet("a", None)).await;
        assert_eq!(client.rest().await, []);
    }
    let Event::ConnectionRefused { detail, serial, .. } = house.refused("trust.unavailable").await else {
        panic!("another event with this code")
    };
    assert!(detail.starts_with("ledger not readable: "), "{detail}");
    assert_eq!(serial, Some(leaf.cert_ref().serial.to_string()));
    house.sql("ALTER TABLE hidden RENAME TO certificate");
    house.connect(&leaf, "a").await.ping().await.unwrap();
}

/// The deny-list is read again when the certificate is confirmed, and may be newer than the view.
#[tokio::test]
async fn a_device_denied_before_its_confirmation_is_refused_as_denied() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    house.sql("INSERT INTO denied (folded, name, at, actor) VALUES ('pump-7', 'pump-7', 0, 'test')");
    turned_away(&house, &Tls::of(&house.pki, &leaf), "trust.denied").await;
    house.sql("DELETE FROM denied");
    house.connect(&leaf, "a").await;
}

#[tokio::test]
async fn plain_mqtt_on_the_tls_port_is_named_as_such() {
    let house = House::open().await;
    let mut tcp = TcpStream::connect(house.address).await.unwrap();
    tcp.write_all(&connect_packet("pump-7", None)).await.unwrap();
    let Event::ConnectionRefused { detail, subject, .. } = house.refused("tls.failed").await else {
        panic!("another event with this code")
    };
    assert!(detail.contains("plain MQTT"), "{detail}");
    assert_eq!(subject, None);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, tcp.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || !answer.starts_with(&[0x20]), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_says_nothing_blocks_nobody_and_is_timed_out() {
    let mut settings = common::settings();
    settings.handshake_timeout = Duration::from_millis(150);
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(house.address).await.unwrap());
    }
    house.connect(&leaf, "a").await.ping().await.unwrap();
    house.until("the timeouts", |stats| stats.refused_total.get("conn.timeout") == Some(&50)).await;
    house.until("the end of the handshakes", |stats| stats.handshakes_unfinished == 0).await;
}

#[tokio::test]
async fn a_client_that_never_sends_connect_is_ended() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let client = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    house.until("the connection", |stats| stats.connections == 1 && stats.handshakes_unfinished == 0).await;
    // Its CONNECT is overdue once it has had the time, by the broker's clock.
    let overdue = async {
        while house.heard.count(|event| event.code() == "conn.refused") == 0 {
            house.clock.advance(Duration::from_secs(11));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, overdue).await.unwrap();
    let Event::ConnectionRefused { reason, serial, .. } = &house.heard.events()[0] else { panic!() };
    assert_eq!(
        (reason.as_str(), serial.as_ref()),
        ("conn.timeout", Some(&leaf.cert_ref().serial.to_string()))
    );
    assert_eq!(client.rest().await, []);
    house.until("the place in the count", |stats| stats.connections == 0).await;
}

#[tokio::test]
async fn a_session_cache_does_not_help_every_handshake_is_a_full_one() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::version(&house.pki, &leaf, version);
        for _ in 0..3 {
            let mut client = house.try_connect(&tls, "a").await.unwrap();
            client.ping().await.unwrap();
            assert_eq!(client.kind(), Some(rustls::HandshakeKind::Full), "{version:?}");
        }
    }
    house.revoke("pump-7").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert!(house.try_connect(&Tls::version(&house.pki, &leaf, version), "a").await.is_err());
    }
}

#[tokio::test]
async fn a_client_id_belongs_to_its_identity() {
    let house = House::open().await;
    let [first, second] = [house.device("pump-7").await, house.device("pump-8").await];
    let mut one = house.connect(&first, "same").await;
    let mut other = house.connect(&second, "same").await;
    one.ping().await.unwrap();
    other.ping().await.unwrap();
    // The same identity takes its own session over.
    let mut again = house.connect(&first, "same").await;
    assert_eq!(house.ended("pump-7").await.0, "mqtt.taken_over");
    assert_eq!(one.rest().await, []);
    again.ping().await.unwrap();
    other.ping().await.unwrap();
}

#[tokio::test]
async fn broken_packets_end_their_own_connection_only() {
    let house = House::open().await;
    let [bad, good] = [house.device("bad").await, house.device("good").await];
    let mut good = house.connect(&good, "g").await;
    let mut bad = house.connect(&bad, "b").await;
    bad.send(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(house.ended("bad").await.0, "mqtt.protocol");
    assert_eq!(bad.rest().await, []);
    good.ping().await.unwrap();
}

/// To TLS one that came before is forged as well: its number is part of what is authenticated.
#[tokio::test]
async fn a_forged_tls_record_is_named_as_the_end_of_its_session() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        house.heard.clear();
        let mut client = house.try_connect(&Tls::version(&house.pki, &leaf, version), "a").await.unwrap();
        let mut forged = vec![0x17, 3, 3, 0, 40];
        forged.extend_from_slice(&[7; 40]);
        client.stream.get_mut().0.write_all(&forged).await.unwrap();
        let (reason, detail) = house.ended("pump-7").await;
        assert_eq!((reason.as_str(), detail.as_str()), ("tls.failed", "cannot decrypt peer's message"));
        assert_eq!(client.rest().await, []);
    }
    // Before its CONNECT it has no session, and its refusal says the same.
    let mut client = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    client.stream.get_mut().0.write_all(&[0x17, 3, 3, 0, 17]).await.unwrap();
    client.stream.get_mut().0.write_all(&[7; 17]).await.unwrap();
    let Event::ConnectionRefused { detail, .. } = house.refused("tls.failed").await else {
        panic!("another event with this code")
    };
    assert_eq!(detail, "cannot decrypt peer's message");
}

#[tokio::test]
async fn what_was_sent_before_the_goodbye_is_read_and_answered() {
    let house = House::open().await;
    let leaf = house.device("pump-7").await;
    let backend = house.service("backend").await;
    let mut reader = house.connect(&backend, "r").await;
    reader.subscribe("devices/#", 0).await;
    let mut client = Client::open(house.address, &Tls::of(&house.pki, &leaf)).await.unwrap();
    // CONNECT, PUBLISH and DISCONNECT in one record.
    let mut all = connect_packet("a", None);
    all.extend_from_slice(&common::publish_packet("devices/pump-7/x", b"last words", None));
    all.extend_from_slice(&[0xe0, 0]);
    client.send(&all).await.unwrap();
    assert_eq!(
        reader.next().await.unwrap().message(),
        ("devices/pump-7/x".to_owned(), b"last words".to_vec())
    );
    assert_eq!(client.rest().await.len(), 1);
    assert_eq!(house.ended("pump-7").await.0, "mqtt.client_closed");
}
