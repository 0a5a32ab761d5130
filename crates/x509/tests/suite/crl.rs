//! Revocation lists: what we write, what we read back, and what we refuse.

use proptest::prelude::*;
use types::{Serial, Wall};
use x509::{
    CaPurpose, Certificate, Crl, CrlEntry, CrlHead, CrlReason, Profile, X509Error, assemble, build_crl_tbs,
};

use crate::support::{Ca, DAY, Key, NOW, at, draft, hierarchy, serial, sign_unchecked};

fn entry(number: u8, reason: CrlReason) -> CrlEntry {
    CrlEntry { serial: serial(number), revoked_at: at(-DAY), reason }
}

#[test]
fn a_list_says_exactly_what_it_was_told() {
    let (root, ca) = hierarchy();
    let entries: Vec<_> = CrlReason::ALL.into_iter().zip(1..).map(|(reason, n)| entry(n, reason)).collect();
    let crl = ca.crl(42, &entries);
    assert_eq!((crl.number(), crl.this_update(), crl.next_update()), (42, NOW, at(DAY)));
    assert_eq!(crl.entries().collect::<Vec<_>>(), entries);
    assert_eq!(crl.serials()[1], (serial(2), CrlReason::KeyCompromise));
    assert_eq!((crl.len(), crl.is_empty()), (7, false));
    assert_eq!(crl.issuer_der(), ca.certificate.subject_der());
    assert_eq!(crl.verify(&ca.certificate), Ok(()));
    assert_eq!(Crl::parse_pem(&crl.to_pem()).unwrap().der(), crl.der());
    // The sub-CA's own SKI; both usual crates write the root's (its AKI) instead.
    assert_eq!(crl.aki().map(Vec::from), ca.certificate.ski());
    assert_ne!(crl.aki().map(Vec::from), root.certificate.ski());
    assert_eq!(format!("{crl:?}"), "Crl(42 of CN=Bailiwick Devices CA, 7 entries)");
}

#[test]
fn an_empty_list_has_no_entries_at_all_and_not_an_empty_sequence() {
    let (_, ca) = hierarchy();
    let crl = ca.crl(1, &[]);
    assert!(crl.is_empty() && crl.serials().is_empty());
    assert!(!crl.der().windows(4).any(|window| window == [b'Z', 0x30, 0x00, 0xa0]));
    assert_eq!(crl.verify(&ca.certificate), Ok(()));
}

#[test]
fn the_reason_is_enumerated_and_absent_when_unspecified() {
    let (_, ca) = hierarchy();
    let code = [0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01];
    let written = |reason| {
        let der = ca.crl(1, &[entry(1, reason)]).der().to_vec();
        der.windows(8).find(|window| window[..7] == code).map(|window| window[7])
    };
    assert_eq!(written(CrlReason::Unspecified), None);
    for reason in CrlReason::ALL.into_iter().skip(1) {
        assert_eq!(written(reason), Some(reason.code()));
    }
}

#[test]
fn reasons_are_spelled_as_in_rfc_5280() {
    let words = [
        "unspecified",
        "keyCompromise",
        "cACompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "certificateHold",
    ];
    for (reason, word) in CrlReason::ALL.into_iter().zip(words) {
        assert_eq!((reason.as_str(), reason.to_string().as_str()), (word, word));
        assert_eq!(CrlReason::parse(word), Some(reason));
        assert_eq!(CrlReason::parse(&word.to_uppercase()), Some(reason));
        assert_eq!(CrlReason::from_code(reason.code()), Some(reason));
    }
    assert_eq!((CrlReason::parse("lost"), CrlReason::from_code(7)), (None, None));
}

#[test]
fn numbers_of_every_length_and_dates_past_2049_survive() {
    let (_, ca) = hierarchy();
    for number in [0, 1, 127, 128, 255, 256, u64::from(u32::MAX), u64::MAX / 2 + 1, u64::MAX] {
        assert_eq!(ca.crl(number, &[]).number(), number);
    }
    let head = CrlHead {
        issuer: &ca.certificate,
        number: 1,
        this_update: Wall(2_524_607_999_999),
        next_update: Wall(2_524_608_000_000),
        signature: ca.key.algorithm(),
    };
    let tbs = build_crl_tbs(&head, std::iter::empty());
    let crl = Crl::parse_der(&assemble(&tbs, ca.key.algorithm(), &ca.key.sign(&tbs))).unwrap();
    assert_eq!((crl.this_update(), crl.next_update()), (Wall(2_524_607_999_000), Wall(2_524_608_000_000)));
    assert!(tbs.windows(28).any(|window| window.starts_with(b"\x17\x0d491231235959Z\x18\x0f2050")));
}

#[test]
fn every_kind_of_ca_key_signs_lists() {
    for key in Key::all() {
        let ca = Ca::root(key, "Root");
        assert_eq!(ca.crl(1, &[entry(1, CrlReason::Superseded)]).verify(&ca.certificate), Ok(()));
    }
}

#[test]
fn a_list_verifies_only_under_the_ca_that_signed_it() {
    let (root, ca) = hierarchy();
    let crl = ca.crl(1, &[]);
    assert_eq!(
        crl.verify(&root.certificate).unwrap_err().to_string(),
        "malformed crl: issuer \"CN=Bailiwick Devices CA\" is not \"CN=Bailiwick Root\""
    );
    let impostor = root.sub(Key::p256(), "Bailiwick Devices CA", CaPurpose::Clients);
    assert_eq!(
        crl.verify(&impostor.certificate).unwrap_err().to_string(),
        "malformed crl: authority key identifier is not the issuer's"
    );
    // The right name and key identifier under another key: the signature decides.
    let other = Key::p256();
    let head = CrlHead {
        issuer: &ca.certificate,
        number: 1,
        this_update: NOW,
        next_update: at(DAY),
        signature: other.algorithm(),
    };
    let tbs = build_crl_tbs(&head, std::iter::empty());
    let forged = Crl::parse_der(&assemble(&tbs, other.algorithm(), &other.sign(&tbs))).unwrap();
    assert_eq!(forged.verify(&ca.certificate).unwrap_err(), X509Error::BadSignature { what: "crl" });

    let key = Key::p256();
    let leaf = draft(Some(&ca), &key, "Leaf", Profile::Server { dns: vec!["leaf".to_owned()], ips: vec![] });
    let leaf = Certificate::parse_der(&sign_unchecked(&leaf, &ca.key)).unwrap();
    let leaf = Ca { key, certificate: leaf };
    assert_eq!(
        leaf.crl(1, &[]).verify(&leaf.certificate).unwrap_err().to_string(),
        "certificate \"CN=Leaf\" is no CA: basicConstraints does not say CA:TRUE"
    );
}

#[test]
fn every_truncation_and_flipped_byte_of_a_list_is_refused_without_a_panic() {
    let (_, ca) = hierarchy();
    let crl = ca.crl(42, &[entry(1, CrlReason::KeyCompromise), entry(2, CrlReason::Unspecified)]);
    let der = crl.der();
    for len in 0..der.len() {
        assert!(Crl::parse_der(&der[..len]).is_err(), "cut to {len}");
    }
    for at in 0..der.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = der.to_vec();
            flipped[at] ^= mask;
            let verified = Crl::parse_der(&flipped).and_then(|crl| crl.verify(&ca.certificate));
            assert!(verified.is_err(), "byte {at} ^ {mask:#x}");
        }
    }
    let trailing = [der, b"\0"].concat();
    assert_eq!(Crl::parse_der(&trailing).unwrap_err(), X509Error::Trailing { what: "crl", len: 1 });
}

#[test]
fn a_partial_list_is_not_taken_for_a_full_one() {
    let (_, ca) = hierarchy();
    let crl = ca.crl(1, &[]);
    // CRLNumber becomes a critical deltaCRLIndicator of the same length.
    let number = [0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x14, 0x04, 0x03, 0x02, 0x01, 0x01];
    let delta = [0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x1b, 0x01, 0x01, 0xff, 0x04, 0x00];
    let at = crl.der().windows(12).position(|window| window == number).unwrap();
    let mut der = crl.der().to_vec();
    der[at..at + 12].copy_from_slice(&delta);
    assert_eq!(
        Crl::parse_der(&der).unwrap_err().to_string(),
        "malformed crl: unknown critical extension 2.5.29.27"
    );
    let mut unnumbered = crl.der().to_vec();
    unnumbered[at + 6] = 0x15;
    assert_eq!(Crl::parse_der(&unnumbered).unwrap_err().to_string(), "malformed crl: number is missing");
}

#[test]
fn a_list_of_100_000_entries_keeps_them_all() {
    let (_, ca) = hierarchy();
    let entries: Vec<_> = (0..100_000_u32)
        .map(|n| {
            let mut bytes = [0; 20];
            bytes[16..].copy_from_slice(&n.to_be_bytes());
            CrlEntry { serial: Serial::from_random(bytes), revoked_at: NOW, reason: CrlReason::Superseded }
        })
        .collect();
    let crl = ca.crl(7, &entries);
    assert_eq!(crl.len(), 100_000);
    assert!(crl.entries().eq(entries.iter().copied()));
    assert_eq!(crl.verify(&ca.certificate), Ok(()));
}

fn any_entry() -> impl Strategy<Value = CrlEntry> {
    let serial = prop::collection::vec(any::<u8>(), 1..=20);
    // 1900 to 2100: both forms of date.
    (serial, -2_208_988_800..4_102_444_800_i64, 0..7_u8).prop_filter_map(
        "zero is no serial",
        |(bytes, secs, code)| {
            Some(CrlEntry {
                serial: Serial::from_der_integer(&bytes)?,
                revoked_at: Wall::from_secs(secs),
                reason: CrlReason::from_code(code)?,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_entries_survive_a_round_trip(entries in prop::collection::vec(any_entry(), 0..40), number: u64) {
        let ca = Ca::root(Key::ed25519(), "Root");
        let crl = ca.crl(number, &entries);
        prop_assert_eq!(crl.number(), number);
        prop_assert_eq!(crl.entries().collect::<Vec<_>>(), entries);
        prop_assert_eq!(crl.verify(&ca.certificate), Ok(()));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Crl::parse_der(&bytes).is_err());
        prop_assert!(Certificate::parse_der(&bytes).is_err());
        prop_assert!(x509::Csr::parse_der(&bytes).is_err());
        let _ = x509::key_kind(&bytes);
        let _ = x509::pem::decode(&String::from_utf8_lossy(&bytes));
    }
}
