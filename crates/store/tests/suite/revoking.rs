use store::{RevokedDevice, Standing, StoreError, TokenRefusal};
use trust::{CertState, Revocation};
use types::{Epoch, PrincipalKind};
use x509::CrlReason;

use crate::place::*;

fn epoch(counter: u64) -> Epoch {
    Epoch { incarnation: 0, counter }
}

fn certs(answer: &RevokedDevice) -> Vec<types::CertRef> {
    answer.certs.clone()
}

#[tokio::test]
async fn a_revocation_is_one_transaction_and_its_view_is_published_with_the_answer() {
    let place = Place::fresh();
    let store = place.open();
    let der_hash = live_device(&store, "Pump-7", 1, key(1)).await;
    make_replacing_token(&store, "open", "pump-7").await;
    make_replacing_token(&store, "bound", "pump-7").await;
    issue(&store, "bound", "pump-7", 2, key(2)).await;
    let mut views = store.watch_view();
    let from = events(&store).await;
    let answer = store.revoke_device(&id("PUMP-7"), CrlReason::KeyCompromise, "ada", now(9)).await.unwrap();
    assert_eq!((answer.epoch, certs(&answer)), (epoch(1), vec![cert(1), cert(2)]));
    assert_eq!(answer.principal.unwrap().to_string(), "device \"Pump-7\"");
    assert!(views.has_changed().unwrap());
    let view = views.borrow_and_update().clone();
    assert_eq!(view.epoch(), epoch(1));
    assert!(view.is_denied(&id("pump-7")));
    assert_eq!([1, 2, 3].map(|n| view.is_revoked(&cert(n)).is_some()), [true, true, false]);
    assert_eq!(fs_err::read_to_string(place.path().join("epoch")).unwrap(), "0 1\n");
    for token in ["token-Pump-7", "open", "bound"] {
        let refused = refusal(&store, token, key(2)).await;
        let spent = token == "token-Pump-7";
        assert_eq!(refused, Some(if spent { TokenRefusal::Spent } else { TokenRefusal::Revoked }));
    }
    let words = words(&store, from).await;
    let expected =
        ["token_revoked", "token_revoked", "certificate_revoked", "certificate_revoked", "device_denied"];
    assert_eq!(words, expected);
    assert_eq!(store.admission(der_hash).await.unwrap().unwrap().state, CertState::Revoked);
    let row = store.device(&id("pump-7")).await.unwrap().unwrap();
    assert_eq!((row.standing, row.denied), (Standing::Revoked(epoch(1)), true));
    assert_eq!(row.certificates[0].revoked_at, Some(at(9)));
    assert_eq!(row.certificates[0].reason, Some(CrlReason::KeyCompromise));
    let again = store.revoke_device(&id("pump-7"), CrlReason::Unspecified, "ada", now(10)).await;
    assert_eq!(again, Err(StoreError::AlreadyRevoked { name: "Pump-7".to_owned(), epoch: epoch(1) }));
    let confirm = store.confirm(der_hash, now(10)).await;
    assert_eq!(confirm, Err(StoreError::DeviceDenied { id: "Pump-7".to_owned() }));
    assert_eq!(store.view().epoch(), epoch(1));
}

#[tokio::test]
async fn a_device_without_certificates_can_be_revoked_and_an_unknown_one_cannot() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    let answer = store.revoke_device(&id("pump"), CrlReason::Unspecified, "ada", now(1)).await.unwrap();
    assert_eq!((answer.epoch, certs(&answer)), (epoch(1), vec![]));
    assert!(store.view().is_denied(&id("pump")));
    let unknown = store.revoke_device(&id("pomp"), CrlReason::Unspecified, "ada", now(1)).await;
    assert_eq!(unknown, Err(StoreError::UnknownDevice { id: "pomp".to_owned() }));
    store.principal_add(PrincipalKind::Service, id("backend"), project(), "ada", now(0)).await.unwrap();
    let service = store.revoke_device(&id("backend"), CrlReason::Unspecified, "ada", now(1)).await;
    assert_eq!(service, Err(StoreError::UnknownDevice { id: "backend".to_owned() }));
    assert_eq!(store.view().epoch(), epoch(1));
}

#[tokio::test]
async fn a_service_is_revoked_under_its_own_kind_only() {
    let place = Place::fresh();
    let store = place.open();
    store.principal_add(PrincipalKind::Service, id("backend"), project(), "ada", now(0)).await.unwrap();
    let intent = other_intent(Some(PrincipalKind::Service), "backend", 1, key(1));
    let receipt = store.record_intent(intent, now(1)).await.unwrap();
    store.record_certificate(receipt, &der(1, 1), now(2)).await.unwrap();
    let (name, reason) = (id("backend"), CrlReason::CessationOfOperation);
    let wrong = store.revoke_principal(PrincipalKind::Operator, &name, reason, "ada", now(3)).await;
    let expected = StoreError::UnknownPrincipal { kind: PrincipalKind::Operator, name: "backend".to_owned() };
    assert_eq!(wrong, Err(expected));
    let answer = store.revoke_principal(PrincipalKind::Service, &name, reason, "ada", now(3)).await.unwrap();
    assert_eq!((answer.epoch, certs(&answer)), (epoch(1), vec![cert(1)]));
    assert_eq!(store.view().is_revoked(&cert(1)), Some(Revocation::Revoked));
    let again = other_intent(Some(PrincipalKind::Service), "backend", 2, key(1));
    let denied = Err(StoreError::DeviceDenied { id: "backend".to_owned() });
    assert_eq!(store.record_intent(again, now(4)).await, denied);
}

#[tokio::test]
async fn one_certificate_can_be_revoked_and_the_device_goes_on() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    let reason = CrlReason::AffiliationChanged;
    let answer = store.revoke_certificate(cert(1), reason, "ada", now(5)).await.unwrap();
    assert_eq!((answer.epoch, certs(&answer)), (epoch(1), vec![cert(1)]));
    assert_eq!(answer.principal.unwrap().name, id("pump"));
    assert!(!store.view().is_denied(&id("pump")));
    let again = store.revoke_certificate(cert(1), reason, "ada", now(6)).await;
    let name = cert(1).to_string();
    assert_eq!(again, Err(StoreError::AlreadyRevoked { name, epoch: epoch(1) }));
    let unknown = store.revoke_certificate(cert(2), reason, "ada", now(6)).await;
    assert_eq!(unknown, Err(StoreError::UnknownCertificate { shown: cert(2).to_string() }));
    // Nothing is live any more, so a plain token will do.
    make_token(&store, "t", "pump").await;
    issue(&store, "t", "pump", 2, key(2)).await;
    store.confirm(hash_of(&der(2, 1)), now(7)).await.unwrap();
    assert_eq!(store.view().epoch(), epoch(1));
}

#[tokio::test]
async fn revoking_an_unconfirmed_certificate_kills_its_token() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    issue(&store, "t", "pump", 1, key(1)).await;
    store.revoke_certificate(cert(1), CrlReason::Unspecified, "ada", now(5)).await.unwrap();
    assert_eq!(refusal(&store, "t", key(1)).await, Some(TokenRefusal::Revoked));
}

#[tokio::test]
async fn a_server_certificate_can_be_revoked_too() {
    let place = Place::fresh();
    let store = place.open();
    let receipt = store.record_intent(other_intent(None, "x", 3, key(3)), now(1)).await.unwrap();
    store.record_certificate(receipt, &der(3, 1), now(2)).await.unwrap();
    let answer = store.revoke_certificate(cert(3), CrlReason::KeyCompromise, "ada", now(3)).await.unwrap();
    assert_eq!((answer.principal, answer.epoch), (None, epoch(1)));
}

#[tokio::test]
async fn a_suspended_device_returns_as_it_was() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    make_replacing_token(&store, "next", "pump").await;
    issue(&store, "next", "pump", 2, key(2)).await;
    let held = store.suspend_device(&id("pump"), "ada", now(5)).await.unwrap();
    assert_eq!((held.epoch, certs(&held)), (epoch(1), vec![cert(1), cert(2)]));
    assert_eq!(store.view().is_revoked(&cert(1)), Some(Revocation::Suspended));
    let again = store.suspend_device(&id("pump"), "ada", now(6)).await.unwrap();
    assert_eq!((again.epoch, certs(&again)), (epoch(1), vec![]));
    let confirm = store.confirm(hash_of(&der(2, 1)), now(6)).await;
    assert_eq!(confirm, Err(StoreError::DeviceDenied { id: "pump".to_owned() }));
    drop(store);
    let store = place.open();
    assert_eq!(store.view().is_revoked(&cert(2)), Some(Revocation::Suspended));
    let row = store.device(&id("pump")).await.unwrap().unwrap();
    assert_eq!(row.standing, Standing::Suspended);
    assert_eq!(row.certificates[1].reason, Some(CrlReason::CertificateHold));
    let back = store.restore_device(&id("pump"), "ada", now(7)).await.unwrap();
    assert_eq!((back.epoch, certs(&back)), (epoch(2), vec![cert(1), cert(2)]));
    assert_eq!([1, 2].map(|n| store.view().is_revoked(&cert(n))), [None, None]);
    let row = store.device(&id("pump")).await.unwrap().unwrap();
    let states: Vec<_> = row.certificates.iter().map(|row| (row.state, row.revoked_at)).collect();
    assert_eq!(states, [(CertState::Active, None), (CertState::Unconfirmed, None)]);
    let active = store.restore_device(&id("pump"), "ada", now(8)).await;
    assert_eq!(active, Err(StoreError::NotSuspended { id: "pump".to_owned() }));
    let confirmed = store.confirm(hash_of(&der(2, 1)), now(9)).await.unwrap();
    assert_eq!((confirmed.replaced, confirmed.epoch), (vec![cert(1)], epoch(3)));
}

#[tokio::test]
async fn a_revoked_device_is_neither_suspended_nor_restored_nor_allowed() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    store.suspend_device(&id("pump"), "ada", now(4)).await.unwrap();
    let answer = store.revoke_device(&id("pump"), CrlReason::KeyCompromise, "ada", now(5)).await.unwrap();
    assert_eq!((answer.epoch, certs(&answer)), (epoch(2), vec![cert(1)]));
    assert_eq!(store.view().is_revoked(&cert(1)), Some(Revocation::Revoked));
    let revoked = Err(StoreError::AlreadyRevoked { name: "pump".to_owned(), epoch: epoch(2) });
    assert_eq!(store.suspend_device(&id("pump"), "ada", now(6)).await, revoked);
    assert_eq!(store.restore_device(&id("pump"), "ada", now(6)).await, revoked);
    assert_eq!(store.allow(&id("pump"), "ada", now(6)).await, revoked);
    for unknown in [
        store.suspend_device(&id("x"), "ada", now(6)).await,
        store.restore_device(&id("x"), "ada", now(6)).await,
    ] {
        assert_eq!(unknown, Err(StoreError::UnknownDevice { id: "x".to_owned() }));
    }
    assert_eq!(store.view().epoch(), epoch(2));
}

#[tokio::test]
async fn the_deny_list_goes_by_name_and_changes_the_epoch_only_when_it_changes() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    let denied = store.deny(&id("PUMP"), "ada", now(4)).await.unwrap();
    assert_eq!((denied.epoch, certs(&denied)), (epoch(1), vec![cert(1)]));
    let again = store.deny(&id("pump"), "ada", now(4)).await.unwrap();
    assert_eq!((again.epoch, certs(&again)), (epoch(1), vec![]));
    let stranger = store.deny(&id("stranger"), "ada", now(4)).await.unwrap();
    assert_eq!((stranger.epoch, stranger.principal), (epoch(2), None));
    let row = store.device_add(new_device("Stranger"), "ada", now(5)).await.unwrap();
    assert!(row.denied, "a name that was denied before it was registered stays denied");
    assert_eq!(store.view().is_revoked(&cert(1)), None);
    assert!(store.view().is_denied(&id("Pump")));
    drop(store);
    let store = place.open();
    assert!(store.view().is_denied(&id("pump")));
    let allowed = store.allow(&id("pump"), "ada", now(5)).await.unwrap();
    assert_eq!((allowed.epoch, certs(&allowed)), (epoch(3), vec![cert(1)]));
    let again = store.allow(&id("pump"), "ada", now(5)).await.unwrap();
    assert_eq!((again.epoch, certs(&again)), (epoch(3), vec![]));
    assert!(!store.view().is_denied(&id("pump")));
}

#[tokio::test]
async fn confirming_a_replacement_revokes_the_old_in_the_same_transaction() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    make_replacing_token(&store, "next", "pump").await;
    make_replacing_token(&store, "rival", "pump").await;
    issue(&store, "next", "pump", 2, key(2)).await;
    issue(&store, "rival", "pump", 3, key(3)).await;
    assert_eq!(store.view().is_revoked(&cert(1)), None, "the old lives until the new has been seen");
    let confirmed = store.confirm(hash_of(&der(2, 1)), now(6)).await.unwrap();
    assert_eq!((confirmed.replaced.as_slice(), confirmed.epoch), (&[cert(1), cert(3)][..], epoch(1)));
    assert_eq!([1, 2, 3].map(|n| store.view().is_revoked(&cert(n)).is_some()), [true, false, true]);
    assert_eq!(refusal(&store, "rival", key(3)).await, Some(TokenRefusal::Revoked));
    let row = store.device(&id("pump")).await.unwrap().unwrap();
    let reasons: Vec<_> = row.certificates.iter().map(|row| row.reason).collect();
    assert_eq!(reasons, [Some(CrlReason::Superseded), None, Some(CrlReason::Superseded)]);
    assert_eq!(store.stats().await.unwrap().revoked, 2);
}

#[tokio::test]
async fn changes_of_one_group_each_have_their_epoch_and_the_last_view_has_them_all() {
    let place = Place::fresh();
    let store = place.open();
    for n in 1..=50_u8 {
        live_device(&store, &format!("d{n}"), n.into(), key(n)).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=50_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            let name = id(&format!("d{n}"));
            let answer = store.revoke_device(&name, CrlReason::Unspecified, "ada", now(9)).await.unwrap();
            // The answer comes after the view: whoever is told can rely on it.
            assert!(store.view().epoch() >= answer.epoch);
            assert!(store.view().is_denied(&name));
            answer.epoch.counter
        });
    }
    let mut epochs = Vec::new();
    while let Some(epoch) = tasks.join_next().await {
        epochs.push(epoch.unwrap());
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=50).collect::<Vec<_>>());
    assert_eq!((store.view().epoch(), store.view().revoked_len()), (epoch(50), 50));
}

#[tokio::test]
async fn a_long_overlay_is_merged_away_and_says_the_same() {
    let place = Place::fresh();
    let store = place.open();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..3_000_u32 {
        let store = store.clone();
        tasks.spawn(async move { store.deny(&id(&format!("d{n}")), "ada", now(1)).await.map(|_| ()) });
    }
    while let Some(answer) = tasks.join_next().await {
        answer.unwrap().unwrap();
    }
    let view = store.view();
    assert_eq!(view.epoch(), epoch(3_000));
    assert!((0..3_000).all(|n| view.is_denied(&id(&format!("d{n}")))));
    assert!(!view.is_denied(&id("d3000")));
}
