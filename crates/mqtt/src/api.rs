use std::sync::Arc;

use bytes::BytesMut;
use guard::{ReplayKind, ReplayTable};
use policy::{Denial, Table, VerifiedPeer};
use types::{DeviceId, QoS, Reason, TopicFilter};

use crate::message::Message;
use crate::session::SessionKey;

/// A connection, as the shell numbers it. A number may be used again once its connection is over:
/// after [`Sink::close`], or after [`Input::Closed`] or [`Input::Ended`] was stepped.
pub type ConnId = u32;
/// A shard, from 0; at most [`SHARDS_MAX`] of them.
pub type ShardId = u16;
/// A place in the journal. Records are durable in order; 0 is always durable, so a sink without a
/// journal answers 0 and never sends [`Input::Durable`].
pub type Lsn = u64;

/// The most shards that one installation may have: a set of them is one machine word.
pub const SHARDS_MAX: ShardId = 64;

/// Says whether the owner of a session is still believed, and if not why: `None` is yes. The shell
/// wraps `trust::recheck` over today's view in it.
pub type Recheck<'a> = &'a dyn Fn(&VerifiedPeer) -> Option<Reason>;

/// What happens to a shard.
pub enum Input<'a> {
    /// A connection has passed its handshake and admission.
    Opened {
        /// The connection.
        conn: ConnId,
        /// Who it is.
        peer: Arc<VerifiedPeer>,
        /// A number that no other connection of this process has had, for logs and replay scopes.
        serial_no: u64,
    },
    /// Bytes have come. Whole packets are taken out of the buffer, a rest is left in it.
    Bytes {
        /// The connection.
        conn: ConnId,
        /// All that was read and not yet taken.
        buffer: &'a mut BytesMut,
    },
    /// The socket has taken all that [`Sink::send`] was given for this connection. To be sent each
    /// time that happens: what counts as waiting for the socket is what `send` said last.
    Drained {
        /// The connection.
        conn: ConnId,
    },
    /// The network connection is gone: a will is due. Not to be sent for what [`Sink::close`] named.
    Closed {
        /// The connection.
        conn: ConnId,
        /// How it ended.
        reason: Reason,
    },
    /// The trust in the peer has ended: no will, and a stored session is frozen. The core forgets
    /// the connection; closing the socket is the shell's.
    Ended {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
    },
    /// The time of [`crate::Core::next_deadline`] has come, or any other time.
    Tick,
    /// New topic rules: live subscriptions and wills are decided again.
    Policy(Arc<Table>),
    /// New replay rules.
    Replay(Arc<ReplayTable>),
    /// New limits: for what comes from here on, and for the rates of live connections. What is
    /// above a lower limit already stays.
    Limits(Box<crate::Limits>),
    /// Trust has changed: the owners of stored sessions are checked again.
    Trust(Recheck<'a>),
    /// Another shard's commands, in the order in which it gave them to its sink; all are taken.
    Remote {
        /// Which shard.
        from: ShardId,
        /// What it said.
        commands: &'a mut Vec<Command>,
    },
    /// Every record up to this one is durable.
    Durable {
        /// The last durable record.
        lsn: Lsn,
    },
    /// The server stops: every connection is closed, and wills are sent.
    Drain,
    /// Forget what a device has sent before, by order of an operator.
    ResetReplay(&'a DeviceId),
}

/// Where a step's effects go; the shell's buffers, the mailboxes of the other shards, the journal.
pub trait Sink {
    /// Queues bytes for a connection and says how many now wait for its socket, these included.
    fn send(&mut self, conn: ConnId, frame: &[u8]) -> usize;
    /// Ends a connection once what was sent has been written; the core has forgotten it already.
    fn close(&mut self, conn: ConnId, reason: Reason);
    /// Gives a command to another shard; commands to one shard keep their order.
    fn forward(&mut self, to: ShardId, command: Command);
    /// Writes a record; the answer is its place, or 0 if it is durable already.
    fn persist(&mut self, record: Record) -> Lsn;
    /// Tells the shell what to log and count.
    fn note(&mut self, event: Note);
}

/// What one shard tells another. `seq` counts the commands that want [`Command::Applied`], one
/// count per pair of shards; 0 wants none.
#[derive(Clone)]
#[non_exhaustive]
pub enum Command {
    /// The sender has subscribers to this filter.
    AddFilter {
        /// The count that is to be acknowledged.
        seq: u64,
        /// The filter.
        filter: TopicFilter,
        /// Whether some of them have persistent sessions.
        durable: bool,
    },
    /// The sender has no more subscribers to this filter, or none with a persistent session.
    DropFilter {
        /// The filter.
        filter: TopicFilter,
        /// `true`: none with a persistent session any more; `false`: none at all.
        durable: bool,
    },
    /// A message for the receiver's subscribers; publishing it was permitted and fresh.
    Message {
        /// The count that is to be acknowledged once the message is durable.
        seq: u64,
        /// The message.
        message: Arc<Message>,
        /// Its quality of service.
        qos: QoS,
    },
    /// A retained message; an empty payload clears.
    Retain {
        /// The count that is to be acknowledged.
        seq: u64,
        /// The sender's logical clock: of two changes of one topic the later wins on every shard.
        clock: u64,
        /// The message.
        message: Arc<Message>,
        /// Its quality of service.
        qos: QoS,
    },
    /// Every command of the receiver's up to `seq` has been applied, and is durable where it must be.
    Applied {
        /// The count.
        seq: u64,
    },
}

/// What must survive the process. A message's number is unique within its session.
#[derive(Clone)]
#[non_exhaustive]
pub enum Record {
    /// A persistent session begins.
    SessionStarted {
        /// Whose.
        session: Arc<SessionKey>,
    },
    /// A persistent session is discarded with all that it holds.
    SessionEnded {
        /// Whose.
        session: Arc<SessionKey>,
    },
    /// A persistent session has a subscription.
    Subscribed {
        /// Whose.
        session: Arc<SessionKey>,
        /// To what.
        filter: TopicFilter,
        /// The granted quality of service.
        qos: QoS,
    },
    /// A persistent session has a subscription no more.
    Unsubscribed {
        /// Whose.
        session: Arc<SessionKey>,
        /// From what.
        filter: TopicFilter,
    },
    /// A message waits for a persistent session, in its queue or in flight.
    Queued {
        /// Whose.
        session: Arc<SessionKey>,
        /// The message's number.
        number: u64,
        /// The message.
        message: Arc<Message>,
        /// Whether it is to be sent as a retained message.
        retain: bool,
    },
    /// The message waits no more: acknowledged, refused or dropped.
    Settled {
        /// Whose.
        session: Arc<SessionKey>,
        /// The message's number.
        number: u64,
    },
    /// A QoS 2 message of this packet id has been received from the client and not yet released.
    Received {
        /// Whose.
        session: Arc<SessionKey>,
        /// The packet id.
        id: u16,
    },
    /// The client has released the packet id.
    Released {
        /// Whose.
        session: Arc<SessionKey>,
        /// The packet id.
        id: u16,
    },
    /// A topic has a retained message; an empty payload clears it.
    Retained {
        /// The logical clock of the change: of two shards' records of one topic the later wins.
        clock: u64,
        /// The message.
        message: Arc<Message>,
        /// Its quality of service.
        qos: QoS,
    },
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// `connections_per_identity_max`.
    Connections,
    /// `sessions_per_identity_max`.
    Sessions,
    /// `client_id_bytes_max`.
    ClientId,
    /// `device_messages_per_second` or `service_messages_per_second`.
    Rate,
    /// `queue_messages_max`.
    QueueMessages,
    /// `queue_bytes_max`.
    QueueBytes,
    /// `queue_bytes_total_max`.
    QueueBytesTotal,
    /// `output_bytes_max`.
    Output,
    /// `output_bytes_total_max`.
    OutputTotal,
    /// `subscriptions_max`.
    Subscriptions,
    /// `topic_levels_max`.
    TopicLevels,
    /// `retained_messages_max`.
    RetainedMessages,
    /// `retained_bytes_max`.
    RetainedBytes,
}

impl Limit {
    /// Stable slug for logs and metric labels.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Connections => "connections_per_identity",
            Self::Sessions => "sessions_per_identity",
            Self::ClientId => "client_id_bytes",
            Self::Rate => "messages_per_second",
            Self::QueueMessages => "queue_messages",
            Self::QueueBytes => "queue_bytes",
            Self::QueueBytesTotal => "queue_bytes_total",
            Self::Output => "output_bytes",
            Self::OutputTotal => "output_bytes_total",
            Self::Subscriptions => "subscriptions",
            Self::TopicLevels => "topic_levels",
            Self::RetainedMessages => "retained_messages",
            Self::RetainedBytes => "retained_bytes",
        }
    }
}

/// What the shell logs, counts and shows.
#[non_exhaustive]
pub enum Note {
    /// A client has connected.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// Its client id, which may be its device id.
        client_id: Arc<str>,
        /// Whether its session goes with the connection.
        clean: bool,
        /// Whether a stored session was resumed.
        resumed: bool,
    },
    /// A CONNECT was refused with a return code; the connection is closed.
    ConnectRefused {
        /// The connection.
        conn: ConnId,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// The return code of MQTT 3.1.1, or the reason code of MQTT 5.
        return_code: u8,
        /// Why.
        detail: String,
    },
    /// A connection is over.
    SessionEnded {
        /// The connection.
        conn: ConnId,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// Its client id; empty if it never connected.
        client_id: Arc<str>,
        /// Why, in one word.
        reason: Reason,
        /// Why, in a sentence; may be empty.
        detail: String,
    },
    /// A message was refused by the rules; the topic and the rule stand in the denial.
    PublishRefused {
        /// The connection; `None` for the will of one that is over.
        conn: Option<ConnId>,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// What was refused and by which rule.
        denial: Denial,
    },
    /// A subscription was refused by the rules, or taken away by new ones.
    SubscribeRefused {
        /// The connection; `None` for a stored session.
        conn: Option<ConnId>,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// What was refused and by which rule.
        denial: Denial,
    },
    /// A filter was refused for its form: too many levels, control characters, `$share`.
    FilterRefused {
        /// The connection.
        conn: ConnId,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// Why.
        detail: String,
    },
    /// A message is, or under observation seems to be, one that came before.
    ReplayRefused {
        /// The connection.
        conn: ConnId,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// The topic.
        topic: String,
        /// What is wrong with it.
        kind: ReplayKind,
        /// Whether it was dropped; `false` under observation.
        enforced: bool,
        /// Why, in a sentence.
        detail: String,
    },
    /// A limit was reached, and what exceeded it was refused or dropped; at most one note per
    /// second, connection and limit, the rest is counted.
    LimitReached {
        /// The connection; `None` for a stored session.
        conn: Option<ConnId>,
        /// Who.
        who: Arc<VerifiedPeer>,
        /// Which.
        limit: Limit,
        /// How often since the last note, this one included.
        count: u64,
    },
    /// A stored session was frozen or is delivered to again.
    SessionFrozen {
        /// Who owns it.
        who: Arc<VerifiedPeer>,
        /// Its client id.
        client_id: Arc<str>,
        /// Why; `None` when the owner is believed again.
        reason: Option<Reason>,
    },
    /// Our own code reached a state that it should have made impossible.
    Bug {
        /// Where.
        what: &'static str,
    },
}

/// Counters of a shard since it began, and a few levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that came from clients of this shard.
    pub received: u64,
    /// Messages that were sent to clients of this shard.
    pub delivered: u64,
    /// Messages that the rules forbade to publish.
    pub publish_refused: u64,
    /// Deliveries that the rules forbade.
    pub receive_refused: u64,
    /// Filters that were refused.
    pub subscribe_refused: u64,
    /// Messages refused as replays.
    pub replay_refused: u64,
    /// Messages that only looked like replays, under observation.
    pub replay_observed: u64,
    /// Messages beyond their sender's rate.
    pub rate_dropped: u64,
    /// QoS 0 deliveries dropped because the client does not read.
    pub output_dropped: u64,
    /// Deliveries dropped because a queue was full.
    pub queue_dropped: u64,
    /// Retained messages not kept because the store was full.
    pub retained_refused: u64,
    /// Live connections, CONNECT sent or not.
    pub connections: usize,
    /// Sessions, live or stored.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Messages waiting in queues.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Bytes waiting for sockets.
    pub output_bytes: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Their bytes.
    pub retained_bytes: usize,
}
