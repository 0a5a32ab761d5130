//! Cuts the power at random steps of many first boots, of the device and of the server. Invariant 3 of
//! DESIGN.md: a token yields at most one live key, and no device is locked out.
//! `BAILIWICK_SOAK=long` runs for minutes; `BAILIWICK_SEED` repeats a run.
#![expect(clippy::unwrap_used, reason = "a step that a test cannot take has to fail it at once")]

mod common;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::*;
use enroll::{EnrollError, Provisioned, provision, recover_intents};
use serde_json::json;
use signer::{FileKey, RawSigner};
use store::NewToken;
use testkit::Seeded;
use tokio::time::Instant;
use types::{DeviceId, Entropy};
use x509::Certificate;

/// A device as its flash holds it: the key is there before anything is asked for.
struct Device {
    id: DeviceId,
    token: String,
    key: FileKey,
    certificate: Option<Certificate>,
    connected: bool,
}

#[derive(Default)]
struct Counts {
    asked: usize,
    cut: usize,
    restarts: usize,
    unfinished: usize,
    thieves: usize,
    connected: usize,
}

fn seed() -> u64 {
    let given = std::env::var("BAILIWICK_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let mut random = [0; 8];
        signer::SystemEntropy.fill(&mut random);
        u64::from_be_bytes(random)
    })
}

/// Lets a flow be polled a number of times, and then takes it away.
struct PowerLoss<F> {
    flow: Pin<Box<F>>,
    polls_left: u64,
}

impl<F: Future> Future for PowerLoss<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.flow.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if self.polls_left == 0 {
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        Poll::Pending
    }
}

async fn registered(world: &World, number: usize) -> Device {
    let id = world.device(&format!("device-{number}")).await;
    let (token_id, secret) = (format!("{number:026}"), format!("s{number:025}"));
    let new = NewToken {
        id: token_id.clone(),
        secret_hash: x509::sha256(secret.as_bytes()),
        device: id.clone(),
        expires_at: world.now().wall.plus(Duration::from_secs(86_400)),
        replace: false,
    };
    world.store.token_create(new, "test", world.now()).await.unwrap();
    Device { id, token: format!("bw1.{token_id}.{secret}"), key: key(), certificate: None, connected: false }
}

/// One request with a key; `None` when the power went first.
async fn ask(
    world: &World,
    device: &Device,
    key: &FileKey,
    polls: u64,
) -> Option<Result<Provisioned, EnrollError>> {
    let peer: IpAddr = "192.0.2.9".parse().unwrap();
    let body = Bytes::from(json!({"token": device.token, "csr": csr_pem(key, "")}).to_string());
    let flow = provision(&world.enroll, peer, &body);
    PowerLoss { flow: Box::pin(flow), polls_left: polls }.await
}

/// What came back is for the device's own key, and always the same.
fn keep(device: &mut Device, provisioned: &Provisioned) {
    let certificate = Certificate::parse_pem(&provisioned.certificate).unwrap();
    assert_eq!(provisioned.device_id, device.id.as_str());
    assert_eq!(certificate.spki_der(), device.key.spki_der(), "{}: a certificate for another key", device.id);
    if let Some(known) = &device.certificate {
        assert_eq!(certificate.der(), known.der(), "{}: a second certificate for one token", device.id);
    }
    device.certificate = Some(certificate);
}

/// The token yields at most one key, whatever has happened so far.
async fn at_most_one_key(world: &World, device: &Device) {
    let rows = world.store.device(&device.id).await.unwrap().unwrap().certificates;
    assert!(rows.len() <= 1, "{}: {} certificates", device.id, rows.len());
    if let (Some(row), Some(certificate)) = (rows.first(), &device.certificate) {
        assert_eq!(row.cert.serial, certificate.serial(), "{}", device.id);
    }
}

#[tokio::test]
async fn no_loss_of_power_makes_a_second_key_or_locks_a_device_out() {
    const DEVICES_AT_ONCE: usize = 12;
    let (steps, within) = match std::env::var("BAILIWICK_SOAK").as_deref() {
        Ok("long") => (usize::MAX, Duration::from_secs(240)),
        _ => (4_000, Duration::from_secs(60)),
    };
    let seed = seed();
    println!("soak power: seed {seed}");
    let mut random = Seeded::new(seed);
    let started = Instant::now();
    let mut world = World::new().await;
    let (mut devices, mut made, mut counts) = (Vec::new(), 0, Counts::default());
    for _ in 0..steps {
        if started.elapsed() > within {
            break;
        }
        if devices.len() < DEVICES_AT_ONCE {
            devices.push(registered(&world, made).await);
            made += 1;
        }
        let at = usize::try_from(random.below(u64::try_from(devices.len()).unwrap())).unwrap();
        let device: &mut Device = &mut devices[at];
        match random.below(10) {
            // The device asks, and its power or its network goes at some step.
            0..=4 => {
                counts.asked += 1;
                let polls = random.below(8);
                let key = FileKey::from_pkcs8_der(device.key.pkcs8_der().expose()).unwrap();
                match ask(&world, device, &key, polls).await {
                    None => counts.cut += 1,
                    Some(Ok(provisioned)) if !device.connected => keep(device, &provisioned),
                    Some(Err(EnrollError::TokenRefused(_))) if device.connected => {}
                    Some(other) => panic!("seed {seed}: {}: {other:?}", device.id),
                }
            }
            // The server loses its power; what it had begun is finished when it is back.
            5 | 6 => {
                counts.restarts += 1;
                world = world.reopened();
                counts.unfinished += world.store.unfinished_intents().await.unwrap().len();
                if random.below(2) == 0 {
                    recover_intents(&world.enroll).await.unwrap();
                    assert_eq!(world.store.unfinished_intents().await.unwrap().len(), 0, "seed {seed}");
                }
            }
            // Somebody who has read the token off the label, once it is bound.
            7 => {
                let bound = device.certificate.is_some();
                if bound {
                    counts.thieves += 1;
                    let outcome = ask(&world, device, &key(), u64::MAX).await;
                    let refused = matches!(outcome, Some(Err(EnrollError::TokenRefused(_))));
                    assert!(refused, "seed {seed}: {}: {outcome:?}", device.id);
                }
            }
            // The first connection, if it has what it needs.
            8 => {
                if let Some(certificate) = &device.certificate {
                    world.connect(certificate).await;
                    counts.connected += usize::from(!std::mem::replace(&mut device.connected, true));
                }
            }
            // A device that is done makes room for another.
            _ => {
                if device.connected {
                    at_most_one_key(&world, device).await;
                    devices.swap_remove(at);
                    continue;
                }
            }
        }
        at_most_one_key(&world, &devices[at]).await;
    }
    // Every device that still waits recovers by asking once more, and is let in.
    world = world.reopened();
    for device in &mut devices {
        if !device.connected {
            let key = FileKey::from_pkcs8_der(device.key.pkcs8_der().expose()).unwrap();
            match ask(&world, device, &key, u64::MAX).await {
                Some(Ok(provisioned)) => keep(device, &provisioned),
                other => panic!("seed {seed}: {} is locked out: {other:?}", device.id),
            }
            world.connect(device.certificate.as_ref().unwrap()).await;
            counts.connected += 1;
        }
        at_most_one_key(&world, device).await;
    }
    assert_eq!(counts.connected, made, "seed {seed}");
    assert!(counts.cut > 0 && counts.thieves > 0 && counts.restarts > 0, "seed {seed}: nothing was cut");
    println!(
        "soak power: seed {seed}: {made} devices, {} requests, {} cut, {} restarts, {} unfinished found, \
         {} thieves refused; {} connected, 0 second keys, 0 locked out",
        counts.asked, counts.cut, counts.restarts, counts.unfinished, counts.thieves, counts.connected
    );
}
