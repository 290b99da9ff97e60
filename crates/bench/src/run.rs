//! Runs a plan against a broker: checks it, declares what it needs, lets it happen, deletes what was declared.

use crate::Result;
use crate::calls;
use crate::churn;
use crate::crew::{consumers, copies, finish, producers, start_consumers, start_producers};
use crate::figure::Figure;
use crate::observe::{Observation, Observer, Phase, Sample};
use crate::outcome::{Account, Kind, Latency, Outcome};
use crate::plan::{Flow, Plan, Span};
use crate::process::Process;
use crate::stage::Stage;
use crate::target::Target;
use crate::topology::Topology;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// After the producers have ended: what has not come then is still waiting somewhere.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Nothing came for so long: nothing more will.
const QUIET_MAX: Duration = Duration::from_secs(5);
/// The same while a counted load runs, where a broker may stop to breathe.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Before the memory of a filled broker is read: for a garbage collector to have had its turn.
const SETTLE: Duration = Duration::from_secs(2);
const SAMPLED_EVERY: Duration = Duration::from_millis(500);

/// Where and how long a plan is run, and who watches.
pub struct Run<'a> {
    /// The broker.
    pub target: &'a Target,
    /// Its process, if CPU time and memory are to be measured.
    pub broker: Option<Process>,
    /// What every name that is declared begins with. Nobody else should use it; at most 200 octets.
    pub prefix: &'a str,
    /// How long.
    pub span: Span,
    /// Set by whoever has seen enough: the load ends early, and cleans up.
    pub cancel: &'a AtomicBool,
    /// Told about each sample while the load runs, in the thread that called.
    pub watch: &'a mut dyn FnMut(Sample),
}

impl Run<'_> {
    /// Runs the plan to its end. What was declared is deleted then, also after an error.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) before anything is done; otherwise the broker or the socket, see
    /// [`Error`](crate::Error). That messages are lost is no error but a part of the outcome.
    pub fn execute(mut self, plan: &Plan) -> Result<Outcome> {
        plan.check(self.span)?;
        match plan {
            Plan::Flow(flow) => self.on_topology(flow, Run::flow),
            Plan::Backlog(flow) => self.on_topology(flow, Run::backlog),
            Plan::Calls(plan) => calls::run(&mut self, plan),
            Plan::Churn(plan) => churn::run(&mut self, plan),
            Plan::Hold { connections } => churn::hold(&mut self, *connections),
        }
    }

    pub(crate) fn observer<'b>(&'b mut self, stage: &'b Stage) -> Observer<'b> {
        Observer { stage, broker: self.broker, cancel: self.cancel, watch: self.watch }
    }

    fn on_topology(
        &mut self,
        plan: &Flow,
        load: impl FnOnce(&mut Self, &Flow, &Topology) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let topology = Topology::declare(self.target, plan, self.prefix)?;
        let outcome = load(self, plan, &topology);
        let removed = topology.remove();
        // Why the load failed says more than why its queues could not be deleted.
        let outcome = outcome?;
        removed.map(|()| outcome)
    }

    fn flow(&mut self, plan: &Flow, topology: &Topology) -> Result<Outcome> {
        let span = self.span;
        let consumers = consumers(self.target, plan, topology)?;
        let producers = producers(self.target, plan, topology, span)?;
        let (stage, copies) = (&Stage::new(), copies(plan));
        let mut observer = self.observer(stage);
        thread::scope(|scope| {
            let consuming = start_consumers(scope, consumers, stage);
            if let Span::Count(_) = span {
                stage.record();
            }
            let producing = start_producers(scope, producers, plan.rate, stage);
            let seen = observer.flow(span, copies);
            let is_drained = observer.drain(copies);
            stage.stop();
            let confirms = finish(producing);
            let latencies = finish(consuming)?;
            let account = Account::of(stage, copies, is_drained);
            let interrupted = observer.is_called_off();
            Ok(flow_outcome(plan, seen, confirms?, latencies, account, interrupted))
        })
    }

    fn backlog(&mut self, plan: &Flow, topology: &Topology) -> Result<Outcome> {
        let producers = producers(self.target, plan, topology, self.span)?;
        let filling = &Stage::new();
        let mut observer = self.observer(filling);
        let (filled, confirms) = thread::scope(|scope| {
            filling.record();
            let producing = start_producers(scope, producers, plan.rate, filling);
            let quiet = Quiet::new(STALL_MAX);
            let filled = observer.observe_until(Phase::Filling, SAMPLED_EVERY, |stage, _| {
                stage.producers_are_done() || quiet.is_over(stage)
            });
            filling.stop();
            finish(producing).map(|confirms| (filled, confirms))
        })?;
        nap(SETTLE, self.cancel);
        let waiting_mib = self.broker.and_then(|broker| broker.resident_mib().ok());
        let (drained, account) = self.drain_backlog(plan, topology, filling)?;
        let mut figures = vec![
            Figure::higher("filled", "msg/s", filled.sent / filled.seconds),
            Figure::higher("drained", "msg/s", drained.received / drained.seconds),
        ];
        figures.extend(waiting_mib.map(|mib| Figure::lower("broker memory, all waiting", "MiB", mib)));
        figures.extend(Outcome::broker_figures(&drained, drained.received, "us/msg"));
        let confirm = Latency { kind: Kind::Confirm, histogram: confirms };
        figures.extend(plan.window.iter().flat_map(|_| confirm.figures()));
        Ok(Outcome {
            figures,
            samples: [filled.samples, drained.samples].concat(),
            latencies: plan.window.map(|_| confirm).into_iter().collect(),
            account: Some(account),
            generator: if filled.generator.ready() > drained.generator.ready() {
                filled.generator
            } else {
                drained.generator
            },
            interrupted: self.cancel.load(Ordering::Relaxed),
        })
    }

    fn drain_backlog(
        &mut self,
        plan: &Flow,
        topology: &Topology,
        filling: &Stage,
    ) -> Result<(Observation, Account)> {
        let draining = &Stage::new();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (counter, before) in [
            (&draining.counters.sent, read(&filling.counters.sent)),
            (&draining.confirmed, read(&filling.confirmed)),
            (&draining.refused, read(&filling.refused)),
            (&draining.returned, read(&filling.returned)),
        ] {
            counter.store(before, Ordering::Relaxed);
        }
        let copies = copies(plan);
        let members = consumers(self.target, plan, topology)?;
        let mut observer = self.observer(draining);
        thread::scope(|scope| {
            let consuming = start_consumers(scope, members, draining);
            let quiet = Quiet::new(STALL_MAX);
            let seen = observer.observe_until(Phase::Draining, SAMPLED_EVERY, |stage, _| {
                has_all(stage, copies) || quiet.is_over(stage)
            });
            let is_drained = !observer.is_called_off();
            draining.stop();
            finish(consuming).map(|_| (seen, Account::of(draining, copies, is_drained)))
        })
    }
}

impl Observer<'_> {
    fn flow(&mut self, span: Span, copies: u64) -> Observation {
        match span {
            Span::Time { warm_up, observed } => {
                self.observe(Phase::WarmUp, warm_up);
                self.stage.record();
                let seen = self.observe(Phase::Measuring, observed);
                self.stage.end_recording();
                seen
            }
            Span::Count(_) => {
                let quiet = Quiet::new(STALL_MAX);
                self.observe_until(Phase::Measuring, SAMPLED_EVERY, |stage, _| {
                    (stage.producers_are_done() && has_all(stage, copies)) || quiet.is_over(stage)
                })
            }
        }
    }

    /// Ends the producers, then waits for what is on its way. False if more was still coming.
    pub(crate) fn drain(&mut self, copies: u64) -> bool {
        self.stage.end_producing();
        let quiet = Quiet::new(QUIET_MAX);
        let seen = self.observe_until(Phase::Draining, SAMPLED_EVERY, |stage, passed| {
            let is_complete = stage.producers_are_done() && has_all(stage, copies);
            is_complete || quiet.is_over(stage) || passed >= DRAIN_MAX
        });
        !self.is_called_off() && seen.seconds < DRAIN_MAX.as_secs_f64()
    }
}

fn has_all(stage: &Stage, copies: u64) -> bool {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let taken = read(&stage.counters.sent).saturating_sub(read(&stage.returned) + read(&stage.refused));
    read(&stage.counters.received) >= taken * copies
}

/// Whether anything still happens.
struct Quiet {
    patience: Duration,
    /// What was counted last, and since when.
    last: std::cell::Cell<(u64, Instant)>,
}

impl Quiet {
    fn new(patience: Duration) -> Quiet {
        Quiet { patience, last: std::cell::Cell::new((u64::MAX, Instant::now())) }
    }

    /// Whether nothing has been counted for too long.
    fn is_over(&self, stage: &Stage) -> bool {
        let counters = [&stage.counters.sent, &stage.counters.received, &stage.confirmed];
        let count = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
        let (last, since) = self.last.get();
        if count != last {
            self.last.set((count, Instant::now()));
        }
        count == last && since.elapsed() > self.patience
    }
}

fn flow_outcome(
    plan: &Flow,
    seen: Observation,
    confirms: crate::load::Histogram,
    latencies: crate::load::Histogram,
    account: Account,
    interrupted: bool,
) -> Outcome {
    let mut figures = Vec::new();
    if plan.consumers > 0 {
        figures.push(Figure::higher("delivered", "msg/s", seen.received / seen.seconds));
    }
    figures.push(Figure::higher("published", "msg/s", seen.sent / seen.seconds));
    let mut kinds = Vec::new();
    if plan.window.is_some() {
        figures.push(Figure::higher("confirmed", "msg/s", seen.confirmed / seen.seconds));
        kinds.push(Latency { kind: Kind::Confirm, histogram: confirms });
    }
    if plan.consumers > 0 {
        kinds.insert(0, Latency { kind: Kind::EndToEnd, histogram: latencies });
    }
    figures.extend(kinds.iter().flat_map(Latency::figures));
    let messages = if plan.consumers > 0 { seen.received } else { seen.sent };
    figures.extend(Outcome::broker_figures(&seen, messages, "us/msg"));
    Outcome {
        figures,
        samples: seen.samples,
        latencies: kinds,
        account: Some(account),
        generator: seen.generator,
        interrupted,
    }
}

/// Sleeps, unless the load is called off.
pub(crate) fn nap(time: Duration, cancel: &AtomicBool) {
    let begin = Instant::now();
    while begin.elapsed() < time && !cancel.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}
