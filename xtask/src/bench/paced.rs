//! Messages at a fixed rate, far below what anybody can carry: how long each is under way. Its time counts from when it
//! was to be sent, not from when it was sent: a stall of the broker that holds the producer up is not hidden.

use super::confirmed::PREFETCH;
use super::nats;
use super::one_way::BODY_BYTES;
use super::pace::Pace;
use super::server::{Peer, Server};
use super::steady::{latencies, side, timed, watch};
use anyhow::{Context, Result, ensure};
use leveret_bench::figure::Figure;
use leveret_bench::load::{Counters, Histogram};
use leveret_bench::outcome::Kind;
use leveret_bench::pacer::{PACED_BURST, Pacer, wake_punctually};
use leveret_bench::plan::{Flow, Plan, Settle, Span};
use leveret_bench::{Run, Target};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SUBJECT: &str = "bench.paced";
const PER_SECOND: f64 = 10_000.0;
const ACK_EVERY: u16 = 10;

/// One producer, one consumer that acknowledges (NATS: there is nothing to acknowledge).
pub(super) fn latency(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    match server.peer {
        Peer::Nats | Peer::NatsSync => subject(server, pace),
        Peer::RabbitMq | Peer::RabbitMqQuorum | Peer::Leveret | Peer::Relay => queue(server, pace),
    }
}

fn queue(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let window = pace.window();
    let run = Run {
        target: &Target::guest(server.address),
        broker: Some(server.process),
        prefix: "bench-paced",
        span: Span::Time { warm_up: window.warm_up, observed: window.observed },
        cancel: &AtomicBool::new(false),
        watch: &mut |_| {},
    };
    let outcome = run.execute(&Plan::Flow(Flow {
        rate: Some(PER_SECOND),
        sizes_bytes: vec![BODY_BYTES],
        settle: Settle::Every { messages: ACK_EVERY, prefetch: PREFETCH },
        ..Flow::default()
    }))?;
    let account = outcome.account.context("messages without an account")?;
    ensure!(account.is_clean(), "messages were lost, doubled or out of order");
    let end_to_end = outcome.latencies.iter().find(|latency| latency.kind == Kind::EndToEnd);
    let end_to_end = end_to_end.context("messages without latencies")?;
    let measured =
        |name| outcome.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
    let mut figures = Vec::from(latencies(&end_to_end.histogram, ["p50", "p99"]));
    figures.extend(measured("delivered").map(|rate| Figure::higher("delivered", "msg/s", rate)));
    figures.extend(measured("broker CPU").map(|cpu_us| Figure::lower("server CPU", "us/msg", cpu_us)));
    Ok(figures)
}

/// The same for NATS. A message's number says when it was to be sent.
fn subject(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let (producer, mut consumer) =
        (nats::Connection::open(server.address)?, nats::Connection::open(server.address)?);
    consumer.subscribe(SUBJECT)?;
    let (epoch, pacer) = (Instant::now(), Pacer::new(PER_SECOND, 0, 0.0));
    let sides = vec![
        timed(move |counters| receive(consumer, epoch, pacer, counters)),
        side(move |counters| send(producer, epoch, pacer, counters)),
    ];
    let seen = watch(server, pace.window(), sides)?;
    let mut figures = Vec::from(latencies(&seen.latencies, ["p50", "p99"]));
    figures.extend([seen.received("delivered"), seen.cpu()]);
    Ok(figures)
}

fn send(mut producer: nats::Connection, epoch: Instant, mut pacer: Pacer, counters: &Counters) -> Result<()> {
    wake_punctually();
    let mut batch = nats::Batch::new(SUBJECT, BODY_BYTES, PACED_BURST as usize);
    let mut number = 0;
    while !counters.stopped() {
        let now_ns = epoch.elapsed().as_nanos() as u64;
        let count = pacer.due(now_ns).min(PACED_BURST);
        if count == 0 {
            thread::sleep(pacer.wait(now_ns));
            continue;
        }
        for _ in 0..count {
            pacer.take();
        }
        if !producer.send(batch.numbered(number, count), &counters.stop)? {
            return Ok(());
        }
        number += count;
        counters.sent.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}

/// Any gap in the numbers is an error.
fn receive(
    mut consumer: nats::Connection,
    epoch: Instant,
    pacer: Pacer,
    counters: &Counters,
) -> Result<Histogram> {
    wake_punctually();
    let mut latencies = Histogram::default();
    let mut wanted = 0;
    while !counters.stopped() {
        consumer.fill_patiently()?;
        let now_ns = epoch.elapsed().as_nanos() as u64;
        let before = wanted;
        while let Some(event) = consumer.next()? {
            let nats::Event::Message(message) = event else { continue };
            nats::check_number(&message, wanted)?;
            if counters.is_recording() {
                latencies.record(Duration::from_nanos(now_ns.saturating_sub(pacer.intended_ns(wanted))));
            }
            wanted += 1;
        }
        counters.received.fetch_add(wanted - before, Ordering::Relaxed);
    }
    Ok(latencies)
}
