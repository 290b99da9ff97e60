//! JetStream, NATS' persistence, in the place of a durable queue: a stream on disk that drops what its one consumer has
//! acknowledged (retention by interest), publishes that are answered when they are stored, deliveries pushed with a
//! limit of unacknowledged ones, and one acknowledgement for all before it.

use super::nats::{Batch, Connection, Event, check_number, number_of, write_publish};
use anyhow::{Result, ensure};
use leveret_bench::flows::Unconfirmed;
use leveret_bench::load::{Counters, Histogram};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A stream of this name takes what is published to the subject of this name.
pub(super) fn create(control: &mut Connection, name: &str, prefetch: u16) -> Result<()> {
    let stream = serde_json::json!({
        "name": name, "subjects": [name], "retention": "interest", "storage": "file", "num_replicas": 1,
    });
    api(control, &format!("STREAM.CREATE.{name}"), &stream)?;
    let consumer = serde_json::json!({
        "stream_name": name,
        "config": {
            "name": name, "durable_name": name, "deliver_subject": deliveries(name), "deliver_policy": "all",
            "ack_policy": "all", "max_ack_pending": prefetch, "replay_policy": "instant",
        },
    });
    api(control, &format!("CONSUMER.CREATE.{name}.{name}"), &consumer)
}

pub(super) fn delete(control: &mut Connection, name: &str) -> Result<()> {
    api(control, &format!("STREAM.DELETE.{name}"), &serde_json::json!({}))
}

/// Where the consumer of a stream sends what it has.
fn deliveries(name: &str) -> String {
    format!("deliver.{name}")
}

fn api(control: &mut Connection, path: &str, body: &serde_json::Value) -> Result<()> {
    let answer = control.ask(&format!("$JS.API.{path}"), &body.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(!answer.contains("\"error\""), "{path}: {answer}");
    Ok(())
}

/// Publishes with at most `window` messages unanswered, until stopped or `limit` are stored. Returns how long answers took.
pub(super) fn publish(
    address: SocketAddr,
    name: &str,
    body_bytes: usize,
    window: usize,
    limit: u64,
    counters: &Counters,
) -> Result<Histogram> {
    let mut connection = Connection::open(address)?;
    let inbox = format!("_INBOX.{name}.{}", std::process::id());
    connection.subscribe(&format!("{inbox}.*"))?;
    let mut batch = Batch::with_replies(name, &inbox, body_bytes, window.min(64));
    let mut unconfirmed = Unconfirmed::new(window);
    let mut latencies = Histogram::default();
    while !counters.stopped() && unconfirmed.confirmed() < limit {
        let count = unconfirmed.room().min(batch.capacity()).min(limit - unconfirmed.published());
        if count > 0 {
            let now = Instant::now();
            if !connection.send(batch.numbered(unconfirmed.published(), count), &counters.stop)? {
                return Ok(latencies);
            }
            unconfirmed.sent(count, now);
        }
        if unconfirmed.room() == 0 || unconfirmed.published() == limit {
            let before = unconfirmed.confirmed();
            let recorded = counters.is_recording().then_some(&mut latencies);
            receive_answers(&mut connection, &mut unconfirmed, recorded)?;
            counters.sent.fetch_add(unconfirmed.confirmed() - before, Ordering::Relaxed);
        }
    }
    Ok(latencies)
}

fn receive_answers(
    connection: &mut Connection,
    unconfirmed: &mut Unconfirmed,
    mut latencies: Option<&mut Histogram>,
) -> Result<()> {
    connection.fill_patiently()?;
    let now = Instant::now();
    while let Some(event) = connection.next()? {
        let Event::Message(message) = event else { continue };
        // {"stream":"…","seq":1}, or {"error":…
        ensure!(message.body.starts_with(b"{\"stream\""), "{}", String::from_utf8_lossy(message.body));
        unconfirmed.confirm(number_of(message.subject)? + 1, false, |sent| {
            if let Some(latencies) = &mut latencies {
                latencies.record(now - sent);
            }
        })?;
    }
    Ok(())
}

/// The connection that gets what the stream's consumer has.
pub(super) fn subscribe(address: SocketAddr, name: &str) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    connection.subscribe(&deliveries(name))?;
    Ok(connection)
}

/// Consumes until stopped or `limit` messages came, acknowledging after each `ack_every`. Any gap in the numbers
/// is an error.
pub(super) fn consume(
    mut connection: Connection,
    ack_every: u64,
    limit: u64,
    counters: &Counters,
) -> Result<()> {
    let (mut count, mut acked) = (0, 0);
    let (mut last_reply, mut out) = (Vec::new(), Vec::new());
    while count < limit && !counters.stopped() {
        connection.fill_patiently()?;
        let before = count;
        while let Some(event) = connection.next()? {
            if let Event::Message(message) = event {
                check_number(&message, count)?;
                count += 1;
                last_reply.clear();
                last_reply.extend(message.reply_to);
            }
        }
        counters.received.fetch_add(count - before, Ordering::Relaxed);
        if count - acked >= ack_every || count == limit {
            out.clear();
            write_publish(&mut out, &last_reply, b"");
            connection.send(&out, &counters.stop)?;
            acked = count;
        }
    }
    Ok(())
}
