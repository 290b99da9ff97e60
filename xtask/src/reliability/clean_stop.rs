//! SIGTERM under load (P3, P4): an orderly stop forgets nothing.
//!
//! Passes if the process ends within 10 s with code 0, no confirmed message is lost, no acknowledged one comes back,
//! and after the next start `redelivered` is on messages that had been delivered, and on no other.

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

const STOP_MAX: Duration = Duration::from_secs(10);
const LOAD_MS: std::ops::Range<u64> = 100..1000;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let load = Load::new(plan.seed);
    let mut random = Random::new(plan.seed);
    let mut slowest = Duration::ZERO;
    let rounds = plan.rounds(10, 200);
    let outcome = (0..rounds).try_for_each(|_| {
        let pause = Duration::from_millis(LOAD_MS.start + random.below(LOAD_MS.end - LOAD_MS.start));
        let took = stop_once(site, &load, pause, verdict)?;
        slowest = slowest.max(took);
        Ok(())
    });
    let outcome = outcome.and_then(|()| {
        let server = site.start().context("failed start")?;
        drain(server.address(), &load).context("draining")?;
        Ok(server.kill().map(drop)?)
    });
    verdict.count("stops", rounds);
    verdict.fact(format!("{rounds} stops, the slowest took {} ms", slowest.as_millis()));
    let needless = load.with_ledger(|ledger| ledger.marked_needlessly());
    verdict.demand(needless == 0, "marked `redelivered` though never delivered", needless);
    verdict.absorb(load.into_verdict());
    outcome
}

/// One life of a broker: what the last left is drained, then it is loaded and stopped.
fn stop_once(site: &Site, load: &Load, pause: Duration, verdict: &mut Verdict) -> Result<Duration> {
    let server = site.start().context("failed start")?;
    let address = server.address();
    declare_topology(&mut Client::open(address)?).context("declaring")?;
    drain(address, load).context("draining")?;
    let (asked_at, took) = load.run(address, || stop(server, pause, verdict))?;
    load.with_ledger(|ledger| ledger.ended(Ending::Stopped, asked_at));
    Ok(took)
}

fn stop(server: Server, pause: Duration, verdict: &mut Verdict) -> Result<(Instant, Duration)> {
    std::thread::sleep(pause);
    let asked_at = Instant::now();
    server.terminate()?;
    let status = server.wait(STOP_MAX)?;
    let took = asked_at.elapsed();
    let good = status.is_some_and(|status| status.success());
    let shown = status.map_or_else(|| "still running".to_owned(), |status| status.to_string());
    verdict.demand(good, "no orderly end", format!("{shown} after {took:?}"));
    Ok((asked_at, took))
}
