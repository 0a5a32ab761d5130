use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use testkit::pki::{Leaf, Pki};
use testkit::{FixedClock, Seeded, fixed_now};
use tls::tokio_rustls::server::TlsStream;
use tls::{Acceptor, ClientCertificates, Identity, LiveIdentity, MinVersion, ServerRefused};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use types::{Now, Wall};

use crate::counters::Counters;
use crate::error::AgentError;
use crate::layout::Layout;
use crate::mqtt::fake::{Fake, Published};
use crate::provision::Deps;
use crate::run::{Backoff, Config, Event, run};
use crate::source::{Simulated, Source};
use crate::state::{Home, State};

const DEADLINE: Duration = Duration::from_secs(30);

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

/// A folder as the first boot leaves it.
fn settle(dir: &Path, pki: &Pki, leaf: &Leaf) {
    let home = Home::new(dir);
    fs_err::write(home.key_file(), leaf.key_pem()).unwrap();
    fs_err::write(home.certificate_file(), leaf.certificate_pem()).unwrap();
    fs_err::write(home.chain_file(), pki.devices().certificate().to_pem()).unwrap();
    fs_err::write(home.root_file(), pki.root_pem()).unwrap();
    home.write_state(&State {
        device_id: leaf.certificate().common_names()[0].clone(),
        token_id: "0".repeat(26),
        host: "localhost".into(),
        port: 8443,
        renew_after: None,
        time_floor: fixed_now().wall.to_string(),
        interval_s: None,
        layout: None,
    })
    .unwrap();
}

struct Broker {
    listener: TcpListener,
    acceptor: Acceptor,
    _view: watch::Sender<Arc<trust::View>>,
}

impl Broker {
    async fn open(pki: &Pki, server: &Leaf) -> Self {
        let identity = Identity::new(server.chain(), &server.key_pkcs8()).unwrap();
        let (view, watched) = watch::channel(Arc::new(pki.view()));
        let acceptor = Acceptor::new(
            Arc::new(LiveIdentity::new(identity)),
            watched,
            ClientCertificates::Required,
            vec![b"mqtt".to_vec()],
            MinVersion::V12,
            Arc::new(FixedClock::default()),
        )
        .unwrap();
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor, _view: view }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    async fn accept(&self) -> Fake<TlsStream<TcpStream>> {
        let (tcp, _) = within(self.listener.accept()).await.unwrap();
        let (stream, checked) =
            within(self.acceptor.accept_stream(tcp)).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(checked.info.alpn.as_deref(), Some(b"mqtt".as_slice()));
        assert_eq!(checked.chain.unwrap().leaf().common_names(), ["pump-7"]);
        Fake::new(stream)
    }
}

struct Running {
    stop: watch::Sender<bool>,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<Result<(), AgentError>>,
}

fn start(dir: &Path, source: Source, port: u16, now: Now, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(dir, source);
    config.broker = Some(("localhost".into(), port));
    config.backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(5) };
    change(&mut config);
    let deps = Deps::new(Arc::new(FixedClock(now)), Arc::new(Mutex::new(Seeded::new(3))));
    let (stop, shutdown) = watch::channel(false);
    let (told, events) = mpsc::channel(1024);
    let task = tokio::spawn(run(config, deps, shutdown, told));
    Running { stop, events, task }
}

impl Running {
    async fn wait(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = within(self.events.recv()).await.expect("the awaited event comes before the end");
            if wanted(&event) {
                return event;
            }
        }
    }

    async fn end(self) -> Result<(), AgentError> {
        self.stop.send_replace(true);
        within(self.task).await.unwrap()
    }
}

fn feed() -> (mpsc::Sender<Map<String, Value>>, Source) {
    let (sender, receiver) = mpsc::channel(4096);
    (sender, Source::Feed(receiver))
}

fn reading(n: u64) -> Map<String, Value> {
    Map::from_iter([("n".to_owned(), json!(n))])
}

fn body(published: &Published) -> Value {
    serde_json::from_str(&published.payload).unwrap()
}

/// What every connection begins with.
async fn greeted(fake: &mut Fake<TlsStream<TcpStream>>) {
    let online = within(fake.acknowledged()).await;
    assert_eq!((online.topic.as_str(), online.payload.as_str()), ("devices/pump-7/status", "online"));
    assert!(online.retain);
    assert_eq!(within(fake.subscribed(1)).await, "devices/pump-7/commands/#");
}

#[tokio::test]
async fn a_sensor_connects_with_its_will_reports_and_says_goodbye() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let running =
        start(dir.path(), Source::Simulated(Simulated::Sensor), broker.port(), fixed_now(), |config| {
            config.keep_alive = Duration::from_secs(30);
        });
    let mut fake = broker.accept().await;
    let connect = fake.welcome(false).await;
    // No clean session, a will with QoS 1 that is retained, keep-alive 30 s, the device id as client id.
    assert_eq!(connect[7], 0b0010_1100);
    assert_eq!(connect[8..10], [0, 30]);
    assert_eq!(&connect[10..], b"\x00\x06pump-7\x00\x15devices/pump-7/status\x00\x07offline");
    greeted(&mut fake).await;
    let telemetry = within(fake.acknowledged()).await;
    assert_eq!(telemetry.topic, "devices/pump-7/telemetry/environment");
    assert!(!telemetry.retain && !telemetry.dup);
    let fields = body(&telemetry);
    let names: Vec<_> = fields.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["boot", "device", "hum", "seq", "temp", "uptime"]);
    assert_eq!(
        (&fields["device"], &fields["seq"], &fields["boot"]),
        (&json!("pump-7"), &json!(0), &json!(1))
    );
    running.stop.send_replace(true);
    let offline = within(fake.acknowledged()).await;
    assert_eq!((offline.topic.as_str(), offline.payload.as_str()), ("devices/pump-7/status", "offline"));
    assert!(offline.retain);
    assert_eq!(within(fake.next()).await.unwrap().first, 0xe0, "DISCONNECT");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_tracker_speaks_the_asset_layout() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let running =
        start(dir.path(), Source::Simulated(Simulated::Tracker), broker.port(), fixed_now(), |_| {});
    let mut fake = broker.accept().await;
    fake.welcome(false).await;
    assert_eq!(within(fake.acknowledged()).await.topic, "assets/pump-7/status");
    assert_eq!(within(fake.subscribed(1)).await, "assets/pump-7/commands/#");
    let position = within(fake.acknowledged()).await;
    assert_eq!(position.topic, "assets/pump-7/telemetry");
    let fields = body(&position);
    let names: Vec<_> = fields.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["battery", "boot", "device", "lat", "lon", "seq", "speed", "ts"]);
    assert_eq!(fields["ts"], fixed_now().wall.0);
    drop(fake);
    drop(broker);
    running.end().await.unwrap();
}

#[tokio::test]
async fn the_interval_command_is_answered_kept_and_bad_values_change_nothing() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let (_readings, source) = feed();
    let mut running = start(dir.path(), source, broker.port(), fixed_now(), |_| {});
    let mut fake = broker.accept().await;
    fake.welcome(false).await;
    greeted(&mut fake).await;
    let cases = [
        ("interval", "{\"interval_s\": 5}", json!({"ok": true, "interval_s": 5})),
        (
            "interval",
            "{\"interval_s\": 0}",
            json!({"ok": false, "interval_s": 5, "error": "interval_s 0: allowed 1 to 86400"}),
        ),
        (
            "interval",
            "soon",
            json!({"ok": false, "interval_s": 5, "error": "not JSON; expected {\"interval_s\": 1 to 86400}"}),
        ),
        (
            "reboot",
            "{}",
            json!({"ok": false, "interval_s": 5, "error": "unknown command \"reboot\"; this agent knows interval"}),
        ),
    ];
    for (at, (name, payload, expected)) in (0_u16..).zip(cases) {
        fake.deliver(&format!("devices/pump-7/commands/{name}"), payload, 100 + at).await;
        // The acknowledgement and the answer come in either order.
        let mut answer = None;
        let mut acknowledged = false;
        while answer.is_none() || !acknowledged {
            let packet = within(fake.next()).await.unwrap();
            match packet.kind() {
                4 => {
                    assert_eq!(packet.packet_id(), 100 + at);
                    acknowledged = true;
                }
                3 => {
                    let published = packet.published();
                    fake.puback(published.packet_id.unwrap()).await;
                    answer = Some(published);
                }
                other => panic!("packet type {other}"),
            }
        }
        let answer = answer.unwrap();
        assert_eq!(answer.topic, format!("devices/pump-7/telemetry/commands/{name}"));
        let mut fields = body(&answer);
        assert_eq!(fields["seq"], u64::from(at), "answers are stamped like readings");
        let map = fields.as_object_mut().unwrap();
        for stamp in ["seq", "boot", "device"] {
            assert!(map.remove(stamp).is_some());
        }
        assert_eq!(map.remove("command"), Some(json!(name)));
        assert_eq!(fields, expected);
        let told = running.wait(|event| matches!(event, Event::Command { .. })).await;
        assert!(matches!(told, Event::Command { accepted, .. } if accepted == (at == 0)));
    }
    assert_eq!(Home::new(dir.path()).read_state().unwrap().unwrap().interval_s, Some(5));
    drop(fake);
    running.end().await.unwrap();
}

#[tokio::test]
async fn the_interval_changes_the_pace_at_once() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let source = Source::Simulated(Simulated::Sensor);
    let running = start(dir.path(), source, broker.port(), fixed_now(), |config| {
        config.interval = Some(Duration::from_secs(86_400));
    });
    let mut fake = broker.accept().await;
    fake.welcome(false).await;
    greeted(&mut fake).await;
    assert_eq!(body(&within(fake.acknowledged()).await)["seq"], 0);
    fake.deliver("devices/pump-7/commands/interval", "{\"interval_s\": 1}", 1).await;
    let mut topics = Vec::new();
    while topics.len() < 3 {
        let packet = within(fake.next()).await.unwrap();
        if packet.kind() == 3 {
            let published = packet.published();
            fake.puback(published.packet_id.unwrap()).await;
            topics.push(published.topic);
        }
    }
    let telemetry = "devices/pump-7/telemetry/environment";
    assert_eq!(topics, ["devices/pump-7/telemetry/commands/interval", telemetry, telemetry]);
    drop(fake);
    running.end().await.unwrap();
}

#[tokio::test]
async fn what_was_lost_on_the_way_comes_again_and_nothing_comes_twice_under_a_new_number() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let (readings, source) = feed();
    let mut running =
        start(dir.path(), source, broker.port(), fixed_now(), |config| config.in_flight_max = 4);
    let mut fake = broker.accept().await;
    fake.welcome(false).await;
    greeted(&mut fake).await;
    for n in 0..10 {
        readings.send(reading(n)).await.unwrap();
    }
    assert_eq!(body(&within(fake.acknowledged()).await)["n"], 0);
    let unacknowledged = [within(fake.published()).await, within(fake.published()).await];
    drop(fake);
    running.wait(|event| matches!(event, Event::Disconnected { .. })).await;
    let mut fake = broker.accept().await;
    fake.welcome(true).await;
    let mut seen = Vec::new();
    let mut again = 0;
    while seen.len() < 9 {
        let packet = within(fake.next()).await.unwrap();
        if packet.kind() == 8 {
            let [high, low] = packet.packet_id().to_be_bytes();
            fake.send(&[0x90, 3, high, low, 1]).await;
            continue;
        }
        let published = packet.published();
        fake.puback(published.packet_id.unwrap()).await;
        if published.payload == "online" {
            continue;
        }
        if let Some(original) = unacknowledged.iter().find(|original| original.payload == published.payload) {
            assert!(published.dup);
            assert_eq!(published.packet_id, original.packet_id);
            again += 1;
        }
        let fields = body(&published);
        assert_eq!(fields["seq"], fields["n"]);
        seen.push(fields["seq"].as_u64().unwrap());
    }
    assert_eq!(again, 2);
    assert_eq!(seen, (1..10).collect::<Vec<_>>());
    // The source ends: the agent says goodbye by itself.
    drop(readings);
    assert_eq!(within(fake.acknowledged()).await.payload, "offline");
    assert_eq!(within(fake.next()).await.unwrap().first, 0xe0);
    within(running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn readings_wait_for_a_connection_and_the_oldest_go_when_too_many_do() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let (readings, source) = feed();
    for n in 0..8 {
        readings.send(reading(n)).await.unwrap();
    }
    let mut running =
        start(dir.path(), source, broker.port(), fixed_now(), |config| config.offline_messages_max = 5);
    for seq in 0..3 {
        let event = running.wait(|event| matches!(event, Event::Dropped { .. })).await;
        assert_eq!(event, Event::Dropped { seq });
    }
    let mut fake = broker.accept().await;
    fake.welcome(false).await;
    greeted(&mut fake).await;
    for seq in 3..8 {
        assert_eq!(body(&within(fake.acknowledged()).await)["seq"], seq);
    }
    drop(fake);
    running.end().await.unwrap();
}

#[tokio::test]
async fn numbers_rise_across_starts_and_the_boot_counts() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    for boot in 1..=3_u64 {
        let (readings, source) = feed();
        let running = start(dir.path(), source, broker.port(), fixed_now(), |_| {});
        let mut fake = broker.accept().await;
        fake.welcome(false).await;
        greeted(&mut fake).await;
        readings.send(reading(0)).await.unwrap();
        let fields = body(&within(fake.acknowledged()).await);
        assert_eq!((&fields["boot"], &fields["seq"]), (&json!(boot), &json!((boot - 1) * 1_000)));
        drop(fake);
        running.end().await.unwrap();
    }
    assert_eq!(Counters::peek(&Home::new(dir.path()).counters_file()).unwrap(), Some((3, 3_000)));
}

#[tokio::test]
async fn a_false_broker_is_refused_by_name_and_the_device_keeps_trying() {
    let pki = Pki::fixed();
    let hosts = ["localhost"];
    for (server, refused) in [
        (pki.foreign().localhost(), ServerRefused::UnknownIssuer),
        (pki.server(&["other.example"], &[]), ServerRefused::WrongHost),
        (pki.expired_server(&hosts, &[]), ServerRefused::Expired),
        (pki.server_by_devices_ca(&hosts, &[]), ServerRefused::NotAServersCa),
    ] {
        let dir = tempfile::tempdir().unwrap();
        settle(dir.path(), &pki, &pki.device("pump-7"));
        let broker = Broker::open(&pki, &server).await;
        let (_readings, source) = feed();
        let mut running = start(dir.path(), source, broker.port(), fixed_now(), |_| {});
        let serving = async {
            loop {
                let (tcp, _) = broker.listener.accept().await.unwrap();
                assert!(broker.acceptor.accept(tcp).await.is_err(), "the device broke off");
            }
        };
        let watching = async {
            for _ in 0..3 {
                let event = running.wait(|event| matches!(event, Event::Disconnected { .. })).await;
                assert_eq!(event.server_refused(), Some(refused));
            }
        };
        within(async {
            tokio::select! {
                () = serving => {}
                () = watching => {}
            }
        })
        .await;
        running.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_device_learns_the_alert() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.expired_device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let (_readings, source) = feed();
    let mut running = start(dir.path(), source, broker.port(), fixed_now(), |_| {});
    let (tcp, _) = within(broker.listener.accept()).await.unwrap();
    assert!(within(broker.acceptor.accept(tcp)).await.is_err());
    let event = running.wait(|event| matches!(event, Event::Disconnected { .. })).await;
    assert_eq!(event.alert(), Some("CertificateExpired"));
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_clock_at_1970_is_floored_and_catches_up_with_a_later_server_certificate() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    // The server's certificate is of half a year after the date that the device knows of.
    let home = Home::new(dir.path());
    let early = "2026-01-15T00:00:00Z";
    let forget = || {
        let state = home.read_state().unwrap().unwrap();
        home.write_state(&State { time_floor: early.into(), ..state }).unwrap();
    };
    forget();
    let server = pki.localhost();
    let broker = Broker::open(&pki, &server).await;
    let lost = Now { wall: Wall(0), ..fixed_now() };
    let (_readings, source) = feed();
    let running = start(dir.path(), source, broker.port(), lost, |_| {});
    let serving = async {
        loop {
            let (tcp, _) = broker.listener.accept().await.unwrap();
            if let Ok((stream, _)) = broker.acceptor.accept_stream(tcp).await {
                return Fake::new(stream);
            }
        }
    };
    let mut fake = within(serving).await;
    fake.welcome(false).await;
    greeted(&mut fake).await;
    drop(fake);
    running.end().await.unwrap();
    assert_eq!(home.read_state().unwrap().unwrap().floor(), server.certificate().not_before());

    // A clock that is set is believed: the same certificate is refused.
    forget();
    let march = Now { wall: Wall::from_secs(1_772_323_200), ..fixed_now() };
    let (_readings, source) = feed();
    let mut running = start(dir.path(), source, broker.port(), march, |_| {});
    let (tcp, _) = within(broker.listener.accept()).await.unwrap();
    assert!(within(broker.acceptor.accept(tcp)).await.is_err());
    let event = running.wait(|event| matches!(event, Event::Disconnected { .. })).await;
    assert_eq!(event.server_refused(), Some(ServerRefused::NotYetValid));
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_device_that_may_not_listen_for_commands_still_reports() {
    let pki = Pki::fixed();
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    let broker = Broker::open(&pki, &pki.localhost()).await;
    let (readings, source) = feed();
    let mut running =
        start(dir.path(), source, broker.port(), fixed_now(), |config| config.layout = Some(Layout::Devices));
    let mut fake = broker.accept().await;
    fake.welcome(false).await;
    assert_eq!(within(fake.acknowledged()).await.payload, "online");
    within(fake.subscribed(0x80)).await;
    running.wait(|event| matches!(event, Event::CommandsRefused { .. })).await;
    readings.send(reading(1)).await.unwrap();
    assert_eq!(body(&within(fake.acknowledged()).await)["n"], 1);
    drop(fake);
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_folder_without_a_device_or_with_damaged_counters_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let (_readings, source) = feed();
    let running = start(dir.path(), source, 1, fixed_now(), |_| {});
    assert!(matches!(within(running.task).await.unwrap(), Err(AgentError::NotProvisioned { .. })));
    let pki = Pki::fixed();
    settle(dir.path(), &pki, &pki.device("pump-7"));
    fs_err::write(Home::new(dir.path()).counters_file(), "{").unwrap();
    let (_readings, source) = feed();
    let running = start(dir.path(), source, 1, fixed_now(), |_| {});
    assert!(matches!(within(running.task).await.unwrap(), Err(AgentError::State { .. })));
}
