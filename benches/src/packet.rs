//! Writes and finds the few MQTT packets that the load needs, byte by byte.
//! In: names and payloads. Out: packets, and the packets found in a stream.
//! Invariant: what it writes is MQTT 3.1.1; a test holds it against the codec crate.
//! Never: keeps state; the load must cost less than what it measures.
//! Spec: MQTT 3.1.1 sections 2 and 3.

use bytes::{BufMut, BytesMut};

/// A packet that came in, as far as the load cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The server's answer to CONNECT, with its code.
    Connack(u8),
    /// A message; its packet id if its quality of service is above 0.
    Publish(Option<u16>),
    /// A message was taken.
    Puback,
    /// A subscription was answered, with the last of its codes.
    Suback(u8),
    /// Something else.
    Other,
}

fn remaining_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

fn text(out: &mut BytesMut, text: &str) {
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

/// CONNECT with a clean session and a keep-alive of ten minutes.
pub(crate) fn connect(client_id: &str) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(0x10);
    remaining_length(&mut out, 12 + client_id.len());
    text(&mut out, "MQTT");
    out.put_slice(&[4, 0x02]);
    out.put_u16(600);
    text(&mut out, client_id);
    out
}

/// SUBSCRIBE to one filter.
pub(crate) fn subscribe(filter: &str, qos: u8) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(0x82);
    remaining_length(&mut out, 5 + filter.len());
    out.put_u16(1);
    text(&mut out, filter);
    out.put_u8(qos);
    out
}

/// PUBLISH; `id` makes it QoS 1.
pub(crate) fn publish(out: &mut BytesMut, topic: &str, payload: &[u8], id: Option<u16>) {
    out.put_u8(if id.is_some() { 0x32 } else { 0x30 });
    remaining_length(out, 2 + topic.len() + payload.len() + if id.is_some() { 2 } else { 0 });
    text(out, topic);
    if let Some(id) = id {
        out.put_u16(id);
    }
    out.put_slice(payload);
}

/// PUBACK.
pub(crate) fn puback(out: &mut BytesMut, id: u16) {
    out.put_slice(&[0x40, 2]);
    out.put_u16(id);
}

/// DISCONNECT.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// The first whole packet in `bytes` and its length; `None` if it has not come in whole.
pub(crate) fn find(bytes: &[u8]) -> Option<(Found, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let mut length = 0_usize;
    let mut head = 1;
    for (place, &byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        head += 1;
        if byte & 0x80 == 0 {
            let body = bytes.get(head..head + length)?;
            return Some((classify(first, body), head + length));
        }
    }
    None
}

fn classify(first: u8, body: &[u8]) -> Found {
    match first >> 4 {
        2 => Found::Connack(body.get(1).copied().unwrap_or(0xff)),
        3 if first & 0x06 == 0 => Found::Publish(None),
        3 => {
            let at = 2 + body.get(..2).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
            let id = body.get(at..at + 2).map(|id| u16::from_be_bytes([id[0], id[1]]));
            Found::Publish(id)
        }
        4 => Found::Puback,
        9 => Found::Suback(body.last().copied().unwrap_or(0xff)),
        _ => Found::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_what_the_specification_shows() {
        assert_eq!(&connect("ab")[..], b"\x10\x0e\x00\x04MQTT\x04\x02\x02\x58\x00\x02ab");
        assert_eq!(&subscribe("a/#", 1)[..], b"\x82\x08\x00\x01\x00\x03a/#\x01");
        let mut out = BytesMut::new();
        publish(&mut out, "t", b"xy", None);
        publish(&mut out, "t", b"xy", Some(258));
        puback(&mut out, 258);
        assert_eq!(&out[..], b"\x30\x05\x00\x01txy\x32\x07\x00\x01t\x01\x02xy\x40\x02\x01\x02");
    }

    #[test]
    fn whole_packets_are_found_and_torn_ones_are_not() {
        let mut out = BytesMut::new();
        publish(&mut out, "t", &[0; 200], Some(7));
        assert_eq!(find(&out), Some((Found::Publish(Some(7)), out.len())));
        assert_eq!(find(&out[..out.len() - 1]), None);
        assert_eq!(find(&out[..2]), None);
        assert_eq!(find(b"\x20\x02\x00\x05"), Some((Found::Connack(5), 4)));
        assert_eq!(find(b"\x90\x03\x00\x01\x80"), Some((Found::Suback(0x80), 5)));
        assert_eq!(find(b"\x40\x02\x00\x01\xff"), Some((Found::Puback, 4)));
        assert_eq!(find(b"\x30\x03\x00\x01t"), Some((Found::Publish(None), 5)));
        assert_eq!(find(b""), None);
    }

    #[test]
    fn the_codec_crate_reads_what_is_written() {
        use mqtt_protocol_core::mqtt::packet::v3_1_1 as v4;
        let packet = connect("dev");
        let (connect, used) = v4::Connect::parse(&packet[2..]).unwrap();
        assert_eq!((connect.client_id(), used), ("dev", packet.len() - 2));
    }
}
