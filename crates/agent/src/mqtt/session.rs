use std::collections::VecDeque;

use mqtt_protocol_core::mqtt::packet::v3_1_1::Publish;

use super::error::ClientError;
use super::wire;

/// What a client has to keep between two connections of one session: the QoS 1 messages that the
/// broker has not acknowledged, in their order, and the packet ids.
#[derive(Default)]
pub struct Session {
    unacknowledged: VecDeque<(u16, Publish)>,
    last_packet_id: u16,
}

impl Session {
    /// How many messages are not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// A packet id that no unacknowledged message bears [MQTT-2.3.1-2].
    pub(crate) fn fresh_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if self.unacknowledged.iter().all(|(id, _)| *id != self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }

    /// Takes a message on until it is acknowledged; its packet id and the bytes to send.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let packet_id = self.fresh_packet_id();
        let publish = wire::publish(topic, payload, Some(packet_id), retain)?;
        let bytes = publish.to_continuous_buffer();
        self.unacknowledged.push_back((packet_id, publish));
        Ok((packet_id, bytes))
    }

    /// The broker has this message; whether it was one of ours.
    pub(crate) fn acknowledge(&mut self, packet_id: u16) -> bool {
        let before = self.unacknowledged.len();
        self.unacknowledged.retain(|(id, _)| *id != packet_id);
        self.unacknowledged.len() < before
    }

    /// All that is not acknowledged, in its order, with the packet ids of the first time
    /// [MQTT-4.4.0-1], [MQTT-4.6.0-1]. `dup` says that the broker may have had it before.
    pub(crate) fn redelivery(&self, dup: bool) -> Vec<u8> {
        let again = |(_, publish): &(u16, Publish)| publish.clone().set_dup(dup).to_continuous_buffer();
        self.unacknowledged.iter().flat_map(again).collect()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({} unacknowledged)", self.unacknowledged.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unacknowledged_messages_are_sent_again_in_order_with_their_ids() {
        let mut session = Session::default();
        let first = session.publish("a", b"1", false).unwrap();
        let second = session.publish("a", b"2", false).unwrap();
        let third = session.publish("a", b"3", false).unwrap();
        assert_eq!([first.0, second.0, third.0], [1, 2, 3]);
        assert!(session.acknowledge(2));
        assert!(!session.acknowledge(2));
        let mut expected = first.1.clone();
        expected.extend_from_slice(&third.1);
        assert_eq!(session.redelivery(false), expected);
        let dup = session.redelivery(true);
        assert_eq!(dup[0], first.1[0] | 0x08);
        assert_eq!(dup[1..first.1.len()], first.1[1..]);
        assert_eq!(session.unacknowledged(), 2);
    }

    #[test]
    fn a_packet_id_in_use_is_passed_over_and_0_never_comes() {
        let mut session = Session::default();
        let (one, _) = session.publish("a", b"", false).unwrap();
        session.last_packet_id = u16::MAX - 1;
        assert_eq!(session.fresh_packet_id(), u16::MAX);
        assert_eq!(one, 1);
        assert_eq!(session.fresh_packet_id(), 2);
    }
}
