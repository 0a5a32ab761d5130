//! Chains to roots and to sub-CAs, and every reason for which one is not believed.

use types::{CertRef, Reason, Wall};
use x509::{
    CaPurpose, Certificate, ChainAnchors, ChainError, INTERMEDIATES_MAX, Profile, Usage, verify_chain,
};

use crate::support::{Ca, DAY, Key, NOW, YEAR, at, draft, hierarchy, id, sign_unchecked};

fn anchors(cas: &[&Certificate]) -> ChainAnchors {
    ChainAnchors::new(cas.iter().copied()).unwrap()
}

fn client(
    anchors: &ChainAnchors,
    leaf: &Certificate,
    between: &[&[u8]],
) -> Result<x509::VerifiedChain, ChainError> {
    verify_chain(anchors, leaf.der(), between, NOW, Usage::ClientAuth)
}

fn reason(result: Result<x509::VerifiedChain, ChainError>) -> Reason {
    result.map(|chain| chain.leaf().subject_text()).unwrap_err().reason()
}

#[test]
fn a_leaf_alone_is_believed_below_its_sub_ca() {
    let (root, ca) = hierarchy();
    let leaf = ca.device(&Key::p256(), "pump-7");
    let chain = client(&anchors(&[&root.certificate, &ca.certificate]), &leaf, &[]).unwrap();
    let issuer = ca.certificate.issuer_id_as_ca();
    assert_eq!(chain.leaf(), &leaf);
    assert_eq!((chain.issuer(), chain.anchor(), chain.issuers()), (issuer, issuer, &[issuer][..]));
    assert_eq!(chain.cert_ref(), CertRef { issuer, serial: leaf.serial() });
    assert_eq!(chain.not_after(), leaf.not_after());
}

#[test]
fn a_full_chain_is_believed_below_the_root_and_names_every_ca() {
    let (root, ca) = hierarchy();
    let leaf = ca.device(&Key::p256(), "pump-7");
    let below_root = anchors(&[&root.certificate]);
    let (first, last) = (ca.certificate.issuer_id_as_ca(), root.certificate.issuer_id_as_ca());
    let others = Ca::root(Key::p256(), "Unrelated");
    for between in [
        vec![ca.certificate.der()],
        vec![ca.certificate.der(), root.certificate.der()],
        vec![root.certificate.der(), others.certificate.der(), ca.certificate.der()],
    ] {
        let chain = client(&below_root, &leaf, &between).unwrap();
        assert_eq!((chain.issuer(), chain.anchor(), chain.issuers()), (first, last, &[first, last][..]));
    }
    assert_eq!(reason(client(&below_root, &leaf, &[])), Reason::UnknownIssuer);
}

#[test]
fn every_kind_of_key_verifies() {
    for ca_key in Key::all() {
        let ca = Ca::root(ca_key, "Root");
        let believed = anchors(&[&ca.certificate]);
        for key in Key::all() {
            assert!(client(&believed, &ca.device(&key, "pump-7"), &[]).is_ok());
        }
    }
}

#[test]
fn the_chain_ends_with_the_first_of_its_certificates() {
    let (root, _) = hierarchy();
    let mut brief =
        draft(Some(&root), &Key::p256(), "Brief CA", Profile::SubCa { purpose: CaPurpose::Clients });
    let key = Key::p256();
    brief.spki_der = key.spki();
    brief.not_after = at(30 * DAY);
    let ca = Ca { certificate: root.issue(&brief), key };
    let leaf_key = Key::p256();
    let long = draft(Some(&ca), &leaf_key, "pump-7", Profile::Device { id: id("pump-7") });
    let leaf = Certificate::parse_der(&sign_unchecked(&long, &ca.key)).unwrap();
    for (cas, between) in [(&ca.certificate, vec![]), (&root.certificate, vec![ca.certificate.der()])] {
        assert_eq!(client(&anchors(&[cas]), &leaf, &between).unwrap().not_after(), at(30 * DAY));
    }
    // After it: the leaf is in date, its CA is not.
    for (cas, between) in [(&ca.certificate, vec![]), (&root.certificate, vec![ca.certificate.der()])] {
        let later = verify_chain(&anchors(&[cas]), leaf.der(), &between, at(31 * DAY), Usage::ClientAuth);
        assert_eq!(reason(later), Reason::IssuerInvalid);
    }
}

#[test]
fn both_ends_of_the_validity_belong_to_it() {
    let (_, ca) = hierarchy();
    let leaf = ca.device(&Key::p256(), "pump-7");
    let believed = anchors(&[&ca.certificate]);
    let ask = |now: Wall| verify_chain(&believed, leaf.der(), &[], now, Usage::ClientAuth);
    assert!(ask(at(-DAY)).is_ok());
    assert!(ask(at(YEAR)).is_ok());
    assert!(ask(at(YEAR + 999)).is_ok());
    assert_eq!(
        ask(at(-DAY - 1)).unwrap_err(),
        ChainError::NotYetValid { not_before: at(-DAY), now: at(-DAY - 1) }
    );
    let expired = ask(at(YEAR + 1000)).unwrap_err();
    assert_eq!(expired, ChainError::Expired { not_after: at(YEAR), now: at(YEAR + 1000) });
    assert_eq!(expired.to_string(), "certificate expired 2027-08-01T00:00:00Z, now 2027-08-01T00:00:01Z");
    assert_eq!(ask(Wall(i64::MIN)).unwrap_err().reason(), Reason::NotYetValid);
    assert_eq!(ask(Wall(i64::MAX)).unwrap_err().reason(), Reason::Expired);
}

#[test]
fn an_expired_or_future_anchor_believes_nobody() {
    let key = Key::p256();
    for (from, to) in [(at(-2 * YEAR), at(-1000)), (at(1000), at(YEAR))] {
        let mut wanted = draft(None, &key, "Root", Profile::Root);
        (wanted.not_before, wanted.not_after) = (from, to);
        let certificate = Certificate::parse_der(&sign_unchecked(&wanted, &key)).unwrap();
        let ca_draft = Ca { key: Key::p256(), certificate: certificate.clone() };
        let leaf_draft = draft(Some(&ca_draft), &Key::p256(), "pump-7", Profile::Device { id: id("pump-7") });
        let leaf = Certificate::parse_der(&sign_unchecked(&leaf_draft, &key)).unwrap();
        let error = client(&anchors(&[&certificate]), &leaf, &[]).unwrap_err();
        assert_eq!(error.reason(), Reason::IssuerInvalid);
        assert!(error.to_string().starts_with("ca of the chain is not valid: \"CN=Root\" "), "{error}");
    }
}

#[test]
fn of_two_anchors_with_one_name_and_key_the_one_in_date_counts() {
    let key = Key::p256();
    let mut old = draft(None, &key, "Root", Profile::Root);
    (old.not_before, old.not_after) = (at(-2 * YEAR), at(-1000));
    let old = Certificate::parse_der(&sign_unchecked(&old, &key)).unwrap();
    let renewed = Ca::root(key, "Root");
    let leaf = renewed.device(&Key::p256(), "pump-7");
    for order in [[&old, &renewed.certificate], [&renewed.certificate, &old]] {
        assert_eq!(client(&anchors(&order), &leaf, &[]).unwrap().not_after(), leaf.not_after());
    }
    assert_eq!(reason(client(&anchors(&[&old]), &leaf, &[])), Reason::IssuerInvalid);
}

#[test]
fn what_is_no_ca_becomes_no_anchor() {
    let (_, ca) = hierarchy();
    let leaf = ca.device(&Key::p256(), "pump-7");
    let error = ChainAnchors::new([&leaf]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "certificate \"CN=pump-7\" is no CA: basicConstraints does not say CA:TRUE"
    );
    let v1 = Certificate::parse_pem(include_str!("../fixtures/cert/fleet-v1.pem")).unwrap();
    assert_eq!(
        ChainAnchors::new([&v1]).unwrap_err().to_string(),
        "certificate \"CN=pump-7\" is no CA: it is not an X.509 v3 certificate"
    );
    assert!(ChainAnchors::default().is_empty());
    assert_eq!(reason(client(&ChainAnchors::default(), &leaf, &[])), Reason::UnknownIssuer);
}

#[test]
fn a_foreign_ca_of_the_same_name_did_not_sign() {
    let (_, ca) = hierarchy();
    let impostor = Ca::root(Key::p256(), "Bailiwick Devices CA");
    let leaf = impostor.device(&Key::p256(), "pump-7");
    let error = client(&anchors(&[&ca.certificate]), &leaf, &[impostor.certificate.der()]).unwrap_err();
    assert_eq!(error, ChainError::BadSignature { issuer: "CN=Bailiwick Devices CA".to_owned() });
    assert_eq!(error.reason(), Reason::UnknownIssuer);
    let stranger = Ca::root(Key::p256(), "Stranger");
    let leaf = stranger.device(&Key::p256(), "pump-7");
    let error = client(&anchors(&[&ca.certificate]), &leaf, &[]).unwrap_err();
    assert_eq!(error, ChainError::UnknownIssuer { issuer: "CN=Stranger".to_owned() });
}

#[test]
fn a_certificate_is_believed_only_for_its_use() {
    let root = Ca::root(Key::p256(), "Root");
    let devices = root.sub(Key::p256(), "Devices CA", CaPurpose::Clients);
    let servers = root.sub(Key::p256(), "Servers CA", CaPurpose::Servers);
    let device = devices.device(&Key::p256(), "pump-7");
    let profile = Profile::Server { dns: vec!["mqtt.example".to_owned()], ips: vec![] };
    let server = servers.issue(&draft(Some(&servers), &Key::p256(), "mqtt.example", profile.clone()));
    let all = anchors(&[&devices.certificate, &servers.certificate]);
    let ask = |leaf: &Certificate, usage| verify_chain(&all, leaf.der(), &[], NOW, usage);
    assert!(ask(&device, Usage::ClientAuth).is_ok());
    assert!(ask(&server, Usage::ServerAuth).is_ok());
    assert_eq!(reason(ask(&device, Usage::ServerAuth)), Reason::WrongUsage);
    assert_eq!(reason(ask(&server, Usage::ClientAuth)), Reason::WrongUsage);

    // A devices CA that mints a broker, as anchor and below the root; webpki asks the first of them nothing.
    let forged = draft(Some(&devices), &Key::p256(), "mqtt.example", profile);
    let forged = Certificate::parse_der(&sign_unchecked(&forged, &devices.key)).unwrap();
    assert_eq!(reason(ask(&forged, Usage::ServerAuth)), Reason::IssuerInvalid);
    let below_root = anchors(&[&root.certificate]);
    let between = [devices.certificate.der()];
    let error = verify_chain(&below_root, forged.der(), &between, NOW, Usage::ServerAuth).unwrap_err();
    assert_eq!(error.reason(), Reason::IssuerInvalid);
}

#[test]
fn a_ca_is_no_peer_and_a_peer_is_no_ca() {
    let (root, ca) = hierarchy();
    let believed = anchors(&[&root.certificate]);
    assert_eq!(reason(client(&believed, &ca.certificate, &[])), Reason::WrongUsage);

    let key = Key::p256();
    let device = ca.device(&key, "pump-7");
    let below = Ca { key, certificate: device };
    let child = draft(Some(&below), &Key::p256(), "pump-8", Profile::Device { id: id("pump-8") });
    let child = Certificate::parse_der(&sign_unchecked(&child, &below.key)).unwrap();
    let between = [below.certificate.der(), ca.certificate.der()];
    assert_eq!(reason(client(&believed, &child, &between)), Reason::IssuerInvalid);
}

#[test]
fn a_sub_ca_makes_no_sub_ca_of_its_own() {
    let (root, ca) = hierarchy();
    let key = Key::p256();
    let nested = draft(Some(&ca), &key, "Nested CA", Profile::SubCa { purpose: CaPurpose::Clients });
    let nested = Ca { certificate: Certificate::parse_der(&sign_unchecked(&nested, &ca.key)).unwrap(), key };
    let leaf = nested.device(&Key::p256(), "pump-7");
    let nested_der = nested.certificate.der();
    // The path length of the sub-CA, where it comes along and where it is the anchor itself.
    let below_root = client(&anchors(&[&root.certificate]), &leaf, &[nested_der, ca.certificate.der()]);
    assert_eq!(reason(below_root), Reason::IssuerInvalid);
    let below_sub = client(&anchors(&[&ca.certificate]), &leaf, &[nested_der]);
    assert_eq!(reason(below_sub), Reason::IssuerInvalid);
}

#[test]
fn x509_v1_is_its_own_reason() {
    let ca = Certificate::parse_pem(include_str!("../fixtures/cert/fleet-ca.pem")).unwrap();
    let v1 = Certificate::parse_pem(include_str!("../fixtures/cert/fleet-v1.pem")).unwrap();
    assert_eq!(v1.version(), 1);
    assert_eq!(v1.verify_signed_by(&ca), Ok(()));
    // The fixtures were made in November 2026 and live for 100 years.
    let error = verify_chain(&anchors(&[&ca]), v1.der(), &[], at(YEAR), Usage::ClientAuth).unwrap_err();
    assert_eq!(error, ChainError::VersionOne);
    assert_eq!(error.code(), "trust.x509_v1");
}

#[test]
fn a_foreign_fleet_without_extended_key_usage_is_believed_for_every_use() {
    let ca = Certificate::parse_pem(include_str!("../fixtures/cert/fleet-ca.pem")).unwrap();
    let leaf = Certificate::parse_pem(include_str!("../fixtures/cert/fleet-v3-without-eku.pem")).unwrap();
    assert!(!leaf.has_eku() && !leaf.allows_client_auth());
    for usage in [Usage::ClientAuth, Usage::ServerAuth] {
        assert!(verify_chain(&anchors(&[&ca]), leaf.der(), &[], at(YEAR), usage).is_ok());
    }
}

#[test]
fn weak_keys_old_digests_and_unknown_critical_extensions_are_malformed() {
    let ca = Certificate::parse_pem(include_str!("../fixtures/cert/fleet-ca.pem")).unwrap();
    for (text, part) in [
        (include_str!("../fixtures/cert/rsa1024.pem"), "rsa key of 1024 bits"),
        (include_str!("../fixtures/cert/sha1.pem"), "UnsupportedSignatureAlgorithm"),
        (include_str!("../fixtures/cert/unknown-critical.pem"), "UnsupportedCriticalExtension"),
    ] {
        let leaf = Certificate::parse_pem(text).unwrap();
        let error = verify_chain(&anchors(&[&ca]), leaf.der(), &[], at(YEAR), Usage::ClientAuth).unwrap_err();
        assert_eq!(error.reason(), Reason::Malformed);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_crowd_of_ca_certificates_is_refused() {
    let (_, ca) = hierarchy();
    let leaf = ca.device(&Key::p256(), "pump-7");
    let believed = anchors(&[&ca.certificate]);
    let crowd = vec![ca.certificate.der(); INTERMEDIATES_MAX + 1];
    assert!(client(&believed, &leaf, &crowd[1..]).is_ok());
    assert_eq!(reason(client(&believed, &leaf, &crowd)), Reason::Malformed);
    // What does not help does not hurt either.
    assert!(client(&believed, &leaf, &[b"garbage", &[]]).is_ok());
}

#[test]
fn no_flipped_byte_of_a_leaf_is_believed() {
    let (_, ca) = hierarchy();
    let leaf = ca.device(&Key::p256(), "pump-7");
    let believed = anchors(&[&ca.certificate]);
    for at in 0..leaf.der().len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = leaf.der().to_vec();
            flipped[at] ^= mask;
            let result = verify_chain(&believed, &flipped, &[], NOW, Usage::ClientAuth);
            assert!(result.is_err(), "byte {at} ^ {mask:#x}");
        }
    }
    for len in 0..leaf.der().len() {
        let cut = verify_chain(&believed, &leaf.der()[..len], &[], NOW, Usage::ClientAuth);
        assert_eq!(reason(cut), Reason::Malformed);
    }
}
