use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const KEPT: usize = 16;

/// A stream that remembers the first bytes that came in, so that a client that does not speak TLS
/// can be told apart from one that speaks it wrongly.
pub(crate) struct Sniffed {
    pub(crate) tcp: TcpStream,
    first: [u8; KEPT],
    len: usize,
}

impl Sniffed {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, first: [0; KEPT], len: 0 }
    }

    /// What the first bytes are when they are not TLS, in words for the log.
    pub(crate) fn plain_protocol(&self) -> Option<&'static str> {
        plain_protocol(&self.first[..self.len])
    }

    /// Whether the client has said anything at all.
    pub(crate) fn is_silent(&self) -> bool {
        self.len == 0
    }
}

fn plain_protocol(first: &[u8]) -> Option<&'static str> {
    const HTTP: [&[u8]; 9] =
        [b"GET ", b"POST", b"PUT ", b"HEAD", b"PRI ", b"OPTI", b"DELE", b"PATC", b"CONN"];
    if HTTP.iter().any(|method| first.starts_with(method)) {
        return Some("plain HTTP bytes on a TLS port");
    }
    // CONNECT's first byte, and the protocol name after a remaining length of one to four bytes.
    let named = |word: &[u8]| first.windows(word.len()).any(|window| window == word);
    if first.first() == Some(&0x10) && (named(b"\x00\x04MQTT") || named(b"\x00\x06MQIsdp")) {
        return Some("plain MQTT bytes on a TLS port");
    }
    match first.first() {
        // 22 is a handshake record; anything else cannot begin TLS.
        None | Some(0x16) => None,
        Some(_) => Some("bytes that are not TLS on a TLS port"),
    }
}

impl AsyncRead for Sniffed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if self.len < KEPT {
            let fresh = &buf.filled()[before..];
            let at = self.len;
            let take = fresh.len().min(KEPT - at);
            self.first[at..at + take].copy_from_slice(&fresh[..take]);
            self.len += take;
        }
        polled
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_tls_are_named() {
        for (bytes, want) in [
            (b"GET / HTTP/1.1\r\n".as_slice(), Some("plain HTTP bytes on a TLS port")),
            (b"PUT /a", Some("plain HTTP bytes on a TLS port")),
            (b"\x10\x10\x00\x04MQTT\x04\x02", Some("plain MQTT bytes on a TLS port")),
            (b"\x10\x90\x01\x00\x06MQIsdp", Some("plain MQTT bytes on a TLS port")),
            (b"\x10\x05hello", Some("bytes that are not TLS on a TLS port")),
            (b"SSH-2.0", Some("bytes that are not TLS on a TLS port")),
            (b"\x16\x03\x01\x02\x00\x01", None),
            (b"", None),
        ] {
            assert_eq!(plain_protocol(bytes), want, "{bytes:?}");
        }
    }
}
