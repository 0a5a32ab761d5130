//! The root and the CAs below it.

mod common;

use ca::CaError;
use ca::ceremony::{Hierarchy, finish, plan_root, plan_sub};
use common::*;
use signer::{FileKey, RawSigner as _};
use types::{Blame, Now, Serial, Wall};
use x509::{CaPurpose, KeyKind};

#[test]
fn a_root_signs_itself_and_lives_ten_years() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa { bits: 4096 }] {
        let key = FileKey::generate(kind).unwrap();
        let ticket = plan_root(root_wanted(&key, Hierarchy::Standard), now()).unwrap();
        assert_eq!(ticket.id(), x509::issuer_id(key.spki_der()));
        assert_eq!(ticket.cert().issuer, ticket.id());
        let not_after = ticket.not_after();
        let signature = key.sign(ticket.tbs()).unwrap();
        let root = finish(ticket, &signature).unwrap();
        assert!(root.is_ca() && root.path_len().is_none() && !root.has_eku());
        assert_eq!(root.subject_der(), root.issuer_der());
        assert_eq!(root.common_names(), ["Acme Root"]);
        assert_eq!(root.not_before(), Wall::from_secs(T0 - 86_400));
        assert_eq!(root.not_after(), not_after);
        assert_eq!(not_after, Wall::from_secs(T0 + 315_576_000));
    }
}

#[test]
fn a_sub_ca_carries_one_usage_and_no_ca_below_it() {
    for (purpose, client, server) in [(CaPurpose::Clients, true, false), (CaPurpose::Servers, false, true)] {
        let sub = made_with(KeyKind::P256, Hierarchy::Standard, purpose).issuer.certificate;
        assert!(sub.is_ca() && sub.path_len() == Some(0));
        assert_eq!((sub.allows_client_auth(), sub.allows_server_auth()), (client, server));
        assert_eq!(sub.not_after(), Wall::from_secs(T0 + 157_788_000));
        assert_eq!(sub.crl_urls(), ["http://pki.example/crl/root/0.crl"]);
        assert_eq!(sub.aia_urls(), ["http://pki.example/ca/root.cer"]);
    }
}

#[test]
fn a_long_life_hierarchy_lives_35_years() {
    let made = made_with(KeyKind::P256, Hierarchy::LongLife, CaPurpose::Clients);
    for certificate in [&made.root, &made.issuer.certificate] {
        assert_eq!(certificate.not_after(), Wall::from_secs(T0 + 35 * 31_557_600));
    }
}

#[test]
fn a_sub_ca_never_outlives_its_root() {
    let made = made();
    let late = Now { wall: made.root.not_after().minus(days(100)), ..Now::default() };
    let wanted = sub_wanted(&key(), "Late", Hierarchy::Standard, CaPurpose::Clients);
    let ticket = plan_sub(wanted, &made.root, late).unwrap();
    assert_eq!(ticket.not_after(), made.root.not_after());
}

#[test]
fn a_root_out_of_its_dates_makes_no_sub_ca() {
    let made = made();
    let plan = |wall| {
        let wanted = sub_wanted(&key(), "Sub", Hierarchy::Standard, CaPurpose::Clients);
        plan_sub(wanted, &made.root, Now { wall, ..Now::default() }).err().map(|error| error.code())
    };
    assert_eq!(plan(made.root.not_after()), Some("ca.issuer_expired"));
    assert_eq!(plan(Wall(made.root.not_after().0 - 1000)), None);
    assert_eq!(plan(made.root.not_before()), None);
    assert_eq!(plan(Wall(made.root.not_before().0 - 1)), Some("ca.issuer_not_yet_valid"));
}

#[test]
fn a_sub_ca_and_a_leaf_make_no_ca() {
    let made = made();
    let leaf = signed(&made, prepared(&made, "pump-7")).unwrap();
    for parent in [&made.issuer.certificate, &leaf] {
        let wanted = sub_wanted(&key(), "Sub", Hierarchy::Standard, CaPurpose::Clients);
        let error = plan_sub(wanted, parent, now()).unwrap_err();
        assert_eq!((error.code(), error.blame()), ("ca.not_a_ca", Blame::Operator));
    }
}

#[test]
fn keys_that_small_devices_cannot_verify_are_refused() {
    for (kind, root, sub) in [
        (KeyKind::Ed25519, false, false),
        (KeyKind::Rsa { bits: 2048 }, false, false),
        (KeyKind::Rsa { bits: 3072 }, false, true),
    ] {
        let made = made();
        let key = FileKey::generate(kind).unwrap();
        let answer = plan_root(root_wanted(&key, Hierarchy::Standard), now());
        assert_eq!(answer.is_ok(), root, "{kind:?}");
        let wanted = sub_wanted(&key, "Sub", Hierarchy::Standard, CaPurpose::Clients);
        let answer = plan_sub(wanted, &made.root, now());
        assert_eq!(answer.is_ok(), sub, "{kind:?}");
        if let Err(error) = answer {
            assert_eq!(error.code(), "ca.ca_key");
        }
    }
    let key = FileKey::generate(KeyKind::Rsa { bits: 2048 }).unwrap();
    let error = plan_root(root_wanted(&key, Hierarchy::Standard), now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a root with a key of RSA of 2048 bits; allowed RSA of 4096 bits, P-256, P-384"
    );
}

#[test]
fn a_root_with_a_key_that_is_none_is_refused() {
    let mut wanted = root_wanted(&key(), Hierarchy::Standard);
    wanted.spki_der.truncate(20);
    assert_eq!(plan_root(wanted, now()).unwrap_err().code(), "ca.key");
}

#[test]
fn a_ca_needs_a_serial_of_our_own_shape() {
    let made = made();
    let short = Serial::from_der_integer(&[1]).unwrap();
    let mut root = root_wanted(&key(), Hierarchy::Standard);
    root.serial = short;
    assert_eq!(plan_root(root, now()).unwrap_err().code(), "ca.serial");
    let mut sub = sub_wanted(&key(), "Sub", Hierarchy::Standard, CaPurpose::Clients);
    sub.serial = short;
    assert_eq!(plan_sub(sub, &made.root, now()).unwrap_err().code(), "ca.serial");
}

#[test]
fn a_signature_by_another_key_makes_no_ca() {
    let (ours, other) = (key(), key());
    let ticket = plan_root(root_wanted(&ours, Hierarchy::Standard), now()).unwrap();
    let signature = other.sign(ticket.tbs()).unwrap();
    let error = finish(ticket, &signature).unwrap_err();
    assert!(matches!(&error, CaError::Signature { label, .. } if label == "Acme Root"), "{error}");
    let made = made();
    let wanted = sub_wanted(&key(), "Sub", Hierarchy::Standard, CaPurpose::Clients);
    let ticket = plan_sub(wanted, &made.root, now()).unwrap();
    let signature = made.key.sign(ticket.tbs()).unwrap();
    assert_eq!(finish(ticket, &signature).unwrap_err().code(), "ca.signature");
}
