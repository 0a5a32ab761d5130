//! Makes the certificates of a bench and enters them in a store: the same ones for every server.
//! In: a folder. Out: files for Mosquitto, a filled store for us, identities for the load.
//! Invariant: P-256 everywhere, a root with one CA for clients and one for servers, as in the product.
//! Never: kept after the run; the folder is temporary.
//! Spec: DESIGN.md section 3, rows "sub-CAs" and "certificates".

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use signer::{FileKey, RawSigner, SystemEntropy};
use store::{CaRow, NewDevice, NewIntent, Store};
use types::{CertRef, DeviceId, Entropy, Now, Principal, PrincipalKind, ProjectId, Serial};
use x509::{CaPurpose, Certificate, CrlHead, Draft, KeyKind, Profile, SubjectTemplate};

use crate::Failure;
use crate::client::Identity;
use crate::load::Cast;

const DAY: Duration = Duration::from_secs(86_400);
const SERVICE: &str = "backend";

/// The rules, in Mosquitto's syntax; both servers read this file.
pub(crate) const RULES: &str = "\
user backend
topic read devices/#
topic write broadcast/#

pattern readwrite devices/%u/#
pattern read broadcast/#
";

struct Ca {
    key: FileKey,
    certificate: Certificate,
}

struct Made {
    certificate: Certificate,
    tbs: Vec<u8>,
    key: FileKey,
}

/// Makes everything in `dir` and answers with the load's identities.
pub(crate) async fn make(dir: &Path, devices: usize, now: Now) -> Result<Cast, Failure> {
    let root = ca(None, "Bench Root", Profile::Root, now)?;
    let clients = ca(Some(&root), "Bench Clients CA", Profile::SubCa { purpose: CaPurpose::Clients }, now)?;
    let services = ca(Some(&root), "Bench Services CA", Profile::SubCa { purpose: CaPurpose::Clients }, now)?;
    let servers = ca(Some(&root), "Bench Servers CA", Profile::SubCa { purpose: CaPurpose::Servers }, now)?;
    let ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let server =
        leaf(&servers, "localhost", Profile::Server { dns: vec!["localhost".to_owned()], ips }, now)?;

    let pem = |certificates: &[&Certificate]| -> String {
        certificates.iter().map(|certificate| certificate.to_pem()).collect()
    };
    fs_err::write(dir.join("root.crt"), pem(&[&root.certificate]))?;
    fs_err::write(dir.join("crl.pem"), crl(&clients, now)? + &crl(&services, now)?)?;
    fs_err::write(dir.join("server.crt"), pem(&[&server.certificate, &servers.certificate]))?;
    fs_err::write(dir.join("server.key"), server.key.to_pem().expose())?;
    fs_err::write(dir.join("bench.acl"), RULES)?;

    let store = Store::open(dir, now)?;
    let rows = [
        (&root, "root", None, vec![], false),
        (&clients, "devices", Some(&root), vec![PrincipalKind::Device], false),
        (&services, "services", Some(&root), vec![PrincipalKind::Service], false),
        (&servers, "servers", Some(&root), vec![], true),
    ];
    for (ca, label, parent, kinds, servers) in rows {
        let row = CaRow {
            id: ca.certificate.issuer_id_as_ca(),
            label: label.to_owned(),
            certificate_der: ca.certificate.der().to_vec(),
            parent: parent.map(|parent: &Ca| parent.certificate.issuer_id_as_ca()),
            kinds,
            servers,
            key_file: None,
        };
        store.ca_add(row, now).await?;
    }
    let root_der = root.certificate.der();
    let mut cast = Vec::with_capacity(devices);
    for number in 0..devices {
        let id = DeviceId::parse(&format!("dev-{number:04}"))?;
        let made = leaf(&clients, id.as_str(), Profile::Device { id: id.clone() }, now)?;
        let new = NewDevice { id: id.clone(), original: None, project: project()?, fleet: None, label: None };
        store.device_add(new, "bench", now).await?;
        let who = Principal { kind: PrincipalKind::Device, name: id };
        cast.push(enter(&store, who, ("devices", &clients), made, root_der, now).await?);
    }
    let name = DeviceId::parse(SERVICE)?;
    let made = leaf(&services, SERVICE, Profile::Service { name: name.clone() }, now)?;
    store.principal_add(PrincipalKind::Service, name.clone(), project()?, "bench", now).await?;
    let who = Principal { kind: PrincipalKind::Service, name };
    let service = enter(&store, who, ("services", &services), made, root_der, now).await?;
    Ok(Cast { devices: cast, service })
}

fn project() -> Result<ProjectId, Failure> {
    Ok(ProjectId::parse(ProjectId::DEFAULT).ok_or("the default project has no name")?)
}

/// Records a certificate as `enroll` would, and confirms it, so that no round pays for that.
async fn enter(
    store: &Store,
    who: Principal,
    (issuer_label, issuer): (&str, &Ca),
    made: Made,
    root: &[u8],
    now: Now,
) -> Result<Identity, Failure> {
    let certificate = &made.certificate;
    let intent = NewIntent {
        token_id: None,
        cert: CertRef { issuer: issuer.certificate.issuer_id_as_ca(), serial: certificate.serial() },
        spki: certificate.spki_hash(),
        tbs_hash: x509::sha256(&made.tbs),
        tbs: made.tbs.clone(),
        principal: Some(who.clone()),
        project: project()?,
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        issuer_label: issuer_label.to_owned(),
        evidence: "bench".to_owned(),
    };
    let receipt = store.record_intent(intent, now).await?;
    store.record_certificate(receipt, certificate.der(), now).await?;
    store.confirm(certificate.der_hash(), now).await?;
    let key = made.key.pkcs8_der().expose().to_vec();
    let chain = vec![certificate.der().to_vec(), issuer.certificate.der().to_vec()];
    Identity::new(who.name.as_str(), root, chain, key)
}

/// An empty revocation list: without one Mosquitto could refuse no revoked client.
fn crl(issuer: &Ca, now: Now) -> Result<String, Failure> {
    let signature = issuer.key.algorithm();
    let head = CrlHead {
        issuer: &issuer.certificate,
        number: 1,
        this_update: now.wall.minus(DAY),
        next_update: now.wall.plus(DAY),
        signature,
    };
    let tbs = x509::build_crl_tbs(&head, std::iter::empty());
    let list = x509::assemble(&tbs, signature, &issuer.key.sign(&tbs)?);
    Ok(x509::pem::encode("X509 CRL", &list))
}

fn ca(parent: Option<&Ca>, name: &str, profile: Profile, now: Now) -> Result<Ca, Failure> {
    let key = FileKey::generate(KeyKind::P256)?;
    let (certificate, _) = sign(parent, &key, name, profile, now)?;
    Ok(Ca { key, certificate })
}

fn leaf(issuer: &Ca, name: &str, profile: Profile, now: Now) -> Result<Made, Failure> {
    let key = FileKey::generate(KeyKind::P256)?;
    let (certificate, tbs) = sign(Some(issuer), &key, name, profile, now)?;
    Ok(Made { certificate, tbs, key })
}

fn sign(
    parent: Option<&Ca>,
    key: &FileKey,
    name: &str,
    profile: Profile,
    now: Now,
) -> Result<(Certificate, Vec<u8>), Failure> {
    let signing = parent.map_or(key, |parent| &parent.key);
    let mut random = [0; 20];
    SystemEntropy.fill(&mut random);
    let draft = Draft {
        serial: Serial::from_random(random),
        issuer: parent.map(|parent| parent.certificate.clone()),
        common_name: name.to_owned(),
        template: SubjectTemplate::default(),
        spki_der: key.spki_der().to_vec(),
        not_before: now.wall.minus(DAY),
        not_after: now.wall.plus(DAY * if parent.is_none() { 30 } else { 10 }),
        profile,
        signature: signing.algorithm(),
        crl_url: None,
        aia_url: None,
    };
    let tbs = x509::build_tbs(&draft)?;
    let signature = signing.sign(&tbs)?;
    Ok((Certificate::parse_der(&x509::assemble(&tbs, draft.signature, &signature))?, tbs))
}
