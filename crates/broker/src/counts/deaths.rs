//! Messages that queues gave up, by reason.

use std::ops::AddAssign;

use super::counter::Counter;
use crate::queue::DeathReason;

/// Messages that a queue gave up since the process began, whether a dead-letter exchange took them or nobody. Those
/// whose dead letter has to be taken (`at-least-once`) count once it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeathCounts([u64; DeathReason::ALL.len()]);

impl DeathCounts {
    /// For this reason.
    pub fn of(&self, reason: DeathReason) -> u64 {
        self.0[reason as usize]
    }

    /// For whatever reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl AddAssign for DeathCounts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

/// The same while they grow; without the queue's lock, as the dead are buried when it is free.
#[derive(Debug, Default)]
pub(super) struct Deaths([Counter; DeathReason::ALL.len()]);

impl Deaths {
    pub(super) fn add(&self, reason: DeathReason) {
        self.0[reason as usize].add_shared(1);
    }

    pub(super) fn snapshot(&self) -> DeathCounts {
        DeathCounts(std::array::from_fn(|at| self.0[at].value()))
    }
}
