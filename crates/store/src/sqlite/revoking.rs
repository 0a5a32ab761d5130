use audit::Event;
use trust::{Change, Revocation};
use types::{CertRef, Clipped, DeviceId, Epoch, Now, PrincipalKind};
use x509::CrlReason;

use super::certificates::{self, Held};
use super::codec::{self, standing, state};
use super::principals::{self, Known};
use super::writer::Txn;
use super::{intents, meta, tokens};
use crate::StoreError;
use crate::rows::{RevokedDevice, Standing};

/// Revokes these certificates in one epoch; a token that is bound to an unconfirmed one dies too.
pub(super) fn end(
    txn: &mut Txn<'_>,
    rows: &[Held],
    reason: CrlReason,
    actor: &str,
    now: Now,
) -> Result<Epoch, StoreError> {
    let revoke = rows.iter().map(|row| (row.cert, Revocation::Revoked)).collect();
    let epoch = txn.raise_epoch(Change { revoke, ..Change::default() })?;
    mark(txn, rows, reason, actor, epoch, now)?;
    Ok(epoch)
}

fn mark(
    txn: &mut Txn<'_>,
    rows: &[Held],
    reason: CrlReason,
    actor: &str,
    epoch: Epoch,
    now: Now,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE certificate SET state = ?2, held_state = NULL, revoked_at = ?3, reason = ?4 WHERE id = ?1";
    for row in rows {
        let values = (row.id, state::REVOKED, now.wall.0, codec::reason_code(reason));
        txn.conn.prepare_cached(sql)?.execute(values)?;
        let known = row.principal.map(|id| principals::known_by_id(txn.conn, id)).transpose()?;
        let name = known.as_ref().map(|known| &known.principal.name);
        if let (Some(number), Some(name)) = (row.token.filter(|_| row.is_unconfirmed()), name) {
            tokens::kill(txn, number, name, actor, now)?;
        }
        tell(txn, row.cert, &row.issuer_label, name, reason, actor, epoch, now)?;
    }
    txn.count("revoked", codec::limit(rows.len()))
}

/// Writes the event of one revoked certificate.
#[expect(clippy::too_many_arguments, reason = "an event has as many fields as its word has")]
pub(super) fn tell(
    txn: &mut Txn<'_>,
    cert: CertRef,
    issuer_label: &str,
    name: Option<&DeviceId>,
    reason: CrlReason,
    actor: &str,
    epoch: Epoch,
    now: Now,
) -> Result<(), StoreError> {
    let event = Event::CertificateRevoked {
        principal: name.map_or_else(|| "server".to_owned(), ToString::to_string),
        serial: cert.serial.to_string(),
        issuer: issuer_label.to_owned(),
        reason: reason.as_str().to_owned(),
        actor: actor.to_owned(),
        epoch: epoch.to_string(),
    };
    txn.event(&event, now)
}

/// Flow D: rows, deny-list, tokens, event and epoch in one transaction; that alone is the revocation.
pub(crate) fn principal(
    txn: &mut Txn<'_>,
    kind: PrincipalKind,
    name: &DeviceId,
    reason: CrlReason,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let known = principals::of_kind(txn.conn, kind, name)?;
    if let Standing::Revoked(epoch) = known.standing {
        return Err(StoreError::AlreadyRevoked { name: known.principal.name.to_string(), epoch });
    }
    let rows = certificates::standing_of(txn.conn, known.id)?;
    let revoke = rows.iter().map(|row| (row.cert, Revocation::Revoked)).collect();
    let deny = vec![known.principal.name.clone()];
    let epoch = txn.raise_epoch(Change { revoke, deny, ..Change::default() })?;
    principals::set_standing(txn, known.id, standing::REVOKED, Some(epoch))?;
    list_denied(txn, &known.principal.name, actor, now)?;
    tokens::kill_others(txn, &known, None, true, actor, now)?;
    intents::end_of_principal(txn, known.id)?;
    mark(txn, &rows, reason, actor, epoch, now)?;
    denied_event(txn, &known.principal.name, reason.as_str(), actor, epoch, now)?;
    Ok(answer(epoch, &rows, known))
}

pub(crate) fn certificate(
    txn: &mut Txn<'_>,
    cert: CertRef,
    reason: CrlReason,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let held = certificates::held(txn.conn, cert)?
        .ok_or_else(|| StoreError::UnknownCertificate { shown: cert.to_string() })?;
    if held.state == state::REVOKED {
        let epoch = meta::epoch(txn.conn)?;
        return Err(StoreError::AlreadyRevoked { name: cert.to_string(), epoch });
    }
    let known = held.principal.map(|id| principals::known_by_id(txn.conn, id)).transpose()?;
    let epoch = end(txn, &[held], reason, actor, now)?;
    Ok(RevokedDevice { epoch, certs: vec![cert], principal: known.map(|known| known.principal) })
}

pub(crate) fn suspend(
    txn: &mut Txn<'_>,
    id: &DeviceId,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let known = principals::of_kind(txn.conn, PrincipalKind::Device, id)?;
    match known.standing {
        Standing::Revoked(epoch) => {
            return Err(StoreError::AlreadyRevoked { name: known.principal.name.to_string(), epoch });
        }
        Standing::Suspended => return Ok(answer(meta::epoch(txn.conn)?, &[], known)),
        Standing::Active => {}
    }
    let rows = certificates::standing_of(txn.conn, known.id)?;
    let revoke = rows.iter().map(|row| (row.cert, Revocation::Suspended)).collect();
    let epoch = txn.raise_epoch(Change { revoke, ..Change::default() })?;
    principals::set_standing(txn, known.id, standing::SUSPENDED, None)?;
    let sql =
        "UPDATE certificate SET held_state = state, state = ?2, revoked_at = ?3, reason = ?4 WHERE id = ?1";
    for row in &rows {
        let reason = codec::reason_code(CrlReason::CertificateHold);
        txn.conn.prepare_cached(sql)?.execute((row.id, state::SUSPENDED, now.wall.0, reason))?;
    }
    let (device, actor) = (known.principal.name.to_string(), actor.to_owned());
    txn.event(&Event::DeviceSuspended { device, actor, epoch: epoch.to_string() }, now)?;
    Ok(answer(epoch, &rows, known))
}

pub(crate) fn restore(
    txn: &mut Txn<'_>,
    id: &DeviceId,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let known = principals::of_kind(txn.conn, PrincipalKind::Device, id)?;
    match known.standing {
        Standing::Revoked(epoch) => {
            return Err(StoreError::AlreadyRevoked { name: known.principal.name.to_string(), epoch });
        }
        Standing::Active => {
            return Err(StoreError::NotSuspended { id: known.principal.name.to_string() });
        }
        Standing::Suspended => {}
    }
    let mut rows = certificates::standing_of(txn.conn, known.id)?;
    rows.retain(|row| row.held_state.is_some());
    let restore = rows.iter().map(|row| row.cert).collect();
    let epoch = txn.raise_epoch(Change { restore, ..Change::default() })?;
    principals::set_standing(txn, known.id, standing::ACTIVE, None)?;
    let sql = "UPDATE certificate SET state = held_state, held_state = NULL, revoked_at = NULL, reason = NULL
               WHERE id = ?1";
    for row in &rows {
        txn.conn.prepare_cached(sql)?.execute([row.id])?;
    }
    let (device, actor) = (known.principal.name.to_string(), actor.to_owned());
    txn.event(&Event::DeviceRestored { device, actor, epoch: epoch.to_string() }, now)?;
    Ok(answer(epoch, &rows, known))
}

pub(crate) fn deny(
    txn: &mut Txn<'_>,
    id: &DeviceId,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let known = principals::known(txn.conn, id)?;
    if !list_denied(txn, id, actor, now)? {
        let epoch = meta::epoch(txn.conn)?;
        let principal = known.map(|known| known.principal);
        return Ok(RevokedDevice { epoch, certs: Vec::new(), principal });
    }
    let epoch = txn.raise_epoch(Change { deny: vec![id.clone()], ..Change::default() })?;
    denied_event(txn, id, "denied", actor, epoch, now)?;
    named(txn, epoch, known)
}

pub(crate) fn allow(
    txn: &mut Txn<'_>,
    id: &DeviceId,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let known = principals::known(txn.conn, id)?;
    if let Some(Known { standing: Standing::Revoked(epoch), principal, .. }) = &known {
        return Err(StoreError::AlreadyRevoked { name: principal.name.to_string(), epoch: *epoch });
    }
    let sql = "DELETE FROM denied WHERE folded = ?1";
    if txn.conn.prepare_cached(sql)?.execute([id.folded()])? == 0 {
        let epoch = meta::epoch(txn.conn)?;
        let principal = known.map(|known| known.principal);
        return Ok(RevokedDevice { epoch, certs: Vec::new(), principal });
    }
    let epoch = txn.raise_epoch(Change { allow: vec![id.clone()], ..Change::default() })?;
    let (device, actor) = (id.to_string(), actor.to_owned());
    txn.event(&Event::DeviceRestored { device, actor, epoch: epoch.to_string() }, now)?;
    named(txn, epoch, known)
}

/// Puts a name on the deny-list; whether it was not there.
fn list_denied(txn: &mut Txn<'_>, name: &DeviceId, actor: &str, now: Now) -> Result<bool, StoreError> {
    let sql = "INSERT INTO denied (folded, name, at, actor) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let row = (name.folded(), name.as_str(), now.wall.0, actor);
    Ok(txn.conn.prepare_cached(sql)?.execute(row)? == 1)
}

fn denied_event(
    txn: &mut Txn<'_>,
    name: &DeviceId,
    reason: &str,
    actor: &str,
    epoch: Epoch,
    now: Now,
) -> Result<(), StoreError> {
    let event = Event::DeviceDenied {
        device: name.to_string(),
        reason: Clipped(reason).to_string(),
        actor: actor.to_owned(),
        epoch: epoch.to_string(),
    };
    txn.event(&event, now)
}

fn answer(epoch: Epoch, rows: &[Held], known: Known) -> RevokedDevice {
    let certs = rows.iter().map(|row| row.cert).collect();
    RevokedDevice { epoch, certs, principal: Some(known.principal) }
}

/// The answer for a change that goes by name: every certificate of that name that is not revoked.
fn named(txn: &Txn<'_>, epoch: Epoch, known: Option<Known>) -> Result<RevokedDevice, StoreError> {
    match known {
        Some(known) => {
            let rows = certificates::standing_of(txn.conn, known.id)?;
            Ok(answer(epoch, &rows, known))
        }
        None => Ok(RevokedDevice { epoch, certs: Vec::new(), principal: None }),
    }
}
