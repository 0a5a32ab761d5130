use mqtt::{Input, Limits, Record};

use crate::harness::{RULES, World, table};
use crate::packets::{hello, puback, publish, subscribe};

const ONLY_SVC: &str = "user svc\ntopic readwrite #\n";

#[test]
fn new_rules_hold_for_the_next_publish() {
    let mut w = World::new();
    let dev = w.client("dev-1");
    w.send(dev, &publish("t/a", b"x", 1, 1));
    assert_eq!(w.refusals(), [""; 0]);
    w.step(Input::Policy(table(ONLY_SVC, 2)));
    assert_eq!(w.send(dev, &publish("t/a", b"x", 1, 2)), ["puback 2"]);
    assert_eq!(w.refusals().len(), 1);
    w.step(Input::Policy(table(RULES, 3)));
    w.send(dev, &publish("t/a", b"x", 1, 3));
    assert_eq!(w.refusals().len(), 1);
}

#[test]
fn new_rules_take_live_subscriptions_away_and_leave_the_rest() {
    let mut w = World::new();
    let dev = w.client("dev-1");
    w.send(dev, &subscribe(1, &[("t/a", 0), ("devices/dev-1/#", 0)]));
    w.step(Input::Policy(table("pattern read devices/%u/#\nuser svc\ntopic readwrite #\n", 2)));
    assert_eq!(w.refusals(), [r#"device "dev-1" may not subscribe to "t/a": no rule permits it"#]);
    assert_eq!(w.core.stats().subscriptions, 1);
    let svc = w.client("svc");
    w.send(svc, &publish("t/a", b"x", 0, 0));
    w.send(svc, &publish("devices/dev-1/a", b"x", 0, 0));
    assert_eq!(w.seen(dev), ["publish devices/dev-1/a=x"]);
}

#[test]
fn a_deny_on_a_part_of_a_filter_is_held_at_each_delivery() {
    let mut w = World::new();
    let rules = "user svc-2\ntopic read t/#\ntopic deny t/private\nuser svc\ntopic readwrite #\n";
    w.step(Input::Policy(table(rules, 2)));
    let reader = w.client("svc-2");
    assert_eq!(w.send(reader, &subscribe(1, &[("t/#", 1)])), ["suback 1 [01]"]);
    let svc = w.client("svc");
    w.send(svc, &publish("t/open", b"x", 1, 1));
    w.send(svc, &publish("t/private", b"x", 1, 2));
    assert_eq!(w.seen(reader), ["publish q1 #1 t/open=x"]);
    assert_eq!((w.core.stats().receive_refused, w.core.stats().publish_refused), (1, 0));
}

#[test]
fn what_waits_is_decided_again_when_the_rules_have_changed() {
    let mut w = World::with(Limits { inflight_max: 1, ..Limits::default() });
    let dev = w.client_with("dev-1", &hello("").stored());
    w.send(dev, &subscribe(1, &[("t/#", 1)]));
    let svc = w.client("svc");
    for (id, topic) in [(1, "t/a"), (2, "t/private"), (3, "t/b")] {
        w.send(svc, &publish(topic, b"x", 1, id));
    }
    assert_eq!(w.seen(dev), ["publish q1 #1 t/a=x"]);
    w.step(Input::Policy(table("pattern readwrite t/#\npattern deny t/private\n", 2)));
    assert_eq!(w.send(dev, &puback(1)), ["publish q1 #2 t/b=x"]);
    let settled: Vec<_> = w
        .sink
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Settled { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    assert_eq!(settled, [1, 2], "the acknowledged one and the forbidden one");
}

#[test]
fn a_resumed_session_is_authorised_by_todays_rules() {
    let mut w = World::new();
    let dev = w.client_with("dev-1", &hello("").stored());
    w.send(dev, &subscribe(1, &[("t/a", 1), ("devices/dev-1/a", 1)]));
    let svc = w.client("svc");
    w.send(svc, &publish("t/a", b"in flight", 1, 1));
    w.lose(dev);
    w.send(svc, &publish("t/a", b"queued", 1, 2));
    w.send(svc, &publish("devices/dev-1/a", b"queued", 1, 3));
    w.seen(dev);
    w.step(Input::Policy(table("pattern read devices/%u/#\nuser svc\ntopic readwrite #\n", 2)));
    let dev = w.open("dev-1");
    let answer = w.send(dev, &hello("").stored().bytes());
    assert_eq!(answer, ["connack 1 0", "publish q1 #2 devices/dev-1/a=queued"]);
    assert_eq!(w.refusals(), [r#"device "dev-1" may not subscribe to "t/a": no rule permits it"#]);
    assert_eq!(w.core.stats().subscriptions, 1);
    assert_eq!(w.core.stats().receive_refused, 2);
}

#[test]
fn a_message_for_a_sleeping_session_is_decided_by_the_rules_of_that_moment() {
    let mut w = World::new();
    let dev = w.client_with("dev-1", &hello("").stored());
    w.send(dev, &subscribe(1, &[("t/a", 1)]));
    w.lose(dev);
    w.step(Input::Policy(table(ONLY_SVC, 2)));
    let svc = w.client("svc");
    w.send(svc, &publish("t/a", b"x", 1, 1));
    assert_eq!((w.core.stats().queued_messages, w.core.stats().receive_refused), (0, 1));
}

#[test]
fn without_rules_nothing_passes() {
    let mut w = World::new();
    w.step(Input::Policy(std::sync::Arc::new(policy::Table::deny_all())));
    let dev = w.client("dev-1");
    assert_eq!(w.send(dev, &subscribe(1, &[("t/a", 0)])), ["suback 1 [80]"]);
    assert_eq!(w.send(dev, &publish("t/a", b"x", 1, 1)), ["puback 1"]);
    assert_eq!(w.core.stats().delivered, 0);
}

#[test]
fn a_topic_that_comes_in_a_row_is_decided_anew_under_new_rules_and_for_a_new_owner() {
    let mut w = World::new();
    let reader = w.client_with("svc-2", &hello("").stored());
    w.step(Input::Policy(table("user svc-2\ntopic read t/#\nuser svc\ntopic readwrite #\n", 2)));
    w.send(reader, &subscribe(1, &[("t/#", 0)]));
    let svc = w.client("svc");
    for payload in ["1", "2"] {
        w.send(svc, &publish("t/a", payload.as_bytes(), 0, 0));
    }
    w.send(svc, &publish("t/b", b"3", 0, 0));
    assert_eq!(w.seen(reader), ["publish t/a=1", "publish t/a=2", "publish t/b=3"]);
    w.step(Input::Policy(table(
        "user svc-2\ntopic read t/#\ntopic deny t/b\nuser svc\ntopic readwrite #\n",
        3,
    )));
    w.send(svc, &publish("t/b", b"4", 0, 0));
    w.send(svc, &publish("t/a", b"5", 0, 0));
    assert_eq!(w.seen(reader), ["publish t/a=5"]);
    let owner = crate::pki::PKI.peer(types::PrincipalKind::Service, "svc-2");
    let again = w.open_as(owner);
    w.send(again, &hello("").stored().bytes());
    w.send(svc, &publish("t/a", b"6", 0, 0));
    assert_eq!(w.seen(again), ["publish t/a=6"]);
}
