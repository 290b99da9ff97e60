//! Messages that are confirmed and acknowledged: transient ones, persistent ones whose confirm waits for the disk, one
//! at a time, and in four independent flows at once.

use super::disk;
use super::jetstream;
use super::nats;
use super::one_way::{BODY_BYTES, batch_messages, delete};
use super::pace::Pace;
use super::server::{Peer, Server};
use super::steady::{Seen, Side, latencies, side, timed, watch};
use anyhow::Result;
use leveret_bench::connection::{Acks, Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::flows::{consume, publish_confirmed};
use leveret_bench::load::{Batch, Persistence};

const QUEUE: &str = "bench-confirmed";
pub(super) const WINDOW: usize = 1000;
pub(super) const PREFETCH: u16 = 500;
pub(super) const ACK_EVERY: u64 = 100;
const FLOWS: usize = 4;

/// Memory only: what a confirm costs without a disk.
pub(super) fn transient(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let sides = amqp_flow(server, QUEUE, QueueKind::Transient, WINDOW)?;
    let seen = watch(server, pace.window(), sides)?;
    delete(server, QUEUE)?;
    Ok(figures(&seen))
}

/// One producer with at most `window` unconfirmed, one consumer.
pub(super) fn persistent(server: &Server, pace: Pace, window: usize) -> Result<Vec<Figure>> {
    persistent_flows(server, pace, 1, window)
}

/// The same with nothing in flight beside it, and beside it what the disk itself needs.
pub(super) fn one_at_a_time(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let mut figures = persistent(server, pace, 1)?;
    let window = pace.window();
    let syncs = disk::append_and_sync(&server.directory, BODY_BYTES, window.observed / 4)?;
    figures.push(Figure::lower("fdatasync of this disk p50", "us", syncs.quantile_us(0.5)));
    Ok(figures)
}

/// Four producers, four queues, four consumers.
pub(super) fn parallel(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    persistent_flows(server, pace, FLOWS, WINDOW)
}

fn persistent_flows(server: &Server, pace: Pace, flows: usize, window: usize) -> Result<Vec<Figure>> {
    let queues: Vec<String> = (0..flows).map(|number| format!("{QUEUE}-{number}")).collect();
    let mut sides = Vec::new();
    for queue in &queues {
        sides.extend(match server.peer {
            Peer::Nats | Peer::NatsSync => jetstream_flow(server, queue, window)?,
            Peer::RabbitMqQuorum => amqp_flow(server, queue, QueueKind::Quorum, window)?,
            Peer::RabbitMq | Peer::Relay | Peer::Leveret => {
                amqp_flow(server, queue, QueueKind::Durable, window)?
            }
        });
    }
    let seen = watch(server, pace.window(), sides)?;
    for queue in &queues {
        match server.peer.speaks_amqp() {
            true => delete(server, queue)?,
            false => jetstream::delete(&mut nats::Connection::open(server.address)?, queue)?,
        }
    }
    Ok(figures(&seen))
}

fn amqp_flow<'a>(server: &Server, queue: &str, kind: QueueKind, window: usize) -> Result<Vec<Side<'a>>> {
    let (producer, mut consumer) = (Connection::open(server.address)?, Connection::open(server.address)?);
    consumer.declare_queue(queue, kind)?;
    consumer.consume(queue.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
    let persistence = match kind {
        QueueKind::Durable | QueueKind::Quorum => Persistence::Persistent,
        _ => Persistence::Transient,
    };
    let batch = Batch::new(queue, persistence, BODY_BYTES, batch_messages(BODY_BYTES));
    Ok(vec![
        side(|counters| consume(consumer, Some(ACK_EVERY), u64::MAX, counters)),
        timed(move |counters| publish_confirmed(producer, batch, window, u64::MAX, counters)),
    ])
}

fn jetstream_flow<'a>(server: &Server, stream: &'a str, window: usize) -> Result<Vec<Side<'a>>> {
    let address = server.address;
    let consumer = jetstream::subscribe(address, stream)?;
    jetstream::create(&mut nats::Connection::open(address)?, stream, PREFETCH)?;
    Ok(vec![
        side(|counters| jetstream::consume(consumer, ACK_EVERY, u64::MAX, counters)),
        timed(move |counters| jetstream::publish(address, stream, BODY_BYTES, window, u64::MAX, counters)),
    ])
}

fn figures(seen: &Seen) -> Vec<Figure> {
    let mut figures = vec![seen.sent("confirmed"), seen.received("delivered")];
    figures.extend(latencies(&seen.latencies, ["confirm p50", "confirm p99"]));
    figures.push(seen.cpu());
    figures
}
