//! One number of one run, and how long runs take.

use leveret_bench::load::{Histogram, Window};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Full,
    /// To see that everything works; the numbers say little.
    Quick,
}

impl Pace {
    pub(super) fn window(self) -> Window {
        let (warm_up, observed) = match self {
            Pace::Full => (1000, 4000),
            Pace::Quick => (300, 1000),
        };
        Window { warm_up: Duration::from_millis(warm_up), observed: Duration::from_millis(observed) }
    }

    /// How many of something: `full`, or less of it.
    pub(super) fn count(self, full: u64, quick: u64) -> u64 {
        match self {
            Pace::Full => full,
            Pace::Quick => quick,
        }
    }
}

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

    /// The median and the 99th percentile of some latencies, under these names.
    pub(super) fn latencies(histogram: &Histogram, names: [&'static str; 2]) -> [Metric; 2] {
        let [p50, p99] = names;
        [
            Metric::lower(p50, "us", histogram.quantile_us(0.5)),
            Metric::lower(p99, "us", histogram.quantile_us(0.99)),
        ]
    }
}
