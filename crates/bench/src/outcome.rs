//! What a load found out.

use crate::figure::Figure;
use crate::generator::Busy;
use crate::load::Histogram;
use crate::observe::{Observation, Sample};
use crate::stage::Stage;
use std::sync::atomic::Ordering;

/// The result of one run of a plan.
pub struct Outcome {
    /// The numbers to compare, the same names in the same order in every run of a plan.
    pub figures: Vec<Figure>,
    /// What was measured, over time.
    pub samples: Vec<Sample>,
    /// Distributions.
    pub latencies: Vec<Latency>,
    /// Where the messages went; None where there were none.
    pub account: Option<Account>,
    /// Whether the generator had time to spare.
    pub generator: Busy,
    /// Whether it was called off before its end.
    pub interrupted: bool,
}

/// How long something took.
pub struct Latency {
    /// From what to what.
    pub kind: Kind,
    /// All values of the measured time.
    pub histogram: Histogram,
}

/// What a latency is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From when a message should have left to when its consumer had it.
    EndToEnd,
    /// From when a message should have left to its confirm.
    Confirm,
    /// From a request, or from when it should have left, to its answer.
    Answer,
    /// Something made and taken away again.
    Cycle,
}

/// The shares at which latencies are reported, with the names of those figures.
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

impl Kind {
    /// A word for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::EndToEnd => "end to end",
            Kind::Confirm => "confirm",
            Kind::Answer => "answer",
            Kind::Cycle => "cycle",
        }
    }

    fn figures(self) -> [&'static str; 4] {
        match self {
            Kind::EndToEnd => ["end to end p50", "end to end p99", "end to end p99.9", "end to end max"],
            Kind::Confirm => ["confirm p50", "confirm p99", "confirm p99.9", "confirm max"],
            Kind::Answer => ["answer p50", "answer p99", "answer p99.9", "answer max"],
            Kind::Cycle => ["cycle p50", "cycle p99", "cycle p99.9", "cycle max"],
        }
    }
}

impl Latency {
    /// Half, 99 %, 99.9 % and all, in microseconds.
    pub(crate) fn figures(&self) -> impl Iterator<Item = Figure> + '_ {
        let named = self.kind.figures().into_iter().zip(QUANTILES);
        named.map(|(name, share)| Figure::lower(name, "us", self.histogram.quantile_us(share)))
    }
}

/// Where the messages of a whole load went, warm-up and end included; of calls: those that were sent, and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Published.
    pub sent: u64,
    /// Of them, confirmed.
    pub confirmed: u64,
    /// Of them, refused by a negative confirm.
    pub refused: u64,
    /// Of them, returned because no queue took them.
    pub returned: u64,
    /// Deliveries that were to come: one per message and reader.
    pub expected: u64,
    /// Deliveries that came.
    pub received: u64,
    /// Did not come, and nothing came any more. What limits of a queue dropped is counted here too.
    pub lost: u64,
    /// Did not come in the time there was, while others still came.
    pub waiting: u64,
    /// Came again.
    pub duplicated: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// With a rate: were due for more than 50 ms when the producers ended, and had not left.
    pub unsent: u64,
}

impl Account {
    /// `copies` deliveries of each message; `is_drained` if nothing came any more at the end.
    pub(crate) fn of(stage: &Stage, copies: u64, is_drained: bool) -> Account {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (sent, received) = (read(&stage.counters.sent), read(&stage.counters.received));
        let (returned, refused) = (read(&stage.returned), read(&stage.refused));
        let expected = sent.saturating_sub(returned + refused) * copies;
        let missing = (expected + read(&stage.duplicated)).saturating_sub(received);
        // Among several readers of a queue, a message that came twice shows only in the sum.
        let surplus = received.saturating_sub(expected);
        Account {
            sent,
            confirmed: read(&stage.confirmed),
            refused,
            returned,
            expected,
            received,
            lost: if is_drained { missing } else { 0 },
            waiting: if is_drained { 0 } else { missing },
            duplicated: read(&stage.duplicated).max(surplus),
            reordered: read(&stage.reordered),
            unsent: read(&stage.unsent),
        }
    }

    /// Whether every message came once and in order, as far as it was to come in the time there was.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0
    }
}

impl Outcome {
    /// Figures of the broker's process, if it is known: CPU time per `count` of `unit`, and memory.
    pub(crate) fn broker_figures(seen: &Observation, count: f64, unit: &'static str) -> Vec<Figure> {
        let cpu = seen.broker_cpu_seconds.filter(|_| count > 0.0);
        let cpu = cpu.map(|seconds| Figure::lower("broker CPU", unit, seconds * 1e6 / count));
        let memory = seen.broker_peak_mib.map(|mib| Figure::lower("broker memory", "MiB", mib));
        cpu.into_iter().chain(memory).collect()
    }
}
