use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Qos as WireQoS, v3_1_1};
use types::{QoS, Topic, TopicBuf, TopicError, TopicFilter};

use super::{Frame, PublishPacket};
use crate::MqttError;

/// What a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// The first packet of a connection.
    Connect(ConnectPacket),
    /// A message.
    Publish(PublishPacket<'a>),
    /// The client has a QoS 1 message.
    Puback(u16),
    /// The client has a QoS 2 message. We send none yet, so it answers nothing.
    Pubrec(u16),
    /// The client lets go of the packet id of a QoS 2 message that it sent.
    Pubrel(u16),
    /// The client has let go of a packet id of ours.
    Pubcomp(u16),
    /// The client asks for messages.
    Subscribe(SubscribePacket),
    /// The client wants no more of them.
    Unsubscribe(UnsubscribePacket),
    /// The client asks whether we are there.
    Pingreq,
    /// The client says goodbye.
    Disconnect,
}

/// A CONNECT; user name and password are read over, never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectPacket {
    /// The client id; may be empty.
    pub(crate) client_id: String,
    /// Whether the session begins empty and ends with the connection.
    pub(crate) clean: bool,
    /// Seconds; 0 is "off".
    pub(crate) keep_alive: u16,
    /// What to publish when the connection is lost.
    pub(crate) will: Option<WillPacket>,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WillPacket {
    /// Its topic.
    pub(crate) topic: TopicBuf,
    /// Its message.
    pub(crate) payload: Bytes,
    /// Its quality of service.
    pub(crate) qos: QoS,
    /// Whether it is retained.
    pub(crate) retain: bool,
}

/// A SUBSCRIBE: each filter with the quality asked for, or why it is beyond what we allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubscribePacket {
    /// The packet id.
    pub(crate) id: u16,
    /// The filters in their order.
    pub(crate) entries: Vec<(Result<TopicFilter, TopicError>, QoS)>,
}

/// An UNSUBSCRIBE; a filter beyond what we allow can't be subscribed to, so it is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnsubscribePacket {
    /// The packet id.
    pub(crate) id: u16,
    /// The filters in their order.
    pub(crate) filters: Vec<TopicFilter>,
}

/// Turns a frame into its packet.
pub(crate) fn decode<'a>(frame: &Frame<'a>) -> Result<Incoming<'a>, MqttError> {
    let (kind, flags) = (frame.first >> 4, frame.first & 0x0f);
    if kind == 3 {
        return PublishPacket::decode(frame.first, frame.body).map(Incoming::Publish);
    }
    let (packet, wanted) = match kind {
        1 => ("CONNECT", 0),
        4 => ("PUBACK", 0),
        5 => ("PUBREC", 0),
        // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1] these three carry 0b0010.
        6 => ("PUBREL", 2),
        7 => ("PUBCOMP", 0),
        8 => ("SUBSCRIBE", 2),
        10 => ("UNSUBSCRIBE", 2),
        12 => ("PINGREQ", 0),
        // [MQTT-3.14.1-1] the flags of DISCONNECT are zero.
        14 => ("DISCONNECT", 0),
        _ => return Err(MqttError::BadType { kind }),
    };
    // [MQTT-2.2.2-2] wrong reserved flags close the connection.
    if flags != wanted {
        return Err(MqttError::BadFlags { packet, flags });
    }
    match kind {
        1 => connect(frame.body).map(Incoming::Connect),
        4 => packet_id(packet, frame.body).map(Incoming::Puback),
        5 => packet_id(packet, frame.body).map(Incoming::Pubrec),
        6 => packet_id(packet, frame.body).map(Incoming::Pubrel),
        7 => packet_id(packet, frame.body).map(Incoming::Pubcomp),
        8 => subscribe(frame.body).map(Incoming::Subscribe),
        10 => unsubscribe(frame.body).map(Incoming::Unsubscribe),
        _ if !frame.body.is_empty() => Err(MqttError::Malformed { packet, what: "has a body" }),
        12 => Ok(Incoming::Pingreq),
        _ => Ok(Incoming::Disconnect),
    }
}

/// The packet id that is the whole body of an acknowledgement.
fn packet_id(packet: &'static str, body: &[u8]) -> Result<u16, MqttError> {
    match <[u8; 2]>::try_from(body).map(u16::from_be_bytes) {
        Ok(0) => Err(MqttError::Malformed { packet, what: "packet id 0" }),
        Ok(id) => Ok(id),
        Err(_) => Err(MqttError::Malformed { packet, what: "not two bytes long" }),
    }
}

fn connect(body: &[u8]) -> Result<ConnectPacket, MqttError> {
    const PACKET: &str = "CONNECT";
    let malformed = |what| MqttError::Malformed { packet: PACKET, what };
    match protocol(body)? {
        Some(4) => {}
        Some(level) => return Err(MqttError::UnsupportedLevel { level }),
        None => return Err(malformed("unknown protocol name")),
    }
    let flags = *body.get(7).ok_or(malformed("cut short"))?;
    check_connect_flags(flags).map_err(malformed)?;
    let (packet, used) =
        v3_1_1::Connect::parse(body).map_err(|_| malformed("a field is cut short or not UTF-8"))?;
    if used != body.len() {
        return Err(malformed("bytes after the last field"));
    }
    // [MQTT-1.5.3-2] no string may hold U+0000.
    if packet.client_id().contains('\0') || packet.user_name().is_some_and(|name| name.contains('\0')) {
        return Err(malformed("NUL in a string"));
    }
    let will = match (packet.will_topic(), packet.will_payload()) {
        (Some(topic), Some(payload)) => Some(WillPacket {
            topic: TopicBuf::parse(topic).map_err(|source| MqttError::BadTopic { packet: PACKET, source })?,
            payload: Bytes::copy_from_slice(payload),
            qos: our_qos(packet.will_qos()),
            retain: packet.will_retain(),
        }),
        _ => None,
    };
    Ok(ConnectPacket {
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_session(),
        keep_alive: packet.keep_alive(),
        will,
    })
}

/// The protocol level, if the name is one of MQTT's two.
fn protocol(body: &[u8]) -> Result<Option<u8>, MqttError> {
    let cut = MqttError::Malformed { packet: "CONNECT", what: "cut short" };
    for name in [&b"\0\x04MQTT"[..], b"\0\x06MQIsdp"] {
        if let Some(rest) = body.strip_prefix(name) {
            let level = *rest.first().ok_or(cut)?;
            // The old name goes with level 3 only, the new one with every other.
            let agree = (name.len() == 8) == (level == 3);
            return Ok(agree.then_some(level));
        }
    }
    Ok(None)
}

fn check_connect_flags(flags: u8) -> Result<(), &'static str> {
    let (will, will_qos, will_retain) = (flags & 0x04 != 0, flags >> 3 & 0b11, flags & 0x20 != 0);
    if flags & 1 != 0 {
        return Err("reserved connect flag set"); // [MQTT-3.1.2-3]
    }
    if !will && (will_qos != 0 || will_retain) {
        return Err("will QoS or retain without a will"); // [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]
    }
    if will_qos == 3 {
        return Err("will QoS 3"); // [MQTT-3.1.2-14]
    }
    if flags & 0x40 != 0 && flags & 0x80 == 0 {
        return Err("password without user name"); // [MQTT-3.1.2-22]
    }
    Ok(())
}

/// The grammar of a filter is the protocol's, and breaking it ends the connection; what only our
/// limits forbid is refused filter by filter.
fn filter(packet: &'static str, text: &str) -> Result<Result<TopicFilter, TopicError>, MqttError> {
    match TopicFilter::parse(text) {
        Err(source @ (TopicError::Empty | TopicError::Misplaced { .. })) => {
            Err(MqttError::BadTopic { packet, source })
        }
        Err(source @ TopicError::Control { .. }) if text.contains('\0') => {
            Err(MqttError::BadTopic { packet, source }) // [MQTT-4.7.3-2]
        }
        parsed => Ok(parsed),
    }
}

fn subscribe(body: &[u8]) -> Result<SubscribePacket, MqttError> {
    const PACKET: &str = "SUBSCRIBE";
    let malformed = |what| MqttError::Malformed { packet: PACKET, what };
    // [MQTT-3.8.3-3] at least one filter, which the parser demands.
    let (packet, _) =
        v3_1_1::Subscribe::parse(body).map_err(|_| malformed("not filters and qualities, one or more"))?;
    if packet.packet_id() == 0 {
        return Err(malformed("packet id 0")); // [MQTT-2.3.1-1]
    }
    let entries = packet.entries().iter().map(|entry| {
        // [MQTT-3.8.3-4] the upper six bits are reserved, and 3 is no quality of service.
        let qos = QoS::from_bits(entry.sub_opts().to_buffer()[0])
            .ok_or(malformed("reserved bits beside the QoS"))?;
        Ok((filter(PACKET, entry.topic_filter())?, qos))
    });
    Ok(SubscribePacket { id: packet.packet_id(), entries: entries.collect::<Result<_, MqttError>>()? })
}

fn unsubscribe(body: &[u8]) -> Result<UnsubscribePacket, MqttError> {
    const PACKET: &str = "UNSUBSCRIBE";
    let malformed = |what| MqttError::Malformed { packet: PACKET, what };
    // [MQTT-3.10.3-2] at least one filter, which the parser demands.
    let (packet, _) = v3_1_1::Unsubscribe::parse(body).map_err(|_| malformed("not filters, one or more"))?;
    if packet.packet_id() == 0 {
        return Err(malformed("packet id 0")); // [MQTT-2.3.1-1]
    }
    let mut filters = Vec::with_capacity(packet.entries().len());
    for entry in packet.entries() {
        filters.extend(filter(PACKET, entry.as_str())?.ok());
    }
    Ok(UnsubscribePacket { id: packet.packet_id(), filters })
}

fn our_qos(qos: WireQoS) -> QoS {
    match qos {
        WireQoS::AtMostOnce => QoS::AtMostOnce,
        WireQoS::AtLeastOnce => QoS::AtLeastOnce,
        WireQoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// Whether the topic has more levels than the installation allows.
pub(crate) fn too_deep(topic: Topic<'_>, levels_max: usize) -> bool {
    topic.levels().count() > levels_max
}
