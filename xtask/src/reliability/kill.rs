//! `kill -9` at any moment, again and again, on the same data directory (P1, P3, P4, P6, P7).
//!
//! A broker under load is killed after 20 ms to 1.5 s and started again; one time in four it is killed some more times
//! within its first 500 ms, in the middle of its recovery. Every few kills, and at the end, all queues are drained.
//!
//! Passes if no confirmed message is lost, no body altered, nothing redelivered without the mark, nothing
//! acknowledged before a logged publish comes back, and every start succeeds.

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use leveret_testkit::supervisor::Server;
use std::time::{Duration, Instant};

use super::Plan;
use super::client::Client;
use super::drain::drain;
use super::ledger::Ending;
use super::load::Load;
use super::message::declare_topology;
use super::site::Site;
use super::verdict::Verdict;

const LOAD_MS: std::ops::Range<u64> = 20..1500;
const RECOVERY_MS: u64 = 500;
const KILLS_PER_DRAIN: u64 = 5;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let load = Load::new(plan.seed);
    let mut random = Random::new(plan.seed);
    let mut starts = Starts::default();
    let outcome = kill_again_and_again(site, plan, &load, &mut random, &mut starts);
    verdict.fact(starts.fact());
    verdict.count("kills under load", starts.count.saturating_sub(1));
    verdict.count("kills in recovery", starts.in_recovery);
    verdict.absorb(load.into_verdict());
    outcome
}

fn kill_again_and_again(
    site: &Site,
    plan: &Plan,
    load: &Load,
    random: &mut Random,
    starts: &mut Starts,
) -> Result<()> {
    for kill in 0..plan.kills {
        let server = starts.count(site.start().context("failed start")?, site);
        let address = server.address();
        declare_topology(&mut Client::open(address)?).context("declaring")?;
        if kill > 0 && kill % KILLS_PER_DRAIN == 0 {
            drain(address, load).context("draining")?;
        }
        let pause = Duration::from_millis(LOAD_MS.start + random.below(LOAD_MS.end - LOAD_MS.start));
        let killed_at = load.run(address, || kill_after(server, pause))?;
        load.with_ledger(|ledger| ledger.ended(Ending::Killed, killed_at));
        if random.chance(1, 4) {
            starts.in_recovery += kill_recoveries(site, random)?;
        }
    }
    let server = starts.count(site.start().context("failed start")?, site);
    drain(server.address(), load).context("draining")?;
    server.kill()?;
    Ok(())
}

/// The moment of the kill.
fn kill_after(mut server: Server, pause: Duration) -> Result<Instant> {
    std::thread::sleep(pause);
    anyhow::ensure!(server.is_running()?, "the broker ended by itself");
    let killed_at = Instant::now();
    server.kill()?;
    Ok(killed_at)
}

/// Up to three processes that do not live long.
fn kill_recoveries(site: &Site, random: &mut Random) -> Result<u64> {
    let times = 1 + random.below(3);
    for _ in 0..times {
        let starting = site.launcher().spawn()?;
        std::thread::sleep(Duration::from_millis(random.below(RECOVERY_MS)));
        starting.kill()?;
    }
    Ok(times)
}

#[derive(Default)]
struct Starts {
    count: u64,
    in_recovery: u64,
    slowest: Duration,
    largest_bytes: u64,
}

impl Starts {
    fn count(&mut self, server: Server, site: &Site) -> Server {
        self.count += 1;
        self.slowest = self.slowest.max(server.start_time());
        self.largest_bytes = self.largest_bytes.max(site.data_bytes());
        server
    }

    fn fact(&self) -> String {
        format!(
            "{} starts after kills and {} killed in their first {RECOVERY_MS} ms; the slowest took {} ms; up to {} MiB of files",
            self.count,
            self.in_recovery,
            self.slowest.as_millis(),
            self.largest_bytes >> 20
        )
    }
}
