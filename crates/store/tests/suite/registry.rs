use std::collections::HashSet;

use store::{NewDevice, Standing, StoreError};
use types::{DeviceId, Epoch, PrincipalKind, ProjectId};

use crate::place::*;

#[tokio::test]
async fn a_device_is_found_again_with_all_that_was_registered() {
    let place = Place::fresh();
    let store = place.open();
    let (mac, original) = DeviceId::parse_written("24:0A:C4:00:01:02").unwrap();
    let new = NewDevice {
        id: mac.clone(),
        original,
        project: ProjectId::parse("proj_0123456789abcdefghjkmnpqrs").unwrap(),
        fleet: Some("north".to_owned()),
        label: Some("pump in the \"cellar\"".to_owned()),
    };
    let added = store.device_add(new, "ada", now(3)).await.unwrap();
    assert_eq!(added.id.as_str(), "240ac4000102");
    assert_eq!(added.original.as_deref(), Some("24:0A:C4:00:01:02"));
    assert_eq!((added.standing, added.denied), (Standing::Active, false));
    assert_eq!((added.added_at, added.added_by.as_str()), (at(3), "ada"));
    drop(store);
    let store = place.open();
    assert_eq!(store.device(&mac).await.unwrap(), Some(added));
    assert_eq!(store.device_count().await.unwrap(), 1);
    assert_eq!(words(&store, 0).await, ["device_added"]);
    assert_eq!(store.device(&id("pump-8")).await.unwrap(), None);
}

#[tokio::test]
async fn a_name_is_unique_across_kinds_and_cases() {
    let place = Place::fresh();
    let store = place.open();
    add(&store, "Pump-7").await;
    store.principal_add(PrincipalKind::Service, id("Backend"), project(), "ada", now(0)).await.unwrap();
    store.principal_add(PrincipalKind::Operator, id("ada"), project(), "init", now(0)).await.unwrap();
    let before = store.stats().await.unwrap();
    for (name, bearer) in [
        ("pump-7", PrincipalKind::Device),
        ("PUMP-7", PrincipalKind::Device),
        ("backend", PrincipalKind::Service),
        ("ADA", PrincipalKind::Operator),
    ] {
        let taken = StoreError::NameTaken { name: name.to_owned(), kind: bearer };
        assert_eq!(store.device_add(new_device(name), "ada", now(1)).await, Err(taken.clone()));
        for kind in [PrincipalKind::Service, PrincipalKind::Operator] {
            let answer = store.principal_add(kind, id(name), project(), "ada", now(1)).await;
            assert_eq!(answer, Err(taken.clone()));
        }
        assert_eq!(store.principal_kind(&id(name)).await, Ok(Some(bearer)));
    }
    assert_eq!(store.principal_kind(&id("nobody")).await, Ok(None));
    assert_eq!(store.stats().await.unwrap(), before, "a refusal leaves no trace, nor an event");
    assert_eq!((before.devices, before.principals, before.events), (1, 2, 3));
}

#[tokio::test]
async fn a_device_is_not_registered_through_the_door_of_the_others() {
    let place = Place::fresh();
    let store = place.open();
    let answer = store.principal_add(PrincipalKind::Device, id("pump"), project(), "ada", now(0)).await;
    assert_eq!(
        answer,
        Err(StoreError::UnknownPrincipal { kind: PrincipalKind::Device, name: "pump".to_owned() })
    );
    assert_eq!(store.principal_kind(&id("pump")).await, Ok(None));
}

#[tokio::test]
async fn services_and_operators_are_listed_without_the_devices() {
    let place = Place::fresh();
    let store = place.open();
    for n in 0..5 {
        add(&store, &format!("b-device-{n}")).await;
        let kind = if n % 2 == 0 { PrincipalKind::Service } else { PrincipalKind::Operator };
        store.principal_add(kind, id(&format!("P{n}")), project(), "ada", now(n)).await.unwrap();
    }
    let first = store.principals(None, 3).await.unwrap();
    let names: Vec<_> = first.iter().map(|row| row.principal.to_string()).collect();
    assert_eq!(names, ["service \"P0\"", "operator \"P1\"", "service \"P2\""]);
    assert_eq!(first[1].added_at, at(1));
    let rest = store.principals(Some(id("p2")), 3).await.unwrap();
    assert_eq!(rest.len(), 2);
    assert_eq!(store.principals(Some(id("p4")), 3).await.unwrap(), []);
    assert_eq!(store.principal(&id("p3")).await.unwrap().unwrap().principal.name.as_str(), "P3");
    assert_eq!(store.principal(&id("p9")).await.unwrap(), None);
}

#[tokio::test]
async fn ten_thousand_devices_come_in_pages_each_once_and_in_order() {
    let place = Place::fresh();
    let store = place.open();
    let mut adds = tokio::task::JoinSet::new();
    for n in 0..10_000_u32 {
        let store = store.clone();
        // Mixed cases, so that the order is seen to be that of the folded names.
        let name = if n % 2 == 0 { format!("Dev-{n:05}") } else { format!("dev-{n:05}") };
        adds.spawn(async move { store.device_add(new_device(&name), "ada", now(0)).await.map(|_| ()) });
    }
    while let Some(added) = adds.join_next().await {
        added.unwrap().unwrap();
    }
    assert_eq!(store.device_count().await, Ok(10_000));
    let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = store.devices(after.clone(), 999).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page.into_iter().map(|row| row.id));
        pages += 1;
    }
    assert_eq!((seen.len(), pages), (10_000, 11));
    assert!(seen.is_sorted());
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 10_000);
    assert_eq!(store.devices(None, 0).await.unwrap(), []);
    // A page may begin after a name that does not exist.
    let page = store.devices(Some(id("dev-04999z")), 2).await.unwrap();
    let names: Vec<_> = page.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(names, ["Dev-05000", "dev-05001"]);
}

#[tokio::test]
async fn the_cas_that_admit_clients_or_sign_servers_become_anchors_of_the_view() {
    let place = Place::fresh();
    let store = place.open();
    let rows = ca_rows();
    for row in &rows[..4] {
        store.ca_add(row.clone(), now(0)).await.unwrap();
    }
    assert_eq!(store.ca_list().await.unwrap(), rows[..4]);
    assert_eq!(store.ca(rows[1].id).await.unwrap().as_ref(), Some(&rows[1]));
    let check = |store: &store::Store| {
        let view = store.view();
        let labels: Vec<_> = view.anchors().iter().map(|anchor| anchor.label.clone()).collect();
        assert_eq!(labels, ["devices", "services", "servers"]);
        assert_eq!(view.anchor(rows[1].id).unwrap().kinds, [PrincipalKind::Device]);
        assert!(!view.anchor(rows[3].id).unwrap().signs_clients());
        assert!(view.anchor(rows[0].id).is_none(), "the root signs no clients");
        assert_eq!(view.epoch(), Epoch { incarnation: 0, counter: 3 }, "the root changes no trust");
    };
    check(&store);
    assert_eq!(words(&store, 0).await, ["ca_created"; 4]);
    drop(store);
    check(&place.open());
}

#[tokio::test]
async fn a_ca_that_cannot_be_believed_is_refused_and_leaves_no_trace() {
    let place = Place::fresh();
    let store = place.open();
    let rows = ca_rows();
    let orphan = store.ca_add(rows[1].clone(), now(0)).await;
    assert_eq!(orphan, Err(StoreError::UnknownIssuer { shown: rows[0].id.to_string() }));
    store.ca_add(rows[0].clone(), now(0)).await.unwrap();
    let leaf = store.ca_add(rows[4].clone(), now(0)).await;
    assert!(matches!(leaf, Err(StoreError::CaUnusable { .. })), "{leaf:?}");
    let mut wrong_id = rows[1].clone();
    wrong_id.id = types::IssuerId([1; 16]);
    let wrong_id = store.ca_add(wrong_id, now(0)).await;
    assert!(matches!(wrong_id, Err(StoreError::CaUnusable { .. })), "{wrong_id:?}");
    let mut garbage = rows[1].clone();
    garbage.certificate_der.truncate(40);
    let garbage = store.ca_add(garbage, now(0)).await;
    assert!(matches!(garbage, Err(StoreError::CaUnusable { .. })), "{garbage:?}");
    store.ca_add(rows[1].clone(), now(0)).await.unwrap();
    let twice = store.ca_add(rows[1].clone(), now(0)).await;
    assert!(matches!(twice, Err(StoreError::CaExists { .. })), "{twice:?}");
    let mut same_label = rows[2].clone();
    same_label.label = "devices".to_owned();
    let same_label = store.ca_add(same_label, now(0)).await;
    assert!(matches!(same_label, Err(StoreError::CaExists { .. })), "{same_label:?}");
    assert_eq!(store.ca_list().await.unwrap(), rows[..2]);
    assert_eq!((store.view().anchors().len(), store.view().epoch().counter), (1, 1));
}

#[tokio::test]
async fn a_cas_key_can_never_be_a_devices_key() {
    let place = Place::fresh();
    let store = place.open();
    let rows = ca_rows();
    store.ca_add(rows[0].clone(), now(0)).await.unwrap();
    let spki = x509::Certificate::parse_der(&rows[0].certificate_der).unwrap().spki_hash();
    add(&store, "pump").await;
    make_token(&store, "t", "pump").await;
    let answer = store.record_intent(new_intent(Some("t"), "pump", 1, spki), now(1)).await;
    assert_eq!(answer, Err(StoreError::KeyShared));
    assert_eq!(store.key_owner(spki).await, Ok(None));
    assert_eq!(refusal(&store, "t", key(1)).await, None, "the token is still free");
}
