//! The waiting messages of a queue by priority: what is more urgent goes first, among equals the older.
//!
//! As in RabbitMQ each level is a queue of its own, on disk too, so a backlog on many levels costs no more
//! memory and no more time at a start than on one. A queue without `x-max-priority` only has level 0.
//!
//! ```text
//!   63      56 55                                      0
//!  ┌──────────┬─────────────────────────────────────────┐
//!  │  level   │ number, growing over the whole queue    │   position of a message
//!  └──────────┴─────────────────────────────────────────┘
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_store::{ReadError, Segments, Store};

use super::entry::{Entry, Pos};
use super::held::Held;
use super::ready::{Ready, Taken};
use crate::message::{Message, ResidentBytes};

/// A priority as a queue counts it: 0 to its `x-max-priority`.
pub type Level = u8;

const LEVEL_SHIFT: u32 = 56;

/// The position of the message with this number on this level.
pub fn pos_at(level: Level, number: u64) -> Pos {
    u64::from(level) << LEVEL_SHIFT | number
}

/// The level of a position.
pub fn level_of(pos: Pos) -> Level {
    (pos >> LEVEL_SHIFT) as Level
}

/// The number of a position.
pub fn number_of(pos: Pos) -> u64 {
    pos & ((1 << LEVEL_SHIFT) - 1)
}

/// The waiting messages of one queue.
#[derive(Debug, Default)]
pub struct Levels {
    lowest: Ready,
    /// Made when they are needed.
    higher: BTreeMap<Reverse<Level>, Ready>,
}

impl Levels {
    /// What a restart found, by level.
    pub fn recovered(found: impl IntoIterator<Item = (Level, Ready)>) -> Self {
        let mut levels = Self::default();
        for (level, ready) in found {
            *levels.level_mut(level) = ready;
        }
        levels
    }

    /// The levels that there are.
    pub fn all(&self) -> impl Iterator<Item = (Level, &Ready)> {
        self.higher.iter().map(|(level, ready)| (level.0, ready)).chain([(0, &self.lowest)])
    }

    /// One level, if anything ever waited there.
    pub fn level(&self, level: Level) -> Option<&Ready> {
        if level == 0 { Some(&self.lowest) } else { self.higher.get(&Reverse(level)) }
    }

    /// One level.
    pub fn level_mut(&mut self, level: Level) -> &mut Ready {
        if level == 0 { &mut self.lowest } else { self.higher.entry(Reverse(level)).or_default() }
    }

    /// How many wait.
    pub fn len(&self) -> u64 {
        self.all().map(|(_, ready)| ready.len()).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.all().all(|(_, ready)| ready.is_empty())
    }

    /// Octets of what waits.
    pub fn size_bytes(&self) -> u64 {
        self.all().map(|(_, ready)| ready.size_bytes()).sum()
    }

    /// What waits.
    pub fn held(&self) -> Held {
        self.all().fold(Held::default(), |held, (_, ready)| held + ready.held())
    }

    /// The message whose turn it is, if that is in memory.
    pub fn cached_head(&self) -> Option<&Arc<Message>> {
        self.all().find(|(_, ready)| !ready.is_empty())?.1.cached_head()
    }

    /// Appends the newest message of its level.
    pub fn push(&mut self, entry: Entry) {
        self.level_mut(level_of(entry.pos)).push(entry);
    }

    /// Puts a message back at its old position.
    pub fn put_back(&mut self, entry: Entry) {
        self.level_mut(level_of(entry.pos)).put_back(entry);
    }

    /// Takes the message whose turn it is.
    pub fn take(&mut self, store: &Store, resident: &ResidentBytes) -> Result<Option<Taken>, ReadError> {
        for ready in self.highest_first() {
            if let Some(taken) = ready.take(store, resident)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Takes a message that has waited too long. Messages only expire at the head of their level.
    pub fn take_expired(
        &mut self,
        now_ms: u64,
        store: &Store,
        resident: &ResidentBytes,
    ) -> Result<Option<Taken>, ReadError> {
        for ready in self.highest_first() {
            if ready.head_expires_at_ms(store)?.is_some_and(|at_ms| at_ms <= now_ms) {
                return ready.take(store, resident);
            }
        }
        Ok(None)
    }

    /// When the first head expires.
    pub fn next_expiry_ms(&mut self, store: &Store) -> Result<Option<u64>, ReadError> {
        let mut next = None;
        for ready in self.highest_first() {
            next = next.into_iter().chain(ready.head_expires_at_ms(store)?).min();
        }
        Ok(next)
    }

    /// Takes everything that waits out. Settled messages end with their segments; the others are answered.
    pub fn drain(&mut self) -> (u64, Vec<Entry>) {
        let count = self.len();
        (count, self.highest_first().flat_map(|ready| ready.drain().1).collect())
    }

    /// The segment files of a level, for durable or put-aside messages.
    pub fn segments_mut(&mut self, level: Level, durable: bool) -> &mut Option<Segments> {
        self.level_mut(level).segments_mut(durable)
    }

    fn highest_first(&mut self) -> impl Iterator<Item = &mut Ready> {
        self.higher.values_mut().chain([&mut self.lowest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_says_level_and_number() {
        let check = |level, number| {
            let pos = pos_at(level, number);
            assert_eq!((level_of(pos), number_of(pos)), (level, number));
        };
        check(0, 1);
        check(9, 77);
        check(255, (1 << 56) - 1);
    }
}
