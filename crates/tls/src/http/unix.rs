use std::path::Path;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::{Exchange, Response, exchange};
use super::limits::HttpLimits;
use super::serve::{RouterService, stopped};
use super::stall::StallGuard;
use crate::error::TlsError;

/// The user that holds the other end of a Unix socket, as the kernel says (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUid(pub u32);

/// Serves `router` on a Unix socket until `shutdown`; handlers find [`PeerUid`] in the request.
pub async fn serve_unix(listener: UnixListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let limits = HttpLimits { connections_max: 64, body_bytes_max: 1024 * 1024, ..HttpLimits::default() };
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if open.len() < limits.connections_max => {
                open.spawn(serve_one(stream, router.clone(), limits.clone(), shutdown.clone()));
            }
            Ok(_) => tracing::warn!(limit = limits.connections_max, "unix socket: too many connections"),
            Err(error) => {
                tracing::warn!(%error, "unix socket: accept failed");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let _ = timeout(limits.drain_deadline, async { while open.join_next().await.is_some() {} }).await;
}

async fn serve_one(
    stream: UnixStream,
    router: Router,
    limits: HttpLimits,
    mut shutdown: watch::Receiver<bool>,
) {
    // Without the kernel's word on who asks, nobody is served.
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => {
            tracing::warn!(%error, "unix socket: no peer credentials");
            return;
        }
    };
    let service = RouterService::new(router, &limits, move |request| {
        request.extensions_mut().insert(PeerUid(uid));
        Ok(())
    });
    let guarded = TokioIo::new(StallGuard::new(stream, limits.write_deadline));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_deadline)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(guarded, service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(limits.drain_deadline, connection).await;
        }
    }
}

/// Sends a request over the Unix socket at `socket` and reads the answer (16 MiB, 60 s at most).
///
/// # Errors
/// No server listens there, a deadline, or a malformed exchange.
pub async fn unix_request(socket: &Path, mut request: Request<Vec<u8>>) -> Result<Response, TlsError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| TlsError::Unreachable {
        to: socket.display().to_string(),
        detail: error.to_string(),
    })?;
    if !request.headers().contains_key(http::header::HOST) {
        request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
    }
    let limits = Exchange { answer_bytes_max: 16 * 1024 * 1024, deadline: Duration::from_secs(60) };
    exchange(stream, request, limits).await
}
