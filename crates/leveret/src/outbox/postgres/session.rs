//! A relay's connection to PostgreSQL: rows are claimed by locking them, in a transaction that lives until they are
//! settled. Whoever dies has claimed nothing: the server rolls back and the next relay gets the rows.
//!
//! ```text
//!   BEGIN; SELECT … FOR UPDATE SKIP LOCKED     (publish, confirms)     DELETE …; UPDATE …; COMMIT
//! ```
//!
//! A key belongs to whoever has locked its first row: only then the rows behind it are claimed too.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Config, Connection, Error, Socket, Statement};

use crate::Payload;
use crate::outbox::Message;
use crate::outbox::database::{Database, DatabaseError, Session};
use crate::outbox::row::{Row, Settlement, Verdict};

/// A server that takes longer for a statement is taken for dead.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

const COLUMNS: &str =
    "id, message_id, exchange, routing_key, order_key, content_type, content_encoding, type,
    headers::text, body, reply_to, correlation_id, priority, expiration_ms, persistent, attempts,
    extract(epoch FROM created_at)::bigint";

/// Rows without a key, and the first of each key: what comes behind one that is not due waits with it.
const HEADS: &str = "FROM leveret_outbox row
    WHERE parked_at IS NULL AND next_attempt_at <= now() AND (order_key IS NULL OR NOT EXISTS (
        SELECT FROM leveret_outbox earlier
        WHERE earlier.order_key = row.order_key AND earlier.id < row.id AND earlier.parked_at IS NULL))
    ORDER BY id LIMIT $1 FOR UPDATE OF row SKIP LOCKED";

/// Rows behind those first ones, up to one that is not due. None may be skipped: the next would overtake it.
const FOLLOWERS: &str = "FROM leveret_outbox row
    WHERE parked_at IS NULL AND order_key = ANY($2) AND id <> ALL($3) AND NOT EXISTS (
        SELECT FROM leveret_outbox earlier
        WHERE earlier.order_key = row.order_key AND earlier.id <= row.id AND earlier.parked_at IS NULL
            AND earlier.next_attempt_at > now())
    ORDER BY id LIMIT $1 FOR UPDATE OF row";

pub(super) struct PostgresDatabase<T> {
    pub(super) config: Config,
    pub(super) tls: T,
}

pub(in crate::outbox) struct PostgresSession {
    client: tokio_postgres::Client,
    heads: Statement,
    followers: Statement,
    in_transaction: bool,
    notified: Arc<Notify>,
    /// Reads the socket; its end is the connection's.
    reader: JoinHandle<Result<(), Error>>,
}

impl<T> Database for PostgresDatabase<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    type Session = PostgresSession;

    async fn open(&self) -> Result<PostgresSession, DatabaseError> {
        in_time(async {
            let (client, connection) = self.config.connect(self.tls.clone()).await?;
            let notified = Arc::new(Notify::new());
            let reader = tokio::spawn(read(connection, notified.clone()));
            client.batch_execute("LISTEN leveret_outbox").await?;
            let heads = client.prepare(&format!("SELECT {COLUMNS} {HEADS}")).await?;
            let followers = client.prepare(&format!("SELECT {COLUMNS} {FOLLOWERS}")).await?;
            Ok(PostgresSession { client, heads, followers, in_transaction: false, notified, reader })
        })
        .await
    }
}

impl Session for PostgresSession {
    async fn claim(&mut self, limit: usize) -> Result<Vec<Row>, DatabaseError> {
        let rows = in_time(async {
            self.begin().await?;
            self.claim_rows(i64::try_from(limit).unwrap_or(i64::MAX)).await
        })
        .await?;
        if rows.is_empty() {
            self.settle(&[]).await?;
        }
        Ok(rows)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), DatabaseError> {
        in_time(async {
            if !settlements.is_empty() {
                self.begin().await?;
                self.write_down(settlements).await?;
            }
            if self.in_transaction {
                self.client.batch_execute("COMMIT").await?;
                self.in_transaction = false;
            }
            Ok(())
        })
        .await
    }

    async fn wait(&mut self, poll: Duration) -> Result<(), DatabaseError> {
        tokio::select! {
            () = self.notified.notified() => Ok(()),
            () = tokio::time::sleep(poll) => Ok(()),
            ended = &mut self.reader => match ended {
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(())) | Err(_) => Err("the connection has ended".into()),
            }
        }
    }
}

impl PostgresSession {
    async fn begin(&mut self) -> Result<(), Error> {
        if !self.in_transaction {
            self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
            self.in_transaction = true;
        }
        Ok(())
    }

    async fn claim_rows(&self, limit: i64) -> Result<Vec<Row>, Error> {
        let heads = self.client.query(&self.heads, &[&limit]).await?;
        let mut rows = heads.iter().map(row).collect::<Result<Vec<Row>, Error>>()?;
        let keys: Vec<&str> = rows.iter().filter_map(|row| row.message.order_key.as_deref()).collect();
        let room = limit - heads.len() as i64;
        if !keys.is_empty() && room > 0 {
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let behind = self.client.query(&self.followers, &[&room, &keys, &ids]).await?;
            let behind = behind.iter().map(row).collect::<Result<Vec<Row>, Error>>()?;
            rows.extend(behind);
            rows.sort_by_key(|row| row.id);
        }
        Ok(rows)
    }

    async fn write_down(&self, settlements: &[Settlement]) -> Result<(), Error> {
        let delivered = settlements.iter().filter(|settlement| settlement.verdict == Verdict::Delivered);
        let delivered: Vec<i64> = delivered.map(|settlement| settlement.id).collect();
        if !delivered.is_empty() {
            self.client.execute("DELETE FROM leveret_outbox WHERE id = ANY($1)", &[&delivered]).await?;
        }
        for Settlement { id, verdict } in settlements {
            let (after, error, parks) = match verdict {
                Verdict::Delivered => continue,
                Verdict::Retry { after, error } => (*after, error, false),
                Verdict::Park { error } => (Duration::ZERO, error, true),
            };
            let statement = "UPDATE leveret_outbox SET attempts = attempts + 1, last_error = $2,
                next_attempt_at = clock_timestamp() + $3 * interval '1 second',
                parked_at = CASE WHEN $4 THEN clock_timestamp() END WHERE id = $1";
            // A text of PostgreSQL has no octet 0.
            let error = error.replace('\0', " ");
            self.client.execute(statement, &[id, &error, &after.as_secs_f64(), &parks]).await?;
        }
        Ok(())
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        // Closes the socket: the server rolls back what was not committed.
        self.reader.abort();
    }
}

async fn in_time<R>(work: impl Future<Output = Result<R, Error>>) -> Result<R, DatabaseError> {
    match timeout(STATEMENT_TIMEOUT, work).await {
        Ok(result) => result.map_err(explained),
        Err(_) => Err(format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs()).into()),
    }
}

/// The server's own words; the driver's are `db error`.
fn explained(error: Error) -> DatabaseError {
    match error.as_db_error() {
        Some(words) => words.to_string().into(),
        None => error.into(),
    }
}

/// Reads what the server sends, and passes on that somebody has committed.
async fn read<S>(mut connection: Connection<Socket, S>, notified: Arc<Notify>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(_) = message? {
            notified.notify_one();
        }
    }
    Ok(())
}

fn row(row: &tokio_postgres::Row) -> Result<Row, Error> {
    let payload = Payload {
        content_type: row.try_get(5)?,
        content_encoding: row.try_get(6)?,
        body: Bytes::from(row.try_get::<_, Vec<u8>>(9)?),
    };
    let expiration_ms: Option<i64> = row.try_get(13)?;
    let message = Message {
        message_id: row.try_get(1)?,
        order_key: row.try_get(4)?,
        method: row.try_get(7)?,
        reply_to: row.try_get(10)?,
        correlation_id: row.try_get(11)?,
        priority: row.try_get::<_, Option<i16>>(12)?.and_then(|priority| u8::try_from(priority).ok()),
        expiration: expiration_ms.and_then(|ms| Some(Duration::from_millis(u64::try_from(ms).ok()?))),
        persistent: row.try_get(14)?,
        ..Message::new(row.try_get::<_, String>(2)?, row.try_get::<_, String>(3)?, payload)
    };
    Ok(Row {
        id: row.try_get(0)?,
        attempts: row.try_get::<_, i32>(15)?.try_into().unwrap_or(0),
        created_at_s: u64::try_from(row.try_get::<_, i64>(16)?)
            .unwrap_or(UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs())),
        message,
        headers_json: row.try_get(8)?,
    })
}
