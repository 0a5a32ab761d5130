//! Cuts frames off a byte stream and turns each into a packet, and packets back into frames.
//! In: bytes of a peer. Out: packets that obey the grammar of MQTT 3.1.1, or the error.
//! Invariant: no input panics; PUBLISH and PUBACK, written by hand, agree with mqtt-protocol-core.
//! Never: keeps state between packets.
//! Spec: MQTT 3.1.1 sections 2 and 3.

mod encode;
mod packets;
mod publish;

pub(crate) use encode::{
    connack, connack_v5_unsupported, pingresp, puback, pubcomp, publish as encode_publish, pubrec, suback,
    unsuback,
};
pub(crate) use packets::{
    ConnectPacket, Incoming, SubscribePacket, UnsubscribePacket, WillPacket, decode, too_deep,
};
pub(crate) use publish::PublishPacket;

use crate::MqttError;

/// One whole packet as it came: its first byte and what follows the remaining length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Packet type and flags.
    pub(crate) first: u8,
    /// Variable header and payload.
    pub(crate) body: &'a [u8],
    /// Bytes that the packet takes in the stream.
    pub(crate) len: usize,
}

/// The next whole packet at the front of `bytes`; `None` while more bytes have to come. A packet
/// beyond the limit is refused as soon as its length is known, before its bytes are there.
pub(crate) fn next_frame(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Frame<'_>>, MqttError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0_usize;
    for (at, &byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let head = at + 2;
            let len = head + length;
            if len > packet_bytes_max {
                return Err(MqttError::TooLarge { bytes: len, limit: packet_bytes_max });
            }
            return Ok(bytes.get(head..len).map(|body| Frame { first, body, len }));
        }
    }
    if rest.len() >= 4 { Err(MqttError::BadLength) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
