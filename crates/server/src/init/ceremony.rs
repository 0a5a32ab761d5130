use std::time::Duration;

use ca::ceremony::{Hierarchy, RootWanted, SubWanted, finish, plan_root, plan_sub};
use ca::{Issuer, finish_crl, prepare_crl};
use signer::{FileKey, RawSigner, SystemEntropy};
use store::{CaRow, CrlRow, Store};
use types::{Clock, Entropy, Secret, Serial};
use x509::{CaPurpose, Certificate, KeyKind, SubjectTemplate};

use super::InitPlan;
use super::files::write_new;
use crate::error::ServerError;
use crate::hierarchy::{SUB_CAS, aia_url, crl_url, kinds};
use crate::keys::Unlock;
use crate::layout::Layout;

/// The root's list is signed where the root's key is, so it holds for a year.
const ROOT_CRL_VALIDITY: Duration = Duration::from_secs(365 * 86_400);

/// What the ceremony made, still to be recorded.
pub(super) struct MadeHierarchy {
    root: Certificate,
    subs: Vec<(&'static str, Certificate)>,
    root_crl: Vec<u8>,
    root_crl_dates: (types::Wall, types::Wall),
}

fn failed(error: &dyn std::fmt::Display) -> ServerError {
    ServerError::Part { what: "ceremony", error: error.to_string() }
}

fn serial() -> Serial {
    let mut random = [0; 20];
    SystemEntropy.fill(&mut random);
    Serial::from_random(random)
}

/// Makes the unlock secret, every key, and the certificates of the root and the sub-CAs.
pub(super) fn ceremony(
    layout: &Layout,
    plan: &InitPlan,
    clock: &dyn Clock,
) -> Result<MadeHierarchy, ServerError> {
    let now = clock.now();
    let mut random = [0; 32];
    SystemEntropy.fill(&mut random);
    let secret = types::hex(&random);
    write_new(&layout.unlock_secret(), secret.as_bytes(), 0o600)?;
    let unlock = Unlock::fresh(Secret::new(secret.into_bytes()));
    let template =
        SubjectTemplate { organization: Some(plan.organization.clone()), ..SubjectTemplate::default() };

    let root_key = FileKey::generate(plan.root_key).map_err(|error| failed(&error))?;
    root_key
        .save_new(&layout.root_key(), Some(&plan.root_passphrase), &mut SystemEntropy)
        .map_err(|error| failed(&error))?;
    let wanted = RootWanted {
        common_name: format!("{} Root CA", plan.organization),
        template: template.clone(),
        spki_der: root_key.spki_der().to_vec(),
        serial: serial(),
        hierarchy: Hierarchy::Standard,
    };
    let ticket = plan_root(wanted, now).map_err(|error| failed(&error))?;
    let signature = root_key.sign(ticket.tbs()).map_err(|error| failed(&error))?;
    let root = finish(ticket, &signature).map_err(|error| failed(&error))?;
    write_new(&layout.ca("root"), root.to_pem().as_bytes(), 0o644)?;
    let root_id = root.issuer_id_as_ca();

    let mut subs = Vec::new();
    for label in SUB_CAS {
        let key = FileKey::generate(KeyKind::P256).map_err(|error| failed(&error))?;
        unlock.save(&key, &layout.key(label))?;
        let wanted = SubWanted {
            common_name: format!("{} {} CA", plan.organization, capitalised(label)),
            template: template.clone(),
            spki_der: key.spki_der().to_vec(),
            serial: serial(),
            hierarchy: Hierarchy::Standard,
            purpose: if label == "servers" { CaPurpose::Servers } else { CaPurpose::Clients },
            crl_url: Some(crl_url(&plan.public_url, root_id)),
            aia_url: Some(aia_url(&plan.public_url, root_id)),
        };
        let ticket = plan_sub(wanted, &root, now).map_err(|error| failed(&error))?;
        let signature = root_key.sign(ticket.tbs()).map_err(|error| failed(&error))?;
        let certificate = finish(ticket, &signature).map_err(|error| failed(&error))?;
        write_new(&layout.ca(label), certificate.to_pem().as_bytes(), 0o644)?;
        subs.push((label, certificate));
    }
    for name in ["checkpoint", "bundle"] {
        let key = FileKey::generate(KeyKind::P256).map_err(|error| failed(&error))?;
        unlock.save(&key, &layout.key(name))?;
    }

    let issuer = Issuer {
        label: "root".to_owned(),
        certificate: root.clone(),
        kinds: Vec::new(),
        servers: false,
        crl_url: None,
        aia_url: None,
        template,
    };
    let (this_update, next_update) = (now.wall, now.wall.plus(ROOT_CRL_VALIDITY));
    let ticket = prepare_crl(&issuer, 1, this_update, next_update, std::iter::empty())
        .map_err(|error| failed(&error))?;
    let signature = root_key.sign(ticket.tbs()).map_err(|error| failed(&error))?;
    let root_crl = finish_crl(ticket, &signature).map_err(|error| failed(&error))?;
    Ok(MadeHierarchy { root, subs, root_crl, root_crl_dates: (this_update, next_update) })
}

fn capitalised(label: &str) -> String {
    let mut letters = label.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// Puts the hierarchy and the root's revocation list into a new store.
pub(super) async fn record(
    layout: &Layout,
    made: MadeHierarchy,
    clock: &dyn Clock,
) -> Result<(), ServerError> {
    let now = clock.now();
    let failed = |error: store::StoreError| ServerError::Part { what: "store", error: error.to_string() };
    let store = Store::open(layout.dir(), now).map_err(failed)?;
    let root_id = made.root.issuer_id_as_ca();
    let row = |label: &str, certificate: &Certificate| CaRow {
        id: certificate.issuer_id_as_ca(),
        label: label.to_owned(),
        certificate_der: certificate.der().to_vec(),
        parent: (label != "root").then_some(root_id),
        kinds: kinds(label),
        servers: label == "servers",
        key_file: (label != "root").then(|| format!("keys/{label}.key.pem")),
    };
    store.ca_add(row("root", &made.root), now).await.map_err(failed)?;
    for (label, certificate) in &made.subs {
        store.ca_add(row(label, certificate), now).await.map_err(failed)?;
    }
    let (this_update, next_update) = made.root_crl_dates;
    let number = store.crl_next_number(root_id).await.map_err(failed)?;
    let crl = CrlRow {
        issuer: root_id,
        number,
        der: made.root_crl,
        this_update,
        next_update,
        epoch: store.view().epoch(),
    };
    store.crl_put(crl).await.map_err(failed)
}
