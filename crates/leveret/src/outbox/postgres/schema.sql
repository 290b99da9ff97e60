-- Two programs that start at once must not both create it.
SELECT pg_advisory_xact_lock(5672091);

CREATE TABLE IF NOT EXISTS leveret_outbox (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id       text NOT NULL DEFAULT gen_random_uuid()::text,
    exchange         text NOT NULL DEFAULT '',
    routing_key      text NOT NULL,
    order_key        text,
    content_type     text,
    content_encoding text,
    type             text,
    headers          jsonb NOT NULL DEFAULT '{}',
    body             bytea NOT NULL,
    reply_to         text,
    correlation_id   text,
    priority         smallint CHECK (priority BETWEEN 0 AND 255),
    expiration_ms    bigint CHECK (expiration_ms >= 0),
    persistent       boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    -- The relay's own:
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    last_error       text,
    parked_at        timestamptz
);

CREATE INDEX IF NOT EXISTS leveret_outbox_waiting ON leveret_outbox (id) WHERE parked_at IS NULL;
CREATE INDEX IF NOT EXISTS leveret_outbox_order ON leveret_outbox (order_key, id)
    WHERE parked_at IS NULL AND order_key IS NOT NULL;

-- Wakes the relays when a transaction commits. Without it they find the rows by polling.
CREATE OR REPLACE FUNCTION leveret_outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY leveret_outbox;
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgname = 'leveret_outbox_wake' AND tgrelid = 'leveret_outbox'::regclass) THEN
        CREATE TRIGGER leveret_outbox_wake AFTER INSERT ON leveret_outbox
            FOR EACH STATEMENT EXECUTE FUNCTION leveret_outbox_wake();
    END IF;
END
$$;
