//! A relay's connection to SQLite. A write transaction that lived until the broker answers would stop the site; so rows
//! are not locked, relays are: only one works at a time.
//!
//! ```text
//!   lock PATH-relay (once)     SELECT …     (publish, confirms)     BEGIN IMMEDIATE; DELETE …; UPDATE …; COMMIT
//! ```

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, Error, OpenFlags, TransactionBehavior, params};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::ENQUEUED;
use crate::Payload;
use crate::outbox::Message;
use crate::outbox::database::{Database, DatabaseError, Session};
use crate::outbox::row::{Row, Settlement, Verdict};

/// How long a statement waits for other writers.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a relay that stands by asks for the lock.
const STAND_BY: Duration = Duration::from_millis(200);
/// After this process enqueued something: how long until the first look whether it is committed; doubles.
const LOOK_FIRST: Duration = Duration::from_millis(1);

const COLUMNS: &str = "id, message_id, exchange, routing_key, order_key, content_type, content_encoding, type,
    CAST(headers AS TEXT), CAST(body AS BLOB), reply_to, correlation_id, priority, expiration_ms, persistent, attempts,
    created_at_ms";

/// Rows that are due, but for those behind one of the same key that is not.
const CLAIM: &str = "FROM leveret_outbox AS row
    WHERE parked_at_ms IS NULL AND next_attempt_at_ms <= ?1 AND (order_key IS NULL OR NOT EXISTS (
        SELECT 1 FROM leveret_outbox AS earlier
        WHERE earlier.order_key = row.order_key AND earlier.id < row.id AND earlier.parked_at_ms IS NULL
            AND earlier.next_attempt_at_ms > ?1))
    ORDER BY id LIMIT ?2";

pub(super) struct SqliteDatabase {
    path: PathBuf,
}

pub(in crate::outbox) struct SqliteSession {
    connection: Arc<Mutex<Connection>>,
    enqueued: watch::Receiver<u64>,
    /// What this connection knew of others' commits when it last found nothing.
    seen: i64,
    /// Locked as long as this lives.
    _turn: File,
}

impl SqliteDatabase {
    pub(super) fn new(path: PathBuf) -> SqliteDatabase {
        SqliteDatabase { path }
    }
}

impl Database for SqliteDatabase {
    type Session = SqliteSession;

    async fn open(&self) -> Result<SqliteSession, DatabaseError> {
        // One name for the lock, whichever way the database was named.
        let path =
            std::fs::canonicalize(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let turn = turn(&path).await?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let enqueued = ENQUEUED.subscribe();
        Ok(SqliteSession { connection: Arc::new(Mutex::new(connection)), enqueued, seen: 0, _turn: turn })
    }
}

/// Waits until no other relay works on this database.
async fn turn(path: &Path) -> Result<File, DatabaseError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-relay");
    let file = File::options().create(true).append(true).open(&name)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(STAND_BY).await,
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

impl Session for SqliteSession {
    async fn claim(&mut self, limit: usize) -> Result<Vec<Row>, DatabaseError> {
        self.enqueued.mark_unchanged();
        let (seen, rows) =
            self.blocking(move |connection| Ok((version(connection)?, claim(connection, limit)?))).await?;
        self.seen = seen;
        Ok(rows)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), DatabaseError> {
        if settlements.is_empty() {
            return Ok(());
        }
        let settlements = settlements.to_vec();
        self.blocking(move |connection| settle(connection, &settlements)).await
    }

    async fn wait(&mut self, poll: Duration) -> Result<(), DatabaseError> {
        let end = Instant::now() + poll;
        if timeout_at(end, self.enqueued.changed()).await.is_err() {
            return Ok(());
        }
        // Enqueued, but not yet committed, perhaps never; or in another database.
        let mut pause = LOOK_FIRST;
        while Instant::now() < end {
            let next_look = end.min(Instant::now() + pause);
            pause = match timeout_at(next_look, self.enqueued.changed()).await {
                Ok(_) => LOOK_FIRST,
                Err(_) => pause * 2,
            };
            if self.blocking(|connection| version(connection)).await? != self.seen {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl SqliteSession {
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, DatabaseError> {
        let connection = self.connection.clone();
        Ok(tokio::task::spawn_blocking(move || work(&mut connection.lock())).await??)
    }
}

/// Changes whenever another connection has committed; costs next to nothing.
fn version(connection: &Connection) -> Result<i64, Error> {
    connection.prepare("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

fn claim(connection: &Connection, limit: usize) -> Result<Vec<Row>, Error> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} {CLAIM}"))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    statement.query_map(params![now_ms(), limit], row)?.collect()
}

fn settle(connection: &mut Connection, settlements: &[Settlement]) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut delete = transaction.prepare("DELETE FROM leveret_outbox WHERE id = ?1")?;
    let mut update = transaction.prepare(
        "UPDATE leveret_outbox SET attempts = attempts + 1, last_error = ?2, next_attempt_at_ms = ?3, parked_at_ms = ?4
        WHERE id = ?1",
    )?;
    let now_ms = now_ms();
    for Settlement { id, verdict } in settlements {
        match verdict {
            Verdict::Delivered => delete.execute(params![id])?,
            Verdict::Retry { after, error } => {
                let next_ms = now_ms.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
                update.execute(params![id, error, next_ms, None::<i64>])?
            }
            Verdict::Park { error } => update.execute(params![id, error, now_ms, now_ms])?,
        };
    }
    drop((delete, update));
    transaction.commit()
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row, Error> {
    let payload = Payload {
        content_type: row.get(5)?,
        content_encoding: row.get(6)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(9)?),
    };
    let expiration_ms: Option<i64> = row.get(13)?;
    let created_at_ms: i64 = row.get(16)?;
    let message = Message {
        message_id: row.get(1)?,
        order_key: row.get(4)?,
        method: row.get(7)?,
        reply_to: row.get(10)?,
        correlation_id: row.get(11)?,
        priority: row.get(12)?,
        expiration: expiration_ms.and_then(|ms| Some(Duration::from_millis(u64::try_from(ms).ok()?))),
        persistent: row.get(14)?,
        ..Message::new(row.get::<_, String>(2)?, row.get::<_, String>(3)?, payload)
    };
    Ok(Row {
        id: row.get(0)?,
        attempts: row.get(15)?,
        created_at_s: u64::try_from(created_at_ms / 1000).unwrap_or(0),
        message,
        headers_json: row.get(8)?,
    })
}

fn now_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
