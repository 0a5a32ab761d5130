use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;
use policy::decide_publish;
use types::{Clipped, Now, Reason};

use super::{Conn, Core, End};
use crate::api::{Limit, Note, Record, Sink};
use crate::codec::{self, ConnectPacket, Frame, Incoming, WillPacket};
use crate::error::MqttError;
use crate::session::{Link, Session, SessionKey};

/// A CONNECT that is answered with a return code and closed.
struct Refused {
    code: ConnectReturnCode,
    reason: Reason,
    detail: String,
}

impl Core {
    /// The first packet has to be a CONNECT [MQTT-3.1.0-1].
    pub(super) fn first_packet(
        &mut self,
        now: Now,
        conn: &mut Conn,
        frame: &Frame<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        match codec::decode(frame) {
            Ok(Incoming::Connect(packet)) => self.connect(now, conn, packet, sink),
            Ok(_) => Err(MqttError::Unexpected { packet: "a packet", when: "came before CONNECT" }.into()),
            Err(error @ MqttError::UnsupportedLevel { level }) => {
                // [MQTT-3.1.2-2] return code 1 and close; a client of MQTT 5 reads only its own CONNACK.
                let (frame, return_code) = match level {
                    5 => (codec::connack_v5_unsupported(), 0x84),
                    _ => (codec::connack(false, ConnectReturnCode::UnacceptableProtocolVersion), 1),
                };
                self.hub.control(conn.id, None, &frame, sink);
                sink.note(Note::ConnectRefused {
                    conn: conn.id,
                    who: Arc::clone(&conn.peer),
                    return_code,
                    detail: error.to_string(),
                });
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Flow B, from the CONNECT on. User name and password were read over: the certificate says
    /// who it is.
    fn connect(
        &mut self,
        now: Now,
        conn: &mut Conn,
        packet: ConnectPacket,
        sink: &mut dyn Sink,
    ) -> Result<(), End> {
        // 1. The client id; 2. the will; 3. the limits. None of them has an effect if it is refused.
        let checked = self.client_key(conn, &packet.client_id).and_then(|key| {
            self.check_will(conn, packet.will.as_ref(), sink)?;
            self.check_room(conn, &key, sink)?;
            Ok(key)
        });
        let key = match checked {
            Ok(key) => key,
            Err(refused) => return Err(self.refuse(conn, refused, sink)),
        };
        // 4. [MQTT-3.1.4-2] the connection that has the session now is ended.
        self.take_over(now, &key, sink);
        // 5. The session.
        let (session, resumed) = self.session_for(conn, key, packet.clean, sink);
        let Some(to) = self.hub.sessions.get_mut(session as usize) else {
            Self::bug("a session that was just made is not there", sink);
            return Err(End::new(Reason::ServerStops, "no session"));
        };
        to.link = Some(Link { conn: conn.id, waiting: 0 });
        let client_id = Arc::clone(to.key.client_id());
        conn.session = Some((session, Arc::clone(&client_id)));
        conn.will = packet.will;
        // 6. The keep-alive: one and a half times what was asked for, or of the most that we allow.
        let most = self.hub.limits.keep_alive_secs_max.max(1);
        let seconds = if packet.keep_alive == 0 { most } else { packet.keep_alive.min(most) };
        conn.silence_max = Duration::from_millis(u64::from(seconds) * 1_500);
        conn.heard = now.mono;
        self.watch(now.mono.plus(conn.silence_max), conn.id, conn.serial_no);
        // 7. [MQTT-3.2.0-1] the CONNACK is the first packet, [MQTT-3.2.2-2] and says whether a session was there.
        let frame = codec::connack(resumed, ConnectReturnCode::Accepted);
        self.hub.control(conn.id, Some(session), &frame, sink);
        sink.note(Note::Connected {
            conn: conn.id,
            who: Arc::clone(&conn.peer),
            client_id,
            clean: packet.clean,
            resumed,
        });
        // 8. What waited: authorised by today's rules before it is sent.
        if resumed {
            self.authorise_subscriptions(session, sink);
            self.hub.resume(&self.policy, session, sink);
        }
        Ok(())
    }

    fn client_key(&self, conn: &Conn, client_id: &str) -> Result<Arc<SessionKey>, Refused> {
        let identity = conn.peer.principal().name.clone();
        let rejected = |detail: String| Refused {
            code: ConnectReturnCode::IdentifierRejected, // [MQTT-3.1.3-9]
            reason: Reason::Limit,
            detail,
        };
        let limit = self.hub.limits.client_id_bytes_max;
        if client_id.len() > limit {
            return Err(rejected(format!("client id of {} bytes; limit {limit}", client_id.len())));
        }
        if client_id.chars().any(char::is_control) {
            return Err(rejected(format!("client id \"{}\" holds a control character", Clipped(client_id))));
        }
        // Off-spec: [MQTT-3.1.3-8] refuses an empty client id with a stored session; here the
        // certificate names the client, so the empty id becomes the device id for both.
        let client_id = if client_id.is_empty() { identity.as_str() } else { client_id };
        Ok(Arc::new(SessionKey::new(identity.clone(), Arc::from(client_id))))
    }

    fn check_will(
        &mut self,
        conn: &Conn,
        will: Option<&WillPacket>,
        sink: &mut dyn Sink,
    ) -> Result<(), Refused> {
        let Some(will) = will else { return Ok(()) };
        let refused = |detail: String| Refused {
            code: ConnectReturnCode::NotAuthorized,
            reason: Reason::Denied,
            detail,
        };
        if codec::too_deep(will.topic.as_topic(), self.hub.limits.topic_levels_max) {
            return Err(refused(format!(
                "will topic \"{}\" has too many levels",
                Clipped(will.topic.as_str())
            )));
        }
        match decide_publish(&self.policy, &conn.peer, will.topic.as_topic()) {
            Ok(_) => Ok(()),
            Err(denial) => {
                self.hub.stats.publish_refused += 1;
                let detail = format!("will: {denial}");
                let who = Arc::clone(&conn.peer);
                sink.note(Note::PublishRefused { conn: Some(conn.id), who, denial });
                Err(refused(detail))
            }
        }
    }

    /// Whether the identity may have one more connection. One more session it may always have: the
    /// one that has been without a connection for longest makes room, or a device that once chose
    /// other client ids could never come in under a new one.
    fn check_room(&mut self, conn: &Conn, key: &SessionKey, sink: &mut dyn Sink) -> Result<(), Refused> {
        let sessions = self.identities.get(key.identity()).map_or(&[][..], Vec::as_slice);
        let others = sessions
            .iter()
            .filter_map(|&at| self.hub.sessions.get(at as usize).map(|session| (at, session)))
            .filter(|(_, session)| *session.key != *key);
        let (mut live, mut all, mut oldest) = (0, 0, None);
        for (at, session) in others {
            all += 1;
            live += usize::from(session.link.is_some());
            if session.link.is_none() && oldest.is_none_or(|(_, left_at)| session.left_at < left_at) {
                oldest = Some((at, session.left_at));
            }
        }
        let limits = &self.hub.limits;
        let (limit, most) = if live >= limits.connections_per_identity_max {
            (Limit::Connections, limits.connections_per_identity_max)
        } else if all < limits.sessions_per_identity_max {
            return Ok(());
        } else {
            (Limit::Sessions, limits.sessions_per_identity_max)
        };
        sink.note(Note::LimitReached { conn: Some(conn.id), who: Arc::clone(&conn.peer), limit, count: 1 });
        match (limit, oldest) {
            (Limit::Sessions, Some((at, _))) => {
                self.discard(at, sink);
                Ok(())
            }
            _ => Err(Refused {
                code: ConnectReturnCode::ServerUnavailable,
                reason: Reason::Limit,
                detail: format!("limit {} of {most} is reached", limit.code()),
            }),
        }
    }

    /// [MQTT-3.2.2-5] a return code other than 0 is followed by the close, [MQTT-3.2.2-4] and goes
    /// without "session present".
    fn refuse(&mut self, conn: &Conn, refused: Refused, sink: &mut dyn Sink) -> End {
        self.hub.control(conn.id, None, &codec::connack(false, refused.code), sink);
        sink.note(Note::ConnectRefused {
            conn: conn.id,
            who: Arc::clone(&conn.peer),
            return_code: refused.code as u8,
            detail: refused.detail.clone(),
        });
        End::new(refused.reason, refused.detail)
    }

    fn take_over(&mut self, now: Now, key: &Arc<SessionKey>, sink: &mut dyn Sink) {
        let link = self.by_key.get(key).and_then(|&at| self.hub.sessions.get(at as usize)?.link.as_ref());
        let Some(old) = link.map(|link| link.conn) else { return };
        if let Some(old) = self.conns.remove(&old).flatten() {
            self.end(now, *old, End::new(Reason::TakenOver, "the client has connected anew"), true, sink);
        }
    }

    /// The stored session, or a new one, and whether it was there.
    fn session_for(
        &mut self,
        conn: &Conn,
        key: Arc<SessionKey>,
        clean: bool,
        sink: &mut dyn Sink,
    ) -> (u32, bool) {
        if let Some(&at) = self.by_key.get(&key) {
            if !clean && let Some(session) = self.hub.sessions.get_mut(at as usize) {
                // [MQTT-3.1.2-4] the stored session goes on; from here it is decided for this peer.
                session.owner = Arc::clone(&conn.peer);
                session.frozen = None;
                return (at, true);
            }
            self.discard(at, sink); // [MQTT-3.1.2-6]
        }
        let session = Session::new(Arc::clone(&key), Arc::clone(&conn.peer), !clean);
        let at = u32::try_from(self.hub.sessions.insert(session)).unwrap_or(u32::MAX);
        self.identities.entry(key.identity().clone()).or_default().push(at);
        self.by_key.insert(Arc::clone(&key), at);
        if !clean {
            sink.persist(Record::SessionStarted { session: key });
        }
        (at, false)
    }
}
