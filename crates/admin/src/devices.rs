use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde_json::json;
use store::{NewDevice, StoreError};
use types::{DeviceId, ProjectId};

use crate::admin::Admin;
use crate::body::Fields;
use crate::call::{Answer, Call, answer};
use crate::error::ApiError;
use crate::views::DeviceView;

/// The longest label and fleet name.
const TEXT_BYTES_MAX: usize = 128;
const PAGE_DEFAULT: u64 = 100;
const PAGE_MAX: u64 = 1000;

/// `POST /api/v1/devices {id, project?, fleet?, label?}`.
pub(crate) async fn add(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let (id, original) = call.fields.name("id")?;
    let project = project(&mut call.fields)?;
    let fleet = fleet(&mut call.fields)?;
    let label = call.fields.short_text("label", TEXT_BYTES_MAX)?;
    call.fields.end()?;
    // A device that bears the name of a rule's user would inherit what the rule gives.
    if admin.deps.policy.borrow().bears_name(&id) {
        let detail =
            format!("/id: \"{id}\" is the name of a user in the topic rules; a device may not bear it");
        return Err(ApiError::Conflict { code: "device.name_in_rules", detail });
    }
    let new = NewDevice { id, original, project, fleet, label };
    let row = admin.deps.store.device_add(new, &call.actor.0, admin.now()).await?;
    Ok(answer(StatusCode::CREATED, &DeviceView::from(row)))
}

/// `GET /api/v1/devices?after&limit`.
pub(crate) async fn list(State(admin): State<Arc<Admin>>, mut call: Call) -> Answer {
    let (after, limit) = page(&mut call.fields)?;
    call.fields.end()?;
    let rows = admin.deps.store.devices(after, limit).await?;
    // A full page may be the last one; then the next is empty.
    let next = (rows.len() == limit).then(|| rows.last().map(|row| row.id.to_string())).flatten();
    let devices: Vec<DeviceView> = rows.into_iter().map(DeviceView::from).collect();
    Ok(answer(StatusCode::OK, &json!({"devices": devices, "next": next})))
}

/// `GET /api/v1/devices/{id}`.
pub(crate) async fn show(State(admin): State<Arc<Admin>>, call: Call) -> Answer {
    let id = call.device()?;
    call.fields.end()?;
    let row = admin.deps.store.device(&id).await?;
    let row = row.ok_or_else(|| StoreError::UnknownDevice { id: id.to_string() })?;
    let certs: Vec<_> = row.certificates.iter().map(|row| row.cert).collect();
    let mut view = DeviceView::from(row);
    for (shown, cert) in view.certificates.iter_mut().zip(certs) {
        let der = admin.deps.store.certificate_der(cert).await?;
        shown.pem = der.map(|der| x509::pem::encode("CERTIFICATE", &der));
    }
    Ok(answer(StatusCode::OK, &view))
}

/// The cursor and the size of a page.
pub(crate) fn page(fields: &mut Fields) -> Result<(Option<DeviceId>, usize), ApiError> {
    let after = match fields.text("after")? {
        None => None,
        Some(text) => Some(
            DeviceId::parse_written(&text)
                .map_err(|error| ApiError::malformed("?after", error.to_string()))?
                .0,
        ),
    };
    let limit = fields.number("limit", PAGE_DEFAULT, 1..=PAGE_MAX)?;
    Ok((after, usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// The project that is named, or the one that `init` made.
pub(crate) fn project(fields: &mut Fields) -> Result<ProjectId, ApiError> {
    let text = fields.text("project")?.unwrap_or_else(|| ProjectId::DEFAULT.to_owned());
    ProjectId::parse(&text).ok_or_else(|| {
        ApiError::malformed("/project", "expected \"default\" or proj_ and 26 characters of a-z 0-9")
    })
}

/// A fleet's name becomes a topic level under `%f`, so it must be one.
fn fleet(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let Some(fleet) = fields.short_text("fleet", TEXT_BYTES_MAX)? else { return Ok(None) };
    match fleet.char_indices().find(|(_, ch)| matches!(ch, '/' | '+' | '#' | '$')) {
        Some((at, ch)) => Err(ApiError::malformed(
            "/fleet",
            format!("'{ch}' at byte {at}; a fleet is one topic level, without / + # $"),
        )),
        None => Ok(Some(fleet)),
    }
}
