use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use types::{Entropy, Now};

use crate::error::AgentError;
use crate::layout::Layout;

/// The fields of a reading; the stamp comes later.
pub(crate) type Fields = Map<String, Value>;

/// Where readings come from.
#[derive(Debug)]
pub enum Source {
    /// Made up, one per interval.
    Simulated(Simulated),
    /// Each line of standard input, as it comes.
    Stdin,
    /// The last line that a shell command prints, run once per interval.
    Exec(String),
    /// Whatever the embedding program sends, as it comes.
    Feed(mpsc::Receiver<Map<String, Value>>),
}

/// What is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Simulated {
    /// Temperature and humidity of a room.
    Sensor,
    /// A vehicle that drives about.
    Tracker,
}

impl Source {
    /// The layout that suits the source.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self {
            Self::Simulated(Simulated::Tracker) => Layout::Assets,
            Self::Simulated(Simulated::Sensor) | Self::Stdin | Self::Exec(_) | Self::Feed(_) => {
                Layout::Devices
            }
        }
    }
}

/// A line as fields: a JSON object is taken as it is, anything else as `value`.
pub(crate) fn fields_of(line: &str) -> Option<Fields> {
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Some(fields),
        Ok(value) => Some(Map::from_iter([("value".to_owned(), value)])),
        Err(_) => Some(Map::from_iter([("value".to_owned(), json!(line))])),
    }
}

/// Runs `command` in a shell and takes the last line that it prints.
pub(crate) async fn reading_of(command: &str, deadline: Duration) -> Result<Fields, AgentError> {
    let failed = |detail: String| AgentError::Source { detail };
    let running = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = match timeout(deadline, running).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("the command did not end within {} s", deadline.as_secs_f32()))),
    };
    if !output.status.success() {
        return Err(failed(format!("the command ended with {}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().rev().find_map(fields_of).ok_or_else(|| failed("the command printed nothing".to_owned()))
}

/// The lines of standard input.
pub(crate) struct Lines(tokio::io::Lines<BufReader<tokio::io::Stdin>>);

impl Lines {
    pub(crate) fn open() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Fields>, AgentError> {
        loop {
            match self.0.next_line().await {
                Ok(Some(line)) => {
                    if let Some(fields) = fields_of(&line) {
                        return Ok(Some(fields));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(AgentError::Source { detail: error.to_string() }),
            }
        }
    }
}

/// The made-up world: each reading is a small step from the one before.
pub(crate) struct World {
    kind: Simulated,
    temp: f64,
    hum: f64,
    lat: f64,
    lon: f64,
    speed: f64,
    battery: f64,
}

impl World {
    pub(crate) fn new(kind: Simulated, entropy: &mut dyn Entropy) -> Self {
        Self {
            kind,
            temp: 20.0 + 3.0 * unit(entropy),
            hum: 45.0 + 10.0 * unit(entropy),
            lat: 52.52 + 0.05 * unit(entropy),
            lon: 13.40 + 0.05 * unit(entropy),
            speed: 30.0 + 20.0 * unit(entropy),
            battery: 98.0,
        }
    }

    pub(crate) fn reading(&mut self, started: Now, now: Now, entropy: &mut dyn Entropy) -> Fields {
        match self.kind {
            Simulated::Sensor => {
                self.temp = (self.temp + 0.3 * unit(entropy)).clamp(-20.0, 60.0);
                self.hum = (self.hum + unit(entropy)).clamp(0.0, 100.0);
                Map::from_iter([
                    ("temp".to_owned(), json!(rounded(self.temp, 10.0))),
                    ("hum".to_owned(), json!(rounded(self.hum, 10.0))),
                    ("uptime".to_owned(), json!(now.mono.since(started.mono).as_secs())),
                ])
            }
            Simulated::Tracker => {
                self.lat = (self.lat + 0.0005 * unit(entropy)).clamp(-90.0, 90.0);
                self.lon = (self.lon + 0.0005 * unit(entropy)).clamp(-180.0, 180.0);
                self.speed = (self.speed + 4.0 * unit(entropy)).clamp(0.0, 130.0);
                self.battery = (self.battery - 0.01).max(5.0);
                Map::from_iter([
                    ("lat".to_owned(), json!(rounded(self.lat, 1e5))),
                    ("lon".to_owned(), json!(rounded(self.lon, 1e5))),
                    ("speed".to_owned(), json!(rounded(self.speed, 10.0))),
                    ("battery".to_owned(), json!(rounded(self.battery, 1.0))),
                    ("ts".to_owned(), json!(now.wall.0)),
                ])
            }
        }
    }
}

/// A number from -1 to 1.
fn unit(entropy: &mut dyn Entropy) -> f64 {
    let mut bytes = [0; 4];
    entropy.fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX) * 2.0 - 1.0
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use types::{Mono, Wall};

    use super::*;

    struct Middle;
    impl Entropy for Middle {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(0x80);
        }
    }

    #[test]
    fn a_line_is_an_object_or_a_value() {
        let value = |value: Value| Some(Map::from_iter([("value".to_owned(), value)]));
        assert_eq!(fields_of("{\"temp\": 21.5}"), Some(Map::from_iter([("temp".to_owned(), json!(21.5))])));
        assert_eq!(fields_of(" 21.5\n"), value(json!(21.5)));
        assert_eq!(fields_of("open"), value(json!("open")));
        assert_eq!(fields_of("{broken"), value(json!("{broken")));
        assert_eq!(fields_of("  "), None);
    }

    #[test]
    fn readings_have_exactly_the_fields_of_the_design() {
        let started = Now { mono: Mono(0), wall: Wall(0) };
        let now = Now { mono: Mono(61_000_000_000), wall: Wall(1_785_542_400_250) };
        let mut sensor = World::new(Simulated::Sensor, &mut Middle);
        let reading = sensor.reading(started, now, &mut Middle);
        assert_eq!(reading.keys().collect::<Vec<_>>(), ["hum", "temp", "uptime"]);
        assert_eq!(reading["uptime"], 61);
        let mut tracker = World::new(Simulated::Tracker, &mut Middle);
        let reading = tracker.reading(started, now, &mut Middle);
        assert_eq!(reading.keys().collect::<Vec<_>>(), ["battery", "lat", "lon", "speed", "ts"]);
        assert_eq!(reading["ts"], 1_785_542_400_250_i64);
        assert!((52.0..53.0).contains(&reading["lat"].as_f64().unwrap()));
    }

    #[tokio::test]
    async fn a_command_gives_its_last_line_and_its_failures_are_named() {
        let deadline = Duration::from_secs(10);
        let reading = reading_of("echo noise; echo '{\"temp\":3}'", deadline).await.unwrap();
        assert_eq!(reading["temp"], 3);
        for (command, detail) in
            [("exit 3", "the command ended with exit status: 3"), ("true", "the command printed nothing")]
        {
            let error = reading_of(command, deadline).await.unwrap_err();
            assert_eq!(error, AgentError::Source { detail: detail.into() });
        }
        let error = reading_of("exec sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error, AgentError::Source { detail: "the command did not end within 0.05 s".into() });
    }
}
