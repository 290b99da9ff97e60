//! Random programs against the real broker and a model of it, on a disk that fails, with a virtual clock, in one
//! thread.
//!
//! `store_sim` checks what the log holds; this checks what clients see. One seed is one program over several queues of
//! different make (limits, time to live, dead letters to one another and in circles, priorities, a single active
//! consumer, an end when unused; quorum queues, delivery limits, delayed retry): publishes with and without mandatory and expiration, consumers of all kinds, get, ack, requeue, refuse,
//! transactions, purge, time that passes, connections that stop reading, commits, settling with tiny log files and
//! next to no memory, clean stops, and crashes at any operation of the disk.
//!
//! ```text
//!   program ──► broker ──► what clients hear ─┐
//!      └──────► model  ──► what they should ──┴─► the same, after every step
//!   stop ─► what is on the disk ─► the ledger: owed, maybe, over ─► the model goes on with what is there
//! ```
//!
//! | promise | checked |
//! |---|---|
//! | P1, P2 | what was durable and not settled is there, or the dead letter that it became; so is every queue that was declared; a confirm comes when it is so, not earlier, not never; a refusal is said |
//! | P3 | after a clean stop, or once it is durable, nothing settled comes back |
//! | P4 | `redelivered` is exact in a life; after an unclean stop it is always set |
//! | P5 | no copy twice, but for dead letters around a crash |
//! | P6 | in each queue the order of priority and age, requeued ones at their old places |
//! | P7 | exchange, key, properties, `x-death` and body are what they should be |
//! | limits | what is refused, dropped, expired, when, in which order, and where it goes then |
//! | counts | of `declare-ok`, `get-ok` and `purge-ok` |

mod autopsy;
mod client;
mod consumers;
mod ledger;
mod letter;
mod life;
mod make;
mod model;
mod program;
mod queue;

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
        write!(f, "{SEED_VARIABLE}={seed} {SEEDS_VARIABLE}=1 cargo test -p leveret-testkit --test broker_sim")
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
    /// Publishes confirmed.
    pub confirmed: u64,
    /// Publishes refused.
    pub refused: u64,
    /// Publishes that came back.
    pub returned: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Messages that a client refused.
    pub rejected: u64,
    /// Messages that waited too long.
    pub expired: u64,
    /// Messages that were too many.
    pub too_many: u64,
    /// Messages whose delivery failed too often.
    pub too_often: u64,
}

impl Coverage {
    /// Whether everything happened that a program may do.
    pub fn is_complete(&self) -> bool {
        let Self { crashes, clean_stops, settled, deliveries, recovered, .. } = *self;
        let Self {
            confirmed, refused, returned, transactions, rejected, expired, too_many, too_often, ..
        } = *self;
        [crashes, clean_stops, settled, deliveries, recovered, confirmed, refused, returned, transactions]
            .into_iter()
            .chain([rejected, expired, too_many, too_often])
            .all(|count| count > 0)
    }
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.clean_stops += other.clean_stops;
        self.settled += other.settled;
        self.deliveries += other.deliveries;
        self.recovered += other.recovered;
        self.confirmed += other.confirmed;
        self.refused += other.refused;
        self.returned += other.returned;
        self.transactions += other.transactions;
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.too_many += other.too_many;
        self.too_often += other.too_often;
    }
}
