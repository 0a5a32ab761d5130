use mqtt::{Command, Input, Limits, ShardId};

use crate::harness::World;
use crate::packets::{hello, puback, publish, retain, subscribe, unsubscribe};

/// Several shards and the mail between them, which moves when the test says so.
struct Shards(Vec<World>);

impl Shards {
    fn new(count: ShardId) -> Self {
        Self((0..count).map(|shard| World::shard(Limits::default(), shard, count, &[])).collect())
    }

    /// Delivers what `from` has for `to`; how much that was.
    fn mail(&mut self, from: usize, to: usize) -> usize {
        let (mut commands, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0[from].sink.forwarded)
            .into_iter()
            .partition(|(shard, _)| usize::from(*shard) == to);
        self.0[from].sink.forwarded = rest;
        let mut commands: Vec<Command> = commands.drain(..).map(|(_, command)| command).collect();
        let count = commands.len();
        if count > 0 {
            self.0[to].step(Input::Remote { from: from as ShardId, commands: &mut commands });
            assert_eq!(commands.len(), 0);
        }
        count
    }

    /// Delivers until nothing is under way.
    fn settle(&mut self) {
        let count = self.0.len();
        while (0..count)
            .flat_map(|from| (0..count).map(move |to| (from, to)))
            .any(|(from, to)| self.mail(from, to) > 0)
        {}
    }
}

#[test]
fn one_shard_alone_says_nothing_to_others() {
    let mut w = World::new();
    let conn = w.client_with("dev-1", &hello("").stored());
    w.send(conn, &subscribe(1, &[("t/a", 1)]));
    w.send(conn, &retain("t/a", b"x", 1, 1));
    w.send(conn, &unsubscribe(2, &["t/a"]));
    assert_eq!(w.sink.forwarded.len(), 0);
}

#[test]
fn a_message_reaches_subscribers_of_another_shard_once_their_suback_was_sent() {
    let mut s = Shards::new(2);
    let to = s.0[0].client("dev-1");
    assert_eq!(s.0[0].send(to, &subscribe(1, &[("t/+", 1)])), [""; 0]);
    s.mail(0, 1);
    assert_eq!(s.0[0].seen(to), [""; 0]);
    s.mail(1, 0);
    assert_eq!(s.0[0].seen(to), ["suback 1 [01]"]);
    let from = s.0[1].client("dev-2");
    assert_eq!(s.0[1].send(from, &publish("t/a", b"x", 1, 1)), ["puback 1"], "clean sessions need no gate");
    s.0[1].send(from, &publish("t/a", b"y", 0, 0));
    s.0[1].send(from, &publish("t/a/b", b"z", 0, 0));
    assert_eq!(s.0[1].sink.forwarded.len(), 2);
    s.mail(1, 0);
    assert_eq!(s.0[0].seen(to), ["publish q1 #1 t/a=x", "publish t/a=y"]);
}

#[test]
fn a_suback_waits_for_every_other_shard() {
    let mut s = Shards::new(3);
    let to = s.0[0].client("dev-1");
    s.0[0].send(to, &subscribe(1, &[("t/a", 1)]));
    s.mail(0, 1);
    s.mail(1, 0);
    assert_eq!(s.0[0].seen(to), [""; 0]);
    s.mail(0, 2);
    s.mail(2, 0);
    assert_eq!(s.0[0].seen(to), ["suback 1 [01]"]);
}

#[test]
fn a_filter_that_is_announced_already_waits_for_the_first_announcement() {
    let mut s = Shards::new(2);
    let (first, second) = (s.0[0].client("dev-1"), s.0[0].client("dev-2"));
    s.0[0].send(first, &subscribe(1, &[("t/a", 1)]));
    assert_eq!(s.0[0].send(second, &subscribe(1, &[("t/a", 1)])), [""; 0]);
    assert_eq!(s.0[0].sink.forwarded.len(), 1);
    s.settle();
    assert_eq!(s.0[0].seen(second), ["suback 1 [01]"]);
    let third = s.0[0].client("dev-3");
    assert_eq!(s.0[0].send(third, &subscribe(1, &[("t/a", 0)])), ["suback 1 [00]"]);
}

#[test]
fn the_last_unsubscribe_of_a_shard_stops_its_mail() {
    let mut s = Shards::new(2);
    let (a, b) = (s.0[0].client("dev-1"), s.0[0].client_with("dev-2", &hello("").stored()));
    for conn in [a, b] {
        s.0[0].send(conn, &subscribe(1, &[("t/a", 1)]));
    }
    s.settle();
    let from = s.0[1].client("dev-3");
    // While a persistent session subscribes, the publisher waits for the other shard.
    assert_eq!(s.0[1].send(from, &publish("t/a", b"x", 1, 1)), [""; 0]);
    s.settle();
    assert_eq!(s.0[1].seen(from), ["puback 1"]);
    s.0[0].send(b, &unsubscribe(2, &["t/a"]));
    s.settle();
    assert_eq!(s.0[1].send(from, &publish("t/a", b"y", 1, 2)), ["puback 2"]);
    s.settle();
    s.0[0].lose(a);
    s.settle();
    s.0[1].send(from, &publish("t/a", b"z", 1, 3));
    assert_eq!(s.0[1].sink.forwarded.len(), 0);
}

#[test]
fn the_publisher_waits_until_the_other_shards_record_is_durable() {
    let mut s = Shards::new(2);
    let to = s.0[0].client_with("dev-1", &hello("").stored());
    s.0[0].send(to, &subscribe(1, &[("t/a", 1)]));
    s.settle();
    s.0[0].lose(to);
    s.0[0].sink.journal = true;
    let from = s.0[1].client("dev-2");
    assert_eq!(s.0[1].send(from, &publish("t/a", b"x", 1, 1)), [""; 0]);
    s.settle();
    assert_eq!(s.0[1].seen(from), [""; 0]);
    let lsn = s.0[0].sink.records.len() as u64;
    s.0[0].step(Input::Durable { lsn });
    s.settle();
    assert_eq!(s.0[1].seen(from), ["puback 1"]);
    let to = s.0[0].open("dev-1");
    assert_eq!(s.0[0].send(to, &hello("").stored().bytes()), ["connack 1 0", "publish q1 #1 t/a=x"]);
    s.0[0].send(to, &puback(1));
}

#[test]
fn acknowledgements_between_shards_keep_their_order_behind_a_slow_record() {
    let mut s = Shards::new(2);
    let to = s.0[0].client_with("dev-1", &hello("").stored());
    s.0[0].send(to, &subscribe(1, &[("t/a", 1)]));
    s.settle();
    s.0[0].sink.journal = true;
    let from = s.0[1].client("dev-2");
    s.0[1].send(from, &publish("t/a", b"x", 1, 1));
    s.mail(1, 0);
    // The next command needs no record, but its acknowledgement covers the one that does.
    assert_eq!(s.0[1].send(from, &retain("t/b", b"kept", 1, 2)), [""; 0]);
    s.settle();
    assert_eq!(s.0[1].seen(from), [""; 0]);
    let lsn = s.0[0].sink.records.len() as u64;
    s.0[0].step(Input::Durable { lsn });
    s.settle();
    assert_eq!(s.0[1].seen(from), ["puback 1", "puback 2"]);
}

#[test]
fn a_retained_publish_is_acknowledged_when_every_shard_has_it() {
    let mut s = Shards::new(3);
    let from = s.0[0].client("dev-1");
    assert_eq!(s.0[0].send(from, &retain("t/a", b"kept", 1, 1)), [""; 0]);
    s.mail(0, 1);
    s.mail(1, 0);
    assert_eq!(s.0[0].seen(from), [""; 0]);
    s.mail(0, 2);
    s.mail(2, 0);
    assert_eq!(s.0[0].seen(from), ["puback 1"]);
    for shard in 1..3 {
        let to = s.0[shard].client(&format!("dev-{shard}x"));
        s.0[shard].send(to, &subscribe(1, &[("t/a", 1)]));
        s.settle();
        assert_eq!(s.0[shard].seen(to), ["suback 1 [01]", "publish q1 #1 retain t/a=kept"]);
    }
}

#[test]
fn a_retained_message_on_its_way_is_seen_by_whoever_has_its_suback() {
    let mut s = Shards::new(2);
    let to = s.0[0].client("dev-1");
    let from = s.0[1].client("dev-2");
    s.0[0].send(to, &subscribe(1, &[("t/a", 0)]));
    // Published before the filter arrives there, retained here before the acknowledgement arrives.
    s.0[1].send(from, &retain("t/a", b"kept", 1, 1));
    s.settle();
    assert_eq!(s.0[0].seen(to), ["suback 1 [00]", "publish retain t/a=kept"]);
}

#[test]
fn two_shards_that_retain_the_same_topic_at_once_agree() {
    let mut s = Shards::new(3);
    let a = s.0[0].client("dev-1");
    let b = s.0[1].client("dev-2");
    s.0[0].send(a, &retain("t/a", b"from 0", 1, 1));
    s.0[1].send(b, &retain("t/a", b"from 1", 1, 1));
    s.settle();
    assert_eq!(s.0[0].seen(a), ["puback 1"]);
    let mut kept = Vec::new();
    for shard in 0..3 {
        let to = s.0[shard].client("svc");
        s.0[shard].send(to, &subscribe(1, &[("t/a", 0)]));
        s.settle();
        kept.push(s.0[shard].seen(to).pop().unwrap());
    }
    assert_eq!(kept, ["publish retain t/a=from 1"; 3]);
}

#[test]
fn a_remote_message_is_decided_for_each_receiver_there() {
    let mut s = Shards::new(2);
    let rules = "pattern readwrite t/#\npattern deny t/private\nuser svc\ntopic readwrite #\n";
    s.0[0].step(Input::Policy(crate::harness::table(rules, 2)));
    let to = s.0[0].client("dev-1");
    s.0[0].send(to, &subscribe(1, &[("t/#", 1)]));
    s.settle();
    s.0[0].seen(to);
    let from = s.0[1].client("svc");
    s.0[1].send(from, &publish("t/private", b"x", 0, 0));
    s.settle();
    assert_eq!(s.0[0].seen(to), [""; 0]);
    assert_eq!(s.0[0].core.stats().receive_refused, 1);
}

#[test]
fn a_will_crosses_shards_and_is_retained_on_all() {
    let mut s = Shards::new(2);
    let to = s.0[0].client("svc");
    s.0[0].send(to, &subscribe(1, &[("t/will", 0)]));
    s.settle();
    s.0[0].seen(to);
    let conn = s.0[1].client_with("dev-1", &hello("").will("t/will", "gone", 1, true));
    s.0[1].lose(conn);
    s.settle();
    assert_eq!(s.0[0].seen(to), ["publish t/will=gone"]);
    assert_eq!([s.0[0].core.stats().retained_messages, s.0[1].core.stats().retained_messages], [1, 1]);
}

#[test]
fn every_message_after_a_suback_arrives_whatever_the_order_of_the_mail() {
    // A small random walk over mail deliveries; the seed is printed by the assertion.
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut s = Shards::new(3);
        let from = s.0[1].client("dev-2");
        let to = s.0[0].client("dev-1");
        s.0[0].send(to, &subscribe(1, &[("t/a", 1)]));
        let (mut sent_after, mut has_suback, mut got) = (Vec::new(), false, Vec::new());
        for number in 0..30_u16 {
            for _ in 0..draw(4) {
                let (a, b) = (draw(3), draw(3));
                s.mail(a, b);
            }
            for line in s.0[0].seen(to) {
                has_suback |= line.starts_with("suback");
                got.extend(line.rsplit('=').next().and_then(|text| text.parse::<u16>().ok()));
            }
            if has_suback {
                sent_after.push(number);
            }
            s.0[1].send(from, &publish("t/a", number.to_string().as_bytes(), 0, 0));
        }
        s.settle();
        got.extend(s.0[0].seen(to).iter().filter_map(|line| line.rsplit('=').next()?.parse::<u16>().ok()));
        assert!(sent_after.iter().all(|number| got.contains(number)), "seed {seed}: {sent_after:?} {got:?}");
        assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {got:?}");
    }
}
