//! The words of all topic patterns as small numbers: matching compares numbers, and a word that no pattern
//! contains is recognised once per message.

use std::num::NonZeroU32;

use hashbrown::HashMap;

/// A word that occurs in a pattern. Numbers are reused when the last such pattern goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WordId(NonZeroU32);

impl WordId {
    /// A bit in a 64-bit signature of a set of words; several words share one.
    pub(super) fn signature(self) -> u64 {
        1 << (self.0.get() % 64)
    }
}

/// The words in use.
#[derive(Debug, Default)]
pub(super) struct Words {
    known: HashMap<Box<str>, Entry>,
    free: Vec<WordId>,
}

#[derive(Debug)]
struct Entry {
    id: WordId,
    uses: u32,
}

impl Words {
    /// The number of a word, which is one more time in use from now on.
    pub(super) fn take(&mut self, word: &str) -> WordId {
        if let Some(entry) = self.known.get_mut(word) {
            entry.uses += 1;
            return entry.id;
        }
        // Every number is either free or known. The keys alone would fill the memory long before they overflow.
        let next = NonZeroU32::MIN.saturating_add(self.known.len() as u32);
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
        let mut words = Words::default();
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
