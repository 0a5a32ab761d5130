use tls::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use types::QoS;

use super::connection::{Command, Connection};
use super::error::ClientError;
use super::options::{Message, Options};
use super::session::Session;

/// One MQTT connection. Its work is done by a task of its own, so that pings go out while the
/// application is busy. Dropping it cuts the connection without a goodbye: the broker then
/// publishes the last will.
pub struct Client {
    commands: mpsc::Sender<Command>,
    stop: oneshot::Sender<()>,
    messages: mpsc::Receiver<Message>,
    unacknowledged: watch::Receiver<usize>,
    ended: watch::Receiver<Option<ClientError>>,
    task: JoinHandle<Session>,
    session_present: bool,
}

/// A QoS 1 message on its way; resolves when the broker has acknowledged it.
pub struct PendingAck {
    answer: oneshot::Receiver<Result<(), ClientError>>,
    ended: watch::Receiver<Option<ClientError>>,
}

impl PendingAck {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// The connection ended before; the message is still in the [`Session`].
    pub async fn acknowledged(self) -> Result<(), ClientError> {
        match self.answer.await {
            Ok(answer) => answer,
            Err(_) => Err(reason(&self.ended)),
        }
    }
}

fn reason(ended: &watch::Receiver<Option<ClientError>>) -> ClientError {
    ended.borrow().clone().unwrap_or_else(|| ClientError::Closed { detail: "by us".to_owned() })
}

impl Client {
    /// Connects to the broker at `host`, whose certificate has to bear that name, and waits for
    /// its CONNACK.
    ///
    /// # Errors
    /// Which check refused the broker, or how it refused us.
    pub async fn connect(
        host: &str,
        port: u16,
        connector: &Connector,
        options: Options,
    ) -> Result<Self, ClientError> {
        let stream = connector.connect(host, port).await?;
        Self::connect_over(stream, options, &mut Session::default()).await
    }

    /// The same over a stream that exists already, going on with `session`: what it holds
    /// unacknowledged is sent again. It is taken only if the broker accepts the connection.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_over<S>(
        stream: S,
        options: Options,
        session: &mut Session,
    ) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (commands, inbox) = mpsc::channel(options.in_flight_max.max(1));
        let (stop, stopped) = oneshot::channel();
        let (delivered, messages) = mpsc::channel(options.received_max.max(1));
        let (ended_tx, ended) = watch::channel(None);
        let mut connection = Connection::new(stream, options, delivered);
        let session_present = connection.greet().await?;
        connection.resume(std::mem::take(session), session_present);
        let unacknowledged = connection.watch_unacknowledged();
        let task = tokio::spawn(connection.run(inbox, stopped, ended_tx));
        Ok(Self { commands, stop, messages, unacknowledged, ended, task, session_present })
    }

    /// Whether the broker still held the session of this client id.
    #[must_use]
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// How many QoS 1 messages are not acknowledged; changes are seen as they happen.
    #[must_use]
    pub fn watch_unacknowledged(&self) -> watch::Receiver<usize> {
        self.unacknowledged.clone()
    }

    /// Publishes; with QoS 1, returns when the broker has acknowledged it.
    ///
    /// # Errors
    /// The message cannot be sent, or the connection ended before.
    pub async fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<(), ClientError> {
        self.start_publish(topic, payload, qos, retain).await?.acknowledged().await
    }

    /// Hands a message over and returns; the acknowledgement may be waited for, or not.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn start_publish(
        &self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<PendingAck, ClientError> {
        let (done, answer) = oneshot::channel();
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        self.command(Command::Publish { topic, payload, qos, retain, done }).await?;
        Ok(PendingAck { answer, ended: self.ended.clone() })
    }

    /// Subscribes and waits for the broker's answer.
    ///
    /// # Errors
    /// The broker refuses the filter, or the connection ended before.
    pub async fn subscribe(&self, filter: &str, qos: QoS) -> Result<(), ClientError> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Subscribe { filter: filter.to_owned(), qos, done }).await?;
        PendingAck { answer, ended: self.ended.clone() }.acknowledged().await
    }

    /// Ends a subscription and waits for the broker's answer.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), ClientError> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Unsubscribe { filter: filter.to_owned(), done }).await?;
        PendingAck { answer, ended: self.ended.clone() }.acknowledged().await
    }

    /// The next message that comes in.
    ///
    /// # Errors
    /// How the connection ended; what came before it is delivered first.
    pub async fn recv(&mut self) -> Result<Message, ClientError> {
        match self.messages.recv().await {
            Some(message) => Ok(message),
            None => Err(reason(&self.ended)),
        }
    }

    /// Waits until the connection has ended, and says how.
    pub async fn closed(&self) -> ClientError {
        let mut ended = self.ended.clone();
        // The sender is dropped only after it has said why.
        let _ = ended.wait_for(Option::is_some).await;
        reason(&ended)
    }

    /// Says goodbye and closes: the broker does not publish the last will.
    pub async fn disconnect(self) -> Session {
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }

    /// What the next connection has to go on with, once this one has ended or is cut here.
    pub async fn into_session(self) -> Session {
        drop(self.stop);
        drop(self.commands);
        self.task.await.unwrap_or_default()
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| reason(&self.ended))
    }
}
