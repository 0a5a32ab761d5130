//! Whatever a device sends, nothing of it leaves the device's space, and how the bytes were cut makes no difference.

use crate::shard::{DEVICE, Shard};

pub(crate) fn holds(data: &[u8]) {
    let mut whole = Shard::new(Vec::new());
    whole.send(DEVICE, data);
    let mut cut = Shard::new(Vec::new());
    // Short inputs byte by byte, long ones in pieces of a length that fits no packet.
    for piece in data.chunks(if data.len() > 512 { 13 } else { 1 }) {
        cut.send(DEVICE, piece);
    }
    assert_eq!(whole.seen.closed, cut.seen.closed);
    for mut shard in [whole, cut] {
        // The will is due now; it has to obey the rules like all else.
        shard.lose_device();
        for (topic, _) in shard.delivered() {
            // `devices/dev-1/#` grants its parent level too [MQTT-4.7.1-2].
            let inside = topic == "devices/dev-1" || topic.starts_with("devices/dev-1/");
            assert!(inside, "{topic:?} is outside of the device's space");
        }
    }
}
