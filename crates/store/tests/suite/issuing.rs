use std::time::Duration;

use store::{NewIntent, Order, OrderId, OrderKind, StoreError, TokenAnswer, TokenRefusal};
use trust::CertState;
use types::{IssuerId, PrincipalKind};
use x509::CrlReason;

use crate::place::*;

#[tokio::test]
async fn a_certificate_goes_from_token_to_confirmation() {
    let place = Place::fresh();
    let store = place.open();
    let mut device = new_device("Pump-7");
    device.fleet = Some("north".to_owned());
    store.device_add(device, "ada", now(0)).await.unwrap();
    make_token(&store, "t", "pump-7").await;
    let receipt = intend(&store, "t", "PUMP-7", 1, key(1)).await;
    assert_eq!((receipt.cert(), receipt.tbs_hash()), (cert(1), x509::sha256(&tbs(1))));
    assert_eq!(store.admission(hash_of(&der(1, 1))).await.unwrap(), None, "nothing is admitted on an intent");
    store.record_certificate(receipt, &der(1, 1), now(2)).await.unwrap();
    let entry = store.admission(hash_of(&der(1, 1))).await.unwrap().unwrap();
    assert_eq!(entry.principal.to_string(), "device \"Pump-7\"");
    assert_eq!((entry.cert, entry.anchor, entry.state), (cert(1), issuer(), CertState::Unconfirmed));
    assert_eq!((entry.project, entry.fleet.as_deref()), (project(), Some("north")));
    let epoch = store.view().epoch();
    let confirmed = store.confirm(hash_of(&der(1, 1)), now(3)).await.unwrap();
    assert_eq!((confirmed.replaced.len(), confirmed.epoch), (0, epoch));
    assert_eq!(store.view().epoch(), epoch, "a confirmation alone takes no trust away");
    let events =
        ["device_added", "token_created", "token_bound", "certificate_issued", "certificate_confirmed"];
    assert_eq!(words(&store, 0).await, events);
    drop(store);
    let store = place.open();
    let entry = store.admission(hash_of(&der(1, 1))).await.unwrap().unwrap();
    assert_eq!(entry.state, CertState::Active);
    let row = store.device(&id("pump-7")).await.unwrap().unwrap().certificates.remove(0);
    assert_eq!((row.cert, row.spki, row.generation, row.crl_shard), (cert(1), key(1), 1, 0));
    assert_eq!((row.not_before, row.not_after, row.recorded_at), (at(-600), at(31_536_000), at(2)));
    assert_eq!((row.revoked_at, row.reason, row.issuer_label.as_str()), (None, None, "devices"));
    assert_eq!(store.certificate_der(cert(1)).await.unwrap(), Some(der(1, 1)));
    assert_eq!(store.certificate_der(cert(2)).await.unwrap(), None);
}

#[tokio::test]
async fn confirming_again_changes_nothing() {
    let place = Place::fresh();
    let store = place.open();
    let der_hash = live_device(&store, "pump", 1, key(1)).await;
    let (stats, epoch) = (store.stats().await.unwrap(), store.view().epoch());
    for secs in 4..8 {
        let again = store.confirm(der_hash, now(secs)).await.unwrap();
        assert_eq!((again.replaced.len(), again.epoch), (0, epoch));
    }
    assert_eq!(store.stats().await.unwrap(), stats);
}

#[tokio::test]
async fn what_is_not_in_the_ledger_cannot_be_confirmed() {
    let place = Place::fresh();
    let store = place.open();
    let stranger = hash_of(b"a certificate of somebody else");
    let shown = stranger.to_string();
    assert_eq!(store.confirm(stranger, now(1)).await, Err(StoreError::UnknownCertificate { shown }));
    assert_eq!(store.admission(stranger).await.unwrap(), None);
}

#[tokio::test]
async fn of_two_requests_for_one_token_exactly_one_wins() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    for round in 0..20_u8 {
        let token = format!("t{round}");
        make_token(&store, &token, "pump").await;
        let n = u64::from(round) * 2 + 1;
        let first = store.record_intent(new_intent(Some(&token), "pump", n, key(2 * round)), now(1));
        let second = store.record_intent(new_intent(Some(&token), "pump", n + 1, key(2 * round + 1)), now(1));
        let (first, second) = tokio::join!(first, second);
        let lost = Err(StoreError::TokenLost { id: token.clone() });
        let (winner, loser) = if first.is_ok() { (first, second) } else { (second, first) };
        assert!(winner.is_ok());
        assert_eq!(loser, lost);
        let won = winner.unwrap().cert();
        assert_eq!(store.unfinished_intents().await.unwrap().last().unwrap().receipt.cert(), won);
    }
    assert_eq!(store.unfinished_intents().await.unwrap().len(), 20);
}

#[tokio::test]
async fn many_requests_at_once_from_many_tasks_bind_a_token_once() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=64_u8 {
        let store = store.clone();
        let intent = new_intent(Some("t"), "pump", n.into(), key(n));
        tasks.spawn(async move { store.record_intent(intent, now(1)).await });
    }
    let mut won = 0;
    while let Some(answer) = tasks.join_next().await {
        match answer.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error, StoreError::TokenLost { id: "t".to_owned() }),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_serial_is_taken_once_for_each_issuer() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "a", 1, key(1)).await;
    add(&store, "b").await;
    make_token(&store, "t", "b").await;
    let taken = store.record_intent(new_intent(Some("t"), "b", 1, key(2)), now(1)).await;
    assert_eq!(taken, Err(StoreError::SerialTaken { cert: cert(1) }));
    assert_eq!(refusal(&store, "t", key(9)).await, None, "the refusal did not bind the token");
    assert_eq!(store.key_owner(key(2)).await, Ok(None), "nor the key");
    let mut elsewhere = new_intent(Some("t"), "b", 1, key(2));
    elsewhere.cert.issuer = IssuerId([8; 16]);
    store.record_intent(elsewhere, now(1)).await.unwrap();
}

#[tokio::test]
async fn a_key_belongs_to_one_principal_for_good() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "a", 1, key(1)).await;
    assert_eq!(store.key_owner(key(1)).await, Ok(Some(id("a"))));
    add(&store, "b").await;
    make_token(&store, "t", "b").await;
    let shared = store.record_intent(new_intent(Some("t"), "b", 2, key(1)), now(1)).await;
    assert_eq!(shared, Err(StoreError::KeyShared));
    let server = store.record_intent(other_intent(None, "x", 3, key(1)), now(1)).await;
    assert_eq!(server, Err(StoreError::KeyShared));
    store.principal_add(PrincipalKind::Service, id("s"), project(), "ada", now(0)).await.unwrap();
    let service = other_intent(Some(PrincipalKind::Service), "s", 4, key(1));
    assert_eq!(store.record_intent(service, now(1)).await, Err(StoreError::KeyShared));
    // Revocation does not set a key free for others.
    store.revoke_device(&id("a"), CrlReason::KeyCompromise, "ada", now(4)).await.unwrap();
    let shared = store.record_intent(new_intent(Some("t"), "b", 2, key(1)), now(5)).await;
    assert_eq!(shared, Err(StoreError::KeyShared));
    // The owner itself may use its key again.
    live_device(&store, "c", 5, key(5)).await;
    make_replacing_token(&store, "again", "c").await;
    store.record_intent(new_intent(Some("again"), "c", 6, key(5)), now(5)).await.unwrap();
}

#[tokio::test]
async fn an_intent_for_the_wrong_party_is_refused() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    add(&store, "other").await;
    store.principal_add(PrincipalKind::Service, id("backend"), project(), "ada", now(0)).await.unwrap();
    make_token(&store, "t", "pump").await;
    let lost = Err(StoreError::TokenLost { id: "t".to_owned() });
    let other = new_intent(Some("t"), "other", 1, key(1));
    assert_eq!(store.record_intent(other, now(1)).await, lost);
    let server = NewIntent { principal: None, ..new_intent(Some("t"), "pump", 1, key(1)) };
    assert_eq!(store.record_intent(server, now(1)).await, lost);
    let no_token = store.record_intent(new_intent(Some("u"), "pump", 1, key(1)), now(1)).await;
    assert_eq!(no_token, Err(StoreError::TokenLost { id: "u".to_owned() }));
    let unknown = store.record_intent(new_intent(None, "nobody", 1, key(1)), now(1)).await;
    let (kind, name) = (PrincipalKind::Device, "nobody".to_owned());
    assert_eq!(unknown, Err(StoreError::UnknownPrincipal { kind, name }));
    let as_service = other_intent(Some(PrincipalKind::Service), "pump", 1, key(1));
    let (kind, name) = (PrincipalKind::Device, "pump".to_owned());
    assert_eq!(store.record_intent(as_service, now(1)).await, Err(StoreError::NameTaken { name, kind }));
    let as_device = store.record_intent(new_intent(None, "backend", 1, key(1)), now(1)).await;
    let (kind, name) = (PrincipalKind::Service, "backend".to_owned());
    assert_eq!(as_device, Err(StoreError::NameTaken { name, kind }));
    let wrong_hash = NewIntent { tbs_hash: [0; 32], ..new_intent(Some("t"), "pump", 1, key(1)) };
    let answer = store.record_intent(wrong_hash, now(1)).await;
    assert!(matches!(answer, Err(StoreError::WrongCertificate { .. })), "{answer:?}");
    assert_eq!(store.unfinished_intents().await.unwrap().len(), 0);
    intend(&store, "t", "pump", 1, key(1)).await;
}

#[tokio::test]
async fn a_denied_device_gets_no_intent_and_its_token_no_answer() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    for denied in [true, false] {
        if denied {
            store.deny(&id("pump"), "ada", now(1)).await.unwrap();
        } else {
            store.allow(&id("pump"), "ada", now(1)).await.unwrap();
            store.suspend_device(&id("pump"), "ada", now(1)).await.unwrap();
        }
        assert_eq!(refusal(&store, "t", key(1)).await, Some(TokenRefusal::DeviceDenied));
        let answer = store.record_intent(new_intent(Some("t"), "pump", 1, key(1)), now(1)).await;
        assert_eq!(answer, Err(StoreError::DeviceDenied { id: "pump".to_owned() }));
    }
    store.restore_device(&id("pump"), "ada", now(1)).await.unwrap();
    assert_eq!(refusal(&store, "t", key(1)).await, None);
}

#[tokio::test]
async fn only_the_intended_bytes_can_be_recorded() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    intend(&store, "t", "pump", 1, key(1)).await;
    let mut cut = der(1, 1);
    cut.pop();
    for wrong in [der(2, 1), cut, Vec::new(), b"-----BEGIN CERTIFICATE-----".to_vec()] {
        let receipt = store.unfinished_intents().await.unwrap().remove(0).receipt;
        let answer = store.record_certificate(receipt, &wrong, now(2)).await;
        assert!(matches!(answer, Err(StoreError::WrongCertificate { .. })), "{answer:?}");
    }
    assert_eq!(store.stats().await.unwrap().certificates, 0);
}

#[tokio::test]
async fn the_first_recorded_bytes_stay_whatever_is_signed_again() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    let first = intend(&store, "t", "pump", 1, key(1)).await;
    let receipt = async || match check(&store, "t", key(1)).await {
        TokenAnswer::Bound { intent, .. } => intent.receipt,
        other => panic!("{other:?}"),
    };
    let (second, third) = (receipt().await, receipt().await);
    store.record_certificate(first, &der(1, 1), now(2)).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!(store.record_certificate(second, &der(1, 1), now(3)).await, Ok(()));
    let other_bytes = store.record_certificate(third, &der(1, 2), now(3)).await;
    assert_eq!(other_bytes, Err(StoreError::AlreadyRecorded { cert: cert(1) }));
    assert_eq!(store.stats().await.unwrap(), stats);
    assert_eq!(store.certificate_der(cert(1)).await.unwrap(), Some(der(1, 1)));
    assert_eq!(store.admission(hash_of(&der(1, 2))).await.unwrap(), None);
}

#[tokio::test]
async fn a_receipt_of_another_database_is_worth_nothing_here() {
    let places = (Place::fresh(), Place::fresh());
    let (here, there) = (places.0.open(), places.1.open());
    for (store, n) in [(&here, 1), (&there, 2)] {
        add(store, "pump").await;
        make_token(store, "t", "pump").await;
        intend(store, "t", "pump", n, key(1)).await;
    }
    let foreign = there.unfinished_intents().await.unwrap().remove(0).receipt;
    let answer = here.record_certificate(foreign, &der(2, 1), now(2)).await;
    assert!(matches!(answer, Err(StoreError::WrongCertificate { .. })), "{answer:?}");
    assert_eq!(here.stats().await.unwrap().certificates, 0);
}

#[tokio::test]
async fn what_loses_its_ground_between_intent_and_signature_is_born_revoked() {
    let place = Place::fresh();
    let store = place.open();
    for (n, name) in [(1_u8, "gone"), (2, "killed"), (3, "held"), (4, "denied")] {
        add(&store, name).await;
        make_token(&store, name, name).await;
        intend(&store, name, name, n.into(), key(n)).await;
    }
    let receipts = store.unfinished_intents().await.unwrap();
    store.revoke_device(&id("gone"), CrlReason::KeyCompromise, "ada", now(2)).await.unwrap();
    store.token_revoke("killed", "ada", now(2)).await.unwrap();
    store.suspend_device(&id("held"), "ada", now(2)).await.unwrap();
    store.deny(&id("denied"), "ada", now(2)).await.unwrap();
    let left: Vec<_> = store.unfinished_intents().await.unwrap();
    assert_eq!(left.len(), 2, "nobody signs again for what was revoked");
    let mut answers = Vec::new();
    for (n, intent) in (1_u64..).zip(receipts) {
        answers.push(store.record_certificate(intent.receipt, &der(n, 1), now(3)).await);
    }
    let denied = |id: &str| Err(StoreError::DeviceDenied { id: id.to_owned() });
    let lost = Err(StoreError::TokenLost { id: "killed".to_owned() });
    assert_eq!(answers, [denied("gone"), lost, denied("held"), denied("denied")]);
    let state = async |n| store.admission(hash_of(&der(n, 1))).await.unwrap().unwrap().state;
    let states = [CertState::Revoked, CertState::Revoked, CertState::Suspended, CertState::Unconfirmed];
    for (n, expected) in (1..).zip(states) {
        assert_eq!(state(n).await, expected, "{n}");
    }
    let view = store.view();
    let revocations = [1, 2, 3, 4].map(|n| view.is_revoked(&cert(n)));
    let (revoked, suspended) = (Some(trust::Revocation::Revoked), Some(trust::Revocation::Suspended));
    assert_eq!(revocations, [revoked, revoked, suspended, None]);
    // Restored, the held device gets the very certificate that it was never handed.
    store.restore_device(&id("held"), "ada", now(4)).await.unwrap();
    match check(&store, "held", key(3)).await {
        TokenAnswer::Bound { certificate_der, .. } => assert_eq!(certificate_der, Some(der(3, 1))),
        other => panic!("{other:?}"),
    }
    store.confirm(hash_of(&der(3, 1)), now(5)).await.unwrap();
}

#[tokio::test]
async fn services_operators_and_servers_are_active_at_once() {
    let place = Place::fresh();
    let store = place.open();
    for (n, kind, name) in [(1_u8, PrincipalKind::Service, "backend"), (2, PrincipalKind::Operator, "ada")] {
        store.principal_add(kind, id(name), project(), "init", now(0)).await.unwrap();
        let intent = other_intent(Some(kind), name, n.into(), key(n));
        let receipt = store.record_intent(intent, now(1)).await.unwrap();
        store.record_certificate(receipt, &der(n.into(), 1), now(2)).await.unwrap();
        let entry = store.admission(hash_of(&der(n.into(), 1))).await.unwrap().unwrap();
        assert_eq!((entry.principal.kind, entry.state, entry.fleet), (kind, CertState::Active, None));
        store.confirm(hash_of(&der(n.into(), 1)), now(3)).await.unwrap();
        assert_eq!(store.principal(&id(name)).await.unwrap().unwrap().certificates.len(), 1);
    }
    let receipt = store.record_intent(other_intent(None, "x", 3, key(3)), now(1)).await.unwrap();
    store.record_certificate(receipt, &der(3, 1), now(2)).await.unwrap();
    let server = hash_of(&der(3, 1));
    assert_eq!(store.admission(server).await.unwrap(), None, "a server is no client");
    assert!(matches!(store.confirm(server, now(3)).await, Err(StoreError::UnknownCertificate { .. })));
    assert_eq!(store.key_owner(key(3)).await, Ok(None));
    assert_eq!(store.certificate_der(cert(3)).await.unwrap(), Some(der(3, 1)));
}

#[tokio::test]
async fn an_abandoned_intent_is_never_signed_again() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    let receipt = intend(&store, "t", "pump", 1, key(1)).await;
    store.abandon_intent(receipt, now(2)).await.unwrap();
    assert_eq!(store.unfinished_intents().await.unwrap().len(), 0);
    assert_eq!(refusal(&store, "t", key(1)).await, Some(TokenRefusal::Revoked));
    let taken = store.record_intent(new_intent(None, "pump", 1, key(1)), now(3)).await;
    assert_eq!(taken, Err(StoreError::SerialTaken { cert: cert(1) }));
    make_token(&store, "u", "pump").await;
    let receipt = intend(&store, "u", "pump", 2, key(1)).await;
    store.record_certificate(receipt, &der(2, 1), now(2)).await.unwrap();
    let recorded = match check(&store, "u", key(1)).await {
        TokenAnswer::Bound { intent, .. } => intent.receipt,
        other => panic!("{other:?}"),
    };
    let answer = store.abandon_intent(recorded, now(4)).await;
    assert_eq!(answer, Err(StoreError::AlreadyRecorded { cert: cert(2) }));
}

fn order(name: &str) -> Order {
    let kind = OrderKind::Service;
    Order { kind, name: name.to_owned(), csr_der: vec![1, 2, 3], actor: "ada".to_owned() }
}

#[tokio::test]
async fn an_order_is_told_of_carried_out_and_awaited() {
    let place = Place::fresh();
    let store = place.open();
    let mut orders = store.watch_orders();
    let backend = store.order_submit(order("backend"), now(0)).await.unwrap();
    tokio::time::timeout(DEADLINE, orders.changed()).await.unwrap().unwrap();
    let other = store.order_submit(order("other"), now(0)).await.unwrap();
    let open = store.orders_open().await.unwrap();
    assert_eq!(open, [(backend, order("backend")), (other, order("other"))]);
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.order_wait(backend, DEADLINE).await })
    };
    store.order_finish(other, Err("the name is taken".to_owned())).await.unwrap();
    store.order_finish(backend, Ok(vec![9, 9])).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(vec![9, 9]));
    assert_eq!(store.order_wait(backend, DEADLINE).await, Ok(vec![9, 9]), "also afterwards");
    assert_eq!(store.order_wait(other, DEADLINE).await, Err("the name is taken".to_owned()));
    assert_eq!(store.orders_open().await.unwrap(), []);
    let again = store.order_finish(backend, Ok(vec![8])).await;
    assert_eq!(again, Err(StoreError::UnknownOrder { id: backend.0 }));
}

#[tokio::test]
async fn waiting_for_an_order_ends_at_the_deadline_and_at_once_for_an_unknown_one() {
    let place = Place::fresh();
    let store = place.open();
    let id = store.order_submit(order("backend"), now(0)).await.unwrap();
    let late = store.order_wait(id, Duration::from_millis(20)).await;
    assert_eq!(late, Err("order 1 is not finished after 20 ms".to_owned()));
    let unknown = store.order_wait(OrderId(9), DEADLINE).await;
    assert_eq!(unknown, Err("order 9 is unknown or finished".to_owned()));
    drop(store);
    let store = place.open();
    assert_eq!(store.orders_open().await.unwrap().len(), 1, "an order survives a restart");
}
