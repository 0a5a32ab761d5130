//! Log lines: one JSON object each, flat, with the same keys everywhere.
//! In: events of the observer, and lines of `tracing` from the parts below. Out: lines on a writer.
//! Invariant: `ts` and `level` and `code` are always there; untrusted text is JSON-escaped (test: no_line_can_be_forged).
//! Never: sees a secret; the types that hold one can't be formatted.
//! Spec: DESIGN.md section 3, "log lines".

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

struct Inner {
    level: AtomicU8,
    clock: Arc<dyn Clock>,
    out: Mutex<Box<dyn Write + Send>>,
}

fn rank(level: LogLevel) -> u8 {
    match level {
        LogLevel::Warn => 0,
        LogLevel::Info => 1,
        LogLevel::Debug => 2,
    }
}

impl LogSink {
    /// A sink that writes to `out` what is at least as grave as `level`.
    pub fn new(level: LogLevel, clock: Arc<dyn Clock>, out: Box<dyn Write + Send>) -> Self {
        Self { inner: Arc::new(Inner { level: AtomicU8::new(rank(level)), clock, out: Mutex::new(out) }) }
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
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        let mut out = self.inner.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that can't be written must not stop the broker; the next line tries again.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
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
    use super::*;
    use types::Now;

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
        let sink = LogSink::new(LogLevel::Info, Arc::new(At(1_785_542_400)), Box::new(out.clone()));
        sink.event(&refused("CN=pump-7"));
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
        let sink = LogSink::new(LogLevel::Info, Arc::new(At(0)), Box::new(out.clone()));
        sink.event(&refused("CN=a\n{\"level\":\"info\"}"));
        assert_eq!(out.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_level_changes_while_running() {
        let out = Shared::default();
        let sink = LogSink::new(LogLevel::Warn, Arc::new(At(0)), Box::new(out.clone()));
        let started = Event::ServerStarted { version: "1".into(), epoch: "0".into() };
        sink.event(&started);
        assert!(out.0.lock().unwrap().is_empty());
        sink.set_level(LogLevel::Info);
        sink.event(&started);
        assert!(!out.0.lock().unwrap().is_empty());
    }
}
