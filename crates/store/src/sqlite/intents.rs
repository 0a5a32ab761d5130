use audit::Event;
use rusqlite::{Connection, OptionalExtension, Row};
use types::{CertRef, Now, SpkiHash, Wall};

use super::certificates;
use super::codec::{self, intent};
use super::principals::{self, SERVER_KEY};
use super::tokens;
use super::writer::Txn;
use crate::StoreError;
use crate::rows::{NewIntent, Receipt, RecordedIntent};

/// An intent's row, as recording the certificate needs it.
pub(super) struct Recorded {
    pub(super) id: i64,
    pub(super) cert: CertRef,
    pub(super) spki: SpkiHash,
    pub(super) tbs_hash: [u8; 32],
    pub(super) principal: Option<i64>,
    pub(super) token: Option<i64>,
    pub(super) not_before: Wall,
    pub(super) not_after: Wall,
    pub(super) issuer_label: String,
    pub(super) evidence: String,
    pub(super) state: i64,
    project: String,
    tbs: Vec<u8>,
}

const COLUMNS: &str = "id, issuer, serial, spki, tbs_hash, principal, token, not_before, not_after, \
                       issuer_label, evidence, state, project, tbs";

fn read(row: &Row<'_>) -> Result<Recorded, StoreError> {
    Ok(Recorded {
        id: row.get(0)?,
        cert: codec::cert_ref(row, 1, 2)?,
        spki: codec::spki(row, 3)?,
        tbs_hash: row.get(4)?,
        principal: row.get(5)?,
        token: row.get(6)?,
        not_before: codec::wall(row, 7)?,
        not_after: codec::wall(row, 8)?,
        issuer_label: row.get(9)?,
        evidence: row.get(10)?,
        state: row.get(11)?,
        project: row.get(12)?,
        tbs: row.get(13)?,
    })
}

impl Recorded {
    fn public(self, conn: &Connection) -> Result<RecordedIntent, StoreError> {
        let principal = self.principal.map(|id| principals::known_by_id(conn, id)).transpose()?;
        let token = self.token.map(|number| tokens::by_number(conn, number)).transpose()?;
        Ok(RecordedIntent {
            receipt: Receipt { intent: self.id, cert: self.cert, tbs_hash: self.tbs_hash },
            token_id: token.map(|held| held.id),
            tbs: self.tbs,
            spki: self.spki,
            principal: principal.map(|known| known.principal),
            project: codec::project(&self.project)?,
            not_before: self.not_before,
            not_after: self.not_after,
            issuer_label: self.issuer_label,
            evidence: self.evidence,
        })
    }
}

/// The intent of a bound token, and its certificate if it has one.
pub(super) fn of_token(
    conn: &Connection,
    token: i64,
) -> Result<(RecordedIntent, Option<Vec<u8>>), StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM intent WHERE token = ?1");
    let recorded = conn.prepare_cached(&sql)?.query_row([token], |row| Ok(read(row)))??;
    let der = certificates::der(conn, recorded.cert)?;
    Ok((recorded.public(conn)?, der))
}

pub(crate) fn unfinished(conn: &Connection) -> Result<Vec<RecordedIntent>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM intent WHERE state = 0 ORDER BY id");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut unfinished = Vec::new();
    while let Some(row) = rows.next()? {
        unfinished.push(read(row)?.public(conn)?);
    }
    Ok(unfinished)
}

/// Flow A, "record the intent in one transaction": the token is bound to this key, the serial is taken.
pub(crate) fn record(txn: &mut Txn<'_>, new: &NewIntent, now: Now) -> Result<Receipt, StoreError> {
    // 1. The bytes are those that the hash names; the receipt vouches for the hash.
    if x509::sha256(&new.tbs) != new.tbs_hash {
        let detail = "the hash is not that of the bytes to be signed";
        return Err(StoreError::WrongCertificate { cert: new.cert, detail });
    }
    // 2. The principal is registered, of this kind, and may have certificates.
    let principal = match &new.principal {
        Some(wanted) => match principals::known(txn.conn, &wanted.name)? {
            Some(known) if known.principal.kind != wanted.kind => {
                let (name, kind) = (wanted.name.to_string(), known.principal.kind);
                return Err(StoreError::NameTaken { name, kind });
            }
            Some(known) if !known.is_usable() => return Err(known.refused()),
            Some(known) => Some(known),
            None => {
                let (kind, name) = (wanted.kind, wanted.name.to_string());
                return Err(StoreError::UnknownPrincipal { kind, name });
            }
        },
        None => None,
    };
    // 3. The token is free and for this device; from here on it is this key's.
    let token = match (&new.token_id, &principal) {
        (Some(id), Some(known)) => Some(tokens::bind(txn, id, new.spki, known, now)?),
        (Some(id), None) => return Err(StoreError::TokenLost { id: id.clone() }),
        (None, _) => None,
    };
    // 4. The key is nobody else's.
    let owner = principal.as_ref().map_or_else(|| SERVER_KEY.to_owned(), principals::Known::folded);
    principals::claim_key(txn, new.spki, &owner)?;
    // 5. The serial is free under this issuer.
    if serial_taken(txn.conn, new.cert)? {
        return Err(StoreError::SerialTaken { cert: new.cert });
    }
    // 6. All of it stands, or none: this is one transaction.
    let project = principal.as_ref().map_or(&new.project, |known| &known.project);
    let sql = "INSERT INTO intent (issuer, serial, spki, tbs_hash, principal, token, project, not_before,
                 not_after, issuer_label, evidence, state, recorded_at, tbs)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    txn.conn.prepare_cached(sql)?.execute((
        new.cert.issuer.0,
        new.cert.serial.as_bytes(),
        new.spki.0,
        new.tbs_hash,
        principal.as_ref().map(|known| known.id),
        token,
        project.as_str(),
        new.not_before.0,
        new.not_after.0,
        &new.issuer_label,
        &new.evidence,
        intent::OPEN,
        now.wall.0,
        &new.tbs,
    ))?;
    let id = txn.conn.last_insert_rowid();
    if let (Some(token_id), Some(known)) = (&new.token_id, &principal) {
        let event = Event::TokenBound {
            token_id: token_id.clone(),
            device: known.principal.name.to_string(),
            spki: new.spki.to_string(),
            serial: new.cert.serial.to_string(),
        };
        txn.event(&event, now)?;
    }
    Ok(Receipt { intent: id, cert: new.cert, tbs_hash: new.tbs_hash })
}

fn serial_taken(conn: &Connection, cert: CertRef) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM intent WHERE issuer = ?1 AND serial = ?2)
                   OR EXISTS (SELECT 1 FROM certificate WHERE issuer = ?1 AND serial = ?2)";
    let row = (cert.issuer.0, cert.serial.as_bytes());
    Ok(conn.prepare_cached(sql)?.query_row(row, |row| row.get(0))?)
}

/// The intent has its certificate; the bytes to be signed are in there.
pub(super) fn finish(txn: &mut Txn<'_>, id: i64) -> Result<(), StoreError> {
    let sql = "UPDATE intent SET state = ?2, tbs = x'' WHERE id = ?1 AND state = ?3";
    txn.conn.prepare_cached(sql)?.execute((id, intent::FINISHED, intent::OPEN))?;
    Ok(())
}

pub(super) fn end_of_token(txn: &mut Txn<'_>, token: i64) -> Result<(), StoreError> {
    let sql = "UPDATE intent SET state = ?2 WHERE token = ?1 AND state = ?3";
    txn.conn.prepare_cached(sql)?.execute((token, intent::DEAD, intent::OPEN))?;
    Ok(())
}

pub(super) fn end_of_principal(txn: &mut Txn<'_>, principal: i64) -> Result<(), StoreError> {
    let sql = "UPDATE intent SET state = 2 WHERE state = 0 AND principal = ?1";
    txn.conn.prepare_cached(sql)?.execute([principal])?;
    Ok(())
}

pub(crate) fn abandon(txn: &mut Txn<'_>, receipt: &Receipt, now: Now) -> Result<(), StoreError> {
    let recorded = of_receipt(txn.conn, receipt)?;
    if recorded.state == intent::FINISHED {
        return Err(StoreError::AlreadyRecorded { cert: recorded.cert });
    }
    let sql = "UPDATE intent SET state = ?2 WHERE id = ?1";
    txn.conn.prepare_cached(sql)?.execute((recorded.id, intent::DEAD))?;
    if let (Some(token), Some(principal)) = (recorded.token, recorded.principal) {
        let known = principals::known_by_id(txn.conn, principal)?;
        tokens::kill(txn, token, &known.principal.name, "recovery", now)?;
    }
    Ok(())
}

/// The intent with this receipt, if the receipt is one of this database.
pub(super) fn of_receipt(conn: &Connection, receipt: &Receipt) -> Result<Recorded, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM intent WHERE id = ?1");
    let found = conn.prepare_cached(&sql)?.query_row([receipt.intent], |row| Ok(read(row))).optional()?;
    match found.transpose()? {
        Some(recorded) if recorded.cert == receipt.cert && recorded.tbs_hash == receipt.tbs_hash => {
            Ok(recorded)
        }
        _ => {
            let detail = "its intent is not in this database";
            Err(StoreError::WrongCertificate { cert: receipt.cert, detail })
        }
    }
}
