use std::time::Duration;

/// What one client, one identity and one shard may use. The totals are per shard: the shell
/// divides the installation's budget by the number of shards. Zero means "no limit" only where
/// the field says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest packet, fixed header included; a longer one ends the connection. 256 KiB.
    pub packet_bytes_max: usize,
    /// How long a connection may stay without its CONNECT. 10 s.
    pub connect_timeout: Duration,
    /// The longest client id. 256 bytes.
    pub client_id_bytes_max: usize,
    /// The longest keep-alive that is honoured, in seconds; a longer one and 0 ("off") count as
    /// this one. 65,535 s.
    pub keep_alive_secs_max: u16,
    /// QoS 1 messages sent to a client and not yet acknowledged. 20.
    pub inflight_max: usize,
    /// QoS 2 messages received from a client and not yet released. 100.
    pub received_max: usize,
    /// Messages that wait in a session's queue. 1,000.
    pub queue_messages_max: usize,
    /// Bytes that wait in a session's queue. 4 MiB.
    pub queue_bytes_max: usize,
    /// Bytes that wait in all session queues of the shard. 256 MiB.
    pub queue_bytes_total_max: usize,
    /// Bytes handed to the socket of one client and not yet taken by it: beyond, QoS 0 is dropped
    /// and QoS 1 waits in the session; beyond twice of it the client is disconnected. 1 MiB.
    pub output_bytes_max: usize,
    /// The same for all clients of the shard together: beyond, QoS 0 is dropped. 256 MiB.
    pub output_bytes_total_max: usize,
    /// Subscriptions of one session. 100.
    pub subscriptions_max: usize,
    /// Levels of a topic or filter; never more than [`types::TOPIC_LEVELS_MAX`]. 32.
    pub topic_levels_max: usize,
    /// Retained messages of the installation; each shard holds a copy of all. 100,000.
    pub retained_messages_max: usize,
    /// Bytes of all retained messages. 64 MiB.
    pub retained_bytes_max: usize,
    /// Retained messages that one device has put there, so that none takes the place of all. 1,000.
    pub retained_messages_per_device_max: usize,
    /// Bytes of the retained messages of one device. 1 MiB.
    pub retained_bytes_per_device_max: usize,
    /// Live connections of one identity. 4.
    pub connections_per_identity_max: usize,
    /// Sessions of one identity, live or stored. 8.
    pub sessions_per_identity_max: usize,
    /// Messages that a device may publish per second; 0 means no limit. 1,000.
    pub device_messages_per_second: u32,
    /// Messages that a device may publish at once after a pause. 5,000.
    pub device_messages_burst: u32,
    /// Messages that a service or operator may publish per second; 0 means no limit. 0.
    pub service_messages_per_second: u32,
    /// Messages that a service or operator may publish at once after a pause. 0.
    pub service_messages_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 256 * 1024,
            connect_timeout: Duration::from_secs(10),
            client_id_bytes_max: 256,
            keep_alive_secs_max: u16::MAX,
            inflight_max: 20,
            received_max: 100,
            queue_messages_max: 1_000,
            queue_bytes_max: 4 << 20,
            queue_bytes_total_max: 256 << 20,
            output_bytes_max: 1 << 20,
            output_bytes_total_max: 256 << 20,
            subscriptions_max: 100,
            topic_levels_max: types::TOPIC_LEVELS_MAX,
            retained_messages_max: 100_000,
            retained_bytes_max: 64 << 20,
            retained_messages_per_device_max: 1_000,
            retained_bytes_per_device_max: 1 << 20,
            connections_per_identity_max: 4,
            sessions_per_identity_max: 8,
            device_messages_per_second: 1_000,
            device_messages_burst: 5_000,
            service_messages_per_second: 0,
            service_messages_burst: 0,
        }
    }
}
