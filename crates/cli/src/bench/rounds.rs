//! Each broker in turn, round by round: what slows the machine for a while slows all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_bench::Run;
use leveret_bench::outcome::Outcome;
use leveret_bench::plan::{Plan, Span};

use super::broker::Broker;
use super::progress::Progress;
use super::results::{Measured, Results};
use crate::failure::Failure;

/// What is to be run.
pub(super) struct Rounds {
    pub(super) plan: Plan,
    pub(super) span: Span,
    pub(super) brokers: Vec<Broker>,
    pub(super) rounds: u64,
    /// See [`Results::loss_is_expected`].
    pub(super) loss_is_expected: bool,
    pub(super) progress: Progress,
    pub(super) cancel: Arc<AtomicBool>,
}

impl Rounds {
    /// Blocks until all rounds are over, or the load is called off.
    pub(super) fn run(mut self) -> Result<Results, Failure> {
        let mut results = Results {
            measured: Vec::new(),
            plan: self.plan.clone(),
            span: self.span,
            loss_is_expected: self.loss_is_expected,
            interrupted: false,
        };
        for broker in &self.brokers {
            results.measured.push(Measured {
                name: broker.name.clone(),
                address: broker.target.address(),
                has_process: broker.process.is_some(),
                rounds: Vec::new(),
            });
        }
        for round in 1..=self.rounds {
            for index in 0..self.brokers.len() {
                if self.cancel.load(Ordering::Relaxed) {
                    results.interrupted = true;
                    return Ok(results);
                }
                let outcome = self.turn(index, round)?;
                results.interrupted |= outcome.interrupted;
                results.measured[index].rounds.push(outcome);
            }
        }
        Ok(results)
    }

    fn turn(&mut self, index: usize, round: u64) -> Result<Outcome, Failure> {
        let broker = &self.brokers[index];
        let prefix = prefix()?;
        let progress = &mut self.progress;
        let title = match (self.brokers.len(), self.rounds) {
            (1, 1) => String::new(),
            (1, rounds) => format!("round {round}/{rounds} "),
            (_, rounds) => format!("{} round {round}/{rounds} ", broker.name),
        };
        let run = Run {
            target: &broker.target,
            broker: broker.process,
            prefix: &prefix,
            span: self.span,
            cancel: &self.cancel,
            watch: &mut |sample| progress.show(&title, sample),
        };
        let outcome = run.execute(&self.plan);
        progress.clear();
        outcome.map_err(|error| named(&broker.name, self.brokers.len(), error.into()))
    }
}

/// Which of several brokers it was.
fn named(name: &str, brokers: usize, failure: Failure) -> Failure {
    let with_name = |text: String| format!("{name}: {text}");
    match failure {
        failure if brokers == 1 => failure,
        Failure::Usage(text) => Failure::Usage(with_name(text)),
        Failure::Refused(text) => Failure::Refused(with_name(text)),
        Failure::Connection(text) => Failure::Connection(with_name(text)),
        other => Failure::Other(anyhow::anyhow!("{name}: {other}")),
    }
}

/// Nobody else's names begin like this.
fn prefix() -> Result<String, Failure> {
    let mut random = [0; 6];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Other(anyhow::anyhow!("random numbers: {error}")))?;
    let digits: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("leveret-bench-{digits}"))
}
