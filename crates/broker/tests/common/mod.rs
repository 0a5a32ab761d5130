//! A broker over a real store and real TLS on port 0, and clients that write MQTT by hand.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: what cannot be made has to fail its test at once"
)]

mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use audit::Event;
use broker::{Broker, Deps, Settings};
use guard::ReplayTable;
use policy::{Source, Table};
use store::{CaRow, NewDevice, NewIntent, Reader, Store};
use tempfile::TempDir;
use testkit::pki::{Authority, Leaf, Pki};
use testkit::{Recorder, StepClock};
use tls::{Acceptor, ClientCertificates, Identity, LiveIdentity, MinVersion};
use tokio::sync::watch;
use types::{Clock, DeviceId, Epoch, PrincipalKind, ProjectId, Wall};

pub(crate) use wire::{
    Client, Packet, Tls, connect_packet, publish_packet, subscribe_packet, tcp_with_small_buffers,
};

/// How long a test waits for what has to come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const RULES: &str = "\
user backend
topic readwrite #

pattern readwrite devices/%u/#
pattern read broadcast/#
";

/// A running broker and all that a test may turn.
pub(crate) struct House {
    pub(crate) pki: Pki,
    pub(crate) store: Store,
    pub(crate) clock: Arc<StepClock>,
    pub(crate) heard: Arc<Recorder>,
    pub(crate) broker: Option<Broker>,
    pub(crate) address: SocketAddr,
    pub(crate) policy: watch::Sender<Arc<Table>>,
    pub(crate) replay: watch::Sender<Arc<ReplayTable>>,
    dir: TempDir,
}

/// Settings that suit a test: two shards, quick ticks, no limit on the rate.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings { shards: 2, handshake_threads: 1, ..Settings::default() };
    settings.tick = Duration::from_millis(5);
    settings.addresses.per_address_per_second = 1_000_000;
    settings.addresses.per_address_burst = 1_000_000;
    settings
}

pub(crate) fn table(text: &str, epoch: u64) -> Arc<Table> {
    Arc::new(Table::compile(&[Source { file: "test.acl", text }], epoch).unwrap())
}

pub(crate) fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, settings).await
    }

    /// On an address of its own, for a test that looks at the port after it was given back.
    pub(crate) async fn at(ip: Ipv4Addr, settings: Settings) -> Self {
        let pki = Pki::fixed();
        let clock = Arc::new(StepClock::new(pki.now()));
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), pki.now()).unwrap();
        let root = pki.root().id();
        store.ca_add(ca_row(pki.root(), "root", None, &[]), pki.now()).await.unwrap();
        let clients = [PrincipalKind::Service, PrincipalKind::Operator];
        for (ca, label, kinds) in [
            (pki.devices(), "devices", &[PrincipalKind::Device][..]),
            (pki.services(), "services", &clients[..]),
            (pki.servers(), "servers", &[][..]),
        ] {
            store.ca_add(ca_row(ca, label, Some(root), kinds), pki.now()).await.unwrap();
        }
        let server = pki.localhost();
        let identity = Identity::new(server.chain(), &server.key_pkcs8()).unwrap();
        let acceptor = Acceptor::new(
            Arc::new(LiveIdentity::new(identity)),
            store.watch_view(),
            ClientCertificates::Required,
            vec![b"mqtt".to_vec()],
            MinVersion::V12,
            clock.clone(),
        )
        .unwrap();
        let (policy, policy_watch) = watch::channel(table(RULES, 1));
        let (replay, replay_watch) = watch::channel(Arc::new(ReplayTable::new(Vec::new())));
        let heard = Arc::new(Recorder::new());
        let deps = Deps {
            store: store.clone(),
            policy: policy_watch,
            replay: replay_watch,
            acceptor: Arc::new(acceptor),
            clock: clock.clone(),
            observer: heard.clone(),
        };
        let listener = broker::listen(SocketAddr::from((ip, 0))).unwrap();
        let broker = broker::start(settings, listener, deps).await.unwrap();
        let address = broker.local_addr();
        Self { pki, store, clock, heard, broker: Some(broker), address, policy, replay, dir }
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    /// Changes the ledger's file under the store.
    pub(crate) fn sql(&self, sql: &str) {
        let file = self.dir.path().join(store::DATABASE_FILE);
        let conn = rusqlite::Connection::open(file).unwrap();
        conn.busy_timeout(DEADLINE).unwrap();
        conn.execute_batch(sql).unwrap();
    }

    /// Registers a device and records a fresh certificate for it, as enrolment does.
    pub(crate) async fn device(&self, name: &str) -> Leaf {
        self.register(name).await;
        let leaf = self.pki.device(name);
        self.record(&leaf).await;
        leaf
    }

    pub(crate) async fn register(&self, name: &str) {
        let new = NewDevice { id: id(name), original: None, project: project(), fleet: None, label: None };
        self.store.device_add(new, "test", self.clock.now()).await.unwrap();
    }

    pub(crate) async fn service(&self, name: &str) -> Leaf {
        let kind = PrincipalKind::Service;
        self.store.principal_add(kind, id(name), project(), "test", self.clock.now()).await.unwrap();
        let leaf = self.pki.service(name);
        self.record(&leaf).await;
        leaf
    }

    /// Enters a certificate in the ledger.
    pub(crate) async fn record(&self, leaf: &Leaf) {
        let certificate = leaf.certificate();
        let tbs = tbs_of(leaf.der()).to_vec();
        let intent = NewIntent {
            token_id: None,
            cert: leaf.cert_ref(),
            spki: certificate.spki_hash(),
            tbs_hash: x509::sha256(&tbs),
            tbs,
            principal: leaf.principal().cloned(),
            project: project(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            issuer_label: if leaf.issuer() == self.pki.devices().id() { "devices" } else { "services" }
                .to_owned(),
            evidence: "test".to_owned(),
        };
        let now = self.clock.now();
        let receipt = self.store.record_intent(intent, now).await.unwrap();
        self.store.record_certificate(receipt, leaf.der(), now).await.unwrap();
    }

    /// A client that is connected: its CONNACK said yes.
    pub(crate) async fn connect(&self, leaf: &Leaf, client_id: &str) -> Client {
        self.try_connect(&Tls::of(&self.pki, leaf), client_id).await.unwrap()
    }

    pub(crate) async fn try_connect(&self, tls: &Tls, client_id: &str) -> Result<Client, String> {
        let mut client = Client::open(self.address, tls).await?;
        client.hello(client_id).await?;
        Ok(client)
    }

    /// Revokes a device, waits until that is applied, and answers with how many sessions it closed.
    pub(crate) async fn revoke(&self, name: &str) -> usize {
        let now = self.clock.now();
        let revoked =
            self.store.revoke_device(&id(name), x509::CrlReason::KeyCompromise, "test", now).await.unwrap();
        self.sessions_applied(revoked.epoch).await;
        self.store.applied().sessions_closed(revoked.epoch, &revoked.certs)
    }

    /// Waits until the live sessions have been checked against `epoch`.
    pub(crate) async fn sessions_applied(&self, epoch: Epoch) {
        let readers = [Reader::Sessions, Reader::Handshakes];
        let lagging = self.store.applied().wait(epoch, &readers, DEADLINE).await;
        assert_eq!(lagging, []);
    }

    pub(crate) async fn refused(&self, code: &str) -> Event {
        let wanted =
            |event: &Event| matches!(event, Event::ConnectionRefused { reason, .. } if reason == code);
        self.heard.wait(DEADLINE, wanted).await
    }

    /// Waits for the end of the session of `name`, and answers with the reason's code and the detail.
    pub(crate) async fn ended(&self, name: &str) -> (String, String) {
        let of = |event: &Event| matches!(event, Event::SessionEnded { principal, .. } if principal == name);
        match self.heard.wait(DEADLINE, of).await {
            Event::SessionEnded { reason, detail, .. } => (reason, detail),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until `holds` does, looking again with every tick of the broker.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&broker::Stats) -> bool) {
        let looked = async {
            while !holds(&self.broker().stats()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, looked).await.is_err() {
            panic!("{what} did not come; {:#?}", self.broker().stats());
        }
    }

    pub(crate) fn set_wall(&self, wall: Wall) {
        self.clock.set_wall(wall);
    }
}

fn project() -> ProjectId {
    ProjectId::parse(ProjectId::DEFAULT).unwrap()
}

fn ca_row(ca: &Authority, label: &str, parent: Option<types::IssuerId>, kinds: &[PrincipalKind]) -> CaRow {
    CaRow {
        id: ca.id(),
        label: label.to_owned(),
        certificate_der: ca.certificate().der().to_vec(),
        parent,
        kinds: kinds.to_vec(),
        servers: label == "servers",
        key_file: None,
    }
}

/// The bytes under the signature: the first element of the certificate's sequence.
fn tbs_of(der: &[u8]) -> &[u8] {
    fn element(der: &[u8]) -> (usize, usize) {
        match der[1] {
            short if short < 0x80 => (2, usize::from(short)),
            long => {
                let count = usize::from(long & 0x7f);
                let length = der[2..2 + count].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                (2 + count, length)
            }
        }
    }
    let (head, _) = element(der);
    let inner = &der[head..];
    let (head, length) = element(inner);
    &inner[..head + length]
}
