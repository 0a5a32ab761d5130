use serde::Serialize;
use store::{CertRow, DeviceRow, PrincipalRow, Standing, TokenRow, TokenState};

/// A device as the API shows it.
#[derive(Serialize)]
pub(crate) struct DeviceView {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    project: String,
    fleet: Option<String>,
    label: Option<String>,
    standing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_epoch: Option<String>,
    denied: bool,
    added_at: String,
    added_by: String,
    pub(crate) certificates: Vec<CertView>,
    tokens: Vec<TokenView>,
}

/// A service or an operator as the API shows it.
#[derive(Serialize)]
pub(crate) struct PrincipalView {
    kind: &'static str,
    name: String,
    project: String,
    standing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_epoch: Option<String>,
    added_at: String,
    added_by: String,
    certificates: Vec<CertView>,
}

/// A certificate as the API shows it.
#[derive(Serialize)]
pub(crate) struct CertView {
    serial: String,
    issuer: String,
    fingerprint: String,
    spki_sha256: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_until: Option<String>,
    generation: u32,
    not_before: String,
    not_after: String,
    issued_at: String,
    revoked_at: Option<String>,
    reason: Option<&'static str>,
    /// Only where one device is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pem: Option<String>,
}

/// A token as the API shows it; its secret is known to nobody here.
#[derive(Serialize)]
pub(crate) struct TokenView {
    id: String,
    device_id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_sha256: Option<String>,
    expires_at: String,
    replace: bool,
    created_at: String,
    created_by: String,
}

fn words_of(standing: Standing) -> (&'static str, Option<String>) {
    match standing {
        Standing::Active => ("active", None),
        Standing::Suspended => ("suspended", None),
        Standing::Revoked(epoch) => ("revoked", Some(epoch.to_string())),
    }
}

impl From<DeviceRow> for DeviceView {
    fn from(row: DeviceRow) -> Self {
        let (standing, revoked_epoch) = words_of(row.standing);
        Self {
            id: row.id.to_string(),
            original: row.original,
            project: row.project.to_string(),
            fleet: row.fleet,
            label: row.label,
            standing,
            revoked_epoch,
            denied: row.denied,
            added_at: row.added_at.to_string(),
            added_by: row.added_by,
            certificates: row.certificates.into_iter().map(CertView::from).collect(),
            tokens: row.tokens.into_iter().map(TokenView::from).collect(),
        }
    }
}

impl From<PrincipalRow> for PrincipalView {
    fn from(row: PrincipalRow) -> Self {
        let (standing, revoked_epoch) = words_of(row.standing);
        Self {
            kind: row.principal.kind.as_str(),
            name: row.principal.name.to_string(),
            project: row.project.to_string(),
            standing,
            revoked_epoch,
            added_at: row.added_at.to_string(),
            added_by: row.added_by,
            certificates: row.certificates.into_iter().map(CertView::from).collect(),
        }
    }
}

impl From<CertRow> for CertView {
    fn from(row: CertRow) -> Self {
        let superseded_until = match row.state {
            trust::CertState::Superseded { until } => Some(until.to_string()),
            _ => None,
        };
        Self {
            serial: row.cert.serial.to_string(),
            issuer: row.issuer_label,
            fingerprint: row.der_hash.to_string(),
            spki_sha256: row.spki.to_string(),
            state: row.state.as_str(),
            superseded_until,
            generation: row.generation,
            not_before: row.not_before.to_string(),
            not_after: row.not_after.to_string(),
            issued_at: row.recorded_at.to_string(),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
            reason: row.reason.map(|reason| reason.as_str()),
            pem: None,
        }
    }
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        let (state, key_sha256) = match row.state {
            TokenState::Unused => ("unused", None),
            TokenState::Bound(key) => ("bound", Some(key.to_string())),
            TokenState::Confirmed => ("spent", None),
            TokenState::Revoked => ("revoked", None),
        };
        Self {
            id: row.id,
            device_id: row.device.to_string(),
            state,
            key_sha256,
            expires_at: row.expires_at.to_string(),
            replace: row.replace,
            created_at: row.created_at.to_string(),
            created_by: row.created_by,
        }
    }
}
