use audit::Event;
use rusqlite::{Connection, OptionalExtension, Row};
use trust::{Change, LedgerEntry, Revocation};
use types::{CertRef, DerHash, IssuerId, Now, PrincipalKind, Wall};
use x509::CrlReason;

use super::codec::{self, intent, state};
use super::intents::{self, Recorded};
use super::principals::{self, Known};
use super::writer::Txn;
use super::{meta, revoking, tokens};
use crate::StoreError;
use crate::rows::{CertRow, Confirmed, Receipt, Standing};

/// Into how many shards an issuer's CRL is cut; the last octet of the serial chooses.
const CRL_SHARDS: u8 = 1;

/// A row of the ledger, as the transactions need it.
pub(super) struct Held {
    pub(super) id: i64,
    pub(super) cert: CertRef,
    pub(super) state: i64,
    pub(super) held_state: Option<i64>,
    pub(super) principal: Option<i64>,
    pub(super) token: Option<i64>,
    pub(super) issuer_label: String,
}

impl Held {
    /// Whether no mutual-TLS connection has used it yet, be it on hold or not.
    pub(super) fn is_unconfirmed(&self) -> bool {
        let state = self.held_state.filter(|_| self.state == state::SUSPENDED).unwrap_or(self.state);
        state == state::UNCONFIRMED
    }
}

const HELD: &str = "id, issuer, serial, state, held_state, principal, token, issuer_label";

fn read_held(row: &Row<'_>) -> Result<Held, StoreError> {
    Ok(Held {
        id: row.get(0)?,
        cert: codec::cert_ref(row, 1, 2)?,
        state: row.get(3)?,
        held_state: row.get(4)?,
        principal: row.get(5)?,
        token: row.get(6)?,
        issuer_label: row.get(7)?,
    })
}

fn held_where(conn: &Connection, condition: &str, key: i64) -> Result<Vec<Held>, StoreError> {
    let sql = format!("SELECT {HELD} FROM certificate WHERE {condition} ORDER BY id");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([key])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_held(row)?);
    }
    Ok(found)
}

/// The certificates of a principal that are not revoked.
pub(super) fn standing_of(conn: &Connection, principal: i64) -> Result<Vec<Held>, StoreError> {
    held_where(conn, "principal = ?1 AND state < 4", principal)
}

/// The certificate that a token yielded, if it is not revoked.
pub(super) fn of_token(conn: &Connection, token: i64) -> Result<Vec<Held>, StoreError> {
    held_where(conn, "intent = (SELECT id FROM intent WHERE token = ?1) AND state < 4", token)
}

pub(super) fn held(conn: &Connection, cert: CertRef) -> Result<Option<Held>, StoreError> {
    let sql = format!("SELECT {HELD} FROM certificate WHERE issuer = ?1 AND serial = ?2");
    let key = (cert.issuer.0, cert.serial.as_bytes());
    conn.prepare_cached(&sql)?.query_row(key, |row| Ok(read_held(row))).optional()?.transpose()
}

/// Whether the principal has a certificate in use: confirmed, in date, and not replaced.
pub(super) fn has_live(conn: &Connection, principal: i64, now: Now) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM certificate WHERE principal = ?1 AND not_after > ?2
                 AND (state = 1 OR (state = 2 AND usable_until > ?2)))";
    Ok(conn.prepare_cached(sql)?.query_row((principal, now.wall.0), |row| row.get(0))?)
}

pub(super) fn of_principal(conn: &Connection, principal: i64) -> Result<Vec<CertRow>, StoreError> {
    let sql = "SELECT der_hash, issuer, serial, issuer_label, spki, state, usable_until, lineage, generation,
                 crl_shard, not_before, not_after, recorded_at, revoked_at, reason
               FROM certificate WHERE principal = ?1 ORDER BY id";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([principal])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(CertRow {
            der_hash: codec::der_hash(row, 0)?,
            cert: codec::cert_ref(row, 1, 2)?,
            issuer_label: row.get(3)?,
            spki: codec::spki(row, 4)?,
            state: codec::cert_state(row.get(5)?, row.get(6)?)?,
            lineage: row.get(7)?,
            generation: row.get(8)?,
            crl_shard: row.get(9)?,
            not_before: codec::wall(row, 10)?,
            not_after: codec::wall(row, 11)?,
            recorded_at: codec::wall(row, 12)?,
            revoked_at: row.get::<_, Option<i64>>(13)?.map(Wall),
            reason: row.get::<_, Option<i64>>(14)?.map(codec::reason).transpose()?,
        });
    }
    Ok(found)
}

pub(crate) fn der(conn: &Connection, cert: CertRef) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT der FROM certificate WHERE issuer = ?1 AND serial = ?2";
    let key = (cert.issuer.0, cert.serial.as_bytes());
    Ok(conn.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
}

/// Flow B, "known": one look-up by the hash, on the path of every connection.
pub(crate) fn admission(conn: &Connection, der_hash: DerHash) -> Result<Option<LedgerEntry>, StoreError> {
    let sql =
        "SELECT c.issuer, c.serial, c.anchor, c.state, c.usable_until, p.kind, p.name, p.project, d.fleet
               FROM certificate c JOIN principal p ON p.id = c.principal
                 LEFT JOIN device d ON d.folded = p.folded
               WHERE c.der_hash = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([der_hash.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let project: String = row.get(7)?;
    let Some(principal) = codec::principal(row, 5, 6)? else { return Ok(None) };
    Ok(Some(LedgerEntry {
        der_hash,
        cert: codec::cert_ref(row, 0, 1)?,
        principal,
        anchor: IssuerId(row.get(2)?),
        project: codec::project(&project)?,
        fleet: row.get(8)?,
        state: codec::cert_state(row.get(3)?, row.get(4)?)?,
    }))
}

/// Flow A, "record": the certificate enters the ledger. The inner error is an answer that goes
/// with a committed change: what was signed is in the ledger even when it may not be handed out.
pub(crate) fn record(
    txn: &mut Txn<'_>,
    receipt: &Receipt,
    der: &[u8],
    now: Now,
) -> Result<Result<(), StoreError>, StoreError> {
    let recorded = intents::of_receipt(txn.conn, receipt)?;
    if tbs_of(der).map(x509::sha256) != Some(recorded.tbs_hash) {
        let detail = "the bytes under its signature are not those of the intent";
        return Err(StoreError::WrongCertificate { cert: recorded.cert, detail });
    }
    let known = recorded.principal.map(|id| principals::known_by_id(txn.conn, id)).transpose()?;
    let der_hash = DerHash(x509::sha256(der));
    let verdict = verdict(txn.conn, &recorded, known.as_ref())?;
    let sql = "SELECT der_hash FROM certificate WHERE intent = ?1";
    let before: Option<[u8; 32]> =
        txn.conn.prepare_cached(sql)?.query_row([recorded.id], |row| row.get(0)).optional()?;
    match before {
        Some(hash) if hash == der_hash.0 => return Ok(verdict),
        Some(_) => return Err(StoreError::AlreadyRecorded { cert: recorded.cert }),
        None => {}
    }
    let is_device = known.as_ref().is_some_and(|known| known.principal.kind == PrincipalKind::Device);
    let usable = if is_device { state::UNCONFIRMED } else { state::ACTIVE };
    let suspended = known.as_ref().is_some_and(|known| known.standing == Standing::Suspended);
    // What lost its ground between intent and signature is revoked or on hold from its first moment.
    let entry = match (recorded.state, suspended) {
        (intent::DEAD, _) => Entry {
            state: state::REVOKED,
            held: None,
            reason: Some((CrlReason::CessationOfOperation, Revocation::Revoked)),
        },
        (_, true) => Entry {
            state: state::SUSPENDED,
            held: Some(usable),
            reason: Some((CrlReason::CertificateHold, Revocation::Suspended)),
        },
        _ => Entry { state: usable, held: None, reason: None },
    };
    insert(txn, &recorded, der_hash, der, &entry, now)?;
    intents::finish(txn, recorded.id)?;
    issued(txn, &recorded, known.as_ref(), der_hash, now)?;
    if let Some((reason, revocation)) = entry.reason {
        let revoke = vec![(recorded.cert, revocation)];
        let epoch = txn.raise_epoch(Change { revoke, ..Change::default() })?;
        if revocation == Revocation::Revoked {
            txn.count("revoked", 1)?;
            let name = known.as_ref().map(|known| &known.principal.name);
            let (cert, label) = (recorded.cert, &recorded.issuer_label);
            revoking::tell(txn, cert, label, name, reason, "store", epoch, now)?;
        }
    }
    Ok(verdict)
}

/// How a new row begins.
struct Entry {
    state: i64,
    held: Option<i64>,
    reason: Option<(CrlReason, Revocation)>,
}

/// Whether the certificate may be handed out.
fn verdict(
    conn: &Connection,
    recorded: &Recorded,
    known: Option<&Known>,
) -> Result<Result<(), StoreError>, StoreError> {
    let token = recorded.token.map(|number| tokens::by_number(conn, number)).transpose()?;
    let revoked = held(conn, recorded.cert)?.is_some_and(|held| held.state == state::REVOKED);
    Ok(match (known, token) {
        (Some(known), _) if !known.is_usable() => Err(known.refused()),
        (_, Some(token)) if revoked || recorded.state == intent::DEAD => {
            Err(StoreError::TokenLost { id: token.id })
        }
        _ if revoked || recorded.state == intent::DEAD => {
            Err(StoreError::CertificateUnusable { cert: recorded.cert })
        }
        _ => Ok(()),
    })
}

fn insert(
    txn: &mut Txn<'_>,
    recorded: &Recorded,
    der_hash: DerHash,
    der: &[u8],
    entry: &Entry,
    now: Now,
) -> Result<(), StoreError> {
    let serial = recorded.cert.serial;
    let shard = serial.as_bytes().last().and_then(|octet| octet.checked_rem(CRL_SHARDS)).unwrap_or(0);
    // A certificate that follows no other begins a line of its own, named after its intent.
    let sql = "INSERT INTO certificate (der_hash, issuer, serial, spki, anchor, principal, intent, token,
                 lineage, generation, state, held_state, crl_shard, not_before, not_after, recorded_at,
                 revoked_at, reason, issuer_label, der)
               VALUES (:der_hash, :issuer, :serial, :spki, :issuer, :principal, :intent, :token,
                 :intent, 1, :state, :held, :shard, :not_before, :not_after, :now,
                 :revoked_at, :reason, :label, :der)";
    let params = rusqlite::named_params! {
        ":der_hash": der_hash.0,
        ":issuer": recorded.cert.issuer.0,
        ":serial": serial.as_bytes(),
        ":spki": recorded.spki.0,
        ":principal": recorded.principal,
        ":intent": recorded.id,
        ":token": recorded.token,
        ":state": entry.state,
        ":held": entry.held,
        ":shard": shard,
        ":not_before": recorded.not_before.0,
        ":not_after": recorded.not_after.0,
        ":now": now.wall.0,
        ":revoked_at": entry.reason.map(|_| now.wall.0),
        ":reason": entry.reason.map(|(reason, _)| codec::reason_code(reason)),
        ":label": recorded.issuer_label,
        ":der": der,
    };
    txn.conn.prepare_cached(sql)?.execute(params)?;
    txn.count("certificates", 1)
}

fn issued(
    txn: &mut Txn<'_>,
    recorded: &Recorded,
    known: Option<&Known>,
    der_hash: DerHash,
    now: Now,
) -> Result<(), StoreError> {
    let (principal, kind) = match known {
        Some(known) => (known.principal.name.to_string(), known.principal.kind.as_str()),
        None => ("server".to_owned(), "server"),
    };
    let event = Event::CertificateIssued {
        principal,
        kind: kind.to_owned(),
        serial: recorded.cert.serial.to_string(),
        issuer: recorded.issuer_label.clone(),
        der_hash: der_hash.to_string(),
        not_after: recorded.not_after.to_string(),
        evidence: recorded.evidence.clone(),
    };
    txn.event(&event, now)
}

/// Flow B, "this connection confirms it": the certificate is active and its token spent.
pub(crate) fn confirm(txn: &mut Txn<'_>, der_hash: DerHash, now: Now) -> Result<Confirmed, StoreError> {
    let sql = format!("SELECT {HELD} FROM certificate WHERE der_hash = ?1 AND principal IS NOT NULL");
    let found =
        txn.conn.prepare_cached(&sql)?.query_row([der_hash.0], |row| Ok(read_held(row))).optional()?;
    let unknown = || StoreError::UnknownCertificate { shown: der_hash.to_string() };
    let confirmed = found.transpose()?.ok_or_else(unknown)?;
    let known = principals::known_by_id(txn.conn, confirmed.principal.ok_or_else(unknown)?)?;
    if !known.is_usable() {
        return Err(known.refused());
    }
    match confirmed.state {
        state::UNCONFIRMED => {}
        state::ACTIVE | state::SUPERSEDED => {
            return Ok(Confirmed { replaced: Vec::new(), epoch: meta::epoch(txn.conn)? });
        }
        _ => return Err(StoreError::CertificateUnusable { cert: confirmed.cert }),
    }
    let sql = "UPDATE certificate SET state = ?2 WHERE id = ?1";
    txn.conn.prepare_cached(sql)?.execute((confirmed.id, state::ACTIVE))?;
    let event = Event::CertificateConfirmed {
        principal: known.principal.name.to_string(),
        kind: known.principal.kind.as_str().to_owned(),
        serial: confirmed.cert.serial.to_string(),
        issuer: confirmed.issuer_label.clone(),
    };
    txn.event(&event, now)?;
    let mut victims = Vec::new();
    if let Some(number) = confirmed.token {
        let replaces = tokens::by_number(txn.conn, number)?.replaces;
        tokens::spend(txn, number)?;
        for other in standing_of(txn.conn, known.id)?.into_iter().filter(|row| row.id != confirmed.id) {
            if replaces || rivals(txn.conn, &other)? {
                victims.push(other);
            }
        }
        tokens::kill_others(txn, &known, Some(number), replaces, "confirmation", now)?;
    }
    let replaced: Vec<CertRef> = victims.iter().map(|row| row.cert).collect();
    let epoch = if victims.is_empty() {
        meta::epoch(txn.conn)?
    } else {
        revoking::end(txn, &victims, CrlReason::Superseded, "confirmation", now)?
    };
    Ok(Confirmed { replaced, epoch })
}

/// Whether a certificate came from another first token and was never used: of several such only
/// the first to connect lives, or a device would have two live keys.
fn rivals(conn: &Connection, other: &Held) -> Result<bool, StoreError> {
    match other.token {
        Some(number) if other.is_unconfirmed() => Ok(!tokens::by_number(conn, number)?.replaces),
        _ => Ok(false),
    }
}

/// The `tbsCertificate` of a certificate, with its header: the first element of the outer sequence
/// (RFC 5280 section 4.1), which must fill the bytes exactly.
fn tbs_of(der: &[u8]) -> Option<&[u8]> {
    let (header, content) = sequence(der)?;
    if header + content != der.len() {
        return None;
    }
    let inner = der.get(header..)?;
    let (header, content) = sequence(inner)?;
    inner.get(..header.checked_add(content)?)
}

/// The lengths of the header and of the content of the sequence at the start of `der`.
fn sequence(der: &[u8]) -> Option<(usize, usize)> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let counted = usize::from(first & 0x7f);
    match (tag, first) {
        (0x30, 0..=0x7f) => Some((2, counted)),
        (0x30, 0x81..=0x84) => {
            let length = rest.get(..counted)?.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte));
            Some((2 + counted, length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::tbs_of;

    #[test]
    fn the_bytes_under_the_signature_are_the_first_element() {
        assert_eq!(tbs_of(&[0x30, 4, 0x30, 1, 7, 9]), Some(&[0x30, 1, 7][..]));
        let mut long = vec![0x30, 0x82, 1, 4, 0x30, 0x81, 0xff];
        long.extend([5; 0xff]);
        long.extend([1, 1]);
        assert_eq!(tbs_of(&long).map(<[u8]>::len), Some(0x102));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_nothing_under_a_signature() {
        for der in [
            &[][..],
            &[0x30],
            &[0x31, 3, 0x30, 1, 7],
            &[0x30, 3, 0x31, 1, 7],
            &[0x30, 4, 0x30, 1, 7],
            &[0x30, 3, 0x30, 9, 7],
            &[0x30, 0x80, 0x30, 1, 7],
            &[0x30, 0x85, 0, 0, 0, 0, 3, 0x30, 1, 7],
            &[0x30, 0x82, 1],
        ] {
            assert_eq!(tbs_of(der), None, "{der:?}");
        }
    }
}
