//! Where a test's store lives, and short words for what most tests do with it.

use std::path::Path;
use std::time::Duration;

use store::{
    CaRow, DeviceRow, NewDevice, NewIntent, NewToken, Receipt, Store, StoreError, TokenAnswer, TokenRefusal,
};
use types::{
    CertRef, DerHash, DeviceId, IssuerId, Mono, Now, Principal, PrincipalKind, ProjectId, Serial, SpkiHash,
    Wall,
};
use x509::{Certificate, SignatureAlgorithm};

/// Longer than any healthy wait of the suite.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The one constructor of the suite.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(self.0.path(), now(0))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A copy of every file as it is now, also while the store is open: what a crash leaves.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::fresh();
        for entry in fs_err::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            fs_err::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }
}

/// A moment of 2027, `secs` after the start of every test.
pub(crate) fn now(secs: i64) -> Now {
    let mono = Mono(u64::try_from(secs).unwrap_or(0) * 1_000_000_000);
    Now { mono, wall: at(secs) }
}

pub(crate) fn at(secs: i64) -> Wall {
    Wall::from_secs(1_800_000_000 + secs)
}

pub(crate) fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

pub(crate) fn project() -> ProjectId {
    ProjectId::parse(ProjectId::DEFAULT).unwrap()
}

pub(crate) fn key(n: u8) -> SpkiHash {
    SpkiHash([n; 32])
}

pub(crate) fn secret(token: &str) -> [u8; 32] {
    x509::sha256(token.as_bytes())
}

pub(crate) fn hash_of(der: &[u8]) -> DerHash {
    DerHash(x509::sha256(der))
}

/// An issuer that no test registers as a CA: the ledger does not ask for one.
pub(crate) fn issuer() -> IssuerId {
    IssuerId([7; 16])
}

pub(crate) fn cert(n: u64) -> CertRef {
    CertRef { issuer: issuer(), serial: Serial::from_der_integer(&n.to_be_bytes()).unwrap() }
}

/// Bytes to be signed, different for each `n`.
pub(crate) fn tbs(n: u64) -> Vec<u8> {
    let mut tbs = vec![0x30, 10, 2, 8];
    tbs.extend(n.to_be_bytes());
    tbs
}

/// A certificate over [`tbs`]; `salt` stands for the randomness of the signature.
pub(crate) fn der(n: u64, salt: u8) -> Vec<u8> {
    x509::assemble(&tbs(n), SignatureAlgorithm::EcdsaP256Sha256, &[salt; 70])
}

/// Root, devices, services and servers CA, in this order, and a leaf that is no CA.
pub(crate) fn ca_rows() -> Vec<CaRow> {
    let certificates = Certificate::parse_pem_chain(include_str!("fixtures/cas.pem")).unwrap();
    let root = certificates[0].issuer_id_as_ca();
    let labels = ["root", "devices", "services", "servers", "leaf"];
    let kinds = [
        vec![],
        vec![PrincipalKind::Device],
        vec![PrincipalKind::Service, PrincipalKind::Operator],
        vec![],
        vec![PrincipalKind::Device],
    ];
    certificates
        .iter()
        .zip(labels)
        .zip(kinds)
        .map(|((certificate, label), kinds)| CaRow {
            id: certificate.issuer_id_as_ca(),
            label: label.to_owned(),
            certificate_der: certificate.der().to_vec(),
            parent: (label != "root").then_some(root),
            kinds,
            servers: label == "servers",
            key_file: (label != "root").then(|| format!("keys/{label}.key.pem")),
        })
        .collect()
}

pub(crate) fn new_device(name: &str) -> NewDevice {
    NewDevice { id: id(name), original: None, project: project(), fleet: None, label: None }
}

pub(crate) async fn add(store: &Store, name: &str) -> DeviceRow {
    store.device_add(new_device(name), "ada", now(0)).await.unwrap()
}

pub(crate) fn new_token(token: &str, device: &str, replace: bool) -> NewToken {
    NewToken {
        id: token.to_owned(),
        secret_hash: secret(token),
        device: id(device),
        expires_at: at(86_400),
        replace,
    }
}

pub(crate) async fn make_token(store: &Store, token: &str, device: &str) {
    store.token_create(new_token(token, device, false), "ada", now(0)).await.unwrap();
}

pub(crate) async fn make_replacing_token(store: &Store, token: &str, device: &str) {
    store.token_create(new_token(token, device, true), "ada", now(0)).await.unwrap();
}

pub(crate) fn new_intent(token: Option<&str>, device: &str, n: u64, spki: SpkiHash) -> NewIntent {
    NewIntent {
        token_id: token.map(ToOwned::to_owned),
        cert: cert(n),
        spki,
        tbs_hash: x509::sha256(&tbs(n)),
        tbs: tbs(n),
        principal: Some(Principal { kind: PrincipalKind::Device, name: id(device) }),
        project: project(),
        not_before: at(-600),
        not_after: at(31_536_000),
        issuer_label: "devices".to_owned(),
        evidence: "provisioning token".to_owned(),
    }
}

pub(crate) fn other_intent(kind: Option<PrincipalKind>, name: &str, n: u64, spki: SpkiHash) -> NewIntent {
    let principal = kind.map(|kind| Principal { kind, name: id(name) });
    NewIntent { principal, issuer_label: "services".to_owned(), ..new_intent(None, name, n, spki) }
}

pub(crate) async fn intend(store: &Store, token: &str, device: &str, n: u64, spki: SpkiHash) -> Receipt {
    store.record_intent(new_intent(Some(token), device, n, spki), now(1)).await.unwrap()
}

/// Flow A up to the unconfirmed certificate.
pub(crate) async fn issue(store: &Store, token: &str, device: &str, n: u64, spki: SpkiHash) -> DerHash {
    let receipt = intend(store, token, device, n, spki).await;
    store.record_certificate(receipt, &der(n, 1), now(2)).await.unwrap();
    hash_of(&der(n, 1))
}

/// A device with one token, one key and one certificate in use.
pub(crate) async fn live_device(store: &Store, device: &str, n: u64, spki: SpkiHash) -> DerHash {
    add(store, device).await;
    let token = format!("token-{device}");
    make_token(store, &token, device).await;
    let der_hash = issue(store, &token, device, n, spki).await;
    store.confirm(der_hash, now(3)).await.unwrap();
    der_hash
}

pub(crate) async fn check(store: &Store, token: &str, spki: SpkiHash) -> TokenAnswer {
    store.token_check(token, secret(token), spki, now(5)).await.unwrap()
}

pub(crate) async fn refusal(store: &Store, token: &str, spki: SpkiHash) -> Option<TokenRefusal> {
    match check(store, token, spki).await {
        TokenAnswer::Refused(why) => Some(why),
        _ => None,
    }
}

/// The words of the unchained events, oldest first, from number `from` on.
pub(crate) async fn words(store: &Store, from: usize) -> Vec<String> {
    let events = store.events_unchained(usize::MAX).await.unwrap();
    let word = |body: &str| body.split('"').nth(3).unwrap().to_owned();
    events.iter().skip(from).map(|(_, _, body)| word(body)).collect()
}

pub(crate) async fn events(store: &Store) -> usize {
    store.events_unchained(usize::MAX).await.unwrap().len()
}
