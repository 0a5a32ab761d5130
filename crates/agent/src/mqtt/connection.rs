use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use types::QoS;

use super::error::ClientError;
use super::options::{Message, Options};
use super::session::Session;
use super::wire::{self, Incoming};

type Done = oneshot::Sender<Result<(), ClientError>>;

/// What the application asks of its connection.
pub(crate) enum Command {
    Publish { topic: String, payload: Vec<u8>, qos: QoS, retain: bool, done: Done },
    Subscribe { filter: String, qos: QoS, done: Done },
    Unsubscribe { filter: String, done: Done },
}

/// The side of a connection that its task runs.
pub(crate) struct Connection<S> {
    stream: S,
    options: Options,
    session: Session,
    inbox: BytesMut,
    outbox: Vec<u8>,
    /// Who waits for which packet id; a filter where it is a subscription's.
    waiting: HashMap<u16, (Done, Option<String>)>,
    /// Who waits for their message to be written.
    written: Vec<Done>,
    messages: mpsc::Sender<Message>,
    unacknowledged: watch::Sender<usize>,
    heard: Instant,
    said: Instant,
    pinged: Option<Instant>,
}

/// How the loop ended.
enum End {
    Goodbye,
    Cut,
    Failed(ClientError),
}

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(crate) fn new(stream: S, options: Options, messages: mpsc::Sender<Message>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            options,
            session: Session::default(),
            inbox: BytesMut::with_capacity(4096),
            outbox: Vec::new(),
            waiting: HashMap::new(),
            written: Vec::new(),
            messages,
            unacknowledged: watch::channel(0).0,
            heard: now,
            said: now,
            pinged: None,
        }
    }

    pub(crate) fn watch_unacknowledged(&self) -> watch::Receiver<usize> {
        self.unacknowledged.subscribe()
    }

    /// CONNECT and its answer; whether the broker held a session.
    pub(crate) async fn greet(&mut self) -> Result<bool, ClientError> {
        self.outbox = wire::connect(&self.options)?;
        let deadline = self.options.answer_deadline;
        let answer = async {
            self.flush().await?;
            loop {
                match wire::take_packet(&mut self.inbox, self.options.packet_bytes_max)? {
                    Some(Incoming::Connack { session_present }) => return Ok(session_present),
                    Some(other) => {
                        return Err(ClientError::protocol(format!("{other:?} before CONNACK")));
                    }
                    None => self.read().await?,
                }
            }
        };
        match timeout(deadline, answer).await {
            Ok(Ok(session_present)) if session_present && self.options.clean_session => {
                Err(ClientError::protocol("a session although a clean one was asked for"))
            }
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { what: "CONNACK", after: deadline }),
        }
    }

    /// Goes on with what the last connection left. Where the broker holds nothing of it, the
    /// messages are new to it and not marked as sent before.
    pub(crate) fn resume(&mut self, session: Session, session_present: bool) {
        self.session = session;
        self.outbox.extend(self.session.redelivery(session_present));
        self.unacknowledged.send_replace(self.session.unacknowledged());
    }

    /// The connection's life.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut stop: oneshot::Receiver<()>,
        ended: watch::Sender<Option<ClientError>>,
    ) -> Session {
        let end = self.live(&mut commands, &mut stop).await;
        let why = match end {
            End::Failed(error) => error,
            End::Cut => ClientError::Closed { detail: "by us".to_owned() },
            End::Goodbye => {
                while let Ok(command) = commands.try_recv() {
                    self.carry_out(command);
                }
                self.outbox.extend(wire::disconnect());
                // The broker learns of the goodbye or of a lost connection; either ends it.
                let _ = self.flush().await;
                let _ = timeout(self.options.answer_deadline, self.stream.shutdown()).await;
                ClientError::Closed { detail: "by us".to_owned() }
            }
        };
        // What was handed over but not sent yet goes on in the session; what comes now is refused.
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Publish { topic, payload, qos: QoS::AtLeastOnce, retain, done } = command
                && let Err(error) = self.session.publish(&topic, &payload, retain)
            {
                answer(done, Err(error));
            }
        }
        ended.send_replace(Some(why));
        self.session
    }

    async fn live(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        stop: &mut oneshot::Receiver<()>,
    ) -> End {
        loop {
            if let Err(error) = self.take_in() {
                return End::Failed(error);
            }
            if let Err(error) = self.flush().await {
                return End::Failed(self.last_words(error).await);
            }
            let has_window = self.session.unacknowledged() < self.options.in_flight_max;
            let has_room = self.messages.capacity() > 0;
            let messages = self.messages.clone();
            let (quiet_until, answer_until) = self.timers();
            tokio::select! {
                stopped = &mut *stop => return if stopped.is_ok() { End::Goodbye } else { End::Cut },
                command = commands.recv(), if has_window => match command {
                    Some(command) => self.carry_out(command),
                    None => return End::Cut,
                },
                read = self.stream.read_buf(&mut self.inbox), if has_room => match read {
                    Ok(0) => return End::Failed(closed_by_broker()),
                    Ok(_) => self.heard = Instant::now(),
                    Err(error) => return End::Failed(ClientError::from_io(&error)),
                },
                // The application reads again: what lies in the inbox is taken in first.
                _ = messages.reserve(), if !has_room => {}
                () = sleep_until(quiet_until), if self.pinged.is_none() => {
                    self.outbox.extend(wire::pingreq());
                    self.pinged = Some(Instant::now());
                }
                () = sleep_until(answer_until), if self.pinged.is_some() && has_room => {
                    let after = self.options.answer_deadline;
                    return End::Failed(ClientError::Timeout { what: "PINGRESP", after });
                }
            }
        }
    }

    /// When to ping, and until when its answer has to be here. A ping goes out when either
    /// direction was quiet, so that a broker that is gone is noticed by a client that only sends.
    fn timers(&self) -> (Instant, Instant) {
        let quiet = self.options.keep_alive.max(Duration::from_secs(1)) * 3 / 4;
        let answer = self.pinged.unwrap_or(self.said) + self.options.answer_deadline;
        (self.said.min(self.heard) + quiet, answer)
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Publish { topic, payload, qos: QoS::AtMostOnce, retain, done } => {
                match wire::publish(&topic, &payload, None, retain) {
                    Ok(publish) => {
                        self.outbox.extend(publish.to_continuous_buffer());
                        self.written.push(done);
                    }
                    Err(error) => answer(done, Err(error)),
                }
            }
            Command::Publish { topic, payload, qos: QoS::AtLeastOnce, retain, done } => {
                match self.session.publish(&topic, &payload, retain) {
                    Ok((packet_id, bytes)) => {
                        self.outbox.extend(bytes);
                        self.waiting.insert(packet_id, (done, None));
                        self.unacknowledged.send_replace(self.session.unacknowledged());
                    }
                    Err(error) => answer(done, Err(error)),
                }
            }
            Command::Publish { qos: QoS::ExactlyOnce, done, .. } => {
                let detail = "QoS 2 is not spoken here; use 1".to_owned();
                answer(done, Err(ClientError::Unsendable { detail }));
            }
            Command::Subscribe { filter, qos, done } => {
                let packet_id = self.fresh_packet_id();
                match wire::subscribe(packet_id, &filter, qos) {
                    Ok(bytes) => {
                        self.outbox.extend(bytes);
                        self.waiting.insert(packet_id, (done, Some(filter)));
                    }
                    Err(error) => answer(done, Err(error)),
                }
            }
            Command::Unsubscribe { filter, done } => {
                let packet_id = self.fresh_packet_id();
                match wire::unsubscribe(packet_id, &filter) {
                    Ok(bytes) => {
                        self.outbox.extend(bytes);
                        self.waiting.insert(packet_id, (done, Some(filter)));
                    }
                    Err(error) => answer(done, Err(error)),
                }
            }
        }
    }

    /// A packet id that neither a message nor a subscription is waiting with.
    fn fresh_packet_id(&mut self) -> u16 {
        loop {
            let packet_id = self.session.fresh_packet_id();
            if !self.waiting.contains_key(&packet_id) {
                return packet_id;
            }
        }
    }

    /// Takes in the whole packets of the inbox, as far as the application has room for messages.
    fn take_in(&mut self) -> Result<(), ClientError> {
        while self.messages.capacity() > 0 {
            let Some(packet) = wire::take_packet(&mut self.inbox, self.options.packet_bytes_max)? else {
                return Ok(());
            };
            match packet {
                Incoming::Publish { packet_id, message } => {
                    // There is room, and only this task fills it; a receiver that is gone wants nothing.
                    let _ = self.messages.try_send(message);
                    if let Some(packet_id) = packet_id {
                        self.outbox.extend(wire::puback(packet_id)?);
                    }
                }
                Incoming::Puback { packet_id } => {
                    if self.session.acknowledge(packet_id) {
                        self.unacknowledged.send_replace(self.session.unacknowledged());
                        self.resolve(packet_id, |_| Ok(()));
                    }
                }
                Incoming::Suback { packet_id, granted } => {
                    self.resolve(packet_id, |filter| match granted.first() {
                        Some(true) => Ok(()),
                        Some(false) | None => Err(ClientError::SubscriptionRefused { filter }),
                    })
                }
                Incoming::Unsuback { packet_id } => self.resolve(packet_id, |_| Ok(())),
                Incoming::Pingresp => self.pinged = None,
                Incoming::Connack { .. } => return Err(ClientError::protocol("a second CONNACK")),
            }
        }
        Ok(())
    }

    fn resolve(&mut self, packet_id: u16, how: impl FnOnce(String) -> Result<(), ClientError>) {
        if let Some((done, filter)) = self.waiting.remove(&packet_id) {
            answer(done, how(filter.unwrap_or_default()));
        }
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) => Err(closed_by_broker()),
            Ok(_) => {
                self.heard = Instant::now();
                Ok(())
            }
            Err(error) => Err(ClientError::from_io(&error)),
        }
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let deadline = self.options.answer_deadline;
        let written = timeout(deadline, async {
            self.stream.write_all(&self.outbox).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ClientError::from_io(&error)),
            Err(_) => return Err(ClientError::Timeout { what: "the broker to read", after: deadline }),
        }
        self.outbox.clear();
        self.said = Instant::now();
        self.written.drain(..).for_each(|done| answer(done, Ok(())));
        Ok(())
    }

    /// A write that fails may be the echo of an alert that is still to be read, and that says more.
    async fn last_words(&mut self, error: ClientError) -> ClientError {
        const LISTEN: Duration = Duration::from_secs(1);
        let listened = timeout(LISTEN, async {
            loop {
                match self.read().await {
                    Ok(()) => self.inbox.clear(),
                    Err(last) => return last,
                }
            }
        });
        match listened.await {
            Ok(last @ ClientError::Tls(_)) => last,
            Ok(_) | Err(_) => error,
        }
    }
}

fn closed_by_broker() -> ClientError {
    ClientError::Closed { detail: "the broker closed the connection".to_owned() }
}

/// Whoever does not wait for the answer any more needs none.
fn answer(done: Done, how: Result<(), ClientError>) {
    let _ = done.send(how);
}
