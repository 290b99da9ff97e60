//! A stream: filled once, then read by several connections at once, each from its own offset. Then the same beside a
//! queue that carries messages at full speed, which shows what each costs the other.

use super::pace::Pace;
use super::server::Server;
use super::steady::joined;
use anyhow::{Result, ensure};
use leveret_bench::connection::{Acks, Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::flows::{consume, consume_from, publish, publish_confirmed};
use leveret_bench::load::{Batch, Counters, Persistence};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

const STREAM: &str = "bench.stream";
const QUEUE: &str = "bench.beside";
const BODY_BYTES: usize = 128;
const READERS: u64 = 10;
const BATCH_MESSAGES: usize = 256;
const CONFIRM_WINDOW: usize = 5000;
const PREFETCH: u16 = 1000;
const ACK_EVERY: u64 = 200;
/// Before it is read: for the log to have settled.
const SETTLE: Duration = Duration::from_secs(3);

/// Fills the stream, reads it alone, reads it beside a queue.
pub(super) fn run(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let messages = pace.count(1_000_000, 200_000);
    let mut control = Connection::open(server.address)?;
    control.declare_queue(STREAM, QueueKind::Stream)?;
    let counters = Counters::default();
    let batch = Batch::new(STREAM, Persistence::Persistent, BODY_BYTES, BATCH_MESSAGES);
    let begin = Instant::now();
    publish_confirmed(Connection::open(server.address)?, batch, CONFIRM_WINDOW, messages, &counters)?;
    let publishing = begin.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let cpu_before = server.process.cpu_seconds()?;
    let (read, alone) = read_all(server, messages)?;
    let cpu_seconds = server.process.cpu_seconds()? - cpu_before;
    let resident_mib = server.process.resident_mib()?;
    let (beside, carried) = read_beside_a_queue(server, &mut control, messages)?;
    control.delete_queue(STREAM)?;
    control.close()?;
    Ok(vec![
        Figure::higher("confirmed", "msg/s", messages as f64 / publishing),
        Figure::higher("read together", "msg/s", read as f64 / alone),
        Figure::lower("server CPU", "us/msg", cpu_seconds * 1e6 / read as f64),
        Figure::lower("RSS", "MiB", resident_mib),
        Figure::higher("read beside a queue", "msg/s", read as f64 / beside),
        Figure::higher("through the queue", "msg/s", carried as f64 / beside),
    ])
}

/// Answers how many messages came and how many seconds the slowest reader took.
fn read_all(server: &Server, messages: u64) -> Result<(u64, f64)> {
    let counters = Counters::default();
    let mut readers = Vec::new();
    for number in 0..READERS {
        readers.push((Connection::open(server.address)?, number * messages / (2 * READERS)));
    }
    let begin = Instant::now();
    thread::scope(|scope| {
        let counters = &counters;
        let reading: Vec<_> = readers
            .into_iter()
            .map(|(mut connection, first)| {
                scope.spawn(move || {
                    connection.consume_stream(STREAM, first, PREFETCH)?;
                    consume_from(connection, first, Some(ACK_EVERY), messages - first, counters)
                })
            })
            .collect();
        reading.into_iter().try_for_each(joined)
    })?;
    let read = counters.received.load(Ordering::Relaxed);
    let wanted: u64 = (0..READERS).map(|number| messages - number * messages / (2 * READERS)).sum();
    ensure!(read == wanted, "{read} of {wanted} messages came");
    Ok((read, begin.elapsed().as_secs_f64()))
}

/// Answers how many seconds reading took, and what the queue carried meanwhile.
fn read_beside_a_queue(server: &Server, control: &mut Connection, messages: u64) -> Result<(f64, u64)> {
    control.declare_queue(QUEUE, QueueKind::Transient)?;
    let (producer, mut consumer) = (Connection::open(server.address)?, Connection::open(server.address)?);
    consumer.consume(QUEUE.as_bytes(), Acks::None)?;
    let batch = Batch::new(QUEUE, Persistence::Transient, BODY_BYTES, BATCH_MESSAGES);
    let counters = Counters::default();
    let seconds = thread::scope(|scope| {
        let producing = scope.spawn(|| counters.run(|| publish(producer, batch, &counters)));
        let consuming = scope.spawn(|| counters.run(|| consume(consumer, None, u64::MAX, &counters)));
        let read = read_all(server, messages);
        counters.stop.store(true, Ordering::Relaxed);
        joined(producing)?;
        joined(consuming)?;
        read.map(|(_, seconds)| seconds)
    })?;
    control.delete_queue(QUEUE)?;
    Ok((seconds, counters.received.load(Ordering::Relaxed)))
}
