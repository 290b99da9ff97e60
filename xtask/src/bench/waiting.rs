//! What costs memory while nothing happens: a server that nobody uses, connections that are idle, messages that wait;
//! and how long a restart takes with all that.

use super::confirmed::{ACK_EVERY, PREFETCH, WINDOW};
use super::jetstream;
use super::nats;
use super::one_way::{BODY_BYTES, batch_messages};
use super::pace::Pace;
use super::server::{Ending, Server};
use anyhow::{Result, ensure};
use leveret_bench::connection::{Acks, Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::flows::{consume, publish_confirmed};
use leveret_bench::load::{Batch, Counters, Persistence};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

const QUEUE: &str = "bench-waiting";
const SMALL_BODY_BYTES: usize = 128;
const SMALL_WINDOW: usize = 5000;
/// Before memory is read: for a garbage collector to have had its turn.
const SETTLE: Duration = Duration::from_secs(5);
const WAKEUPS_OBSERVED: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 1000;
/// Messages read back after a restart.
const SAMPLE: u64 = 1000;

pub(super) fn idle(server: &Server) -> Result<Vec<Figure>> {
    thread::sleep(SETTLE);
    let cpu_before = server.process.cpu_seconds()?;
    let wakeups = server.process.wakeups_per_second(WAKEUPS_OBSERVED)?;
    let cpu_seconds = server.process.cpu_seconds()? - cpu_before;
    Ok(vec![
        Figure::lower("start to first connection", "ms", server.start_time.as_secs_f64() * 1e3),
        Figure::lower("RSS", "MiB", server.process.resident_mib()?),
        Figure::lower("wake-ups", "1/s", wakeups),
        Figure::lower("CPU", "ms/s", cpu_seconds * 1e3 / WAKEUPS_OBSERVED.as_secs_f64()),
    ])
}

/// A thousand connections, each with a channel, a queue and a consumer (NATS: a subscription), doing nothing.
pub(super) fn connections(server: &Server) -> Result<Vec<Figure>> {
    thread::sleep(SETTLE);
    let before_mib = server.process.resident_mib()?;
    let (mut amqp, mut others) = (Vec::new(), Vec::new());
    for number in 0..CONNECTIONS {
        if server.peer.speaks_amqp() {
            let mut connection = Connection::open(server.address)?;
            let queue = connection.declare_queue("", QueueKind::Exclusive)?;
            connection.consume(&queue, Acks::Manual { prefetch: 1 })?;
            amqp.push(connection);
        } else {
            let mut connection = nats::Connection::open(server.address)?;
            connection.subscribe(&format!("bench.{number}"))?;
            others.push(connection);
        }
    }
    thread::sleep(SETTLE);
    let with_mib = server.process.resident_mib()?;
    amqp.into_iter().try_for_each(Connection::close)?;
    Ok(vec![
        Figure::lower("per connection", "KiB", (with_mib - before_mib) * 1024.0 / CONNECTIONS as f64),
        Figure::lower("RSS", "MiB", with_mib),
    ])
}

/// Persistent messages confirmed and left waiting, then drained.
pub(super) fn backlog(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let messages = pace.count(500_000, 100_000);
    let speaks_amqp = server.peer.speaks_amqp();
    let publishing = match speaks_amqp {
        true => fill(server, BODY_BYTES, WINDOW, messages)?,
        false => fill_stream(server, messages)?,
    };
    thread::sleep(SETTLE);
    let waiting_mib = server.process.resident_mib()?;
    let draining = match speaks_amqp {
        true => drain(server, messages)?,
        false => drain_stream(server, messages)?,
    };
    thread::sleep(SETTLE);
    Ok(vec![
        Figure::higher("confirmed", "msg/s", messages as f64 / publishing),
        Figure::lower("RSS, all waiting", "MiB", waiting_mib),
        Figure::higher("drained", "msg/s", messages as f64 / draining),
        Figure::lower("RSS, drained", "MiB", server.process.resident_mib()?),
    ])
}

/// Ten times as many small ones: memory after a tenth and after all, then a restart that was asked for and one that was not.
pub(super) fn restart(server: &mut Server, pace: Pace) -> Result<Vec<Figure>> {
    let messages = pace.count(10_000_000, 1_000_000);
    let first = fill(server, SMALL_BODY_BYTES, SMALL_WINDOW, messages / 10)?;
    thread::sleep(SETTLE);
    let tenth_mib = server.process.resident_mib()?;
    let rest = fill(server, SMALL_BODY_BYTES, SMALL_WINDOW, messages - messages / 10)?;
    thread::sleep(SETTLE);
    let all_mib = server.process.resident_mib()?;
    let asked = server.restart(Ending::Asked)?;
    expect_waiting(server, messages)?;
    let killed = server.restart(Ending::Killed)?;
    expect_waiting(server, messages)?;
    let sampling = sample(server)?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(vec![
        Figure::higher("confirmed", "msg/s", messages as f64 / (first + rest)),
        Figure::lower("RSS, a tenth waiting", "MiB", tenth_mib),
        Figure::lower("RSS, all waiting", "MiB", all_mib),
        Figure::lower("ready after a stop", "ms", ms(asked)),
        Figure::lower("ready after a kill", "ms", ms(killed)),
        Figure::lower("then 1,000 messages", "ms", ms(sampling)),
        Figure::lower("RSS after the restart", "MiB", server.process.resident_mib()?),
    ])
}

fn expect_waiting(server: &Server, messages: u64) -> Result<()> {
    let mut control = Connection::open(server.address)?;
    let waiting = u64::from(control.waiting(QUEUE)?);
    ensure!(waiting == messages, "{waiting} of {messages} messages wait");
    Ok(control.close()?)
}

/// Seconds that publishing took.
fn fill(server: &Server, body_bytes: usize, window: usize, messages: u64) -> Result<f64> {
    let mut producer = Connection::open(server.address)?;
    producer.declare_queue(QUEUE, QueueKind::Durable)?;
    let batch = Batch::new(QUEUE, Persistence::Persistent, body_bytes, batch_messages(body_bytes));
    let begin = Instant::now();
    publish_confirmed(producer, batch, window, messages, &Counters::default())?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Seconds until all had come back.
fn drain(server: &Server, messages: u64) -> Result<f64> {
    let (received, took) = read_back(server, messages)?;
    all_came(received, messages)?;
    Ok(took.as_secs_f64())
}

/// Until the first ones had come back; what one read brings may be more of them.
fn sample(server: &Server) -> Result<Duration> {
    let (received, took) = read_back(server, SAMPLE)?;
    ensure!(received >= SAMPLE, "{received} of {SAMPLE} messages came back");
    Ok(took)
}

fn read_back(server: &Server, messages: u64) -> Result<(u64, Duration)> {
    let mut consumer = Connection::open(server.address)?;
    let (counters, begin) = (Counters::default(), Instant::now());
    consumer.consume(QUEUE.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
    consume(consumer, Some(ACK_EVERY), messages, &counters)?;
    Ok((counters.received.load(Ordering::Relaxed), begin.elapsed()))
}

fn fill_stream(server: &Server, messages: u64) -> Result<f64> {
    jetstream::create(&mut nats::Connection::open(server.address)?, QUEUE, PREFETCH)?;
    let begin = Instant::now();
    jetstream::publish(server.address, QUEUE, BODY_BYTES, WINDOW, messages, &Counters::default())?;
    Ok(begin.elapsed().as_secs_f64())
}

fn drain_stream(server: &Server, messages: u64) -> Result<f64> {
    let (counters, begin) = (Counters::default(), Instant::now());
    let consumer = jetstream::subscribe(server.address, QUEUE)?;
    jetstream::consume(consumer, ACK_EVERY, messages, &counters)?;
    all_came(counters.received.load(Ordering::Relaxed), messages)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn all_came(received: u64, messages: u64) -> Result<()> {
    ensure!(received == messages, "{received} of {messages} messages came back");
    Ok(())
}
