//! What is measured, the same on every peer. Sizes and windows are constants here and printed with the results.

use super::server::{Peer, Server};
use super::stream;
use super::toolkit;
use anyhow::{Context, Result, anyhow, bail};
use leveret_bench::connection::{Acks, Connection, QueueKind};
use leveret_bench::flows::{consume, publish, publish_confirmed};
use leveret_bench::load::{Batch, Counters, Histogram, Observation, Persistence, Window, observe};
use leveret_bench::rpc;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

const QUEUE: &str = "bench";
const BODY_BYTES: usize = 1024;
/// Messages encoded at once: 64 KiB and a little, what a socket takes.
const BATCH_MESSAGES: usize = 64;
const CONFIRM_WINDOW: usize = 1000;
const PREFETCH: u16 = 500;
const ACK_EVERY: u64 = 100;
const WORKER_IN_FLIGHT: u32 = 128;
const BACKLOG_MESSAGES: u64 = 500_000;
const BACKLOG_MESSAGES_QUICK: u64 = 100_000;
/// Before memory is read: for a garbage collector to have had its turn.
const SETTLE: Duration = Duration::from_secs(5);
const WAKEUPS_OBSERVED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    Throughput,
    Durable,
    Rpc64,
    Rpc1,
    Toolkit64,
    Toolkit1,
    Worker,
    Recipe,
    Backlog,
    Stream,
    Idle,
}

impl Workload {
    pub(super) const ALL: [Workload; 11] = [
        Workload::Throughput,
        Workload::Durable,
        Workload::Rpc64,
        Workload::Rpc1,
        Workload::Toolkit64,
        Workload::Toolkit1,
        Workload::Worker,
        Workload::Recipe,
        Workload::Backlog,
        Workload::Stream,
        Workload::Idle,
    ];

    pub(super) fn parse(name: &str) -> Result<Workload> {
        let found = Workload::ALL.into_iter().find(|workload| workload.name() == name);
        let names = Workload::ALL.map(Workload::name).join(", ");
        found.ok_or_else(|| anyhow!("unknown workload `{name}`: {names}"))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::Throughput => "throughput",
            Workload::Durable => "durable",
            Workload::Rpc64 => "rpc-64",
            Workload::Rpc1 => "rpc-1",
            Workload::Toolkit64 => "toolkit-64",
            Workload::Toolkit1 => "toolkit-1",
            Workload::Worker => "worker",
            Workload::Recipe => "recipe",
            Workload::Backlog => "backlog",
            Workload::Stream => "stream",
            Workload::Idle => "idle",
        }
    }

    pub(super) fn about(self) -> String {
        match self {
            Workload::Throughput => {
                format!("{BODY_BYTES}-byte transient messages, one producer, one consumer without acks")
            }
            Workload::Durable => format!(
                "{BODY_BYTES}-byte persistent messages, durable queue, confirms (window {CONFIRM_WINDOW}), \
                 consumer acks every {ACK_EVERY} (prefetch {PREFETCH})"
            ),
            Workload::Rpc64 => {
                format!("{}-byte calls, 64 in flight, exclusive reply queue, one responder", rpc::BODY_BYTES)
            }
            Workload::Rpc1 => format!("{}-byte calls, one at a time", rpc::BODY_BYTES),
            Workload::Toolkit64 => {
                "the same calls through the toolkit, caller and worker, 64 in flight".to_owned()
            }
            Workload::Toolkit1 => "the same calls through the toolkit, one at a time".to_owned(),
            Workload::Worker => {
                format!("a worker of the toolkit, asked by bare frames, {WORKER_IN_FLIGHT} in flight")
            }
            Workload::Recipe => {
                "JSON, a durable request queue, three workers, a response queue per question, one at a \
                                 time (the recipe's own page speaks of 30 messages/s)"
                    .to_owned()
            }
            Workload::Backlog => format!(
                "{BACKLOG_MESSAGES} persistent {BODY_BYTES}-byte messages confirmed and left waiting, then drained \
                 (--quick: {BACKLOG_MESSAGES_QUICK})"
            ),
            Workload::Stream => format!(
                "{} {}-byte messages in a stream, {} readers at once from different offsets, alone and beside a \
                 queue at full speed (--quick: {})",
                stream::MESSAGES,
                stream::BODY_BYTES,
                stream::READERS,
                stream::MESSAGES_QUICK
            ),
            Workload::Idle => "a fresh server that nobody uses".to_owned(),
        }
    }

    /// Memory is that of a process that has done nothing else.
    pub(super) fn needs_fresh_server(self) -> bool {
        matches!(self, Workload::Backlog | Workload::Stream | Workload::Idle)
    }

    /// A relay keeps nothing that could wait, and declares nothing.
    pub(super) fn runs_on(self, peer: Peer) -> bool {
        let needs_a_broker = matches!(
            self,
            Workload::Backlog
                | Workload::Stream
                | Workload::Toolkit64
                | Workload::Toolkit1
                | Workload::Worker
                | Workload::Recipe
        );
        !(needs_a_broker && peer == Peer::Relay)
    }

    pub(super) fn run(self, server: &Server, pace: Pace) -> Result<Vec<Metric>> {
        self.load(server, pace).with_context(|| server.last_words())
    }

    fn load(self, server: &Server, pace: Pace) -> Result<Vec<Metric>> {
        match self {
            Workload::Throughput => throughput(server, pace.window()),
            Workload::Durable => durable(server, pace.window()),
            Workload::Rpc64 => calls(server, pace.window(), 64),
            Workload::Rpc1 => calls(server, pace.window(), 1),
            Workload::Toolkit64 => toolkit_calls(server, pace.window(), 64),
            Workload::Toolkit1 => toolkit_calls(server, pace.window(), 1),
            Workload::Worker => worker(server, pace.window()),
            Workload::Recipe => recipe(server, pace.window()),
            Workload::Backlog => backlog(server, pace),
            Workload::Stream => stream::run(server, pace),
            Workload::Idle => idle(server),
        }
    }

    pub(super) fn run_on_fresh(self, peer: Peer, scratch: &Path, pace: Pace) -> Result<Vec<Metric>> {
        self.run(&Server::start(peer, scratch)?, pace)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Full,
    Quick,
}

impl Pace {
    fn window(self) -> Window {
        let (warm_up, observed) = match self {
            Pace::Full => (1500, 5000),
            Pace::Quick => (500, 1500),
        };
        Window { warm_up: Duration::from_millis(warm_up), observed: Duration::from_millis(observed) }
    }
}

/// One number of one run.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

impl Metric {
    pub(super) fn higher(name: &'static str, unit: &'static str, value: f64) -> Metric {
        Metric { name, unit, better: Better::Higher, value }
    }

    pub(super) fn lower(name: &'static str, unit: &'static str, value: f64) -> Metric {
        Metric { name, unit, better: Better::Lower, value }
    }
}

fn throughput(server: &Server, window: Window) -> Result<Vec<Metric>> {
    let (mut control, producer) = (Connection::open(server.address)?, Connection::open(server.address)?);
    let mut consumer = Connection::open(server.address)?;
    control.declare_queue(QUEUE, QueueKind::Transient)?;
    consumer.consume(QUEUE.as_bytes(), Acks::None)?;
    let batch = Batch::new(QUEUE, Persistence::Transient, BODY_BYTES, BATCH_MESSAGES);
    let counters = Counters::default();
    let seen = thread::scope(|scope| {
        let producing = scope.spawn(|| counters.run(|| publish(producer, batch, &counters)));
        let consuming = scope.spawn(|| counters.run(|| consume(consumer, None, u64::MAX, &counters)));
        let seen = observe(server.process, window, &counters);
        joined(producing)?;
        joined(consuming)?;
        anyhow::Ok(seen?)
    })?;
    control.delete_queue(QUEUE)?;
    control.close()?;
    Ok(vec![
        Metric::higher("delivered", "msg/s", seen.received / seen.seconds),
        Metric::higher("published", "msg/s", seen.sent / seen.seconds),
        Metric::lower("server CPU", "us/msg", seen.server_cpu_seconds * 1e6 / seen.received),
    ])
}

fn durable(server: &Server, window: Window) -> Result<Vec<Metric>> {
    let (mut control, producer) = (Connection::open(server.address)?, Connection::open(server.address)?);
    let mut consumer = Connection::open(server.address)?;
    control.declare_queue(QUEUE, QueueKind::Durable)?;
    consumer.consume(QUEUE.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
    let batch = Batch::new(QUEUE, Persistence::Persistent, BODY_BYTES, BATCH_MESSAGES);
    let counters = Counters::default();
    let (seen, confirms) = thread::scope(|scope| {
        let producing = scope.spawn(|| {
            counters.run(|| publish_confirmed(producer, batch, CONFIRM_WINDOW, u64::MAX, &counters))
        });
        let consuming =
            scope.spawn(|| counters.run(|| consume(consumer, Some(ACK_EVERY), u64::MAX, &counters)));
        let seen = observe(server.process, window, &counters);
        let confirms = joined(producing)?;
        joined(consuming)?;
        anyhow::Ok((seen?, confirms))
    })?;
    control.delete_queue(QUEUE)?;
    control.close()?;
    let mut metrics = vec![
        Metric::higher("confirmed", "msg/s", seen.sent / seen.seconds),
        Metric::higher("delivered", "msg/s", seen.received / seen.seconds),
    ];
    metrics.extend(latencies(&confirms, ["confirm p50", "confirm p99"]));
    metrics.push(Metric::lower("server CPU", "us/msg", seen.server_cpu_seconds * 1e6 / seen.sent));
    Ok(metrics)
}

fn calls(server: &Server, window: Window, in_flight: u32) -> Result<Vec<Metric>> {
    let mut control = Connection::open(server.address)?;
    control.declare_queue(QUEUE, QueueKind::Transient)?;
    let mut responder = Connection::open(server.address)?;
    responder.consume(QUEUE.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
    let requester = Connection::open(server.address)?;
    let counters = Counters::default();
    let (seen, answers) = thread::scope(|scope| {
        let responding = scope.spawn(|| counters.run(|| rpc::respond(responder, &counters)));
        let requesting =
            scope.spawn(|| counters.run(|| rpc::request(requester, QUEUE, in_flight, &counters)));
        let seen = observe(server.process, window, &counters);
        joined(responding)?;
        anyhow::Ok((seen?, joined(requesting)?))
    })?;
    control.delete_queue(QUEUE)?;
    control.close()?;
    Ok(call_metrics(&seen, &answers))
}

fn toolkit_calls(server: &Server, window: Window, in_flight: u32) -> Result<Vec<Metric>> {
    let url = server.url();
    let workers = toolkit::Workers::echo(&url)?;
    toolkit_load(server, window, workers, |counters| toolkit::call(&url, in_flight, counters))
}

fn worker(server: &Server, window: Window) -> Result<Vec<Metric>> {
    let workers = toolkit::Workers::echo(&server.url())?;
    let requester = Connection::open(server.address)?;
    toolkit_load(server, window, workers, |counters| {
        toolkit::ask_worker(requester, WORKER_IN_FLIGHT, counters)
    })
}

fn recipe(server: &Server, window: Window) -> Result<Vec<Metric>> {
    let url = server.url();
    let workers = toolkit::recipe_workers(&url)?;
    toolkit_load(server, window, workers, |counters| toolkit::ask_by_recipe(&url, counters))
}

/// Observes whoever asks workers of the toolkit.
fn toolkit_load(
    server: &Server,
    window: Window,
    workers: toolkit::Workers,
    ask: impl FnOnce(&Arc<Counters>) -> Result<Histogram> + Send,
) -> Result<Vec<Metric>> {
    let counters = Arc::new(Counters::default());
    let (seen, answers) = thread::scope(|scope| {
        let asking = scope.spawn(|| counters.run(|| ask(&counters)));
        let seen = observe(server.process, window, &counters);
        anyhow::Ok((seen?, joined(asking)?))
    })?;
    workers.stop()?;
    let mut control = Connection::open(server.address)?;
    toolkit::clear(&mut control)?;
    control.close()?;
    Ok(call_metrics(&seen, &answers))
}

fn call_metrics(seen: &Observation, answers: &Histogram) -> Vec<Metric> {
    let mut metrics = vec![Metric::higher("calls", "call/s", seen.received / seen.seconds)];
    metrics.extend(latencies(answers, ["p50", "p99"]));
    metrics.push(Metric::lower("server CPU", "us/call", seen.server_cpu_seconds * 1e6 / seen.received));
    metrics
}

fn backlog(server: &Server, pace: Pace) -> Result<Vec<Metric>> {
    let messages = if pace == Pace::Quick { BACKLOG_MESSAGES_QUICK } else { BACKLOG_MESSAGES };
    let mut control = Connection::open(server.address)?;
    control.declare_queue(QUEUE, QueueKind::Durable)?;
    let producer = Connection::open(server.address)?;
    let batch = Batch::new(QUEUE, Persistence::Persistent, BODY_BYTES, BATCH_MESSAGES);
    let counters = Counters::default();
    let begin = Instant::now();
    publish_confirmed(producer, batch, CONFIRM_WINDOW, messages, &counters)?;
    let publishing = begin.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let waiting_mib = server.process.resident_mib()?;

    let mut consumer = Connection::open(server.address)?;
    let begin = Instant::now();
    consumer.consume(QUEUE.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
    consume(consumer, Some(ACK_EVERY), messages, &counters)?;
    let draining = begin.elapsed().as_secs_f64();
    let received = counters.received.load(Ordering::Relaxed);
    if received != messages {
        bail!("{received} of {messages} messages came back");
    }
    control.delete_queue(QUEUE)?;
    control.close()?;
    thread::sleep(SETTLE);
    Ok(vec![
        Metric::higher("confirmed", "msg/s", messages as f64 / publishing),
        Metric::lower("RSS, all waiting", "MiB", waiting_mib),
        Metric::higher("drained", "msg/s", messages as f64 / draining),
        Metric::lower("RSS, drained", "MiB", server.process.resident_mib()?),
    ])
}

fn idle(server: &Server) -> Result<Vec<Metric>> {
    thread::sleep(SETTLE);
    let cpu_before = server.process.cpu_seconds()?;
    let wakeups = server.process.wakeups_per_second(WAKEUPS_OBSERVED)?;
    let cpu_seconds = server.process.cpu_seconds()? - cpu_before;
    Ok(vec![
        Metric::lower("start to first connection", "ms", server.start_time.as_secs_f64() * 1e3),
        Metric::lower("RSS", "MiB", server.process.resident_mib()?),
        Metric::lower("wake-ups", "1/s", wakeups),
        Metric::lower("CPU", "ms/s", cpu_seconds * 1e3 / WAKEUPS_OBSERVED.as_secs_f64()),
    ])
}

fn latencies(histogram: &Histogram, names: [&'static str; 2]) -> [Metric; 2] {
    let [p50, p99] = names;
    [
        Metric::lower(p50, "us", histogram.quantile_us(0.5)),
        Metric::lower(p99, "us", histogram.quantile_us(0.99)),
    ]
}

pub(super) fn joined<T, E: Into<anyhow::Error>>(
    thread: thread::ScopedJoinHandle<'_, std::result::Result<T, E>>,
) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a load thread panicked"))?.map_err(Into::into)
}
