use audit::{Chained, Checkpoint};
use rusqlite::{Connection, OptionalExtension, Row};
use types::Wall;

use super::codec;
use super::writer::Txn;
use crate::StoreError;
use crate::rows::ChainHead;

pub(crate) fn unchained(conn: &Connection, limit: usize) -> Result<Vec<(u64, Wall, String)>, StoreError> {
    let sql = "SELECT id, at, body FROM event ORDER BY id LIMIT ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement
        .query_map([codec::limit(limit)], |row| Ok((row.get(0)?, Wall(row.get(1)?), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn chain(
    txn: &mut Txn<'_>,
    lines: &[Chained],
    checkpoint: Option<&Checkpoint>,
) -> Result<(), StoreError> {
    let mut head = head(txn.conn)?;
    for (line, (id, at, body)) in lines.iter().zip(unchained_exactly(txn.conn, lines)?) {
        let broken = |detail| StoreError::ChainBroken { seq: line.seq, detail };
        if line.seq != head.seq + 1 || line.prev != head.hash {
            return Err(broken("it does not follow the last line"));
        }
        if line.at != at || line.body != body {
            return Err(broken("it is not the oldest unchained event"));
        }
        if audit::chain(line.prev, line.seq, line.at, &line.body).hash != line.hash {
            return Err(broken("its hash is not that of its content"));
        }
        let sql = "INSERT INTO event_log (seq, at, prev, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = (line.seq, line.at.0, line.prev, line.hash, &line.body);
        txn.conn.prepare_cached(sql)?.execute(row)?;
        txn.conn.prepare_cached("DELETE FROM event WHERE id = ?1")?.execute([id])?;
        head = ChainHead { seq: line.seq, hash: line.hash };
    }
    if let Some(checkpoint) = checkpoint {
        keep(txn.conn, checkpoint)?;
    }
    Ok(())
}

/// As many of the oldest unchained events as there are lines.
fn unchained_exactly(conn: &Connection, lines: &[Chained]) -> Result<Vec<(u64, Wall, String)>, StoreError> {
    let waiting = unchained(conn, lines.len())?;
    match lines.get(waiting.len()) {
        Some(line) => {
            let detail = "no unchained event is left for it";
            Err(StoreError::ChainBroken { seq: line.seq, detail })
        }
        None => Ok(waiting),
    }
}

fn keep(conn: &Connection, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let sql = "SELECT hash FROM event_log WHERE seq = ?1";
    let covered: Option<[u8; 32]> =
        conn.prepare_cached(sql)?.query_row([checkpoint.seq], |row| row.get(0)).optional()?;
    if covered != Some(checkpoint.hash) {
        let detail = "the checkpoint does not cover this line as it is";
        return Err(StoreError::ChainBroken { seq: checkpoint.seq, detail });
    }
    let sql = "INSERT OR REPLACE INTO checkpoint (seq, hash, at, signature) VALUES (?1, ?2, ?3, ?4)";
    let row = (checkpoint.seq, checkpoint.hash, checkpoint.at.0, &checkpoint.signature);
    conn.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

pub(crate) fn after(conn: &Connection, seq: u64, limit: usize) -> Result<Vec<Chained>, StoreError> {
    let sql = "SELECT seq, at, prev, hash, body FROM event_log WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(Chained {
            seq: row.get(0)?,
            at: Wall(row.get(1)?),
            prev: row.get(2)?,
            hash: row.get(3)?,
            body: row.get(4)?,
        })
    };
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((position(seq), codec::limit(limit)), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn checkpoints(conn: &Connection, seq: u64, limit: usize) -> Result<Vec<Checkpoint>, StoreError> {
    let sql = "SELECT seq, hash, at, signature FROM checkpoint WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(Checkpoint { seq: row.get(0)?, hash: row.get(1)?, at: Wall(row.get(2)?), signature: row.get(3)? })
    };
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((position(seq), codec::limit(limit)), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn head(conn: &Connection) -> Result<ChainHead, StoreError> {
    let sql = "SELECT seq, hash FROM event_log ORDER BY seq DESC LIMIT 1";
    let read = |row: &Row<'_>| Ok(ChainHead { seq: row.get(0)?, hash: row.get(1)? });
    Ok(conn.prepare_cached(sql)?.query_row([], read).optional()?.unwrap_or_default())
}

/// A line's number for SQL; there is none beyond what SQL can count.
fn position(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
