use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use audit::{Event, Observer};
use ca::{CrlSchedule, Issuer};
use policy::Table;
use signer::{BundleKey, IssuingKey};
use store::Store;
use tokio::sync::{MutexGuard, watch};
use types::{Clock, Entropy, IssuerId, Now, PrincipalKind, Serial};
use x509::Certificate;

use crate::bundle::Bundle;
use crate::error::EnrollError;
use crate::limits::{Failure, FailureCounter};
use crate::settings::{FailureLimits, Settings};
use crate::shelf::Shelf;

/// What enrolment is given by the server.
pub struct Deps {
    /// Facts and intents.
    pub store: Store,
    /// The issuing CAs, each with the key that only this crate holds.
    pub issuers: Vec<(Issuer, IssuingKey)>,
    /// The root certificates, newest first.
    pub roots: Vec<Certificate>,
    /// Signs the CA bundle.
    pub bundle_key: BundleKey,
    /// The topic rules: a device may not bear a name that they bear.
    pub policy: watch::Receiver<Arc<Table>>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Where serial numbers come from.
    pub entropy: Arc<Mutex<dyn Entropy>>,
    /// Where refusals and publications are noted.
    pub observer: Arc<dyn Observer>,
    /// How it behaves.
    pub settings: Settings,
}

const GATES: usize = 64;

/// Enrolment: the only holder of issuing keys.
pub struct Enroll {
    pub(crate) deps: Deps,
    pub(crate) failures: FailureCounter,
    /// Limits what one address can write into the chained log.
    alerts: FailureCounter,
    clock_alerts: FailureCounter,
    pub(crate) bundle: Bundle,
    pub(crate) schedule: CrlSchedule,
    pub(crate) shelf: Shelf,
    gates: Vec<tokio::sync::Mutex<()>>,
}

impl Enroll {
    /// Takes what the server wired, and signs the CA bundle.
    ///
    /// # Errors
    /// There is no root, a key is not its issuer's, or the bundle cannot be signed.
    pub fn new(deps: Deps) -> Result<Arc<Self>, EnrollError> {
        if deps.roots.is_empty() {
            return Err(EnrollError::Wiring("no root certificate".to_owned()));
        }
        for (issuer, key) in &deps.issuers {
            if issuer.certificate.issuer_id_as_ca() != key.issuer() {
                let label = &issuer.label;
                return Err(EnrollError::Wiring(format!("the key for \"{label}\" is not its certificate's")));
            }
        }
        let bundle =
            Bundle::make(&deps.roots, deps.issuers.iter().map(|(issuer, _)| issuer), &deps.bundle_key)?;
        let schedule = CrlSchedule::new(deps.settings.crl.period, deps.settings.crl.validity)
            .map_err(|error| EnrollError::Wiring(error.to_string()))?;
        let failures = FailureCounter::new(deps.settings.failures);
        let alerts = FailureCounter::new(deps.settings.failures);
        let clock_alerts = FailureCounter::new(FailureLimits { per_minute: 1, burst: 1, addresses_max: 1 });
        let gates = (0..GATES).map(|_| tokio::sync::Mutex::new(())).collect();
        Ok(Arc::new(Self {
            deps,
            failures,
            alerts,
            clock_alerts,
            bundle,
            schedule,
            shelf: Shelf::default(),
            gates,
        }))
    }

    pub(crate) fn now(&self) -> Now {
        self.deps.clock.now()
    }

    /// The time, if it is to be believed: not before this program was built, nor before the
    /// latest date that the store has seen.
    pub(crate) fn sound_now(&self) -> Result<Now, EnrollError> {
        let now = self.now();
        let floor = self.deps.settings.built_at.max(self.deps.store.time_floor());
        if now.wall >= floor {
            return Ok(now);
        }
        // Anybody can ask while the clock is wrong; the chained log needs to hear of it now and then.
        if self.clock_alerts.count(IpAddr::V4(Ipv4Addr::UNSPECIFIED), now.mono) == Failure::Within {
            let event = Event::ClockUnsound { wall: now.wall.to_string(), floor: floor.to_string() };
            self.deps.observer.note(event);
        }
        Err(EnrollError::ClockUnsound { wall: now.wall, floor })
    }

    /// Tells the operator, unless this address has filled enough of the chained log, in which every
    /// alert is kept.
    pub(crate) fn alert(&self, peer: IpAddr, event: Event, now: Now) {
        if self.alerts.count(peer, now.mono) == Failure::Within {
            self.deps.observer.note(event);
        }
    }

    /// A fresh serial number.
    pub(crate) fn serial(&self) -> Serial {
        let mut random = [0; 20];
        self.deps.entropy.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut random);
        Serial::from_random(random)
    }

    /// Requests with the same `name` go one after another, so that two of them at once cannot sign
    /// one recorded intent twice.
    pub(crate) async fn gate(&self, name: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        // The remainder is below the number of gates, so it fits and is in bounds.
        let at = usize::try_from(hasher.finish() % GATES as u64).unwrap_or_default();
        self.gates[at].lock().await
    }

    /// The CA and the key for principals of `kind`.
    pub(crate) fn issuer_for(&self, kind: PrincipalKind) -> Result<&(Issuer, IssuingKey), EnrollError> {
        let found = self.deps.issuers.iter().find(|(issuer, _)| issuer.kinds.contains(&kind));
        found.ok_or(EnrollError::NoIssuer { what: kind.as_str() })
    }

    /// The CA and the key for server certificates.
    pub(crate) fn issuer_for_servers(&self) -> Result<&(Issuer, IssuingKey), EnrollError> {
        let found = self.deps.issuers.iter().find(|(issuer, _)| issuer.servers);
        found.ok_or(EnrollError::NoIssuer { what: "server" })
    }

    /// The CA and the key that have this id.
    pub(crate) fn issuer(&self, id: IssuerId) -> Option<&(Issuer, IssuingKey)> {
        self.deps.issuers.iter().find(|(issuer, _)| issuer.certificate.issuer_id_as_ca() == id)
    }

    /// The CA certificates above a certificate that `issuer` signed, as PEM: the CA, then its root.
    pub(crate) fn chain_of(&self, issuer: &Issuer) -> String {
        let mut chain = issuer.certificate.to_pem();
        let signed_by = |root: &&Certificate| root.subject_der() == issuer.certificate.issuer_der();
        for root in self.deps.roots.iter().filter(signed_by) {
            chain.push_str(&root.to_pem());
        }
        chain
    }
}
