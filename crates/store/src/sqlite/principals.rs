use audit::Event;
use rusqlite::{Connection, OptionalExtension, Row};
use types::{DeviceId, Epoch, Now, Principal, PrincipalKind, ProjectId, SpkiHash, Wall};

use super::certificates;
use super::codec::{self, standing};
use super::writer::Txn;
use crate::StoreError;
use crate::rows::{PrincipalRow, Standing};

/// The owner of a CA's key; no name begins with `#`.
pub(super) const CA_KEY: &str = "#ca";
/// The owner of a server's key.
pub(super) const SERVER_KEY: &str = "#server";

/// A principal's row, as the transactions need it.
pub(super) struct Known {
    pub(super) id: i64,
    pub(super) principal: Principal,
    pub(super) project: ProjectId,
    pub(super) standing: Standing,
    pub(super) denied: bool,
    pub(super) added_at: Wall,
    pub(super) added_by: String,
}

impl Known {
    /// Whether it may have tokens and certificates.
    pub(super) fn is_usable(&self) -> bool {
        self.standing == Standing::Active && !self.denied
    }

    pub(super) fn folded(&self) -> String {
        self.principal.name.folded()
    }

    pub(super) fn refused(&self) -> StoreError {
        StoreError::DeviceDenied { id: self.principal.name.to_string() }
    }
}

const COLUMNS: &str = "p.id, p.name, p.kind, p.project, p.standing, p.revoked_incarnation, p.revoked_epoch, \
                       p.added_at, p.added_by, EXISTS (SELECT 1 FROM denied d WHERE d.folded = p.folded)";

fn read(row: &Row<'_>) -> Result<Known, StoreError> {
    let name: String = row.get(1)?;
    let project: String = row.get(3)?;
    Ok(Known {
        id: row.get(0)?,
        principal: Principal { kind: codec::kind(row.get(2)?)?, name: codec::device_id(&name)? },
        project: codec::project(&project)?,
        standing: codec::standing_of(row.get(4)?, row.get(5)?, row.get(6)?)?,
        added_at: codec::wall(row, 7)?,
        added_by: row.get(8)?,
        denied: row.get(9)?,
    })
}

pub(super) fn known(conn: &Connection, name: &DeviceId) -> Result<Option<Known>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM principal p WHERE p.folded = ?1");
    conn.prepare_cached(&sql)?.query_row([name.folded()], |row| Ok(read(row))).optional()?.transpose()
}

pub(super) fn known_by_id(conn: &Connection, id: i64) -> Result<Known, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM principal p WHERE p.id = ?1");
    conn.prepare_cached(&sql)?.query_row([id], |row| Ok(read(row)))?
}

/// The principal of that name, if it is of that kind.
pub(super) fn of_kind(conn: &Connection, kind: PrincipalKind, name: &DeviceId) -> Result<Known, StoreError> {
    match known(conn, name)? {
        Some(known) if known.principal.kind == kind => Ok(known),
        _ if kind == PrincipalKind::Device => Err(StoreError::UnknownDevice { id: name.to_string() }),
        _ => Err(StoreError::UnknownPrincipal { kind, name: name.to_string() }),
    }
}

/// Takes a name for good.
pub(super) fn claim_name(
    txn: &mut Txn<'_>,
    kind: PrincipalKind,
    name: &DeviceId,
    project: &ProjectId,
    actor: &str,
    now: Now,
) -> Result<i64, StoreError> {
    if let Some(bearer) = self::kind(txn.conn, name)? {
        return Err(StoreError::NameTaken { name: name.to_string(), kind: bearer });
    }
    let sql = "INSERT INTO principal (folded, name, kind, project, standing, added_at, added_by)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = (
        name.folded(),
        name.as_str(),
        codec::kind_code(kind),
        project.as_str(),
        standing::ACTIVE,
        now.wall.0,
        actor,
    );
    txn.conn.prepare_cached(sql)?.execute(row)?;
    Ok(txn.conn.last_insert_rowid())
}

pub(crate) fn add(
    txn: &mut Txn<'_>,
    kind: PrincipalKind,
    name: &DeviceId,
    project: &ProjectId,
    actor: &str,
    now: Now,
) -> Result<(), StoreError> {
    let (bare, by) = (name.to_string(), actor.to_owned());
    let event = match kind {
        PrincipalKind::Service => Event::ServiceAdded { name: bare, actor: by },
        PrincipalKind::Operator => Event::OperatorAdded { name: bare, actor: by },
        // A device has a row of its own, which `device_add` writes.
        PrincipalKind::Device => return Err(StoreError::UnknownPrincipal { kind, name: bare }),
    };
    claim_name(txn, kind, name, project, actor, now)?;
    txn.count("principals", 1)?;
    txn.event(&event, now)
}

pub(crate) fn kind(conn: &Connection, name: &DeviceId) -> Result<Option<PrincipalKind>, StoreError> {
    let sql = "SELECT kind FROM principal WHERE folded = ?1";
    let code = conn.prepare_cached(sql)?.query_row([name.folded()], |row| row.get(0)).optional()?;
    code.map(codec::kind).transpose()
}

pub(crate) fn one(conn: &Connection, name: &DeviceId) -> Result<Option<PrincipalRow>, StoreError> {
    known(conn, name)?.map(|known| with_certificates(conn, known)).transpose()
}

pub(crate) fn page(
    conn: &Connection,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<PrincipalRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM principal p WHERE p.folded > ?1 AND p.kind <> 0 ORDER BY p.folded LIMIT ?2"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query((after.map(DeviceId::folded).unwrap_or_default(), codec::limit(limit)))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(with_certificates(conn, read(row)?)?);
    }
    Ok(page)
}

fn with_certificates(conn: &Connection, known: Known) -> Result<PrincipalRow, StoreError> {
    let certificates = certificates::of_principal(conn, known.id)?;
    Ok(PrincipalRow {
        principal: known.principal,
        project: known.project,
        standing: known.standing,
        added_at: known.added_at,
        added_by: known.added_by,
        certificates,
    })
}

pub(super) fn set_standing(
    txn: &mut Txn<'_>,
    id: i64,
    code: i64,
    epoch: Option<Epoch>,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE principal SET standing = ?2, revoked_incarnation = ?3, revoked_epoch = ?4 WHERE id = ?1";
    let row = (id, code, epoch.map(|e| e.incarnation), epoch.map(|e| e.counter));
    txn.conn.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn owner_of(conn: &Connection, spki: SpkiHash) -> Result<Option<String>, StoreError> {
    let sql = "SELECT owner FROM key_owner WHERE spki = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([spki.0], |row| row.get(0)).optional()?)
}

pub(crate) fn key_owner(conn: &Connection, spki: SpkiHash) -> Result<Option<DeviceId>, StoreError> {
    match owner_of(conn, spki)? {
        Some(owner) if !owner.starts_with('#') => {
            let sql = "SELECT name FROM principal WHERE folded = ?1";
            let name: String = conn.prepare_cached(sql)?.query_row([&owner], |row| row.get(0))?;
            codec::device_id(&name).map(Some)
        }
        _ => Ok(None),
    }
}

/// Makes a key somebody's for good; fails when it is somebody else's.
pub(super) fn claim_key(txn: &mut Txn<'_>, spki: SpkiHash, owner: &str) -> Result<(), StoreError> {
    match owner_of(txn.conn, spki)? {
        Some(found) if found == owner => Ok(()),
        Some(_) => Err(StoreError::KeyShared),
        None => {
            let sql = "INSERT INTO key_owner (spki, owner) VALUES (?1, ?2)";
            txn.conn.prepare_cached(sql)?.execute((spki.0, owner))?;
            Ok(())
        }
    }
}
