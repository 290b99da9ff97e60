CREATE TABLE IF NOT EXISTS leveret_outbox (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id       TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    exchange         TEXT NOT NULL DEFAULT '',
    routing_key      TEXT NOT NULL,
    order_key        TEXT,
    content_type     TEXT,
    content_encoding TEXT,
    type             TEXT,
    headers          TEXT NOT NULL DEFAULT '{}',
    body             BLOB NOT NULL,
    reply_to         TEXT,
    correlation_id   TEXT,
    priority         INTEGER CHECK (priority BETWEEN 0 AND 255),
    expiration_ms    INTEGER CHECK (expiration_ms >= 0),
    persistent       INTEGER NOT NULL DEFAULT 1,
    created_at_ms    INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    -- The relay's own:
    attempts           INTEGER NOT NULL DEFAULT 0,
    next_attempt_at_ms INTEGER NOT NULL DEFAULT 0,
    last_error         TEXT,
    parked_at_ms       INTEGER
);

CREATE INDEX IF NOT EXISTS leveret_outbox_order ON leveret_outbox (order_key, id)
    WHERE parked_at_ms IS NULL AND order_key IS NOT NULL;
