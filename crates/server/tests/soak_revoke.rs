//! Revokes random devices under load. Invariant 2 of DESIGN.md: after a revocation is answered, nothing more
//! from or to that certificate is delivered, and it does not come back.
//! `BAILIWICK_SOAK=long` runs for minutes; `BAILIWICK_SEED` repeats a run.

#[cfg(test)]
mod common;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::json;
    use testkit::Seeded;
    use tls::Connector;
    use tokio::sync::{mpsc, oneshot, watch};
    use tokio::time::{Instant, timeout};
    use types::Entropy;

    use crate::common::wire::{Message, Wire};
    use crate::common::*;

    const WITHIN: Duration = Duration::from_secs(60);
    /// One reads all; each device writes its telemetry and reads its commands.
    const RULES: &str = "user soak-backend\ntopic read #\ntopic write devices/+/commands/#\n";

    struct Plan {
        devices: usize,
        revocations: usize,
        within: Duration,
    }

    fn plan() -> Plan {
        match std::env::var("BAILIWICK_SOAK").as_deref() {
            Ok("long") => Plan { devices: 200, revocations: 180, within: Duration::from_secs(280) },
            _ => Plan { devices: 16, revocations: 8, within: Duration::from_secs(60) },
        }
    }

    fn seed() -> u64 {
        let given = std::env::var("BAILIWICK_SEED").ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| {
            let mut random = [0; 8];
            signer::SystemEntropy.fill(&mut random);
            u64::from_be_bytes(random)
        })
    }

    fn below(random: &mut Seeded, end: usize) -> usize {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        usize::try_from(u64::from_be_bytes(bytes) % u64::try_from(end).unwrap()).unwrap()
    }

    /// A device that publishes as fast as it is acknowledged and counts what it is sent, until its
    /// connection ends.
    struct Device {
        name: String,
        connector: Connector,
        sent: Arc<AtomicU64>,
        received: Arc<AtomicU64>,
        ended: oneshot::Receiver<String>,
        revoked: bool,
    }

    impl Device {
        async fn start(place: &Place, at: SocketAddr, name: String, stop: watch::Receiver<bool>) -> Self {
            let connector = place.connector(Some(place.device(&name).await.identity()), &[]);
            let mut wire = Wire::open(&connector, at, &name).await.unwrap();
            assert_eq!(wire.subscribe(&format!("devices/{name}/commands/#")).await, Ok(1));
            let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (tell, ended) = oneshot::channel();
            let (count, heard, topic) =
                (sent.clone(), received.clone(), format!("devices/{name}/telemetry/environment"));
            tokio::spawn(async move {
                let how = loop {
                    if *stop.borrow() {
                        break "stopped".to_owned();
                    }
                    let seq = count.load(Ordering::SeqCst) + 1;
                    if let Err(how) = wire.publish(&topic, &format!("{{\"seq\":{seq},\"boot\":1}}")).await {
                        break how;
                    }
                    count.store(seq, Ordering::SeqCst);
                    let commands = match wire.message(Duration::from_millis(5)).await {
                        Ok(found) => u64::from(found.is_some()),
                        Err(how) => break how,
                    };
                    heard.fetch_add(commands, Ordering::SeqCst);
                };
                let _ = tell.send(how);
            });
            Self { name, connector, sent, received, ended, revoked: false }
        }
    }

    /// What the backend was given: how much in all, and of each topic the place of the newest.
    #[derive(Default)]
    struct Heard {
        total: usize,
        newest: BTreeMap<String, usize>,
    }

    impl Heard {
        fn keep(&mut self, message: Message) {
            self.total += 1;
            self.newest.insert(message.topic, self.total);
        }
    }

    /// The backend: commands everybody all the time, and remembers who was heard when.
    struct Backend {
        heard: Arc<Mutex<Heard>>,
        fence: mpsc::Sender<oneshot::Sender<usize>>,
    }

    impl Backend {
        async fn start(
            place: &Place,
            at: SocketAddr,
            names: Vec<String>,
            stop: watch::Receiver<bool>,
        ) -> Self {
            let made = place.principal("/api/v1/services", "soak-backend").await;
            let connector = place.connector(Some(made.identity()), &[]);
            let mut reader = Wire::open(&connector, at, "reader").await.unwrap();
            let mut writer = Wire::open(&connector, at, "writer").await.unwrap();
            assert_eq!(reader.subscribe("devices/#").await, Ok(1));
            let heard = Arc::new(Mutex::new(Heard::default()));
            let (fence, mut fences) = mpsc::channel::<oneshot::Sender<usize>>(1);
            let (kept, stopped) = (heard.clone(), stop.clone());
            tokio::spawn(async move {
                while !*stopped.borrow() {
                    match reader.message(Duration::from_millis(20)).await {
                        Ok(Some(message)) => kept.lock().unwrap().keep(message),
                        Ok(None) => {}
                        Err(how) => return assert!(*stopped.borrow(), "the reader: {how}"),
                    }
                    if let Ok(reached) = fences.try_recv() {
                        // All that the broker had sent to us before this is here.
                        let before = reader.settled().await.unwrap();
                        let mut kept = kept.lock().unwrap();
                        before.into_iter().for_each(|message| kept.keep(message));
                        let _ = reached.send(kept.total);
                    }
                }
            });
            tokio::spawn(async move {
                for at in 0.. {
                    if *stop.borrow() {
                        return;
                    }
                    let name: &String = &names[at % names.len()];
                    if let Err(how) = writer.publish(&format!("devices/{name}/commands/interval"), "x").await
                    {
                        return assert!(*stop.borrow(), "the writer: {how}");
                    }
                }
            });
            Self { heard, fence }
        }

        /// How many messages there are once everything that was on its way is here.
        async fn settled(&self) -> usize {
            let (reached, all) = oneshot::channel();
            self.fence.send(reached).await.unwrap();
            timeout(WITHIN, all).await.unwrap().unwrap()
        }

        /// Whether a message of a device came after a place.
        fn heard_of(&self, name: &str, after: usize) -> bool {
            let topic = format!("devices/{name}/telemetry/environment");
            self.heard.lock().unwrap().newest.get(&topic).is_some_and(|newest| *newest > after)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_revocation_is_answered_nothing_of_that_certificate_is_delivered() {
        let (plan, seed) = (plan(), seed());
        println!("soak revoke: seed {seed}");
        let mut random = Seeded::new(seed);
        let started = Instant::now();
        let place = Place::with(free(), &[("soak.acl", RULES)]).await;
        let (running, log) = place.serve().await;
        let at = running.addresses().mqtt;
        let (stop, stopped) = watch::channel(false);
        let names: Vec<String> = (0..plan.devices).map(|number| format!("soak-{number}")).collect();
        let backend = Backend::start(&place, at, names.clone(), stopped.clone()).await;
        let mut devices = Vec::new();
        for name in names {
            devices.push(Device::start(&place, at, name, stopped.clone()).await);
        }
        let (mut revoked, mut checked, mut refused) = (0_usize, 0_usize, 0_usize);
        while revoked < plan.revocations && started.elapsed() < plan.within {
            // 1. Whom, among those that are left; now and then several at once.
            let left: Vec<usize> = (0..devices.len()).filter(|at| !devices[*at].revoked).collect();
            let first = left[below(&mut random, left.len())];
            let mut victims = vec![first];
            if below(&mut random, 3) == 0 {
                victims.extend(left.into_iter().filter(|at| *at != first).take(1 + below(&mut random, 2)));
            }
            // 2. The revocations, and the place in the stream after each answer.
            for &victim in &victims {
                let name = &devices[victim].name;
                let path = format!("/api/v1/devices/{name}/revoke");
                let answer = place.must(&path, &json!({"reason": "keyCompromise"})).await;
                assert_eq!(answer["lagging"], json!([]), "seed {seed}: {answer}");
                assert_eq!(answer["sessions_closed"], 1, "seed {seed}: {answer}");
            }
            let settled = backend.settled().await;
            // 3. The session is over for the device too, and from here on its counters stand still.
            let mut stands = Vec::new();
            for &victim in &victims {
                let device = &mut devices[victim];
                device.revoked = true;
                timeout(WITHIN, &mut device.ended).await.expect("the session ends").unwrap();
                stands.push((device.sent.load(Ordering::SeqCst), device.received.load(Ordering::SeqCst)));
            }
            // 4. It does not come back.
            for &victim in &victims {
                let again = Wire::open(&devices[victim].connector, at, &devices[victim].name).await;
                assert!(again.is_err(), "seed {seed}: {} came back", devices[victim].name);
                refused += 1;
            }
            // 5. Nothing of it was heard after the answer, and nothing reached it.
            let end = backend.settled().await;
            for (&victim, stood) in victims.iter().zip(stands) {
                let device = &devices[victim];
                assert!(!backend.heard_of(&device.name, settled), "seed {seed}: {}", device.name);
                let stands = (device.sent.load(Ordering::SeqCst), device.received.load(Ordering::SeqCst));
                assert_eq!(stands, stood, "seed {seed}: {}", device.name);
            }
            checked += end - settled;
            revoked += victims.len();
        }
        // 6. Those that were spared go on.
        let live: Vec<&Device> = devices.iter().filter(|device| !device.revoked).collect();
        for device in &live {
            let before = device.sent.load(Ordering::SeqCst);
            let goes_on = async {
                while device.sent.load(Ordering::SeqCst) == before {
                    tokio::task::yield_now().await;
                }
            };
            timeout(WITHIN, goes_on).await.expect("a device that was spared goes on");
        }
        stop.send(true).unwrap();
        let sent: u64 = devices.iter().map(|device| device.sent.load(Ordering::SeqCst)).sum();
        let commands: u64 = devices.iter().map(|device| device.received.load(Ordering::SeqCst)).sum();
        let heard = backend.heard.lock().unwrap().total;
        running.stop("test").await;
        let logged = log.text().lines().filter(|line| line.contains("\"trust.revoked\"")).count();
        assert!(logged >= revoked + refused, "seed {seed}: {logged} of {}", revoked + refused);
        assert!(commands > 0 && heard > 0, "seed {seed}: nothing flowed");
        println!(
            "soak revoke: seed {seed}: {} devices, {revoked} revoked, {refused} reconnects refused, {} go on; \
             {sent} sent, {heard} heard, {commands} commands; {checked} messages after an answer, 0 of a revoked one",
            devices.len(),
            live.len()
        );
    }
}
