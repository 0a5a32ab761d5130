//! The configuration file: one TOML, unknown keys refused, every mistake with its line and column.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guard::{Mode, OnMissing, ReplayRule, ReplayTable, Scope, TimeUnit};
use serde::{Deserialize, Serialize};
use types::TopicFilter;

use crate::error::ServerError;
use crate::span::Span;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the installation is called and how it is reached.
    pub installation: Installation,
    /// Where the listeners stand.
    #[serde(default)]
    pub listeners: Listeners,
    /// What TLS accepts.
    #[serde(default)]
    pub tls: Tls,
    /// How long certificates, lists and tokens live.
    #[serde(default)]
    pub certificates: Certificates,
    /// The topic rules.
    #[serde(default)]
    pub policy: Policy,
    /// Replay protection; the first rule whose filter matches a topic decides.
    #[serde(default)]
    pub replay: Vec<Replay>,
    /// What one client, and all of them, may use.
    #[serde(default)]
    pub limits: Limits,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// What the installation is called and how it is reached.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// The organization in the subjects of CA certificates.
    #[serde(default = "organization")]
    pub organization: String,
    /// The name under which devices reach this machine.
    pub public_host: String,
    /// Every name and address that the server certificate bears.
    pub server_names: Vec<String>,
    /// The base of the addresses of CRLs and CA certificates; certificates carry it for years.
    pub public_url: String,
}

fn organization() -> String {
    "Bailiwick".to_owned()
}

/// Where the listeners stand; port 0 takes a free one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// MQTT over mutual TLS.
    pub mqtt: SocketAddr,
    /// The devices' HTTPS: provisioning and the CA bundle.
    pub devices: SocketAddr,
    /// The operators' HTTPS.
    pub admin: SocketAddr,
    /// Plain HTTP: CRLs and CA certificates only.
    pub plain: SocketAddr,
}

impl Default for Listeners {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            mqtt: any(8883),
            devices: any(8443),
            admin: SocketAddr::from(([127, 0, 0, 1], 9443)),
            plain: any(8080),
        }
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2 with ephemeral keys and authenticated ciphers.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V13,
}

/// What TLS accepts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The oldest version, for every listener that says nothing else.
    pub min_version: TlsVersion,
    /// The oldest version of the MQTT listener.
    pub mqtt_min_version: Option<TlsVersion>,
    /// The oldest version of the devices' HTTPS.
    pub devices_min_version: Option<TlsVersion>,
    /// The oldest version of the operators' HTTPS.
    pub admin_min_version: Option<TlsVersion>,
}

/// How long certificates, lists and tokens live.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// A device's certificate.
    pub device_lifetime: Span,
    /// A service's certificate.
    pub service_lifetime: Span,
    /// An operator's certificate.
    pub operator_lifetime: Span,
    /// Our own listeners' certificate; it is renewed at two thirds.
    pub server_lifetime: Span,
    /// How long a CRL holds; a new one is signed at half of it, and at once after a revocation.
    pub crl_validity: Span,
    /// How long a provisioning token lives unless the command says otherwise.
    pub token_ttl: Span,
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            device_lifetime: Span::days(365),
            service_lifetime: Span::days(365),
            operator_lifetime: Span::days(365),
            server_lifetime: Span::days(90),
            crl_validity: Span::days(7),
            token_ttl: Span::days(1),
        }
    }
}

/// The topic rules.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Files in the syntax of Mosquitto's ACLs, relative to the data folder.
    pub files: Vec<PathBuf>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { files: vec!["policy/devices.acl".into(), "policy/assets.acl".into()] }
    }
}

/// Whether replays are looked for and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayMode {
    /// Not looked for.
    Off,
    /// Told, not refused.
    Observe,
    /// Refused.
    Enforce,
}

/// How long a counter's order holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayScope {
    /// Over all connections of the device.
    #[default]
    Device,
    /// Inside one connection: for counters that begin again at each boot.
    Connection,
}

/// What becomes of a message without the fields of its rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// It passes.
    #[default]
    Accept,
    /// It is refused.
    Reject,
}

/// A rule of replay protection.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Which topics.
    pub filter: String,
    /// What is done.
    pub mode: ReplayMode,
    /// JSON pointer to the counter, such as `/seq`.
    pub seq: Option<String>,
    /// JSON pointer to the boot counter, such as `/boot`.
    pub epoch: Option<String>,
    /// JSON pointer to the time of the message in milliseconds, such as `/ts`.
    pub time: Option<String>,
    /// How long the order holds.
    #[serde(default)]
    pub scope: ReplayScope,
    /// A stream for each topic, at most eight for a device; otherwise one for the device.
    #[serde(default)]
    pub per_topic: bool,
    /// The largest jump forward.
    #[serde(default = "max_forward")]
    pub max_forward: u64,
    /// How far ahead of our clock a message's time may be.
    #[serde(default = "max_skew")]
    pub max_skew: Span,
    /// How old a message may be.
    #[serde(default = "max_age")]
    pub max_age: Span,
    /// What becomes of a message without these fields.
    #[serde(default)]
    pub on_missing: Missing,
}

fn max_forward() -> u64 {
    1_000_000
}

fn max_skew() -> Span {
    Span(Duration::from_secs(300))
}

fn max_age() -> Span {
    Span::days(1)
}

/// What one client, and all of them, may use.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Threads that carry sessions; 0 takes one for each core.
    pub shards: u16,
    /// Connections in all.
    pub connections_max: u32,
    /// Connections from one address, or from one /64 of IPv6.
    pub connections_per_address_max: u32,
    /// Connections of one identity.
    pub connections_per_identity_max: u32,
    /// Handshakes that are not finished.
    pub handshakes_max: u32,
    /// A packet, in bytes.
    pub packet_bytes_max: u32,
    /// Messages that wait for one client.
    pub queued_messages_max: u32,
    /// Bytes that wait for one client.
    pub queued_bytes_max: u32,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Messages that one device may send in a second, on average; 0 means no limit.
    pub messages_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shards: 0,
            connections_max: 100_000,
            connections_per_address_max: 20_000,
            connections_per_identity_max: 8,
            handshakes_max: 4_096,
            packet_bytes_max: 256 * 1024,
            queued_messages_max: 1_000,
            queued_bytes_max: 4 * 1024 * 1024,
            subscriptions_max: 100,
            messages_per_second: 1_000,
        }
    }
}

/// How loud the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Refusals and alerts.
    Warn,
    /// Accepted connections too.
    #[default]
    Info,
    /// Everything.
    Debug,
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How loud.
    pub level: LogLevel,
}

impl Config {
    /// Reads and checks the whole file.
    ///
    /// # Errors
    /// Every mistake as `file:line:column: what`, or that the file can't be read.
    pub fn read(path: &Path) -> Result<Self, ServerError> {
        let text = fs_err::read_to_string(path)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Takes the text of a configuration; `file` stands in the errors.
    ///
    /// # Errors
    /// Every mistake as `file:line:column: what`.
    pub fn parse(text: &str, file: &str) -> Result<Self, ServerError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            ServerError::Config(vec![format!("{file}:{line}:{column}: {}", error.message())])
        })?;
        let wrong = config.mistakes();
        if wrong.is_empty() {
            return Ok(config);
        }
        let located = wrong.into_iter().map(|(key, what)| {
            let (line, column) = find_key(text, key);
            format!("{file}:{line}:{column}: {what}")
        });
        Err(ServerError::Config(located.collect()))
    }

    /// What the types can't say: each mistake with the key at which it stands.
    fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.installation.server_names.is_empty() {
            wrong.push((
                "server_names",
                "server_names is empty; the server certificate needs a name".to_owned(),
            ));
        }
        if !self.installation.server_names.contains(&self.installation.public_host) {
            let host = types::Clipped(&self.installation.public_host).to_string();
            wrong.push((
                "public_host",
                format!("public_host \"{host}\" is not among server_names: devices would refuse the server"),
            ));
        }
        if !self.installation.public_url.starts_with("http://") || self.installation.public_url.ends_with('/')
        {
            let url = types::Clipped(&self.installation.public_url).to_string();
            wrong.push(("public_url", format!("public_url \"{url}\": must begin with http:// (a list that proves trust can't need trust) and not end with /")));
        }
        let four_years = Span::days(4 * 366);
        for (key, span) in [
            ("device_lifetime", self.certificates.device_lifetime),
            ("service_lifetime", self.certificates.service_lifetime),
            ("operator_lifetime", self.certificates.operator_lifetime),
            ("server_lifetime", self.certificates.server_lifetime),
        ] {
            if span > four_years {
                wrong.push((
                    key,
                    format!(
                        "{key} is above 4 years, which the 5-year sub-CAs of this installation can't cover"
                    ),
                ));
            }
            if span < Span(Duration::from_secs(3600)) {
                wrong.push((key, format!("{key} is under 1h: no time is left to renew")));
            }
        }
        if self.certificates.crl_validity < Span(Duration::from_secs(3600)) {
            wrong.push(("crl_validity", "crl_validity is under 1h: readers could not keep up".to_owned()));
        }
        if self.policy.files.is_empty() {
            wrong.push(("files", "policy.files is empty: nobody could publish or read anything".to_owned()));
        }
        let mut ports = BTreeSet::new();
        for listener in
            [self.listeners.mqtt, self.listeners.devices, self.listeners.admin, self.listeners.plain]
        {
            if listener.port() != 0 && !ports.insert(listener.port()) {
                wrong.push(("listeners", format!("two listeners share port {}", listener.port())));
            }
        }
        if self.listeners.mqtt.port() == 1883 {
            wrong.push((
                "mqtt",
                "port 1883 is plain MQTT by convention; this listener speaks TLS only, use 8883".to_owned(),
            ));
        }
        for rule in &self.replay {
            if let Err(error) = rule.to_rule() {
                wrong.push(("replay", error));
            }
        }
        wrong
    }

    /// The rules of replay protection, compiled.
    ///
    /// # Errors
    /// What is wrong with a rule; a checked configuration has no such error.
    pub fn replay_table(&self) -> Result<ReplayTable, ServerError> {
        let rules: Result<Vec<_>, _> = self.replay.iter().map(Replay::to_rule).collect();
        rules.map(ReplayTable::new).map_err(|error| ServerError::Config(vec![error]))
    }
}

impl Replay {
    fn to_rule(&self) -> Result<ReplayRule, String> {
        let filter = TopicFilter::parse(&self.filter).map_err(|error| format!("replay filter: {error}"))?;
        if self.mode != ReplayMode::Off && self.seq.is_none() && self.time.is_none() {
            return Err(format!(
                "replay rule for \"{filter}\" names neither seq nor time: nothing could be checked"
            ));
        }
        for pointer in [&self.seq, &self.epoch, &self.time].into_iter().flatten() {
            if !pointer.starts_with('/') {
                return Err(format!(
                    "replay rule for \"{filter}\": \"{}\" is no JSON pointer; write \"/seq\"",
                    types::Clipped(pointer)
                ));
            }
        }
        Ok(ReplayRule {
            filter,
            mode: match self.mode {
                ReplayMode::Off => Mode::Off,
                ReplayMode::Observe => Mode::Observe,
                ReplayMode::Enforce => Mode::Enforce,
            },
            seq: self.seq.clone(),
            epoch: self.epoch.clone(),
            time: self.time.clone().map(|pointer| (pointer, TimeUnit::Millis)),
            scope: match self.scope {
                ReplayScope::Device => Scope::Device,
                ReplayScope::Connection => Scope::Connection,
            },
            per_topic: self.per_topic,
            max_forward: self.max_forward,
            max_skew: self.max_skew.0,
            max_age: self.max_age.0,
            on_missing: match self.on_missing {
                Missing::Accept => OnMissing::Accept,
                Missing::Reject => OnMissing::Reject,
            },
        })
    }
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// Where a key stands in the text; the first line if it was left to its default.
fn find_key(text: &str, key: &str) -> (usize, usize) {
    let stands = |line: &&str| {
        let bare = line.trim_start().trim_start_matches('[').trim_start();
        bare.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    match text.lines().enumerate().find(|(_, line)| stands(line)) {
        Some((index, line)) => (index + 1, line.len() - line.trim_start().len() + 1),
        None => (1, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[installation]\npublic_host = \"localhost\"\nserver_names = [\"localhost\"]\npublic_url = \"http://localhost:8080\"\n";

    fn wrong(text: &str) -> String {
        match Config::parse(text, "fleet.toml") {
            Err(ServerError::Config(lines)) => lines.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_smallest_file_takes_every_default() {
        let config = Config::parse(SMALL, "f").unwrap();
        assert_eq!(config.listeners, Listeners::default());
        assert_eq!(config.certificates.device_lifetime, Span::days(365));
        assert!(config.replay_table().unwrap().is_empty());
    }

    #[test]
    fn the_full_file_of_the_documents_equals_the_defaults() {
        let full = include_str!("../../../conf/full.toml");
        let config = Config::parse(full, "conf/full.toml").unwrap();
        let small = Config::parse(SMALL, "f").unwrap();
        assert_eq!(Config { replay: Vec::new(), ..config.clone() }, small);
        assert_eq!(config.replay.len(), 2);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let text = format!("{SMALL}[listeners]\nmqqt = \"0.0.0.0:1\"\n");
        assert!(wrong(&text).starts_with("fleet.toml:6:1: unknown field `mqqt`"), "{}", wrong(&text));
    }

    #[test]
    fn a_bad_length_of_time_is_named_with_its_place() {
        let text = format!("{SMALL}[certificates]\ndevice_lifetime = \"1 year\"\n");
        assert_eq!(
            wrong(&text),
            "fleet.toml:6:19: \"1 year\" is no length of time; write 500ms, 30s, 5m, 24h or 365d"
        );
    }

    #[test]
    fn values_that_cannot_go_together_are_named_with_their_places() {
        for (extra, expected) in [
            (
                "[certificates]\n  device_lifetime = \"30000d\"\n",
                "fleet.toml:6:3: device_lifetime is above 4 years",
            ),
            ("[listeners]\nmqtt = \"0.0.0.0:9443\"\n", "fleet.toml:5:1: two listeners share port 9443"),
            ("[listeners]\nmqtt = \"0.0.0.0:1883\"\n", "fleet.toml:6:1: port 1883 is plain MQTT"),
            ("[policy]\nfiles = []\n", "fleet.toml:6:1: policy.files is empty"),
            (
                "[[replay]]\nfilter = \"a/#/b\"\nmode = \"enforce\"\nseq = \"/seq\"\n",
                "fleet.toml:5:1: replay filter",
            ),
            (
                "[[replay]]\nfilter = \"a/#\"\nmode = \"enforce\"\n",
                "fleet.toml:5:1: replay rule for \"a/#\" names neither",
            ),
        ] {
            let text = format!("{SMALL}{extra}");
            assert!(wrong(&text).starts_with(expected), "{expected}: {}", wrong(&text));
        }
        let text = SMALL.replace("[\"localhost\"]", "[\"other\"]");
        assert!(wrong(&text).starts_with("fleet.toml:2:1: public_host \"localhost\" is not among"));
    }
}
