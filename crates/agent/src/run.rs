use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tls::{Connector, ServerRefused, TlsError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use types::{Clipped, Clock, DeviceId, Entropy, QoS};

use crate::command::{self, Interval};
use crate::counters::Counters;
use crate::error::AgentError;
use crate::layout::Layout;
use crate::mqtt::{Client, ClientError, Message, Options, Session, Will};
use crate::outbox::Outbox;
use crate::provision::Deps;
use crate::source::{Fields, Lines, Source, World, reading_of};
use crate::state::{Home, Loaded};
use crate::time::FlooredClock;

/// How a device runs.
#[derive(Debug)]
pub struct Config {
    /// Its folder.
    pub dir: PathBuf,
    /// Where readings come from.
    pub source: Source,
    /// The topics; by default those that suit the source.
    pub layout: Option<Layout>,
    /// The broker; by default the provisioning server's host, port 8883.
    pub broker: Option<(String, u16)>,
    /// Between readings; by default what a command has set, or 60 s.
    pub interval: Option<Duration>,
    /// How long the connection may be silent.
    pub keep_alive: Duration,
    /// Between attempts to connect.
    pub backoff: Backoff,
    /// Messages that are kept while there is no connection; the oldest go first.
    pub offline_messages_max: usize,
    /// Messages that may be unacknowledged at one time.
    pub in_flight_max: usize,
}

impl Config {
    /// The usual settings.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, source: Source) -> Self {
        Self {
            dir: dir.into(),
            source,
            layout: None,
            broker: None,
            interval: None,
            keep_alive: Duration::from_secs(60),
            backoff: Backoff::default(),
            offline_messages_max: 1_000,
            in_flight_max: 16,
        }
    }
}

/// Exponential with full jitter: a fleet that lost its broker does not come back all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure; it doubles with each further one.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(120) }
    }
}

impl Backoff {
    /// A wait between zero and the bound of this attempt, counted from 0.
    fn wait(self, attempt: u32, entropy: &mut dyn Entropy) -> Duration {
        let bound = self.base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.cap);
        let mut random = [0; 4];
        entropy.fill(&mut random);
        bound.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX))
    }
}

/// What happens to a running device.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The device is up; its boot counter.
    Started {
        /// The device.
        device: DeviceId,
        /// How often it was started.
        boot: u64,
    },
    /// The broker accepted the connection.
    Connected {
        /// Whether it still held the session.
        session_present: bool,
    },
    /// The connection could not be made, or was lost.
    Disconnected {
        /// Why.
        error: ClientError,
    },
    /// The next attempt comes after this.
    Retrying {
        /// The wait.
        after: Duration,
    },
    /// A reading was queued.
    Reading {
        /// Its sequence number.
        seq: u64,
    },
    /// The oldest message was dropped, because too many waited.
    Dropped {
        /// Its sequence number.
        seq: u64,
    },
    /// No reading came from the source this time.
    NoReading {
        /// Why.
        error: AgentError,
    },
    /// A command came and was answered.
    Command {
        /// Its name.
        name: String,
        /// Whether it was carried out.
        accepted: bool,
        /// What was answered.
        detail: String,
    },
    /// The broker does not let the device listen for commands.
    CommandsRefused {
        /// Why.
        error: ClientError,
    },
    /// The device said goodbye.
    Stopped,
}

/// How a connection ended.
enum Link {
    Finished,
    Lost(ClientError),
}

/// A running device.
struct Agent {
    home: Home,
    id: DeviceId,
    layout: Layout,
    broker: (String, u16),
    connector: Connector,
    clock: Arc<FlooredClock>,
    deps: Deps,
    outbox: Outbox,
    interval: watch::Sender<Duration>,
    events: mpsc::Sender<Event>,
    options: Options,
    backoff: Backoff,
}

/// Runs the device until `shutdown`, or until its source has ended and all is acknowledged. Lost
/// connections are made again for ever. `events` tells what happens; what nobody reads is dropped.
///
/// # Errors
/// The folder holds no device, or its counters cannot be kept: then nothing may be sent.
pub async fn run(
    config: Config,
    deps: Deps,
    mut shutdown: watch::Receiver<bool>,
    events: mpsc::Sender<Event>,
) -> Result<(), AgentError> {
    let source_layout = config.source.layout();
    let (agent, source) = Agent::start(config, source_layout, deps, events)?;
    agent.note(Event::Started { device: agent.id.clone(), boot: agent.outbox.boot() });
    let sampling = async {
        let ended = agent.sample(source).await;
        agent.outbox.close();
        ended
    };
    let mut link_shutdown = shutdown.clone();
    let linking = agent.link(&mut link_shutdown);
    tokio::pin!(sampling, linking);
    tokio::select! {
        ended = &mut sampling => {
            ended?;
            linking.await;
        }
        () = &mut linking => {}
        () = stopped(&mut shutdown) => {
            // The link says goodbye; a broker that is not there is not waited for.
            linking.await;
        }
    }
    agent.note(Event::Stopped);
    Ok(())
}

/// Ends when `shutdown` says so, or when its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

impl Agent {
    fn start(
        config: Config,
        source_layout: Layout,
        deps: Deps,
        events: mpsc::Sender<Event>,
    ) -> Result<(Self, Source), AgentError> {
        let home = Home::new(&config.dir);
        let Loaded { id, identity, root, state } = home.load()?;
        let clock = Arc::new(FlooredClock::new(deps.clock(), state.floor()));
        let connector = Connector::new(&[root], Some(identity), clock.clone(), vec![b"mqtt".to_vec()])?;
        let layout = config.layout.or(state.layout).unwrap_or(source_layout);
        let set = state.interval_s.map(Duration::from_secs);
        let interval = config.interval.or(set).unwrap_or(Duration::from_secs(60));
        let mut options =
            Options::new(id.as_str()).keeping_session().with_keep_alive(config.keep_alive).with_will(Will {
                topic: layout.status_topic(&id),
                payload: b"offline".to_vec(),
                qos: QoS::AtLeastOnce,
                retain: true,
            });
        options.in_flight_max = config.in_flight_max.max(1);
        let counters = Counters::begin_boot(&home.counters_file())?;
        let agent = Self {
            broker: config.broker.unwrap_or((state.host, 8883)),
            outbox: Outbox::new(counters, config.offline_messages_max),
            interval: watch::channel(interval.max(Duration::from_millis(1))).0,
            backoff: config.backoff,
            home,
            id,
            layout,
            connector,
            clock,
            deps,
            events,
            options,
        };
        Ok((agent, config.source))
    }

    fn note(&self, event: Event) {
        tracing::info!(?event, "agent");
        // A reader that is slow misses words; the device does not wait for it.
        let _ = self.events.try_send(event);
    }

    /// Takes readings until the source ends.
    async fn sample(&self, source: Source) -> Result<(), AgentError> {
        let started = self.clock.now();
        match source {
            Source::Simulated(kind) => {
                let mut world = World::new(kind, &mut *self.deps.entropy());
                let mut interval = self.interval.subscribe();
                loop {
                    let reading = world.reading(started, self.clock.now(), &mut *self.deps.entropy());
                    self.queue(reading)?;
                    wait_interval(&mut interval).await;
                }
            }
            Source::Exec(command) => {
                const DEADLINE: Duration = Duration::from_secs(30);
                let mut interval = self.interval.subscribe();
                loop {
                    match reading_of(&command, DEADLINE).await {
                        Ok(reading) => self.queue(reading)?,
                        Err(error) => self.note(Event::NoReading { error }),
                    }
                    wait_interval(&mut interval).await;
                }
            }
            Source::Stdin => {
                let mut lines = Lines::open();
                while let Some(reading) = lines.next().await? {
                    self.queue(reading)?;
                }
                Ok(())
            }
            Source::Feed(mut feed) => {
                while let Some(reading) = feed.recv().await {
                    self.queue(reading)?;
                }
                Ok(())
            }
        }
    }

    fn queue(&self, reading: Fields) -> Result<(), AgentError> {
        let topic = self.layout.telemetry_topic(&self.id);
        let (seq, dropped) = self.outbox.push(&topic, &self.id, reading)?;
        self.note(Event::Reading { seq });
        if let Some(seq) = dropped {
            self.note(Event::Dropped { seq });
        }
        Ok(())
    }

    /// Keeps a connection until all is said, or `shutdown`.
    async fn link(&self, shutdown: &mut watch::Receiver<bool>) {
        const STABLE: Duration = Duration::from_secs(30);
        let mut session = Session::default();
        let mut attempt = 0;
        loop {
            let begun = Instant::now();
            let connecting = self.connect(&mut session);
            let connected = tokio::select! {
                connected = connecting => connected,
                () = stopped(shutdown) => return,
            };
            let error = match connected {
                Ok(client) => match self.serve(client, &mut session, shutdown).await {
                    Link::Finished => return,
                    Link::Lost(error) => error,
                },
                Err(error) => error,
            };
            if begun.elapsed() >= STABLE {
                attempt = 0;
            }
            self.note(Event::Disconnected { error });
            let after = self.backoff.wait(attempt, &mut *self.deps.entropy());
            attempt = attempt.saturating_add(1);
            self.note(Event::Retrying { after });
            tokio::select! {
                () = sleep_until(Instant::now() + after) => {}
                () = stopped(shutdown) => return,
            }
        }
    }

    /// One connection; a device whose own clock is not set takes the date from a certificate that
    /// lies ahead and tries again, so that a power cut does not lock it out.
    async fn connect(&self, session: &mut Session) -> Result<Client, ClientError> {
        const CHAIN_LENGTH_MAX: usize = 4;
        let (host, port) = &self.broker;
        let lost = !self.clock.is_set();
        let mut caught_up = 0;
        loop {
            let stream = match self.connector.connect(host, *port).await {
                Ok(stream) => stream,
                Err(error) if lost && caught_up < CHAIN_LENGTH_MAX && self.clock.catch_up(&error) => {
                    caught_up += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let client = Client::connect_over(stream, self.options.clone(), session).await?;
            if caught_up > 0 {
                self.keep_floor();
            }
            return Ok(client);
        }
    }

    fn keep_floor(&self) {
        let kept = self.home.read_state().and_then(|state| match state {
            Some(mut state) => {
                state.time_floor = self.clock.floor().to_string();
                self.home.write_state(&state)
            }
            None => Ok(()),
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "the date could not be kept");
        }
    }

    async fn serve(
        &self,
        mut client: Client,
        session: &mut Session,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Link {
        self.note(Event::Connected { session_present: client.session_present() });
        let status = self.layout.status_topic(&self.id);
        let mut unacknowledged = client.watch_unacknowledged();
        let greeted = self.greet(&client, &status).await;
        let end = match greeted {
            Err(error) => Link::Lost(error),
            Ok(()) => loop {
                let in_flight = *unacknowledged.borrow_and_update();
                let has_window = in_flight < self.options.in_flight_max;
                tokio::select! {
                    () = stopped(shutdown) => break Link::Finished,
                    message = client.recv() => match message {
                        Ok(message) => self.obey(&message),
                        Err(error) => break Link::Lost(error),
                    },
                    outgoing = self.outbox.next(), if has_window => match outgoing {
                        Some(outgoing) => {
                            let sent = client
                                .start_publish(&outgoing.topic, &outgoing.payload, QoS::AtLeastOnce, false)
                                .await;
                            if let Err(error) = sent {
                                self.outbox.give_back(outgoing);
                                break Link::Lost(error);
                            }
                        }
                        None if in_flight == 0 => break Link::Finished,
                        None => tokio::select! {
                            _ = unacknowledged.changed() => {}
                            error = client.closed() => break Link::Lost(error),
                            () = stopped(shutdown) => break Link::Finished,
                        },
                    },
                    _ = unacknowledged.changed(), if !has_window => {}
                }
            },
        };
        match &end {
            Link::Finished => self.say_goodbye(client, &status).await,
            Link::Lost(_) => *session = client.into_session().await,
        }
        end
    }

    /// `online`, and the ear for commands.
    async fn greet(&self, client: &Client, status: &str) -> Result<(), ClientError> {
        client.start_publish(status, b"online", QoS::AtLeastOnce, true).await?;
        match client.subscribe(&self.layout.commands_filter(&self.id), QoS::AtLeastOnce).await {
            // Without commands a device can still report.
            Err(error @ ClientError::SubscriptionRefused { .. }) => {
                self.note(Event::CommandsRefused { error });
                Ok(())
            }
            other => other,
        }
    }

    /// A goodbye suppresses the last will, so the device says `offline` itself.
    async fn say_goodbye(&self, client: Client, status: &str) {
        const GOODBYE: Duration = Duration::from_secs(3);
        let said = client.publish(status, b"offline", QoS::AtLeastOnce, true);
        let _ = tokio::time::timeout(GOODBYE, said).await;
        client.disconnect().await;
    }

    /// Carries a command out and queues the answer.
    fn obey(&self, message: &Message) {
        let Some(name) = self.layout.command_name(&self.id, &message.topic) else {
            return;
        };
        let current = self.interval.borrow().as_secs();
        let outcome = match name {
            "interval" => {
                command::interval(&message.payload).and_then(|interval| self.set_interval(interval))
            }
            other => Err(format!("unknown command \"{}\"; this agent knows interval", Clipped(other))),
        };
        let accepted = outcome.is_ok();
        let mut answer =
            Map::from_iter([("command".to_owned(), json!(name)), ("ok".to_owned(), json!(accepted))]);
        let detail = match outcome {
            Ok(secs) => {
                answer.insert("interval_s".to_owned(), json!(secs));
                format!("interval_s {secs}")
            }
            Err(error) => {
                answer.insert("error".to_owned(), Value::String(error.clone()));
                answer.insert("interval_s".to_owned(), json!(current));
                error
            }
        };
        match self.outbox.push(&self.layout.answer_topic(&self.id, name), &self.id, answer) {
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the answer to a command could not be stamped"),
        }
        self.note(Event::Command { name: name.to_owned(), accepted, detail });
    }

    /// From now on, and after the next start.
    fn set_interval(&self, Interval(secs): Interval) -> Result<u64, String> {
        let kept = self.home.read_state().and_then(|state| match state {
            Some(mut state) => {
                state.interval_s = Some(secs);
                self.home.write_state(&state)
            }
            None => Err(AgentError::NotProvisioned { dir: self.home.dir().display().to_string() }),
        });
        kept.map_err(|error| error.to_string())?;
        self.interval.send_replace(Duration::from_secs(secs));
        Ok(secs)
    }
}

/// Waits for the interval; a change counts from now.
async fn wait_interval(interval: &mut watch::Receiver<Duration>) {
    loop {
        let wait = *interval.borrow_and_update();
        tokio::select! {
            () = sleep_until(Instant::now() + wait) => return,
            changed = interval.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Which check of ours refused the broker, where that is how a connection ended.
impl Event {
    /// The check, if this is a refusal of the server.
    #[must_use]
    pub fn server_refused(&self) -> Option<ServerRefused> {
        match self {
            Self::Disconnected { error: ClientError::Tls(error) } => error.server_refused(),
            _ => None,
        }
    }

    /// The TLS alert by which the server refused us, if it did.
    #[must_use]
    pub fn alert(&self) -> Option<&str> {
        match self {
            Self::Disconnected { error: ClientError::Tls(TlsError::Alert { alert }) } => Some(alert),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_and_are_jittered_down_to_zero() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(10) };
        for (attempt, secs) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (31, 10), (40, 10)] {
            assert_eq!(backoff.wait(attempt, &mut Fixed(0xff)), Duration::from_secs(secs), "{attempt}");
            assert_eq!(backoff.wait(attempt, &mut Fixed(0)), Duration::ZERO);
        }
    }
}
