use audit::Event;
use rusqlite::{Connection, OptionalExtension};
use types::{DeviceId, Now, PrincipalKind};

use super::principals::{self, Known};
use super::writer::Txn;
use super::{certificates, codec, meta, tokens};
use crate::StoreError;
use crate::rows::{DeviceRow, NewDevice, Standing};

pub(crate) fn add(
    txn: &mut Txn<'_>,
    new: &NewDevice,
    actor: &str,
    now: Now,
) -> Result<DeviceRow, StoreError> {
    let id = principals::claim_name(txn, PrincipalKind::Device, &new.id, &new.project, actor, now)?;
    let sql = "INSERT INTO device (folded, principal, original, fleet, label) VALUES (?1, ?2, ?3, ?4, ?5)";
    let row = (new.id.folded(), id, &new.original, &new.fleet, &new.label);
    txn.conn.prepare_cached(sql)?.execute(row)?;
    txn.count("devices", 1)?;
    let event = Event::DeviceAdded {
        device: new.id.to_string(),
        project: new.project.to_string(),
        fleet: new.fleet.clone(),
        actor: actor.to_owned(),
    };
    txn.event(&event, now)?;
    let sql = "SELECT EXISTS (SELECT 1 FROM denied WHERE folded = ?1)";
    let denied = txn.conn.prepare_cached(sql)?.query_row([new.id.folded()], |row| row.get(0))?;
    Ok(DeviceRow {
        id: new.id.clone(),
        original: new.original.clone(),
        project: new.project.clone(),
        fleet: new.fleet.clone(),
        label: new.label.clone(),
        standing: Standing::Active,
        denied,
        added_at: now.wall,
        added_by: actor.to_owned(),
        certificates: Vec::new(),
        tokens: Vec::new(),
    })
}

pub(crate) fn one(conn: &Connection, id: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
    match principals::known(conn, id)? {
        Some(known) if known.principal.kind == PrincipalKind::Device => whole(conn, known).map(Some),
        _ => Ok(None),
    }
}

pub(crate) fn page(
    conn: &Connection,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<DeviceRow>, StoreError> {
    let sql = "SELECT principal FROM device WHERE folded > ?1 ORDER BY folded LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((after.map(DeviceId::folded).unwrap_or_default(), codec::limit(limit)))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(whole(conn, principals::known_by_id(conn, row.get(0)?)?)?);
    }
    Ok(page)
}

pub(crate) fn count(conn: &Connection) -> Result<u64, StoreError> {
    meta::counter(conn, "devices")
}

/// The device's own columns, its certificates and its tokens.
fn whole(conn: &Connection, known: Known) -> Result<DeviceRow, StoreError> {
    type Own = (Option<String>, Option<String>, Option<String>);
    let sql = "SELECT original, fleet, label FROM device WHERE folded = ?1";
    let own: Option<Own> = conn
        .prepare_cached(sql)?
        .query_row([known.folded()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (original, fleet, label) =
        own.ok_or_else(|| codec::corrupt("the device row of", known.principal.name.as_str()))?;
    Ok(DeviceRow {
        certificates: certificates::of_principal(conn, known.id)?,
        tokens: tokens::of_principal(conn, &known)?,
        id: known.principal.name,
        original,
        project: known.project,
        fleet,
        label,
        standing: known.standing,
        denied: known.denied,
        added_at: known.added_at,
        added_by: known.added_by,
    })
}
