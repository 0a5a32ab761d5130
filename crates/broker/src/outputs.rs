use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use mqtt::{Command, ConnId, Lsn, Note, Record, ShardId, Sink};
use slab::Slab;
use trust::VerifiedPeer;
use types::{Reason, Wall};

use crate::notes::RefusalPaces;

/// Buffers that are kept for the next connection that has something to send.
const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that grew past this is given back to the allocator instead.
const SPARE_BYTES_MAX: usize = 64 * 1024;
const FIRST_BYTES: usize = 1024;

/// Whether a connection goes on, and if not, how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is open.
    Open,
    /// What is queued is still sent, then it is closed.
    Close(Reason),
    /// It is closed at once, and nothing more is sent.
    Kill(Reason),
}

/// Who is at the other end, for the log and the operator's view.
pub(crate) struct Who {
    pub(crate) peer: Arc<VerifiedPeer>,
    pub(crate) address: SocketAddr,
    pub(crate) number: u64,
    pub(crate) tls: &'static str,
    pub(crate) suite: &'static str,
    pub(crate) since: Wall,
    /// From CONNECT on: the session's client id.
    pub(crate) client_id: Option<Arc<str>>,
}

/// What the shard keeps of one connection beside its task.
pub(crate) struct Slot {
    pub(crate) out: Vec<u8>,
    /// How far `out` has been encrypted.
    out_at: usize,
    /// Bytes that are encrypted and that the socket has not taken yet.
    sealed: usize,
    waker: Option<Waker>,
    /// The task is being polled, or will be.
    awake: bool,
    /// The state machine knows this connection.
    pub(crate) in_core: bool,
    /// The end has been told to the observer.
    pub(crate) told: bool,
    /// How often its refusals are told; there only once it has had one.
    pub(crate) refusals: Option<Box<RefusalPaces>>,
    pub(crate) fate: Fate,
    /// When its certificate's dates end it.
    pub(crate) ends_at: Wall,
    pub(crate) who: Box<Who>,
}

impl Slot {
    fn queued(&self) -> usize {
        self.out.len() - self.out_at + self.sealed
    }

    fn wake(&mut self) {
        if !std::mem::replace(&mut self.awake, true)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

/// Where the state machine's outputs go: one bounded buffer per connection, one batch per shard.
pub(crate) struct Outputs {
    slots: Slab<Slot>,
    spare: Vec<Vec<u8>>,
    out_bytes_max: usize,
    /// Bytes queued for all connections.
    pub(crate) queued: usize,
    /// Connections that were killed and whose socket is still open.
    pub(crate) dying: usize,
    /// What goes to the other shards at the end of this round, by shard.
    pub(crate) outboxes: Vec<Vec<Command>>,
    /// Something lies in an outbox.
    pub(crate) has_mail: bool,
    pub(crate) notes: Vec<Note>,
    /// Connections whose fate has become [`Fate::Close`] since the shard looked last.
    pub(crate) closing: Vec<ConnId>,
    lsn: Lsn,
    /// The last record that was persisted and not yet reported as durable.
    persisted: Option<Lsn>,
}

impl Outputs {
    pub(crate) fn new(shards: usize, out_bytes_max: usize) -> Self {
        Self {
            slots: Slab::new(),
            spare: Vec::new(),
            out_bytes_max,
            queued: 0,
            dying: 0,
            outboxes: (0..shards).map(|_| Vec::new()).collect(),
            has_mail: false,
            notes: Vec::new(),
            closing: Vec::new(),
            lsn: 0,
            persisted: None,
        }
    }

    /// A place for a new connection; `None` once 2^32 are open.
    pub(crate) fn add(&mut self, who: Who, ends_at: Wall) -> Option<ConnId> {
        let conn = ConnId::try_from(self.slots.vacant_key()).ok()?;
        self.slots.insert(Slot {
            out: Vec::new(),
            out_at: 0,
            sealed: 0,
            waker: None,
            awake: true,
            in_core: true,
            told: false,
            refusals: None,
            fate: Fate::Open,
            ends_at,
            who: Box::new(who),
        });
        Some(conn)
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Slot> {
        let slot = self.slots.try_remove(index(conn))?;
        self.queued -= slot.queued();
        self.dying -= usize::from(matches!(slot.fate, Fate::Kill(_)));
        if self.slots.is_empty() {
            self.slots.shrink_to_fit();
        }
        Some(slot)
    }

    pub(crate) fn slot(&self, conn: ConnId) -> Option<&Slot> {
        self.slots.get(index(conn))
    }

    pub(crate) fn slot_mut(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.slots.get_mut(index(conn))
    }

    /// Every connection, with its id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Slot)> {
        self.slots.iter().filter_map(|(at, slot)| Some((ConnId::try_from(at).ok()?, slot)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The task runs now, so that what is queued for it needs no wake.
    pub(crate) fn awake(&mut self, conn: ConnId, waker: &Waker) -> Option<Fate> {
        let slot = self.slots.get_mut(index(conn))?;
        slot.awake = true;
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        Some(slot.fate)
    }

    /// The task goes to sleep and wants a wake for the next byte or the next change of its fate.
    pub(crate) fn asleep(&mut self, conn: ConnId) {
        if let Some(slot) = self.slots.get_mut(index(conn)) {
            slot.awake = false;
        }
    }

    /// Wakes the task, if it sleeps.
    pub(crate) fn wake(&mut self, conn: ConnId) {
        if let Some(slot) = self.slots.get_mut(index(conn)) {
            slot.wake();
        }
    }

    /// Bytes that wait for this connection.
    pub(crate) fn queued_for(&self, conn: ConnId) -> usize {
        self.slots.get(index(conn)).map_or(0, Slot::queued)
    }

    /// Hands the queued bytes to `seal`, which says how many it took and will report by
    /// [`Outputs::flushed`] when the socket has them. Returns whether any were queued.
    pub(crate) fn drain_to(&mut self, conn: ConnId, seal: impl FnOnce(&[u8]) -> usize) -> usize {
        let Some(slot) = self.slots.get_mut(index(conn)) else { return 0 };
        if slot.out.is_empty() {
            return 0;
        }
        let taken = seal(&slot.out[slot.out_at..]);
        slot.out_at += taken;
        slot.sealed += taken;
        if slot.out_at >= slot.out.len() {
            slot.out_at = 0;
            let mut spare = std::mem::take(&mut slot.out);
            if spare.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_BUFFERS_MAX {
                spare.clear();
                self.spare.push(spare);
            }
        }
        taken
    }

    /// The socket has taken everything that was sealed; false if nothing was.
    pub(crate) fn flushed(&mut self, conn: ConnId) -> bool {
        let Some(slot) = self.slots.get_mut(index(conn)) else { return false };
        let taken = std::mem::take(&mut slot.sealed);
        self.queued -= taken;
        taken > 0
    }

    /// Ends a connection at once: what is queued is dropped, and a blocked write is interrupted.
    /// False if it was being killed already, or does not exist.
    pub(crate) fn kill(&mut self, conn: ConnId, reason: Reason) -> bool {
        let Some(slot) = self.slots.get_mut(index(conn)) else { return false };
        if matches!(slot.fate, Fate::Kill(_)) {
            return false;
        }
        slot.fate = Fate::Kill(reason);
        self.dying += 1;
        self.queued -= slot.out.len() - slot.out_at;
        slot.out = Vec::new();
        slot.out_at = 0;
        slot.wake();
        true
    }

    /// The record up to which the state machine has to be told that it is durable.
    pub(crate) fn take_persisted(&mut self) -> Option<Lsn> {
        self.persisted.take()
    }
}

/// The place of a connection in the slab; ids are made from such places, so nothing is cut off.
fn index(conn: ConnId) -> usize {
    usize::try_from(conn).unwrap_or(usize::MAX)
}

impl Sink for Outputs {
    fn send(&mut self, conn: ConnId, frame: &[u8]) -> usize {
        let Some(slot) = self.slots.get_mut(index(conn)) else { return 0 };
        if slot.fate != Fate::Open {
            return slot.queued();
        }
        if slot.out.capacity() == 0 {
            slot.out = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(FIRST_BYTES.max(frame.len())));
        } else if slot.out_at > slot.out.len() / 2 {
            // Each byte is moved at most once per doubling, since as many have gone out.
            slot.out.drain(..std::mem::take(&mut slot.out_at));
        }
        slot.out.extend_from_slice(frame);
        self.queued += frame.len();
        let queued = slot.queued();
        if queued > self.out_bytes_max {
            self.kill(conn, Reason::SlowConsumer);
        } else {
            slot.wake();
        }
        queued
    }

    fn close(&mut self, conn: ConnId, reason: Reason) {
        if let Some(slot) = self.slots.get_mut(index(conn)) {
            slot.in_core = false;
            if slot.fate == Fate::Open {
                slot.fate = Fate::Close(reason);
                self.closing.push(conn);
                slot.wake();
            }
        }
    }

    fn forward(&mut self, to: ShardId, command: Command) {
        if let Some(outbox) = self.outboxes.get_mut(usize::from(to)) {
            outbox.push(command);
            self.has_mail = true;
        }
    }

    /// No journal exists yet: what was handed over counts as durable as soon as the step is over.
    fn persist(&mut self, _record: Record) -> Lsn {
        self.lsn += 1;
        self.persisted = Some(self.lsn);
        self.lsn
    }

    fn note(&mut self, event: Note) {
        self.notes.push(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use testkit::pki::Pki;
    use types::PrincipalKind;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn outputs(max: usize) -> (Outputs, ConnId, Arc<Count>) {
        let pki = Pki::fixed();
        let mut io = Outputs::new(2, max);
        let who = Who {
            peer: Arc::new(pki.peer(PrincipalKind::Device, "pump-7", pki.now())),
            address: "192.0.2.1:5".parse().unwrap(),
            number: 1,
            tls: "TLSv1.3",
            suite: "",
            since: pki.now().wall,
            client_id: None,
        };
        let conn = io.add(who, pki.now().wall).unwrap();
        let count = Arc::new(Count::default());
        io.awake(conn, &Waker::from(Arc::clone(&count)));
        io.asleep(conn);
        (io, conn, count)
    }

    fn wakes(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn many_frames_wake_a_sleeping_connection_once_and_leave_as_one_piece() {
        let (mut io, conn, count) = outputs(100);
        assert_eq!((io.send(conn, b"ab"), io.send(conn, b"cd"), wakes(&count)), (2, 4, 1));
        assert_eq!(io.drain_to(conn, |bytes| if bytes == b"abcd" { 4 } else { 0 }), 4);
        // Sealed bytes count until the socket has them.
        assert_eq!((io.queued_for(conn), io.queued), (4, 4));
        assert!(io.flushed(conn));
        assert!(!io.flushed(conn));
        assert_eq!((io.queued_for(conn), io.queued), (0, 0));
        io.asleep(conn);
        io.send(conn, b"e");
        assert_eq!(wakes(&count), 2);
    }

    #[test]
    fn a_socket_that_takes_little_leaves_the_rest_in_order() {
        let (mut io, conn, _) = outputs(100);
        io.send(conn, b"abcdef");
        assert_eq!(io.drain_to(conn, |_| 4), 4);
        io.flushed(conn);
        // More than half has gone out, so the buffer is moved together before it grows.
        assert_eq!(io.send(conn, b"gh"), 4);
        let mut rest = Vec::new();
        io.drain_to(conn, |bytes| {
            rest.extend_from_slice(bytes);
            bytes.len()
        });
        assert_eq!(rest, b"efgh");
        assert_eq!(io.drain_to(conn, |_| 1), 0);
    }

    #[test]
    fn a_killed_connection_loses_what_is_queued_and_gets_nothing_more() {
        let (mut io, conn, count) = outputs(100);
        io.send(conn, b"secret");
        io.asleep(conn);
        assert!(io.kill(conn, Reason::Revoked));
        assert!(!io.kill(conn, Reason::Limit));
        assert_eq!((io.queued, io.dying, wakes(&count)), (0, 1, 2));
        assert_eq!(io.send(conn, b"more"), 0);
        io.close(conn, Reason::KeepAlive);
        assert_eq!(io.slot(conn).unwrap().fate, Fate::Kill(Reason::Revoked));
        assert!(io.remove(conn).is_some());
        assert!(io.remove(conn).is_none());
        assert_eq!((io.dying, io.is_empty()), (0, true));
        assert_eq!(io.send(conn, b"nobody"), 0);
    }

    #[test]
    fn whoever_has_more_queued_than_allowed_is_ended_just_past_the_border() {
        let (mut io, conn, _) = outputs(4);
        io.send(conn, b"abcd");
        assert_eq!(io.slot(conn).unwrap().fate, Fate::Open);
        io.send(conn, b"e");
        assert_eq!(io.slot(conn).unwrap().fate, Fate::Kill(Reason::SlowConsumer));
        assert_eq!(io.queued, 0);
    }

    #[test]
    fn a_closing_connection_still_sends_what_was_queued_before() {
        let (mut io, conn, _) = outputs(100);
        io.send(conn, b"last");
        io.close(conn, Reason::TakenOver);
        io.close(conn, Reason::KeepAlive);
        assert_eq!(io.send(conn, b"late"), 4);
        assert_eq!(io.slot(conn).unwrap().fate, Fate::Close(Reason::TakenOver));
        assert_eq!(io.closing, [conn]);
        assert_eq!(io.drain_to(conn, <[u8]>::len), 4);
    }

    #[test]
    fn commands_and_records_are_kept_for_the_shard() {
        let (mut io, _, _) = outputs(100);
        io.forward(1, Command::Applied { seq: 3 });
        io.forward(7, Command::Applied { seq: 4 });
        assert_eq!((io.outboxes[0].len(), io.outboxes[1].len(), io.has_mail), (0, 1, true));
        let session = Arc::new(mqtt::Message::new(types::Topic::parse("t").unwrap(), b""));
        let record = Record::Retained { message: session, qos: types::QoS::AtMostOnce, clock: 1 };
        assert_eq!((io.persist(record.clone()), io.persist(record)), (1, 2));
        assert_eq!((io.take_persisted(), io.take_persisted()), (Some(2), None));
    }
}
