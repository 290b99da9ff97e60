//! Messages at a fixed rate, far below what anybody can carry: how long each is under way. Its time counts from when it
//! was to be sent, not from when it was sent: a stall of the broker that holds the producer up is not hidden.

use super::confirmed::PREFETCH;
use super::one_way::BODY_BYTES;
use super::pace::Pace;
use super::server::Server;
use super::steady::latencies;
use anyhow::{Context, Result, ensure};
use leveret_bench::figure::Figure;
use leveret_bench::outcome::Kind;
use leveret_bench::plan::{Flow, Plan, Settle, Span};
use leveret_bench::{Run, Target};
use std::sync::atomic::AtomicBool;

const PER_SECOND: f64 = 10_000.0;
const ACK_EVERY: u16 = 10;

/// One producer, one consumer that acknowledges.
pub(super) fn latency(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
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
