//! The load for a long time, with clients that vanish (scorecard row 17): nothing is lost, and nothing grows.
//!
//! ```text
//!   load ─────────────────────────────────────────────────────┐ stopped, started,
//!   clients that take messages and vanish, ten a second       │ drained
//!   memory, files │ settling in │ compared │ compared │ …     │ disk
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_testkit::random::Random;
use leveret_testkit::supervisor::Server;

use super::Plan;
use super::client::{Client, Ended};
use super::drain::drain;
use super::ledger::Ending;
use super::load::Load;
use super::message::{QUEUES, declare_topology, queue_name};
use super::site::{START_TIMEOUT, Site};
use super::verdict::Verdict;
use super::witness::Witness;

const MINUTES: [u64; 3] = [1, 20, 480];
/// Part of the time after which memory and files may not grow any more.
const SETTLING_IN: u32 = 4;
const SAMPLE: Duration = Duration::from_secs(1);
const VANISHING_PAUSE: Duration = Duration::from_millis(100);
const GROWTH_MAX: f64 = 1.05;
/// Rises below this are noise of the allocator and of what happens to be on its way.
const NOISE_BYTES: u64 = 24 << 20;
const FILES_MORE_MAX: usize = 2 + QUEUES;
/// Segments that a drained queue may still have.
const SEGMENTS_MAX: usize = 2;
const CLEANED_UP_MAX: Duration = Duration::from_secs(20);

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let minutes = plan.minutes.unwrap_or(plan.rounds_at(MINUTES));
    let server = site.start().context("failed start")?;
    let address = server.address();
    declare_topology(&mut Client::open(address)?).context("declaring")?;
    let load = Load::new(plan.seed);
    let stop = AtomicBool::new(false);
    let (samples, asked_at) = std::thread::scope(|scope| {
        scope.spawn(|| vanish_again_and_again(address, plan.seed, &stop));
        load.run(address, || {
            let samples = sample(&server, Duration::from_secs(60 * minutes));
            stop.store(true, Ordering::Relaxed);
            // The broker ends before its clients do: what they hold is theirs until then.
            Ok((samples?, stop_in_order(server)?))
        })
    })?;
    load.with_ledger(|ledger| ledger.ended(Ending::Stopped, asked_at));
    verdict.count("minutes", minutes);
    judge(&samples, verdict);
    let server = site.start().context("failed start")?;
    drain(server.address(), &load).context("draining")?;
    judge_disk(site, verdict);
    verdict.absorb(load.into_verdict());
    server.kill()?;
    Ok(())
}

/// When it was asked to.
fn stop_in_order(server: Server) -> Result<Instant> {
    let asked_at = Instant::now();
    server.terminate()?;
    let status = server.wait(START_TIMEOUT)?.context("it does not stop")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(asked_at)
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    resident_bytes: u64,
    open_files: usize,
}

/// A look at the broker each second, until the time is over.
fn sample(server: &Server, time: Duration) -> Result<Vec<Sample>> {
    let begin = Instant::now();
    let witness = Witness::of(server.pid());
    let mut samples = Vec::new();
    while begin.elapsed() < time {
        std::thread::sleep(SAMPLE);
        let open_files =
            std::fs::read_dir(format!("/proc/{}/fd", server.pid())).context("the broker is gone")?;
        samples.push(Sample { resident_bytes: witness.resident_bytes()?, open_files: open_files.count() });
    }
    Ok(samples)
}

fn judge(samples: &[Sample], verdict: &mut Verdict) {
    let (before, after) = samples.split_at(samples.len() / SETTLING_IN as usize);
    let tail = &after[after.len() - after.len() / SETTLING_IN as usize..];
    let mean = |samples: &[Sample]| {
        let total: u64 = samples.iter().map(|sample| sample.resident_bytes).sum();
        total / samples.len().max(1) as u64
    };
    let files = |samples: &[Sample]| samples.iter().map(|sample| sample.open_files).max().unwrap_or(0);
    let most = before.iter().map(|sample| sample.resident_bytes).max().unwrap_or(0);
    let (early, late) = (mean(before).max(most), mean(tail));
    verdict.fact(format!(
        "resident: up to {} MiB in the first quarter, {} MiB on average in the last; open files: {} and {} at most",
        early >> 20,
        late >> 20,
        files(before),
        files(tail)
    ));
    let bound = (early as f64 * GROWTH_MAX) as u64 + NOISE_BYTES;
    verdict.demand(late <= bound, "memory grows", format!("{early} octets, then {late}"));
    let bound = files(before) + FILES_MORE_MAX;
    verdict.demand(
        files(tail) <= bound,
        "open files grow",
        format!("{}, then {}", files(before), files(tail)),
    );
}

/// Consumers that take what they get and are gone without a word.
fn vanish_again_and_again(address: SocketAddr, seed: u64, stop: &AtomicBool) {
    let mut random = Random::new(seed ^ 0x76_616e);
    while !stop.load(Ordering::Relaxed) {
        let queue = random.below(QUEUES as u64) as usize;
        let _the_next_one_may_fare_better = vanish(address, queue);
        std::thread::sleep(VANISHING_PAUSE);
    }
}

fn vanish(address: SocketAddr, queue: usize) -> Result<(), Ended> {
    let mut client = Client::open(address)?;
    client.prefetch(20)?;
    client.consume(&queue_name(queue))?;
    client.next(VANISHING_PAUSE).map(drop)
}

/// What is drained leaves no segments behind.
fn judge_disk(site: &Site, verdict: &mut Verdict) {
    let folder = site.launcher().data_dir.join("q");
    let most = || {
        let queues = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        queues.map(|queue| std::fs::read_dir(queue.path()).into_iter().flatten().count()).max().unwrap_or(0)
    };
    let begin = Instant::now();
    while most() > SEGMENTS_MAX && begin.elapsed() < CLEANED_UP_MAX {
        std::thread::sleep(SAMPLE);
    }
    verdict.fact(format!("drained: {} MiB of files, up to {} in a queue", site.data_bytes() >> 20, most()));
    verdict.demand(most() <= SEGMENTS_MAX, "files of a drained queue", most());
}
