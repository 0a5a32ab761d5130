//! The words of the audit: every event has a code of its own and survives its JSON.

use std::collections::BTreeSet;

use audit::{Event, Level};

fn s(text: &str) -> String {
    text.to_owned()
}

/// One of each; the count in the first test holds that none is forgotten.
fn all() -> Vec<Event> {
    vec![
        Event::ConnectionAccepted {
            principal: s("pump-7"),
            kind: s("device"),
            serial: s("1f3a"),
            issuer: s("devices"),
            tls: s("TLSv1.3"),
            suite: s("TLS13_AES_128_GCM_SHA256"),
            peer: s("[::1]:5000"),
            conn: 7,
            client_id: None,
            epoch: s("42"),
        },
        Event::ConnectionRefused {
            peer: s("[::1]:5000"),
            subject: Some(s("CN=pump-7")),
            serial: None,
            issuer: None,
            sni: None,
            reason: s("trust.revoked"),
            detail: s("certificate 0x1f3a is revoked"),
        },
        Event::SessionEnded {
            principal: s("pump-7"),
            serial: s("1f3a"),
            peer: s("[::1]:5000"),
            conn: 7,
            reason: s("trust.revoked"),
            detail: s(""),
        },
        Event::PublishRefused {
            principal: s("a"),
            serial: s("1"),
            conn: 1,
            topic: s("devices/b/x"),
            reason: s("policy.denied"),
            rule: s("no rule"),
        },
        Event::SubscribeRefused {
            principal: s("a"),
            serial: s("1"),
            conn: 1,
            filter: s("#"),
            reason: s("policy.denied"),
            rule: s("devices.acl:3"),
        },
        replay("enforce"),
        Event::TokenRefused { peer: s("p"), token_id: None, device: None, reason: s("unknown") },
        Event::CaCreated {
            issuer: s("00"),
            label: s("devices"),
            serial: s("1"),
            der_hash: s("00"),
            not_after: s("2031-01-01T00:00:00Z"),
            actor: s("init"),
        },
        Event::CertificateIssued {
            principal: s("a"),
            kind: s("device"),
            serial: s("1"),
            issuer: s("devices"),
            der_hash: s("00"),
            not_after: s("2027-01-01T00:00:00Z"),
            evidence: s("ceremony"),
        },
        Event::CertificateConfirmed {
            principal: s("a"),
            kind: s("device"),
            serial: s("1"),
            issuer: s("devices"),
        },
        Event::CertificateRevoked {
            principal: s("a"),
            serial: s("1"),
            issuer: s("devices"),
            reason: s("keyCompromise"),
            actor: s("eve"),
            epoch: s("42"),
        },
        Event::DeviceAdded { device: s("a"), project: s("default"), fleet: None, actor: s("eve") },
        Event::DeviceDenied { device: s("a"), reason: s("stolen"), actor: s("eve"), epoch: s("1") },
        Event::DeviceSuspended { device: s("a"), actor: s("eve"), epoch: s("1") },
        Event::DeviceRestored { device: s("a"), actor: s("eve"), epoch: s("2") },
        Event::TokenCreated { token_id: s("t"), device: s("a"), expires_at: s("x"), actor: s("eve") },
        Event::TokenBound { token_id: s("t"), device: s("a"), spki: s("00"), serial: s("1") },
        Event::TokenRevoked { token_id: s("t"), device: s("a"), actor: s("eve") },
        Event::ServiceAdded { name: s("backend"), actor: s("eve") },
        Event::OperatorAdded { name: s("eve"), actor: s("init") },
        Event::PolicyLoaded { epoch: 3, rules: 12 },
        Event::PolicyRejected { detail: s("devices.acl:3:1: unknown word") },
        Event::ConfigReloaded { detail: s("log level") },
        Event::ServerStarted { version: s("0.1.0"), epoch: s("42") },
        Event::ServerStopped { reason: s("signal") },
        Event::CrlPublished { issuer: s("devices"), number: 42, entries: 1, next_update: s("x") },
        Event::ClockUnsound { wall: s("1970-01-01T00:00:00Z"), floor: s("2026-01-01T00:00:00Z") },
        Event::Alert { code: s("clone"), detail: s("two boots at once") },
    ]
}

fn replay(mode: &str) -> Event {
    Event::ReplayRefused {
        principal: s("pump-7"),
        topic: s("devices/pump-7/telemetry/environment"),
        kind: s("duplicate"),
        mode: s(mode),
        detail: s("seq 7 was seen"),
    }
}

#[test]
fn every_event_has_a_code_of_its_own() {
    let codes: BTreeSet<&str> = all().iter().map(Event::code).collect();
    assert_eq!(codes.len(), all().len());
    assert_eq!(codes.len(), 28);
    for code in codes {
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_')), "{code}");
    }
}

#[test]
fn every_event_survives_its_json() {
    for event in all() {
        let json = event.to_json();
        assert!(!json.contains('\n'), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
    }
}

#[test]
fn the_json_names_the_event_and_its_fields() {
    assert_eq!(
        Event::PolicyLoaded { epoch: 3, rules: 12 }.to_json(),
        r#"{"event":"policy_loaded","epoch":3,"rules":12}"#
    );
}

#[test]
fn what_a_stranger_can_cause_is_never_recorded() {
    for event in all() {
        let operational = matches!(
            event,
            Event::ConnectionAccepted { .. }
                | Event::ConnectionRefused { .. }
                | Event::SessionEnded { .. }
                | Event::PublishRefused { .. }
                | Event::SubscribeRefused { .. }
                | Event::ReplayRefused { .. }
                | Event::TokenRefused { .. }
        );
        assert_eq!(event.is_recorded(), !operational, "{event:?}");
    }
}

#[test]
fn every_refusal_is_at_least_a_warning() {
    for event in all() {
        let refused = event.code().contains("refused") || event.code().contains("rejected");
        assert!(!refused || event.level() >= Level::Warn, "{event:?}");
    }
    assert_eq!(replay("observe").level(), Level::Warn);
    assert_eq!(replay("enforce").level(), Level::Alert);
    assert_eq!([Level::Info, Level::Warn, Level::Alert].map(Level::as_str), ["info", "warn", "alert"]);
}
