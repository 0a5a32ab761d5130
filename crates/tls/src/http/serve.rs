use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Observer};
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode};
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use x509::VerifiedChain;

use super::limits::{HttpLimits, PerAddress};
use super::problem::Problem;
use super::stall::StallGuard;
use crate::accept::{Acceptor, HandshakeInfo, RefusedHandshake};

/// The client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The client's verified chain; `None` on a plain listener and for a client that showed none.
#[derive(Clone)]
pub struct PeerChain(pub Option<Arc<VerifiedChain>>);

/// Serves `router` until `shutdown`, over TLS with `acceptor` or plain without one. Handlers find
/// [`PeerAddr`], [`PeerChain`] and, over TLS, `Arc<HandshakeInfo>` in the request's extensions.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    router: Router,
    limits: HttpLimits,
    observer: Arc<dyn Observer>,
    mut shutdown: watch::Receiver<bool>,
) {
    let (connected, unfinished) = (PerAddress::default(), PerAddress::default());
    let shared = Arc::new(Shared { acceptor, router, limits, observer });
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: the next try would fail as fast.
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let limits = &shared.limits;
        if open.len() >= limits.connections_max {
            let detail = format!("{} connections open; limit {0}", limits.connections_max);
            shared.note_refusal(peer, RefusedHandshake::over_limit(detail));
            continue;
        }
        let Some(held) = connected.begin(peer.ip(), limits.connections_per_address_max) else {
            let most = limits.connections_per_address_max;
            let detail = format!("{most} connections from this address; limit {most}");
            shared.note_refusal(peer, RefusedHandshake::over_limit(detail));
            continue;
        };
        let Some(counted) = unfinished.begin(peer.ip(), limits.unfinished_per_address_max) else {
            let detail = format!(
                "{} unfinished handshakes from this address; limit {0}",
                limits.unfinished_per_address_max
            );
            shared.note_refusal(peer, RefusedHandshake::over_limit(detail));
            continue;
        };
        let (shared, shutdown) = (shared.clone(), shutdown.clone());
        open.spawn(async move {
            shared.serve_one(tcp, peer, counted, shutdown).await;
            drop(held);
        });
    }
    drop(listener);
    let drained = timeout(shared.limits.drain_deadline, async { while open.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(open = open.len(), "connections cut at the end of the drain deadline");
    }
}

/// Ends when `shutdown` says so, or when its sender is gone.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

struct Shared {
    acceptor: Option<Arc<Acceptor>>,
    router: Router,
    limits: HttpLimits,
    observer: Arc<dyn Observer>,
}

impl Shared {
    async fn serve_one<G>(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        counted: G,
        shutdown: watch::Receiver<bool>,
    ) {
        // Answers are small and go out at once; a socket that refuses the option still works.
        let _ = tcp.set_nodelay(true);
        let Some(acceptor) = &self.acceptor else {
            drop(counted);
            let service = RouterService::new(self.router.clone(), &self.limits, move |request| {
                request.extensions_mut().insert(PeerAddr(peer));
                request.extensions_mut().insert(PeerChain(None));
                Ok(())
            });
            return self.talk(tcp, service, shutdown).await;
        };
        let deadline = self.limits.handshake_deadline;
        let (stream, checked) = match timeout(deadline, acceptor.accept_stream(tcp)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refused)) => return self.note_refusal(peer, refused),
            Err(_) => return self.note_refusal(peer, RefusedHandshake::timed_out(deadline)),
        };
        drop(counted);
        let chain = checked.chain.map(Arc::new);
        let info = Arc::new(checked.info);
        let acceptor = acceptor.clone();
        let service = RouterService::new(self.router.clone(), &self.limits, move |request| {
            // A connection that stays open is no longer believed than its certificate.
            if let Some(chain) = &chain {
                acceptor.recheck(chain).map_err(|refusal| {
                    Box::new(Problem::new(
                        StatusCode::FORBIDDEN,
                        refusal.reason.code(),
                        "the certificate is no longer accepted",
                    ))
                })?;
            }
            request.extensions_mut().insert(PeerAddr(peer));
            request.extensions_mut().insert(PeerChain(chain.clone()));
            request.extensions_mut().insert::<Arc<HandshakeInfo>>(info.clone());
            Ok(())
        });
        self.talk(stream, service, shutdown).await;
    }

    async fn talk<S, F>(&self, stream: S, service: RouterService<F>, mut shutdown: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(&mut Request<Body>) -> Result<(), Box<Problem>> + Send + Sync + 'static,
    {
        let guarded = TokioIo::new(StallGuard::new(stream, self.limits.write_deadline));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_deadline)
            .max_buf_size(self.limits.header_bytes_max.max(8 * 1024))
            .serve_connection(guarded, service);
        tokio::pin!(connection);
        // How a connection ends is the client's affair; what it was refused for is in its answer.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stopped(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(self.limits.drain_deadline, connection).await;
            }
        }
    }

    fn note_refusal(&self, peer: SocketAddr, refused: RefusedHandshake) {
        self.observer.note(Event::ConnectionRefused {
            peer: peer.to_string(),
            subject: refused.subject,
            serial: refused.serial.map(|serial| serial.to_string()),
            issuer: refused.issuer,
            sni: refused.sni,
            reason: refused.reason.code().to_owned(),
            detail: refused.detail,
        });
    }
}

/// The router behind the limits of one connection: marks each request with who asks, refuses an
/// oversize body before or while it comes, and answers for a handler that takes too long.
pub(crate) struct RouterService<F> {
    router: Router,
    mark: Arc<F>,
    body_bytes_max: usize,
    deadline: Duration,
}

impl<F> RouterService<F>
where
    F: Fn(&mut Request<Body>) -> Result<(), Box<Problem>> + Send + Sync + 'static,
{
    pub(crate) fn new(router: Router, limits: &HttpLimits, mark: F) -> Self {
        Self {
            router,
            mark: Arc::new(mark),
            body_bytes_max: limits.body_bytes_max,
            deadline: limits.request_deadline,
        }
    }
}

impl<F> Service<Request<Incoming>> for RouterService<F>
where
    F: Fn(&mut Request<Body>) -> Result<(), Box<Problem>> + Send + Sync + 'static,
{
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (router, mark) = (self.router.clone(), self.mark.clone());
        let (max, deadline) = (self.body_bytes_max, self.deadline);
        Box::pin(async move {
            let declared =
                request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
            if declared.is_some_and(|bytes| bytes > max as u64) {
                return Ok(too_large(max).into_response());
            }
            let mut request = request.map(|body| Body::new(Limited::new(body, max)));
            if let Err(problem) = mark(&mut request) {
                return Ok(problem.into_response());
            }
            let answered = match timeout(deadline, router.oneshot(request)).await {
                Ok(answered) => answered,
                Err(_) => Ok(too_slow(deadline).into_response()),
            };
            // A body that grew past the limit while a handler read it is refused in axum's own words.
            Ok(match answered {
                Ok(response) if response.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                    too_large(max).into_response()
                }
                Ok(response) => response,
                Err(impossible) => match impossible {},
            })
        })
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request.too_large", format!("body over {max} bytes"))
}

fn too_slow(deadline: Duration) -> Problem {
    let detail = format!("the request was not finished within {} s", deadline.as_secs_f32());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request.timeout", detail)
}
