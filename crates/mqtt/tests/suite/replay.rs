use guard::{Mode, ReplayKind, ReplayRule, Scope};
use mqtt::{Input, Note};
use types::{DeviceId, TopicFilter};

use crate::harness::World;
use crate::packets::{again, hello, publish, pubrel, retain, subscribe};

fn rule(mode: Mode) -> ReplayRule {
    let mut rule = ReplayRule::new(TopicFilter::parse("t/#").unwrap());
    rule.mode = mode;
    rule.epoch = None;
    rule
}

fn payload(seq: u64) -> Vec<u8> {
    format!(r#"{{"temp":21.5,"seq":{seq}}}"#).into_bytes()
}

fn verdicts(w: &World) -> Vec<(ReplayKind, bool)> {
    let told = w.sink.notes.iter().filter_map(|note| match note {
        Note::ReplayRefused { kind, enforced, .. } => Some((*kind, *enforced)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_replayed_message_is_acknowledged_dropped_and_told() {
    let mut w = World::guarded(&[rule(Mode::Enforce)]);
    let to = w.client("svc");
    w.send(to, &subscribe(1, &[("t/a", 0)]));
    let dev = w.client("dev-1");
    assert_eq!(w.send(dev, &publish("t/a", &payload(1), 1, 1)), ["puback 1"]);
    assert_eq!(w.send(dev, &publish("t/a", &payload(2), 0, 0)), [""; 0]);
    assert_eq!(w.send(dev, &publish("t/a", &payload(1), 1, 3)), ["puback 3"]);
    assert_eq!(w.send(dev, &publish("t/a", &payload(2), 2, 4)), ["pubrec 4"]);
    assert_eq!(w.send(dev, &publish("t/a", b"no field", 1, 5)), ["puback 5"]);
    assert_eq!(w.seen(to).len(), 2);
    assert_eq!(
        verdicts(&w),
        [(ReplayKind::Duplicate, true), (ReplayKind::Duplicate, true), (ReplayKind::Missing, true)]
    );
    assert_eq!(w.core.stats().replay_refused, 3);
    let Some(Note::ReplayRefused { conn, who, topic, .. }) = w.sink.notes.last() else { panic!("no note") };
    assert_eq!((*conn, who.principal().name.as_str(), topic.as_str()), (dev, "dev-1", "t/a"));
}

#[test]
fn under_observation_everything_passes_and_is_told() {
    let mut w = World::guarded(&[rule(Mode::Observe)]);
    let dev = w.client("dev-1");
    w.send(dev, &subscribe(1, &[("t/a", 0)]));
    for _ in 0..2 {
        assert_eq!(w.send(dev, &publish("t/a", &payload(1), 0, 0)).len(), 1);
    }
    assert_eq!(verdicts(&w), [(ReplayKind::Duplicate, false)]);
    assert_eq!((w.core.stats().replay_observed, w.core.stats().replay_refused), (1, 0));
}

#[test]
fn an_honest_retry_is_no_replay() {
    let mut w = World::guarded(&[rule(Mode::Enforce)]);
    let to = w.client("svc");
    w.send(to, &subscribe(1, &[("t/a", 0)]));
    let dev = w.client_with("dev-1", &hello("").stored());
    w.send(dev, &publish("t/a", &payload(1), 1, 7));
    w.lose(dev);
    let dev = w.client_with("dev-1", &hello("").stored());
    assert_eq!(w.send(dev, &again("t/a", &payload(1), 1, 7)), ["puback 7"]);
    assert_eq!(w.seen(to).len(), 1);
    assert_eq!(verdicts(&w), []);
    // The same content under another id is one, and so is the same id without DUP.
    w.send(dev, &again("t/a", &payload(1), 1, 8));
    w.send(dev, &publish("t/a", &payload(1), 1, 7));
    assert_eq!(verdicts(&w), [(ReplayKind::Duplicate, true); 2]);
}

#[test]
fn a_message_that_the_rules_refuse_uses_up_no_counter() {
    let mut w = World::guarded(&[rule(Mode::Enforce)]);
    let dev = w.client("dev-1");
    w.step(Input::Policy(std::sync::Arc::new(policy::Table::deny_all())));
    w.send(dev, &publish("t/a", &payload(1), 1, 1));
    w.step(Input::Policy(crate::harness::table(crate::harness::RULES, 3)));
    w.send(dev, &subscribe(1, &[("t/a", 0)]));
    assert_eq!(w.send(dev, &publish("t/a", &payload(1), 1, 2)).len(), 2);
    assert_eq!(verdicts(&w), []);
}

#[test]
fn a_counter_of_scope_connection_may_begin_anew_with_each() {
    let mut by_connection = rule(Mode::Enforce);
    by_connection.scope = Scope::Connection;
    let mut w = World::guarded(&[by_connection]);
    for _ in 0..2 {
        let dev = w.client("dev-1");
        w.send(dev, &publish("t/a", &payload(1), 1, 1));
        w.send(dev, &publish("t/a", &payload(2), 1, 2));
        w.lose(dev);
    }
    assert_eq!(verdicts(&w), []);
}

#[test]
fn an_operators_reset_lets_a_device_begin_anew() {
    let mut w = World::guarded(&[rule(Mode::Enforce)]);
    let dev = w.client("dev-1");
    w.send(dev, &publish("t/a", &payload(5), 1, 1));
    w.step(Input::ResetReplay(&DeviceId::parse("dev-1").unwrap()));
    w.send(dev, &publish("t/a", &payload(5), 1, 2));
    assert_eq!(verdicts(&w), []);
}

#[test]
fn wills_and_retained_clears_are_exempt() {
    let mut w = World::guarded(&[rule(Mode::Enforce)]);
    let to = w.client("svc");
    w.send(to, &subscribe(1, &[("t/#", 0)]));
    let dev = w.client_with("dev-1", &hello("").will("t/will", "offline", 0, false));
    w.send(dev, &retain("t/a", &payload(1), 0, 0));
    w.send(dev, &retain("t/a", b"", 0, 0));
    w.send(dev, &retain("t/a", b"", 0, 0));
    w.lose(dev);
    assert_eq!(w.seen(to).len(), 4);
    assert_eq!(verdicts(&w), []);
    assert_eq!(w.core.stats().retained_messages, 0);
}

#[test]
fn topics_without_a_rule_are_not_looked_at_and_new_rules_hold_at_once() {
    let mut w = World::new();
    let dev = w.client("dev-1");
    w.send(dev, &publish("t/a", &payload(1), 1, 1));
    w.send(dev, &publish("t/a", &payload(1), 1, 2));
    w.step(Input::Replay(std::sync::Arc::new(guard::ReplayTable::new(vec![rule(Mode::Enforce)]))));
    w.send(dev, &publish("t/a", &payload(1), 1, 3));
    assert_eq!(verdicts(&w), []);
    w.send(dev, &publish("t/a", &payload(1), 1, 4));
    w.send(dev, &publish("devices/dev-1/a", &payload(1), 1, 5));
    w.send(dev, &publish("devices/dev-1/a", &payload(1), 1, 6));
    assert_eq!(verdicts(&w), [(ReplayKind::Duplicate, true)]);
}

#[test]
fn a_quality_2_message_is_checked_at_its_first_publish_only() {
    let mut w = World::guarded(&[rule(Mode::Enforce)]);
    let dev = w.client("dev-1");
    w.send(dev, &publish("t/a", &payload(1), 2, 1));
    w.send(dev, &again("t/a", &payload(1), 2, 1));
    w.send(dev, &pubrel(1));
    assert_eq!(verdicts(&w), []);
}
