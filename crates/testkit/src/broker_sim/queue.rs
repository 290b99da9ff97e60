//! One queue of the model: what waits, what is with clients, and what the limits say.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::letter::Letter;
use super::make::{Make, Overflow};

/// Names a copy for the whole program.
pub(super) type CopyId = u64;

/// The order of a queue: more urgent first, then older.
pub(super) type Rank = (Reverse<u8>, u64);

/// A message in one queue.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) id: CopyId,
    pub(super) rank: Rank,
    pub(super) letter: Letter,
    pub(super) size_bytes: u64,
    pub(super) expires_at_ms: Option<u64>,
    /// What the next delivery has to say.
    pub(super) redelivered: bool,
}

/// A queue as it should be.
#[derive(Clone, Debug)]
pub(super) struct QueueModel {
    pub(super) make: Make,
    /// It exists, and was declared as the n-th of all; who was declared first is looked at first.
    pub(super) born: Option<u64>,
    /// Its last declaration or deletion is on the disk.
    pub(super) synced: bool,
    pub(super) ready: BTreeMap<Rank, Copy>,
    pub(super) unacked: BTreeMap<Rank, Copy>,
    /// What came back and waits, by the time when it is due.
    pub(super) waiting: BTreeMap<(u64, Rank), Copy>,
    /// Tags, in the order in which they came.
    pub(super) consumers: Vec<String>,
    /// Of a queue with a single active consumer.
    pub(super) active: Option<String>,
    pub(super) used_at_ms: u64,
    next_number: u64,
}

impl QueueModel {
    pub(super) fn new(make: Make) -> Self {
        Self {
            make,
            born: None,
            synced: true,
            ready: BTreeMap::new(),
            unacked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            consumers: Vec::new(),
            active: None,
            used_at_ms: 0,
            next_number: 1,
        }
    }

    /// A copy that arrives now, behind all of its level.
    pub(super) fn copy(&mut self, id: CopyId, letter: Letter, now_ms: u64) -> Copy {
        let level = letter.priority.min(self.make.max_priority);
        let rank = (Reverse(level), self.next_number);
        self.next_number += 1;
        let ttl_ms = letter.expiration_ms.into_iter().chain(self.make.message_ttl_ms).min();
        let expires_at_ms = ttl_ms.map(|ttl_ms| now_ms + ttl_ms);
        Copy { id, rank, size_bytes: letter.size_bytes(), letter, expires_at_ms, redelivered: false }
    }

    /// Whether one more message would be too many, where newcomers give way.
    pub(super) fn refuses(&self, letter: &Letter) -> bool {
        self.make.overflow != Overflow::DropHead && self.is_beyond(1, || letter.size_bytes())
    }

    /// The message that has to go, where the head gives way.
    pub(super) fn take_excess(&mut self) -> Option<Copy> {
        let too_many = self.make.overflow == Overflow::DropHead && self.is_beyond(0, || 0);
        if too_many { self.ready.pop_first().map(|(_, copy)| copy) } else { None }
    }

    fn is_beyond(&self, more: u64, more_bytes: impl Fn() -> u64) -> bool {
        let bytes = || self.ready.values().map(|copy| copy.size_bytes).sum::<u64>() + more_bytes();
        self.make.max_messages.is_some_and(|max| self.ready.len() as u64 + more > max)
            || self.make.max_bytes.is_some_and(|max| bytes() > max)
    }

    /// The head of each level.
    fn heads(&self) -> impl Iterator<Item = &Copy> {
        let mut level = None;
        self.ready.values().filter(move |copy| level.replace(copy.rank.0) != Some(copy.rank.0))
    }

    /// A message that has waited too long. Only the head of a level can be one.
    pub(super) fn take_expired(&mut self, now_ms: u64) -> Option<Copy> {
        let expired = self.heads().find(|copy| copy.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms));
        let rank = expired?.rank;
        self.ready.remove(&rank)
    }

    /// What has waited long enough is ready again, at its old place.
    pub(super) fn bring_back(&mut self, now_ms: u64) {
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now_ms) {
            let copy = first.remove();
            self.ready.insert(copy.rank, copy);
        }
    }

    /// When it has to be looked at although nobody uses it.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.born?;
        let due_ms = self.waiting.keys().next().map(|(due_ms, _)| *due_ms);
        self.heads().filter_map(|copy| copy.expires_at_ms).chain(self.unused_at_ms()).chain(due_ms).min()
    }

    /// When it goes, if nobody uses it.
    pub(super) fn unused_at_ms(&self) -> Option<u64> {
        let expires_ms = self.make.expires_ms.filter(|_| self.consumers.is_empty())?;
        Some(self.used_at_ms + expires_ms)
    }
}
