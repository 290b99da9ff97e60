//! The outbox in a PostgreSQL database.
//!
//! ```no_run
//! # async fn run(client: leveret::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use leveret::outbox::{self, Message, Relay};
//!
//! let (mut database, connection) = tokio_postgres::connect("postgres://site@db/site", tokio_postgres::NoTls).await?;
//! tokio::spawn(connection);
//! outbox::postgres::create_table(&database).await?;
//! let relay = Relay::postgres("postgres://site@db/site".parse()?, &client).start();
//!
//! let transaction = database.transaction().await?;
//! transaction.execute("INSERT INTO orders (customer) VALUES ('Ann')", &[]).await?;
//! outbox::postgres::enqueue(&transaction, &Message::task("invoices", "Ann")?).await?;
//! transaction.commit().await?;                                   // the relay is woken
//!
//! relay.drain().await;
//! # Ok(())
//! # }
//! ```

mod session;

use std::future::Future;
use std::time::Duration;

use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Error, GenericClient, NoTls, Socket, Transaction};

use self::session::PostgresDatabase;
use super::{Backlog, Message, Parked, Relay, SCHEMA_POSTGRES};
use crate::Client;

/// What [`enqueue`] executes; `$1` to `$14` as listed. Headers are the text of a JSON object.
pub const INSERT: &str = "
INSERT INTO leveret_outbox (message_id, exchange, routing_key, order_key, content_type, content_encoding, type,
    headers, body, reply_to, correlation_id, priority, expiration_ms, persistent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, $14)";

/// Makes the table `leveret_outbox`, in the first schema of the search path. Does nothing if it is there.
///
/// # Errors
/// The database's own, e.g. no permission.
pub async fn create_table(client: &impl GenericClient) -> Result<(), Error> {
    client.batch_execute(SCHEMA_POSTGRES).await
}

/// Writes a message that leaves when this transaction commits, and only then.
///
/// # Errors
/// The database's own; the transaction is failed then, as after any other statement.
pub async fn enqueue(transaction: &Transaction<'_>, message: &Message) -> Result<(), Error> {
    let headers = message.headers_json();
    let body = &message.payload.body[..];
    let priority = message.priority.map(i16::from);
    let expiration_ms = message.expiration_ms();
    let parameters: [&(dyn ToSql + Sync); 14] = [
        &message.message_id,
        &message.exchange,
        &message.routing_key,
        &message.order_key,
        &message.payload.content_type,
        &message.payload.content_encoding,
        &message.method,
        &headers,
        &body,
        &message.reply_to,
        &message.correlation_id,
        &priority,
        &expiration_ms,
        &message.persistent,
    ];
    transaction.execute(INSERT, &parameters).await.map(drop)
}

/// The messages that were given up, oldest first.
///
/// # Errors
/// The database's own.
pub async fn parked(client: &impl GenericClient, limit: u32) -> Result<Vec<Parked>, Error> {
    let statement = "SELECT id, message_id, exchange, routing_key, attempts, coalesce(last_error, '')
        FROM leveret_outbox WHERE parked_at IS NOT NULL ORDER BY id LIMIT $1";
    let rows = client.query(statement, &[&i64::from(limit)]).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Parked {
            id: row.try_get(0)?,
            message_id: row.try_get(1)?,
            exchange: row.try_get(2)?,
            routing_key: row.try_get(3)?,
            attempts: row.try_get::<_, i32>(4)?.try_into().unwrap_or(0),
            reason: row.try_get(5)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Sends parked messages on their way again, with all their attempts before them. Returns how many there were.
///
/// # Errors
/// The database's own.
pub async fn retry(client: &impl GenericClient, ids: &[i64]) -> Result<u64, Error> {
    let statement = "UPDATE leveret_outbox SET parked_at = NULL, attempts = 0, next_attempt_at = now()
        WHERE parked_at IS NOT NULL AND id = ANY($1)";
    client.execute(statement, &[&ids]).await
}

/// How much is in the table.
///
/// # Errors
/// The database's own.
pub async fn backlog(client: &impl GenericClient) -> Result<Backlog, Error> {
    let statement = "SELECT count(*) FILTER (WHERE parked_at IS NULL),
            count(*) FILTER (WHERE parked_at IS NULL AND attempts > 0),
            count(*) FILTER (WHERE parked_at IS NOT NULL),
            (extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE parked_at IS NULL)) * 1000)::bigint
        FROM leveret_outbox";
    let row = client.query_one(statement, &[]).await?;
    let count = |at: usize| row.try_get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
    let age_ms: Option<i64> = row.try_get(3)?;
    Ok(Backlog {
        waiting: count(0)?,
        failing: count(1)?,
        parked: count(2)?,
        oldest: age_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
    })
}

impl Relay {
    /// A relay for the outbox of a PostgreSQL database, on a connection of its own, without TLS. The table must be
    /// there ([`create_table`]), or come. Several relays share the work.
    ///
    /// It hears of commits at once (`LISTEN`), and polls for what it may have missed.
    pub fn postgres(config: Config, client: &Client) -> Relay {
        Relay::postgres_tls(config, NoTls, client)
    }

    /// As [`Relay::postgres`], with a TLS connector for `tokio_postgres`.
    pub fn postgres_tls<T>(config: Config, tls: T, client: &Client) -> Relay
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Future + Send,
    {
        Relay::new(client, PostgresDatabase { config, tls })
    }
}
