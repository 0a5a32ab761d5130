use std::time::Duration;

use store::{AckDetail, CLOSED_KEPT_MAX, Lagging, Reader};
use types::Epoch;

use crate::place::*;

const ALL: [Reader; 3] = [Reader::Handshakes, Reader::Sessions, Reader::CrlWriter];

fn epoch(counter: u64) -> Epoch {
    Epoch { incarnation: 0, counter }
}

#[tokio::test]
async fn a_wait_ends_when_every_reader_has_reached_the_epoch_or_a_later_one() {
    let place = Place::fresh();
    let store = place.open();
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.applied().wait(epoch(5), &ALL, DEADLINE).await })
    };
    store.applied().ack(Reader::Handshakes, epoch(5), AckDetail::Nothing);
    store.applied().ack(Reader::Sessions, epoch(9), AckDetail::Nothing);
    store.applied().ack(Reader::CrlWriter, epoch(4), AckDetail::Nothing);
    assert_eq!(
        store.applied().lagging(epoch(5), &ALL),
        [Lagging { reader: Reader::CrlWriter, applied: epoch(4) }]
    );
    assert!(!waiting.is_finished());
    store.applied().ack(Reader::CrlWriter, epoch(6), AckDetail::Nothing);
    assert_eq!(waiting.await.unwrap(), []);
    // Level-triggered: who comes later does not wait at all.
    assert_eq!(store.applied().wait(epoch(5), &ALL, Duration::ZERO).await, []);
}

#[tokio::test]
async fn a_wait_names_who_lags_at_the_deadline() {
    let place = Place::fresh();
    let store = place.open();
    store.applied().ack(Reader::Handshakes, epoch(2), AckDetail::Nothing);
    let lagging = store.applied().wait(epoch(2), &ALL, Duration::from_millis(10)).await;
    let behind = |reader| Lagging { reader, applied: epoch(0) };
    assert_eq!(lagging, [behind(Reader::Sessions), behind(Reader::CrlWriter)]);
    assert_eq!(store.applied().wait(epoch(2), &[Reader::Handshakes], Duration::ZERO).await, []);
    assert_eq!(store.applied().wait(epoch(9), &[], Duration::ZERO).await, []);
    let words = ALL.map(Reader::as_str);
    assert_eq!(words, ["handshakes", "sessions", "crl"]);
}

#[tokio::test]
async fn an_acknowledgement_never_goes_back() {
    let place = Place::fresh();
    let store = place.open();
    store.applied().ack(Reader::Sessions, epoch(7), AckDetail::Nothing);
    store.applied().ack(Reader::Sessions, epoch(3), AckDetail::Nothing);
    assert_eq!(store.applied().applied(Reader::Sessions), epoch(7));
    let next_life = Epoch { incarnation: 1, counter: 0 };
    store.applied().ack(Reader::Sessions, next_life, AckDetail::Nothing);
    assert_eq!(store.applied().applied(Reader::Sessions), next_life);
}

#[tokio::test]
async fn the_board_counts_the_closed_sessions_of_a_revocation() {
    let place = Place::fresh();
    let store = place.open();
    let board = store.applied();
    board.ack(Reader::Sessions, epoch(1), AckDetail::Closed(vec![cert(1)]));
    board.ack(Reader::Sessions, epoch(2), AckDetail::Closed(vec![cert(1), cert(2), cert(1)]));
    assert_eq!(board.sessions_closed(epoch(2), &[cert(1)]), 2);
    assert_eq!(board.sessions_closed(epoch(1), &[cert(1), cert(2)]), 4);
    assert_eq!(board.sessions_closed(epoch(3), &[cert(1)]), 0);
    assert_eq!(board.sessions_closed(epoch(1), &[cert(3)]), 0);
    // Bounded: the oldest are forgotten.
    let many = (0..CLOSED_KEPT_MAX).map(|_| cert(9)).collect();
    board.ack(Reader::Sessions, epoch(3), AckDetail::Closed(many));
    assert_eq!(board.sessions_closed(epoch(1), &[cert(1), cert(2)]), 0);
    assert_eq!(board.sessions_closed(epoch(1), &[cert(9)]), CLOSED_KEPT_MAX);
}

#[tokio::test]
async fn the_board_names_the_crls_that_show_an_epoch() {
    let place = Place::fresh();
    let store = place.open();
    let board = store.applied();
    let crl = |label: &str, number| AckDetail::Crl(vec![(label.to_owned(), number)]);
    board.ack(Reader::CrlWriter, epoch(4), crl("devices", 41));
    board.ack(Reader::CrlWriter, epoch(5), crl("services", 7));
    board.ack(Reader::CrlWriter, epoch(5), crl("devices", 42));
    assert_eq!(board.crls(epoch(5)), [("devices".to_owned(), 42), ("services".to_owned(), 7)]);
    assert_eq!(board.crls(epoch(6)), []);
}
