//! The sequencer: every event in one chain, signed, by one holder at a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use admin::{Sequenced, sequence_events, sequence_once};
use audit::{Event, verify};
use common::*;
use signer::CheckpointKey;
use tokio::sync::watch;

async fn write(world: &World, count: u64) {
    for number in 0..count {
        let event = Event::PolicyLoaded { epoch: number, rules: 0 };
        world.store.event(event, world.now()).await.unwrap();
    }
}

/// Verifies the whole log; how many lines it has, and up to which it is signed.
async fn verified(world: &World, key: &CheckpointKey) -> (u64, u64) {
    let lines = world.store.events_after(0, 100_000).await.unwrap();
    let checkpoints = world.store.checkpoints_after(0, 100_000).await.unwrap();
    let summary = verify(lines.into_iter(), &checkpoints, |m, s| key.is_signed(m, s)).unwrap();
    (summary.lines, summary.signed_through)
}

#[tokio::test]
async fn events_are_chained_in_batches_and_signed_to_the_last_line() {
    let world = World::new().await;
    let key = CheckpointKey::new(key());
    let clock = world.clock.as_ref();
    let there = world.store.events_unchained(10_000).await.unwrap().len() as u64;
    write(&world, 1100 - there).await;
    for expected in [500, 500, 100, 0] {
        let done = sequence_once(&world.store, &key, "a", clock).await.unwrap();
        assert_eq!(done, Sequenced::Chained(expected));
    }
    assert_eq!(verified(&world, &key).await, (1100, 1100));
    write(&world, 1).await;
    assert_eq!(sequence_once(&world.store, &key, "a", clock).await.unwrap(), Sequenced::Chained(1));
    assert_eq!(verified(&world, &key).await, (1101, 1101));
    // Another key's log is not this one's.
    let checkpoints = world.store.checkpoints_after(0, 100).await.unwrap();
    let lines = world.store.events_after(0, 100_000).await.unwrap();
    let other = CheckpointKey::new(common::key());
    verify(lines.into_iter(), &checkpoints, |m, s| other.is_signed(m, s)).unwrap_err();
}

#[tokio::test]
async fn of_two_sequencers_one_works_until_its_lease_runs_out() {
    let world = World::new().await;
    let key = CheckpointKey::new(key());
    let clock = world.clock.as_ref();
    write(&world, 1).await;
    assert!(matches!(sequence_once(&world.store, &key, "a", clock).await.unwrap(), Sequenced::Chained(1..)));
    write(&world, 1).await;
    assert_eq!(sequence_once(&world.store, &key, "b", clock).await.unwrap(), Sequenced::NotOurs);
    assert_eq!(sequence_once(&world.store, &key, "a", clock).await.unwrap(), Sequenced::Chained(1));
    write(&world, 1).await;
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(sequence_once(&world.store, &key, "b", clock).await.unwrap(), Sequenced::Chained(1));
    let (lines, signed) = verified(&world, &key).await;
    assert_eq!(lines, signed);
}

#[tokio::test]
async fn the_task_follows_along_and_chains_the_last_words_before_it_stops() {
    let world = World::new().await;
    let key = Arc::new(CheckpointKey::new(key()));
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(sequence_events(
        world.store.clone(),
        key.clone(),
        "process 1".into(),
        world.clock.clone(),
        world.ear.clone(),
        stopped,
    ));
    write(&world, 700).await;
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
    assert!(world.store.events_unchained(10).await.unwrap().is_empty());
    let (lines, signed) = verified(&world, &key).await;
    assert!(lines >= 700 && lines == signed);
    assert!(world.ear.take().is_empty());
}
