//! Who may have a certificate: one test for every refusal, and for what stands just inside.
#![expect(clippy::unwrap_used, reason = "what cannot be made or read fails its test")]

mod common;

use ca::{CaError, Evidence, Facts, Wanted, admit};
use common::{csr, device, id, key, known, token};
use types::{Blame, PrincipalKind};

fn operator() -> Evidence {
    Evidence::Operator { name: "eve".into() }
}

fn server(dns: &[&str]) -> Wanted {
    let dns = dns.iter().map(|&name| name.to_owned()).collect();
    Wanted::Server { name: "broker".into(), dns, ips: vec![] }
}

/// The refusal of a request that names `common_name`.
fn refused(common_name: &str, evidence: Evidence, wanted: Wanted, facts: &Facts) -> CaError {
    admit(csr(&key(), common_name), evidence, wanted, facts).unwrap_err()
}

fn accepted(common_name: &str, evidence: Evidence, wanted: Wanted, facts: &Facts) {
    admit(csr(&key(), common_name), evidence, wanted, facts).unwrap();
}

#[test]
fn a_device_with_its_token_is_admitted() {
    let key = key();
    let facts = known(PrincipalKind::Device);
    let admitted = admit(csr(&key, "pump-7"), token("pump-7"), device("pump-7"), &facts).unwrap();
    assert_eq!(admitted.wanted(), &device("pump-7"));
    assert_eq!(admitted.evidence(), &token("pump-7"));
    assert_eq!(
        format!("{admitted:?}"),
        "AdmittedCsr(device \"pump-7\" by provisioning token t0 for \"pump-7\")"
    );
}

#[test]
fn the_name_in_the_request_may_be_absent_or_written_otherwise() {
    let facts = known(PrincipalKind::Device);
    for common_name in ["", "pump-7", "PUMP-7"] {
        accepted(common_name, token("pump-7"), device("pump-7"), &facts);
    }
    for mac in ["240ac4000102", "24:0A:C4:00:01:02", "240a.c400.0102"] {
        accepted(mac, token("240ac4000102"), device("240ac4000102"), &facts);
    }
}

#[test]
fn a_request_for_another_name_is_refused() {
    let facts = known(PrincipalKind::Device);
    for common_name in ["pump-8", "pump-7 ", "pump", "#", "admin"] {
        let error = refused(common_name, token("pump-7"), device("pump-7"), &facts);
        assert_eq!((error.code(), error.blame()), ("ca.name_differs", Blame::Peer), "{common_name}");
    }
    let error = refused("pump-8", token("pump-7"), device("pump-7"), &facts);
    assert_eq!(error.to_string(), "request names \"pump-8\", expected \"pump-7\" or no name");
}

#[test]
fn every_pair_of_evidence_and_wish_is_decided() {
    let wishes = [
        (device("a"), PrincipalKind::Device),
        (Wanted::Service { name: id("a") }, PrincipalKind::Service),
        (Wanted::Operator { name: id("a") }, PrincipalKind::Operator),
        (server(&["a"]), PrincipalKind::Device),
    ];
    let table = [
        (token("a"), [true, false, false, false]),
        (token("b"), [false, false, false, false]),
        (operator(), [false, true, true, true]),
        (Evidence::Ceremony, [false, true, true, true]),
    ];
    for (evidence, answers) in table {
        for ((wanted, kind), allowed) in wishes.iter().zip(answers) {
            let answer = admit(csr(&key(), "a"), evidence.clone(), wanted.clone(), &known(*kind));
            match answer {
                Ok(_) => assert!(allowed, "{evidence} {wanted}"),
                Err(error) => {
                    assert!(!allowed, "{evidence} {wanted}: {error}");
                    assert_eq!(error.code(), "ca.evidence_mismatch");
                }
            }
        }
    }
}

#[test]
fn a_token_is_for_its_device_only() {
    let error = refused("pump-8", token("pump-7"), device("pump-8"), &known(PrincipalKind::Device));
    assert_eq!(
        error.to_string(),
        "provisioning token t0 for \"pump-7\" does not entitle to a certificate for device \"pump-8\""
    );
}

#[test]
fn a_name_that_the_registry_does_not_know_is_refused() {
    let error = refused("pump-7", token("pump-7"), device("pump-7"), &Facts::default());
    assert_eq!(error, CaError::NotRegistered { kind: PrincipalKind::Device, name: "pump-7".into() });
    assert_eq!(error.to_string(), "device \"pump-7\" is not in the registry");
}

#[test]
fn a_name_of_another_kind_is_refused() {
    let kinds = [PrincipalKind::Device, PrincipalKind::Service, PrincipalKind::Operator];
    for found in kinds {
        for wanted in kinds {
            let (evidence, wish) = match wanted {
                PrincipalKind::Device => (token("a"), device("a")),
                PrincipalKind::Service => (operator(), Wanted::Service { name: id("a") }),
                PrincipalKind::Operator => (operator(), Wanted::Operator { name: id("a") }),
            };
            let answer = admit(csr(&key(), "a"), evidence, wish, &known(found)).map(|_| ());
            let name = "a".to_owned();
            let refusal = Err(CaError::WrongKind { name, found, wanted });
            assert_eq!(answer, if found == wanted { Ok(()) } else { refusal });
        }
    }
}

#[test]
fn a_device_with_a_name_from_the_rules_is_refused() {
    let facts = Facts { name_in_rules: true, ..known(PrincipalKind::Device) };
    let error = refused("admin", token("admin"), device("admin"), &facts);
    assert_eq!(error, CaError::NameInRules { name: "admin".into() });
    assert_eq!(error.to_string(), "device \"admin\" bears a name that a topic rule gives to a user");
}

#[test]
fn a_service_with_a_name_from_the_rules_is_admitted() {
    let facts = Facts { name_in_rules: true, ..known(PrincipalKind::Service) };
    accepted("backend", operator(), Wanted::Service { name: id("backend") }, &facts);
}

#[test]
fn a_denied_name_is_refused() {
    let facts = Facts { denied: true, ..known(PrincipalKind::Device) };
    let error = refused("pump-7", token("pump-7"), device("pump-7"), &facts);
    assert_eq!((error.code(), error.to_string().as_str()), ("ca.denied", "\"pump-7\" is denied"));
}

#[test]
fn a_key_of_another_principal_is_refused_and_ones_own_is_not() {
    let facts = |owner: &str| Facts { key_used_by: Some(id(owner)), ..known(PrincipalKind::Device) };
    accepted("pump-7", token("pump-7"), device("pump-7"), &facts("Pump-7"));
    let error = refused("pump-7", token("pump-7"), device("pump-7"), &facts("pump-8"));
    assert_eq!(error, CaError::KeyShared { name: "pump-7".into(), owner: "pump-8".into() });
    let error = refused("broker", operator(), server(&["broker"]), &facts("pump-8"));
    assert_eq!(error.code(), "ca.key_shared");
}

#[test]
fn a_server_may_be_named_by_its_name_or_a_host_name_and_needs_one() {
    for common_name in ["", "broker", "BROKER", "mqtt.example"] {
        accepted(common_name, operator(), server(&["mqtt.example"]), &Facts::default());
    }
    let error = refused("other", operator(), server(&["mqtt.example"]), &Facts::default());
    assert_eq!(error.code(), "ca.name_differs");
    let error = refused("broker", operator(), server(&[]), &Facts::default());
    assert_eq!(error, CaError::NoServerName { name: "broker".into() });
    let wanted = Wanted::Server { name: "broker".into(), dns: vec![], ips: vec!["::1".parse().unwrap()] };
    accepted("broker", operator(), wanted, &Facts::default());
}

#[test]
fn evidence_prints_no_control_characters() {
    let evidence = Evidence::Operator { name: "e\nve".into() };
    assert_eq!(evidence.to_string(), "operator \"e\\nve\"");
}
