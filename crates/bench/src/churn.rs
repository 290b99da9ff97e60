//! Things that are made and taken away again as fast as it goes, and connections that are only there.

use crate::Result;
use crate::calls::times;
use crate::connection::Connection;
use crate::crew::finish;
use crate::figure::Figure;
use crate::generator::Busy;
use crate::load::Histogram;
use crate::observe::Phase;
use crate::outcome::{Kind, Latency, Outcome};
use crate::plan::{Churn, Cycle};
use crate::run::{Run, nap};
use crate::stage::Stage;
use crate::target::Target;
use crate::topology::{declare_exchange, declare_queue, delete_exchange};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Before the memory of idle connections is read.
const SETTLE: Duration = Duration::from_secs(1);
/// The channel that comes and goes.
const COMING_AND_GOING: u16 = 2;

pub(crate) fn run(run: &mut Run<'_>, plan: &Churn) -> Result<Outcome> {
    let exchange = format!("{}.exchange", run.prefix);
    let mut control = Connection::connect(run.target)?;
    if plan.cycle == Cycle::Declare {
        declare_exchange(&mut control, &exchange, "direct", true)?;
    }
    let outcome = load(run, plan, &exchange);
    let removed = match plan.cycle {
        Cycle::Declare => delete_exchange(&mut control, &exchange),
        Cycle::Connection | Cycle::Channel => Ok(()),
    };
    let outcome = outcome?;
    removed.and_then(|()| control.close()).map(|()| outcome)
}

/// Opens connections and lets them do nothing: what does one cost?
pub(crate) fn hold(run: &mut Run<'_>, connections: u32) -> Result<Outcome> {
    let memory = |run: &Run<'_>| run.broker.and_then(|broker| broker.resident_mib().ok());
    let before_mib = memory(run);
    let begin = Instant::now();
    let mut held = Vec::new();
    while held.len() < connections as usize && !run.cancel.load(Ordering::Relaxed) {
        held.push(Connection::connect(run.target)?);
    }
    let opening = begin.elapsed().as_secs_f64();
    nap(SETTLE, run.cancel);
    let stage = Stage::new();
    let (_, observed) = times(run.span);
    let seen = run.observer(&stage).observe(Phase::Measuring, observed);
    let after_mib = memory(run);
    let mut figures = vec![Figure::higher("opened", "conn/s", held.len() as f64 / opening)];
    if let (Some(before), Some(after)) = (before_mib, after_mib) {
        figures.push(Figure::lower("broker memory", "MiB", after));
        let each_kib = (after - before) * 1024.0 / held.len().max(1) as f64;
        figures.push(Figure::lower("broker memory per connection", "KiB", each_kib));
    }
    if let Some(cpu_seconds) = seen.broker_cpu_seconds {
        figures.push(Figure::lower("broker CPU, all idle", "ms/s", cpu_seconds * 1e3 / seen.seconds));
    }
    held.into_iter().try_for_each(Connection::close)?;
    Ok(Outcome {
        figures,
        samples: seen.samples,
        latencies: Vec::new(),
        account: None,
        generator: Busy::default(),
        interrupted: run.cancel.load(Ordering::Relaxed),
    })
}

fn load(run: &mut Run<'_>, plan: &Churn, exchange: &str) -> Result<Outcome> {
    let (warm_up, observed) = times(run.span);
    let (target, prefix) = (run.target, run.prefix);
    let stage = &Stage::new();
    let mut observer = run.observer(stage);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections)
            .map(|number| {
                let queue = format!("{prefix}.{number}");
                scope.spawn(move || stage.act(|| cycles(target, plan.cycle, exchange, &queue, stage)))
            })
            .collect();
        observer.observe(Phase::WarmUp, warm_up);
        stage.record();
        let seen = observer.observe(Phase::Measuring, observed);
        stage.end_recording();
        stage.stop();
        let cycles = Latency { kind: Kind::Cycle, histogram: finish(threads)? };
        let mut figures = vec![Figure::higher(plan.cycle.plural(), "1/s", seen.received / seen.seconds)];
        figures.extend(cycles.figures());
        figures.extend(Outcome::broker_figures(&seen, seen.received, "us each"));
        Ok(Outcome {
            figures,
            samples: seen.samples,
            latencies: vec![cycles],
            account: None,
            generator: seen.generator,
            interrupted: observer.is_called_off(),
        })
    })
}

impl Cycle {
    fn plural(self) -> &'static str {
        match self {
            Cycle::Connection => "connections",
            Cycle::Channel => "channels",
            Cycle::Declare => "queues",
        }
    }
}

/// Cycles until stopped; a cycle that has begun is ended, so nothing is left behind.
fn cycles(target: &Target, cycle: Cycle, exchange: &str, queue: &str, stage: &Stage) -> Result<Histogram> {
    let mut latencies = Histogram::default();
    let mut connection = match cycle {
        Cycle::Connection => None,
        Cycle::Channel | Cycle::Declare => Some(Connection::connect(target)?),
    };
    while !stage.counters.stopped() {
        let begin = Instant::now();
        stage.counters.sent.fetch_add(1, Ordering::Relaxed);
        match (cycle, &mut connection) {
            (Cycle::Channel, Some(connection)) => {
                connection.open_channel(COMING_AND_GOING)?;
                connection.close_channel(COMING_AND_GOING)?;
            }
            (Cycle::Declare, Some(connection)) => declare_and_delete(connection, exchange, queue)?,
            _ => Connection::connect(target)?.close()?,
        }
        stage.counters.received.fetch_add(1, Ordering::Relaxed);
        if stage.counters.is_recording() {
            latencies.record(begin.elapsed());
        }
    }
    connection.map_or(Ok(()), Connection::close)?;
    Ok(latencies)
}

fn declare_and_delete(connection: &mut Connection, exchange: &str, queue: &str) -> Result<()> {
    declare_queue(connection, queue, true, &[])?;
    connection.bind_queue(queue.as_bytes(), exchange, queue)?;
    connection.delete_queue(queue)
}
