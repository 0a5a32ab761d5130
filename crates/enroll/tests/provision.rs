//! Flow A, step by step, through the router.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use audit::Event;
use bytes::Bytes;
use common::*;
use enroll::{FailureLimits, Settings, provision, recover_intents};
use http::{Method, Request};
use serde_json::json;
use signer::{FileKey, RawSigner};
use trust::CertState;
use types::{DeviceId, Wall};
use x509::{Certificate, ChainAnchors, Csr, KeyKind, Usage};

const ONE_BODY: &str = "the token is not accepted";

#[tokio::test]
async fn a_device_with_a_token_gets_a_certificate_of_its_own() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    let key = key();
    let answer = world.provision(&token, &key).await;
    let certificate = certificate(&answer);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let json = answer.json();
    let mut fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["ca_chain", "cert", "certificate", "device_id", "renew_after", "server_time"]);
    assert_eq!(json["device_id"], "pump-7");
    assert_eq!(json["cert"], json["certificate"]);
    assert_eq!(json["server_time"], "2026-08-01T00:00:00Z");
    // 365 days less 30.
    assert_eq!(json["renew_after"], "2027-07-02T00:00:00Z");
    assert_eq!(certificate.common_names(), ["pump-7"]);
    assert_eq!(certificate.san_uris(), ["urn:bailiwick:device:pump-7"]);
    assert_eq!(certificate.spki_der(), key.spki_der());
    assert!(certificate.allows_client_auth() && !certificate.allows_server_auth());
    assert_eq!(certificate.not_before(), Wall(START.0 - 600_000));
    // The chain is the CA and its root, and it verifies.
    let chain = Certificate::parse_pem_chain(json["ca_chain"].as_str().unwrap()).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0].der(), issuing(&world.pki, "devices").certificate().der());
    assert_eq!(chain[1].der(), world.pki.root().certificate().der());
    let anchors = ChainAnchors::new([&chain[1]]).unwrap();
    let verified =
        x509::verify_chain(&anchors, certificate.der(), &[chain[0].der()], START, Usage::ClientAuth).unwrap();
    assert_eq!(verified.leaf().der(), certificate.der());
    // The ledger knows it, and it waits for its first connection.
    let entry = world.store.admission(certificate.der_hash()).await.unwrap().unwrap();
    assert_eq!((entry.principal.name, entry.state), (device, CertState::Unconfirmed));
    assert!(world.ear.reasons().is_empty());
    let recorded = world.store.events_unchained(100).await.unwrap();
    assert!(recorded.iter().any(|(_, _, body)| body.contains("\"certificate_issued\"")));
}

#[tokio::test]
async fn every_kind_of_key_that_the_design_names_is_certified() {
    let world = World::new().await;
    for (number, kind) in
        [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa { bits: 2048 }].into_iter().enumerate()
    {
        let device = world.device(&format!("device-{number}")).await;
        let token = world.token(&device, u8::try_from(number).unwrap()).await;
        let key = FileKey::generate(kind).unwrap();
        assert_eq!(certificate(&world.provision(&token, &key).await).spki_der(), key.spki_der());
    }
}

#[tokio::test]
async fn a_csr_may_name_the_device_and_may_be_the_base64_of_der() {
    let world = World::new().await;
    let device = world.device("Pump-7").await;
    let token = world.token(&device, 1).await;
    let key = key();
    let der = signer::csr(&key, "pump-7").unwrap();
    let base64 = x509::pem::encode("X", &der);
    let base64: String =
        base64.lines().filter(|line| !line.starts_with("---")).collect::<Vec<_>>().join("\r\n");
    let first = world.post(&json!({"token": token, "csr": base64, "firmware": "1.2"})).await;
    // The registry's spelling stands in the certificate; a later field of a newer device is ignored.
    assert_eq!(certificate(&first).common_names(), ["Pump-7"]);
    let second = world.post(&json!({"token": token.to_uppercase(), "csr": csr_pem(&key, "")})).await;
    assert_eq!(second.json()["certificate"], first.json()["certificate"]);
}

#[tokio::test]
async fn until_the_first_connection_the_same_key_gets_the_same_bytes_and_after_it_nothing() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    let key = key();
    let first = certificate(&world.provision(&token, &key).await);
    // A week later, long after the token's own expiry: a bound certificate is never revoked for silence.
    world.clock.advance(Duration::from_secs(7 * 86_400));
    let again = certificate(&world.provision(&token, &key).await);
    assert_eq!(again.der(), first.der());
    assert!(world.ear.reasons().is_empty());
    world.connect(&first).await;
    let after = world.provision(&token, &key).await;
    assert_eq!(after.problem(), (403, "enroll.refused".to_owned(), ONE_BODY.to_owned()));
    assert_eq!(world.ear.reasons(), ["token.spent", "alert token.spent"]);
    assert_eq!(world.store.device(&device).await.unwrap().unwrap().certificates.len(), 1);
}

#[tokio::test]
async fn unknown_wrong_expired_spent_revoked_and_other_key_have_one_body() {
    let world = World::new().await;
    let mut bodies = Vec::new();
    let mut refused = async |name: &str, token: &str, key: &FileKey, reasons: &[&str]| {
        let answer = world.provision(token, key).await;
        assert_eq!(answer.problem(), (403, "enroll.refused".to_owned(), ONE_BODY.to_owned()), "{name}");
        assert_eq!(world.ear.reasons(), reasons, "{name}");
        let mut headers: Vec<String> = answer.headers.iter().map(|(n, v)| format!("{n}: {v:?}")).collect();
        headers.sort();
        bodies.push((answer.body, headers));
    };
    let good = key();
    let (unknown_id, unknown_secret) = token_parts(200);
    refused("unknown", &format!("bw1.{unknown_id}.{unknown_secret}"), &good, &["token.unknown"]).await;

    let device = world.device("a").await;
    let token = world.token(&device, 1).await;
    let wrong_secret =
        format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    refused("wrong secret", &wrong_secret, &good, &["token.wrong_secret"]).await;

    certificate(&world.provision(&token, &good).await);
    refused("other key", &token, &key(), &["token.other_key", "alert token.other_key"]).await;

    let device = world.device("b").await;
    let token = world.token_for(&device, 2, Duration::from_secs(60), false).await;
    world.clock.advance(Duration::from_secs(61));
    refused("expired", &token, &key(), &["token.expired"]).await;

    let device = world.device("c").await;
    let token = world.token(&device, 3).await;
    let spent = key();
    world.connect(&certificate(&world.provision(&token, &spent).await)).await;
    refused("spent", &token, &spent, &["token.spent", "alert token.spent"]).await;

    let device = world.device("d").await;
    let token = world.token(&device, 4).await;
    world.store.token_revoke(&token_parts(4).0, "test", world.now()).await.unwrap();
    refused("revoked", &token, &key(), &["token.revoked"]).await;

    let device = world.device("e").await;
    let token = world.token(&device, 5).await;
    world.store.suspend_device(&device, "test", world.now()).await.unwrap();
    refused("suspended", &token, &key(), &["token.device_denied"]).await;

    assert_eq!(bodies.len(), 7);
    for body in &bodies {
        assert_eq!(body, &bodies[0]);
    }
}

#[tokio::test]
async fn malformed_requests_are_told_what_and_where_and_leave_nothing_behind() {
    let world = World::with(Settings {
        failures: FailureLimits { burst: 1000, ..FailureLimits::default() },
        ..Settings::default()
    })
    .await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    let secret = token_parts(1).1;
    let good = csr_pem(&key(), "");
    let mut tampered = Csr::parse_pem(&good).unwrap().der().to_vec();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let tampered = x509::pem::encode("CERTIFICATE REQUEST", &tampered);
    for (body, place, detail) in [
        (json!({"csr": good}), "token", "token: missing; expected a text"),
        (json!({"token": 5, "csr": good}), "token", "token: not a text"),
        (json!({"token": "", "csr": good}), "token", "token: empty; expected bw1.<id>.<secret>"),
        (json!({"token": "abc", "csr": good}), "token", "token: 3 bytes; expected 57, as bw1.<id>.<secret>"),
        (json!({"token": format!("{token}@h:1#sha256:00"), "csr": good}), "token", "token: a whole bundle;"),
        (json!({"token": token}), "csr", "csr: missing; expected a text"),
        (json!({"token": token, "csr": {"a": 1}}), "csr", "csr: not a text"),
        (json!({"token": token, "csr": "hello world"}), "csr", "csr: neither PEM nor the base64 of DER"),
        (json!({"token": token, "csr": "aGVsbG8="}), "csr", "csr: "),
        (json!({"token": token, "csr": "A".repeat(30_000)}), "csr", "csr: 30000 bytes; limit"),
        (json!({"token": token, "csr": tampered}), "csr", "csr: "),
        (json!({"token": token, "csr": world.pki.root().certificate().to_pem()}), "csr", "csr: "),
        (json!({"token": token, "csr": csr_pem(&key(), "admin")}), "csr", "csr: request names \"admin\""),
        (json!([token]), "body", "body: not a JSON object"),
        (json!(token), "body", "body: not a JSON object"),
    ] {
        let answer = world.post(&body).await;
        let (status, _, said) = answer.problem();
        assert_eq!(status, 400, "{body}");
        assert!(said.starts_with(detail), "{said}");
        assert_eq!(answer.json()["place"], place, "{body}");
        assert!(!answer.text().contains(&secret), "{}", answer.text());
        let heard = world.ear.take();
        assert!(matches!(heard.as_slice(), [Event::TokenRefused { .. }]), "{body}: {heard:?}");
        assert!(!format!("{heard:?}").contains(&secret));
    }
    // The token is untouched.
    certificate(&world.provision(&token, &key()).await);
}

#[tokio::test]
async fn a_body_that_is_no_json_names_line_and_column_and_never_its_content() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    for (text, said) in [
        ("", "body: EOF while parsing a value at line 1 column 0"),
        (&*format!("{{\"token\": \"{token}\",\n oops}}"), "body: key must be a string at line 2 column 2"),
    ] {
        let request = Request::post("/provision").body(axum::body::Body::from(text.to_owned())).unwrap();
        let answer = send(&world.router, request).await;
        assert_eq!(answer.problem(), (400, "request.malformed".to_owned(), said.to_owned()));
    }
    assert_eq!(world.ear.reasons(), ["request.malformed", "request.malformed"]);
}

#[tokio::test]
async fn size_type_and_method_are_refused_by_name() {
    let world = World::new().await;
    let send_body = async |body: String, content_type: &str| {
        let request = Request::post("/provision")
            .header("content-type", content_type)
            .body(axum::body::Body::from(body))
            .unwrap();
        send(&world.router, request).await.problem()
    };
    assert_eq!(
        send_body("x".repeat(65_537), "application/json").await,
        (413, "request.too_large".into(), "body: more than 65536 bytes".into())
    );
    assert_eq!(send_body("x".repeat(65_536), "application/json").await.0, 400);
    assert_eq!(
        send_body("{}".into(), "application/x-www-form-urlencoded").await,
        (
            415,
            "request.media_type".into(),
            "header content-type: \"application/x-www-form-urlencoded\"; expected application/json".into()
        )
    );
    assert_eq!(send_body("{}".into(), "Application/JSON; charset=utf-8").await.0, 400);
    assert_eq!(
        world.ear.reasons(),
        ["request.too_large", "request.malformed", "request.media_type", "request.malformed"]
    );
    let answer = world.get("/provision").await;
    assert_eq!(answer.problem().0, 405);
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(world.get("/nowhere").await.problem().0, 404);
    let request = request(Method::DELETE, "/ca/bundle", None);
    assert_eq!(send(&world.router, request).await.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn a_key_of_another_device_and_a_name_that_a_rule_bears_are_conflicts() {
    let world = World::new().await;
    let (a, b) = (world.device("a").await, world.device("b").await);
    let shared = key();
    certificate(&world.provision(&world.token(&a, 1).await, &shared).await);
    let token = world.token(&b, 2).await;
    let (status, code, detail) = world.provision(&token, &shared).await.problem();
    assert_eq!((status, code.as_str()), (409, "ca.key_shared"));
    assert!(!detail.contains("\"a\""), "whose key it is, is not told: {detail}");
    assert_eq!(world.ear.reasons(), ["ca.key_shared"]);
    // The rule came after the device: the certificate is refused all the same.
    world.rules("user B\ntopic read #\n");
    let (status, code, _) = world.provision(&token, &key()).await.problem();
    assert_eq!((status, code.as_str()), (409, "ca.name_in_rules"));
    assert_eq!(world.ear.reasons(), ["ca.name_in_rules"]);
    world.rules("");
    certificate(&world.provision(&token, &key()).await);
}

#[tokio::test]
async fn a_clock_before_the_store_or_the_build_issues_nothing_and_says_why() {
    let world = World::with(Settings { built_at: Wall(START.0 - 1000), ..Settings::default() }).await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    for wall in [Wall(0), Wall(START.0 - 1001)] {
        world.clock.set_wall(wall);
        let answer = world.provision(&token, &key()).await;
        let (status, code, detail) = answer.problem();
        assert_eq!((status, code.as_str()), (503, "clock.unsound"));
        assert!(detail.starts_with(&format!("the clock shows {wall}, which is before ")), "{detail}");
        assert_eq!(answer.header("retry-after"), "60");
    }
    // The log hears of it once, however many ask.
    assert_eq!(world.ear.reasons(), ["clock.unsound"]);
    world.clock.set_wall(START);
    certificate(&world.provision(&token, &key()).await);
    // What the store has seen is a floor too.
    world.store.note_time(Wall(START.0 + 3_600_000)).await.unwrap();
    let answer = world.provision(&token, &key()).await;
    assert_eq!(answer.problem().1, "clock.unsound");
}

#[tokio::test]
async fn failures_are_limited_by_address_and_a_valid_token_never_is() {
    let world = World::with(Settings {
        failures: FailureLimits { per_minute: 6, burst: 3, addresses_max: 64 },
        ..Settings::default()
    })
    .await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    let (id, secret) = token_parts(99);
    let bad = json!({"token": format!("bw1.{id}.{secret}"), "csr": csr_pem(&key(), "")});
    let from = "[2001:db8::1]:9";
    for _ in 0..3 {
        assert_eq!(world.post_from(from, &bad).await.problem().0, 403);
    }
    let limited = world.post_from("[2001:db8::ffff:2]:9", &bad).await;
    assert_eq!(limited.problem().1, "enroll.limited");
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, "10"));
    // Each was noted, the limited one too.
    assert_eq!(world.ear.reasons().len(), 4);
    assert_eq!(world.post_from("[2001:db8:0:1::1]:9", &bad).await.problem().0, 403);
    let good = json!({"token": token, "csr": csr_pem(&key(), "")});
    certificate(&world.post_from(from, &good).await);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.post_from(from, &bad).await.problem().0, 403);
    assert_eq!(world.post_from(from, &bad).await.problem().0, 429);
}

#[tokio::test]
async fn alerts_of_one_address_are_bounded_so_that_a_stolen_token_cannot_fill_the_log() {
    let world = World::with(Settings {
        failures: FailureLimits { per_minute: 1, burst: 2, addresses_max: 64 },
        ..Settings::default()
    })
    .await;
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    certificate(&world.provision(&token, &key()).await);
    for _ in 0..5 {
        world.provision(&token, &key()).await;
    }
    let reasons = world.ear.reasons();
    assert_eq!(reasons.iter().filter(|reason| *reason == "token.other_key").count(), 5);
    assert_eq!(reasons.iter().filter(|reason| *reason == "alert token.other_key").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_spent_twice_at_once_yields_one_certificate() {
    let world = std::sync::Arc::new(World::new().await);
    let device = world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    // Eight requests with one key, eight with another, all at once.
    let keys = [key(), key()].map(|key| csr_pem(&key, ""));
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..16 {
        let (world, body) = (world.clone(), json!({"token": token, "csr": keys[at % 2]}));
        tasks.spawn(async move { (at % 2, world.post_from(&format!("192.0.2.{at}:1"), &body).await) });
    }
    let mut certificates = std::collections::BTreeSet::new();
    let mut winners = std::collections::BTreeSet::new();
    let mut refused = 0;
    while let Some(done) = tasks.join_next().await {
        let (which, answer) = done.unwrap();
        match answer.status.as_u16() {
            200 => {
                winners.insert(which);
                certificates.insert(answer.json()["certificate"].as_str().unwrap().to_owned());
            }
            403 => refused += 1,
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!((certificates.len(), winners.len(), refused), (1, 1, 8));
    let row = world.store.device(&device).await.unwrap().unwrap();
    assert_eq!(row.certificates.len(), 1);
    assert_eq!(world.ear.reasons().iter().filter(|reason| *reason == "token.other_key").count(), 8);
}

/// Polls a future so many times and then drops it: the power goes off.
struct PowerLoss<F> {
    flow: Pin<Box<F>>,
    polls_left: usize,
}

impl<F: Future> Future for PowerLoss<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.flow.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if self.polls_left == 0 {
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        Poll::Pending
    }
}

#[tokio::test]
async fn a_loss_of_power_at_any_step_recovers_to_one_certificate() {
    let peer: IpAddr = "192.0.2.9".parse().unwrap();
    let mut world = World::new().await;
    let (mut cut, mut unfinished, mut whole) = (0, 0, false);
    for run in 0..240_u8 {
        let polls = run % 9;
        let device = world.device(&format!("device-{run}")).await;
        let token = world.token(&device, run).await;
        let key = key();
        let body = Bytes::from(json!({"token": token, "csr": csr_pem(&key, "")}).to_string());
        let flow = provision(&world.enroll, peer, &body);
        let lost = PowerLoss { flow: Box::pin(flow), polls_left: usize::from(polls) }.await;
        match lost {
            None => cut += 1,
            Some(done) => {
                done.unwrap();
                whole = true;
            }
        }
        // Every other time the machine starts anew; else only the connection broke off.
        if run % 2 == 0 {
            world = world.reopened();
            unfinished += world.store.unfinished_intents().await.unwrap().len();
            recover_intents(&world.enroll).await.unwrap();
            assert_eq!(world.store.unfinished_intents().await.unwrap().len(), 0);
        }
        world.ear.take();
        let first = world.provision(&token, &key).await;
        assert_eq!(first.status, 200, "after {polls} polls: {:?}", world.ear.take());
        let first = certificate(&first);
        let again = certificate(&world.provision(&token, &key).await);
        assert_eq!(first.der(), again.der(), "after {polls} polls");
        assert_eq!(first.common_names(), [device.as_str()]);
        let row = world.store.device(&device).await.unwrap().unwrap();
        assert_eq!(row.certificates.len(), 1, "after {polls} polls");
        assert_eq!(row.certificates[0].der_hash, first.der_hash());
        let other = common::key();
        assert_eq!(world.provision(&token, &other).await.problem().0, 403);
        if whole && cut >= 20 && unfinished >= 3 {
            break;
        }
    }
    assert!(cut >= 20, "only {cut} runs were cut");
    assert!(unfinished >= 1, "no run was cut between intent and record");
    assert!(whole, "no run came to its end");
}

#[tokio::test]
async fn an_intent_that_a_crash_left_is_signed_again_with_the_same_serial() {
    let mut world = World::new().await;
    // Which poll falls between intent and record depends on the store's threads: try until one does.
    let mut found = None;
    for run in 0..240_u8 {
        let device = world.device(&format!("device-{run}")).await;
        let token = world.token(&device, run).await;
        let key = key();
        let body = Bytes::from(json!({"token": token, "csr": csr_pem(&key, "")}).to_string());
        let flow = provision(&world.enroll, "192.0.2.9".parse().unwrap(), &body);
        PowerLoss { flow: Box::pin(flow), polls_left: usize::from(run % 9) }.await;
        world = world.reopened();
        if let Some(intent) = world.store.unfinished_intents().await.unwrap().pop() {
            found = Some((intent.receipt.cert().serial, token, key));
            break;
        }
    }
    let (serial, token, key) = found.expect("a run that was cut between intent and record");
    // A machine whose clock is not set yet starts all the same, and leaves the intent for later.
    let sound = world.now();
    world.clock.set_wall(Wall::from_secs(0));
    assert_eq!(recover_intents(&world.enroll).await.unwrap(), 0);
    assert_eq!(world.store.unfinished_intents().await.unwrap().len(), 1);
    world.clock.set_wall(sound.wall);
    // Without recovery at the start, the device's own retry finishes it.
    let certificate = certificate(&world.provision(&token, &key).await);
    assert_eq!(certificate.serial(), serial);
    assert_eq!(recover_intents(&world.enroll).await.unwrap(), 0);
}

#[tokio::test]
async fn a_replacing_token_revokes_the_old_certificate_at_the_first_connection() {
    let world = World::new().await;
    let device = world.device("pump-7").await;
    let old = certificate(&world.provision(&world.token(&device, 1).await, &key()).await);
    world.connect(&old).await;
    let token = world.token_for(&device, 2, Duration::from_secs(600), true).await;
    let new = certificate(&world.provision(&token, &key()).await);
    let states = async || -> Vec<CertState> {
        let row = world.store.device(&device).await.unwrap().unwrap();
        row.certificates.iter().map(|row| row.state).collect()
    };
    assert_eq!(states().await, [CertState::Active, CertState::Unconfirmed]);
    world.connect(&new).await;
    assert_eq!(states().await, [CertState::Revoked, CertState::Active]);
}

#[tokio::test]
async fn no_secret_is_in_any_event_and_no_event_is_without_its_device() {
    let world = World::new().await;
    let device = DeviceId::parse("pump-7").unwrap();
    world.device("pump-7").await;
    let token = world.token(&device, 1).await;
    certificate(&world.provision(&token, &key()).await);
    world.provision(&token, &key()).await;
    let heard = world.ear.take();
    let recorded = world.store.events_unchained(100).await.unwrap();
    let all = format!("{heard:?}{recorded:?}");
    assert!(!all.contains(&token_parts(1).1));
    assert!(all.contains(&token_parts(1).0));
    let [Event::TokenRefused { peer, token_id, device, reason }, Event::Alert { detail, .. }] =
        heard.as_slice()
    else {
        panic!("{heard:?}");
    };
    assert_eq!((peer.as_str(), token_id.as_deref()), ("192.0.2.9", Some(token_parts(1).0.as_str())));
    assert_eq!((device.as_deref(), reason.as_str()), (Some("pump-7"), "token.other_key"));
    assert_eq!(
        detail,
        &format!(
            "token {} for \"pump-7\" was presented by 192.0.2.9 with another key than the one that it is bound to",
            token_parts(1).0
        )
    );
}
