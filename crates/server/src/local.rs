//! The operator API in this process, for when no server runs; and the way to the socket of one that does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::Request;
use store::{AckDetail, Reader, Recovered, Store};
use tower::ServiceExt;
use types::{Clock, Epoch};

use crate::api::local_router;
use crate::clock::{SystemClock, built_at};
use crate::config::Config;
use crate::error::ServerError;
use crate::layout::Layout;
use crate::lock::DataLock;
use crate::log::LogSink;
use crate::observer::Watcher;
use crate::parts::Parts;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An installation that this process alone has open.
pub struct Local {
    parts: Arc<Parts>,
    router: Router,
    _lock: DataLock,
}

impl Local {
    /// Opens the installation, or answers `None` when a server holds it.
    ///
    /// # Errors
    /// There is no installation, or it is not in order.
    pub async fn open(layout: &Layout) -> Result<Option<Self>, ServerError> {
        if !layout.config().exists() {
            return Err(ServerError::Missing { dir: layout.dir().to_owned() });
        }
        let Some(lock) = DataLock::take(layout)? else { return Ok(None) };
        let config = Config::read(&layout.config())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        // A lone command prints its own outcome; the log of the server is not its place.
        let sink = LogSink::new(config.log.level, clock.clone(), Box::new(std::io::sink()))?;
        let (watcher, recorded) = Watcher::new(sink);
        let parts = Parts::assemble(layout, config, clock, Arc::new(watcher), recorded, None).await?;
        let parts = Arc::new(parts);
        // No listener stands, so no handshake and no session can lag behind an act of this process.
        let all = Epoch { incarnation: u32::MAX, counter: u64::MAX };
        for reader in [Reader::Handshakes, Reader::Sessions] {
            parts.store.applied().ack(reader, all, AckDetail::Nothing);
        }
        let router = local_router(&parts, "local command", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(Some(Self { parts, router, _lock: lock }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// One request to the operator API, or to the devices' API; the status and the body.
    ///
    /// # Errors
    /// The answer can't be read.
    pub async fn ask(&self, request: Request<Vec<u8>>) -> Result<(u16, Vec<u8>), ServerError> {
        let response = match self.router.clone().oneshot(request.map(Body::from)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX)
            .await
            .map_err(|error| ServerError::part("answer")(&error))?;
        Ok((status, body.to_vec()))
    }

    /// Ends the tasks and lets go of the store.
    pub async fn close(self) {
        drop(self.router);
        if let Some(parts) = Arc::into_inner(self.parts) {
            parts.close().await;
        }
    }
}

/// Whether a process holds the installation right now.
///
/// # Errors
/// The lock can't be looked at.
pub fn is_served(layout: &Layout) -> Result<bool, ServerError> {
    DataLock::take(layout).map(|lock| lock.is_none())
}

/// One request over the socket of a running server.
///
/// # Errors
/// Nobody answers on the socket.
pub async fn ask_socket(layout: &Layout, request: Request<Vec<u8>>) -> Result<(u16, Vec<u8>), ServerError> {
    let response = tls::http::unix_request(&layout.socket(), request)
        .await
        .map_err(|error| ServerError::part("the running server")(&error))?;
    Ok((response.status.as_u16(), response.body))
}

/// Takes in a restored backup.
///
/// # Errors
/// A server runs, or the store can't be recovered.
pub async fn recover(layout: &Layout) -> Result<Recovered, ServerError> {
    if !layout.config().exists() {
        return Err(ServerError::Missing { dir: layout.dir().to_owned() });
    }
    let Some(_lock) = DataLock::take(layout)? else {
        return Err(ServerError::Locked { dir: layout.dir().to_owned() });
    };
    let now = SystemClock::start().now();
    Store::recover(layout.dir(), "local command", now)
        .map_err(|error| ServerError::part("store recover")(&error))
}

/// Believes the machine's clock as it is now, although a later date was seen before.
///
/// # Errors
/// A server runs, the clock shows a date before this program was built, or the store fails.
pub async fn accept_clock(layout: &Layout) -> Result<types::Wall, ServerError> {
    if !layout.config().exists() {
        return Err(ServerError::Missing { dir: layout.dir().to_owned() });
    }
    let Some(_lock) = DataLock::take(layout)? else {
        return Err(ServerError::Locked { dir: layout.dir().to_owned() });
    };
    let now = SystemClock::start().now();
    if now.wall < built_at() {
        let error =
            format!("it shows {}, and this program was built on {}; set it first", now.wall, built_at());
        return Err(ServerError::Part { what: "the clock", error });
    }
    let failed = ServerError::part("store accept-clock");
    let store = Store::open(layout.dir(), now).map_err(|error| failed(&error))?;
    store.accept_clock("local command", now).await.map_err(|error| failed(&error))?;
    Ok(now.wall)
}
