use types::{QoS, Topic};

use crate::MqttError;

const PACKET: &str = "PUBLISH";

/// A PUBLISH, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishPacket<'a> {
    /// Whether the sender says that it sent this before.
    pub(crate) dup: bool,
    /// The quality of service.
    pub(crate) qos: QoS,
    /// Whether the message is to be kept for later subscribers.
    pub(crate) retain: bool,
    /// The topic.
    pub(crate) topic: Topic<'a>,
    /// The packet id; 0 for QoS 0, which has none.
    pub(crate) id: u16,
    /// The message.
    pub(crate) payload: &'a [u8],
}

impl<'a> PublishPacket<'a> {
    /// Reads what follows the remaining length; `first` holds the flags.
    pub(crate) fn decode(first: u8, body: &'a [u8]) -> Result<Self, MqttError> {
        let malformed = |what| MqttError::Malformed { packet: PACKET, what };
        let dup = first & 0b1000 != 0;
        let retain = first & 0b0001 != 0;
        // [MQTT-3.3.1-4] both QoS bits set is no quality of service.
        let qos = QoS::from_bits(first >> 1 & 0b11).ok_or(malformed("quality of service 3"))?;
        // [MQTT-3.3.1-2] QoS 0 is never sent twice.
        if dup && qos == QoS::AtMostOnce {
            return Err(malformed("DUP set with QoS 0"));
        }
        let (length, rest) = body.split_first_chunk::<2>().ok_or(malformed("no topic"))?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (topic, rest) = rest.split_at_checked(length).ok_or(malformed("topic cut short"))?;
        // [MQTT-1.5.3-1] ill-formed UTF-8 closes the connection.
        let topic = std::str::from_utf8(topic).map_err(|_| malformed("topic is not UTF-8"))?;
        // [MQTT-3.3.2-2] no wildcards in a topic's name, [MQTT-1.5.3-2] no NUL.
        let topic = Topic::parse(topic).map_err(|source| MqttError::BadTopic { packet: PACKET, source })?;
        if qos == QoS::AtMostOnce {
            // [MQTT-2.3.1-5] QoS 0 carries no packet id.
            return Ok(Self { dup, qos, retain, topic, id: 0, payload: rest });
        }
        let (id, payload) = rest.split_first_chunk::<2>().ok_or(malformed("no packet id"))?;
        let id = u16::from_be_bytes(*id);
        // [MQTT-2.3.1-1] a packet id is never 0.
        if id == 0 {
            return Err(malformed("packet id 0"));
        }
        Ok(Self { dup, qos, retain, topic, id, payload })
    }
}
