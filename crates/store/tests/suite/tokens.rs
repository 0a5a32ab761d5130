use store::{NewToken, StoreError, TokenAnswer, TokenRefusal, TokenState};
use x509::CrlReason;

use crate::place::*;

#[tokio::test]
async fn a_fresh_token_is_unused_for_its_device() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    let row = store.token_create(new_token("t", "PUMP", true), "ada", now(1)).await.unwrap();
    assert_eq!((row.state, row.replace, row.created_by.as_str()), (TokenState::Unused, true, "ada"));
    assert_eq!((row.created_at, row.expires_at), (at(1), at(86_400)));
    assert_eq!(row.device.as_str(), "pump", "the registry's spelling");
    assert_eq!(store.token_state("t").await.unwrap(), Some(row.clone()));
    assert_eq!(store.tokens(&id("pump")).await.unwrap(), std::slice::from_ref(&row));
    assert_eq!(store.device(&id("pump")).await.unwrap().unwrap().tokens, [row]);
    match check(&store, "t", key(1)).await {
        TokenAnswer::Unused { device, replace } => assert_eq!((device.as_str(), replace), ("pump", true)),
        other => panic!("{other:?}"),
    }
    assert_eq!(words(&store, 1).await, ["token_created"]);
    assert_eq!(store.token_state("u").await.unwrap(), None);
    assert_eq!(store.tokens(&id("nobody")).await.unwrap(), []);
}

#[tokio::test]
async fn a_token_is_refused_for_devices_that_may_not_have_one() {
    let place = Place::fresh();
    let store = place.open();
    for name in ["denied", "held", "gone", "fine"] {
        add(&store, name).await;
    }
    store.deny(&id("denied"), "ada", now(1)).await.unwrap();
    store.suspend_device(&id("held"), "ada", now(1)).await.unwrap();
    store.revoke_device(&id("gone"), CrlReason::Unspecified, "ada", now(1)).await.unwrap();
    for name in ["denied", "held", "gone"] {
        let answer = store.token_create(new_token("t", name, true), "ada", now(2)).await;
        assert_eq!(answer, Err(StoreError::DeviceDenied { id: name.to_owned() }));
    }
    let unknown = store.token_create(new_token("t", "nobody", false), "ada", now(2)).await;
    assert_eq!(unknown, Err(StoreError::UnknownDevice { id: "nobody".to_owned() }));
    make_token(&store, "t", "fine").await;
    let twice = store.token_create(new_token("t", "fine", false), "ada", now(2)).await;
    assert_eq!(twice, Err(StoreError::TokenExists { id: "t".to_owned() }));
    assert_eq!(store.stats().await.unwrap().tokens, 1);
}

#[tokio::test]
async fn a_service_gets_no_provisioning_token() {
    let place = Place::fresh();
    let store = place.open();
    let kind = types::PrincipalKind::Service;
    store.principal_add(kind, id("backend"), project(), "ada", now(0)).await.unwrap();
    let answer = store.token_create(new_token("t", "backend", false), "ada", now(1)).await;
    assert_eq!(answer, Err(StoreError::UnknownDevice { id: "backend".to_owned() }));
}

#[tokio::test]
async fn a_token_expires_at_its_moment_and_not_before() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    let expiring = |expires_at| NewToken { expires_at, ..new_token("t", "pump", false) };
    for passed in [at(9), at(10)] {
        let answer = store.token_create(expiring(passed), "ada", now(10)).await;
        assert_eq!(answer, Err(StoreError::TokenExpired { id: "t".to_owned(), expires_at: passed }));
    }
    store.token_create(expiring(at(20)), "ada", now(10)).await.unwrap();
    for (secs, expired) in [(19, false), (20, true), (21, true)] {
        let answer = store.token_check("t", secret("t"), key(1), now(secs)).await.unwrap();
        let is_expired = matches!(answer, TokenAnswer::Refused(TokenRefusal::Expired));
        assert_eq!(is_expired, expired, "{secs}: {answer:?}");
    }
    let late = store.record_intent(new_intent(Some("t"), "pump", 1, key(1)), now(20)).await;
    assert_eq!(late, Err(StoreError::TokenLost { id: "t".to_owned() }));
    store.record_intent(new_intent(Some("t"), "pump", 1, key(1)), now(19)).await.unwrap();
    // Bound, it outlives its expiry: a device that was off for a day still gets its certificate.
    let answer = store.token_check("t", secret("t"), key(1), now(86_400)).await.unwrap();
    assert!(matches!(answer, TokenAnswer::Bound { .. }), "{answer:?}");
    // But not the certificate's own end.
    for (secs, expired) in [(31_535_999, false), (31_536_000, true)] {
        let answer = store.token_check("t", secret("t"), key(1), now(secs)).await.unwrap();
        assert_eq!(matches!(answer, TokenAnswer::Refused(TokenRefusal::Expired)), expired, "{answer:?}");
    }
}

#[tokio::test]
async fn a_wrong_id_and_a_wrong_secret_are_refused() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    assert_eq!(refusal(&store, "u", key(1)).await, Some(TokenRefusal::Unknown));
    assert_eq!(refusal(&store, "", key(1)).await, Some(TokenRefusal::Unknown));
    let mut almost = secret("t");
    almost[31] ^= 1;
    let answer = store.token_check("t", almost, key(1), now(1)).await.unwrap();
    assert!(matches!(answer, TokenAnswer::Refused(TokenRefusal::WrongSecret)), "{answer:?}");
    // A wrong secret learns nothing about the token's state.
    store.token_revoke("t", "ada", now(1)).await.unwrap();
    let answer = store.token_check("t", almost, key(1), now(1)).await.unwrap();
    assert!(matches!(answer, TokenAnswer::Refused(TokenRefusal::WrongSecret)), "{answer:?}");
    assert_eq!(refusal(&store, "t", key(1)).await, Some(TokenRefusal::Revoked));
}

#[tokio::test]
async fn a_bound_token_yields_the_same_bytes_to_the_same_key_and_nothing_to_another() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    issue(&store, "t", "pump", 1, key(1)).await;
    assert_eq!(store.token_state("t").await.unwrap().unwrap().state, TokenState::Bound(key(1)));
    for _ in 0..3 {
        match check(&store, "t", key(1)).await {
            TokenAnswer::Bound { device, certificate_der, intent } => {
                assert_eq!(device.as_str(), "pump");
                assert_eq!(certificate_der, Some(der(1, 1)));
                assert_eq!((intent.receipt.cert(), intent.token_id.as_deref()), (cert(1), Some("t")));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(refusal(&store, "t", key(2)).await, Some(TokenRefusal::OtherKey));
    }
    store.confirm(hash_of(&der(1, 1)), now(6)).await.unwrap();
    for n in [1, 2] {
        assert_eq!(refusal(&store, "t", key(n)).await, Some(TokenRefusal::Spent));
    }
    assert_eq!(store.token_state("t").await.unwrap().unwrap().state, TokenState::Confirmed);
}

#[tokio::test]
async fn a_token_for_a_live_device_must_say_that_it_replaces() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "early", "pump").await;
    live_again(&store).await;
    let answer = store.token_create(new_token("late", "pump", false), "ada", now(5)).await;
    assert_eq!(answer, Err(StoreError::NeedsReplace { id: "pump".to_owned() }));
    // The confirmation has killed the other first token too.
    assert_eq!(refusal(&store, "early", key(2)).await, Some(TokenRefusal::Revoked));
    make_replacing_token(&store, "late", "pump").await;
    assert_eq!(refusal(&store, "late", key(2)).await, None);
    // Once the certificate has ended, a plain token will do again.
    let much_later = now(31_536_000);
    let plain = NewToken { expires_at: at(31_600_000), ..new_token("plain", "pump", false) };
    store.token_create(plain, "ada", much_later).await.unwrap();
}

async fn live_again(store: &store::Store) {
    make_token(store, "t", "pump").await;
    let der_hash = issue(store, "t", "pump", 1, key(1)).await;
    store.confirm(der_hash, now(3)).await.unwrap();
}

#[tokio::test]
async fn killing_a_bound_token_kills_its_unconfirmed_certificate() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    let der_hash = issue(&store, "t", "pump", 1, key(1)).await;
    let before = store.view().epoch();
    let answer = store.token_revoke("t", "ada", now(6)).await.unwrap();
    assert_eq!((answer.epoch, answer.certs.as_slice()), (before.next(), &[cert(1)][..]));
    assert_eq!(store.view().epoch(), before.next());
    assert_eq!(store.view().is_revoked(&cert(1)), Some(trust::Revocation::Revoked));
    let unusable = Err(StoreError::CertificateUnusable { cert: cert(1) });
    assert_eq!(store.confirm(der_hash, now(7)).await, unusable);
    assert_eq!(refusal(&store, "t", key(1)).await, Some(TokenRefusal::Revoked));
    let again = store.token_revoke("t", "ada", now(8)).await.unwrap();
    assert_eq!((again.epoch, again.certs.as_slice()), (before.next(), &[][..]));
    assert_eq!(words(&store, 4).await, ["token_revoked", "certificate_revoked"]);
}

#[tokio::test]
async fn killing_an_unused_token_changes_no_trust_and_a_spent_one_cannot_be_killed() {
    let place = Place::fresh();
    let store = place.open();
    live_device(&store, "pump", 1, key(1)).await;
    make_replacing_token(&store, "t", "pump").await;
    let epoch = store.view().epoch();
    let answer = store.token_revoke("t", "ada", now(6)).await.unwrap();
    assert_eq!((answer.epoch, answer.certs.len()), (epoch, 0));
    assert_eq!(answer.principal.unwrap().name.as_str(), "pump");
    let spent = store.token_revoke("token-pump", "ada", now(6)).await;
    assert_eq!(spent, Err(StoreError::TokenSpent { id: "token-pump".to_owned() }));
    let unknown = store.token_revoke("nothing", "ada", now(6)).await;
    assert_eq!(unknown, Err(StoreError::UnknownToken { id: "nothing".to_owned() }));
    assert_eq!(store.view().epoch(), epoch);
}

#[tokio::test]
async fn of_several_first_tokens_the_first_to_connect_wins_and_the_others_die() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "pump").await;
    for n in 1..=3_u8 {
        let token = format!("t{n}");
        make_token(&store, &token, "pump").await;
        issue(&store, &token, "pump", n.into(), key(n)).await;
    }
    let confirmed = store.confirm(hash_of(&der(2, 1)), now(6)).await.unwrap();
    assert_eq!(confirmed.replaced, [cert(1), cert(3)]);
    assert_eq!(confirmed.epoch, store.view().epoch());
    for n in [1, 3] {
        let unusable = Err(StoreError::CertificateUnusable { cert: cert(n) });
        assert_eq!(store.confirm(hash_of(&der(n, 1)), now(7)).await, unusable);
        assert_eq!(refusal(&store, &format!("t{n}"), key(1)).await, Some(TokenRefusal::Revoked));
    }
    assert_eq!(refusal(&store, "t2", key(2)).await, Some(TokenRefusal::Spent));
}

#[tokio::test]
async fn every_refusal_has_a_code_of_its_own() {
    let all = [
        TokenRefusal::Unknown,
        TokenRefusal::WrongSecret,
        TokenRefusal::Expired,
        TokenRefusal::Spent,
        TokenRefusal::OtherKey,
        TokenRefusal::Revoked,
        TokenRefusal::DeviceDenied,
        TokenRefusal::NeedsReplace,
    ];
    let codes: std::collections::HashSet<_> = all.iter().map(|refusal| refusal.code()).collect();
    assert_eq!(codes.len(), all.len());
    assert!(codes.iter().all(|code| code.starts_with("token.")));
}
