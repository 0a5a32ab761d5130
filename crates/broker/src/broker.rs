use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use mqtt::ShardId;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use store::{AckDetail, Reader, Store};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use trust::View;
use types::DeviceId;

use crate::board::TrustBoard;
use crate::connect::{Door, accept};
use crate::error::BrokerError;
use crate::limits::Gate;
use crate::live::LiveClient;
use crate::mailbox::Mailbox;
use crate::notes::Teller;
use crate::settings::{AddressLimits, Deps, Settings};
use crate::shard::{Control, Parts, ShardMail, run};
use crate::stats::{Counters, Stats};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A running broker. Dropping it stops it without waiting; [`Broker::shutdown`] waits.
pub struct Broker {
    local_addr: SocketAddr,
    door: Arc<Door>,
    counters: Vec<Arc<Counters>>,
    stop: watch::Sender<bool>,
    handshakes: Option<Runtime>,
    threads: Vec<JoinHandle<()>>,
}

/// Binds a listener as the broker wants it: the address may be taken over from a process that has
/// just ended, and a burst of clients finds room.
///
/// # Errors
/// The address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts the broker on a bound listener; it accepts as soon as this returns.
///
/// # Errors
/// A setting outside its limits, or a socket, thread or runtime that the system refuses.
pub async fn start(settings: Settings, listener: StdTcpListener, deps: Deps) -> Result<Broker, BrokerError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (shards, pool) = settings.check(cores)?;
    let system = |act| move |source| BrokerError::System { act, source };
    listener.set_nonblocking(true).map_err(system("make the listener non-blocking"))?;
    let local_addr = listener.local_addr().map_err(system("name the listener's address"))?;
    let settings = Arc::new(settings);
    let mailboxes: Arc<[ShardMail]> =
        (0..shards).map(|_| Mailbox::new(settings.mailbox_messages_max)).collect();
    let door = Arc::new(Door {
        gate: Gate::new(settings.addresses.clone()),
        acceptor: deps.acceptor,
        store: deps.store.clone(),
        clock: Arc::clone(&deps.clock),
        observer: Arc::clone(&deps.observer),
        counters: Counters::default(),
        mailboxes: Arc::clone(&mailboxes),
        numbers: AtomicU64::new(1),
        settings: Arc::clone(&settings),
    });
    let (stop, _) = watch::channel(false);
    let mut broker =
        Broker { local_addr, door, counters: Vec::new(), stop, handshakes: None, threads: Vec::new() };

    let board = Arc::new(TrustBoard::new(deps.store.clone(), usize::from(shards)));
    for id in 0..shards {
        let counters = Arc::new(Counters::default());
        broker.counters.push(Arc::clone(&counters));
        let parts = Parts {
            id,
            mailboxes: Arc::clone(&mailboxes),
            settings: Arc::clone(&settings),
            clock: Arc::clone(&deps.clock),
            teller: Teller { observer: Arc::clone(&deps.observer), counters },
            board: Arc::clone(&board),
            view: deps.store.watch_view(),
            policy: deps.policy.clone(),
            replay: deps.replay.clone(),
        };
        broker.threads.push(spawn_shard(parts).await?);
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(pool)
        .thread_name("handshakes")
        .enable_all()
        .build()
        .map_err(system("start the handshake threads"))?;
    let listener = {
        // A tokio listener belongs to the runtime in which it is made.
        let _inside = runtime.enter();
        TcpListener::from_std(listener).map_err(system("register the listener"))?
    };
    runtime.spawn(accept(Arc::clone(&broker.door), listener, broker.stop.subscribe()));
    runtime.spawn(acknowledge_handshakes(
        deps.store.clone(),
        deps.store.watch_view(),
        broker.stop.subscribe(),
    ));
    broker.handshakes = Some(runtime);
    Ok(broker)
}

async fn spawn_shard(parts: Parts) -> Result<JoinHandle<()>, BrokerError> {
    let id: ShardId = parts.id;
    let (ready, started) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(format!("shard-{id}"))
        .spawn(move || run(parts, ready))
        .map_err(|source| BrokerError::System { act: "start a shard's thread", source })?;
    match started.await {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(source)) => Err(BrokerError::System { act: "start a shard's runtime", source }),
        Err(_) => Err(BrokerError::ShardLost { shard: id }),
    }
}

/// Every handshake reads the newest view when it begins and again when it ends, so an epoch is
/// applied as soon as it is published; one that was on its way is checked by its shard.
async fn acknowledge_handshakes(
    store: Store,
    mut view: watch::Receiver<Arc<View>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let epoch = view.borrow_and_update().epoch();
        store.applied().ack(Reader::Handshakes, epoch, AckDetail::Nothing);
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl Broker {
    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// At most `limit` live sessions whose connection number comes after `after`, in its order.
    pub async fn live(&self, after: Option<u64>, limit: usize) -> Vec<LiveClient> {
        let mut clients = Vec::new();
        for mailbox in self.door.mailboxes.iter() {
            let (answer, answered) = oneshot::channel();
            mailbox.order(Control::Live { after: after.unwrap_or(0), limit, answer });
            clients.extend(answered.await.unwrap_or_default());
        }
        clients.sort_unstable_by_key(|client| client.conn);
        clients.truncate(limit);
        clients
    }

    /// Ends the live session with this connection number; false if there is none. The client may
    /// come back at once: this takes no trust away.
    pub async fn disconnect(&self, conn: u64) -> bool {
        let mut found = false;
        for mailbox in self.door.mailboxes.iter() {
            let (answer, answered) = oneshot::channel();
            mailbox.order(Control::Disconnect { number: conn, answer });
            found |= answered.await.unwrap_or_default();
        }
        found
    }

    /// Forgets what a device has sent before, so that its next message is fresh.
    pub fn reset_replay(&self, device: &DeviceId) {
        for mailbox in self.door.mailboxes.iter() {
            mailbox.order(Control::ResetReplay(device.clone()));
        }
    }

    /// Puts other limits in force, for what comes from here on; nobody is cut off by them.
    pub fn set_limits(&self, addresses: AddressLimits, limits: &mqtt::Limits) {
        self.door.gate.change(addresses);
        for mailbox in self.door.mailboxes.iter() {
            mailbox.order(Control::Limits(Box::new(limits.clone())));
        }
    }

    /// A reading of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.door.counters.add_to(&mut stats);
        for counters in &self.counters {
            counters.add_to(&mut stats);
        }
        let (connections, handshakes) = self.door.gate.counts();
        stats.connections = u64::try_from(connections).unwrap_or(u64::MAX);
        stats.handshakes_unfinished = u64::try_from(handshakes).unwrap_or(u64::MAX);
        stats
    }

    /// Stops accepting, closes every session, and waits for the threads.
    ///
    /// # Errors
    /// The first shard that had ended before by itself.
    pub async fn shutdown(mut self) -> Result<(), BrokerError> {
        self.signal_stop();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).map(|ended| ended.is_ok()).collect::<Vec<_>>()
        });
        let ended = joined.await.unwrap_or_default();
        match (0..).zip(ended).find(|(_, well)| !well) {
            Some((shard, _)) => Err(BrokerError::ShardLost { shard }),
            None => Ok(()),
        }
    }

    fn signal_stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.handshakes.take() {
            // Never waits, so that it may be called from within another runtime.
            runtime.shutdown_background();
        }
        for mailbox in self.door.mailboxes.iter() {
            mailbox.order(Control::Stop);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal_stop();
    }
}
