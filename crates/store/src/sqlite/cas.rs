use audit::Event;
use rusqlite::{Connection, OptionalExtension, Row};
use trust::{Change, DeniedSet, RevokedSet, View};
use types::{Clipped, Epoch, IssuerId, Now};
use x509::Certificate;

use super::codec;
use super::load;
use super::principals::{self, CA_KEY};
use super::writer::Txn;
use crate::StoreError;
use crate::rows::CaRow;

const COLUMNS: &str = "id, label, certificate, parent, kinds, servers, key_file";

pub(crate) fn add(txn: &mut Txn<'_>, ca: &CaRow, now: Now) -> Result<(), StoreError> {
    let certificate = parse(&ca.label, &ca.certificate_der)?;
    let exists = "SELECT EXISTS (SELECT 1 FROM ca WHERE id = ?1 OR label = ?2)";
    if txn.conn.query_row(exists, (ca.id.0, &ca.label), |row| row.get(0))? {
        return Err(StoreError::CaExists { shown: ca.id.to_string(), label: shown(&ca.label) });
    }
    if let Some(parent) = ca.parent
        && one(txn.conn, parent)?.is_none()
    {
        return Err(StoreError::UnknownIssuer { shown: parent.to_string() });
    }
    if !certificate.is_ca() || certificate.issuer_id_as_ca() != ca.id {
        let detail = "it has no CA bit, or its key is not the one that the id names".to_owned();
        return Err(StoreError::CaUnusable { label: shown(&ca.label), detail });
    }
    principals::claim_key(txn, certificate.spki_hash(), CA_KEY)?;
    txn.conn.execute(
        "INSERT INTO ca (id, label, parent, kinds, servers, key_file, admission, identity, added_at,
           certificate)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'registered', 'cn', ?7, ?8)",
        (
            ca.id.0,
            &ca.label,
            ca.parent.map(|id| id.0),
            codec::kinds_text(&ca.kinds),
            ca.servers,
            &ca.key_file,
            now.wall.0,
            &ca.certificate_der,
        ),
    )?;
    if !ca.kinds.is_empty() || ca.servers {
        let anchors = load::anchors(txn.conn)?;
        View::new(Epoch::default(), anchors.clone(), RevokedSet::empty(), DeniedSet::empty())
            .map_err(|error| StoreError::CaUnusable { label: shown(&ca.label), detail: error.to_string() })?;
        txn.raise_epoch(Change { anchors: Some(anchors), ..Change::default() })?;
    }
    let event = Event::CaCreated {
        issuer: ca.id.to_string(),
        label: ca.label.clone(),
        serial: certificate.serial().to_string(),
        der_hash: certificate.der_hash().to_string(),
        not_after: certificate.not_after().to_string(),
        actor: "ceremony".to_owned(),
    };
    txn.event(&event, now)
}

pub(crate) fn list(conn: &Connection) -> Result<Vec<CaRow>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM ca ORDER BY number"))?;
    let mut rows = statement.query([])?;
    let mut cas = Vec::new();
    while let Some(row) = rows.next()? {
        cas.push(read(row)?);
    }
    Ok(cas)
}

pub(crate) fn one(conn: &Connection, id: IssuerId) -> Result<Option<CaRow>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM ca WHERE id = ?1"))?;
    statement.query_row([id.0], |row| Ok(read(row))).optional()?.transpose()
}

fn read(row: &Row<'_>) -> Result<CaRow, StoreError> {
    Ok(CaRow {
        id: IssuerId(row.get(0)?),
        label: row.get(1)?,
        certificate_der: row.get(2)?,
        parent: row.get::<_, Option<[u8; 16]>>(3)?.map(IssuerId),
        kinds: codec::kinds(&row.get::<_, String>(4)?)?,
        servers: row.get(5)?,
        key_file: row.get(6)?,
    })
}

pub(super) fn parse(label: &str, der: &[u8]) -> Result<Certificate, StoreError> {
    Certificate::parse_der(der)
        .map_err(|error| StoreError::CaUnusable { label: shown(label), detail: error.to_string() })
}

fn shown(label: &str) -> String {
    Clipped(label).to_string()
}
