use rusqlite::{Connection, OptionalExtension};
use types::Now;

use super::codec;
use super::writer::Txn;
use crate::StoreError;
use crate::rows::{Order, OrderId};

/// `certificate_order.state`: 0 open, 1 carried out, 2 refused.
const CARRIED_OUT: i64 = 1;
const REFUSED: i64 = 2;

pub(crate) fn submit(txn: &mut Txn<'_>, order: &Order, now: Now) -> Result<OrderId, StoreError> {
    let sql = "INSERT INTO certificate_order (kind, name, csr, actor, submitted_at, state)
               VALUES (?1, ?2, ?3, ?4, ?5, 0) RETURNING id";
    let row = (codec::order_kind_code(order.kind), &order.name, &order.csr_der, &order.actor, now.wall.0);
    let id = txn.conn.prepare_cached(sql)?.query_row(row, |row| row.get(0))?;
    txn.effects.order_submitted = true;
    Ok(OrderId(id))
}

pub(crate) fn open(conn: &Connection) -> Result<Vec<(OrderId, Order)>, StoreError> {
    let sql = "SELECT id, kind, name, csr, actor FROM certificate_order WHERE state = 0 ORDER BY id";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let order = Order {
            kind: codec::order_kind(row.get(1)?)?,
            name: row.get(2)?,
            csr_der: row.get(3)?,
            actor: row.get(4)?,
        };
        open.push((OrderId(row.get(0)?), order));
    }
    Ok(open)
}

pub(crate) fn finish(
    txn: &mut Txn<'_>,
    id: OrderId,
    outcome: &Result<Vec<u8>, String>,
) -> Result<(), StoreError> {
    let (state, der, refusal) = match outcome {
        Ok(der) => (CARRIED_OUT, Some(der), None),
        Err(refusal) => (REFUSED, None, Some(refusal)),
    };
    let sql =
        "UPDATE certificate_order SET state = ?2, certificate = ?3, refusal = ?4 WHERE id = ?1 AND state = 0";
    if txn.conn.prepare_cached(sql)?.execute((id.0, state, der, refusal))? == 0 {
        return Err(StoreError::UnknownOrder { id: id.0 });
    }
    txn.effects.order_finished = true;
    Ok(())
}

/// What became of an order; `None` while it is open.
pub(crate) fn outcome(conn: &Connection, id: OrderId) -> Result<Option<Result<Vec<u8>, String>>, StoreError> {
    type Columns = (i64, Option<Vec<u8>>, Option<String>);
    let sql = "SELECT state, certificate, refusal FROM certificate_order WHERE id = ?1";
    let columns: Option<Columns> = conn
        .prepare_cached(sql)?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match columns {
        None => Err(StoreError::UnknownOrder { id: id.0 }),
        Some((0, ..)) => Ok(None),
        Some((CARRIED_OUT, Some(der), _)) => Ok(Some(Ok(der))),
        Some((REFUSED, _, Some(refusal))) => Ok(Some(Err(refusal))),
        Some((code, ..)) => Err(codec::corrupt("order state", code)),
    }
}
