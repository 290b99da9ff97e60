//! A routing key while it is matched against topic patterns: which known word is where.

use super::positions::Positions;
use super::words::{WordId, Words};

/// The words of a key or pattern: what is between the dots. An empty one has none.
pub(super) fn split(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

/// A key with fewer than `POSITIONS` words, so with positions below `POSITIONS`, which fit into `N` × 64 bits.
pub(super) struct Key<const N: usize, const POSITIONS: usize> {
    len: usize,
    /// The word behind each position; none if no pattern contains it.
    words: [Option<WordId>; POSITIONS],
    /// The positions before any word, then those before each different known word.
    places: [(WordId, Positions<N>); POSITIONS],
    places_len: usize,
    /// A hash table on the stack, at most a quarter full: from words to indexes of `places`. An empty slot leads
    /// to the place of [`WordId::ANY`], which therefore is found wherever the search for it ends.
    slots: [[u16; 4]; POSITIONS],
    hash_seed: u64,
    signature: u64,
}

impl<const N: usize, const POSITIONS: usize> Key<N, POSITIONS> {
    /// Takes the first `POSITIONS - 1` words of a key.
    pub(super) fn new(key: &str, known: &Words) -> Self {
        const { assert!(POSITIONS <= N * 64) };
        let mut this = Self {
            len: 0,
            words: [None; POSITIONS],
            places: [(WordId::ANY, Positions::EMPTY); POSITIONS],
            places_len: 1,
            slots: [[0; 4]; POSITIONS],
            hash_seed: known.hash_seed(),
            signature: 0,
        };
        for word in split(key).take(POSITIONS - 1) {
            if let Some(id) = known.find(word) {
                this.push_known(id);
            }
            this.len += 1;
        }
        this.places[0].1 = Positions::below(this.len);
        this
    }

    fn push_known(&mut self, word: WordId) {
        self.words[self.len] = Some(word);
        let slot = self.slot_of(word);
        let slot = &mut self.slots.as_flattened_mut()[slot];
        if *slot == 0 {
            *slot = self.places_len as u16;
            self.places[self.places_len].0 = word;
            self.places_len += 1;
            self.signature |= word.signature();
        }
        self.places[usize::from(*slot)].1.insert(self.len);
    }

    /// Where the word is in `slots`, or the empty slot where it would be.
    fn slot_of(&self, word: WordId) -> usize {
        let slots = self.slots.as_flattened();
        let mut at = word.spread(self.hash_seed, slots.len());
        while slots[at] != 0 && self.places[usize::from(slots[at])].0 != word {
            at = if at + 1 == slots.len() { 0 } else { at + 1 };
        }
        at
    }

    /// How many words it has, which is also the position of its end.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The positions with that word behind them.
    pub(super) fn before(&self, word: WordId) -> Positions<N> {
        let slots = self.slots.as_flattened();
        let mut at = word.spread(self.hash_seed, slots.len());
        loop {
            let place = usize::from(slots[at]);
            let (known, before) = self.places[place];
            if known == word {
                return before;
            }
            if place == 0 {
                return Positions::EMPTY;
            }
            at = if at + 1 == slots.len() { 0 } else { at + 1 };
        }
    }

    /// The positions with a word behind them.
    pub(super) fn before_any(&self) -> Positions<N> {
        self.places[0].1
    }

    /// The word behind a position, if a pattern contains it.
    pub(super) fn word_at(&self, position: usize) -> Option<WordId> {
        self.words[position]
    }

    /// Whether that word, or any if it is [`WordId::ANY`], is behind a position of the key.
    pub(super) fn is_at(&self, word: WordId, position: usize) -> bool {
        // Not `||`: which of both holds is often random, and a mispredicted branch costs more than both.
        (word == WordId::ANY) | (self.words[position] == Some(word))
    }

    /// The different words that patterns contain, and the positions before each.
    pub(super) fn places(&self) -> &[(WordId, Positions<N>)] {
        &self.places[1..self.places_len]
    }

    /// False if one of the words with these signatures is certainly missing.
    pub(super) fn may_contain(&self, signatures: u64) -> bool {
        signatures & !self.signature == 0
    }
}
