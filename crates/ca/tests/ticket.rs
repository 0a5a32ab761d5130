//! From the admitted request to the certificate: what is built, and everything that stops it.

mod common;

use ca::ceremony::Hierarchy;
use ca::{CaError, Issuer, RecordedTicket, finish, prepare};
use common::*;
use signer::RawSigner as _;
use types::{Blame, CertRef, Now, Principal, PrincipalKind, Serial, Wall};
use x509::{CaPurpose, ChainAnchors, KeyKind, Usage, verify_chain};

#[test]
fn a_certificate_carries_what_was_admitted_and_verifies() {
    let made = made();
    let device_key = key();
    let ticket = prepare(admitted(&device_key, "pump-7"), &made.issuer, serial(9), days(365), now()).unwrap();
    let intent = ticket.intent();
    assert_eq!(intent.cert, CertRef { issuer: made.issuer.id(), serial: serial(9) });
    assert_eq!(intent.spki, x509::spki_hash(device_key.spki_der()));
    assert_eq!(intent.tbs_hash, x509::sha256(ticket.tbs()));
    assert_eq!(intent.principal, Some(Principal { kind: PrincipalKind::Device, name: id("pump-7") }));
    assert_eq!(intent.not_before, Wall::from_secs(T0 - 600));
    assert_eq!(intent.not_after, Wall::from_secs(T0 + 365 * 86_400));
    let certificate = signed(&made, ticket).unwrap();
    assert_eq!(certificate.common_names(), ["pump-7"]);
    assert_eq!(certificate.san_uris(), ["urn:bailiwick:device:pump-7"]);
    assert_eq!(certificate.spki_der(), device_key.spki_der());
    assert_eq!(certificate.crl_urls(), ["http://pki.example/crl/devices/0.crl"]);
    assert_eq!((certificate.not_before(), certificate.not_after()), (intent.not_before, intent.not_after));
    let anchors = ChainAnchors::new([&made.root]).unwrap();
    let intermediates = [made.issuer.certificate.der()];
    let chain =
        verify_chain(&anchors, certificate.der(), &intermediates, now().wall, Usage::ClientAuth).unwrap();
    assert_eq!(chain.cert_ref(), intent.cert);
}

#[test]
fn every_kind_of_issuing_root_signs() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa { bits: 4096 }] {
        let made = made_with(kind, Hierarchy::Standard, CaPurpose::Clients);
        let ticket = prepared(&made, "pump-7");
        assert!(signed(&made, ticket).is_ok(), "{kind:?}");
    }
}

#[test]
fn a_server_certificate_comes_from_the_servers_ca() {
    let made = made_with(KeyKind::P256, Hierarchy::Standard, CaPurpose::Servers);
    let ticket =
        prepare(admitted_server(&key(), "mqtt.example"), &made.issuer, serial(9), days(90), now()).unwrap();
    assert_eq!(ticket.intent().principal, None);
    let certificate = signed(&made, ticket).unwrap();
    assert!(certificate.allows_server_auth() && !certificate.allows_client_auth());
    assert_eq!(certificate.san_dns(), ["mqtt.example"]);
}

#[test]
fn a_ca_signs_for_its_own_kinds_only() {
    let devices = made();
    let servers = made_with(KeyKind::P256, Hierarchy::Standard, CaPurpose::Servers);
    let error = prepare(admitted(&key(), "pump-7"), &servers.issuer, serial(9), days(1), now()).unwrap_err();
    assert_eq!(error.to_string(), "CA \"servers\" does not sign for device \"pump-7\"");
    let error = prepare(admitted_server(&key(), "b.example"), &devices.issuer, serial(9), days(1), now())
        .unwrap_err();
    assert_eq!((error.code(), error.blame()), ("ca.wrong_issuer", Blame::Operator));
    let services = Issuer { kinds: vec![PrincipalKind::Service, PrincipalKind::Operator], ..devices.issuer };
    let error = prepare(admitted(&key(), "pump-7"), &services, serial(9), days(1), now()).unwrap_err();
    assert_eq!(error.code(), "ca.wrong_issuer");
}

#[test]
fn a_devices_ca_that_is_told_to_sign_servers_fails_the_lint() {
    let made = made();
    let issuer = Issuer { servers: true, ..made.issuer };
    let error =
        prepare(admitted_server(&key(), "b.example"), &issuer, serial(9), days(1), now()).unwrap_err();
    assert_eq!((error.code(), error.blame()), ("ca.lint", Blame::Bug), "{error}");
}

#[test]
fn a_ca_out_of_its_dates_signs_nothing() {
    let made = made();
    let ca = &made.issuer.certificate;
    let cases = [
        (Wall(ca.not_before().0 - 1), Some("ca.issuer_not_yet_valid")),
        (ca.not_before(), None),
        (Wall(ca.not_after().0 - 1000), None),
        (ca.not_after(), Some("ca.issuer_expired")),
    ];
    for (wall, code) in cases {
        let answer = prepare(
            admitted(&key(), "pump-7"),
            &made.issuer,
            serial(9),
            days(1),
            Now { wall, ..Now::default() },
        );
        assert_eq!(answer.err().map(|error| error.code()), code, "{wall}");
    }
}

#[test]
fn a_leaf_never_outlives_its_issuer() {
    let made = made();
    let ends = made.issuer.certificate.not_after();
    let late = Now { wall: ends.minus(days(100)), ..Now::default() };
    let ticket = prepare(admitted(&key(), "pump-7"), &made.issuer, serial(9), days(365), late).unwrap();
    assert_eq!(ticket.intent().not_after, ends);
    let ticket = prepare(admitted(&key(), "pump-7"), &made.issuer, serial(9), days(99), late).unwrap();
    assert_eq!(ticket.intent().not_after, ends.minus(days(1)));
}

#[test]
fn a_leaf_never_begins_before_its_issuer() {
    let made = made();
    let begins = made.issuer.certificate.not_before();
    let early = Now { wall: begins.plus(std::time::Duration::from_secs(60)), ..Now::default() };
    let ticket = prepare(admitted(&key(), "pump-7"), &made.issuer, serial(9), days(1), early).unwrap();
    assert_eq!(ticket.intent().not_before, begins);
}

#[test]
fn parts_of_a_second_are_dropped_from_the_dates() {
    let made = made();
    let now = Now { wall: Wall(T0 * 1000 + 999), ..Now::default() };
    let ticket = prepare(admitted(&key(), "pump-7"), &made.issuer, serial(9), days(1), now).unwrap();
    let intent = ticket.intent();
    assert_eq!(intent.not_after, Wall::from_secs(T0 + 86_400));
    assert_eq!(signed(&made, ticket).unwrap().not_after(), intent.not_after);
}

#[test]
fn more_than_four_years_need_the_long_life_hierarchy() {
    let standard = made();
    let long = made_with(KeyKind::P256, Hierarchy::LongLife, CaPurpose::Clients);
    assert!(!standard.issuer.is_long_life() && long.issuer.is_long_life());
    let ask = |made: &Made, lifetime| {
        prepare(admitted(&key(), "pump-7"), &made.issuer, serial(9), lifetime, now()).err()
    };
    assert_eq!(ask(&standard, days(1461)), None);
    let error = ask(&standard, days(1462)).unwrap();
    assert_eq!(error.to_string(), "lifetime of 1462 days; limit 1 to 1461 days under CA \"devices\"");
    assert_eq!(error.blame(), Blame::Operator);
    assert_eq!(ask(&long, days(30 * 365)), None);
    assert_eq!(ask(&long, days(12_784)), None);
    assert_eq!(ask(&long, days(12_785)).unwrap().code(), "ca.lifetime");
    assert_eq!(ask(&standard, days(0)).unwrap().code(), "ca.lifetime");
}

#[test]
fn a_long_life_leaf_has_its_date_past_2049() {
    let made = made_with(KeyKind::P256, Hierarchy::LongLife, CaPurpose::Clients);
    let ticket = prepare(admitted(&key(), "pump-7"), &made.issuer, serial(9), days(30 * 365), now()).unwrap();
    let not_after = ticket.intent().not_after;
    assert!(not_after > Wall::from_secs(2_524_608_000));
    assert_eq!(signed(&made, ticket).unwrap().not_after(), not_after);
}

#[test]
fn a_serial_that_is_not_ours_is_refused() {
    let made = made();
    for (bytes, length) in [(vec![1], 1), (vec![0x40; 19], 19), (vec![0x80; 20], 20)] {
        let serial = Serial::from_der_integer(&bytes).unwrap();
        let error = prepare(admitted(&key(), "pump-7"), &made.issuer, serial, days(1), now()).unwrap_err();
        assert_eq!(error, CaError::Serial { serial: serial.to_string(), bytes: length });
    }
}

#[test]
fn a_host_name_that_is_none_builds_nothing() {
    let made = made_with(KeyKind::P256, Hierarchy::Standard, CaPurpose::Servers);
    let error =
        prepare(admitted_server(&key(), "bad host"), &made.issuer, serial(9), days(1), now()).unwrap_err();
    assert_eq!(error.code(), "ca.build");
    assert!(error.to_string().contains("bad host"), "{error}");
}

#[test]
fn what_was_recorded_otherwise_is_not_signed() {
    let made = made();
    let ticket = prepared(&made, "pump-7");
    let intent = ticket.intent();
    let other = CertRef { serial: serial(8), ..intent.cert };
    let error = RecordedTicket::assertion(ticket, other, intent.tbs_hash).unwrap_err();
    assert_eq!(error, CaError::RecordDiffers { what: "issuer and serial" });
    let ticket = prepared(&made, "pump-7");
    let intent = ticket.intent();
    let error = RecordedTicket::assertion(ticket, intent.cert, [0; 32]).unwrap_err();
    assert_eq!(error, CaError::RecordDiffers { what: "bytes to be signed" });
    assert_eq!(error.blame(), Blame::Bug);
}

#[test]
fn a_wrong_signature_makes_no_certificate() {
    let made = made();
    let other = key();
    let cases: [fn(&mut Vec<u8>); 3] =
        [|signature| signature.clear(), |signature| signature.truncate(10), |signature| signature[10] ^= 1];
    for spoil in cases {
        let recorded = recorded(prepared(&made, "pump-7"));
        let mut signature = made.key.sign(recorded.tbs()).unwrap();
        spoil(&mut signature);
        let error = finish(recorded, &made.issuer, &signature).unwrap_err();
        assert_eq!((error.code(), error.blame()), ("ca.signature", Blame::Bug));
    }
    let recorded = recorded(prepared(&made, "pump-7"));
    let signature = other.sign(recorded.tbs()).unwrap();
    assert_eq!(finish(recorded, &made.issuer, &signature).unwrap_err().code(), "ca.signature");
}

#[test]
fn the_dummy_of_the_lint_is_no_signature() {
    let made = made();
    let recorded = recorded(prepared(&made, "pump-7"));
    let mut dummy = vec![0x30, 68];
    for _ in 0..2 {
        dummy.extend([0x02, 32]);
        dummy.extend([0x5a; 32]);
    }
    assert_eq!(finish(recorded, &made.issuer, &dummy).unwrap_err().code(), "ca.signature");
}

#[test]
fn a_ticket_is_finished_by_its_own_issuer_only() {
    let (made, other) = (made(), common::made());
    let recorded = recorded(prepared(&made, "pump-7"));
    let signature = made.key.sign(recorded.tbs()).unwrap();
    let error = finish(recorded, &other.issuer, &signature).unwrap_err();
    assert_eq!(error, CaError::OtherIssuer { wanted: made.issuer.id(), found: other.issuer.id() });
}

#[test]
fn an_intent_from_before_a_crash_is_signed_again_with_the_same_bytes() {
    let made = made();
    let ticket = prepared(&made, "pump-7");
    let (tbs, intent) = (ticket.tbs().to_vec(), ticket.intent());
    let first = signed(&made, ticket).unwrap();
    let again = RecordedTicket::assertion_recovered(tbs.clone(), intent.cert, intent.tbs_hash).unwrap();
    let signature = made.key.sign(again.tbs()).unwrap();
    let second = finish(again, &made.issuer, &signature).unwrap();
    assert_eq!((second.serial(), second.spki_der()), (first.serial(), first.spki_der()));
    let error = RecordedTicket::assertion_recovered(tbs, intent.cert, [0; 32]).unwrap_err();
    assert_eq!(error, CaError::RecordDiffers { what: "bytes to be signed" });
}

#[test]
fn a_recovered_intent_that_would_be_dangerous_is_not_finished() {
    let made = made();
    // Another serial than the one that the row names.
    let ticket = prepared(&made, "pump-7");
    let (tbs, intent) = (ticket.tbs().to_vec(), ticket.intent());
    let wrong = CertRef { serial: serial(8), ..intent.cert };
    let recorded = RecordedTicket::assertion_recovered(tbs, wrong, intent.tbs_hash).unwrap();
    let signature = made.key.sign(recorded.tbs()).unwrap();
    let error = finish(recorded, &made.issuer, &signature).unwrap_err();
    assert_eq!(error, CaError::RecordDiffers { what: "serial" });
    // A CA below the devices CA.
    let sub = sub_wanted(&key(), "Evil", Hierarchy::Standard, CaPurpose::Clients);
    let ticket = ca::ceremony::plan_sub(sub, &made.root, now()).unwrap();
    let tbs = ticket.tbs().to_vec();
    let hash = x509::sha256(&tbs);
    let cert = CertRef { issuer: made.issuer.id(), serial: serial(2) };
    let recorded = RecordedTicket::assertion_recovered(tbs, cert, hash).unwrap();
    let signature = made.key.sign(recorded.tbs()).unwrap();
    let error = finish(recorded, &made.issuer, &signature).unwrap_err();
    assert_eq!(error, CaError::RecordDiffers { what: "CA bit" });
    // Bytes that are no certificate at all.
    let tbs = b"no certificate".to_vec();
    let hash = x509::sha256(&tbs);
    let recorded = RecordedTicket::assertion_recovered(tbs, cert, hash).unwrap();
    let signature = made.key.sign(recorded.tbs()).unwrap();
    assert_eq!(finish(recorded, &made.issuer, &signature).unwrap_err().code(), "ca.build");
}
