//! The HTTP server over real sockets: who asks, what is too large or too slow, and how it stops.
#![expect(clippy::expect_used, reason = "what a test cannot set up has to fail it at once")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use audit::Event;
use axum::extract::Extension;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use common::{DEADLINE, Side, connector, identity, listen, side_with, within};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::pki::Pki;
use testkit::{FixedClock, Recorder};
use tls::http::{
    Client, HttpLimits, PeerAddr, PeerChain, PeerUid, Problem, Response, serve, serve_unix, unix_request,
};
use tls::{ClientCertificates, HandshakeInfo, MinVersion, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use trust::Change;
use types::{DeviceId, Epoch};

async fn who(
    Extension(PeerAddr(address)): Extension<PeerAddr>,
    Extension(PeerChain(chain)): Extension<PeerChain>,
    info: Option<Extension<Arc<HandshakeInfo>>>,
) -> Json<Value> {
    Json(json!({
        "loopback": address.ip().is_loopback(),
        "name": chain.map(|chain| chain.leaf().common_names().join(",")),
        "version": info.as_ref().map(|info| info.version),
        "alpn": info.and_then(|info| info.alpn.clone()).map(|name| String::from_utf8(name).expect("text")),
    }))
}

/// A handler that says when a request is inside, and answers when it is let go.
#[derive(Clone, Default)]
struct Hold {
    entered: Arc<Notify>,
    let_go: Arc<Notify>,
}

fn router(hold: Hold) -> Router {
    Router::new()
        .route("/who", get(who))
        .route("/len", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/large", get(|| async { "x".repeat(8 * 1024 * 1024) }))
        .route(
            "/problem",
            get(|| async { Problem::new(StatusCode::CONFLICT, "test.conflict", "no").into_response() }),
        )
        .route(
            "/hold",
            get(move || async move {
                hold.entered.notify_one();
                hold.let_go.notified().await;
                "held"
            }),
        )
}

struct Server {
    port: u16,
    side: Option<Side>,
    recorder: Arc<Recorder>,
    hold: Hold,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

async fn start(pki: &Pki, over_tls: bool, limits: HttpLimits) -> Server {
    let side = over_tls.then(|| {
        let clock = Arc::new(FixedClock::default());
        let server = identity(&pki.localhost());
        side_with(pki, server, ClientCertificates::Optional, MinVersion::V12, &[b"http/1.1"], clock)
    });
    let acceptor = side.as_ref().map(|side| side.acceptor.clone());
    let (listener, address) = listen().await;
    let (stop, stopped) = watch::channel(false);
    let recorder = Arc::new(Recorder::new());
    let hold = Hold::default();
    let task =
        tokio::spawn(serve(listener, acceptor, router(hold.clone()), limits, recorder.clone(), stopped));
    Server { port: address.port(), side, recorder, hold, stop, task }
}

async fn plain(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.expect("connected")
}

/// Sends bytes and reads until the server closes.
async fn exchange(port: u16, request: &[u8]) -> String {
    let mut tcp = plain(port).await;
    tcp.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let _ = within(tcp.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn problem_code(answer: &Response) -> String {
    answer.json().expect("json")["type"].as_str().expect("a type").to_owned()
}

#[tokio::test]
async fn handlers_see_who_asks() {
    let pki = Pki::fixed();
    let server = start(&pki, true, HttpLimits::default()).await;
    let device = pki.device("pump-7");
    for (connector, name) in
        [(connector(&pki, Some(&device)), json!("pump-7")), (connector(&pki, None), Value::Null)]
    {
        let client = Client::new(connector, "localhost", server.port);
        let answer = within(client.get("/who")).await.expect("answered");
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.json().unwrap(),
            json!({"loopback": true, "name": name, "version": "TLSv1.3", "alpn": null})
        );
    }
    let server = start(&pki, false, HttpLimits::default()).await;
    let answer = exchange(server.port, b"GET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\"name\":null,\"version\":null"), "{answer}");
}

#[tokio::test]
async fn a_refused_handshake_is_noted_with_what_was_shown() {
    let pki = Pki::fixed();
    let server = start(&pki, true, HttpLimits::default()).await;
    let expired = pki.expired_device("pump-7");
    let client = Client::new(connector(&pki, Some(&expired)), "localhost", server.port);
    let error = within(client.get("/who")).await.expect_err("refused");
    assert_eq!(error, TlsError::Alert { alert: "CertificateExpired".to_owned() });
    match server.recorder.wait(DEADLINE, |event| matches!(event, Event::ConnectionRefused { .. })).await {
        Event::ConnectionRefused { peer, subject, serial, issuer, sni, reason, .. } => {
            let certificate = expired.certificate();
            assert!(peer.starts_with("127.0.0.1:"), "{peer}");
            assert_eq!(subject, Some(certificate.subject_text()));
            assert_eq!(serial, Some(certificate.serial().to_string()));
            assert_eq!(issuer, Some(certificate.issuer_text()));
            assert_eq!(sni.as_deref(), Some("localhost"));
            assert_eq!(reason, "trust.expired");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken_and_one_over_it_is_a_problem() {
    let pki = Pki::fixed();
    let limits = HttpLimits { body_bytes_max: 1000, ..HttpLimits::default() };
    let server = start(&pki, true, limits.clone()).await;
    let client = Client::new(connector(&pki, None), "localhost", server.port);
    let send = |len: usize| client.request(Method::POST, "/len", &[], vec![b'x'; len]);
    let answer = within(send(1000)).await.expect("answered");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "1000"));
    let answer = within(send(1001)).await.expect("answered");
    assert_eq!(answer.status, 413);
    assert_eq!(problem_code(&answer), "urn:bailiwick:error:request.too_large");

    // The same where no length is said beforehand.
    let server = start(&pki, false, limits).await;
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    for (chunks, status) in [(1, "HTTP/1.1 200 OK"), (2, "HTTP/1.1 413 Payload Too Large")] {
        let head = "POST /len HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let request = format!("{head}{}0\r\n\r\n", chunk.repeat(chunks));
        let answer = exchange(server.port, request.as_bytes()).await;
        assert!(answer.starts_with(status), "{answer}");
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let pki = Pki::fixed();
    let server = start(&pki, false, HttpLimits { header_bytes_max: 8192, ..HttpLimits::default() }).await;
    let request = format!("GET /who HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let answer = exchange(server.port, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
}

#[tokio::test]
async fn a_client_whose_head_does_not_end_is_closed_and_blocks_nobody() {
    let pki = Pki::fixed();
    let limits = HttpLimits { header_deadline: Duration::from_millis(300), ..HttpLimits::default() };
    let server = start(&pki, false, limits).await;
    let mut slow = plain(server.port).await;
    slow.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n").await.expect("sent");
    let idle = plain(server.port).await;
    let answer = exchange(server.port, b"GET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    for mut tcp in [slow, idle] {
        let mut rest = Vec::new();
        let _ = within(tcp.read_to_end(&mut rest)).await;
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_timeout() {
    let pki = Pki::fixed();
    let limits = HttpLimits { request_deadline: Duration::from_millis(300), ..HttpLimits::default() };
    let server = start(&pki, false, limits).await;
    let request = b"POST /len HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nabc";
    let answer = exchange(server.port, request).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:bailiwick:error:request.timeout"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let pki = Pki::fixed();
    let limits = HttpLimits {
        write_deadline: Duration::from_millis(300),
        drain_deadline: Duration::from_secs(15),
        ..HttpLimits::default()
    };
    let server = start(&pki, false, limits).await;
    let mut deaf = plain(server.port).await;
    deaf.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut first = [0; 1];
    within(deaf.read_exact(&mut first)).await.expect("the answer began");
    // The server stops only when nothing is open any more: the deaf client was cut off before.
    server.stop.send_replace(true);
    within(server.task).await.expect("stopped");
    drop(deaf);
}

#[tokio::test]
async fn an_unfinished_handshake_has_a_deadline_and_a_limit_per_address() {
    let pki = Pki::fixed();
    let limits = HttpLimits {
        handshake_deadline: Duration::from_millis(500),
        unfinished_per_address_max: 2,
        ..HttpLimits::default()
    };
    let server = start(&pki, true, limits).await;
    let silent = [plain(server.port).await, plain(server.port).await, plain(server.port).await];
    let refused = |wanted: &'static str| move |event: &Event| matches!(event, Event::ConnectionRefused { reason, .. } if reason == wanted);
    server.recorder.wait(DEADLINE, refused("conn.limit")).await;
    server.recorder.wait(DEADLINE, refused("conn.timeout")).await;
    // When the silent ones are gone, others come in again.
    drop(silent);
    let client = Client::new(connector(&pki, None), "localhost", server.port);
    let mut answered = client.get("/who").await;
    for _ in 0..50 {
        if answered.is_ok() {
            break;
        }
        answered = client.get("/who").await;
    }
    assert_eq!(answered.expect("admitted").status, 200);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed() {
    let pki = Pki::fixed();
    let server = start(&pki, false, HttpLimits { connections_max: 1, ..HttpLimits::default() }).await;
    let mut first = plain(server.port).await;
    first.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut answer = [0; 15];
    within(first.read_exact(&mut answer)).await.expect("answered");
    let answer = exchange(server.port, b"").await;
    assert_eq!(answer, "");
    server
        .recorder
        .wait(
            DEADLINE,
            |event| matches!(event, Event::ConnectionRefused { reason, .. } if reason == "conn.limit"),
        )
        .await;
}

#[tokio::test]
async fn one_address_cannot_hold_all_connections() {
    let pki = Pki::fixed();
    for over_tls in [false, true] {
        let limits = HttpLimits { connections_per_address_max: 2, ..HttpLimits::default() };
        let server = start(&pki, over_tls, limits).await;
        // Answered connections that stay open: over TLS, their handshakes are finished.
        let (held, again) =
            (open(&pki, over_tls, server.port).await, open(&pki, over_tls, server.port).await);
        let mut third = plain(server.port).await;
        assert_eq!(within(third.read(&mut [0; 1])).await.unwrap_or_default(), 0, "tls {over_tls}");
        let of_address = |event: &Event| {
            matches!(event, Event::ConnectionRefused { reason, detail, .. }
            if reason == "conn.limit" && detail == "2 connections from this address; limit 2")
        };
        server.recorder.wait(DEADLINE, of_address).await;
        // Another address is not held back.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let other = within(socket.connect(([127, 0, 0, 1], server.port).into())).await.unwrap();
        drop(asked(&pki, over_tls, other).await.expect("another address is let in"));
        // A closed connection makes room.
        drop(held);
        let mut entered = None;
        for _ in 0..200 {
            entered = asked(&pki, over_tls, plain(server.port).await).await;
            if entered.is_some() {
                break;
            }
        }
        assert!(entered.is_some(), "tls {over_tls}");
        drop(again);
    }
}

type Held = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

async fn open(pki: &Pki, over_tls: bool, port: u16) -> Held {
    asked(pki, over_tls, plain(port).await).await.expect("answered")
}

/// Sends one request and keeps the connection; none if it was closed instead.
async fn asked(pki: &Pki, over_tls: bool, mut tcp: TcpStream) -> Option<Held> {
    let request = b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut buffer = [0; 15];
    if !over_tls {
        tcp.write_all(request).await.ok()?;
        within(tcp.read_exact(&mut buffer)).await.ok()?;
        return Some(Box::new(tcp));
    }
    let mut stream = within(connector(pki, None).connect_over(tcp, "localhost")).await.ok()?;
    stream.write_all(request).await.ok()?;
    within(stream.read_exact(&mut buffer)).await.ok()?;
    Some(Box::new(stream))
}

#[tokio::test]
async fn a_connection_that_stays_open_is_believed_no_longer_than_its_certificate() {
    let pki = Pki::fixed();
    let server = start(&pki, true, HttpLimits::default()).await;
    let operator = pki.operator("alice");
    let connector = connector(&pki, Some(&operator));
    let tcp = plain(server.port).await;
    let mut stream = within(connector.connect_over(tcp, "localhost")).await.expect("verified");
    let request = b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut buffer = vec![0; 4096];
    let len = within(stream.read(&mut buffer)).await.expect("answered");
    assert!(String::from_utf8_lossy(&buffer[..len]).contains("\"name\":\"alice\""));
    let side = server.side.as_ref().expect("tls");
    let deny = vec![DeviceId::parse("alice").unwrap()];
    let change = Change { epoch: Epoch { incarnation: 0, counter: 2 }, deny, ..Change::default() };
    side.view.send_replace(Arc::new(pki.view().with(change)));
    stream.write_all(request).await.expect("sent");
    let len = within(stream.read(&mut buffer)).await.expect("answered");
    let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden"), "{answer}");
    assert!(answer.contains("urn:bailiwick:error:trust.denied"), "{answer}");
}

#[tokio::test]
async fn a_stop_lets_open_requests_end() {
    let pki = Pki::fixed();
    let server = start(&pki, true, HttpLimits::default()).await;
    let client = Client::new(connector(&pki, None), "localhost", server.port);
    let held = tokio::spawn(async move { client.get("/hold").await });
    within(server.hold.entered.notified()).await;
    let client = Client::new(connector(&pki, None), "localhost", server.port);
    assert_eq!(within(client.get("/problem")).await.expect("answered").status, 409);
    server.stop.send_replace(true);
    server.hold.let_go.notify_one();
    let answer = within(held).await.expect("joined").expect("answered although the server stops");
    assert_eq!(answer.text(), "held");
    within(server.task).await.expect("stopped");
    assert!(matches!(within(client.get("/who")).await, Err(TlsError::Unreachable { .. })));
}

#[tokio::test]
async fn a_unix_socket_tells_who_holds_its_other_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("bailiwick.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let (stop, stopped) = watch::channel(false);
    let whoami = |Extension(PeerUid(uid)): Extension<PeerUid>| async move { uid.to_string() };
    let router = Router::new().route("/uid", get(whoami));
    let task = tokio::spawn(serve_unix(listener, router, stopped));
    let request = http::Request::get("/uid").body(Vec::new()).unwrap();
    let answer = within(unix_request(&path, request)).await.expect("answered");
    assert_eq!(answer.status, 200);
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).unwrap());
    assert_eq!(answer.text(), own.to_string());
    stop.send_replace(true);
    within(task).await.expect("stopped");
    let request = http::Request::get("/uid").body(Vec::new()).unwrap();
    assert!(matches!(within(unix_request(&path, request)).await, Err(TlsError::Unreachable { .. })));
}
