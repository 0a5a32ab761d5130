use mqtt::{Input, Limits, Record};

use crate::harness::World;
use crate::packets::{hello, publish, retain, subscribe};

#[test]
fn a_new_subscriber_is_sent_what_is_retained_and_a_live_one_hears_it_plain() {
    let mut w = World::new();
    let live = w.client("dev-1");
    w.send(live, &subscribe(1, &[("t/+", 1)]));
    let from = w.client("dev-2");
    assert_eq!(w.send(from, &retain("t/a", b"one", 1, 1)), ["puback 1"]);
    w.send(from, &retain("t/b", b"two", 0, 0));
    assert_eq!(w.seen(live), ["publish q1 #1 t/a=one", "publish t/b=two"]);
    let late = w.client("dev-3");
    let mut seen = w.send(late, &subscribe(1, &[("t/+", 1)]));
    seen[1..].sort();
    assert_eq!(seen, ["suback 1 [01]", "publish q1 #1 retain t/a=one", "publish retain t/b=two"]);
    // Asking again brings them again, with the quality of the new subscription.
    assert_eq!(w.send(late, &subscribe(2, &[("t/a", 0)])), ["suback 2 [00]", "publish retain t/a=one"]);
    assert_eq!(w.core.stats().retained_messages, 2);
}

#[test]
fn a_retained_message_replaces_the_one_before_and_an_empty_one_clears() {
    let mut w = World::new();
    let from = w.client("dev-1");
    w.send(from, &retain("t/a", b"one", 0, 0));
    w.send(from, &retain("t/a", b"two", 0, 0));
    w.send(from, &publish("t/a", b"not kept", 0, 0));
    let late = w.client("dev-2");
    assert_eq!(w.send(late, &subscribe(1, &[("t/#", 0)])), ["suback 1 [00]", "publish retain t/a=two"]);
    w.send(from, &retain("t/a", b"", 0, 0));
    assert_eq!(w.seen(late), ["publish t/a="]);
    assert_eq!(w.send(late, &subscribe(2, &[("t/#", 0)])), ["suback 2 [00]"]);
    let stats = w.core.stats();
    assert_eq!((stats.retained_messages, stats.retained_bytes), (0, 0));
}

#[test]
fn a_retained_message_is_decided_for_each_receiver() {
    let mut w = World::new();
    let svc = w.client("svc");
    w.send(svc, &retain("secret/a", b"x", 0, 0));
    w.send(svc, &retain("devices/dev-1/a", b"x", 0, 0));
    let dev = w.client("dev-1");
    let seen = w.send(dev, &subscribe(1, &[("devices/dev-1/+", 0), ("secret/a", 0)]));
    assert_eq!(seen, ["suback 1 [00, 80]", "publish retain devices/dev-1/a=x"]);
}

#[test]
fn a_refused_publish_is_not_retained() {
    let mut w = World::new();
    let dev = w.client("dev-1");
    w.send(dev, &retain("secret/a", b"x", 1, 1));
    assert_eq!(w.core.stats().retained_messages, 0);
}

#[test]
fn a_full_store_refuses_new_topics_and_says_so_but_live_delivery_goes_on() {
    let mut w = World::with(Limits { retained_messages_max: 1, ..Limits::default() });
    let dev = w.client("dev-1");
    w.send(dev, &subscribe(1, &[("t/+", 0)]));
    w.send(dev, &retain("t/a", b"one", 0, 0));
    assert_eq!(w.send(dev, &retain("t/b", b"two", 1, 1)), ["publish t/b=two", "puback 1"]);
    assert_eq!(w.limits_told(), [(mqtt::Limit::RetainedMessages, 1)]);
    w.send(dev, &retain("t/a", b"three", 0, 0));
    w.send(dev, &retain("t/a", b"", 0, 0));
    w.send(dev, &retain("t/b", b"four", 0, 0));
    let late = w.client("dev-2");
    assert_eq!(w.send(late, &subscribe(1, &[("t/+", 0)])), ["suback 1 [00]", "publish retain t/b=four"]);
    assert_eq!(w.core.stats().retained_refused, 1);
}

#[test]
fn bytes_of_retained_messages_have_a_limit() {
    let mut w = World::with(Limits { retained_bytes_max: 100, ..Limits::default() });
    let dev = w.client("dev-1");
    w.send(dev, &retain("t/a", &[b'x'; 60], 0, 0));
    w.send(dev, &retain("t/b", &[b'x'; 60], 0, 0));
    assert_eq!(w.limits_told(), [(mqtt::Limit::RetainedBytes, 1)]);
    assert_eq!(w.core.stats().retained_messages, 1);
}

#[test]
fn one_device_does_not_take_the_place_of_all_others() {
    let limits =
        Limits { retained_messages_max: 4, retained_messages_per_device_max: 2, ..Limits::default() };
    let mut w = World::with(limits);
    let (greedy, other, svc) = (w.client("dev-1"), w.client("dev-2"), w.client("svc"));
    for topic in ["t/a", "t/b", "t/c"] {
        w.send(greedy, &retain(topic, b"x", 0, 0));
    }
    assert_eq!(w.limits_told(), [(mqtt::Limit::RetainedMessages, 1)]);
    assert_eq!(w.core.stats().retained_messages, 2);
    // Its own topics it may change; the others have their places still; a service has no share.
    w.send(greedy, &retain("t/a", b"longer", 0, 0));
    w.send(other, &retain("t/d", b"y", 0, 0));
    assert_eq!((w.core.stats().retained_refused, w.core.stats().retained_messages), (1, 3));
    // What another overwrites counts on the other's share, and what is cleared on nobody's.
    w.send(svc, &retain("t/b", b"mine now", 0, 0));
    w.send(greedy, &retain("t/c", b"z", 0, 0));
    assert_eq!((w.core.stats().retained_refused, w.core.stats().retained_messages), (1, 4));
    w.send(greedy, &retain("t/a", b"", 0, 0));
    w.send(greedy, &retain("t/e", b"z", 0, 0));
    assert_eq!((w.core.stats().retained_refused, w.core.stats().retained_messages), (1, 4));
}

#[test]
fn bytes_of_one_devices_retained_messages_have_a_limit() {
    let mut w = World::with(Limits { retained_bytes_per_device_max: 100, ..Limits::default() });
    let dev = w.client("dev-1");
    w.send(dev, &retain("t/a", &[b'x'; 101], 0, 0));
    w.send(dev, &retain("t/a", &[b'x'; 60], 0, 0));
    w.send(dev, &retain("t/b", &[b'x'; 60], 0, 0));
    assert_eq!((w.core.stats().retained_refused, w.core.stats().retained_messages), (2, 1));
    w.send(dev, &retain("t/a", &[b'y'; 90], 0, 0));
    let svc = w.client("svc");
    w.send(svc, &retain("t/b", &[b'x'; 600], 0, 0));
    assert_eq!((w.core.stats().retained_refused, w.core.stats().retained_messages), (2, 2));
}

#[test]
fn a_retained_publish_is_acknowledged_when_it_is_durable() {
    let mut w = World::new();
    w.sink.journal = true;
    let dev = w.client("dev-1");
    assert_eq!(w.send(dev, &retain("t/a", b"x", 1, 1)), [""; 0]);
    assert!(matches!(&w.sink.records[..], [Record::Retained { message, .. }] if message.payload() == b"x"));
    w.step(Input::Durable { lsn: 1 });
    assert_eq!(w.seen(dev), ["puback 1"]);
}

#[test]
fn a_burst_of_retained_messages_waits_for_a_slow_reader() {
    let limits = Limits { output_bytes_max: 100, ..Limits::default() };
    let mut w = World::with(limits);
    let dev = w.client("dev-1");
    for topic in 0..10 {
        w.send(dev, &retain(&format!("t/{topic}"), &[b'x'; 40], 0, 0));
    }
    let late = w.client("dev-2");
    w.sink.deaf.insert(late);
    let mut got = w.send(late, &subscribe(1, &[("t/+", 0)])).len() - 1;
    assert!((1..10).contains(&got), "{got}");
    for _ in 0..10 {
        w.sink.waiting.insert(late, 0);
        w.step(Input::Drained { conn: late });
        got += w.seen(late).len();
    }
    assert_eq!(got, 10);
    assert_eq!(w.core.stats().output_dropped, 0);
}

#[test]
fn a_stored_subscriber_of_a_retained_message_gets_it_again_with_its_flag_after_a_loss() {
    let mut w = World::new();
    let svc = w.client("svc");
    w.send(svc, &retain("t/a", b"kept", 1, 1));
    let dev = w.client_with("dev-1", &hello("").stored());
    let seen = w.send(dev, &subscribe(1, &[("t/a", 1)]));
    assert_eq!(seen, ["suback 1 [01]", "publish q1 #1 retain t/a=kept"]);
    w.lose(dev);
    let dev = w.open("dev-1");
    assert_eq!(
        w.send(dev, &hello("").stored().bytes()),
        ["connack 1 0", "publish q1 #1 dup retain t/a=kept"]
    );
}
