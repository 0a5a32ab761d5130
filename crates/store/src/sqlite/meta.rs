use audit::Event;
use rusqlite::{Connection, OptionalExtension};
use types::{Epoch, Now, Wall};

use super::codec::token;
use super::writer::Txn;
use crate::StoreError;
use crate::rows::Stats;

pub(super) fn epoch(conn: &Connection) -> Result<Epoch, StoreError> {
    let sql = "SELECT incarnation, epoch FROM meta";
    let read = |row: &rusqlite::Row<'_>| Ok(Epoch { incarnation: row.get(0)?, counter: row.get(1)? });
    Ok(conn.prepare_cached(sql)?.query_row([], read)?)
}

pub(super) fn raise_epoch(conn: &Connection) -> Result<Epoch, StoreError> {
    let sql = "UPDATE meta SET epoch = epoch + 1 RETURNING incarnation, epoch";
    let read = |row: &rusqlite::Row<'_>| Ok(Epoch { incarnation: row.get(0)?, counter: row.get(1)? });
    Ok(conn.prepare_cached(sql)?.query_row([], read)?)
}

pub(super) fn time_floor(conn: &Connection) -> Result<Wall, StoreError> {
    Ok(Wall(conn.query_row("SELECT time_floor FROM meta", [], |row| row.get(0))?))
}

pub(crate) fn note_time(txn: &mut Txn<'_>, wall: Wall) -> Result<(), StoreError> {
    let sql = "UPDATE meta SET time_floor = max(time_floor, ?1) RETURNING time_floor";
    let floor = txn.conn.prepare_cached(sql)?.query_row([wall.0], |row| row.get(0))?;
    txn.effects.floor_noted = Some(Wall(floor));
    Ok(())
}

pub(crate) fn accept_clock(txn: &mut Txn<'_>, actor: &str, now: Now) -> Result<(), StoreError> {
    let before = time_floor(txn.conn)?;
    txn.conn.execute("UPDATE meta SET time_floor = ?1", [now.wall.0])?;
    txn.effects.floor_accepted = Some(now.wall);
    let detail = format!("{actor} accepted the clock at {}; the floor was {before}", now.wall);
    txn.event(&Event::Alert { code: "clock.accepted".to_owned(), detail }, now)
}

pub(crate) fn lease(
    txn: &mut Txn<'_>,
    name: &str,
    holder: &str,
    until: Wall,
    now: Now,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO lease (name, holder, until) VALUES (?1, ?2, ?3)
               ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
               WHERE lease.holder = excluded.holder OR lease.until <= ?4";
    let changed = txn.conn.prepare_cached(sql)?.execute((name, holder, until.0, now.wall.0))?;
    Ok(changed == 1)
}

pub(super) fn counter(conn: &Connection, name: &str) -> Result<u64, StoreError> {
    let sql = "SELECT value FROM counter WHERE name = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0))
}

pub(crate) fn stats(conn: &Connection) -> Result<Stats, StoreError> {
    Ok(Stats {
        devices: counter(conn, "devices")?,
        principals: counter(conn, "principals")?,
        certificates: counter(conn, "certificates")?,
        revoked: counter(conn, "revoked")?,
        tokens: counter(conn, "tokens")?,
        events: counter(conn, "events")?,
        epoch: epoch(conn)?,
        epoch_file_error: None,
        write_error: None,
    })
}

/// Raises the incarnation, lifts the CRL numbers above all that may have been published since the
/// backup, and kills the unused tokens, whose use since then is forgotten.
pub(super) fn recover(txn: &mut Txn<'_>, epoch: Epoch, actor: &str, now: Now) -> Result<u64, StoreError> {
    txn.conn.execute("UPDATE meta SET incarnation = ?1, epoch = ?2", (epoch.incarnation, epoch.counter))?;
    // Each incarnation has a range of its own, 2^32 numbers wide.
    let base = i64::from(epoch.incarnation) << 32;
    txn.conn.execute(
        "INSERT INTO crl_number (issuer, last) SELECT id, ?1 FROM ca WHERE true
         ON CONFLICT (issuer) DO UPDATE SET last = max(last, excluded.last)",
        [base],
    )?;
    let killed =
        txn.conn.execute("UPDATE token SET state = ?1 WHERE state = ?2", (token::REVOKED, token::UNUSED))?;
    let detail =
        format!("{actor} accepted a restored database as epoch {epoch}; {killed} unused tokens killed");
    txn.event(&Event::Alert { code: "store.recovered".to_owned(), detail }, now)?;
    Ok(u64::try_from(killed).unwrap_or(u64::MAX))
}
