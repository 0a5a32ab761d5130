use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::Arc;
use mqtt_protocol_core::mqtt::packet::v3_1_1::{
    Connack, Connect, Disconnect, Pingreq, Puback, Publish, Suback, Subscribe, Unsuback, Unsubscribe,
};
use mqtt_protocol_core::mqtt::packet::{Qos, SubEntry, SubOpts};
use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;
use types::{Clipped, QoS, Topic, TopicFilter};

use super::error::{ClientError, ConnackRefusal};
use super::options::{Message, Options};

/// A packet of the broker's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Connack { session_present: bool },
    Publish { packet_id: Option<u16>, message: Message },
    Puback { packet_id: u16 },
    Suback { packet_id: u16, granted: Vec<bool> },
    Unsuback { packet_id: u16 },
    Pingresp,
}

/// Takes one whole packet out of `buffer`; `None` until it is there.
pub(crate) fn take_packet(
    buffer: &mut BytesMut,
    packet_bytes_max: usize,
) -> Result<Option<Incoming>, ClientError> {
    let Some((header_len, body_len)) = lengths(buffer)? else {
        return Ok(None);
    };
    if header_len + body_len > packet_bytes_max {
        let detail = format!("packet of {} bytes; limit {packet_bytes_max}", header_len + body_len);
        return Err(ClientError::protocol(detail));
    }
    if buffer.len() < header_len + body_len {
        return Ok(None);
    }
    let first = buffer[0];
    buffer.advance(header_len);
    let body = buffer.split_to(body_len).freeze();
    decode(first, body).map(Some)
}

/// The lengths of the fixed header and of the rest (MQTT 3.1.1 section 2.2.3).
fn lengths(buffer: &[u8]) -> Result<Option<(usize, usize)>, ClientError> {
    let mut length = 0_usize;
    for at in 1..=4 {
        let Some(&byte) = buffer.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((at + 1, length)));
        }
    }
    Err(ClientError::protocol("remaining length of more than four bytes"))
}

fn decode(first: u8, body: Bytes) -> Result<Incoming, ClientError> {
    let malformed = |what: &str| ClientError::protocol(format!("malformed {what}"));
    let flags = first & 0x0f;
    // Only PUBLISH has flags of its own; PUBREL's, SUBSCRIBE's and UNSUBSCRIBE's never reach a client.
    if first >> 4 != 3 && flags != 0 {
        return Err(ClientError::protocol(format!("packet type {} with flags {flags:#x}", first >> 4)));
    }
    match first >> 4 {
        2 => {
            let (connack, _) = Connack::parse(&body).map_err(|_| malformed("CONNACK"))?;
            match refusal(connack.return_code()) {
                None => Ok(Incoming::Connack { session_present: connack.session_present() }),
                Some(why) => Err(ClientError::Refused { why }),
            }
        }
        3 => {
            let body: Arc<[u8]> = Arc::from(&body[..]);
            let (publish, _) = Publish::parse(flags, body).map_err(|_| malformed("PUBLISH"))?;
            let topic =
                Topic::parse(publish.topic_name()).map_err(|e| ClientError::protocol(e.to_string()))?;
            let message = Message {
                topic: topic.as_str().to_owned(),
                payload: Bytes::copy_from_slice(publish.payload().as_slice()),
                qos: match publish.qos() {
                    Qos::AtMostOnce => QoS::AtMostOnce,
                    Qos::AtLeastOnce => QoS::AtLeastOnce,
                    Qos::ExactlyOnce => return Err(ClientError::protocol("QoS 2, which was not asked for")),
                },
                retain: publish.retain(),
                dup: publish.dup(),
            };
            Ok(Incoming::Publish { packet_id: publish.packet_id(), message })
        }
        4 => {
            let (puback, _) = Puback::parse(&body).map_err(|_| malformed("PUBACK"))?;
            Ok(Incoming::Puback { packet_id: puback.packet_id() })
        }
        9 => {
            let (suback, _) = Suback::parse(&body).map_err(|_| malformed("SUBACK"))?;
            let granted = suback.return_codes().iter().map(|code| code.is_success()).collect();
            Ok(Incoming::Suback { packet_id: suback.packet_id(), granted })
        }
        11 => {
            let (unsuback, _) = Unsuback::parse(&body).map_err(|_| malformed("UNSUBACK"))?;
            Ok(Incoming::Unsuback { packet_id: unsuback.packet_id() })
        }
        13 if body.is_empty() => Ok(Incoming::Pingresp),
        other => Err(ClientError::protocol(format!("packet type {other} from a broker"))),
    }
}

fn refusal(code: ConnectReturnCode) -> Option<ConnackRefusal> {
    match code {
        ConnectReturnCode::Accepted => None,
        ConnectReturnCode::UnacceptableProtocolVersion => Some(ConnackRefusal::ProtocolVersion),
        ConnectReturnCode::IdentifierRejected => Some(ConnackRefusal::Identifier),
        ConnectReturnCode::ServerUnavailable => Some(ConnackRefusal::Unavailable),
        ConnectReturnCode::BadUserNameOrPassword => Some(ConnackRefusal::BadUserNameOrPassword),
        ConnectReturnCode::NotAuthorized => Some(ConnackRefusal::NotAuthorized),
    }
}

fn unsendable(what: &str, error: impl std::fmt::Debug) -> ClientError {
    ClientError::Unsendable { detail: format!("{what} cannot be sent: {error:?}") }
}

fn qos(qos: QoS) -> Result<Qos, ClientError> {
    match qos {
        QoS::AtMostOnce => Ok(Qos::AtMostOnce),
        QoS::AtLeastOnce => Ok(Qos::AtLeastOnce),
        QoS::ExactlyOnce => Err(ClientError::Unsendable { detail: "QoS 2 is not spoken here; use 1".into() }),
    }
}

pub(crate) fn connect(options: &Options) -> Result<Vec<u8>, ClientError> {
    let wrong = |error| unsendable("CONNECT", error);
    // A keep-alive of 0 would turn the check off that tells a lost connection.
    let keep_alive = u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1);
    let mut builder = Connect::builder()
        .client_id(options.client_id.as_str())
        .map_err(wrong)?
        .clean_session(options.clean_session)
        .keep_alive(keep_alive);
    if let Some(will) = &options.will {
        Topic::parse(&will.topic).map_err(|e| ClientError::Unsendable { detail: e.to_string() })?;
        builder = builder
            .will_message(will.topic.as_str(), will.payload.clone(), qos(will.qos)?, will.retain)
            .map_err(wrong)?;
    }
    if let Some((user, password)) = &options.login {
        builder =
            builder.user_name(user.as_str()).map_err(wrong)?.password(password.clone()).map_err(wrong)?;
    }
    Ok(builder.build().map_err(wrong)?.to_continuous_buffer())
}

/// A PUBLISH that can be sent, and sent again.
pub(crate) fn publish(
    topic: &str,
    payload: &[u8],
    packet_id: Option<u16>,
    retain: bool,
) -> Result<Publish, ClientError> {
    Topic::parse(topic).map_err(|e| ClientError::Unsendable { detail: e.to_string() })?;
    let wrong = |error| unsendable("PUBLISH", error);
    let level = if packet_id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    let mut builder =
        Publish::builder().topic_name(topic).map_err(wrong)?.qos(level).retain(retain).payload(payload);
    if let Some(packet_id) = packet_id {
        builder = builder.packet_id(packet_id);
    }
    builder.build().map_err(wrong)
}

pub(crate) fn puback(packet_id: u16) -> Result<Vec<u8>, ClientError> {
    let puback = Puback::builder().packet_id(packet_id).build().map_err(|e| unsendable("PUBACK", e))?;
    Ok(puback.to_continuous_buffer())
}

pub(crate) fn subscribe(packet_id: u16, filter: &str, level: QoS) -> Result<Vec<u8>, ClientError> {
    TopicFilter::parse(filter)
        .map_err(|e| ClientError::Unsendable { detail: Clipped(&e.to_string()).to_string() })?;
    let wrong = |error| unsendable("SUBSCRIBE", error);
    let entry = SubEntry::new(filter, SubOpts::new().set_qos(qos(level)?)).map_err(wrong)?;
    let packet = Subscribe::builder().packet_id(packet_id).entries(vec![entry]).build().map_err(wrong)?;
    Ok(packet.to_continuous_buffer())
}

pub(crate) fn unsubscribe(packet_id: u16, filter: &str) -> Result<Vec<u8>, ClientError> {
    let wrong = |error| unsendable("UNSUBSCRIBE", error);
    let packet = Unsubscribe::builder()
        .packet_id(packet_id)
        .entries(vec![filter])
        .map_err(wrong)?
        .build()
        .map_err(wrong)?;
    Ok(packet.to_continuous_buffer())
}

pub(crate) fn pingreq() -> Vec<u8> {
    Pingreq::new().to_continuous_buffer()
}

pub(crate) fn disconnect() -> Vec<u8> {
    Disconnect::new().to_continuous_buffer()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8]) -> Result<Option<Incoming>, ClientError> {
        take_packet(&mut BytesMut::from(bytes), 64)
    }

    #[test]
    fn packets_come_out_whole_whatever_the_cuts() {
        let mut stream = Vec::new();
        stream.extend_from_slice(&[0x20, 2, 1, 0]);
        stream.extend_from_slice(&publish("a/b", b"hi", Some(7), true).unwrap().to_continuous_buffer());
        stream.extend_from_slice(&[0x40, 2, 0, 9, 0x90, 4, 0, 1, 1, 0x80, 0xd0, 0]);
        for cut in 1..stream.len() {
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for chunk in stream.chunks(cut) {
                buffer.extend_from_slice(chunk);
                while let Some(packet) = take_packet(&mut buffer, 64).unwrap() {
                    found.push(packet);
                }
            }
            let message = Message {
                topic: "a/b".into(),
                payload: Bytes::from_static(b"hi"),
                qos: QoS::AtLeastOnce,
                retain: true,
                dup: false,
            };
            assert_eq!(
                found,
                [
                    Incoming::Connack { session_present: true },
                    Incoming::Publish { packet_id: Some(7), message },
                    Incoming::Puback { packet_id: 9 },
                    Incoming::Suback { packet_id: 1, granted: vec![true, false] },
                    Incoming::Pingresp,
                ]
            );
        }
    }

    #[test]
    fn what_a_broker_may_not_send_is_a_protocol_error() {
        for bytes in [
            [0x10_u8, 0].as_slice(),
            &[0x00, 0],
            &[0x20, 1, 0],
            &[0x21, 2, 0, 0],
            &[0x20, 2, 0, 99],
            &[0x34, 7, 0, 1, b'a', 0, 1, b'x', b'y'],
            &[0x30, 3, 0, 1, b'+'],
            &[0x30, 2, 0, 5],
            &[0x32, 3, 0, 1, b'a'],
            &[0x40, 1, 0],
            &[0xd0, 1, 0],
            &[0xf0, 0],
            &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x30, 0x7f],
        ] {
            assert!(
                matches!(taken(bytes), Err(ClientError::Protocol { .. })),
                "{bytes:x?} {:?}",
                taken(bytes)
            );
        }
    }

    #[test]
    fn each_refusing_connack_is_named() {
        for (code, why) in [
            (1, ConnackRefusal::ProtocolVersion),
            (2, ConnackRefusal::Identifier),
            (3, ConnackRefusal::Unavailable),
            (4, ConnackRefusal::BadUserNameOrPassword),
            (5, ConnackRefusal::NotAuthorized),
        ] {
            assert_eq!(taken(&[0x20, 2, 0, code]), Err(ClientError::Refused { why }));
        }
    }

    #[test]
    fn a_part_of_a_packet_is_none_yet() {
        for bytes in [[].as_slice(), &[0x20], &[0x20, 2], &[0x20, 2, 0], &[0x30, 0x80]] {
            assert_eq!(taken(bytes), Ok(None));
        }
    }

    #[test]
    fn connect_carries_will_keep_alive_and_session_as_3_1_1_writes_them() {
        let options = Options::new("d").keeping_session().with_will(super::super::Will {
            topic: "s".into(),
            payload: b"offline".to_vec(),
            qos: QoS::AtLeastOnce,
            retain: true,
        });
        let bytes = connect(&options).unwrap();
        assert_eq!(bytes[..12], [0x10, 25, 0, 4, b'M', b'Q', b'T', b'T', 4, 0b0010_1100, 0, 60]);
        assert_eq!(&bytes[12..], b"\x00\x01d\x00\x01s\x00\x07offline");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_here() {
        assert!(publish("a/+", b"", None, false).is_err());
        assert!(publish("", b"", None, false).is_err());
        assert!(subscribe(1, "a/#/b", QoS::AtLeastOnce).is_err());
        assert!(subscribe(1, "a", QoS::ExactlyOnce).is_err());
    }
}
