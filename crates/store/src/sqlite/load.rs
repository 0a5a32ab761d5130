use rusqlite::Connection;
use trust::{Anchor, Change, DeniedSet, Revocation, RevokedSet, View};
use types::Wall;

use super::codec::{self, state};
use super::{cas, meta};
use crate::StoreError;

/// The view as the tables have it; rows are streamed into the sets.
pub(super) fn view(conn: &Connection) -> Result<View, StoreError> {
    let epoch = meta::epoch(conn)?;
    let view = View::new(epoch, anchors(conn)?, revoked(conn)?, denied(conn)?)
        .map_err(|error| StoreError::Corrupt { detail: error.to_string() })?;
    let retire = superseded(conn)?;
    Ok(if retire.is_empty() { view } else { view.with(Change { epoch, retire, ..Change::default() }) })
}

/// Every CA from which clients or servers come; a root signs neither.
pub(super) fn anchors(conn: &Connection) -> Result<Vec<Anchor>, StoreError> {
    let mut statement = conn.prepare("SELECT label, admission, identity FROM ca ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut anchors = Vec::new();
    for ca in cas::list(conn)? {
        let Some(row) = rows.next()? else { break };
        let (admission, identity): (String, String) = (row.get(1)?, row.get(2)?);
        if ca.kinds.is_empty() && !ca.servers {
            continue;
        }
        let certificate = cas::parse(&ca.label, &ca.certificate_der)?;
        anchors.push(Anchor {
            id: ca.id,
            label: ca.label,
            certificate,
            kinds: ca.kinds,
            admission: codec::admission(&admission)?,
            identity: codec::identity(&identity)?,
        });
    }
    Ok(anchors)
}

fn revoked(conn: &Connection) -> Result<RevokedSet, StoreError> {
    let sql = "SELECT issuer, serial, state FROM certificate WHERE state >= 3";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut failed = None;
    let set = RevokedSet::from_entries(std::iter::from_fn(|| {
        let entry = rows.next().map_err(StoreError::from).and_then(|row| {
            let Some(row) = row else { return Ok(None) };
            let how = match row.get(2)? {
                state::SUSPENDED => Revocation::Suspended,
                _ => Revocation::Revoked,
            };
            Ok(Some((codec::cert_ref(row, 0, 1)?, how)))
        });
        entry.unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    }));
    failed.map_or(Ok(set), Err)
}

fn denied(conn: &Connection) -> Result<DeniedSet, StoreError> {
    let mut statement = conn.prepare("SELECT name FROM denied")?;
    let names = statement
        .query_map([], |row| row.get::<_, String>(0))?
        .map(|name| codec::device_id(&name?))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(DeniedSet::from_ids(&names))
}

fn superseded(conn: &Connection) -> Result<Vec<(types::CertRef, Wall)>, StoreError> {
    let sql = "SELECT issuer, serial, usable_until FROM certificate WHERE state = 2";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut retired = Vec::new();
    while let Some(row) = rows.next()? {
        retired.push((codec::cert_ref(row, 0, 1)?, codec::wall(row, 2)?));
    }
    Ok(retired)
}
