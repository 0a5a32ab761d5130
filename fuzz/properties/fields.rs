//! A payload under an enforced replay rule is delivered at most once, and only if a reader of the whole document finds
//! the sequence number too.

use guard::{Mode, OnMissing, ReplayRule};
use types::TopicFilter;

use crate::shard::{CONNECT, DEVICE, Shard};

const TOPIC: &[u8] = b"\0\x0fdevices/dev-1/t";
const PAYLOAD_BYTES_MAX: usize = 16_000;

pub(crate) fn holds(data: &[u8]) {
    if data.len() > PAYLOAD_BYTES_MAX {
        return;
    }
    let mut rule = ReplayRule::new(TopicFilter::parse("devices/+/t").unwrap());
    rule.mode = Mode::Enforce;
    rule.seq = Some("/seq".to_owned());
    rule.epoch = None;
    rule.on_missing = OnMissing::Reject;
    let mut shard = Shard::new(vec![rule]);
    shard.send(DEVICE, CONNECT);
    for _ in 0..3 {
        shard.send(DEVICE, &publish(data));
    }
    assert!(shard.seen.closed.is_empty(), "no payload ends a connection");
    shard.lose_device();
    let delivered = shard.delivered();
    assert!(delivered.len() <= 1, "a replayed message was delivered");
    if let Some((_, payload)) = delivered.first() {
        assert_eq!(payload, data);
        // A value that no rule names may be one that a stricter reader refuses, such as 1e999.
        if let Ok(document) = serde_json::from_slice::<serde_json::Value>(data) {
            let number = document.pointer("/seq").unwrap();
            let whole = number.as_f64().is_some_and(|float| float.fract() == 0.0);
            assert!(number.is_u64() || whole, "{number}");
        }
    }
}

/// A PUBLISH of QoS 0.
fn publish(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x30];
    let mut length = TOPIC.len() + payload.len();
    while length > 0x7f {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend_from_slice(TOPIC);
    packet.extend_from_slice(payload);
    packet
}
