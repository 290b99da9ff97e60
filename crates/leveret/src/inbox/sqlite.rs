//! The inbox in a SQLite database.

use std::time::Duration;

use rusqlite::{Connection, Error, Transaction, params};

/// Makes the table `leveret_inbox`. Does nothing if it is there.
///
/// # Errors
/// The database's own.
pub fn create_table(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch(super::SCHEMA_SQLITE)
}

/// Whether the service sees this message for the first time, and a note that it has, which counts when the transaction
/// commits.
///
/// # Errors
/// The database's own.
pub fn first_time(transaction: &Transaction<'_>, service: &str, message_id: &str) -> Result<bool, Error> {
    let statement = "INSERT INTO leveret_inbox (service, message_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    Ok(transaction.prepare(statement)?.execute(params![service, message_id])? == 1)
}

/// Forgets messages seen longer ago than this. Returns how many there were.
///
/// # Errors
/// The database's own.
pub fn purge(connection: &Connection, older_than: Duration) -> Result<u64, Error> {
    let statement = "DELETE FROM leveret_inbox
        WHERE received_at_ms < CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - ?1";
    let older_than_ms = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    connection.execute(statement, params![older_than_ms]).map(|purged| purged as u64)
}
