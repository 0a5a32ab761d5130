//! The CRL writer: it follows the epoch, renews in time, and survives failures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::time::Duration;

use audit::Event;
use common::*;
use enroll::{Enroll, Settings, publish_due, write_crls};
use store::{AckDetail, Reader, Store};
use tokio::sync::watch;
use types::{DeviceId, Epoch, Wall};
use x509::{Crl, CrlReason};

async fn round(world: &World) -> enroll::Round {
    publish_due(&world.enroll, world.store.view().epoch(), world.now()).await.unwrap()
}

async fn newest(world: &World, label: &str) -> Crl {
    let issuer = issuing(&world.pki, label);
    let row = world.store.crl(issuer.id()).await.unwrap().unwrap();
    let crl = Crl::parse_der(&row.der).unwrap();
    crl.verify(issuer.certificate()).unwrap();
    assert_eq!(crl.number(), row.number);
    crl
}

#[tokio::test]
async fn the_first_look_publishes_a_crl_for_every_issuer_and_the_second_nothing() {
    let world = World::new().await;
    let first = round(&world).await;
    let labels: Vec<&str> = first.published.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["devices", "services", "servers"]);
    assert!(first.current);
    assert_eq!(first.next, Some(Wall(START.0 + 3 * 86_400_000)));
    let heard = world.ear.take();
    assert_eq!(heard.len(), 3);
    assert!(matches!(&heard[0], Event::CrlPublished { issuer, entries: 0, .. } if issuer == "devices"));
    assert_eq!(world.store.applied().applied(Reader::CrlWriter), world.store.view().epoch());
    let second = round(&world).await;
    assert!(second.published.is_empty() && second.current);
    let crl = newest(&world, "devices").await;
    assert_eq!((crl.this_update(), crl.next_update()), (START, Wall(START.0 + 7 * 86_400_000)));
}

#[tokio::test]
async fn a_revoked_certificate_stands_in_the_next_crl_and_its_epoch_is_acknowledged() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let leaf = certificate(&world.provision(&world.token(&device, 1).await, &key()).await);
    round(&world).await;
    let before = newest(&world, "devices").await.number();
    let revoked =
        world.store.revoke_device(&device, CrlReason::KeyCompromise, "test", world.now()).await.unwrap();
    // At most one in a second: the first look only says when to come back.
    let early = round(&world).await;
    assert!(early.published.is_empty() && !early.current);
    assert!(world.store.applied().applied(Reader::CrlWriter) < revoked.epoch);
    world.clock.set_wall(early.next.unwrap());
    let late = round(&world).await;
    let number = late.published.iter().find(|(label, _)| label == "devices").unwrap().1;
    assert!(number > before);
    let crl = newest(&world, "devices").await;
    assert_eq!(crl.serials(), [(leaf.serial(), CrlReason::KeyCompromise)]);
    assert_eq!(newest(&world, "services").await.serials(), []);
    assert_eq!(world.store.applied().applied(Reader::CrlWriter), revoked.epoch);
    assert!(world.store.applied().crls(revoked.epoch).contains(&("devices".to_owned(), number)));
    // And it is what is served.
    assert_eq!(Crl::parse_der(&world.get("/crl/devices/0.crl").await.body).unwrap().number(), number);
}

#[tokio::test]
async fn a_suspended_certificate_is_on_hold_and_leaves_the_crl_when_restored() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let leaf = certificate(&world.provision(&world.token(&device, 1).await, &key()).await);
    world.store.suspend_device(&device, "test", world.now()).await.unwrap();
    round(&world).await;
    assert_eq!(newest(&world, "devices").await.serials(), [(leaf.serial(), CrlReason::CertificateHold)]);
    world.store.restore_device(&device, "test", world.now()).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    round(&world).await;
    assert_eq!(newest(&world, "devices").await.serials(), []);
}

#[tokio::test]
async fn many_revocations_within_a_second_share_one_crl() {
    let world = World::new().await;
    round(&world).await;
    let first = newest(&world, "devices").await.number();
    for number in 0..10 {
        let device = world.device(&format!("device-{number}")).await;
        certificate(&world.provision(&world.token(&device, number).await, &key()).await);
        world.store.revoke_device(&device, CrlReason::Unspecified, "test", world.now()).await.unwrap();
        round(&world).await;
    }
    assert_eq!(newest(&world, "devices").await.number(), first);
    world.clock.advance(Duration::from_secs(1));
    round(&world).await;
    let crl = newest(&world, "devices").await;
    assert_eq!((crl.number(), crl.serials().len()), (first + 1, 10));
}

#[tokio::test]
async fn a_crl_is_renewed_after_its_period_although_nothing_changed() {
    let world = World::new().await;
    round(&world).await;
    let first = newest(&world, "devices").await;
    world.clock.advance(Duration::from_secs(3 * 86_400 - 1));
    assert!(round(&world).await.published.is_empty());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(round(&world).await.published.len(), 3);
    let second = newest(&world, "devices").await;
    assert!(second.number() > first.number() && second.next_update() > first.next_update());
}

#[tokio::test]
async fn a_clock_that_is_wrong_publishes_nothing_and_acknowledges_nothing() {
    let world = World::new().await;
    world.clock.set_wall(Wall(0));
    let error = publish_due(&world.enroll, world.store.view().epoch(), world.now()).await.unwrap_err();
    assert_eq!(error.code(), "clock.unsound");
    assert_eq!(world.store.applied().applied(Reader::CrlWriter), Epoch::default());
    assert_eq!(world.ear.reasons(), ["clock.unsound"]);
}

#[tokio::test]
async fn a_period_of_half_the_validity_is_refused_when_the_server_is_wired() {
    let world = World::new().await;
    let mut settings = Settings::default();
    settings.crl.period = settings.crl.validity / 2;
    let deps = enroll::Deps {
        store: world.store.clone(),
        issuers: world.pki.issuers(),
        roots: vec![world.pki.root().certificate().clone()],
        bundle_key: signer::BundleKey::new(key()),
        policy: world.policy.subscribe(),
        clock: world.clock.clone(),
        entropy: std::sync::Arc::new(std::sync::Mutex::new(testkit::Seeded::new(0))),
        observer: world.ear.clone(),
        settings,
    };
    let error = Enroll::new(deps).err().unwrap();
    assert_eq!(error.to_string(), "crl.period 302400 s !< crl.validity / 2 (302400 s)");
}

/// Waits until the writer has applied `epoch`.
async fn applied(store: &Store, epoch: Epoch) {
    let lagging = store.applied().wait(epoch, &[Reader::CrlWriter], Duration::from_secs(20)).await;
    assert!(lagging.is_empty(), "{lagging:?}");
}

#[tokio::test]
async fn the_task_publishes_at_the_start_follows_the_epoch_and_stops_when_told() {
    let world = World::new().await;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(write_crls(world.enroll.clone(), stopped));
    applied(&world.store, world.store.view().epoch()).await;
    let first = newest(&world, "devices").await.number();
    let device = world.device("pump-7").await;
    let leaf = certificate(&world.provision(&world.token(&device, 1).await, &key()).await);
    world.clock.advance(Duration::from_secs(5));
    let done = world.store.revoke_device(&device, CrlReason::Superseded, "test", world.now()).await.unwrap();
    applied(&world.store, done.epoch).await;
    let crl = newest(&world, "devices").await;
    assert_eq!(crl.serials(), [(leaf.serial(), CrlReason::Superseded)]);
    assert!(crl.number() > first);
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_revoked_while_nothing_ran_is_published_at_the_next_start() {
    let mut world = World::new().await;
    round(&world).await;
    let device = world.device("pump-7").await;
    let leaf = certificate(&world.provision(&world.token(&device, 1).await, &key()).await);
    let done = world.store.revoke_device(&device, CrlReason::Unspecified, "test", world.now()).await.unwrap();
    world = world.reopened();
    world.clock.advance(Duration::from_secs(2));
    let (_stop, stopped) = watch::channel(false);
    let task = tokio::spawn(write_crls(world.enroll.clone(), stopped));
    applied(&world.store, done.epoch).await;
    assert_eq!(newest(&world, "devices").await.serials(), [(leaf.serial(), CrlReason::Unspecified)]);
    task.abort();
}

#[tokio::test]
async fn the_board_counts_the_sessions_that_others_closed() {
    // The writer's acknowledgement does not stand for anybody else's.
    let world = World::new().await;
    let device = DeviceId::parse("pump-7").unwrap();
    world.device("pump-7").await;
    let done = world.store.revoke_device(&device, CrlReason::Unspecified, "test", world.now()).await.unwrap();
    round(&world).await;
    let applied = world.store.applied();
    let lagging = applied.lagging(done.epoch, &[Reader::CrlWriter, Reader::Sessions]);
    assert_eq!(lagging.iter().map(|lag| lag.reader).collect::<Vec<_>>(), [Reader::Sessions]);
    applied.ack(Reader::Sessions, done.epoch, AckDetail::Closed(vec![]));
    assert!(applied.lagging(done.epoch, &[Reader::CrlWriter, Reader::Sessions]).is_empty());
}
