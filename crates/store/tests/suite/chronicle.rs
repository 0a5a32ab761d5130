use audit::{Checkpoint, Event};
use store::{ChainHead, CrlRow, Stats, Store, StoreError};
use types::{Epoch, IssuerId, Serial, Wall};
use x509::CrlReason;

use crate::place::*;

async fn with_cas(store: &Store) -> IssuerId {
    let rows = ca_rows();
    for row in &rows[..4] {
        store.ca_add(row.clone(), now(0)).await.unwrap();
    }
    rows[1].id
}

/// A confirmed certificate of the devices CA for a device of its own, ending at `ends`.
async fn under(store: &Store, issuer: IssuerId, name: &str, n: u8, ends: i64) {
    add(store, name).await;
    let mut intent = new_intent(None, name, n.into(), key(n));
    intent.cert.issuer = issuer;
    intent.not_after = at(ends);
    let receipt = store.record_intent(intent, now(1)).await.unwrap();
    store.record_certificate(receipt, &der(n.into(), 1), now(2)).await.unwrap();
}

fn serials(entries: &[x509::CrlEntry]) -> Vec<(Serial, i64, CrlReason)> {
    entries.iter().map(|entry| (entry.serial, entry.revoked_at.secs() - at(0).secs(), entry.reason)).collect()
}

fn crl(issuer: IssuerId, number: u64, this_update: i64) -> CrlRow {
    let (this_update, next_update) = (at(this_update), at(this_update + 86_400));
    CrlRow { issuer, number, der: vec![1, 2, 3], this_update, next_update, epoch: Epoch::default() }
}

#[tokio::test]
async fn a_crl_lists_the_revoked_the_suspended_and_the_denied_of_its_issuer_only() {
    let place = Place::fresh();
    let store = place.open();
    let issuer = with_cas(&store).await;
    for (n, name) in [(1, "fine"), (2, "revoked"), (3, "held"), (4, "denied")] {
        under(&store, issuer, name, n, 1_000_000).await;
    }
    live_device(&store, "elsewhere", 5, key(5)).await;
    assert_eq!(store.revoked_rows(issuer, now(9)).await.unwrap().len(), 0);
    store.deny(&id("denied"), "ada", now(10)).await.unwrap();
    store.suspend_device(&id("held"), "ada", now(11)).await.unwrap();
    store.revoke_device(&id("revoked"), CrlReason::KeyCompromise, "ada", now(12)).await.unwrap();
    store.revoke_device(&id("elsewhere"), CrlReason::Unspecified, "ada", now(13)).await.unwrap();
    let entries = store.revoked_rows(issuer, now(20)).await.unwrap();
    let serial = |n| cert(n).serial;
    let expected = [
        (serial(2), 12, CrlReason::KeyCompromise),
        (serial(3), 11, CrlReason::CertificateHold),
        (serial(4), 10, CrlReason::CertificateHold),
    ];
    assert_eq!(serials(&entries), expected);
    store.restore_device(&id("held"), "ada", now(21)).await.unwrap();
    store.allow(&id("denied"), "ada", now(21)).await.unwrap();
    assert_eq!(serials(&store.revoked_rows(issuer, now(22)).await.unwrap()), expected[..1]);
}

#[tokio::test]
async fn an_expired_entry_leaves_after_one_more_crl() {
    let place = Place::fresh();
    let store = place.open();
    let issuer = with_cas(&store).await;
    under(&store, issuer, "pump", 1, 100).await;
    store.revoke_device(&id("pump"), CrlReason::Unspecified, "ada", now(10)).await.unwrap();
    store.crl_put(crl(issuer, 1, 50)).await.unwrap();
    let listed = async |secs| store.revoked_rows(issuer, now(secs)).await.unwrap().len();
    assert_eq!(listed(99).await, 1);
    assert_eq!(listed(150).await, 1, "the first crl after its end still lists it");
    store.crl_put(crl(issuer, 2, 100)).await.unwrap();
    assert_eq!(listed(150).await, 1, "the end itself is the border");
    store.crl_put(crl(issuer, 3, 101)).await.unwrap();
    assert_eq!(listed(150).await, 0);
}

#[tokio::test]
async fn crl_numbers_are_given_once_and_only_rise() {
    let place = Place::fresh();
    let store = place.open();
    let issuer = with_cas(&store).await;
    let services = ca_rows()[2].id;
    for number in 1..=3 {
        assert_eq!(store.crl_next_number(issuer).await, Ok(number));
    }
    assert_eq!(store.crl_next_number(services).await, Ok(1), "each issuer counts for itself");
    assert_eq!(store.crl(issuer).await.unwrap(), None);
    store.crl_put(crl(issuer, 3, 50)).await.unwrap();
    for number in [1, 3] {
        let answer = store.crl_put(crl(issuer, number, 60)).await;
        assert_eq!(answer, Err(StoreError::CrlNumber { number, last: 3 }));
    }
    assert_eq!(store.crl(issuer).await.unwrap(), Some(crl(issuer, 3, 50)));
    let stranger = IssuerId([1; 16]);
    let unknown = StoreError::UnknownIssuer { shown: stranger.to_string() };
    assert_eq!(store.crl_next_number(stranger).await, Err(unknown.clone()));
    assert_eq!(store.crl_put(crl(stranger, 1, 1)).await, Err(unknown));
    drop(store);
    let store = place.open();
    assert_eq!(store.crl_next_number(issuer).await, Ok(4));
    assert_eq!(store.crl(issuer).await.unwrap(), Some(crl(issuer, 3, 50)));
}

async fn chain_of(store: &Store, limit: usize) -> Vec<audit::Chained> {
    let mut head = store.chain_head().await.unwrap();
    let mut lines = Vec::new();
    for (_, at, body) in store.events_unchained(limit).await.unwrap() {
        let line = audit::chain(head.hash, head.seq + 1, at, &body);
        head = ChainHead { seq: line.seq, hash: line.hash };
        lines.push(line);
    }
    lines
}

#[tokio::test]
async fn events_are_chained_in_order_and_leave_the_waiting_room() {
    let place = Place::fresh();
    let store = place.open();
    for n in 0..5 {
        add(&store, &format!("d{n}")).await;
    }
    let stopped = Event::ServerStopped { reason: "test".to_owned() };
    store.event(stopped.clone(), now(7)).await.unwrap();
    let lines = chain_of(&store, 4).await;
    let last = &lines[3];
    let checkpoint = Checkpoint { seq: 4, hash: last.hash, at: at(8), signature: vec![7; 64] };
    store.events_chain(lines.clone(), Some(checkpoint.clone())).await.unwrap();
    assert_eq!(store.chain_head().await, Ok(ChainHead { seq: 4, hash: last.hash }));
    assert_eq!(store.events_after(0, 99).await.unwrap(), lines);
    assert_eq!(store.events_after(2, 1).await.unwrap(), lines[2..3]);
    assert_eq!(store.events_after(4, 9).await.unwrap(), []);
    assert_eq!(store.events_after(u64::MAX, 9).await.unwrap(), []);
    assert_eq!(store.checkpoints_after(3, 9).await.unwrap(), [checkpoint]);
    assert_eq!(store.checkpoints_after(4, 9).await.unwrap(), []);
    let waiting = store.events_unchained(99).await.unwrap();
    assert_eq!(waiting.len(), 2);
    assert_eq!((waiting[1].1, waiting[1].2.clone()), (at(7), stopped.to_json()));
    store.events_chain(chain_of(&store, 99).await, None).await.unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.chain_head().await.unwrap().seq, 6);
    assert_eq!(events(&store).await, 0);
    store.events_chain(Vec::new(), None).await.unwrap();
}

#[tokio::test]
async fn lines_that_do_not_continue_the_chain_are_refused_as_a_whole() {
    let place = Place::fresh();
    let store = place.open();
    assert_eq!(store.chain_head().await, Ok(ChainHead::default()));
    for n in 0..3 {
        add(&store, &format!("d{n}")).await;
    }
    let good = chain_of(&store, 9).await;
    let mut edited = good.clone();
    edited[1].body = edited[1].body.replace("d1", "dx");
    let mut wrong_hash = good.clone();
    wrong_hash[2].hash[0] ^= 1;
    let mut moved = good.clone();
    moved.swap(0, 1);
    let mut redated = good.clone();
    redated[0].at = Wall(0);
    let too_many = [good.clone(), vec![good[2].clone()]].concat();
    let skipped = good[1..].to_vec();
    let seqs = [(edited, 2), (wrong_hash, 3), (moved, 2), (redated, 1), (too_many, 3), (skipped, 2)];
    for (lines, seq) in seqs {
        match store.events_chain(lines, None).await {
            Err(StoreError::ChainBroken { seq: named, .. }) => assert_eq!(named, seq),
            other => panic!("{other:?}"),
        }
    }
    let foreign = Checkpoint { seq: 3, hash: [0; 32], at: at(8), signature: vec![7; 64] };
    let answer = store.events_chain(good.clone(), Some(foreign)).await;
    assert!(matches!(answer, Err(StoreError::ChainBroken { seq: 3, .. })), "{answer:?}");
    assert_eq!(store.chain_head().await, Ok(ChainHead::default()), "nothing half-done");
    assert_eq!(events(&store).await, 3);
    store.events_chain(good.clone(), None).await.unwrap();
    let twice = store.events_chain(good, None).await;
    assert!(matches!(twice, Err(StoreError::ChainBroken { seq: 1, .. })), "{twice:?}");
}

#[tokio::test]
async fn no_event_names_a_secret() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    let secret = types::hex(&secret("token-pump"));
    for (_, _, body) in store.events_unchained(99).await.unwrap() {
        assert!(!body.contains(&secret), "{body}");
    }
}

#[tokio::test]
async fn a_lease_is_one_holders_until_it_runs_out() {
    let place = Place::fresh();
    let store = place.open();
    let lease = async |holder: &str, until, secs| store.lease("chain", holder, at(until), now(secs)).await;
    assert_eq!(lease("a", 10, 0).await, Ok(true));
    assert_eq!(lease("b", 20, 9).await, Ok(false));
    assert_eq!(lease("a", 12, 9).await, Ok(true), "the holder renews");
    assert_eq!(lease("b", 20, 11).await, Ok(false));
    assert_eq!(lease("b", 20, 12).await, Ok(true), "its end is free");
    assert_eq!(lease("a", 30, 12).await, Ok(false));
    assert_eq!(store.lease("other", "a", at(30), now(12)).await, Ok(true));
}

#[tokio::test]
async fn the_time_floor_rises_and_survives_to_the_minute() {
    let place = Place::fresh();
    let store = place.open();
    assert_eq!(store.time_floor(), Wall(0));
    store.note_time(at(0)).await.unwrap();
    store.note_time(at(59)).await.unwrap();
    assert_eq!(store.time_floor(), at(59));
    store.note_time(at(30)).await.unwrap();
    assert_eq!(store.time_floor(), at(59), "it never falls by itself");
    let epoch = store.view().epoch();
    drop(store);
    let store = place.open();
    assert_eq!(store.time_floor(), at(0), "less than a minute is not written");
    store.note_time(at(60)).await.unwrap();
    assert_eq!((store.view().epoch(), store.view().time_floor()), (epoch, at(60)));
    drop(store);
    let store = place.open();
    assert_eq!((store.time_floor(), store.view().time_floor()), (at(60), at(60)));
}

#[tokio::test]
async fn an_operator_can_accept_a_clock_below_the_floor() {
    let place = Place::fresh();
    let store = place.open();
    store.note_time(Wall::from_secs(4_000_000_000)).await.unwrap();
    let mut views = store.watch_view();
    views.mark_unchanged();
    store.accept_clock("ada", now(5)).await.unwrap();
    assert_eq!((store.time_floor(), store.view().time_floor()), (at(5), at(5)));
    assert!(!views.has_changed().unwrap(), "no session is checked again for it");
    assert_eq!(words(&store, 0).await, ["alert"]);
    store.note_time(at(66)).await.unwrap();
    drop(store);
    assert_eq!(place.open().time_floor(), at(66));
}

#[tokio::test]
async fn counters_count_what_happened_and_survive() {
    let place = Place::fresh();
    let store = place.open();
    assert_eq!(store.stats().await.unwrap(), Stats::default());
    live_device(&store, "a", 1, key(1)).await;
    live_device(&store, "b", 2, key(2)).await;
    store.revoke_device(&id("a"), CrlReason::Unspecified, "ada", now(9)).await.unwrap();
    let expected = Stats {
        devices: 2,
        principals: 0,
        certificates: 2,
        revoked: 1,
        tokens: 2,
        events: 12,
        epoch: Epoch { incarnation: 0, counter: 1 },
        epoch_file_error: None,
        write_error: None,
    };
    assert_eq!(store.stats().await.unwrap(), expected);
    drop(store);
    assert_eq!(place.open().stats().await.unwrap(), expected);
}
