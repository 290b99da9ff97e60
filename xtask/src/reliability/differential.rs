//! Random programs on Leveret and on RabbitMQ 3.10 (scorecard row 16); what they are: `leveret_testkit::differential`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use leveret_testkit::differential::compare;
use leveret_testkit::rabbitmq::RabbitMq;
use leveret_testkit::random::Random;
use leveret_testkit::scenario::Target;

use super::Plan;
use super::site::Site;
use super::verdict::Verdict;

/// Programs mostly wait.
const LANES: usize = 12;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    super::install(&["rabbitmq-server"])?;
    let node = RabbitMq::start().context("RabbitMQ")?;
    let server = site.start().context("failed start")?;
    let (ours, theirs) = (Target::new(server.address(), false), Target::new(node.addr(), true));
    let programs = plan.rounds_at([30, 500, 2000]);
    // Program numbers are seeds: the one that differs is named, and `--first-fault` begins with it.
    let first = if plan.first_fault == 0 { Random::new(plan.seed).below(1 << 32) } else { plan.first_fault };
    let programs = plan.faults.unwrap_or(programs);
    let next = AtomicU64::new(first);
    let lines = AtomicU64::new(0);
    let found = Mutex::new(Verdict::default());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + programs {
                        return;
                    }
                    match compare(seed, &ours, &theirs) {
                        Ok(said) => drop(lines.fetch_add(said as u64, Ordering::Relaxed)),
                        Err(divergence) => {
                            let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                            found.fault("they answer differently", divergence);
                        }
                    }
                }
            });
        }
    });
    verdict.count("programs", programs);
    verdict.count("lines said alike", lines.into_inner());
    verdict.fact(format!("programs {first} to {}, against {}", first + programs - 1, version(&node)));
    verdict.absorb(found.into_inner().context("a lane panicked")?);
    server.kill()?;
    Ok(())
}

fn version(node: &RabbitMq) -> String {
    let version = node.ctl(&["version"]).unwrap_or_default();
    format!("RabbitMQ {}", version.trim())
}
