use audit::Event;
use rusqlite::{Connection, OptionalExtension, Row};
use types::{DeviceId, Now, PrincipalKind, SpkiHash, Wall};

use super::codec::{self, token};
use super::principals::{self, Known};
use super::writer::Txn;
use super::{certificates, intents, meta, revoking};
use crate::StoreError;
use crate::rows::{NewToken, RevokedDevice, TokenAnswer, TokenRefusal, TokenRow, TokenState};

/// A token's row with what only this crate sees.
pub(super) struct Held {
    pub(super) number: i64,
    pub(super) secret_hash: [u8; 32],
    pub(super) principal: i64,
    pub(super) id: String,
    pub(super) state: TokenState,
    pub(super) replaces: bool,
    pub(super) expires_at: Wall,
    created_at: Wall,
    created_by: String,
}

const COLUMNS: &str =
    "number, secret_hash, principal, id, state, spki, replaces, expires_at, created_at, created_by";

fn read(row: &Row<'_>) -> Result<Held, StoreError> {
    let state = match (row.get::<_, i64>(4)?, row.get::<_, Option<[u8; 32]>>(5)?) {
        (token::UNUSED, None) => TokenState::Unused,
        (token::BOUND, Some(spki)) => TokenState::Bound(SpkiHash(spki)),
        (token::CONFIRMED, _) => TokenState::Confirmed,
        (token::REVOKED, _) => TokenState::Revoked,
        (code, _) => return Err(codec::corrupt("token state", code)),
    };
    Ok(Held {
        number: row.get(0)?,
        secret_hash: row.get(1)?,
        principal: row.get(2)?,
        id: row.get(3)?,
        state,
        replaces: row.get(6)?,
        expires_at: codec::wall(row, 7)?,
        created_at: codec::wall(row, 8)?,
        created_by: row.get(9)?,
    })
}

impl Held {
    fn row(self, device: &DeviceId) -> TokenRow {
        TokenRow {
            id: self.id,
            device: device.clone(),
            state: self.state,
            expires_at: self.expires_at,
            replace: self.replaces,
            created_at: self.created_at,
            created_by: self.created_by,
        }
    }
}

pub(super) fn held(conn: &Connection, id: &str) -> Result<Option<Held>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE id = ?1");
    conn.prepare_cached(&sql)?.query_row([id], |row| Ok(read(row))).optional()?.transpose()
}

pub(super) fn by_number(conn: &Connection, number: i64) -> Result<Held, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE number = ?1");
    conn.prepare_cached(&sql)?.query_row([number], |row| Ok(read(row)))?
}

fn all_of(conn: &Connection, principal: i64) -> Result<Vec<Held>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE principal = ?1 ORDER BY number");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([principal])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(read(row)?);
    }
    Ok(tokens)
}

pub(super) fn of_principal(conn: &Connection, known: &Known) -> Result<Vec<TokenRow>, StoreError> {
    Ok(all_of(conn, known.id)?.into_iter().map(|held| held.row(&known.principal.name)).collect())
}

pub(crate) fn of_device(conn: &Connection, device: &DeviceId) -> Result<Vec<TokenRow>, StoreError> {
    match principals::known(conn, device)? {
        Some(known) => of_principal(conn, &known),
        None => Ok(Vec::new()),
    }
}

pub(crate) fn one(conn: &Connection, id: &str) -> Result<Option<TokenRow>, StoreError> {
    let Some(held) = held(conn, id)? else { return Ok(None) };
    let device = principals::known_by_id(conn, held.principal)?.principal.name;
    Ok(Some(held.row(&device)))
}

pub(crate) fn create(
    txn: &mut Txn<'_>,
    new: &NewToken,
    actor: &str,
    now: Now,
) -> Result<TokenRow, StoreError> {
    let known = principals::of_kind(txn.conn, PrincipalKind::Device, &new.device)?;
    if !known.is_usable() {
        return Err(known.refused());
    }
    if new.expires_at <= now.wall {
        return Err(StoreError::TokenExpired { id: new.id.clone(), expires_at: new.expires_at });
    }
    if !new.replace && certificates::has_live(txn.conn, known.id, now)? {
        return Err(StoreError::NeedsReplace { id: known.principal.name.to_string() });
    }
    if held(txn.conn, &new.id)?.is_some() {
        return Err(StoreError::TokenExists { id: new.id.clone() });
    }
    let sql =
        "INSERT INTO token (id, secret_hash, principal, state, replaces, expires_at, created_at, created_by)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row =
        (&new.id, new.secret_hash, known.id, token::UNUSED, new.replace, new.expires_at.0, now.wall.0, actor);
    txn.conn.prepare_cached(sql)?.execute(row)?;
    txn.count("tokens", 1)?;
    let event = Event::TokenCreated {
        token_id: new.id.clone(),
        device: known.principal.name.to_string(),
        expires_at: new.expires_at.to_string(),
        actor: actor.to_owned(),
    };
    txn.event(&event, now)?;
    Ok(TokenRow {
        id: new.id.clone(),
        device: known.principal.name,
        state: TokenState::Unused,
        expires_at: new.expires_at,
        replace: new.replace,
        created_at: now.wall,
        created_by: actor.to_owned(),
    })
}

/// Compares every byte whatever the first ones say, so that the time tells nothing.
fn same_secret(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left.iter().zip(right).fold(0_u8, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(difference) == 0
}

pub(crate) fn check(
    conn: &Connection,
    id: &str,
    secret_hash: &[u8; 32],
    spki: SpkiHash,
    now: Now,
) -> Result<TokenAnswer, StoreError> {
    let refused = |why| Ok(TokenAnswer::Refused(why));
    let Some(held) = held(conn, id)? else { return refused(TokenRefusal::Unknown) };
    if !same_secret(&held.secret_hash, secret_hash) {
        return refused(TokenRefusal::WrongSecret);
    }
    let known = principals::known_by_id(conn, held.principal)?;
    match held.state {
        TokenState::Revoked => return refused(TokenRefusal::Revoked),
        TokenState::Confirmed => return refused(TokenRefusal::Spent),
        TokenState::Bound(owner) if owner != spki => return refused(TokenRefusal::OtherKey),
        TokenState::Bound(_) | TokenState::Unused if !known.is_usable() => {
            return refused(TokenRefusal::DeviceDenied);
        }
        TokenState::Bound(_) => {}
        TokenState::Unused if held.expires_at <= now.wall => return refused(TokenRefusal::Expired),
        TokenState::Unused if !held.replaces && certificates::has_live(conn, held.principal, now)? => {
            return refused(TokenRefusal::NeedsReplace);
        }
        TokenState::Unused => {
            return Ok(TokenAnswer::Unused { device: known.principal.name, replace: held.replaces });
        }
    }
    let (intent, certificate_der) = intents::of_token(conn, held.number)?;
    if intent.not_after <= now.wall {
        return refused(TokenRefusal::Expired);
    }
    Ok(TokenAnswer::Bound { device: known.principal.name, certificate_der, intent: Box::new(intent) })
}

/// Binds a free token to a key; the caller's intent is recorded in the same transaction.
pub(super) fn bind(
    txn: &mut Txn<'_>,
    id: &str,
    spki: SpkiHash,
    device: &Known,
    now: Now,
) -> Result<i64, StoreError> {
    let lost = || StoreError::TokenLost { id: id.to_owned() };
    let held = held(txn.conn, id)?.ok_or_else(lost)?;
    let free = held.state == TokenState::Unused && held.expires_at > now.wall && held.principal == device.id;
    if !free || (!held.replaces && certificates::has_live(txn.conn, device.id, now)?) {
        return Err(lost());
    }
    let sql = "UPDATE token SET state = ?2, spki = ?3 WHERE number = ?1 AND state = ?4";
    let row = (held.number, token::BOUND, spki.0, token::UNUSED);
    match txn.conn.prepare_cached(sql)?.execute(row)? {
        1 => Ok(held.number),
        _ => Err(lost()),
    }
}

/// Marks a bound token as spent.
pub(super) fn spend(txn: &mut Txn<'_>, number: i64) -> Result<(), StoreError> {
    let sql = "UPDATE token SET state = ?2 WHERE number = ?1 AND state = ?3";
    txn.conn.prepare_cached(sql)?.execute((number, token::CONFIRMED, token::BOUND))?;
    Ok(())
}

/// Kills a token that is not spent, and its unfinished intent; whether it was alive.
pub(super) fn kill(
    txn: &mut Txn<'_>,
    number: i64,
    device: &DeviceId,
    actor: &str,
    now: Now,
) -> Result<bool, StoreError> {
    let sql = "UPDATE token SET state = ?2 WHERE number = ?1 AND state < ?3 RETURNING id";
    let id: Option<String> = txn
        .conn
        .prepare_cached(sql)?
        .query_row((number, token::REVOKED, token::CONFIRMED), |row| row.get(0))
        .optional()?;
    let Some(token_id) = id else { return Ok(false) };
    intents::end_of_token(txn, number)?;
    let event = Event::TokenRevoked { token_id, device: device.to_string(), actor: actor.to_owned() };
    txn.event(&event, now)?;
    Ok(true)
}

/// Kills the tokens of a device that are neither spent nor `but`; those that replace only if
/// `replacing_too`.
pub(super) fn kill_others(
    txn: &mut Txn<'_>,
    device: &Known,
    but: Option<i64>,
    replacing_too: bool,
    actor: &str,
    now: Now,
) -> Result<(), StoreError> {
    for held in all_of(txn.conn, device.id)? {
        if Some(held.number) != but && (replacing_too || !held.replaces) {
            kill(txn, held.number, &device.principal.name, actor, now)?;
        }
    }
    Ok(())
}

pub(crate) fn revoke(
    txn: &mut Txn<'_>,
    id: &str,
    actor: &str,
    now: Now,
) -> Result<RevokedDevice, StoreError> {
    let held = held(txn.conn, id)?.ok_or_else(|| StoreError::UnknownToken { id: id.to_owned() })?;
    if held.state == TokenState::Confirmed {
        return Err(StoreError::TokenSpent { id: held.id });
    }
    let known = principals::known_by_id(txn.conn, held.principal)?;
    let mut epoch = meta::epoch(txn.conn)?;
    let mut certs = Vec::new();
    if kill(txn, held.number, &known.principal.name, actor, now)? {
        let rows = certificates::of_token(txn.conn, held.number)?;
        if !rows.is_empty() {
            certs = rows.iter().map(|row| row.cert).collect();
            epoch = revoking::end(txn, &rows, x509::CrlReason::CessationOfOperation, actor, now)?;
        }
    }
    Ok(RevokedDevice { epoch, certs, principal: Some(known.principal) })
}

#[cfg(test)]
mod tests {
    use super::same_secret;

    #[test]
    fn secrets_that_differ_in_any_one_bit_differ() {
        let secret = [0x5a; 32];
        assert!(same_secret(&secret, &secret));
        for bit in 0..256 {
            let mut other = secret;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!same_secret(&secret, &other), "bit {bit}");
        }
    }
}
