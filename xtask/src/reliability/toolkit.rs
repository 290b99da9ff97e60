//! Faults around callers and workers of the toolkit (scorecard row 15): whatever is lost, cut, slow, dead or wrong,
//! every request has one outcome in time, what is said not to have run has not, and everybody works afterwards.
//!
//! ```text
//!   lane (several side by side)       one fault
//!     broker ─ field.rs, broker.rs      40 requests at random moments       asking.rs, job.rs
//!     caller, two workers, proxies      the fault among them                fault.rs, poison.rs
//!     faults one after the other        a control call to every worker      field.rs
//!     records of all requests           nothing in flight any more          records.rs judges
//! ```
//!
//! All decisions follow from the seed, each fault's from the seed and its number; how they meet the broker is up to
//! the machine.

mod asking;
mod broker;
mod fault;
mod field;
mod job;
mod poison;
mod process;
mod records;

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use leveret_testkit::supervisor::Launcher;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Plan;
use super::options::Against;
use super::site::Site;
use super::verdict::Verdict;
use asking::ask_all;
use broker::Broker;
use fault::Fault;
use field::Field;
pub(super) use process::{WORKER_ARGUMENT, work};
use records::Records;

/// The campaign's name, which others make exceptions for.
pub(super) const NAME: &str = "toolkit";
const FAULTS: u64 = 500;
const FAULTS_QUICK: u64 = 60;
/// Lanes wait most of the time.
const LANES: u64 = 4;
/// The fault begins within this time after the first request.
const FAULT_MS: std::ops::Range<u64> = 50..450;
/// Confirmed tasks are done by then, retries and all.
const TASKS_BOUND: Duration = Duration::from_secs(20);
/// So many control calls in a row without an answer: it will not become better.
const STUCK_MAX: u32 = 3;
/// Everything about one fault: beyond this somebody waits for ever.
const FAULT_BOUND: Duration = Duration::from_secs(120);
/// Tasks of the runtime above those after the first faults: connections that are just ending, and the like.
const ALIVE_SLACK: usize = 20;
const WARM_UP_FAULTS: u64 = 3;

/// What a lane has found.
#[derive(Default)]
struct Findings {
    verdict: Verdict,
    json: Vec<Value>,
    counts: Value,
    outcomes: BTreeMap<String, u64>,
    faults: BTreeMap<&'static str, u64>,
    slowest_recovery: Duration,
    alive: (usize, usize),
    broker_bytes: (Option<u64>, Option<u64>),
}

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    quiet_panics();
    let faults = plan.faults.unwrap_or(plan.rounds(FAULTS_QUICK, FAULTS));
    let lanes = if plan.against == Against::RabbitMq { 1 } else { LANES.min(faults) };
    let begun = Instant::now();
    let all = std::thread::scope(|scope| -> Result<Vec<Findings>> {
        let start = |lane| {
            let numbers = plan.first_fault + lane..plan.first_fault + faults;
            scope.spawn(move || run_lane(site, plan, lane, numbers.step_by(lanes as usize)))
        };
        let running: Vec<_> = (0..lanes).map(start).collect();
        running
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| anyhow::bail!("a lane panicked")))
            .collect()
    })?;
    report(plan, faults, begun.elapsed(), all, verdict)
}

/// Panics that the campaign asked for are no news.
fn quiet_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text != job::PANIC {
            default(panic);
        }
    }));
}

fn run_lane(site: &Site, plan: &Plan, lane: u64, faults: impl Iterator<Item = u64>) -> Result<Findings> {
    let broker = match plan.against {
        Against::RabbitMq => Broker::rabbitmq()?,
        Against::Leveret => {
            let folder = site.folder().join(format!("lane-{lane}"));
            std::fs::create_dir_all(&folder)?;
            let binary = site.launcher().binary.clone();
            Broker::leveret(Launcher {
                binary,
                data_dir: folder.join("data"),
                log: folder.join("broker.log"),
            })?
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Lane::run(broker, plan, faults))
}

/// One broker with its callers and workers, and what they went through.
struct Lane<'a> {
    plan: &'a Plan,
    field: Field,
    records: Arc<Records>,
    findings: Findings,
    /// Requests of the fault before may still be answered, too late.
    after_losses: bool,
    /// What it is about at the moment.
    step: String,
    /// How many control calls in a row had no answer.
    stuck: u32,
}

impl Lane<'_> {
    async fn run(broker: Broker, plan: &Plan, faults: impl Iterator<Item = u64>) -> Result<Findings> {
        let records = Arc::<Records>::default();
        let field = Field::set_up(broker, records.clone()).await?;
        let mut lane = Lane {
            plan,
            field,
            records,
            findings: Findings::default(),
            after_losses: false,
            step: String::new(),
            stuck: 0,
        };
        let mut done = 0;
        for number in faults {
            match tokio::time::timeout(FAULT_BOUND, lane.one_fault(number)).await {
                Ok(ended) => ended?,
                Err(_) => {
                    let case = format!("fault {number}, {}", lane.step);
                    lane.findings.verdict.fault("a fault without an end", case);
                    break;
                }
            }
            done += 1;
            if lane.stuck >= STUCK_MAX {
                break;
            }
            if done == WARM_UP_FAULTS {
                lane.findings.alive.0 = alive_tasks();
                lane.findings.broker_bytes.0 = lane.field.broker_bytes();
            }
        }
        lane.finish(done).await;
        Ok(lane.findings)
    }

    async fn one_fault(&mut self, number: u64) -> Result<()> {
        let mut random = of_fault(self.plan.seed, number);
        let fault = self.choose(&mut random);
        let begun = Instant::now();
        self.step = format!("{fault}: before it");
        if fault.takes_tasks() {
            self.until_tasks_are_done().await;
        }
        if fault.has_losses() {
            self.records.losses_begin(number);
        }
        let (connections, unclaimed) =
            (self.field.connections().await?, self.field.client.unclaimed_answers());
        let mut asking = ask_all(&self.field.client, &self.records, number, fault, &mut random);
        tokio::time::sleep(Duration::from_millis(
            FAULT_MS.start + random.below(FAULT_MS.end - FAULT_MS.start),
        ))
        .await;
        self.step = format!("{fault}: making it");
        let note = match self.field.suffer(fault, &mut random).await {
            Ok(note) => note,
            // The rest of the campaign would only repeat this; a fault that cannot be made is no finding.
            Err(error) if fault.has_losses() => format!("not made: {error:#}"),
            Err(error) => return Err(error),
        };
        self.step = format!("{fault}: requests");
        tokio::select! {
            kept = self.field.keep_process_running() => kept?,
            () = async { while asking.join_next().await.is_some() {} } => {}
        }
        self.step = format!("{fault}: afterwards");
        let recovered = self.recover(number, fault).await;
        if !fault.has_losses() {
            let connections = (connections, self.field.connections().await?);
            self.look_for_needless_losses(number, fault, connections, unclaimed);
        }
        self.after_losses = fault.has_losses();
        self.note(number, fault, &note, begun.elapsed(), recovered);
        Ok(())
    }

    fn choose(&self, random: &mut Random) -> Fault {
        // A RabbitMQ node takes long to come back.
        let broker_kills = if self.plan.against == Against::RabbitMq { 3 } else { 12 };
        Fault::choose(random, broker_kills)
    }

    /// A control call to every worker, and nothing in flight.
    async fn recover(&mut self, number: u64, fault: Fault) -> Option<Duration> {
        let case = format!("fault {number}, {fault}");
        let controlled = self.field.control().await;
        self.stuck = if controlled.is_err() { self.stuck + 1 } else { 0 };
        if let Err(error) = &controlled {
            self.findings.verdict.fault("stuck after a fault", format!("{case}: {error:#}"));
        }
        if let Err(error) = self.field.rest().await {
            self.findings.verdict.fault("never at rest after a fault", format!("{case}: {error:#}"));
        }
        let took = controlled.ok()?;
        self.findings.slowest_recovery = self.findings.slowest_recovery.max(took);
        Some(took)
    }

    /// Wrong messages and wrong handlers cost nobody's connection, and nobody is answered twice.
    fn look_for_needless_losses(
        &mut self,
        number: u64,
        fault: Fault,
        (before, after): ([u64; 2], [u64; 2]),
        unclaimed: u64,
    ) {
        let case = format!("fault {number}, {fault}");
        let verdict = &mut self.findings.verdict;
        let lost = format!("{case}: the caller's and the worker's were {before:?}, are {after:?}");
        verdict.demand(before == after, "a connection was lost without need", lost);
        if self.after_losses {
            return;
        }
        let extra = self.field.client.unclaimed_answers() - unclaimed;
        // A call that is retried may have given up a few answers.
        let allowed = self.records.unanswered(number) * 4;
        verdict.demand(
            extra <= allowed,
            "answered twice",
            format!("{case}: {extra} unclaimed, {allowed} allowed"),
        );
    }

    fn note(&mut self, number: u64, fault: Fault, note: &str, took: Duration, recovered: Option<Duration>) {
        *self.findings.faults.entry(fault.kind()).or_default() += 1;
        self.findings.json.push(json!({
            "fault": number,
            "kind": fault.kind(),
            "what": fault.to_string(),
            "note": note,
            "took_ms": took.as_millis() as u64,
            "recovery_ms": recovered.map(|took| took.as_millis() as u64),
            "outcomes": self.records.outcomes(Some(number)),
        }));
    }

    async fn until_tasks_are_done(&self) {
        let until = Instant::now() + TASKS_BOUND;
        while self.records.undone_tasks() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn finish(&mut self, faults: u64) {
        self.until_tasks_are_done().await;
        let findings = &mut self.findings;
        match self.field.process_in_flight().await {
            Ok(in_flight) => {
                let case = format!("{in_flight} requests");
                findings.verdict.demand(in_flight == 0, "in flight at the end", case);
            }
            Err(error) => findings.verdict.fault("no statistics at the end", format!("{error:#}")),
        }
        if let Err(error) = self.field.rest().await {
            findings.verdict.fault("never at rest at the end", format!("{error:#}"));
        }
        findings.alive.1 = alive_tasks();
        findings.broker_bytes.1 = self.field.broker_bytes();
        let (before, after) = findings.alive;
        if faults > WARM_UP_FAULTS {
            let case = format!("{before} after {WARM_UP_FAULTS} faults, {after} after {faults}");
            findings.verdict.demand(after <= before + ALIVE_SLACK, "tasks of the runtime grow", case);
        }
        let kinds: BTreeMap<u64, String> = findings
            .json
            .iter()
            .filter_map(|fault| Some((fault["fault"].as_u64()?, fault["what"].as_str()?.to_owned())))
            .collect();
        let name_of =
            |number: u64| format!("fault {number}, {}", kinds.get(&number).map_or("?", String::as_str));
        let knows_deliveries = self.plan.against == Against::Leveret;
        self.records.judge(&mut findings.verdict, knows_deliveries, name_of);
        findings.outcomes = self.records.outcomes(None);
        findings.counts = self.records.to_json();
    }
}

/// Through the generator twice, or one fault would decide as the one before does, shifted, and one seed as the next.
fn of_fault(seed: u64, number: u64) -> Random {
    let of_seed = Random::new(seed).next();
    Random::new(Random::new(of_seed ^ number).next())
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn report(plan: &Plan, faults: u64, took: Duration, all: Vec<Findings>, verdict: &mut Verdict) -> Result<()> {
    let (mut outcomes, mut kinds, mut numbers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut each, mut slowest) = (Vec::new(), Duration::ZERO);
    for lane in all {
        lane.outcomes.into_iter().for_each(|(kind, count)| *outcomes.entry(kind).or_default() += count);
        lane.faults.into_iter().for_each(|(kind, count)| *kinds.entry(kind).or_default() += count);
        for (name, count) in lane.counts.as_object().into_iter().flatten() {
            *numbers.entry(name.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        slowest = slowest.max(lane.slowest_recovery);
        let ((before, after), (mib_before, mib_after)) = (lane.alive, lane.broker_bytes);
        let mib = |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| (bytes >> 20).to_string());
        verdict.fact(format!(
            "runtime tasks {before} → {after}, the broker's memory {} → {} MiB",
            mib(mib_before),
            mib(mib_after)
        ));
        each.extend(lane.json);
        verdict.absorb(lane.verdict);
    }
    each.sort_by_key(|fault: &Value| fault["fault"].as_u64());
    let outcomes: BTreeMap<String, u64> = outcomes;
    let kinds: BTreeMap<&str, u64> = kinds;
    let numbers: BTreeMap<String, u64> = numbers;
    verdict.count("faults", faults);
    verdict.fact(format!("{faults} faults: {}", listed(&kinds)));
    verdict.fact(format!("outcomes: {}", listed(&outcomes)));
    verdict.fact(listed(&numbers));
    verdict.fact(format!("slowest recovery {} ms", slowest.as_millis()));
    let json = json!({
        "against": plan.against.name(), "seed": plan.seed, "faults": faults, "requests_per_fault": asking::REQUESTS,
        "took_s": took.as_secs(), "passed": verdict.passed(), "kinds": kinds, "outcomes": outcomes,
        "numbers": numbers, "slowest_recovery_ms": slowest.as_millis() as u64, "broken": verdict.broken(),
        "each": each,
    });
    let file = crate::target_directory()?.join(format!("reliability-toolkit-{}.json", plan.against.name()));
    std::fs::write(&file, serde_json::to_vec_pretty(&json)?).with_context(|| file.display().to_string())?;
    verdict.fact(format!("JSON: {}", file.display()));
    Ok(())
}

fn listed(counts: &BTreeMap<impl AsRef<str>, u64>) -> String {
    let each: Vec<_> = counts.iter().map(|(name, count)| format!("{} {count}", name.as_ref())).collect();
    each.join(", ")
}
