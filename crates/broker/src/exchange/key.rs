//! A routing key while it is matched against topic patterns: which known word is where.

use super::positions::Positions;
use super::words::{WordId, Words};

/// The words of a key or pattern: what is between the dots. An empty one has none.
pub(super) fn split(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

/// A key of at most `WORDS` words, so with positions 0 to `WORDS`, which fit into `N` × 64 bits.
pub(super) struct Key<const N: usize, const WORDS: usize> {
    len: usize,
    /// The word behind each position; none if no pattern contains it.
    words: [Option<WordId>; WORDS],
    /// The different known words in order, and the positions before each.
    places: [(Option<WordId>, Positions<N>); WORDS],
    places_len: usize,
    inside: Positions<N>,
    signature: u64,
}

impl<const N: usize, const WORDS: usize> Key<N, WORDS> {
    /// Takes the first `WORDS` words of a key.
    pub(super) fn new(key: &str, known: &Words) -> Self {
        const { assert!(WORDS < N * 64, "there is one more position than words") };
        let mut this = Self {
            len: 0,
            words: [None; WORDS],
            places: [(None, Positions::EMPTY); WORDS],
            places_len: 0,
            inside: Positions::EMPTY,
            signature: 0,
        };
        for (slot, word) in this.words.iter_mut().zip(split(key)) {
            *slot = known.find(word);
            this.len += 1;
        }
        this.inside = Positions::below(this.len);
        this.collect_places();
        this
    }

    fn collect_places(&mut self) {
        let mut order: [(Option<WordId>, u16); WORDS] = [(None, 0); WORDS];
        let mut known = 0;
        for (position, word) in self.words[..self.len].iter().enumerate() {
            if word.is_some() {
                order[known] = (*word, position as u16);
                known += 1;
            }
        }
        order[..known].sort_unstable();
        for &(word, position) in &order[..known] {
            if self.places_len == 0 || self.places[self.places_len - 1].0 != word {
                self.places[self.places_len].0 = word;
                self.places_len += 1;
                self.signature |= word.map_or(0, WordId::signature);
            }
            self.places[self.places_len - 1].1.insert(position.into());
        }
    }

    /// How many words it has, which is also the position of its end.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All positions with a word behind them.
    pub(super) fn inside(&self) -> Positions<N> {
        self.inside
    }

    /// The word behind a position, if a pattern contains it.
    pub(super) fn word_at(&self, position: usize) -> Option<WordId> {
        self.words[position]
    }

    /// The positions with that word behind them.
    pub(super) fn before(&self, word: WordId) -> Positions<N> {
        let places = &self.places[..self.places_len];
        match places.binary_search_by_key(&Some(word), |(known, _)| *known) {
            Ok(at) => places[at].1,
            Err(_) => Positions::EMPTY,
        }
    }

    /// The different words that patterns contain, and the positions before each.
    pub(super) fn places(&self) -> &[(Option<WordId>, Positions<N>)] {
        &self.places[..self.places_len]
    }

    /// False if one of the words with these signatures is certainly missing.
    pub(super) fn may_contain(&self, signatures: u64) -> bool {
        signatures & !self.signature == 0
    }
}
