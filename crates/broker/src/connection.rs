use std::future::Future;
use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use mqtt::{ConnId, Input};
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use types::Reason;

use crate::limits::Pass;
use crate::outputs::Fate;
use crate::shard::Shard;
use crate::stats::add;

/// How often one connection may fill the shard's read buffer before the others have their turn.
const READS_PER_TURN: usize = 4;
/// A client whose own answers pile up past this is not read until it has taken them.
const ANSWERS_BYTES_MAX: usize = 256 * 1024;

/// The text of a TLS error is cut off after this.
const DETAIL_CHARS_MAX: usize = 200;

/// One connection's task: it reads all that the socket has, steps the state machine over it, and
/// writes what is queued once. A hand-written future, so that an idle connection keeps its TLS
/// state and nothing else.
pub(crate) struct Connection {
    shard: Rc<Shard>,
    conn: ConnId,
    tcp: TcpStream,
    tls: Box<ServerConnection>,
    /// The beginning of a packet whose end has not come.
    rest: BytesMut,
    phase: Phase,
    /// What it read has been stepped, and its own output is written in its next turn.
    answers_next: bool,
    _pass: Pass,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The handshake may have left plaintext behind, so the first turn steps before it reads.
    Fresh,
    Open,
    /// We have said goodbye and wait for the peer's, so that no reset overtakes our last bytes.
    Lingering,
    Gone,
}

/// What one turn of reading found.
#[derive(PartialEq, Eq)]
enum Heard {
    /// The socket is empty.
    All,
    /// There may be more.
    More,
    /// The peer has ended its direction, or broke TLS.
    End(Broken),
}

/// Why nothing more can be read, in one word and, where there is more to say, in a sentence.
#[derive(PartialEq, Eq)]
struct Broken {
    reason: Reason,
    detail: String,
}

impl Broken {
    fn lost() -> Self {
        Self { reason: Reason::ConnectionLost, detail: String::new() }
    }

    /// A record that is malformed, forged or repeated; the text may quote what the peer sent.
    fn tls(error: &dyn std::error::Error) -> Self {
        let shown = error.to_string();
        let detail = shown.chars().take(DETAIL_CHARS_MAX).filter(|ch| !ch.is_control()).collect();
        Self { reason: Reason::TlsFailed, detail }
    }
}

impl Connection {
    pub(crate) fn new(
        shard: Rc<Shard>,
        conn: ConnId,
        tcp: TcpStream,
        tls: Box<ServerConnection>,
        pass: Pass,
    ) -> Self {
        Self {
            shard,
            conn,
            tcp,
            tls,
            rest: BytesMut::new(),
            phase: Phase::Fresh,
            answers_next: false,
            _pass: pass,
        }
    }

    /// One turn: 1. fate, 2. read and step, 3. write, 4. goodbye.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // 1. Whoever was killed gets nothing more, even while a write is blocked.
        let fate = self.shard.state.borrow_mut().io.awake(self.conn, cx.waker());
        match fate {
            None => return Poll::Ready(()),
            Some(Fate::Kill(_)) => {
                self.break_off();
                return Poll::Ready(());
            }
            Some(Fate::Open | Fate::Close(_)) => {}
        }
        if self.phase == Phase::Lingering {
            return self.linger(cx);
        }
        // 2. All that the socket has, in one step.
        let had_output = self.has_output();
        let mut heard = Heard::All;
        let held_back = had_output && self.owes_too_much();
        if fate == Some(Fate::Open) && !held_back && !self.shard.is_way_blocked(self.conn) {
            heard = self.hear(cx);
        }
        // 3. All that is queued, in one write: an answer waits until everybody who has sent
        //    something has been read, since each write wakes a client that may send more.
        if heard == Heard::All && !had_output && !self.answers_next && self.has_output() {
            self.answers_next = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.answers_next = false;
        let written = self.say(cx);
        // 4. The end, if this is one.
        if let Heard::End(broken) = &heard {
            self.shard.lost(self.conn, broken.reason, &broken.detail);
        }
        // Whoever was held back and has taken all its answers is read in the next turn.
        let goes_on = heard == Heard::More || held_back && matches!(written, Ok(true));
        if goes_on {
            cx.waker().wake_by_ref();
        }
        match written {
            // A peer that has closed has no use for a goodbye.
            _ if heard == Heard::End(Broken::lost()) => return Poll::Ready(()),
            Err(_) => {
                self.shard.lost(self.conn, Reason::ConnectionLost, "");
                return Poll::Ready(());
            }
            Ok(false) if matches!(heard, Heard::End(_)) => return Poll::Ready(()),
            Ok(false) => {}
            Ok(true) => match self.shard.fate(self.conn) {
                Fate::Open => {}
                Fate::Close(_) => return self.goodbye(cx),
                Fate::Kill(_) => {
                    self.break_off();
                    return Poll::Ready(());
                }
            },
        }
        if !goes_on {
            self.shard.state.borrow_mut().io.asleep(self.conn);
        }
        Poll::Pending
    }

    fn has_output(&self) -> bool {
        self.shard.state.borrow().io.queued_for(self.conn) > 0
    }

    /// A client that does not take its answers is not read until it has: TCP then holds it back.
    fn owes_too_much(&self) -> bool {
        self.shard.state.borrow().io.queued_for(self.conn) > ANSWERS_BYTES_MAX
    }

    fn hear(&mut self, cx: &mut Context<'_>) -> Heard {
        let shard = Rc::clone(&self.shard);
        let mut scratch = shard.read.borrow_mut();
        let mut shared = shard.plain.borrow_mut();
        // A packet cut in two lives in the connection's own buffer until its end has come.
        let plain = if self.rest.is_empty() { &mut *shared } else { &mut self.rest };
        let mut heard = Heard::More;
        if self.phase == Phase::Fresh {
            self.phase = Phase::Open;
            drain(&mut self.tls, plain);
        }
        for _ in 0..READS_PER_TURN {
            let mut into = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.tcp).poll_read(cx, &mut into) {
                Poll::Pending => {
                    heard = Heard::All;
                    break;
                }
                Poll::Ready(Ok(())) if !into.filled().is_empty() => {
                    add(&shard.counters.bytes_in, into.filled().len());
                    if let Err(broken) = open(&mut self.tls, into.filled(), plain) {
                        heard = Heard::End(broken);
                        break;
                    }
                }
                Poll::Ready(Ok(()) | Err(_)) => {
                    heard = Heard::End(Broken::lost());
                    break;
                }
            }
        }
        if !plain.is_empty() {
            shard.step(Input::Bytes { conn: self.conn, buffer: plain });
        }
        // What is left over is the beginning of a packet; the shared buffer is for the next one.
        if self.rest.is_empty() {
            if !shared.is_empty() {
                self.rest = BytesMut::from(&shared[..]);
                shared.clear();
            }
            if shared.capacity() > SHARED_BYTES_MAX {
                *shared = BytesMut::new();
            }
        }
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = BytesMut::new();
        }
        heard
    }

    /// Writes until nothing is queued or the socket takes no more; true if nothing is left.
    fn say(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let shard = &self.shard;
        let mut drained = false;
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut Socket(&self.tcp)) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        match self.tcp.poll_write_ready(cx) {
                            Poll::Ready(ready) => ready?,
                            Poll::Pending => return Ok(false),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            let mut state = shard.state.borrow_mut();
            drained |= state.io.flushed(self.conn);
            let sealed =
                state.io.drain_to(self.conn, |bytes| self.tls.writer().write(bytes).unwrap_or_default());
            drop(state);
            add(&shard.counters.bytes_out, sealed);
            if sealed == 0 {
                if !std::mem::take(&mut drained) {
                    return Ok(true);
                }
                // The state machine may have waited for room.
                shard.drained(self.conn);
            }
        }
    }

    /// Ends our direction: close_notify, FIN; then waits for the peer's end, or the deadline.
    fn goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.tls.send_close_notify();
        if self.say(cx).is_err() {
            return Poll::Ready(());
        }
        let _ = Pin::new(&mut self.tcp).poll_shutdown(cx);
        self.phase = Phase::Lingering;
        self.linger(cx)
    }

    /// Reads and drops, so that the kernel does not answer late bytes with a reset.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = self.shard.read.borrow_mut();
        for _ in 0..READS_PER_TURN {
            let mut into = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Closes at once. A peer that reads is told by close_notify; what the kernel still holds for
    /// one that does not is thrown away by a reset, so that nothing more is delivered.
    fn break_off(&mut self) {
        if self.tls.wants_write() {
            let _ = self.tcp.set_zero_linger();
        } else {
            self.tls.send_close_notify();
            let _ = self.tls.write_tls(&mut Socket(&self.tcp));
        }
    }
}

/// The shared buffer is given back to the allocator when one burst has made it larger than this.
const SHARED_BYTES_MAX: usize = 512 * 1024;

/// Feeds TLS records and appends their plaintext.
fn open(tls: &mut ServerConnection, mut records: &[u8], plain: &mut BytesMut) -> Result<(), Broken> {
    while !records.is_empty() {
        if tls.read_tls(&mut records).map_err(|error| Broken::tls(&error))? == 0 {
            // rustls takes no more bytes after the peer's close_notify.
            return Err(Broken::lost());
        }
        let state = tls.process_new_packets();
        drain(tls, plain);
        if state.map_err(|error| Broken::tls(&error))?.peer_has_closed() {
            return Err(Broken::lost());
        }
    }
    Ok(())
}

/// Appends the plaintext that is ready.
fn drain(tls: &mut ServerConnection, plain: &mut BytesMut) {
    let mut reader = tls.reader();
    while let Ok(chunk) = reader.fill_buf() {
        let taken = chunk.len();
        if taken == 0 {
            return;
        }
        plain.extend_from_slice(chunk);
        reader.consume(taken);
    }
}

/// The socket as rustls writes to it: never waits.
struct Socket<'a>(&'a TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match bytes {
            [one] => self.0.try_write(one),
            many => self.0.try_write_vectored(many),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn(cx).is_pending() {
            // On every way to sleep, or a later kill would wake nobody and be waited for without end.
            self.shard.state.borrow_mut().io.asleep(self.conn);
            return Poll::Pending;
        }
        self.phase = Phase::Gone;
        self.shard.gone(self.conn);
        Poll::Ready(())
    }
}

/// A task that is dropped before its end (the runtime stops, or a step panicked) leaves no trace.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.phase != Phase::Gone {
            self.shard.gone(self.conn);
        }
    }
}
