//! What the operator API asks of the broker, which comes and goes apart from it.

use std::sync::{Arc, PoisonError, RwLock};

use admin::Later;
use admin::{LiveClient, LiveClients, LivePage, Metrics, Sample, SampleKind};
use broker::Broker;

use crate::config::Limits;
use crate::observer::Watcher;

/// The live sessions: empty until a broker is put in.
#[derive(Default)]
pub(crate) struct LivePort {
    broker: RwLock<Option<Arc<Broker>>>,
}

impl LivePort {
    /// The broker is up.
    pub(crate) fn put(&self, broker: Broker) {
        *self.broker.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(broker));
    }

    fn current(&self) -> Option<Arc<Broker>> {
        self.broker.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other limits in force; false when there is no broker to hold them.
    pub(crate) fn set_limits(&self, limits: &Limits) -> bool {
        let settings = broker_settings(limits);
        self.current().map(|broker| broker.set_limits(settings.addresses, &settings.mqtt)).is_some()
    }

    /// The broker stops: from here on there are no live sessions.
    pub(crate) fn take(&self) -> Option<Arc<Broker>> {
        self.broker.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl LiveClients for LivePort {
    fn live<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Later<'a, LivePage> {
        Box::pin(async move {
            let Some(broker) = self.current() else { return LivePage::default() };
            let after = after.and_then(|text| text.parse().ok());
            let mut found = broker.live(after, limit.saturating_add(1)).await;
            let more = found.len() > limit;
            found.truncate(limit);
            let next = if more { found.last().map(|client| client.conn.to_string()) } else { None };
            LivePage { clients: found.into_iter().map(shown).collect(), next }
        })
    }
}

fn shown(client: broker::LiveClient) -> LiveClient {
    LiveClient {
        kind: client.kind.as_str().to_owned(),
        name: client.name,
        client_id: client.client_id,
        serial: client.serial,
        issuer: client.issuer,
        peer: client.peer,
        tls: client.tls.to_owned(),
        suite: client.suite.to_owned(),
        conn: client.conn,
        connected_at: client.connected_at.to_string(),
    }
}

/// The server's counters: the observer's and the broker's.
pub(crate) struct MetricsPort {
    watcher: Arc<Watcher>,
    live: Arc<LivePort>,
}

impl MetricsPort {
    pub(crate) fn new(watcher: Arc<Watcher>, live: Arc<LivePort>) -> Self {
        Self { watcher, live }
    }
}

impl Metrics for MetricsPort {
    fn samples(&self) -> Vec<Sample> {
        let mut samples = self.watcher.samples();
        if let Some(broker) = self.live.current() {
            samples.extend(broker_samples(&broker));
        }
        samples
    }
}

fn broker_samples(broker: &Broker) -> Vec<Sample> {
    let stats = broker.stats();
    let sample = |name, help, kind, value: u64| Sample {
        name,
        help,
        kind,
        labels: Vec::new(),
        // A count above 2^53 is shown rounded; no counter of ours comes so far.
        value: value as f64,
    };
    use SampleKind::{Counter, Gauge};
    let mut samples = vec![
        sample(
            "bailiwick_connections",
            "Open TCP connections of the MQTT listener.",
            Gauge,
            stats.connections,
        ),
        sample(
            "bailiwick_handshakes_unfinished",
            "TLS handshakes under way.",
            Gauge,
            stats.handshakes_unfinished,
        ),
        sample("bailiwick_sessions", "Live MQTT sessions.", Gauge, stats.sessions),
        sample("bailiwick_accepted_total", "Connections that were accepted.", Counter, stats.accepted_total),
        sample(
            "bailiwick_shed_total",
            "Messages dropped because a queue was full.",
            Counter,
            stats.shed_total,
        ),
        sample(
            "bailiwick_bytes_in_total",
            "Bytes of TLS records from clients.",
            Counter,
            stats.bytes_in_total,
        ),
        sample("bailiwick_bytes_out_total", "Bytes of plaintext to clients.", Counter, stats.bytes_out_total),
        sample("bailiwick_queued_bytes", "Bytes that wait for clients.", Gauge, stats.queued_bytes),
    ];
    for (reason, count) in stats.refused_total {
        let one = sample("bailiwick_refused_total", "Connections refused, by reason.", Counter, count);
        samples.push(Sample { labels: vec![("reason", reason.to_owned())], ..one });
    }
    for (reason, count) in stats.ended_total {
        let one = sample("bailiwick_ended_total", "Sessions ended, by reason.", Counter, count);
        samples.push(Sample { labels: vec![("reason", reason.to_owned())], ..one });
    }
    samples
}

/// The broker's settings, from the limits of the configuration.
pub(crate) fn broker_settings(limits: &Limits) -> broker::Settings {
    let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let defaults = broker::Settings::default();
    broker::Settings {
        shards: usize::from(limits.shards),
        addresses: broker::AddressLimits {
            connections_max: size(limits.connections_max),
            per_address_max: size(limits.connections_per_address_max),
            handshakes_max: size(limits.handshakes_max),
            ..defaults.addresses
        },
        mqtt: mqtt::Limits {
            packet_bytes_max: size(limits.packet_bytes_max),
            queue_messages_max: size(limits.queued_messages_max),
            queue_bytes_max: size(limits.queued_bytes_max),
            subscriptions_max: size(limits.subscriptions_max),
            connections_per_identity_max: size(limits.connections_per_identity_max),
            device_messages_per_second: limits.messages_per_second,
            device_messages_burst: limits.messages_per_second.saturating_mul(5),
            ..defaults.mqtt
        },
        ..defaults
    }
}
