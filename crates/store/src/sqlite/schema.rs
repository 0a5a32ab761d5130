use rusqlite::{Connection, OptionalExtension};
use types::Now;

use crate::StoreError;

/// The migrations, oldest first; number n brings schema n - 1 to schema n. Never edited once released.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];

/// Marks the file as ours (`PRAGMA application_id`): "Bail".
pub(super) const APPLICATION_ID: i32 = 0x4261_696c;

/// The newest schema that this release knows.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the database up to date, each migration in its own transaction.
pub(super) fn migrate(conn: &Connection, path: &str, now: Now) -> Result<(), StoreError> {
    let found = version(conn, path)?;
    if found > known() {
        return Err(StoreError::Newer { found, known: known() });
    }
    for (at, sql) in (1_i64..).zip(MIGRATIONS) {
        if at > found {
            conn.execute_batch("BEGIN IMMEDIATE")?;
            if let Err(error) = step(conn, at, sql, now) {
                conn.execute_batch("ROLLBACK")?;
                return Err(error);
            }
        }
    }
    Ok(())
}

fn step(conn: &Connection, version: i64, sql: &str, now: Now) -> Result<(), StoreError> {
    // Another process may have migrated between the look and the lock.
    if self::version(conn, "")? < version {
        conn.execute_batch(sql)?;
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        conn.execute(
            "INSERT INTO schema_version (version, applied_at) VALUES (?1, ?2)",
            (version, now.wall.0),
        )?;
    }
    conn.execute_batch("COMMIT")?;
    Ok(())
}

/// The schema of the database; 0 for an empty file.
fn version(conn: &Connection, path: &str) -> Result<i64, StoreError> {
    let tables: bool = conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?;
    if !tables {
        return Ok(0);
    }
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let newest = conn
        .query_row("SELECT version FROM schema_version ORDER BY version DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    newest.ok_or_else(|| StoreError::Corrupt { detail: "no schema version is recorded".to_owned() })
}
