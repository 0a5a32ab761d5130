//! The fixtures are what they say: the right ones are admitted, each wrong one is refused for its reason.
#![expect(clippy::unwrap_used, reason = "what cannot be made or read fails its test")]

use std::process::Command;
use std::time::Duration;

use signer::RawSigner as _;
use testkit::pki::{Leaf, Pki};
use testkit::{FIXED_SECS, fixed_now};
use trust::{CertState, Refusal};
use types::{Now, Principal, PrincipalKind, Reason, Wall};
use x509::{ChainAnchors, ChainError, Usage, VerifiedChain, verify_chain};

/// The reason for which a leaf does not even get past the path check.
fn chain_reason(pki: &Pki, leaf: &Leaf) -> Option<Reason> {
    pki.chain(leaf, pki.now().wall).err().map(|error| error.reason())
}

/// The reason for which `trust` refuses a leaf although the ledger holds it as active.
fn admit_reason(pki: &Pki, leaf: &Leaf, principal: Principal) -> Option<Reason> {
    let chain = pki.chain(leaf, pki.now().wall).ok()?;
    let entry = leaf.entry_for(principal, CertState::Active);
    let answer = trust::admit(&pki.view(), &chain, Some(&entry), pki.now());
    answer.err().map(|refusal: Refusal| refusal.reason)
}

fn someone() -> Principal {
    Principal { kind: PrincipalKind::Device, name: types::DeviceId::parse("pump-7").unwrap() }
}

/// What a client says of a server's chain whose root it knows.
fn as_client(pki: &Pki, leaf: &Leaf) -> Result<VerifiedChain, ChainError> {
    let anchors = ChainAnchors::new([pki.root().certificate()]).unwrap();
    let chain = leaf.chain_der();
    let intermediates: Vec<&[u8]> = chain.iter().skip(1).map(Vec::as_slice).collect();
    verify_chain(&anchors, leaf.der(), &intermediates, pki.now().wall, Usage::ServerAuth)
}

#[test]
fn every_kind_of_principal_is_admitted() {
    let pki = Pki::fixed();
    for (kind, label) in [
        (PrincipalKind::Device, "devices"),
        (PrincipalKind::Service, "services"),
        (PrincipalKind::Operator, "services"),
    ] {
        let peer = pki.peer(kind, "pump-7", pki.now());
        assert_eq!(peer.principal().kind, kind);
        assert_eq!(peer.principal().name.as_str(), "pump-7");
        assert_eq!((peer.issuer_label(), peer.project().as_str()), (label, "default"));
        assert!(!peer.needs_confirmation());
    }
}

#[test]
fn a_leaf_knows_its_ledger_entry() {
    let pki = Pki::fixed();
    let leaf = pki.device("pump-7");
    let certificate = leaf.certificate();
    let entry = leaf.entry(CertState::Unconfirmed);
    assert_eq!(entry.der_hash, certificate.der_hash());
    assert_eq!((entry.cert.issuer, entry.anchor), (pki.devices().id(), pki.devices().id()));
    assert_eq!(entry.cert.serial, certificate.serial());
    assert_eq!(certificate.not_after(), Wall::from_secs(FIXED_SECS + 365 * 86_400));
    let chain = pki.chain(&leaf, pki.now().wall).unwrap();
    let peer = trust::admit(&pki.view(), &chain, Some(&entry), pki.now()).unwrap();
    assert!(peer.needs_confirmation());
    let stranger = trust::admit(&pki.view(), &chain, None, pki.now()).err().unwrap();
    assert_eq!(stranger.reason, Reason::NotInLedger);
}

#[test]
fn a_leaf_comes_in_every_form() {
    let leaf = Pki::fixed().device("pump-7");
    assert_eq!(leaf.chain_pem().matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(leaf.certificate_pem().matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!((leaf.chain_der().len(), leaf.chain().len()), (2, 2));
    let key = signer::FileKey::from_pem(&leaf.key_pem(), None).unwrap();
    assert_eq!(key.spki_der(), leaf.certificate().spki_der());
    let folder = tempfile::tempdir().unwrap();
    let files = leaf.write(folder.path(), "pump-7");
    assert_eq!(fs_err::read_to_string(files.chain).unwrap(), leaf.chain_pem());
    assert_eq!(fs_err::read_to_string(files.leaf).unwrap(), leaf.certificate_pem());
    assert_eq!(fs_err::read_to_string(files.key).unwrap(), leaf.key_pem());
}

#[test]
fn serials_come_from_the_seed_and_keys_do_not() {
    let (one, two) = (Pki::fixed(), Pki::fixed());
    let (a, b) = (one.device("pump-7"), two.device("pump-7"));
    assert_eq!(a.certificate().serial(), b.certificate().serial());
    assert_ne!(a.certificate().spki_hash(), b.certificate().spki_hash());
    assert_ne!(one.device("pump-7").certificate().serial(), a.certificate().serial());
}

#[test]
fn every_wrong_chain_is_refused_for_its_reason() {
    let pki = Pki::fixed();
    let foreign = pki.foreign();
    let cases = [
        ("expired", pki.expired_device("pump-7"), Reason::Expired),
        ("not yet valid", pki.not_yet_valid_device("pump-7"), Reason::NotYetValid),
        ("wrong usage", pki.wrong_usage("pump-7"), Reason::WrongUsage),
        ("CA bit", pki.with_ca_bit("pump-7"), Reason::WrongUsage),
        ("version 1", pki.version_one("pump-7"), Reason::VersionOne),
        ("self-signed", pki.self_signed("pump-7"), Reason::UnknownIssuer),
        ("tampered", pki.tampered("pump-7"), Reason::UnknownIssuer),
        ("foreign", foreign.device("pump-7"), Reason::UnknownIssuer),
        ("foreign operator", foreign.operator("admin"), Reason::UnknownIssuer),
        ("server by devices CA", pki.server_by_devices_ca(&["b.example"], &[]), Reason::WrongUsage),
    ];
    for (what, leaf, reason) in cases {
        assert_eq!(chain_reason(&pki, &leaf), Some(reason), "{what}");
    }
}

#[test]
fn every_wrong_name_and_ca_is_refused_by_trust() {
    let pki = Pki::fixed();
    for odd in ["+", "#", "a/b", "a b", "$SYS", "..", "-a"] {
        assert_eq!(admit_reason(&pki, &pki.odd_name(odd), someone()), Some(Reason::BadName), "{odd}");
    }
    let two = pki.two_names("pump-7", "pump-8");
    assert_eq!(admit_reason(&pki, &two, someone()), Some(Reason::BadName));
    assert_eq!(admit_reason(&pki, &pki.empty_name(), someone()), Some(Reason::BadName));
    assert_eq!(admit_reason(&pki, &pki.no_name(), someone()), Some(Reason::BadName));
    for kind in [PrincipalKind::Device, PrincipalKind::Service, PrincipalKind::Operator] {
        let leaf = pki.by_wrong_ca(kind, "pump-7");
        let principal = leaf.principal().unwrap().clone();
        assert_eq!(admit_reason(&pki, &leaf, principal), Some(Reason::WrongAnchor), "{kind:?}");
    }
}

#[test]
fn the_hand_made_leaf_is_right_when_nothing_is_spoilt() {
    let pki = Pki::fixed();
    for leaf in [pki.odd_name("pump-7"), pki.without_usage("pump-7")] {
        assert_eq!(chain_reason(&pki, &leaf), None);
        assert_eq!(admit_reason(&pki, &leaf, someone()), None);
    }
}

#[test]
fn a_foreign_hierarchy_bears_the_same_names() {
    let pki = Pki::fixed();
    let foreign = pki.foreign();
    assert_eq!(foreign.root().certificate().subject_der(), pki.root().certificate().subject_der());
    assert_eq!(foreign.devices().certificate().subject_der(), pki.devices().certificate().subject_der());
    assert_ne!(foreign.pin(), pki.pin());
    assert_ne!(foreign.devices().id(), pki.devices().id());
}

#[test]
fn a_client_believes_our_server_and_no_false_one() {
    let pki = Pki::fixed();
    let foreign = pki.foreign();
    assert!(as_client(&pki, &pki.localhost()).is_ok());
    let reason = |leaf: &Leaf| as_client(&pki, leaf).err().map(|error| error.reason());
    assert_eq!(reason(&foreign.localhost()), Some(Reason::UnknownIssuer));
    assert_eq!(reason(&pki.expired_server(&["localhost"], &[])), Some(Reason::Expired));
    assert_eq!(reason(&pki.device("localhost")), Some(Reason::WrongUsage));
    let by_devices = reason(&pki.server_by_devices_ca(&["localhost"], &[]));
    assert!(matches!(by_devices, Some(Reason::WrongUsage | Reason::IssuerInvalid)), "{by_devices:?}");
    assert_eq!(pki.localhost().certificate().san_ips().len(), 2);
}

#[test]
fn a_hierarchy_can_be_made_at_any_date() {
    for secs in [1_600_000_000, FIXED_SECS, 2_524_607_000, 2_600_000_000] {
        let pki = Pki::new(Wall::from_secs(secs));
        let peer = pki.peer(PrincipalKind::Device, "pump-7", pki.now());
        assert!(peer.session_end() > pki.now().wall);
        assert_eq!(chain_reason(&pki, &pki.version_one("a")), Some(Reason::VersionOne), "{secs}");
        assert_eq!(chain_reason(&pki, &pki.odd_name("a")), None, "{secs}");
    }
}

#[test]
fn a_request_of_ones_own_is_certified() {
    let pki = Pki::fixed();
    let key = signer::FileKey::generate(x509::KeyKind::P384).unwrap();
    let csr = x509::Csr::parse_der(&signer::csr(&key, "pump-7").unwrap()).unwrap();
    let certificate = pki.certify_device(csr, "pump-7");
    assert_eq!(certificate.spki_der(), key.spki_der());
    assert_eq!(certificate.verify_signed_by(pki.devices().certificate()), Ok(()));
}

#[test]
fn the_issuers_are_what_enrolment_holds() {
    let pki = Pki::fixed();
    let issuers = pki.issuers();
    let labels: Vec<&str> = issuers.iter().map(|(issuer, _)| issuer.label.as_str()).collect();
    assert_eq!(labels, ["devices", "services", "servers"]);
    for (issuer, key) in &issuers {
        assert_eq!(issuer.id(), key.issuer());
    }
    assert_eq!(pki.anchors().len(), 3);
    assert!(pki.anchors()[2].kinds.is_empty());
}

#[test]
fn openssl_verifies_every_right_chain_strictly() {
    let pki = Pki::fixed();
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("root.crt"), pki.root_pem()).unwrap();
    let leafs = [
        ("device", pki.device("pump-7"), "sslclient"),
        ("service", pki.service("backend"), "sslclient"),
        ("operator", pki.operator("admin"), "sslclient"),
        ("server", pki.localhost(), "sslserver"),
    ];
    for (name, leaf, purpose) in leafs {
        let files = leaf.write(folder.path(), name);
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-attime", &FIXED_SECS.to_string()])
            .args(["-CAfile", "root.crt", "-untrusted"])
            .args([&files.chain, &files.leaf])
            .current_dir(folder.path())
            .output();
        let Ok(output) = output else {
            eprintln!("openssl does not run: not judged");
            return;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
    }
}

#[test]
fn a_peer_ends_with_its_certificate() {
    let pki = Pki::fixed();
    let peer = pki.peer(PrincipalKind::Device, "pump-7", fixed_now());
    let view = pki.view();
    let end = peer.session_end();
    let at = |wall| Now { wall, ..pki.now() };
    assert!(trust::recheck(&view, &peer, at(Wall(end.0 - 1000))).is_ok());
    let refusal = trust::recheck(&view, &peer, at(end.plus(Duration::from_secs(1)))).unwrap_err();
    assert_eq!(refusal.reason, Reason::Expired);
}
