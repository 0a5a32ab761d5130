use mqtt_protocol_core::mqtt::packet::v3_1_1;
use mqtt_protocol_core::mqtt::packet::v5_0;
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, SubackReturnCode};
use types::QoS;

/// Writes a PUBLISH into `out`, which is emptied first, and says where its packet id stands (two
/// bytes, zero until a session patches its own in); `None` for QoS 0, which has none.
///
/// QoS 2 is sent as QoS 1 in this version of the protocol machine, so the caller asks for 0 or 1.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    topic: &str,
    payload: &[u8],
    with_id: bool,
    retain: bool,
) -> Option<usize> {
    out.clear();
    let id_bytes = if with_id { 2 } else { 0 };
    let mut length = 2 + topic.len() + id_bytes + payload.len();
    // [MQTT-3.3.1-9] RETAIN is 0 to an established subscription, [MQTT-3.3.1-8] 1 to a new one.
    out.push(0x30 | if with_id { 0b0010 } else { 0 } | u8::from(retain));
    loop {
        let byte = u8::try_from(length & 0x7f).unwrap_or(0x7f);
        length >>= 7;
        if length == 0 {
            out.push(byte);
            break;
        }
        out.push(byte | 0x80);
    }
    // A topic comes from `Topic`, whose limit is 65,535 bytes.
    out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    let id_at = with_id.then_some(out.len());
    if with_id {
        out.extend_from_slice(&[0, 0]);
    }
    out.extend_from_slice(payload);
    id_at
}

/// A PUBACK.
pub(crate) fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// A PUBREC.
pub(crate) fn pubrec(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x50, 2, high, low]
}

/// A PUBCOMP.
pub(crate) fn pubcomp(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x70, 2, high, low]
}

/// A PINGRESP.
pub(crate) fn pingresp() -> [u8; 2] {
    [0xd0, 0]
}

/// A CONNACK of MQTT 3.1.1.
pub(crate) fn connack(session_present: bool, code: ConnectReturnCode) -> Vec<u8> {
    v3_1_1::Connack::builder()
        .session_present(session_present)
        .return_code(code)
        .build()
        .map(|packet| packet.to_continuous_buffer())
        .unwrap_or_default()
}

/// The CONNACK that a client of MQTT 5 understands: unsupported protocol version, 0x84.
pub(crate) fn connack_v5_unsupported() -> Vec<u8> {
    v5_0::Connack::builder()
        .session_present(false)
        .reason_code(ConnectReasonCode::UnsupportedProtocolVersion)
        .build()
        .map(|packet| packet.to_continuous_buffer())
        .unwrap_or_default()
}

/// A SUBACK with one answer per filter, in order [MQTT-3.8.4-5]; `None` is "refused".
pub(crate) fn suback(id: u16, granted: &[Option<QoS>]) -> Vec<u8> {
    let code = |granted: &Option<QoS>| match granted {
        Some(QoS::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
        Some(QoS::AtLeastOnce) => SubackReturnCode::SuccessMaximumQos1,
        Some(QoS::ExactlyOnce) => SubackReturnCode::SuccessMaximumQos2,
        None => SubackReturnCode::Failure,
    };
    v3_1_1::Suback::builder()
        .packet_id(id)
        .return_codes(granted.iter().map(code).collect())
        .build()
        .map(|packet| packet.to_continuous_buffer())
        .unwrap_or_default()
}

/// An UNSUBACK.
pub(crate) fn unsuback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0xb0, 2, high, low]
}
