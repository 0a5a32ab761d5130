//! `serve`: everything valid, then every port, then the tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Observer};
use tls::http::HttpLimits;
use tls::{Acceptor, ClientCertificates, LiveIdentity, MinVersion};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing_subscriber::layer::SubscriberExt;
use types::Clock;

use crate::addresses::Addresses;
use crate::api::socket_router;
use crate::clock::SystemClock;
use crate::config::{Config, TlsVersion};
use crate::error::ServerError;
use crate::hierarchy::SUB_CAS;
use crate::keys::{self, Unlock};
use crate::layout::Layout;
use crate::lock::DataLock;
use crate::log::{Flushed, LogSink};
use crate::observer::Watcher;
use crate::parts::Parts;
use crate::ports::broker_settings;
use crate::rules::compile_rules;
use crate::server_certificate;

/// Where the log goes.
pub struct Output(Box<dyn std::io::Write + Send>);

impl Output {
    /// To standard error, as a service's log does.
    #[must_use]
    pub fn stderr() -> Self {
        Self(Box::new(std::io::stderr()))
    }

    /// To a writer of the caller.
    #[must_use]
    pub fn to(writer: Box<dyn std::io::Write + Send>) -> Self {
        Self(writer)
    }
}

/// The signals that a server obeys, heard from the moment that this is made: one that comes while
/// the server still starts is obeyed when it has.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Hears them from here on; they no longer end the process by themselves.
    ///
    /// # Errors
    /// The system lets us hear none.
    pub fn hear() -> Result<Self, ServerError> {
        let hear = |kind| signal(kind).map_err(|error| ServerError::part("signals")(&error));
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }
}

/// A server that runs until it is told to stop.
pub struct Running {
    addresses: Addresses,
    parts: Arc<Parts>,
    tasks: JoinSet<()>,
    _lock: DataLock,
}

/// Reads configuration, rules and keys as `serve` would, and opens nothing.
///
/// # Errors
/// What is not in order.
pub fn check(layout: &Layout) -> Result<(), ServerError> {
    if !layout.config().exists() {
        return Err(ServerError::Missing { dir: layout.dir().to_owned() });
    }
    let config = Config::read(&layout.config())?;
    let files: Vec<_> = config.policy.files.iter().map(|file| layout.relative(file)).collect();
    compile_rules(&files, 1)?;
    config.replay_table()?;
    let unlock = Unlock::read(layout)?;
    for label in SUB_CAS {
        keys::issuing(layout, &unlock, label)?;
    }
    keys::checkpoint(layout, &unlock)?;
    keys::bundle(layout, &unlock)?;
    Ok(())
}

/// Starts an installation.
///
/// # Errors
/// Something is not in order, another process has the folder, or a port is taken; then nothing runs.
pub async fn start(layout: &Layout, output: Output) -> Result<Running, ServerError> {
    // 1. Everything is read and valid before a port is opened.
    check(layout)?;
    let Some(lock) = DataLock::take(layout)? else {
        return Err(ServerError::Locked { dir: layout.dir().to_owned() });
    };
    let config = Config::read(&layout.config())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let sink = LogSink::new(config.log.level, clock.clone(), output.0)?;
    let _written = Flushed(sink.clone());
    // Only the first server of a process has the lines of `tracing`; a test starts several.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(sink.clone()));
    let (watcher, recorded) = Watcher::new(sink);
    let watcher = Arc::new(watcher);
    // 2. Every port, or none.
    let sockets = Sockets::bind(&config, layout).await?;
    let addresses = sockets.addresses()?;
    // 3. The parts, and our own certificate.
    let parts =
        Parts::assemble(layout, config, clock.clone(), watcher.clone(), recorded, Some(addresses)).await?;
    let parts = Arc::new(parts);
    let identity = Arc::new(LiveIdentity::new(server_certificate::ensure(&parts).await?));
    parts.reloader.put_identity(identity.clone());
    // 4. The broker and the HTTP listeners.
    let tasks = serve_all(&parts, identity, sockets, addresses).await?;
    watcher.note(Event::ServerStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: parts.store.view().epoch().to_string(),
    });
    Ok(Running { addresses, parts, tasks, _lock: lock })
}

/// The bound sockets of every listener.
struct Sockets {
    mqtt: std::net::TcpListener,
    devices: TcpListener,
    admin: TcpListener,
    plain: TcpListener,
    unix: UnixListener,
}

impl Sockets {
    async fn bind(config: &Config, layout: &Layout) -> Result<Self, ServerError> {
        let listeners = &config.listeners;
        let mqtt = broker::listen(listeners.mqtt).map_err(refused("mqtt", listeners.mqtt, layout))?;
        let devices = bind("devices", listeners.devices, layout).await?;
        let admin = bind("admin", listeners.admin, layout).await?;
        let plain = bind("plain", listeners.plain, layout).await?;
        // We hold the lock, so a socket that is there belongs to a server that is gone.
        let path = layout.socket();
        let _ = fs_err::remove_file(&path);
        let unix = UnixListener::bind(&path).map_err(|error| {
            let said = ServerError::File { path: path.clone(), error: error.to_string() };
            layout.socket_fits().err().unwrap_or(said)
        })?;
        fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Self { mqtt, devices, admin, plain, unix })
    }

    fn addresses(&self) -> Result<Addresses, ServerError> {
        Ok(Addresses {
            mqtt: self.mqtt.local_addr()?,
            devices: self.devices.local_addr()?,
            admin: self.admin.local_addr()?,
            plain: self.plain.local_addr()?,
        })
    }
}

fn refused(
    listener: &'static str,
    address: SocketAddr,
    layout: &Layout,
) -> impl Fn(std::io::Error) -> ServerError {
    let config = layout.config();
    move |error| ServerError::Bind {
        listener,
        address: address.to_string(),
        error: error.to_string(),
        config: config.clone(),
    }
}

async fn bind(
    listener: &'static str,
    address: SocketAddr,
    layout: &Layout,
) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(refused(listener, address, layout))
}

async fn serve_all(
    parts: &Arc<Parts>,
    identity: Arc<LiveIdentity>,
    sockets: Sockets,
    addresses: Addresses,
) -> Result<JoinSet<()>, ServerError> {
    let tls = &parts.config.tls;
    let version = |own: Option<TlsVersion>| match own.unwrap_or(tls.min_version) {
        TlsVersion::V12 => MinVersion::V12,
        TlsVersion::V13 => MinVersion::V13,
    };
    let acceptor = |mode, alpn: &[&[u8]], own| {
        let alpn = alpn.iter().map(|name| name.to_vec()).collect();
        Acceptor::new(
            identity.clone(),
            parts.store.watch_view(),
            mode,
            alpn,
            version(own),
            parts.clock.clone(),
        )
        .map(Arc::new)
        .map_err(|error| ServerError::part("tls")(&error))
    };
    let deps = broker::Deps {
        store: parts.store.clone(),
        policy: parts.policy.clone(),
        replay: parts.replay.clone(),
        acceptor: acceptor(ClientCertificates::Required, &[b"mqtt"], tls.mqtt_min_version)?,
        clock: parts.clock.clone(),
        observer: parts.watcher.clone(),
    };
    let broker = broker::start(broker_settings(&parts.config.limits), sockets.mqtt, deps)
        .await
        .map_err(|error| ServerError::part("broker")(&error))?;
    parts.live.put(broker);

    let mut tasks = JoinSet::new();
    let stop = || parts.shutdown.subscribe();
    let observer = || parts.watcher.clone();
    let limits = HttpLimits::default;
    let devices = enroll::devices_router(&parts.enroll);
    let https = acceptor(ClientCertificates::Optional, &[b"http/1.1"], tls.devices_min_version)?;
    tasks.spawn(tls::http::serve(sockets.devices, Some(https), devices, limits(), observer(), stop()));
    let https = acceptor(ClientCertificates::Required, &[b"http/1.1"], tls.admin_min_version)?;
    let admin = admin::listener_router(&parts.admin);
    tasks.spawn(tls::http::serve(sockets.admin, Some(https), admin, limits(), observer(), stop()));
    let plain = enroll::plain_router(&parts.enroll);
    tasks.spawn(tls::http::serve(sockets.plain, None, plain, limits(), observer(), stop()));
    let socket = socket_router(parts, addresses.admin);
    tasks.spawn(tls::http::serve_unix(sockets.unix, socket, stop()));
    tasks.spawn(server_certificate::keep(parts.clone(), identity, stop()));
    Ok(tasks)
}

impl Running {
    /// Where the listeners stand.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Every event from here on.
    #[must_use]
    pub fn watcher(&self) -> Arc<Watcher> {
        self.parts.watcher.clone()
    }

    /// Serves until SIGINT or SIGTERM; SIGHUP reads the configuration again.
    pub async fn until_stopped(self) {
        match Signals::hear() {
            Ok(signals) => self.until(signals).await,
            Err(error) => {
                tracing::error!(%error, "signals can't be heard; stopping");
                self.stop("no signals").await;
            }
        }
    }

    /// As [`Running::until_stopped`], by signals that were heard already while the server started.
    pub async fn until(self, mut signals: Signals) {
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => return self.stop("interrupt").await,
                _ = signals.terminate.recv() => return self.stop("terminate").await,
                _ = signals.hangup.recv() => {
                    if let Err(error) = self.parts.reloader.reload_now("SIGHUP") {
                        tracing::error!(%error, "reload refused; nothing changed");
                    }
                }
            }
        }
    }

    /// Stops: no new connections, sessions closed in order, everything on the disk.
    pub async fn stop(self, why: &str) {
        const WITHIN: Duration = Duration::from_secs(10);
        self.parts.watcher.note(Event::ServerStopped { reason: why.to_owned() });
        if let Some(broker) = self.parts.live.take() {
            // A request for metrics may hold it for a moment more; then it ends with that request.
            if let Some(broker) = Arc::into_inner(broker)
                && let Err(error) = broker.shutdown().await
            {
                tracing::error!(%error, "the broker did not stop in order");
            }
        }
        let _ = self.parts.shutdown.send(true);
        let mut tasks = self.tasks;
        let _ = tokio::time::timeout(WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
        let _ = fs_err::remove_file(self.parts.layout.socket());
        let _written = Flushed(self.parts.watcher.sink().clone());
        if let Some(parts) = Arc::into_inner(self.parts) {
            parts.close().await;
        }
    }
}
