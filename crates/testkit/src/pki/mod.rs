//! A whole hierarchy in memory: root, devices CA, services CA, servers CA, and leafs right and wrong.
//! In: a date, names. Out: certificates, keys, anchors, ledger entries, admitted peers.
//! Invariant: the right ones went through `ca::admit`, `prepare` and `finish`, a peer through `trust::admit`.
//! Never: writes a key anywhere but where a test asks.
//! Spec: RFC 5280; DESIGN.md section 3, rows "certificates" and "sub-CAs".

mod authority;
mod der;
mod leaf;
mod wrong;

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use ca::ceremony::{self, Hierarchy, RootWanted, SubWanted};
use ca::{Evidence, Facts, Issuer, RecordedTicket, Wanted};
use signer::{FileKey, IssuingKey, RawSigner as _};
use trust::{Admission, Anchor, CertState, DeniedSet, IdentitySource, RevokedSet, VerifiedPeer, View};
use types::{DeviceId, Entropy as _, Epoch, Mono, Now, PrincipalKind, Serial, SpkiHash, Wall};
use x509::{CaPurpose, Certificate, ChainError, Csr, KeyKind, SubjectTemplate, Usage, VerifiedChain};

pub use authority::Authority;
pub use leaf::{Leaf, LeafFiles};

use crate::clock::fixed_now;
use crate::entropy::Seeded;

const DAY: u64 = 86_400;
/// How long before the present the CAs were made, so that leafs can have expired under them.
const CAS_MADE_BEFORE: Duration = Duration::from_secs(2 * 365 * DAY);
/// How long a leaf lives if nobody says otherwise.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * DAY);

/// A root and its three CAs, with their keys.
pub struct Pki {
    now: Now,
    entropy: Mutex<Seeded>,
    root: Authority,
    devices: Authority,
    services: Authority,
    servers: Authority,
}

impl Pki {
    /// A hierarchy whose present is [`fixed_now`].
    #[must_use]
    pub fn fixed() -> Self {
        Self::at(fixed_now())
    }

    /// A hierarchy whose present is `wall`: what an outside judge with a real clock needs.
    #[must_use]
    pub fn new(wall: Wall) -> Self {
        Self::at(Now { mono: Mono(1_000_000_000), wall })
    }

    /// A hierarchy whose present is `now`.
    #[must_use]
    pub fn at(now: Now) -> Self {
        Self::seeded(now, 7)
    }

    /// Another installation whose CAs bear the same names, with keys of their own.
    #[must_use]
    pub fn foreign(&self) -> Self {
        Self::seeded(self.now, 8)
    }

    fn seeded(now: Now, seed: u64) -> Self {
        let mut entropy = Seeded::new(seed);
        let made = Now { wall: now.wall.minus(CAS_MADE_BEFORE), ..now };
        let root = make_root(&mut entropy, made);
        let clients = [PrincipalKind::Service, PrincipalKind::Operator];
        let devices = make_sub(&mut entropy, &root, "devices", &[PrincipalKind::Device], false, made);
        let services = make_sub(&mut entropy, &root, "services", &clients, false, made);
        let servers = make_sub(&mut entropy, &root, "servers", &[], true, made);
        Self { now, entropy: Mutex::new(entropy), root, devices, services, servers }
    }

    /// The present for which everything was made.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Authority {
        &self.root
    }

    /// The CA of the devices.
    #[must_use]
    pub fn devices(&self) -> &Authority {
        &self.devices
    }

    /// The CA of services and operators.
    #[must_use]
    pub fn services(&self) -> &Authority {
        &self.services
    }

    /// The CA of the servers.
    #[must_use]
    pub fn servers(&self) -> &Authority {
        &self.servers
    }

    /// The CA that signs for `kind`.
    #[must_use]
    pub fn authority(&self, kind: PrincipalKind) -> &Authority {
        match kind {
            PrincipalKind::Device => &self.devices,
            PrincipalKind::Service | PrincipalKind::Operator => &self.services,
        }
    }

    /// The root's certificate as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root.certificate().to_pem()
    }

    /// The hash by which a device pins the root.
    #[must_use]
    pub fn pin(&self) -> SpkiHash {
        self.root.certificate().spki_hash()
    }

    /// The three issuing CAs with their keys, as `enroll` holds them.
    #[must_use]
    pub fn issuers(&self) -> Vec<(Issuer, IssuingKey)> {
        [&self.devices, &self.services, &self.servers]
            .map(|authority| (authority.issuer().clone(), authority.issuing_key()))
            .into()
    }

    /// The anchors of an installation: all three issuing CAs, the servers CA for no kind.
    #[must_use]
    pub fn anchors(&self) -> Vec<Anchor> {
        [&self.devices, &self.services, &self.servers].map(Authority::anchor).into()
    }

    /// A view at epoch 1 with these anchors, in which nothing is revoked or denied.
    #[must_use]
    pub fn view(&self) -> View {
        let epoch = Epoch { incarnation: 0, counter: 1 };
        View::new(epoch, self.anchors(), RevokedSet::empty(), DeniedSet::empty())
            .expect("the three CAs are sound anchors")
    }

    /// A device's certificate, as enrolment makes it.
    #[must_use]
    pub fn device(&self, id: &str) -> Leaf {
        self.issue(Wanted::Device { id: name(id) }, KeyKind::P256, self.now, LEAF_LIFETIME)
    }

    /// A service's certificate.
    #[must_use]
    pub fn service(&self, id: &str) -> Leaf {
        self.issue(Wanted::Service { name: name(id) }, KeyKind::P256, self.now, LEAF_LIFETIME)
    }

    /// An operator's certificate.
    #[must_use]
    pub fn operator(&self, id: &str) -> Leaf {
        self.issue(Wanted::Operator { name: name(id) }, KeyKind::P256, self.now, LEAF_LIFETIME)
    }

    /// The certificate of a principal of any kind.
    #[must_use]
    pub fn principal(&self, kind: PrincipalKind, id: &str) -> Leaf {
        match kind {
            PrincipalKind::Device => self.device(id),
            PrincipalKind::Service => self.service(id),
            PrincipalKind::Operator => self.operator(id),
        }
    }

    /// A server's certificate for these host names and addresses.
    #[must_use]
    pub fn server(&self, dns: &[&str], ips: &[IpAddr]) -> Leaf {
        self.issue(server_wanted(dns, ips), KeyKind::P256, self.now, LEAF_LIFETIME)
    }

    /// What a test on the loopback interface needs: `localhost`, 127.0.0.1 and ::1.
    #[must_use]
    pub fn localhost(&self) -> Leaf {
        self.server(&["localhost"], &[[127, 0, 0, 1].into(), [0, 0, 0, 0, 0, 0, 0, 1_u16].into()])
    }

    /// Any leaf of ours: with a key of `kind`, made at `made`, living for `lifetime`.
    #[must_use]
    pub fn issue(&self, wanted: Wanted, kind: KeyKind, made: Now, lifetime: Duration) -> Leaf {
        let key = FileKey::generate(kind).expect("a key can be made");
        let common_name = common_name(&wanted);
        let request = signer::csr(&key, &common_name).expect("a name of ours fits in a request");
        let csr = Csr::parse_der(&request).expect("our own request is sound");
        let principal = wanted.principal();
        let authority = match &wanted {
            Wanted::Server { .. } => &self.servers,
            Wanted::Device { .. } | Wanted::Service { .. } | Wanted::Operator { .. } => {
                self.authority(principal.as_ref().map_or(PrincipalKind::Device, |principal| principal.kind))
            }
        };
        let certificate = self.certify(authority, csr, wanted, made, lifetime);
        Leaf::new(authority, certificate.der().to_vec(), key, principal)
    }

    /// A certificate for a device's own request: what a test of the device's side needs.
    #[must_use]
    pub fn certify_device(&self, csr: Csr, id: &str) -> Certificate {
        self.certify(&self.devices, csr, Wanted::Device { id: name(id) }, self.now, LEAF_LIFETIME)
    }

    /// The real line: admit, prepare, record, sign, finish. There is no store; the ticket's own
    /// intent stands for the receipt.
    fn certify(
        &self,
        authority: &Authority,
        csr: Csr,
        wanted: Wanted,
        made: Now,
        lifetime: Duration,
    ) -> Certificate {
        let facts = Facts { registered: wanted.principal().map(|p| p.kind), ..Facts::default() };
        let evidence = match &wanted {
            Wanted::Device { id } => {
                Evidence::ProvisioningToken { device: id.clone(), token_id: "testkit".to_owned() }
            }
            Wanted::Service { .. } | Wanted::Operator { .. } | Wanted::Server { .. } => Evidence::Ceremony,
        };
        let admitted = ca::admit(csr, evidence, wanted, &facts).expect("a fixture is admitted");
        let ticket = ca::prepare(admitted, authority.issuer(), self.serial(), lifetime, made)
            .expect("a fixture is prepared");
        let intent = ticket.intent();
        let recorded = RecordedTicket::assertion(ticket, intent.cert, intent.tbs_hash)
            .expect("the intent is the ticket's own");
        let signature = authority.sign(recorded.tbs());
        ca::finish(recorded, authority.issuer(), &signature).expect("a fixture is finished")
    }

    /// The next serial of this hierarchy.
    #[must_use]
    pub fn serial(&self) -> Serial {
        fresh_serial(&mut self.entropy.lock().expect("no test panics while it draws a serial"))
    }

    /// Verifies a leaf's chain at this date as the broker does, against the anchors of [`Pki::view`].
    ///
    /// # Errors
    /// As [`x509::verify_chain`].
    pub fn chain(&self, leaf: &Leaf, wall: Wall) -> Result<VerifiedChain, ChainError> {
        let ders = leaf.chain_der();
        let intermediates: Vec<&[u8]> = ders.iter().skip(1).map(Vec::as_slice).collect();
        x509::verify_chain(self.view().client_anchors(), leaf.der(), &intermediates, wall, Usage::ClientAuth)
    }

    /// A peer that came in by the real way: its chain verified, its ledger entry active, admitted.
    #[must_use]
    pub fn peer(&self, kind: PrincipalKind, id: &str, now: Now) -> VerifiedPeer {
        self.admitted(&self.principal(kind, id), now)
    }

    /// The peer that shows this leaf, whose ledger entry is active.
    ///
    /// # Panics
    /// The leaf is one of the wrong ones.
    #[must_use]
    pub fn admitted(&self, leaf: &Leaf, now: Now) -> VerifiedPeer {
        let chain = self.chain(leaf, now.wall).expect("the leaf's chain verifies");
        let entry = leaf.entry(CertState::Active);
        trust::admit(&self.view(), &chain, Some(&entry), now).expect("the leaf is admitted")
    }
}

fn common_name(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Server { name, .. } => name.clone(),
        Wanted::Device { id: name } | Wanted::Service { name } | Wanted::Operator { name } => {
            name.to_string()
        }
    }
}

fn name(id: &str) -> DeviceId {
    DeviceId::parse(id).expect("the fixture's name is a name")
}

fn server_wanted(dns: &[&str], ips: &[IpAddr]) -> Wanted {
    let name = dns
        .first()
        .map_or_else(|| ips.first().map_or_else(String::new, IpAddr::to_string), |&name| name.to_owned());
    Wanted::Server { name, dns: dns.iter().map(|&name| name.to_owned()).collect(), ips: ips.to_vec() }
}

fn fresh_serial(entropy: &mut Seeded) -> Serial {
    let mut bytes = [0; 20];
    entropy.fill(&mut bytes);
    Serial::from_random(bytes)
}

fn template() -> SubjectTemplate {
    SubjectTemplate { organization: Some("Acme".to_owned()), ..SubjectTemplate::default() }
}

fn make_root(entropy: &mut Seeded, made: Now) -> Authority {
    let key = FileKey::generate(KeyKind::P256).expect("a key can be made");
    let wanted = RootWanted {
        common_name: "Acme Root CA".to_owned(),
        template: template(),
        spki_der: key.spki_der().to_vec(),
        serial: fresh_serial(entropy),
        hierarchy: Hierarchy::Standard,
    };
    let ticket = ceremony::plan_root(wanted, made).expect("a root is planned");
    let signature = key.sign(ticket.tbs()).expect("a key in memory signs");
    let certificate = ceremony::finish(ticket, &signature).expect("a root is finished");
    Authority::new(issuer("root", certificate, &[], false), key, None)
}

fn make_sub(
    entropy: &mut Seeded,
    root: &Authority,
    label: &str,
    kinds: &[PrincipalKind],
    servers: bool,
    made: Now,
) -> Authority {
    let key = FileKey::generate(KeyKind::P256).expect("a key can be made");
    let wanted = SubWanted {
        common_name: format!("Acme {label} CA"),
        template: template(),
        spki_der: key.spki_der().to_vec(),
        serial: fresh_serial(entropy),
        hierarchy: Hierarchy::Standard,
        purpose: if servers { CaPurpose::Servers } else { CaPurpose::Clients },
        crl_url: root.issuer().crl_url.clone(),
        aia_url: root.issuer().aia_url.clone(),
    };
    let ticket = ceremony::plan_sub(wanted, root.certificate(), made).expect("a sub-CA is planned");
    let signature = root.sign(ticket.tbs());
    let certificate = ceremony::finish(ticket, &signature).expect("a sub-CA is finished");
    Authority::new(issuer(label, certificate, kinds, servers), key, Some(root.certificate().clone()))
}

fn issuer(label: &str, certificate: Certificate, kinds: &[PrincipalKind], servers: bool) -> Issuer {
    Issuer {
        label: label.to_owned(),
        certificate,
        kinds: kinds.to_vec(),
        servers,
        crl_url: Some(format!("http://pki.acme.example:8080/crl/{label}/0.crl")),
        aia_url: Some(format!("http://pki.acme.example:8080/ca/{label}.cer")),
        template: template(),
    }
}

fn anchor(issuer: &Issuer) -> Anchor {
    Anchor {
        id: issuer.id(),
        label: issuer.label.clone(),
        certificate: issuer.certificate.clone(),
        kinds: issuer.kinds.clone(),
        admission: Admission::Registered,
        identity: IdentitySource::CommonName,
    }
}
