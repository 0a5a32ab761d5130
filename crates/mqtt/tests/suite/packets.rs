//! What clients send, as bytes, and what they are sent, as one readable line per packet.

/// A packet of its first byte and body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            out.push(byte);
            break;
        }
        out.push(byte | 0x80);
    }
    out.extend_from_slice(body);
    out
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// A CONNECT, to be changed field by field.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) id: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<(String, Vec<u8>, u8, bool)>,
    pub(crate) user: Option<(String, Option<Vec<u8>>)>,
}

pub(crate) fn hello(id: &str) -> Connect {
    Connect { id: id.to_owned(), clean: true, keep_alive: 60, will: None, user: None }
}

impl Connect {
    pub(crate) fn stored(mut self) -> Self {
        self.clean = false;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        self.will = Some((topic.to_owned(), payload.as_bytes().to_vec(), qos, retain));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = if self.clean { 2 } else { 0 };
        let mut fields = string(&self.id);
        if let Some((topic, payload, qos, retain)) = &self.will {
            flags |= 4 | qos << 3 | u8::from(*retain) << 5;
            fields.extend(string(topic));
            fields.extend((payload.len() as u16).to_be_bytes());
            fields.extend_from_slice(payload);
        }
        if let Some((user, password)) = &self.user {
            flags |= 0x80;
            fields.extend(string(user));
            if let Some(password) = password {
                flags |= 0x40;
                fields.extend((password.len() as u16).to_be_bytes());
                fields.extend_from_slice(password);
            }
        }
        let mut body = b"\0\x04MQTT\x04".to_vec();
        body.push(flags);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(fields);
        packet(0x10, &body)
    }
}

/// A PUBLISH without flags beside its QoS; QoS 0 ignores the id.
pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    publish_flags(topic, payload, qos << 1, id)
}

pub(crate) fn retain(topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    publish_flags(topic, payload, qos << 1 | 1, id)
}

pub(crate) fn again(topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    publish_flags(topic, payload, qos << 1 | 8, id)
}

fn publish_flags(topic: &str, payload: &[u8], flags: u8, id: u16) -> Vec<u8> {
    let mut body = string(topic);
    if flags & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(string(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        body.extend(string(filter));
    }
    packet(0xa2, &body)
}

fn with_id(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(crate) fn puback(id: u16) -> Vec<u8> {
    with_id(0x40, id)
}

pub(crate) fn pubrel(id: u16) -> Vec<u8> {
    with_id(0x62, id)
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// One line per packet that the broker sent.
pub(crate) fn shown(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let (mut length, mut at) = (0, 0);
        loop {
            length |= usize::from(rest[at] & 0x7f) << (7 * at);
            at += 1;
            if rest[at - 1] & 0x80 == 0 {
                break;
            }
        }
        lines.push(line(first, &rest[at..at + length]));
        bytes = &rest[at + length..];
    }
    lines
}

fn line(first: u8, body: &[u8]) -> String {
    let id = || u16::from_be_bytes([body[0], body[1]]);
    match first >> 4 {
        2 => format!("connack {} {}", body[0], body[1]),
        3 => {
            let topic_len = usize::from(id());
            let topic = std::str::from_utf8(&body[2..2 + topic_len]).unwrap();
            let mut rest = &body[2 + topic_len..];
            let mut head = String::from("publish");
            if first & 6 != 0 {
                head += &format!(" q{} #{}", first >> 1 & 3, u16::from_be_bytes([rest[0], rest[1]]));
                rest = &rest[2..];
            }
            head += if first & 8 != 0 { " dup" } else { "" };
            head += if first & 1 != 0 { " retain" } else { "" };
            format!("{head} {topic}={}", String::from_utf8_lossy(rest))
        }
        4 => format!("puback {}", id()),
        5 => format!("pubrec {}", id()),
        7 => format!("pubcomp {}", id()),
        9 => format!("suback {} {:02x?}", id(), &body[2..]),
        11 => format!("unsuback {}", id()),
        13 => "pingresp".to_owned(),
        kind => format!("type {kind} {body:02x?}"),
    }
}
