use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Observer};
use bytes::BytesMut;
use guard::ReplayTable;
use mqtt::{ConnId, Core, Input, ShardId};
use policy::Table;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::LocalSet;
use trust::{VerifiedPeer, View};
use types::{CertRef, Clock, DeviceId, Epoch, Mono, Now, Reason, Wall};

use crate::board::TrustBoard;
use crate::connection::Connection;
use crate::limits::Pass;
use crate::live::LiveClient;
use crate::mailbox::{Mail, Mailbox, ShardSet};
use crate::notes::Teller;
use crate::outputs::{Fate, Outputs, Who};
use crate::settings::Settings;
use crate::stats::{Counters, add};

/// The read buffer that all connections of a shard share, since only one is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Sessions that are checked against a new view before the others have a turn.
const RECHECKS_PER_TURN: usize = 1_024;

/// A connection that was admitted and now moves to the shard of its identity.
pub(crate) struct Arrival {
    pub(crate) tcp: std::net::TcpStream,
    pub(crate) tls: Box<ServerConnection>,
    pub(crate) peer: Arc<VerifiedPeer>,
    pub(crate) address: SocketAddr,
    pub(crate) number: u64,
    pub(crate) version: &'static str,
    pub(crate) suite: &'static str,
    pub(crate) pass: Pass,
}

/// What the outside asks of a shard.
pub(crate) enum Control {
    /// Sessions whose number comes after `after`, in order.
    Live { after: u64, limit: usize, answer: oneshot::Sender<Vec<LiveClient>> },
    /// End a connection by its number; the answer says whether it was here.
    Disconnect { number: u64, answer: oneshot::Sender<bool> },
    /// Forget what a device has sent before.
    ResetReplay(DeviceId),
    /// Other limits from here on.
    Limits(Box<mqtt::Limits>),
    /// Close everything and end.
    Stop,
}

pub(crate) type ShardMail = Mailbox<Arrival, Control>;

/// What a shard's thread is given; everything here may cross threads.
pub(crate) struct Parts {
    pub(crate) id: ShardId,
    pub(crate) mailboxes: Arc<[ShardMail]>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) teller: Teller,
    pub(crate) board: Arc<TrustBoard>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) policy: watch::Receiver<Arc<Table>>,
    pub(crate) replay: watch::Receiver<Arc<ReplayTable>>,
}

/// One shard, shared by its tasks; all of them run on its one thread.
pub(crate) struct Shard {
    id: ShardId,
    clock: Arc<dyn Clock>,
    settings: Arc<Settings>,
    mailboxes: Arc<[ShardMail]>,
    teller: Teller,
    pub(crate) counters: Arc<Counters>,
    pub(crate) read: RefCell<Box<[u8]>>,
    pub(crate) plain: RefCell<BytesMut>,
    pub(crate) state: RefCell<State>,
    /// Rung when something lies in an outbox.
    courier: Notify,
    /// Rung when a connection that was killed is gone, and when the last one is.
    departed: Notify,
}

pub(crate) struct State {
    core: Core,
    pub(crate) io: Outputs,
    view: Arc<View>,
    /// When each session ends by its certificate.
    ends: BTreeSet<(Wall, ConnId)>,
    /// Connections that are being closed, with their deadline and their number.
    closing: VecDeque<(Mono, ConnId, u64)>,
    /// The shards whose mailbox is full; while there are any, no client is read.
    full: ShardSet,
    /// Connections that found the way to another shard full.
    paused: BTreeSet<ConnId>,
}

/// The life of a shard's thread.
pub(crate) fn run(parts: Parts, ready: oneshot::Sender<std::io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _end = End {
        mailbox: Arc::clone(&parts.mailboxes),
        id: parts.id,
        observer: Arc::clone(&parts.teller.observer),
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let (view, policy, replay) = (parts.view.clone(), parts.policy.clone(), parts.replay.clone());
        let board = Arc::clone(&parts.board);
        let shard = Rc::new(Shard::new(parts));
        tokio::task::spawn_local(Rc::clone(&shard).carry());
        let _ = ready.send(Ok(()));
        shard.live(view, policy, replay, &board).await;
    });
}

/// Runs when the thread ends, by order or by a panic: nobody is left waiting in its mailbox, and a
/// panic is told. Its sockets are closed by then, so nothing is delivered to anybody.
struct End {
    mailbox: Arc<[ShardMail]>,
    id: ShardId,
    observer: Arc<dyn Observer>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.get(usize::from(self.id)) {
            mailbox.close();
        }
        if std::thread::panicking() {
            self.observer.note(Event::Alert {
                code: "broker.shard_lost".to_owned(),
                detail: format!("shard {} ended by a bug; its clients cannot connect", self.id),
            });
        }
    }
}

impl Shard {
    fn new(parts: Parts) -> Self {
        let shards = parts.mailboxes.len();
        let policy = parts.policy.borrow().clone();
        let replay = parts.replay.borrow().clone();
        let count = ShardId::try_from(shards).unwrap_or(1);
        let core = Core::new(parts.settings.mqtt.clone(), parts.id, count, policy, replay);
        Self {
            id: parts.id,
            clock: parts.clock,
            mailboxes: parts.mailboxes,
            counters: Arc::clone(&parts.teller.counters),
            teller: parts.teller,
            read: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
            plain: RefCell::new(BytesMut::new()),
            state: RefCell::new(State {
                core,
                io: Outputs::new(shards, parts.settings.out_bytes_max),
                view: parts.view.borrow().clone(),
                ends: BTreeSet::new(),
                closing: VecDeque::new(),
                full: ShardSet::default(),
                paused: BTreeSet::new(),
            }),
            settings: parts.settings,
            courier: Notify::new(),
            departed: Notify::new(),
        }
    }

    /// Follows the mailbox, the watched snapshots and the deadlines until it is told to stop.
    async fn live(
        self: Rc<Self>,
        mut view: watch::Receiver<Arc<View>>,
        mut policy: watch::Receiver<Arc<Table>>,
        mut replay: watch::Receiver<Arc<ReplayTable>>,
        board: &TrustBoard,
    ) {
        let mailbox = &self.mailboxes[usize::from(self.id)];
        view.mark_changed();
        // One timer for all turns, and ahead of the mailbox: what is due is not put off by mail.
        let beat = tokio::time::sleep(self.until_next());
        tokio::pin!(beat);
        loop {
            tokio::select! {
                biased;
                Ok(()) = view.changed() => {
                    let newest = view.borrow_and_update().clone();
                    let (epoch, closed) = self.apply(newest).await;
                    board.done(usize::from(self.id), epoch, closed);
                }
                Ok(()) = policy.changed() => {
                    let table = policy.borrow_and_update().clone();
                    self.step(Input::Policy(table));
                }
                Ok(()) = replay.changed() => {
                    let table = replay.borrow_and_update().clone();
                    self.step(Input::Replay(table));
                }
                () = &mut beat => {
                    self.tick();
                    beat.as_mut().reset(tokio::time::Instant::now() + self.until_next());
                }
                () = mailbox.filled() => {
                    if self.open_mail(mailbox.take()) {
                        break;
                    }
                }
            }
        }
        self.stop().await;
    }

    /// Steps the state machine, answers what it persisted, and sees to what came out of it.
    pub(crate) fn step(&self, input: Input<'_>) {
        let now = self.clock.now();
        let state = &mut *self.state.borrow_mut();
        state.core.step(now, input, &mut state.io);
        while let Some(lsn) = state.io.take_persisted() {
            state.core.step(now, Input::Durable { lsn }, &mut state.io);
        }
        self.see_to(state, now);
    }

    fn see_to(&self, state: &mut State, now: Now) {
        if state.io.has_mail {
            self.courier.notify_one();
        }
        if !state.io.notes.is_empty() {
            for note in std::mem::take(&mut state.io.notes) {
                self.teller.tell(&mut state.io, note, now.mono);
            }
        }
        let deadline = now.mono.plus(self.settings.close_timeout);
        for conn in std::mem::take(&mut state.io.closing) {
            if let Some(slot) = state.io.slot(conn) {
                state.closing.push_back((deadline, conn, slot.who.number));
            }
        }
    }

    /// Carries the outboxes to the other shards, once for all connections that had their turn.
    async fn carry(self: Rc<Self>) {
        loop {
            self.courier.notified().await;
            let state = &mut *self.state.borrow_mut();
            state.io.has_mail = false;
            for (to, outbox) in (0..).zip(&mut state.io.outboxes) {
                if outbox.is_empty() {
                    continue;
                }
                let Some(mailbox) = self.mailboxes.get(usize::from(to)) else { continue };
                let delivered = mailbox.deliver(self.id, outbox);
                add(&self.counters.shed, delivered.shed);
                if delivered.full {
                    state.full.insert(to);
                }
            }
        }
    }

    /// Whether a shard that this one sends to has no room; the connection is then read later.
    pub(crate) fn is_way_blocked(&self, conn: ConnId) -> bool {
        let state = &mut *self.state.borrow_mut();
        if state.full.is_empty() {
            return false;
        }
        state.paused.insert(conn);
        true
    }

    /// Takes in what came; true if it says to stop.
    fn open_mail(self: &Rc<Self>, mail: Mail<Arrival, Control>) -> bool {
        for shard in mail.waiting.iter() {
            if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
                mailbox.say_room();
            }
        }
        for (from, mut commands) in mail.batches {
            self.step(Input::Remote { from, commands: &mut commands });
        }
        for arrival in mail.arrivals {
            self.take_in(arrival);
        }
        if mail.has_room {
            let state = &mut *self.state.borrow_mut();
            state.full.clear();
            for conn in std::mem::take(&mut state.paused) {
                state.io.wake(conn);
            }
        }
        let mut stops = false;
        for control in mail.controls {
            match control {
                Control::Live { after, limit, answer } => {
                    let _ = answer.send(self.list(after, limit));
                }
                Control::Disconnect { number, answer } => {
                    let _ = answer.send(self.disconnect(number));
                }
                Control::ResetReplay(device) => self.step(Input::ResetReplay(&device)),
                Control::Limits(limits) => self.step(Input::Limits(limits)),
                Control::Stop => stops = true,
            }
        }
        stops
    }

    /// Makes a session's connection of an admitted peer. Its handshake may have begun under an
    /// older view than this shard has applied, and then it is checked again.
    fn take_in(self: &Rc<Self>, arrival: Arrival) {
        let now = self.clock.now();
        let Arrival { tcp, tls, peer, address, number, version, suite, pass } = arrival;
        let who = Who {
            peer: Arc::clone(&peer),
            address,
            number,
            tls: version,
            suite,
            since: now.wall,
            client_id: None,
        };
        let checked = {
            let state = self.state.borrow();
            if peer.trust_epoch() < state.view.epoch() || peer.session_end() <= now.wall {
                trust::recheck(&state.view, &peer, now)
            } else {
                Ok(())
            }
        };
        if let Err(refusal) = checked {
            self.teller.refused(&who, refusal.reason, &refusal.detail);
            return;
        }
        let Ok(tcp) = TcpStream::from_std(tcp) else {
            self.teller.refused(&who, Reason::Unavailable, "the socket could not be moved to its shard");
            return;
        };
        let conn = {
            let state = &mut *self.state.borrow_mut();
            let end = state.end_of(&peer);
            let Some(conn) = state.io.add(who, end) else { return };
            state.ends.insert((end, conn));
            conn
        };
        self.step(Input::Opened { conn, peer, serial_no: number });
        tokio::task::spawn_local(Connection::new(Rc::clone(self), conn, tcp, tls, pass));
    }

    /// Flow D on this shard: 1. the view is the new one, 2. live sessions are checked and closed,
    /// 3. so are the owners of stored ones, 4. every closed socket is shut.
    async fn apply(self: &Rc<Self>, view: Arc<View>) -> (Epoch, Vec<CertRef>) {
        // 1. From here on an arrival is checked against the new view.
        let epoch = view.epoch();
        self.state.borrow_mut().view = Arc::clone(&view);
        // 2. In slices, so that a large shard still answers its clients meanwhile.
        let conns: Vec<(ConnId, u64)> =
            self.state.borrow().io.iter().map(|(conn, slot)| (conn, slot.who.number)).collect();
        let mut closed = Vec::new();
        for slice in conns.chunks(RECHECKS_PER_TURN) {
            for &(conn, number) in slice {
                closed.extend(self.recheck(conn, number, &view));
            }
            tokio::task::yield_now().await;
        }
        // 3. A stored session and its will are judged by the same rule.
        let now = self.clock.now();
        let recheck =
            |peer: &VerifiedPeer| trust::recheck(&view, peer, now).err().map(|refusal| refusal.reason);
        self.step(Input::Trust(&recheck));
        // 4. The tasks have been woken, and a killed one never waits for its peer.
        while self.state.borrow().io.dying > 0 {
            self.departed.notified().await;
        }
        (epoch, closed)
    }

    /// Checks one live session; if it is refused, ends it and names its certificate.
    fn recheck(&self, conn: ConnId, number: u64, view: &View) -> Option<CertRef> {
        let now = self.clock.now();
        let peer = {
            let state = &mut *self.state.borrow_mut();
            let slot = state.io.slot(conn).filter(|slot| slot.who.number == number)?;
            let peer = Arc::clone(&slot.who.peer);
            // The certificate may have been replaced, and its overlap may end before its dates.
            let end = state.end_of(&peer);
            if let Some(slot) = state.io.slot_mut(conn) {
                let before = std::mem::replace(&mut slot.ends_at, end);
                if before != end {
                    state.ends.remove(&(before, conn));
                    state.ends.insert((end, conn));
                }
            }
            peer
        };
        let refusal = trust::recheck(view, &peer, now).err()?;
        self.end(conn, refusal.reason, &refusal.detail).then(|| peer.cert())
    }

    /// Ends a session whose peer is believed no more: nothing more is sent, no will is due.
    fn end(&self, conn: ConnId, reason: Reason, detail: &str) -> bool {
        let cut = self.cut(conn, reason, detail);
        if cut == Some(true) {
            self.step(Input::Ended { conn, reason });
        }
        cut.is_some()
    }

    /// Closes a connection at once and tells why. `None` if that was done before, otherwise whether
    /// the state machine has yet to hear of it.
    fn cut(&self, conn: ConnId, reason: Reason, detail: &str) -> Option<bool> {
        let state = &mut *self.state.borrow_mut();
        if !state.io.kill(conn, reason) {
            return None;
        }
        self.teller.ended(state.io.slot_mut(conn), reason, detail);
        Some(state.io.slot_mut(conn).is_some_and(|slot| std::mem::take(&mut slot.in_core)))
    }

    /// The network connection is over; the state machine sends the will that is due. It does not
    /// know the transport, so what there is to say about that is told here.
    pub(crate) fn lost(&self, conn: ConnId, reason: Reason, detail: &str) {
        let was_open = {
            let state = &mut *self.state.borrow_mut();
            let Some(slot) = state.io.slot_mut(conn) else { return };
            if slot.fate == Fate::Open {
                slot.fate = Fate::Close(reason);
                if !detail.is_empty() {
                    self.teller.ended(Some(slot), reason, detail);
                }
                state.io.closing.push(conn);
            }
            state.io.slot_mut(conn).is_some_and(|slot| std::mem::take(&mut slot.in_core))
        };
        if was_open {
            self.step(Input::Closed { conn, reason });
        }
    }

    /// The connection's task is over.
    pub(crate) fn gone(&self, conn: ConnId) {
        // A step that panicked has left the state borrowed; there is nothing to be cleaned then.
        let Ok(state) = self.state.try_borrow() else { return };
        let Some(fate) = state.io.slot(conn).map(|slot| slot.fate) else { return };
        drop(state);
        let reason = match fate {
            Fate::Open => Reason::ConnectionLost,
            Fate::Close(reason) | Fate::Kill(reason) => reason,
        };
        self.lost(conn, reason, "");
        let state = &mut *self.state.borrow_mut();
        let Some(mut slot) = state.io.remove(conn) else { return };
        state.ends.remove(&(slot.ends_at, conn));
        state.paused.remove(&conn);
        self.teller.ended(Some(&mut slot), reason, "");
        if state.io.dying == 0 || state.io.is_empty() {
            self.departed.notify_one();
        }
    }

    pub(crate) fn fate(&self, conn: ConnId) -> Fate {
        self.state.borrow().io.slot(conn).map_or(Fate::Kill(Reason::ConnectionLost), |slot| slot.fate)
    }

    /// All that was queued is with the socket.
    pub(crate) fn drained(&self, conn: ConnId) {
        self.step(Input::Drained { conn });
    }

    fn until_next(&self) -> Duration {
        let state = self.state.borrow();
        let next = state.core.next_deadline();
        let now = self.clock.now().mono;
        next.map_or(self.settings.tick, |at| {
            at.since(now).clamp(Duration::from_millis(1), self.settings.tick)
        })
    }

    /// Deadlines: those of the state machine, of certificates, and of connections that close.
    fn tick(&self) {
        let now = self.clock.now();
        self.step(Input::Tick);
        loop {
            let due = self.state.borrow().ends.first().filter(|(end, _)| *end <= now.wall).copied();
            let Some(entry) = due else { break };
            let view = Arc::clone(&self.state.borrow().view);
            self.state.borrow_mut().ends.remove(&entry);
            self.end_by_date(entry.1, &view, now);
        }
        let state = &mut *self.state.borrow_mut();
        while let Some(&(deadline, conn, number)) = state.closing.front()
            && deadline <= now.mono
        {
            state.closing.pop_front();
            if let Some(slot) = state.io.slot(conn)
                && slot.who.number == number
                && let Fate::Close(reason) = slot.fate
            {
                state.io.kill(conn, reason);
            }
        }
        self.counters
            .queued
            .store(u64::try_from(state.io.queued).unwrap_or(u64::MAX), std::sync::atomic::Ordering::Relaxed);
    }

    fn end_by_date(&self, conn: ConnId, view: &View, now: Now) {
        let Some(peer) = self.state.borrow().io.slot(conn).map(|slot| Arc::clone(&slot.who.peer)) else {
            return;
        };
        match trust::recheck(view, &peer, now) {
            Err(refusal) => self.end(conn, refusal.reason, &refusal.detail),
            Ok(()) => self.end(conn, Reason::Expired, "the certificate's last day is over"),
        };
    }

    fn list(&self, after: u64, limit: usize) -> Vec<LiveClient> {
        let state = self.state.borrow();
        let mut clients: Vec<LiveClient> = state
            .io
            .iter()
            .filter(|(_, slot)| slot.who.number > after && slot.fate == Fate::Open)
            .filter_map(|(_, slot)| LiveClient::of(&slot.who))
            .collect();
        clients.sort_unstable_by_key(|client| client.conn);
        clients.truncate(limit);
        clients
    }

    fn disconnect(&self, number: u64) -> bool {
        let found = self.state.borrow().io.iter().find(|(_, slot)| slot.who.number == number).map(|(c, _)| c);
        let Some(conn) = found else { return false };
        let reason = Reason::ServerStops;
        let cut = self.cut(conn, reason, "ended by an operator");
        if cut == Some(true) {
            // The peer is believed as before, so its stored session goes on being filled.
            self.step(Input::Closed { conn, reason });
        }
        cut.is_some()
    }

    /// Closes every session in order, waits for them, and then for nobody.
    async fn stop(self: Rc<Self>) {
        self.step(Input::Drain);
        let open: Vec<ConnId> = self.state.borrow().io.iter().map(|(conn, _)| conn).collect();
        for conn in open {
            self.lost(conn, Reason::ServerStops, "");
            self.state.borrow_mut().io.wake(conn);
        }
        let deadline = tokio::time::sleep(self.settings.shutdown_timeout);
        tokio::pin!(deadline);
        while !self.state.borrow().io.is_empty() {
            tokio::select! {
                () = self.departed.notified() => {}
                () = &mut deadline => break,
            }
        }
    }
}

impl State {
    /// When the session of this peer ends by its dates, as the newest view has them.
    fn end_of(&self, peer: &VerifiedPeer) -> Wall {
        let end = peer.session_end();
        self.view.retires_at(&peer.cert()).map_or(end, |until| until.min(end))
    }
}
