//! A small hierarchy for the tests of this crate, made by the ceremony itself.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Duration;

use ca::ceremony::{self, Hierarchy, RootWanted, SubWanted};
use ca::{AdmittedCsr, CaError, Evidence, Facts, Issuer, RecordedTicket, Ticket, Wanted};
use signer::{FileKey, RawSigner as _};
use types::{DeviceId, Now, PrincipalKind, Serial, Wall};
use x509::{CaPurpose, Certificate, Csr, KeyKind, SubjectTemplate};

/// 2026-08-01T00:00:00Z.
pub(crate) const T0: i64 = 1_785_542_400;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn at(secs: i64) -> Now {
    Now { wall: Wall::from_secs(secs), ..Now::default() }
}

pub(crate) fn now() -> Now {
    at(T0)
}

pub(crate) fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

pub(crate) fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

pub(crate) fn serial(first: u8) -> Serial {
    Serial::from_random([first; 20])
}

pub(crate) fn key() -> FileKey {
    FileKey::generate(KeyKind::P256).unwrap()
}

pub(crate) fn csr(key: &FileKey, name: &str) -> Csr {
    if name.is_empty() {
        return nameless_csr(key);
    }
    Csr::parse_der(&signer::csr(key, name).unwrap()).unwrap()
}

/// A request with an empty subject, as `openssl req -subj /` makes: version 0, no name, the key, no attributes.
fn nameless_csr(key: &FileKey) -> Csr {
    let content = [&[0x02, 1, 0, 0x30, 0], key.spki_der(), &[0xa0, 0]].concat();
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80);
    let info = [&[0x30, length], content.as_slice()].concat();
    let signature = key.sign(&info).unwrap();
    Csr::parse_der(&x509::assemble(&info, key.algorithm(), &signature)).unwrap()
}

pub(crate) fn template() -> SubjectTemplate {
    SubjectTemplate {
        country: Some("DE".into()),
        state: Some("Hessen".into()),
        organization: Some("Acme".into()),
        unit: Some("Fleet".into()),
    }
}

pub(crate) fn root_wanted(key: &FileKey, hierarchy: Hierarchy) -> RootWanted {
    RootWanted {
        common_name: "Acme Root".into(),
        template: template(),
        spki_der: key.spki_der().to_vec(),
        serial: serial(1),
        hierarchy,
    }
}

pub(crate) fn sub_wanted(key: &FileKey, name: &str, hierarchy: Hierarchy, purpose: CaPurpose) -> SubWanted {
    SubWanted {
        common_name: name.into(),
        template: template(),
        spki_der: key.spki_der().to_vec(),
        serial: serial(2),
        hierarchy,
        purpose,
        crl_url: Some("http://pki.example/crl/root/0.crl".into()),
        aia_url: Some("http://pki.example/ca/root.cer".into()),
    }
}

pub(crate) struct Made {
    pub(crate) root: Certificate,
    pub(crate) root_key: FileKey,
    pub(crate) issuer: Issuer,
    pub(crate) key: FileKey,
}

pub(crate) fn made_with(kind: KeyKind, hierarchy: Hierarchy, purpose: CaPurpose) -> Made {
    let (root_key, sub_key) = (FileKey::generate(kind).unwrap(), key());
    let ticket = ceremony::plan_root(root_wanted(&root_key, hierarchy), now()).unwrap();
    let signature = root_key.sign(ticket.tbs()).unwrap();
    let root = ceremony::finish(ticket, &signature).unwrap();
    let ticket =
        ceremony::plan_sub(sub_wanted(&sub_key, "Acme Sub", hierarchy, purpose), &root, now()).unwrap();
    let signature = root_key.sign(ticket.tbs()).unwrap();
    let certificate = ceremony::finish(ticket, &signature).unwrap();
    let (label, kinds, servers) = match purpose {
        CaPurpose::Clients => ("devices", vec![PrincipalKind::Device], false),
        CaPurpose::Servers => ("servers", vec![], true),
    };
    let issuer = Issuer {
        label: label.into(),
        certificate,
        kinds,
        servers,
        crl_url: Some("http://pki.example/crl/devices/0.crl".into()),
        aia_url: Some("http://pki.example/ca/devices.cer".into()),
        template: template(),
    };
    Made { root, root_key, issuer, key: sub_key }
}

pub(crate) fn made() -> Made {
    made_with(KeyKind::P256, Hierarchy::Standard, CaPurpose::Clients)
}

pub(crate) fn token(device: &str) -> Evidence {
    Evidence::ProvisioningToken { device: id(device), token_id: "t0".into() }
}

pub(crate) fn known(kind: PrincipalKind) -> Facts {
    Facts { registered: Some(kind), ..Facts::default() }
}

pub(crate) fn device(name: &str) -> Wanted {
    Wanted::Device { id: id(name) }
}

pub(crate) fn admitted(key: &FileKey, name: &str) -> AdmittedCsr {
    ca::admit(csr(key, name), token(name), device(name), &known(PrincipalKind::Device)).unwrap()
}

pub(crate) fn admitted_server(key: &FileKey, name: &str) -> AdmittedCsr {
    let wanted = Wanted::Server { name: name.into(), dns: vec![name.into()], ips: vec![] };
    ca::admit(csr(key, name), Evidence::Ceremony, wanted, &Facts::default()).unwrap()
}

pub(crate) fn prepared(made: &Made, name: &str) -> Ticket {
    ca::prepare(admitted(&key(), name), &made.issuer, serial(9), days(365), now()).unwrap()
}

pub(crate) fn recorded(ticket: Ticket) -> RecordedTicket {
    let intent = ticket.intent();
    RecordedTicket::assertion(ticket, intent.cert, intent.tbs_hash).unwrap()
}

pub(crate) fn signed(made: &Made, ticket: Ticket) -> Result<Certificate, CaError> {
    let recorded = recorded(ticket);
    let signature = made.key.sign(recorded.tbs()).unwrap();
    ca::finish(recorded, &made.issuer, &signature)
}
