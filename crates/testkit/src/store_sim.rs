//! Random programs against the store, on a disk that fails, checked against a model of what was promised.
//!
//! One seed is one program: publish, ack, purge, declare, transactions, commits, settling, clean stops, a full
//! disk, failing syncs, and crashes at any operation of the disk, also while opening. After each crash the data
//! directory is opened again and must hold **exactly** what the log held up to one point, and that point is not
//! before anything that was reported durable:
//!
//! ```text
//!   appended:  p p a m p │ p a tx p p          p publish  a ack  m meta  tx all or nothing
//!                        ↑ durable()
//!   allowed:   the state after any prefix that reaches at least to ↑
//! ```
//!
//! That is P1 (confirmed messages), P2 (confirmed declares), P5 (no copy twice), the atomicity of transactions,
//! and that no acked message comes back. After clean stops a copy of the directory is damaged on purpose: P7.

mod broker;
mod check;
mod model;
mod rot;

use std::sync::Arc;

use leveret_store::{Disk, MessageId, OpenError, Options, QueueId, Recovery, Store};

use crate::faulty_disk::{Crash, FaultyDisk};
use crate::random::Random;
use broker::Broker;
use model::Model;

/// Environment variable: the first seed, default 1.
pub const SEED_VARIABLE: &str = "LEVERET_SEED";
/// Environment variable: how many seeds, default given by the caller.
pub const SEEDS_VARIABLE: &str = "LEVERET_SEEDS";

/// How often a thing happened, so that a run shows that it tested what it says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Programs killed or powered off.
    pub crashes: u64,
    /// Of these, while opening.
    pub crashes_in_recovery: u64,
    /// Clean stops.
    pub clean_stops: u64,
    /// Log files settled and retired.
    pub retired_files: u64,
    /// Stores that stopped themselves after a failed sync.
    pub latched: u64,
    /// Commits refused by a full disk.
    pub disk_full: u64,
    /// Damaged copies that were opened.
    pub damaged: u64,
    /// Messages found again after a crash.
    pub recovered_messages: u64,
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.clean_stops += other.clean_stops;
        self.retired_files += other.retired_files;
        self.latched += other.latched;
        self.disk_full += other.disk_full;
        self.damaged += other.damaged;
        self.recovered_messages += other.recovered_messages;
    }
}

/// A broken promise, with the command that shows it again.
#[derive(Debug)]
pub struct Violation {
    /// The program.
    pub seed: u64,
    /// Which promise, and the difference.
    pub what: String,
    /// The last things the program did.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        let seed = self.seed;
        write!(f, "{SEED_VARIABLE}={seed} {SEEDS_VARIABLE}=1 cargo test -p leveret-testkit store_sim")
    }
}

/// Runs as many programs as the environment asks for; stops at the first broken promise.
///
/// # Errors
/// The violation.
pub fn run_seeds(default_count: u64) -> Result<Coverage, Box<Violation>> {
    let first = from_environment(SEED_VARIABLE).unwrap_or(1);
    let count = from_environment(SEEDS_VARIABLE).unwrap_or(default_count);
    let mut coverage = Coverage::default();
    for seed in first..first.saturating_add(count) {
        coverage += run(seed)?;
    }
    Ok(coverage)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one program.
///
/// # Errors
/// The violation.
pub fn run(seed: u64) -> Result<Coverage, Box<Violation>> {
    let mut sim = Simulation::new(seed);
    // A panic of the store is a violation like any other, and must name its seed too.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.run()));
    match ended.unwrap_or_else(|_| Err("panic".to_owned())) {
        Ok(()) => Ok(sim.coverage),
        Err(what) => {
            let skipped = sim.trace.len().saturating_sub(80);
            Err(Box::new(Violation { seed, what, trace: sim.trace.split_off(skipped) }))
        }
    }
}

/// How one life of the program ended.
enum End {
    /// The disk crashed it, or the store stopped itself.
    Crashed,
    /// It was stopped cleanly, with these notes.
    Closed(Vec<(QueueId, Vec<u8>)>),
}

/// What a clean stop promises for the next open.
enum Expected {
    Unclean,
    Clean(Vec<(QueueId, Vec<u8>)>),
    /// The crash came while the mark was being written, or taken back.
    Either,
}

struct Simulation {
    random: Random,
    disk: FaultyDisk,
    options: Options,
    model: Model,
    expected: Expected,
    highest_id: MessageId,
    next_message: u64,
    next_queue: u64,
    coverage: Coverage,
    trace: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let options = Options {
            log_file_bytes: 1024 + random.below(6 * 1024),
            segment_bytes: 512 + random.below(4 * 1024),
            gather_bytes: 4096,
        };
        Self {
            disk: FaultyDisk::new(random.next()),
            random,
            options,
            model: Model::default(),
            expected: Expected::Unclean,
            highest_id: MessageId(0),
            next_message: 1,
            next_queue: 1,
            coverage: Coverage::default(),
            trace: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..2 + self.random.below(5) {
            let Some((store, recovery)) = self.open_through_crashes()? else { continue };
            self.check_recovery(&recovery)?;
            self.expected = Expected::Unclean;
            let mut broker = Broker::new(store, recovery, &self.model);
            let end = self.live(&mut broker)?;
            self.model.advance(broker.store.durable());
            drop(broker);
            self.finish_life(end)?;
        }
        Ok(())
    }

    /// Opens, and crashes in the middle of it now and then.
    fn open_through_crashes(&mut self) -> Result<Option<(Store, Recovery)>, String> {
        for _ in 0..4 {
            if self.random.chance(1, 3) {
                self.disk.crash_after(1 + self.random.below(30));
            }
            let opened = Store::open(Arc::new(self.disk.clone()), self.options.clone());
            self.say(|| format!("open: {:?}", opened.as_ref().map(|(_, recovery)| recovery.torn_bytes)));
            match opened {
                Ok(opened) => return Ok(Some(opened)),
                Err(OpenError::Io(_)) if self.disk.is_down() => {
                    self.coverage.crashes_in_recovery += 1;
                    self.expected = Expected::Either;
                    self.crash();
                }
                Err(error) => return Err(format!("a crash must not keep the store from opening: {error}")),
            }
        }
        Ok(None)
    }

    fn finish_life(&mut self, end: End) -> Result<(), String> {
        match end {
            End::Crashed => {
                self.coverage.crashes += 1;
                self.crash();
            }
            End::Closed(notes) => {
                self.coverage.clean_stops += 1;
                self.expected = Expected::Clean(notes);
                self.crash();
                for _ in 0..2 {
                    self.check_damaged_copy()?;
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self) {
        let crash = if self.random.chance(1, 2) { Crash::Kill } else { Crash::PowerCut };
        self.say(|| format!("{crash:?}"));
        self.disk.restart(crash);
        self.disk.set_capacity(None);
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        let line = format!("[{}] {}", self.disk.operations(), what());
        self.trace.push(line);
    }

    /// The payload of a message follows from its number: most are small, some larger than a log file.
    fn body(message: u64) -> Vec<u8> {
        let mut random = Random::new(message ^ 0xb0d7);
        let len = match random.below(20) {
            0 => 0,
            1 => random.below(9000),
            2..5 => random.below(1500),
            _ => random.below(150),
        };
        (0..len).map(|_| random.next() as u8).collect()
    }

    /// A copy of the disk that nothing in the program will ever touch.
    fn fork(&mut self) -> FaultyDisk {
        self.disk.fork(self.random.next())
    }
}

fn open_on(disk: &FaultyDisk, options: &Options) -> Result<(Store, Recovery), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(disk, options.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_hold_through_every_crash() {
        let coverage = run_seeds(500).unwrap_or_else(|violation| panic!("{violation}"));
        println!("fact: {coverage:?}");
    }
}
