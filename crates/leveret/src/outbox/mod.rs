//! Messages that leave when a database transaction commits, and only then.
//!
//! Whoever changes a database and sends a message about it can do the one and die before the other. Here the message
//! is a row of a table in that very database, written by the same transaction; a [`Relay`] carries the rows to the
//! broker and deletes each when the broker has confirmed it.
//!
//! ```text
//!   your transaction             leveret_outbox                 Relay                          broker
//!   ─────────────────            ──────────────                 ─────                          ──────
//!   INSERT INTO orders …
//!   enqueue(&tx, &message) ────▶ row
//!   COMMIT ───────────────────── visible ─────────────────────▶ claim
//!                                                               publish, mandatory ──────────▶ on disk
//!                                row is gone ◀───────────────── delete ◀────────────────────── confirm
//!                                stays, with its reason ◀────── no route, refused ◀─────────── returned, nack
//! ```
//!
//! What holds:
//! - **Rolled back, never sent. Committed, sent at least once.** A relay that dies between the confirm and the delete
//!   leaves the row, which is then sent again with the same message id. Workers of this crate recognise it for as long
//!   as they remember it; [`inbox`](crate::inbox) recognises it for as long as the worker's own database does.
//! - **Nothing is lost or thrown away.** A message that no queue takes, or that the broker refuses, stays with its
//!   number of attempts and the last error and is tried again, later and later. It is parked only if
//!   [`Relay::park_after`] says so, or if no broker could ever take it; parked rows stay in the table too.
//! - **Order per key.** Messages with the same [`Message::order_key`] leave one after the other, in the order they
//!   were enqueued, whatever the number of relays; a parked one steps out of the line. Messages without a key leave in
//!   about that order, and never wait for one that cannot leave. (The order of two transactions that ran at the same
//!   time is that of their rows' ids.)
//!
//! ```no_run
//! # async fn run(client: leveret::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use leveret::outbox::{self, Message, Relay};
//!
//! let mut database = rusqlite::Connection::open("site.db")?;
//! outbox::sqlite::create_table(&database)?;
//! let relay = Relay::sqlite("site.db", &client).start();
//!
//! let transaction = database.transaction()?;
//! transaction.execute("INSERT INTO orders (customer) VALUES ('Ann')", [])?;
//! outbox::sqlite::enqueue(&transaction, &Message::task("invoices", &"Ann")?)?;
//! transaction.commit()?;                                         // now it is on its way
//!
//! relay.drain().await;
//! # Ok(())
//! # }
//! ```
//!
//! Other drivers and other languages write the row themselves: [`SCHEMA_POSTGRES`], [`SCHEMA_SQLITE`];
//! `docs/features/outbox.md` has the statements.

mod courier;
mod database;
mod message;
#[cfg(feature = "postgres")]
pub mod postgres;
mod relay;
mod row;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use message::Message;
pub use relay::{Relay, RelayHandle, RelayStats};
pub use row::{Backlog, Parked};

/// The table `leveret_outbox` for PostgreSQL 13 and later, with the trigger that wakes the relays. Can be run again.
pub const SCHEMA_POSTGRES: &str = include_str!("postgres/schema.sql");

/// The table `leveret_outbox` for SQLite 3.31 and later. Can be run again.
pub const SCHEMA_SQLITE: &str = include_str!("sqlite/schema.sql");
