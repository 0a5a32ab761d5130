//! Log lines: one JSON object each, flat, with the same keys everywhere.
//! In: events of the observer, and lines of `tracing` from the parts below. Out: lines on a writer.
//! Invariant: nobody waits for the writer; what it can't take in time is dropped and counted. `ts` and `level` and `code` are always there; untrusted text is JSON-escaped (test: no_line_can_be_forged).
//! Never: sees a secret; the types that hold one can't be formatted.
//! Spec: DESIGN.md section 3, "log lines".

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit::{Event, Level};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};
use types::{Clock, Wall};

use crate::config::LogLevel;

/// The one writer of log lines, with a level that a reload can change.
#[derive(Clone)]
pub struct LogSink {
    inner: Arc<Inner>,
}

/// Lines that may wait for the writer; more are dropped and counted.
const LINES_MAX: usize = 8192;
/// How long the end of a server waits for its last lines.
const FLUSH: Duration = Duration::from_secs(2);

struct Inner {
    level: AtomicU8,
    clock: Arc<dyn Clock>,
    queue: Arc<Queue>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

/// The lines on their way to the writer's thread.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<String>,
    /// Lines that found no room since the last one that did.
    lost: u64,
    /// The writer has taken lines and is not done with them.
    writing: bool,
    /// No more lines will come.
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes until no more can; the only place that waits for `out`.
    fn write_to(&self, out: &mut dyn Write) {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
        loop {
            let waiting = self.changed.wait_while(self.lock(), idle);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            if waiting.lines.is_empty() {
                return;
            }
            let lines = std::mem::take(&mut waiting.lines);
            waiting.writing = true;
            drop(waiting);
            for line in lines {
                // A log that can't be written must not stop the broker; the next line tries again.
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            }
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }
}

/// Waits, when it goes, until the lines of a server that is not to be are written.
pub(crate) struct Flushed(pub(crate) LogSink);

impl Drop for Flushed {
    fn drop(&mut self) {
        self.0.flush();
    }
}

fn rank(level: LogLevel) -> u8 {
    match level {
        LogLevel::Warn => 0,
        LogLevel::Info => 1,
        LogLevel::Debug => 2,
    }
}

impl LogSink {
    /// A sink that writes to `out`, in a thread of its own, what is at least as grave as `level`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn new(
        level: LogLevel,
        clock: Arc<dyn Clock>,
        mut out: Box<dyn Write + Send>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let lines = Arc::clone(&queue);
        std::thread::Builder::new().name("log-write".to_owned()).spawn(move || lines.write_to(&mut out))?;
        Ok(Self { inner: Arc::new(Inner { level: AtomicU8::new(rank(level)), clock, queue }) })
    }

    /// Waits until every line so far is written, but not for a writer that has stalled; whether all
    /// are written.
    pub fn flush(&self) -> bool {
        let queue = &self.inner.queue;
        let mut waiting = queue.lock();
        // One line over the limit is the end of what was lost.
        self.tell_lost(&mut waiting);
        queue.changed.notify_all();
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let waited = queue.changed.wait_timeout_while(waiting, FLUSH, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Takes another level from here on.
    pub fn set_level(&self, level: LogLevel) {
        self.inner.level.store(rank(level), Ordering::Relaxed);
    }

    fn wants(&self, grade: u8) -> bool {
        grade <= self.inner.level.load(Ordering::Relaxed)
    }

    /// Writes an event as one line; answers the moment that it bears.
    pub fn event(&self, event: &Event) -> Wall {
        let now = self.inner.clock.now().wall;
        let grade = if event.level() >= Level::Warn { 0 } else { 1 };
        if self.wants(grade) {
            let body = serde_json::to_value(event).unwrap_or_default();
            let mut line = Map::new();
            line.insert("ts".into(), now.to_string().into());
            line.insert("level".into(), event.level().as_str().into());
            line.insert("code".into(), event.code().into());
            if let Value::Object(fields) = body {
                line.extend(fields.into_iter().filter(|(key, value)| key != "event" && !value.is_null()));
            }
            self.write(line);
        }
        now
    }

    fn write(&self, line: Map<String, Value>) {
        let text = text_of(line);
        let queue = &self.inner.queue;
        let mut waiting = queue.lock();
        if waiting.lines.len() >= LINES_MAX {
            waiting.lost += 1;
            return;
        }
        self.tell_lost(&mut waiting);
        waiting.lines.push_back(text);
        drop(waiting);
        queue.changed.notify_all();
    }

    /// Says, where they would have stood, how many lines were lost.
    fn tell_lost(&self, waiting: &mut Waiting) {
        let lost = std::mem::take(&mut waiting.lost);
        if lost == 0 {
            return;
        }
        let mut line = Map::new();
        line.insert("ts".into(), self.inner.clock.now().wall.to_string().into());
        line.insert("level".into(), "warn".into());
        line.insert("code".into(), "log.lost".into());
        line.insert("lines".into(), lost.into());
        line.insert("detail".into(), format!("{lost} lines lost: the log was not written in time").into());
        waiting.lines.push_back(text_of(line));
    }
}

fn text_of(line: Map<String, Value>) -> String {
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let key = if field.name() == "message" { "detail" } else { field.name() };
        self.0.insert(key.into(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
}

/// Lines that parts below write through `tracing`; only our own crates are heard, so that no
/// library can put a secret of its own into the log.
impl<S: tracing::Subscriber> Layer<S> for LogSink {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        const OURS: [&str; 9] =
            ["signer", "store", "tls", "enroll", "broker", "admin", "agent", "server", "cli"];
        let target = event.metadata().target();
        if !OURS.contains(&target.split("::").next().unwrap_or_default()) {
            return;
        }
        let (grade, level) = match *event.metadata().level() {
            tracing::Level::ERROR => (0, "alert"),
            tracing::Level::WARN => (0, "warn"),
            tracing::Level::INFO => (1, "info"),
            _ => (2, "debug"),
        };
        if !self.wants(grade) {
            return;
        }
        let mut fields = Fields(Map::new());
        fields.0.insert("ts".into(), self.inner.clock.now().wall.to_string().into());
        fields.0.insert("level".into(), level.into());
        fields.0.insert("code".into(), target.into());
        event.record(&mut fields);
        self.write(fields.0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;

    use types::Now;

    use super::*;

    /// A writer whose text a test can read.
    #[derive(Clone, Default)]
    pub(crate) struct Shared(pub(crate) Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(crate) struct At(pub(crate) i64);
    impl Clock for At {
        fn now(&self) -> Now {
            Now { wall: Wall::from_secs(self.0), ..Now::default() }
        }
    }

    fn refused(subject: &str) -> Event {
        Event::ConnectionRefused {
            peer: "127.0.0.1:5".into(),
            subject: Some(subject.into()),
            serial: None,
            issuer: None,
            sni: None,
            reason: "trust.revoked".into(),
            detail: "certificate 0x1f was revoked".into(),
        }
    }

    #[test]
    fn a_line_is_flat_json_with_the_keys_of_the_design() {
        let out = Shared::default();
        let sink = LogSink::new(LogLevel::Info, Arc::new(At(1_785_542_400)), Box::new(out.clone())).unwrap();
        sink.event(&refused("CN=pump-7"));
        assert!(sink.flush());
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["ts"], "2026-08-01T00:00:00Z");
        assert_eq!(line["level"], "warn");
        assert_eq!(line["code"], "conn.refused");
        assert_eq!(line["reason"], "trust.revoked");
        assert!(line.get("serial").is_none());
    }

    #[test]
    fn no_line_can_be_forged() {
        let out = Shared::default();
        let sink = LogSink::new(LogLevel::Info, Arc::new(At(0)), Box::new(out.clone())).unwrap();
        sink.event(&refused("CN=a\n{\"level\":\"info\"}"));
        assert!(sink.flush());
        assert_eq!(out.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_level_changes_while_running() {
        let out = Shared::default();
        let sink = LogSink::new(LogLevel::Warn, Arc::new(At(0)), Box::new(out.clone())).unwrap();
        let started = Event::ServerStarted { version: "1".into(), epoch: "0".into() };
        sink.event(&started);
        assert!(sink.flush());
        assert!(out.0.lock().unwrap().is_empty());
        sink.set_level(LogLevel::Info);
        sink.event(&started);
        assert!(sink.flush());
        assert!(!out.0.lock().unwrap().is_empty());
    }

    /// A writer that says when it is asked to write and then stalls until it is let go.
    struct Stalled {
        asked: mpsc::Sender<()>,
        let_go: mpsc::Receiver<()>,
        out: Shared,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.asked.send(());
            // Once its sender is gone it stalls no more.
            let _ = self.let_go.recv();
            self.out.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_writer_holds_nobody_and_what_is_lost_is_counted() {
        let (asked, hear) = mpsc::channel();
        let (stall, let_go) = mpsc::channel();
        let out = Shared::default();
        let writer = Stalled { asked, let_go, out: out.clone() };
        let sink = LogSink::new(LogLevel::Info, Arc::new(At(0)), Box::new(writer)).unwrap();
        sink.event(&refused("CN=first"));
        hear.recv_timeout(Duration::from_secs(20)).unwrap();
        // The writer holds the first line; as many as the queue takes wait, three are lost.
        for number in 0..LINES_MAX + 3 {
            sink.event(&refused(&format!("CN={number}")));
        }
        assert!(out.0.lock().unwrap().is_empty());
        drop(stall);
        assert!(sink.flush());
        sink.event(&refused("CN=last"));
        assert!(sink.flush());
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let subjects: Vec<_> = lines.iter().filter_map(|line| line["subject"].as_str()).collect();
        assert_eq!(subjects.len(), 1 + LINES_MAX + 1);
        assert_eq!(subjects[LINES_MAX], format!("CN={}", LINES_MAX - 1));
        let lost: Vec<_> = lines.iter().filter(|line| line["code"] == "log.lost").collect();
        assert_eq!(lost.len(), 1);
        assert_eq!((&lost[0]["lines"], &lost[0]["level"]), (&Value::from(3), &Value::from("warn")));
        assert_eq!(lines[lines.len() - 2]["code"], "log.lost");
        assert_eq!(lines[lines.len() - 1]["subject"], "CN=last");
    }
}
