//! The limits of the accept loop, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a step of a test that fails has to fail the test")]

mod common;

use audit::Event;
use common::{House, settings};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A connection that the accept loop turns away is closed without a word.
async fn closed_at_once(house: &House) {
    let mut tcp = TcpStream::connect(house.address).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(common::DEADLINE, tcp.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn connections_in_all_are_limited_and_a_place_that_is_given_back_can_be_taken() {
    let mut settings = settings();
    settings.addresses.connections_max = 2;
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let first = house.connect(&leaf, "a").await;
    let _second = house.connect(&leaf, "b").await;
    closed_at_once(&house).await;
    let Event::ConnectionRefused { detail, subject, .. } = house.refused("conn.limit").await else {
        panic!()
    };
    assert_eq!(detail, "2 connections are open, the limit of this listener");
    assert_eq!(subject, None);
    drop(first);
    house.until("a free place", |stats| stats.connections == 1).await;
    house.connect(&leaf, "c").await.ping().await.unwrap();
}

#[tokio::test]
async fn connections_from_one_address_are_limited() {
    let mut settings = settings();
    settings.addresses.per_address_max = 1;
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let _first = house.connect(&leaf, "a").await;
    closed_at_once(&house).await;
    let Event::ConnectionRefused { detail, .. } = house.refused("conn.limit").await else { panic!() };
    assert_eq!(detail, "1 connections are open from this address, its limit");
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let mut settings = settings();
    settings.addresses.handshakes_per_address_max = 2;
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let silent =
        [TcpStream::connect(house.address).await.unwrap(), TcpStream::connect(house.address).await.unwrap()];
    house.until("both", |stats| stats.handshakes_unfinished == 2).await;
    // The oldest makes room, and the newcomer is served.
    house.connect(&leaf, "a").await.ping().await.unwrap();
    let Event::ConnectionRefused { detail, .. } = house.refused("conn.limit").await else { panic!() };
    assert_eq!(detail, "its handshake was the oldest unfinished one and made room for a newer");
    house.until("the other", |stats| stats.handshakes_unfinished == 1).await;
    drop(silent);
    house.until("the end of both", |stats| stats.handshakes_unfinished == 0).await;
}

#[tokio::test]
async fn the_rate_of_new_connections_from_one_address_is_limited() {
    let mut settings = settings();
    settings.addresses.per_address_per_second = 1;
    settings.addresses.per_address_burst = 2;
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let _first = house.connect(&leaf, "a").await;
    let _second = house.connect(&leaf, "b").await;
    closed_at_once(&house).await;
    let Event::ConnectionRefused { detail, .. } = house.refused("conn.limit").await else { panic!() };
    assert_eq!(detail, "more than 1 connections per second from this address");
    house.clock.advance(std::time::Duration::from_secs(1));
    house.connect(&leaf, "c").await.ping().await.unwrap();
}

#[tokio::test]
async fn connections_of_one_identity_are_limited() {
    let mut settings = settings();
    settings.mqtt.connections_per_identity_max = 2;
    let house = House::with(settings).await;
    let leaf = house.device("pump-7").await;
    let _first = house.connect(&leaf, "a").await;
    let _second = house.connect(&leaf, "b").await;
    assert!(house.try_connect(&common::Tls::of(&house.pki, &leaf), "c").await.is_err());
    let Event::ConnectionRefused { subject, serial, .. } =
        house.heard.wait_code(common::DEADLINE, "conn.refused").await
    else {
        panic!("another event with this code")
    };
    assert!(subject.is_some());
    assert_eq!(serial, Some(leaf.cert_ref().serial.to_string()));
}

#[tokio::test]
async fn a_setting_outside_its_limits_stops_the_start() {
    let listener = broker::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    // The address can be bound again at once.
    assert!(broker::listen(address).is_ok());
    let house = House::open().await;
    assert!(broker::listen(house.address).is_err());
}
