//! The words of all topic patterns as small numbers: matching compares numbers, and a word that no pattern
//! contains is recognised once per message.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

use hashbrown::HashMap;

/// A word that occurs in a pattern, or [`ANY`](Self::ANY). Numbers are reused when the last such pattern goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WordId(NonZeroU32);

impl WordId {
    /// The wildcard `*`, so that a step of a pattern need not be asked which of both it is.
    pub(super) const ANY: Self = Self(NonZeroU32::MIN);

    /// A bit in a 64-bit signature of a set of words; several words share one.
    pub(super) fn signature(self) -> u64 {
        1 << (self.0.get() % 64)
    }

    /// A slot of a hash table, below `slots`. Without the seed nobody can choose words that share one.
    pub(super) fn spread(self, seed: u64, slots: usize) -> usize {
        let hash = u64::from(self.0.get()).wrapping_mul(seed | 1) >> 32;
        ((hash * slots as u64) >> 32) as usize
    }
}

/// The words in use.
#[derive(Debug)]
pub(super) struct Words {
    known: HashMap<Box<str>, Entry>,
    free: Vec<WordId>,
    hash_seed: u64,
}

#[derive(Debug)]
struct Entry {
    id: WordId,
    uses: u32,
}

impl Words {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), free: Vec::new(), hash_seed: RandomState::new().hash_one(0) }
    }

    /// For [`WordId::spread`].
    pub(super) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// The number of a word, which is one more time in use from now on.
    pub(super) fn take(&mut self, word: &str) -> WordId {
        if let Some(entry) = self.known.get_mut(word) {
            entry.uses += 1;
            return entry.id;
        }
        // Every number above that of `ANY` is either free or known. Memory ends long before the numbers do.
        let next = NonZeroU32::MIN.saturating_add(1 + self.known.len() as u32);
        let id = self.free.pop().unwrap_or(WordId(next));
        self.known.insert(word.into(), Entry { id, uses: 1 });
        id
    }

    /// Gives back one use of a word.
    pub(super) fn release(&mut self, word: &str) {
        let Some(entry) = self.known.get_mut(word) else { return };
        entry.uses -= 1;
        if entry.uses == 0 {
            self.free.push(entry.id);
            self.known.remove(word);
        }
    }

    /// The number of a word, if a pattern contains it.
    pub(super) fn find(&self, word: &str) -> Option<WordId> {
        self.known.get(word).map(|entry| entry.id)
    }
}

#[cfg(test)]
impl Words {
    /// Whether no word is in use.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_while_used_and_reused_after() {
        let mut words = Words::new();
        let (a, b) = (words.take("a"), words.take("b"));
        assert_ne!(a, b);
        assert_eq!(words.take("a"), a);
        words.release("a");
        assert_eq!(words.find("a"), Some(a));
        words.release("a");
        assert_eq!(words.find("a"), None);
        assert_eq!(words.take("c"), a);
        assert_eq!(words.find("b"), Some(b));
        assert_ne!(words.take("d"), b);
    }
}
