//! How long runs take.

use leveret_bench::load::Window;
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
            Pace::Full => (1000, 2000),
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
