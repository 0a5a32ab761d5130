//! Certificates of every profile, field by field, and the lint that holds them against their drafts.

use std::net::IpAddr;

use types::{Serial, Wall};
use x509::{
    CERTIFICATE_BYTES_MAX, CaPurpose, Certificate, Draft, KeyKind, Profile, SubjectTemplate, X509Error,
    build_tbs, lint,
};

use crate::support::{Ca, DAY, Key, NOW, YEAR, at, draft, hierarchy, id, serial, sign, sign_unchecked};

fn server(dns: &[&str], ips: &[&str]) -> Profile {
    Profile::Server {
        dns: dns.iter().map(|name| (*name).to_owned()).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

#[test]
fn a_device_certificate_says_exactly_what_its_draft_says() {
    let (_, devices) = hierarchy();
    let key = Key::p256();
    let mut wanted = draft(Some(&devices), &key, "pump-7", Profile::Device { id: id("pump-7") });
    wanted.template = SubjectTemplate {
        country: Some("DE".to_owned()),
        state: Some("Bayern".to_owned()),
        organization: Some("Müller & Söhne".to_owned()),
        unit: Some("Pumps".to_owned()),
    };
    let found = devices.issue(&wanted);
    assert_eq!(found.version(), 3);
    assert_eq!(found.serial(), serial(7));
    assert_eq!(found.serial().as_bytes().len(), 20);
    assert_eq!(found.subject_text(), r"C=DE, ST=Bayern, O=M\u{fc}ller & S\u{f6}hne, OU=Pumps, CN=pump-7");
    assert_eq!(found.issuer_text(), "CN=Bailiwick Devices CA");
    assert_eq!(found.issuer_der(), devices.certificate.subject_der());
    assert_eq!(found.common_names(), ["pump-7"]);
    assert_eq!((found.not_before(), found.not_after()), (at(-DAY), at(YEAR)));
    assert_eq!(found.spki_der(), key.spki());
    assert_eq!(found.key_kind(), Ok(KeyKind::P256));
    assert_eq!((found.is_ca(), found.path_len()), (false, None));
    assert!(found.has_eku() && found.allows_client_auth() && !found.allows_server_auth());
    assert_eq!(found.san_uris(), ["urn:bailiwick:device:pump-7"]);
    assert_eq!((found.san_dns(), found.san_ips()), (vec![], vec![]));
    assert_eq!(found.crl_urls(), ["http://pki.example/crl/devices/0.crl"]);
    assert_eq!(found.aia_urls(), ["http://pki.example/ca/devices.cer"]);
    assert_eq!(found.aki(), devices.certificate.ski());
    assert_eq!(found.ski(), Some(x509::key_identifier(&key.spki()).unwrap().to_vec()));
    assert_eq!(found.verify_signed_by(&devices.certificate), Ok(()));
    assert!(!found.is_self_signed());
}

#[test]
fn the_key_identifier_is_rfc_7093_method_1() {
    // The P-256 point stands in the last 65 bytes of its SubjectPublicKeyInfo.
    let spki = Key::p256().spki();
    assert_eq!(x509::key_identifier(&spki).unwrap(), x509::sha256(&spki[spki.len() - 65..])[..20]);
    assert_eq!(x509::issuer_id(&spki).0, x509::spki_hash(&spki).0[..16]);
}

#[test]
fn services_and_operators_are_clients_with_uris_of_their_own() {
    let (_, ca) = hierarchy();
    let key = Key::p256();
    let service = ca.issue(&draft(Some(&ca), &key, "ingest", Profile::Service { name: id("ingest") }));
    let operator = ca.issue(&draft(Some(&ca), &key, "alice", Profile::Operator { name: id("alice") }));
    assert_eq!(service.san_uris(), ["urn:bailiwick:service:ingest"]);
    assert_eq!(operator.san_uris(), ["urn:bailiwick:operator:alice"]);
    for certificate in [service, operator] {
        assert!(certificate.allows_client_auth() && !certificate.allows_server_auth());
    }
}

#[test]
fn a_server_has_its_addresses_as_dns_names_too() {
    let root = Ca::root(Key::p256(), "Root");
    let servers = root.sub(Key::p256(), "Servers CA", CaPurpose::Servers);
    let profile = server(&["mqtt.example", "*.fleet.example", "192.0.2.1"], &["192.0.2.1", "2001:db8::1"]);
    let found = servers.issue(&draft(Some(&servers), &Key::rsa(), "mqtt.example", profile));
    assert_eq!(found.san_dns(), ["mqtt.example", "*.fleet.example", "192.0.2.1", "2001:db8::1"]);
    let ips: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(found.san_ips(), ips);
    assert!(found.allows_server_auth() && !found.allows_client_auth());
    assert!(found.san_uris().is_empty());
}

#[test]
fn roots_and_sub_cas_carry_their_constraints() {
    let root = Ca::root(Key::p384(), "Root");
    assert!(root.certificate.is_ca() && root.certificate.is_self_signed() && !root.certificate.has_eku());
    assert_eq!((root.certificate.path_len(), root.certificate.aki()), (None, None));
    for (purpose, client, server) in [(CaPurpose::Clients, true, false), (CaPurpose::Servers, false, true)] {
        let sub = root.sub(Key::p256(), "Sub", purpose).certificate;
        assert!(sub.is_ca() && sub.has_eku());
        assert_eq!(sub.path_len(), Some(0));
        assert_eq!((sub.allows_client_auth(), sub.allows_server_auth()), (client, server));
        assert_eq!(sub.aki(), root.certificate.ski());
        assert!(sub.crl_urls().is_empty() && sub.aia_urls().is_empty());
    }
}

#[test]
fn every_kind_of_ca_key_signs_every_kind_of_device_key() {
    for ca_key in Key::all() {
        let ca = Ca::root(ca_key, "Root");
        for key in Key::all() {
            let device = ca.device(&key, "pump-7");
            assert_eq!(device.verify_signed_by(&ca.certificate), Ok(()));
        }
    }
}

#[test]
fn dates_from_2050_on_are_generalized_and_all_are_cut_to_the_second() {
    let key = Key::p256();
    let mut wanted = draft(None, &key, "Long Root", Profile::Root);
    for (not_after, form) in [
        (Wall(2_524_607_999_999), &b"\x17\x0d491231235959Z"[..]),
        (Wall(2_524_608_000_000), b"\x18\x0f20500101000000Z"),
        (Wall(253_402_300_799_000), b"\x18\x0f99991231235959Z"),
    ] {
        wanted.not_after = not_after;
        let found = sign(&wanted, &key);
        assert_eq!(found.not_after(), Wall::from_secs(not_after.secs()));
        assert!(found.der().windows(form.len()).any(|window| window == form));
    }
}

#[test]
fn the_name_of_a_foreign_issuer_is_copied_byte_by_byte() {
    for (text, subject) in [
        (
            include_str!("../fixtures/cert/odd-root.pem"),
            r"DC=com, DC=example, OU=a, OU=b, CN=Odd Root+O=M\u{fc}ller",
        ),
        (include_str!("../fixtures/cert/teletex-root-without-ski.pem"), r"O=M\u{fffd}ller, CN=Teletex Root"),
    ] {
        let issuer = Certificate::parse_pem(text).unwrap();
        assert_eq!(sorted(&issuer.subject_text()), sorted(subject));
        assert!(issuer.is_self_signed());
        let key = Key::p256();
        let mut wanted = draft(None, &key, "pump-7", Profile::Device { id: id("pump-7") });
        wanted.issuer = Some(issuer.clone());
        // Signed by the wrong key, which the lint does not look at.
        let der = sign_unchecked(&wanted, &key);
        assert_eq!(lint(&der, &wanted), Ok(()));
        let found = Certificate::parse_der(&der).unwrap();
        assert_eq!(found.issuer_der(), issuer.subject_der());
        let expected =
            issuer.ski().unwrap_or_else(|| x509::key_identifier(issuer.spki_der()).unwrap().to_vec());
        assert_eq!(found.aki(), Some(expected));
        assert_eq!(
            found.verify_signed_by(&issuer).unwrap_err(),
            X509Error::BadSignature { what: "certificate" }
        );
    }
}

/// The parts of a multi-valued RDN stand in DER's order, which is not ours to choose.
fn sorted(text: &str) -> Vec<&str> {
    let mut parts: Vec<_> = text.split([',', '+']).map(str::trim).collect();
    parts.sort_unstable();
    parts
}

#[test]
fn a_draft_that_cannot_be_built_names_its_field() {
    let (_, ca) = hierarchy();
    let key = Key::p256();
    let base = || draft(Some(&ca), &key, "pump-7", Profile::Device { id: id("pump-7") });
    let refused = |change: &dyn Fn(&mut Draft)| {
        let mut changed = base();
        change(&mut changed);
        build_tbs(&changed).unwrap_err().to_string()
    };
    assert!(build_tbs(&base()).is_ok());
    assert_eq!(
        refused(&|d| d.common_name = "pump-8".to_owned()),
        "common name: \"pump-8\" is not the device's name \"pump-7\""
    );
    assert_eq!(refused(&|d| d.issuer = None), "issuer: a root signs itself, and nothing else does");
    assert_eq!(refused(&|d| d.profile = Profile::Root), "issuer: a root signs itself, and nothing else does");
    assert_eq!(
        refused(&|d| d.not_after = d.not_before),
        "validity: notBefore 2026-07-31T00:00:00Z is not before notAfter 2026-07-31T00:00:00Z"
    );
    assert_eq!(
        refused(&|d| d.not_after = Wall(253_402_300_800_000)),
        "validity: outside the years 1970 to 9999"
    );
    assert_eq!(
        refused(&|d| d.crl_url = Some("ldap://x".to_owned())),
        "crl url: \"ldap://x\" is no http URL in printable ASCII"
    );
    assert_eq!(
        refused(&|d| d.aia_url = Some("http://ü".to_owned())),
        "aia url: \"http://\\u{fc}\" is no http URL in printable ASCII"
    );
    assert_eq!(
        refused(&|d| d.profile = server(&[], &[])),
        "server names: none; at least one name or address is needed"
    );
    for name in ["", "a b", "-a", "a-", "a..b", "ü", "a/b", "*", "*.*.a", &"a.".repeat(128)] {
        let text = refused(&|d| d.profile = server(&[name], &[]));
        assert!(text.starts_with("server names: ") && text.ends_with("is no host name"), "{text}");
    }
    assert!(refused(&|d| d.spki_der.push(0)).contains("stray bytes"));
}

#[test]
fn the_lint_finds_every_field_that_differs_from_the_draft() {
    let (_, ca) = hierarchy();
    let (key, other) = (Key::p256(), Key::p256());
    let base = || draft(Some(&ca), &key, "pump-7", Profile::Device { id: id("pump-7") });
    let der = sign_unchecked(&base(), &ca.key);
    let fields = |change: &dyn Fn(&mut Draft)| {
        let mut changed = base();
        change(&mut changed);
        let mut fields: Vec<_> =
            lint(&der, &changed).err().unwrap_or_default().iter().map(|l| l.field).collect();
        fields.dedup();
        fields
    };
    assert!(fields(&|_| {}).is_empty());
    assert_eq!(fields(&|d| d.serial = serial(8)), ["serial"]);
    assert_eq!(fields(&|d| d.common_name = "pump-8".to_owned()), ["common name"]);
    assert_eq!(fields(&|d| d.template.unit = Some("a".to_owned())), ["subject unit", "common name"]);
    assert_eq!(fields(&|d| d.not_before = at(0)), ["not before"]);
    assert_eq!(fields(&|d| d.not_after = at(YEAR - 1000)), ["not after"]);
    assert_eq!(fields(&|d| d.not_after = at(6 * YEAR)), ["not after", "validity"]);
    assert_eq!(fields(&|d| d.spki_der = other.spki()), ["public key", "subject key identifier"]);
    assert_eq!(fields(&|d| d.signature = Key::ed25519().algorithm()), ["signature algorithm"]);
    assert_eq!(fields(&|d| d.crl_url = None), ["extensions", "crl distribution point"]);
    assert_eq!(fields(&|d| d.crl_url = Some("http://b/".to_owned())), ["crl distribution point"]);
    assert_eq!(fields(&|d| d.aia_url = Some("http://b/".to_owned())), ["authority information access"]);
    assert_eq!(
        fields(&|d| d.profile = Profile::Service { name: id("pump-7") }),
        ["subject alternative name"]
    );
    assert_eq!(
        fields(&|d| d.profile = server(&["pump-7"], &["192.0.2.1"])),
        ["extended key usage", "subject alternative name", "issuer"]
    );
    assert_eq!(
        fields(&|d| d.profile = Profile::SubCa { purpose: CaPurpose::Clients }),
        ["extensions", "basic constraints", "key usage", "subject alternative name", "issuer"]
    );
    let foreign = Ca::root(Key::p256(), "Bailiwick Devices CA");
    assert_eq!(fields(&|d| d.issuer = Some(foreign.certificate.clone())), ["authority key identifier"]);
    let renamed = Ca::root(Key::p384(), "Another CA");
    assert_eq!(
        fields(&|d| d.issuer = Some(renamed.certificate.clone())),
        ["signature algorithm", "issuer", "authority key identifier"]
    );
}

#[test]
fn the_lint_refuses_what_no_certificate_of_ours_may_be() {
    let (_, ca) = hierarchy();
    let key = Key::p256();
    let mut short = draft(Some(&ca), &key, "pump-7", Profile::Device { id: id("pump-7") });
    short.serial = Serial::parse("01").unwrap();
    let der = sign_unchecked(&short, &ca.key);
    let lints = lint(&der, &short).unwrap_err();
    assert_eq!(lints.len(), 1);
    assert_eq!(lints[0].to_string(), "serial: is not positive and 20 bytes long");

    let good = draft(Some(&ca), &key, "pump-7", Profile::Device { id: id("pump-7") });
    let mut trailing = sign_unchecked(&good, &ca.key);
    trailing.push(0);
    assert_eq!(
        lint(&trailing, &good).unwrap_err()[0].to_string(),
        "encoding: 1 stray bytes behind the certificate"
    );

    let below_leaf = ca.device(&Key::p256(), "gateway");
    let mut child = draft(Some(&ca), &key, "pump-7", Profile::Device { id: id("pump-7") });
    child.issuer = Some(below_leaf);
    let der = sign_unchecked(&child, &key);
    let lints = lint(&der, &child).unwrap_err();
    assert_eq!(lints[0].to_string(), "issuer: is no CA that may sign certificates");
}

#[test]
fn every_flipped_byte_of_the_signed_part_is_found_by_the_lint() {
    let (_, ca) = hierarchy();
    let key = Key::p256();
    let wanted = draft(Some(&ca), &key, "pump-7", Profile::Device { id: id("pump-7") });
    let der = sign_unchecked(&wanted, &ca.key);
    let signed = Certificate::parse_der(&der).unwrap().tbs_der().len() + 4;
    for at in 4..signed {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            let mut flipped = der.clone();
            flipped[at] ^= mask;
            assert!(lint(&flipped, &wanted).is_err(), "byte {at} ^ {mask:#x}");
        }
    }
}

#[test]
fn every_truncation_and_flipped_byte_of_a_certificate_is_read_without_a_panic() {
    let (root, ca) = hierarchy();
    let device = ca.device(&Key::p256(), "pump-7");
    let odd = Certificate::parse_pem(include_str!("../fixtures/cert/odd-root.pem")).unwrap();
    for (certificate, issuer) in
        [(&device, &ca.certificate), (&ca.certificate, &root.certificate), (&odd, &odd)]
    {
        let der = certificate.der();
        for len in 0..der.len() {
            assert!(Certificate::parse_der(&der[..len]).is_err(), "cut to {len}");
        }
        for at in 0..der.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut flipped = der.to_vec();
                flipped[at] ^= mask;
                let Ok(read) = Certificate::parse_der(&flipped) else { continue };
                // Every accessor, for its panics; and no flip may keep the signature.
                let _ = (read.common_names(), read.subject_text(), read.issuer_text(), read.san_dns());
                let _ = (read.san_ips(), read.san_uris(), read.crl_urls(), read.aia_urls(), read.to_pem());
                let _ = (read.ski(), read.aki(), read.key_kind(), read.der_hash(), read.spki_hash());
                assert!(read.verify_signed_by(issuer).is_err(), "byte {at} ^ {mask:#x}");
            }
        }
    }
}

#[test]
fn what_is_no_single_certificate_is_refused() {
    let (root, ca) = hierarchy();
    let mut trailing = root.certificate.der().to_vec();
    trailing.push(0);
    assert_eq!(
        Certificate::parse_der(&trailing).unwrap_err(),
        X509Error::Trailing { what: "certificate", len: 1 }
    );
    let huge = vec![0; CERTIFICATE_BYTES_MAX + 1];
    assert_eq!(
        Certificate::parse_der(&huge).unwrap_err().to_string(),
        "certificate of 65537 bytes; limit 65536"
    );
    let chain = format!("{}{}", ca.certificate.to_pem(), root.certificate.to_pem());
    assert_eq!(
        Certificate::parse_pem(&chain).unwrap_err().to_string(),
        "pem: 2 blocks; expected one \"CERTIFICATE\""
    );
    assert_eq!(
        Certificate::parse_pem_chain(&chain).unwrap(),
        [ca.certificate.clone(), root.certificate.clone()]
    );
    let with_key = format!("{}{chain}", x509::pem::encode("PRIVATE KEY", b"x"));
    assert_eq!(Certificate::parse_pem_chain(&with_key).unwrap().len(), 2);
    let only_key = x509::pem::encode("PRIVATE KEY", b"x");
    assert_eq!(
        Certificate::parse_pem_chain(&only_key).unwrap_err().to_string(),
        "pem: no block \"CERTIFICATE\""
    );
}

#[test]
fn an_extension_that_stands_twice_is_refused() {
    let (_, ca) = hierarchy();
    let der = ca.device(&Key::p256(), "pump-7").der().to_vec();
    // keyUsage becomes a second basicConstraints.
    let at = der.windows(3).position(|window| window == [0x55, 0x1d, 15]).unwrap();
    let mut twice = der;
    twice[at + 2] = 19;
    assert_eq!(
        Certificate::parse_der(&twice).unwrap_err().to_string(),
        "malformed certificate: extension 2.5.29.19 stands twice"
    );
}

#[test]
fn a_certificate_survives_pem_and_keeps_its_fingerprint() {
    let (root, _) = hierarchy();
    let again = Certificate::parse_pem(&root.certificate.to_pem()).unwrap();
    assert_eq!(again, root.certificate);
    assert_eq!(again.der_hash().0, x509::sha256(again.der()));
    assert_eq!(again.issuer_id_as_ca(), x509::issuer_id(&root.key.spki()));
    assert_eq!(format!("{again:?}"), format!("Certificate(0x{} CN=Bailiwick Root)", serial(7)));
    assert!(NOW < again.not_after());
}
