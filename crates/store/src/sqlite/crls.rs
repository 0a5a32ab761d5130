use rusqlite::{Connection, OptionalExtension};
use types::{Epoch, IssuerId, Now, Serial, Wall};
use x509::{CrlEntry, CrlReason};

use super::codec;
use super::writer::Txn;
use super::{cas, meta};
use crate::StoreError;
use crate::rows::CrlRow;

pub(crate) fn revoked_rows(
    conn: &Connection,
    issuer: IssuerId,
    now: Now,
) -> Result<Vec<CrlEntry>, StoreError> {
    // An entry stays until one CRL was made after the certificate's end (RFC 5280 section 3.3).
    let sql = "SELECT this_update FROM crl WHERE issuer = ?1";
    let last: Option<i64> = conn.prepare_cached(sql)?.query_row([issuer.0], |row| row.get(0)).optional()?;
    let ended_before = last.unwrap_or(now.wall.0);
    let mut entries = Vec::new();
    let sql = "SELECT serial, revoked_at, reason FROM certificate
               WHERE issuer = ?1 AND state >= 3 AND not_after >= ?2 ORDER BY serial";
    read(conn, sql, issuer, ended_before, &mut entries)?;
    // A denied name's certificates are on hold by its name, not by their rows.
    let sql = "SELECT c.serial, d.at, 6 FROM denied d JOIN principal p ON p.folded = d.folded
                 JOIN certificate c ON c.principal = p.id
               WHERE c.issuer = ?1 AND c.state < 3 AND c.not_after >= ?2";
    let sorted = entries.len();
    read(conn, sql, issuer, ended_before, &mut entries)?;
    if entries.len() > sorted {
        entries.sort_by(|a, b| a.serial.as_bytes().cmp(b.serial.as_bytes()));
    }
    Ok(entries)
}

fn read(
    conn: &Connection,
    sql: &str,
    issuer: IssuerId,
    ended_before: i64,
    entries: &mut Vec<CrlEntry>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((issuer.0, ended_before))?;
    while let Some(row) = rows.next()? {
        let content: Vec<u8> = row.get(0)?;
        let serial = Serial::from_der_integer(&content)
            .ok_or_else(|| codec::corrupt("serial", types::hex(&content)))?;
        let reason = row.get::<_, Option<i64>>(2)?.map_or(Ok(CrlReason::Unspecified), codec::reason)?;
        entries.push(CrlEntry { serial, revoked_at: codec::wall(row, 1)?, reason });
    }
    Ok(())
}

fn known(conn: &Connection, issuer: IssuerId) -> Result<(), StoreError> {
    match cas::one(conn, issuer)? {
        Some(_) => Ok(()),
        None => Err(StoreError::UnknownIssuer { shown: issuer.to_string() }),
    }
}

pub(crate) fn next_number(txn: &mut Txn<'_>, issuer: IssuerId) -> Result<u64, StoreError> {
    known(txn.conn, issuer)?;
    // Each incarnation has a range of its own, so that a restored backup repeats no number.
    let base = i64::from(meta::epoch(txn.conn)?.incarnation) << 32;
    let sql = "INSERT INTO crl_number (issuer, last) VALUES (?1, ?2 + 1)
               ON CONFLICT (issuer) DO UPDATE SET last = last + 1 RETURNING last";
    Ok(txn.conn.prepare_cached(sql)?.query_row((issuer.0, base), |row| row.get(0))?)
}

pub(crate) fn put(txn: &mut Txn<'_>, row: &CrlRow) -> Result<(), StoreError> {
    known(txn.conn, row.issuer)?;
    if let Some(last) = newest(txn.conn, row.issuer)?.map(|last| last.number)
        && row.number <= last
    {
        return Err(StoreError::CrlNumber { number: row.number, last });
    }
    let sql = "INSERT OR REPLACE INTO crl (issuer, number, this_update, next_update, incarnation, epoch, der)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    txn.conn.prepare_cached(sql)?.execute((
        row.issuer.0,
        row.number,
        row.this_update.0,
        row.next_update.0,
        row.epoch.incarnation,
        row.epoch.counter,
        &row.der,
    ))?;
    Ok(())
}

pub(crate) fn newest(conn: &Connection, issuer: IssuerId) -> Result<Option<CrlRow>, StoreError> {
    let sql = "SELECT number, this_update, next_update, incarnation, epoch, der FROM crl WHERE issuer = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(CrlRow {
            issuer,
            number: row.get(0)?,
            this_update: Wall(row.get(1)?),
            next_update: Wall(row.get(2)?),
            epoch: Epoch { incarnation: row.get(3)?, counter: row.get(4)? },
            der: row.get(5)?,
        })
    };
    Ok(conn.prepare_cached(sql)?.query_row([issuer.0], read).optional()?)
}
