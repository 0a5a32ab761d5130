use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::connect::Connector;
use crate::error::{TlsError, rustls_error};

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    /// That it is none, and where it ceases to be.
    pub fn json(&self) -> Result<serde_json::Value, TlsError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| TlsError::Http { detail: format!("the answer is not JSON: {error}") })
    }

    /// The body as text, with replacement characters where it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The one HTTPS client: every request on its own verified connection.
#[derive(Clone)]
pub struct Client {
    connector: Connector,
    host: String,
    port: u16,
    limits: Exchange,
}

/// What one exchange allows.
#[derive(Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) answer_bytes_max: usize,
    pub(crate) deadline: Duration,
}

impl Client {
    /// A client for `host`, which the server's certificate has to bear.
    #[must_use]
    pub fn new(connector: Connector, host: &str, port: u16) -> Self {
        let limits = Exchange { answer_bytes_max: 1024 * 1024, deadline: Duration::from_secs(30) };
        Self { connector, host: host.to_owned(), port, limits }
    }

    /// The same with another limit on answers; 1 MiB if this is not called.
    #[must_use]
    pub fn with_answer_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.answer_bytes_max = bytes;
        self
    }

    /// The same with another deadline for each exchange; 30 s if this is not called.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// Sends a request and reads the answer. An answer with any status is an answer.
    ///
    /// # Errors
    /// Which check refused the server, its alert, a deadline, or a malformed exchange.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Response, TlsError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host_header(&self.host, self.port))
            .body(body)
            .map_err(|error| TlsError::Http { detail: error.to_string() })?;
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        let stream = self.connector.connect(&self.host, self.port).await?;
        exchange(stream, request, self.limits).await
    }

    /// `GET path`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn get(&self, path: &str) -> Result<Response, TlsError> {
        self.request(Method::GET, path, &[], Vec::new()).await
    }

    /// `POST path` with `body` as JSON.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Result<Response, TlsError> {
        let json = [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        self.request(Method::POST, path, &json, body.to_string().into_bytes()).await
    }
}

/// The Host field: an IPv6 address stands in brackets (RFC 9112 section 3.2).
pub(crate) fn host_header(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// One request and its answer over a stream that nobody else uses.
pub(crate) async fn exchange<S>(
    stream: S,
    request: Request<Vec<u8>>,
    limits: Exchange,
) -> Result<Response, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let talk = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        let (mut parts, body) = request.into_parts();
        if !body.is_empty() {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let answered = async {
            let answer = sender.send_request(Request::from_parts(parts, Full::new(Bytes::from(body)))).await;
            let (parts, body) = answer.map_err(|e| failed(&e))?.into_parts();
            let body = Limited::new(body, limits.answer_bytes_max).collect().await.map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    return TlsError::AnswerTooLarge { limit: limits.answer_bytes_max };
                }
                match error.downcast_ref::<hyper::Error>() {
                    Some(error) => failed(error),
                    None => TlsError::Http { detail: error.to_string() },
                }
            })?;
            Ok(Response { status: parts.status, headers: parts.headers, body: body.to_bytes().to_vec() })
        };
        tokio::pin!(connection, answered);
        // The connection has to be driven for the answer to come; when it ends first, the answer knows why.
        tokio::select! {
            answer = &mut answered => answer,
            ended = &mut connection => match ended {
                Ok(()) => answered.await,
                Err(error) => Err(failed(&error)),
            },
        }
    };
    match timeout(limits.deadline, talk).await {
        Ok(answer) => answer,
        Err(_) => Err(TlsError::Timeout { what: "http answer", after: limits.deadline }),
    }
}

fn failed(error: &hyper::Error) -> TlsError {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match rustls_error(io) {
                Some(_) => TlsError::from_io(io),
                None => TlsError::Http { detail: io.to_string() },
            };
        }
        source = inner.source();
    }
    TlsError::Http { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_stands_in_brackets() {
        assert_eq!(host_header("::1", 8443), "[::1]:8443");
        assert_eq!(host_header("broker.example", 8443), "broker.example:8443");
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
        for (len, fits) in [(64, true), (65, false)] {
            let (near, mut far) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut head = [0; 256];
                assert!(far.read(&mut head).await.unwrap() < head.len());
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{}", "x".repeat(len));
                far.write_all(answer.as_bytes()).await.unwrap();
                assert!(far.read(&mut head).await.unwrap() < head.len());
            });
            let limits = Exchange { answer_bytes_max: 64, deadline: Duration::from_secs(10) };
            let request = Request::get("/").header(HOST, "a:1").body(Vec::new()).unwrap();
            match exchange(near, request, limits).await {
                Ok(answer) => assert!(fits && answer.body.len() == len && answer.status == 200),
                Err(error) => assert!(!fits && error == TlsError::AnswerTooLarge { limit: 64 }, "{error}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_runs_into_the_deadline() {
        let (near, _far) = tokio::io::duplex(4096);
        let limits = Exchange { answer_bytes_max: 64, deadline: Duration::from_secs(5) };
        let request = Request::get("/").header(HOST, "a:1").body(Vec::new()).unwrap();
        let error = exchange(near, request, limits).await.unwrap_err();
        assert_eq!(error, TlsError::Timeout { what: "http answer", after: Duration::from_secs(5) });
    }
}
