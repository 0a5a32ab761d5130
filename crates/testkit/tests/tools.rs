//! The clock, the randomness and the recorder.

use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Observer as _};
use testkit::{FixedClock, Recorder, Seeded, StepClock, fixed_now};
use types::{Clock as _, Entropy as _, Mono, Now, Wall};

const SOON: Duration = Duration::from_secs(10);

fn loaded(epoch: u64) -> Event {
    Event::PolicyLoaded { epoch, rules: 0 }
}

#[test]
fn a_fixed_clock_stands_still() {
    let clock = FixedClock::default();
    assert_eq!(clock.now(), fixed_now());
    assert_eq!(clock.now(), clock.now());
}

#[test]
fn a_step_clock_moves_when_it_is_told() {
    let clock = StepClock::default();
    let start = clock.now();
    clock.advance(Duration::from_millis(1500));
    assert_eq!(clock.now().mono.since(start.mono), Duration::from_millis(1500));
    assert_eq!(clock.now().wall.0 - start.wall.0, 1500);
    clock.set_wall(Wall(0));
    assert_eq!(clock.now(), Now { wall: Wall(0), mono: start.mono.plus(Duration::from_millis(1500)) });
    clock.set_mono(Mono(5));
    assert_eq!(clock.now(), Now { wall: Wall(0), mono: Mono(5) });
    clock.set(start);
    assert_eq!(clock.now(), start);
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_seed_others() {
    let draw = |seed, len| {
        let mut out = vec![0; len];
        Seeded::new(seed).fill(&mut out);
        out
    };
    assert_eq!(draw(1, 21), draw(1, 21));
    assert_eq!(draw(1, 8), draw(1, 21)[..8]);
    assert_ne!(draw(1, 21), draw(2, 21));
    // The first output of SplitMix64 for the seed 0, from its reference implementation.
    assert_eq!(Seeded::new(0).next_u64(), 0xe220_a839_7b1d_cdaf);
    let mut seeded = Seeded::new(3);
    assert!((0..1000).all(|_| seeded.below(7) < 7));
}

#[test]
fn a_recorder_keeps_events_in_order() {
    let recorder = Recorder::new();
    recorder.note(loaded(1));
    recorder.note(Event::ServerStopped { reason: "signal".into() });
    assert_eq!(recorder.codes(), ["policy.loaded", "server.stopped"]);
    assert_eq!(recorder.events()[0], loaded(1));
    assert_eq!(recorder.count(|event| event.code() == "policy.loaded"), 1);
    assert_eq!(recorder.find(|event| event.code() == "alert"), None);
    recorder.clear();
    assert!(recorder.events().is_empty());
}

#[tokio::test]
async fn a_wait_finds_what_has_been_and_what_is_to_come() {
    let recorder = Arc::new(Recorder::new());
    recorder.note(loaded(1));
    assert_eq!(recorder.wait_code(SOON, "policy.loaded").await, loaded(1));
    let other = Arc::clone(&recorder);
    let noted = tokio::spawn(async move {
        for epoch in 2..100 {
            other.note(loaded(epoch));
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(recorder.wait(SOON, |event| *event == loaded(99)).await, loaded(99));
    noted.await.unwrap();
}

#[tokio::test]
async fn a_wait_in_vain_fails_and_tells_what_was_heard() {
    let recorder = Arc::new(Recorder::new());
    recorder.note(loaded(7));
    let other = Arc::clone(&recorder);
    let waiting = tokio::spawn(async move { other.wait_code(Duration::from_millis(1), "alert").await });
    let panic = waiting.await.unwrap_err().into_panic();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("did not come") && message.contains("epoch: 7"), "{message}");
}
