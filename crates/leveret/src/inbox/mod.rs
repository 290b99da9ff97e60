//! Work done once per message, however often the message comes.
//!
//! An [`outbox`](crate::outbox) and every broker deliver at least once. A worker that changes a database can recognise
//! a repetition there, in the transaction that does the work: either both are committed, the work and the note that it
//! was done, or neither is.
//!
//! ```text
//!   BEGIN;  first_time(tx, "billing", message_id)?  ── false ──▶ done before: acknowledge
//!                      └─ true ─▶ the work …  COMMIT ─▶ acknowledge
//! ```
//!
//! The table `leveret_inbox` keeps message ids by service, because the same message may be for several services that
//! share a database. Purge it now and then: ids must be kept for longer than a message can be on its way.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// The table `leveret_inbox` for PostgreSQL. Can be run again.
pub const SCHEMA_POSTGRES: &str = "
-- Two programs that start at once must not both create it.
SELECT pg_advisory_xact_lock(5672092);
CREATE TABLE IF NOT EXISTS leveret_inbox (
    service     text NOT NULL,
    message_id  text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, message_id)
);
CREATE INDEX IF NOT EXISTS leveret_inbox_age ON leveret_inbox (received_at);
";

/// The table `leveret_inbox` for SQLite. Can be run again.
pub const SCHEMA_SQLITE: &str = "
CREATE TABLE IF NOT EXISTS leveret_inbox (
    service        TEXT NOT NULL,
    message_id     TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    PRIMARY KEY (service, message_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leveret_inbox_age ON leveret_inbox (received_at_ms);
";
