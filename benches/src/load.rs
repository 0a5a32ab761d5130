//! Puts load on a server and counts what arrives.
//! In: an address, identities, a shape of load. Out: operations done, and the CPU that they cost the server.
//! Invariant: at most `window` messages are on their way, so that no queue hides a cost.
//! Never: counts what was sent; an operation is a message that arrived.
//! Spec: DESIGN.md section 6.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::Failure;
use crate::client::{Client, Identity};
use crate::measure::{cpu_ns, rss_kib};
use crate::packet::{self, Found};

/// What is measured in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Handshake, CONNECT, CONNACK, DISCONNECT.
    Connect,
    /// `publishers` clients to one subscriber, `window` messages on their way in all.
    Gather { publishers: usize, qos: u8, window: usize },
    /// One publisher to `subscribers`, `burst` messages at a time.
    Spread { subscribers: usize, burst: usize },
    /// Connections that do nothing.
    Idle { connections: usize },
}

/// The server under load.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
}

/// Who puts the load on.
pub(crate) struct Cast {
    pub(crate) devices: Vec<Identity>,
    pub(crate) service: Identity,
}

/// How long one round loads and counts.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) warm_up: Duration,
    pub(crate) counted: Duration,
}

const PAYLOAD: [u8; 128] = [b'x'; 128];
const BROADCAST: &str = "broadcast/all";
const PATIENCE: Duration = Duration::from_secs(30);

/// One reading: microseconds of CPU per operation, or KiB per connection.
pub(crate) async fn run(shape: Shape, target: Target, cast: &Cast, span: Span) -> Result<f64, Failure> {
    match shape {
        Shape::Connect => connect(target, cast, span).await,
        Shape::Gather { publishers, qos, window } => {
            gather(target, cast, span, publishers, qos, window).await
        }
        Shape::Spread { subscribers, burst } => spread(target, cast, span, subscribers, burst).await,
        Shape::Idle { connections } => idle(target, cast, connections).await,
    }
}

/// Lets the load run, and reads the counter and the CPU at both ends of the counted span.
async fn counted(target: Target, span: Span, done: &AtomicU64) -> Result<f64, Failure> {
    tokio::time::sleep(span.warm_up).await;
    let before = (done.load(Ordering::Relaxed), cpu_ns(target.pid)?);
    tokio::time::sleep(span.counted).await;
    let after = (done.load(Ordering::Relaxed), cpu_ns(target.pid)?);
    let operations = after.0 - before.0;
    if operations < 20 {
        return Err(format!("only {operations} operations in {:?}", span.counted).into());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of seconds are far below 2^52")]
    Ok((after.1 - before.1) as f64 / 1000.0 / operations as f64)
}

async fn connect(target: Target, cast: &Cast, span: Span) -> Result<f64, Failure> {
    const AT_ONCE: usize = 16;
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for lane in 0..AT_ONCE {
        let devices: Vec<Identity> = cast.devices.iter().skip(lane).step_by(AT_ONCE).cloned().collect();
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            for device in devices.iter().cycle() {
                let client = Client::connect(target.address, device, &device.name).await?;
                done.fetch_add(1, Ordering::Relaxed);
                client.disconnect().await?;
            }
            Ok::<(), Failure>(())
        });
    }
    finish(counted(target, span, &done).await, tasks).await
}

/// Ends the load; an error of the load explains one of the measurement.
async fn finish(
    measured: Result<f64, Failure>,
    mut tasks: JoinSet<Result<(), Failure>>,
) -> Result<f64, Failure> {
    while let Some(ended) = tasks.try_join_next() {
        ended??;
    }
    tasks.shutdown().await;
    measured
}

async fn gather(
    target: Target,
    cast: &Cast,
    span: Span,
    publishers: usize,
    qos: u8,
    window: usize,
) -> Result<f64, Failure> {
    let mut tasks = JoinSet::new();
    let done = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Semaphore::new(window));
    let mut subscriber = Client::connect(target.address, &cast.service, &cast.service.name).await?;
    subscriber.subscribe("devices/#", qos).await?;
    tasks.spawn(subscribe(subscriber, Arc::clone(&done), Arc::clone(&room)));
    for device in cast.devices.iter().take(publishers) {
        let client = Client::connect(target.address, device, &device.name).await?;
        let topic = format!("devices/{}/telemetry/environment", device.name);
        let (read, write) = tokio::io::split(client.stream);
        tasks.spawn(publish(write, topic, qos, Arc::clone(&room)));
        tasks.spawn(drain(read));
    }
    finish(counted(target, span, &done).await, tasks).await
}

/// Publishes one message for each permit; a permit comes back when a message has arrived.
async fn publish(
    mut to: WriteHalf<TlsStream<TcpStream>>,
    topic: String,
    qos: u8,
    room: Arc<Semaphore>,
) -> Result<(), Failure> {
    let mut id = 0_u16;
    let mut out = BytesMut::new();
    loop {
        room.acquire().await?.forget();
        id = id.checked_add(1).unwrap_or(1);
        out.clear();
        packet::publish(&mut out, &topic, &PAYLOAD, (qos > 0).then_some(id));
        to.write_all(&out).await?;
    }
}

/// Takes acknowledgements and drops them.
async fn drain(mut from: ReadHalf<TlsStream<TcpStream>>) -> Result<(), Failure> {
    let mut buffer = vec![0; 16 * 1024];
    while from.read(&mut buffer).await? > 0 {}
    Err("the server closed a publisher's connection".into())
}

/// Counts messages and acknowledges what wants to be acknowledged, once per read.
async fn subscribe(mut client: Client, done: Arc<AtomicU64>, room: Arc<Semaphore>) -> Result<(), Failure> {
    let mut answers = BytesMut::new();
    client.buffer.reserve(64 * 1024);
    loop {
        if client.stream.read_buf(&mut client.buffer).await? == 0 {
            return Err("the server closed a subscriber's connection".into());
        }
        let mut messages = 0;
        while let Some((found, length)) = packet::find(&client.buffer) {
            client.buffer.advance(length);
            if let Found::Publish(id) = found {
                messages += 1;
                if let Some(id) = id {
                    packet::puback(&mut answers, id);
                }
            }
        }
        client.buffer.reserve(16 * 1024);
        if !answers.is_empty() {
            client.stream.write_all(&answers).await?;
            answers.clear();
        }
        done.fetch_add(messages, Ordering::Relaxed);
        room.add_permits(usize::try_from(messages)?);
    }
}

async fn spread(
    target: Target,
    cast: &Cast,
    span: Span,
    subscribers: usize,
    burst: usize,
) -> Result<f64, Failure> {
    let mut tasks = JoinSet::new();
    let done = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Semaphore::new(subscribers * burst));
    for device in cast.devices.iter().take(subscribers) {
        let mut client = Client::connect(target.address, device, &device.name).await?;
        client.subscribe(BROADCAST, 0).await?;
        tasks.spawn(subscribe(client, Arc::clone(&done), Arc::clone(&room)));
    }
    let mut publisher = Client::connect(target.address, &cast.service, &cast.service.name).await?;
    let deliveries = u32::try_from(subscribers * burst)?;
    tasks.spawn(async move {
        let mut out = BytesMut::new();
        (0..burst).for_each(|_| packet::publish(&mut out, BROADCAST, &PAYLOAD, None));
        loop {
            // The next burst leaves when every subscriber has had the last one.
            room.acquire_many(deliveries).await?.forget();
            publisher.stream.write_all(&out).await?;
        }
    });
    finish(counted(target, span, &done).await, tasks).await
}

async fn idle(target: Target, cast: &Cast, connections: usize) -> Result<f64, Failure> {
    const AT_ONCE: usize = 8;
    // The first connections pay for what all of them share.
    let first = Client::connect(target.address, &cast.service, &cast.service.name).await?;
    settle().await;
    let before = rss_kib(target.pid)?;
    let mut lanes = JoinSet::new();
    let cast: Arc<[Identity]> = cast.devices.clone().into();
    for lane in 0..AT_ONCE {
        let cast = Arc::clone(&cast);
        lanes.spawn(async move {
            let mut clients = Vec::new();
            for number in (lane..connections).step_by(AT_ONCE) {
                let device = &cast[number % cast.len()];
                let client_id = format!("{}-{number}", device.name);
                clients.push(Client::connect(target.address, device, &client_id).await?);
            }
            Ok::<Vec<Client>, Failure>(clients)
        });
    }
    let mut clients = Vec::with_capacity(connections);
    let all = async {
        while let Some(lane) = lanes.join_next().await {
            clients.extend(lane??);
        }
        Ok::<(), Failure>(())
    };
    tokio::time::timeout(PATIENCE * 4, all).await.map_err(|_| "idle connections took too long")??;
    settle().await;
    let after = rss_kib(target.pid)?;
    drop((first, clients));
    #[expect(clippy::cast_precision_loss, reason = "kibibytes and thousands are far below 2^52")]
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}

/// Gives a server the time to put away what the last connection needed.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}
