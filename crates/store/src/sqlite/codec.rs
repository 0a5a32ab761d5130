//! Columns to words and back: the numbers and texts that stand for our enums in the database.
//! In: column values. Out: words of `types`, `trust` and `x509`, or `StoreError::Corrupt`.
//! Invariant: a number that we never wrote is refused, never guessed.
//! Never: runs SQL.
//! Spec: schema_1.sql.

use rusqlite::Row;
use trust::{Admission, CertState, IdentitySource};
use types::{
    CertRef, DerHash, DeviceId, Epoch, IssuerId, Principal, PrincipalKind, ProjectId, Serial, SpkiHash, Wall,
};
use x509::CrlReason;

use crate::StoreError;
use crate::rows::{OrderKind, Standing};

/// `certificate.state`; suspended and revoked are the ones from 3 on, which the indexes rely on.
pub(super) mod state {
    pub(crate) const UNCONFIRMED: i64 = 0;
    pub(crate) const ACTIVE: i64 = 1;
    pub(crate) const SUPERSEDED: i64 = 2;
    pub(crate) const SUSPENDED: i64 = 3;
    pub(crate) const REVOKED: i64 = 4;
}

/// `token.state`.
pub(super) mod token {
    pub(crate) const UNUSED: i64 = 0;
    pub(crate) const BOUND: i64 = 1;
    pub(crate) const CONFIRMED: i64 = 2;
    pub(crate) const REVOKED: i64 = 3;
}

/// `intent.state`.
pub(super) mod intent {
    pub(crate) const OPEN: i64 = 0;
    pub(crate) const FINISHED: i64 = 1;
    pub(crate) const DEAD: i64 = 2;
}

/// `principal.standing`.
pub(super) mod standing {
    pub(crate) const ACTIVE: i64 = 0;
    pub(crate) const SUSPENDED: i64 = 1;
    pub(crate) const REVOKED: i64 = 2;
}

pub(super) fn corrupt(what: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { detail: format!("{what} \"{}\" is none", types::Clipped(&value.to_string())) }
}

/// A page's length for SQL; more than SQL can count is all.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

pub(super) fn cert_ref(row: &Row<'_>, issuer: usize, serial: usize) -> Result<CertRef, StoreError> {
    let content: Vec<u8> = row.get(serial)?;
    let serial = Serial::from_der_integer(&content).ok_or_else(|| corrupt("serial", types::hex(&content)))?;
    Ok(CertRef { issuer: IssuerId(row.get(issuer)?), serial })
}

pub(super) fn der_hash(row: &Row<'_>, at: usize) -> Result<DerHash, StoreError> {
    Ok(DerHash(row.get(at)?))
}

pub(super) fn spki(row: &Row<'_>, at: usize) -> Result<SpkiHash, StoreError> {
    Ok(SpkiHash(row.get(at)?))
}

pub(super) fn wall(row: &Row<'_>, at: usize) -> Result<Wall, StoreError> {
    Ok(Wall(row.get(at)?))
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, StoreError> {
    DeviceId::parse(text).map_err(|_| corrupt("name", text))
}

pub(super) fn project(text: &str) -> Result<ProjectId, StoreError> {
    ProjectId::parse(text).ok_or_else(|| corrupt("project", text))
}

pub(super) fn kind_code(kind: PrincipalKind) -> i64 {
    match kind {
        PrincipalKind::Device => 0,
        PrincipalKind::Service => 1,
        PrincipalKind::Operator => 2,
    }
}

pub(super) fn kind(code: i64) -> Result<PrincipalKind, StoreError> {
    match code {
        0 => Ok(PrincipalKind::Device),
        1 => Ok(PrincipalKind::Service),
        2 => Ok(PrincipalKind::Operator),
        _ => Err(corrupt("principal kind", code)),
    }
}

/// A principal from its kind and name columns; `None` where the join found none.
pub(super) fn principal(
    row: &Row<'_>,
    kind_at: usize,
    name_at: usize,
) -> Result<Option<Principal>, StoreError> {
    let Some(code) = row.get::<_, Option<i64>>(kind_at)? else { return Ok(None) };
    let name: String = row.get(name_at)?;
    Ok(Some(Principal { kind: kind(code)?, name: device_id(&name)? }))
}

pub(super) fn kinds_text(kinds: &[PrincipalKind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",")
}

pub(super) fn kinds(text: &str) -> Result<Vec<PrincipalKind>, StoreError> {
    let parse = |word| PrincipalKind::parse(word).ok_or_else(|| corrupt("principal kind", word));
    text.split(',').filter(|word| !word.is_empty()).map(parse).collect()
}

pub(super) fn cert_state(code: i64, usable_until: Option<i64>) -> Result<CertState, StoreError> {
    match (code, usable_until) {
        (state::UNCONFIRMED, _) => Ok(CertState::Unconfirmed),
        (state::ACTIVE, _) => Ok(CertState::Active),
        (state::SUPERSEDED, Some(until)) => Ok(CertState::Superseded { until: Wall(until) }),
        (state::SUSPENDED, _) => Ok(CertState::Suspended),
        (state::REVOKED, _) => Ok(CertState::Revoked),
        _ => Err(corrupt("certificate state", code)),
    }
}

pub(super) fn standing_of(
    code: i64,
    incarnation: Option<u32>,
    counter: Option<u64>,
) -> Result<Standing, StoreError> {
    match (code, incarnation, counter) {
        (standing::ACTIVE, ..) => Ok(Standing::Active),
        (standing::SUSPENDED, ..) => Ok(Standing::Suspended),
        (standing::REVOKED, Some(incarnation), Some(counter)) => {
            Ok(Standing::Revoked(Epoch { incarnation, counter }))
        }
        _ => Err(corrupt("standing", code)),
    }
}

pub(super) fn reason_code(reason: CrlReason) -> i64 {
    match reason {
        CrlReason::Unspecified => 0,
        CrlReason::KeyCompromise => 1,
        CrlReason::CaCompromise => 2,
        CrlReason::AffiliationChanged => 3,
        CrlReason::Superseded => 4,
        CrlReason::CessationOfOperation => 5,
        CrlReason::CertificateHold => 6,
    }
}

pub(super) fn reason(code: i64) -> Result<CrlReason, StoreError> {
    match code {
        0 => Ok(CrlReason::Unspecified),
        1 => Ok(CrlReason::KeyCompromise),
        2 => Ok(CrlReason::CaCompromise),
        3 => Ok(CrlReason::AffiliationChanged),
        4 => Ok(CrlReason::Superseded),
        5 => Ok(CrlReason::CessationOfOperation),
        6 => Ok(CrlReason::CertificateHold),
        _ => Err(corrupt("revocation reason", code)),
    }
}

pub(super) fn order_kind_code(kind: OrderKind) -> i64 {
    match kind {
        OrderKind::Service => 0,
        OrderKind::Operator => 1,
        OrderKind::Server => 2,
    }
}

pub(super) fn order_kind(code: i64) -> Result<OrderKind, StoreError> {
    match code {
        0 => Ok(OrderKind::Service),
        1 => Ok(OrderKind::Operator),
        2 => Ok(OrderKind::Server),
        _ => Err(corrupt("order kind", code)),
    }
}

pub(super) fn admission(text: &str) -> Result<Admission, StoreError> {
    match text {
        "registered" => Ok(Admission::Registered),
        "just-in-time" => Ok(Admission::JustInTime),
        _ => Err(corrupt("admission", text)),
    }
}

pub(super) fn identity(text: &str) -> Result<IdentitySource, StoreError> {
    match text {
        "cn" => Ok(IdentitySource::CommonName),
        "serialNumber" => Ok(IdentitySource::SerialNumber),
        "san_uri" => Ok(IdentitySource::SanUri),
        _ => Err(corrupt("identity source", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
        match outcome {
            Err(StoreError::Corrupt { detail }) => detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_word_survives_the_way_into_a_column_and_back() {
        for word in [PrincipalKind::Device, PrincipalKind::Service, PrincipalKind::Operator] {
            assert_eq!(kind(kind_code(word)), Ok(word));
        }
        for word in [OrderKind::Service, OrderKind::Operator, OrderKind::Server] {
            assert_eq!(order_kind(order_kind_code(word)), Ok(word));
        }
        for code in 0..=6 {
            assert_eq!(reason_code(reason(code).unwrap()), code);
        }
        for list in
            [vec![], vec![PrincipalKind::Device], vec![PrincipalKind::Service, PrincipalKind::Operator]]
        {
            assert_eq!(kinds(&kinds_text(&list)), Ok(list));
        }
    }

    #[test]
    fn a_value_that_was_never_written_is_damage_and_is_named() {
        assert_eq!(refused(kind(3)), "principal kind \"3\" is none");
        assert_eq!(refused(kinds("device,root")), "principal kind \"root\" is none");
        assert_eq!(refused(order_kind(-1)), "order kind \"-1\" is none");
        assert_eq!(refused(reason(7)), "revocation reason \"7\" is none");
        assert_eq!(refused(cert_state(5, None)), "certificate state \"5\" is none");
        assert_eq!(refused(standing_of(3, None, None)), "standing \"3\" is none");
        assert_eq!(refused(device_id("a/b")), "name \"a/b\" is none");
        assert_eq!(refused(project("p")), "project \"p\" is none");
        assert_eq!(refused(admission("maybe")), "admission \"maybe\" is none");
        assert_eq!(refused(identity("CN")), "identity source \"CN\" is none");
    }

    #[test]
    fn a_superseded_certificate_without_an_end_and_a_revocation_without_an_epoch_are_damage() {
        assert_eq!(cert_state(state::SUPERSEDED, Some(7)), Ok(CertState::Superseded { until: Wall(7) }));
        assert_eq!(refused(cert_state(state::SUPERSEDED, None)), "certificate state \"2\" is none");
        assert_eq!(refused(standing_of(standing::REVOKED, Some(0), None)), "standing \"2\" is none");
    }
}
