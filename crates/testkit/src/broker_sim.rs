//! Random programs against the real broker on a disk that fails, with a virtual clock, in one thread.
//!
//! `store_sim` checks what the log holds; this checks what clients see. One seed is one program: publishes to one
//! queue or to all (confirmed, persistent or not), consumers with and without acknowledgement, get, ack, requeue,
//! purge, transactions, commits, settling with tiny log files and next to no memory, clean stops, and crashes at any
//! operation of the disk. Every delivery is checked as it comes, and after each restart the queues must hold:
//!
//! | promise | checked |
//! |---|---|
//! | P1, P2 | what was confirmed and not settled is there; so is every queue whose declaration was answered |
//! | P3 | after a clean stop nothing settled comes back |
//! | P4 | `redelivered` is never false for what was delivered before, nor for anything after an unclean stop |
//! | P5 | no copy twice |
//! | P6 | within a queue and priority messages come in the order they were published, requeued ones aside |
//! | P7 | bodies are what was published |

mod client;
mod model;
mod program;

use std::fmt;

pub use program::run;

use crate::store_sim::{SEED_VARIABLE, SEEDS_VARIABLE};

/// A broken promise, with the command that shows it again.
#[derive(Debug)]
pub struct Violation {
    /// The program.
    pub seed: u64,
    /// What was broken.
    pub what: String,
    /// The last things the program did.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        let Self { seed, what, .. } = self;
        writeln!(f, "seed {seed}: {what}")?;
        write!(f, "{SEED_VARIABLE}={seed} {SEEDS_VARIABLE}=1 cargo test -p leveret-testkit broker_sim")
    }
}

/// How often a thing happened, so that a run shows that it tested what it says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Unclean stops.
    pub crashes: u64,
    /// Clean stops.
    pub clean_stops: u64,
    /// Log files settled.
    pub settled: u64,
    /// Deliveries checked.
    pub deliveries: u64,
    /// Messages found again after a restart.
    pub recovered: u64,
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.clean_stops += other.clean_stops;
        self.settled += other.settled;
        self.deliveries += other.deliveries;
        self.recovered += other.recovered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(variable: &str, otherwise: u64) -> u64 {
        std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    }

    #[test]
    fn clients_get_what_was_promised() {
        let (first, count) = (number(SEED_VARIABLE, 1), number(SEEDS_VARIABLE, 300));
        let mut coverage = Coverage::default();
        for seed in first..first + count {
            coverage += run(seed).unwrap_or_else(|violation| panic!("{violation}"));
        }
        println!("{coverage:#?}");
        assert!(count < 50 || coverage.settled > 0 && coverage.recovered > 0 && coverage.clean_stops > 0);
    }
}
