//! Orders of operators: services, operators and servers, through the same line as devices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use enroll::{carry_out_orders, recover_intents};
use signer::{FileKey, RawSigner};
use store::{Order, OrderId, OrderKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trust::CertState;
use types::{DeviceId, PrincipalKind, ProjectId, Wall};
use x509::{Certificate, KeyKind};

const DEADLINE: Duration = Duration::from_secs(20);

fn carrying_out(world: &World) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    (stop, tokio::spawn(carry_out_orders(world.enroll.clone(), stopped)))
}

async fn registered(world: &World, kind: PrincipalKind, name: &str) -> DeviceId {
    let name = DeviceId::parse(name).unwrap();
    let project = ProjectId::parse(ProjectId::DEFAULT).unwrap();
    world.store.principal_add(kind, name.clone(), project, "test", world.now()).await.unwrap();
    name
}

async fn submit(world: &World, kind: OrderKind, name: &str, key: &FileKey, csr_name: &str) -> OrderId {
    let order = Order {
        kind,
        name: name.to_owned(),
        csr_der: csr_der(key, csr_name),
        actor: "operator \"ada\"".to_owned(),
    };
    world.store.order_submit(order, world.now()).await.unwrap()
}

async fn outcome(world: &World, id: OrderId) -> Result<Certificate, String> {
    world.store.order_wait(id, DEADLINE).await.map(|der| Certificate::parse_der(&der).unwrap())
}

#[tokio::test]
async fn services_operators_and_servers_are_certified_by_the_right_ca() {
    let world = World::new().await;
    let (stop, task) = carrying_out(&world);
    registered(&world, PrincipalKind::Service, "backend").await;
    registered(&world, PrincipalKind::Operator, "ada").await;
    for (kind, name, ca, client) in [
        (OrderKind::Service, "backend", "services", true),
        (OrderKind::Operator, "ada", "services", true),
        (OrderKind::Server, "broker.example,192.0.2.7", "servers", false),
    ] {
        let key = key();
        let id = submit(&world, kind, name, &key, "").await;
        let certificate = outcome(&world, id).await.unwrap();
        assert_eq!(certificate.spki_der(), key.spki_der());
        assert_eq!(certificate.issuer_der(), issuing(&world.pki, ca).certificate().subject_der());
        assert_eq!((certificate.allows_client_auth(), certificate.allows_server_auth()), (client, !client));
        if client {
            let entry = world.store.admission(certificate.der_hash()).await.unwrap().unwrap();
            assert_eq!((entry.principal.name.as_str(), entry.state), (name, CertState::Active));
        } else {
            assert_eq!(certificate.common_names(), ["broker.example"]);
            assert!(certificate.san_dns().contains(&"broker.example".to_owned()));
            assert_eq!(certificate.san_ips(), ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
        }
    }
    stop.send(true).unwrap();
    tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_order_is_finished_with_the_words_of_its_refusal() {
    let world = World::new().await;
    let (_stop, task) = carrying_out(&world);
    registered(&world, PrincipalKind::Service, "backend").await;
    registered(&world, PrincipalKind::Service, "other").await;
    let shared = key();
    let id = submit(&world, OrderKind::Service, "backend", &shared, "backend").await;
    outcome(&world, id).await.unwrap();
    for (kind, name, key, csr_name, words) in [
        (OrderKind::Service, "other", shared, "", "already certified for \"backend\""),
        (OrderKind::Service, "nobody", key(), "", "\"nobody\" is not in the registry"),
        (OrderKind::Operator, "backend", key(), "", "is a service in the registry, not a operator"),
        (OrderKind::Service, "backend", key(), "admin", "request names \"admin\""),
        (OrderKind::Service, "a b", key(), "", "name: device id \"a b\": space at byte 1"),
        (OrderKind::Server, "*", key(), "", "name: \"*\" is no host name or address"),
    ] {
        let id = submit(&world, kind, name, &key, csr_name).await;
        let refusal = outcome(&world, id).await.unwrap_err();
        assert!(refusal.contains(words), "{refusal}");
    }
    assert!(world.store.orders_open().await.unwrap().is_empty());
    task.abort();
}

#[tokio::test]
async fn a_wrong_clock_refuses_the_order_and_says_so() {
    let world = World::new().await;
    let (_stop, task) = carrying_out(&world);
    registered(&world, PrincipalKind::Service, "backend").await;
    world.clock.set_wall(Wall(1000));
    let id = submit(&world, OrderKind::Service, "backend", &key(), "").await;
    let refusal = outcome(&world, id).await.unwrap_err();
    assert!(refusal.starts_with("the clock shows 1970-01-01T00:00:01Z"), "{refusal}");
    task.abort();
}

#[tokio::test]
async fn orders_that_a_stopped_server_left_are_carried_out_at_the_next_start() {
    let mut world = World::new().await;
    registered(&world, PrincipalKind::Service, "backend").await;
    let id = submit(&world, OrderKind::Service, "backend", &key(), "").await;
    world = world.reopened();
    let (_stop, task) = carrying_out(&world);
    outcome(&world, id).await.unwrap();
    task.abort();
}

#[tokio::test]
async fn a_crash_after_the_record_does_not_make_a_second_certificate() {
    let mut world = World::new().await;
    let name = registered(&world, PrincipalKind::Service, "backend").await;
    let key = key();
    let first = submit(&world, OrderKind::Service, "backend", &key, "").await;
    let (_stop, task) = carrying_out(&world);
    let certificate = outcome(&world, first).await.unwrap();
    task.abort();
    // The same order again stands for one that was recorded but not yet finished.
    let again = submit(&world, OrderKind::Service, "backend", &key, "").await;
    world = world.reopened();
    assert_eq!(recover_intents(&world.enroll).await.unwrap(), 0);
    let (_stop, task) = carrying_out(&world);
    assert_eq!(outcome(&world, again).await.unwrap().der(), certificate.der());
    assert_eq!(world.store.principal(&name).await.unwrap().unwrap().certificates.len(), 1);
    // While the server runs, an operator who orders again gets another one.
    let other = submit(&world, OrderKind::Service, "backend", &key, "").await;
    assert_ne!(outcome(&world, other).await.unwrap().der(), certificate.der());
    task.abort();
}

/// Counts the passes that the store made fail.
struct Failures(Arc<AtomicUsize>);

impl tracing::Subscriber for Failures {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("enroll::orders") && *metadata.level() == tracing::Level::ERROR
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn an_order_whose_end_could_not_be_written_gets_no_second_certificate() {
    let world = World::new().await;
    let failed = Arc::new(AtomicUsize::new(0));
    let _heard = tracing::subscriber::set_default(Failures(failed.clone()));
    let name = registered(&world, PrincipalKind::Service, "backend").await;
    let (_stop, task) = carrying_out(&world);
    // Once this one is finished, nothing is left over from the start.
    let key = key();
    let before =
        submit(&world, OrderKind::Server, "broker.example", &FileKey::generate(KeyKind::P256).unwrap(), "")
            .await;
    outcome(&world, before).await.unwrap();
    let beside = rusqlite::Connection::open(world.dir.path().join(store::DATABASE_FILE)).unwrap();
    beside.busy_timeout(DEADLINE).unwrap();
    let sick =
        "CREATE TRIGGER sick BEFORE UPDATE ON certificate_order BEGIN SELECT RAISE(ABORT, 'sick'); END";
    beside.execute_batch(sick).unwrap();
    let id = submit(&world, OrderKind::Service, "backend", &key, "").await;
    let seen = async {
        while failed.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap();
    beside.execute_batch("DROP TRIGGER sick").unwrap();
    let certificate = outcome(&world, id).await.unwrap();
    let row = world.store.principal(&name).await.unwrap().unwrap();
    assert_eq!(row.certificates.iter().map(|row| row.der_hash).collect::<Vec<_>>(), [certificate.der_hash()]);
    // Whoever orders again after that gets another one.
    let again = submit(&world, OrderKind::Service, "backend", &key, "").await;
    assert_ne!(outcome(&world, again).await.unwrap().der(), certificate.der());
    task.abort();
}
