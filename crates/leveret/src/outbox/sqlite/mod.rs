//! The outbox in a SQLite database: of one program, or of several on one machine.
//!
//! WAL mode (`PRAGMA journal_mode = WAL`) keeps the relay and the site out of each other's way. A commit is as durable
//! as the database's `synchronous` setting makes it: that is the moment a message is promised.

mod session;

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::{Connection, Error, Row, Transaction, named_params, params};
use tokio::sync::watch;

use self::session::SqliteDatabase;
use super::{Backlog, Message, Parked, Relay, SCHEMA_SQLITE};
use crate::Client;

/// What [`enqueue`] executes. Headers are the text of a JSON object.
pub const INSERT: &str = "
INSERT INTO leveret_outbox (message_id, exchange, routing_key, order_key, content_type, content_encoding, type,
    headers, body, reply_to, correlation_id, priority, expiration_ms, persistent)
VALUES (:message_id, :exchange, :routing_key, :order_key, :content_type, :content_encoding, :type,
    :headers, :body, :reply_to, :correlation_id, :priority, :expiration_ms, :persistent)";

/// Goes up whenever something is enqueued in this process, to be committed any moment.
static ENQUEUED: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Makes the table `leveret_outbox`. Does nothing if it is there.
///
/// # Errors
/// The database's own.
pub fn create_table(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch(SCHEMA_SQLITE)
}

/// Writes a message that leaves when this transaction commits, and only then.
///
/// # Errors
/// The database's own.
pub fn enqueue(transaction: &Transaction<'_>, message: &Message) -> Result<(), Error> {
    transaction.prepare(INSERT)?.execute(named_params! {
        ":message_id": message.message_id,
        ":exchange": message.exchange,
        ":routing_key": message.routing_key,
        ":order_key": message.order_key,
        ":content_type": message.payload.content_type,
        ":content_encoding": message.payload.content_encoding,
        ":type": message.method,
        ":headers": message.headers_json(),
        ":body": &message.payload.body[..],
        ":reply_to": message.reply_to,
        ":correlation_id": message.correlation_id,
        ":priority": message.priority,
        ":expiration_ms": message.expiration_ms(),
        ":persistent": message.persistent,
    })?;
    ENQUEUED.send_modify(|count| *count += 1);
    Ok(())
}

/// The messages that were given up, oldest first.
///
/// # Errors
/// The database's own.
pub fn parked(connection: &Connection, limit: u32) -> Result<Vec<Parked>, Error> {
    let mut statement = connection.prepare(
        "SELECT id, message_id, exchange, routing_key, attempts, coalesce(last_error, '')
        FROM leveret_outbox WHERE parked_at_ms IS NOT NULL ORDER BY id LIMIT ?1",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Parked {
            id: row.get(0)?,
            message_id: row.get(1)?,
            exchange: row.get(2)?,
            routing_key: row.get(3)?,
            attempts: row.get(4)?,
            reason: row.get(5)?,
        })
    };
    statement.query_map([limit], read)?.collect()
}

/// Sends parked messages on their way again, with all their attempts before them. Returns how many there were.
///
/// # Errors
/// The database's own.
pub fn retry(connection: &Connection, ids: &[i64]) -> Result<u64, Error> {
    let mut statement = connection.prepare(
        "UPDATE leveret_outbox SET parked_at_ms = NULL, attempts = 0, next_attempt_at_ms = 0
        WHERE parked_at_ms IS NOT NULL AND id = ?1",
    )?;
    let mut retried = 0;
    for id in ids {
        retried += statement.execute(params![id])? as u64;
    }
    ENQUEUED.send_modify(|count| *count += 1);
    Ok(retried)
}

/// How much is in the table.
///
/// # Errors
/// The database's own.
pub fn backlog(connection: &Connection) -> Result<Backlog, Error> {
    let statement = "SELECT count(*) FILTER (WHERE parked_at_ms IS NULL),
            count(*) FILTER (WHERE parked_at_ms IS NULL AND attempts > 0),
            count(*) FILTER (WHERE parked_at_ms IS NOT NULL),
            CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
                - min(created_at_ms) FILTER (WHERE parked_at_ms IS NULL)
        FROM leveret_outbox";
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    connection.query_row(statement, [], |row| {
        Ok(Backlog {
            waiting: count(row.get(0)?),
            failing: count(row.get(1)?),
            parked: count(row.get(2)?),
            oldest: row.get::<_, Option<i64>>(3)?.map(|age_ms| Duration::from_millis(count(age_ms))),
        })
    })
}

impl Relay {
    /// A relay for the outbox of a SQLite database, on a connection of its own. File and table must be there
    /// ([`create_table`]), or come.
    ///
    /// One relay works at a time, in whatever process: it holds a lock on the file `PATH-relay`, which ends with its
    /// process, and the others stand by. What this process enqueues it sees at once; what others do, when it polls.
    pub fn sqlite(path: impl AsRef<Path>, client: &Client) -> Relay {
        Relay::new(client, SqliteDatabase::new(path.as_ref().to_path_buf()))
    }
}
