//! Messages given up that stay until somebody has taken their dead letter (`x-dead-letter-strategy: at-least-once`).
//!
//! ```text
//!   given up ─► dying ─► letter taken ─► over
//!                 ▲          │ nobody takes it: no exchange, no queue, or a full one
//!                 └── retry ◄┘
//! ```
//!
//! They neither wait for consumers nor count as waiting. After a restart they are ordinary messages again.

use std::collections::{BTreeMap, BTreeSet};

use leveret_store::ReadError;

use super::entry::{Aftermath, DeathReason, Ended, Entry, Pos};
use super::{Courier, QueueState};

/// When a dead letter that nobody took is tried again, ms.
const RETRY_MS: u64 = 2_000;
/// How many are tried at a time, so that a queue is not locked for long.
const RETRIES_AT_ONCE: usize = 100;

/// The dying messages of one queue.
#[derive(Debug, Default)]
pub(super) struct Dying {
    entries: BTreeMap<Pos, (Entry, DeathReason)>,
    /// Those whose letter is not on its way.
    retries: BTreeSet<(u64, Pos)>,
}

impl Dying {
    /// A letter is on its way.
    pub(super) fn add(&mut self, entry: Entry, reason: DeathReason) {
        self.entries.insert(entry.pos, (entry, reason));
    }

    /// It was taken.
    pub(super) fn taken(&mut self, pos: Pos) -> Option<Entry> {
        self.entries.remove(&pos).map(|(entry, _)| entry)
    }

    /// Nobody took it.
    pub(super) fn not_taken(&mut self, pos: Pos, now_ms: u64) {
        if self.entries.contains_key(&pos) {
            self.retries.insert((now_ms.saturating_add(RETRY_MS), pos));
        }
    }

    /// Takes out whose letters are to be tried again now: not all at once.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<(Entry, DeathReason)> {
        let due = self.retries.iter().take_while(|(at_ms, _)| *at_ms <= now_ms);
        let due: Vec<_> = due.take(RETRIES_AT_ONCE).copied().collect();
        for one in &due {
            self.retries.remove(one);
        }
        due.iter().filter_map(|(_, pos)| self.entries.remove(pos)).collect()
    }

    /// When the next one is to be tried again.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.retries.first().map(|(at_ms, _)| *at_ms)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|(entry, _)| entry)
    }

    /// All of them, to be told their new places.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().map(|(entry, _)| entry)
    }
}

impl<P> QueueState<P> {
    /// What became of the dead letter of a message that stays until somebody takes it. Answers what the log must be told.
    pub fn buried(&mut self, pos: Pos, was_taken: bool, now_ms: u64) -> Option<Ended> {
        if was_taken {
            let entry = self.dying.taken(pos)?;
            return self.end(&entry);
        }
        self.dying.not_taken(pos, now_ms);
        None
    }

    /// Dead letters that nobody took are tried again.
    pub(super) fn bury_again(
        &mut self,
        courier: &impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        for (entry, reason) in self.dying.take_due(courier.now_ms()) {
            aftermath.dead.push(self.give_up((entry, None), reason, courier)?);
        }
        Ok(())
    }
}
