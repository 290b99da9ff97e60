//! Random programs of a client, played on two brokers: what one answers, the other answers.
//!
//! ```text
//!   seed ──► program ──► played on ours ──► transcript ─┐
//!               └──────► played on theirs ► transcript ─┴─ the same, line by line
//! ```
//!
//! A program declares, binds, publishes, consumes, gets, settles, in transactions and with confirms, on two connections with two
//! channels each, and makes mistakes on purpose. After each step the player waits until nobody says anything any more, so
//! that the order of things is the same whatever the brokers' pace. Compared are replies, codes of closed channels and
//! connections, deliveries and returns with all their fields, confirms one by one, and what is left in the queues.
//!
//! Not compared: the words of an error (its code, class and method are), times in headers, headers that 3.10 does not write yet
//! (`x-last-death-*`), whether `recover-ok` comes before what is recovered, and in which order different channels hear of one thing.
//! Not played, because the difference is known and wanted (`conformance/differences.txt`): unknown exchange types, arguments and
//! flags that RabbitMQ gave up, several consumers of one queue, anything that depends on time.

mod play;
mod program;

use std::fmt;
use std::time::Duration;

use crate::scenario::Target;
use play::play;
use program::{Step, program};

/// How long nobody may say anything until the next step.
const PAUSE: Duration = Duration::from_millis(25);
/// The same when a difference is looked at again: a busy machine is no difference.
const LONG_PAUSE: Duration = Duration::from_millis(300);
/// Lines shown before a difference: whole programs.
const SHOWN_LINES: usize = 150;

/// Two brokers that answer differently.
#[derive(Debug)]
pub struct Divergence {
    /// The program.
    pub seed: u64,
    /// What both said before.
    pub before: Vec<String>,
    /// What the first said then; nothing if it was silent.
    pub ours: String,
    /// What the second said.
    pub theirs: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {}", self.seed)?;
        for line in &self.before {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "  ours    {}", self.ours)?;
        write!(f, "  theirs  {}", self.theirs)
    }
}

/// Plays the program of `seed` on both brokers; how many lines they said alike.
///
/// # Errors
/// They differ, or one could not be spoken to. A difference was seen twice, the second time with long pauses.
pub fn compare(seed: u64, ours: &Target, theirs: &Target) -> Result<usize, Box<Divergence>> {
    let quick = program(seed, "quick");
    if let Ok(lines) = compare_at(seed, &quick, ours, theirs, PAUSE) {
        return Ok(lines);
    }
    compare_at(seed, &program(seed, "slow"), ours, theirs, LONG_PAUSE)
}

fn compare_at(
    seed: u64,
    steps: &[Step],
    ours: &Target,
    theirs: &Target,
    pause: Duration,
) -> Result<usize, Box<Divergence>> {
    let (ours, theirs) = (play(ours, steps, pause), play(theirs, steps, pause));
    let differing = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at));
    let Some(at) = differing else { return Ok(ours.len()) };
    let line = |transcript: &[String]| transcript.get(at).cloned().unwrap_or_default();
    Err(Box::new(Divergence {
        seed,
        before: ours[at.saturating_sub(SHOWN_LINES)..at].to_vec(),
        ours: line(&ours),
        theirs: line(&theirs),
    }))
}
