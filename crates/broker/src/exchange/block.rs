//! Many words of a topic pattern at once: patterns made to cost much have long stretches of few different words,
//! or of `*`. Such a stretch is kept as one mask of offsets per word.
//!
//! ```text
//!   a . * . a . b . b . * . * . a        a   offsets 0 2 7   ■ □ ■ □ □ □ □ ■
//!                                        b   offsets 3 4     □ □ □ ■ ■ □ □ □
//! ```
//!
//! At one position of the key each mask is one comparison. At many, a start is excluded by a word of the key that
//! is another one; these are followed back through the mask, or the offsets forth, whichever are fewer.

use super::key::Key;
use super::positions::{Positions, ones};
use super::words::WordId;

/// A stretch of words without `#`.
#[derive(Debug)]
pub(super) struct Block {
    len: u8,
    /// In place, as most blocks have one word only: with it alone a block is read without another miss of the cache.
    first: Occurrences,
    others: Box<[Occurrences]>,
}

/// Where in a block a word is. Nowhere, for the first word of a block of `*`.
#[derive(Clone, Copy, Debug)]
struct Occurrences {
    word: WordId,
    offsets: Offsets,
}

/// Offsets from the start of a block, as a mask.
type Offsets = u64;

impl Block {
    /// The longest: positions move by less than one machine word.
    pub(super) const MAX_WORDS: usize = 63;

    /// Shorter ones are faster word by word.
    const MIN_WORDS: usize = 8;

    /// How often each word has to be there on the average. Bounds the memory: four octets per word of a pattern.
    const MIN_REPEATS: usize = 4;

    /// A block of these words, if it would be faster than they are one by one.
    pub(super) fn new(words: impl ExactSizeIterator<Item = WordId>) -> Option<Self> {
        let len = words.len();
        if !(Self::MIN_WORDS..=Self::MAX_WORDS).contains(&len) {
            return None;
        }
        let mut found: Vec<Occurrences> = Vec::new();
        for (offset, word) in words.enumerate().filter(|&(_, word)| word != WordId::ANY) {
            match found.iter_mut().find(|known| known.word == word) {
                Some(known) => known.offsets |= 1 << offset,
                None => found.push(Occurrences { word, offsets: 1 << offset }),
            }
        }
        if found.len() * Self::MIN_REPEATS > len {
            return None;
        }
        let nowhere = Occurrences { word: WordId::ANY, offsets: 0 };
        let (first, others) = found.split_first().unwrap_or((&nowhere, &[]));
        Some(Self { len: len as u8, first: *first, others: others.into() })
    }

    /// How many words it has: [`MAX_WORDS`](Self::MAX_WORDS) at most.
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether these are the words behind a position of the key.
    pub(super) fn fits<const N: usize, const P: usize>(&self, key: &Key<N, P>, at: usize) -> bool {
        let fits = |known: &Occurrences| known.offsets & !key.before(known.word).window(at) == 0;
        at + self.len() <= key.len() && fits(&self.first) && self.others.iter().all(fits)
    }

    /// The positions after the block and a `#` behind it, if `reached` are those before it: only the first place
    /// where the block fits matters, and often it is the first one tried.
    pub(super) fn after_and_later<const N: usize, const P: usize>(
        &self,
        key: &Key<N, P>,
        reached: Positions<N>,
    ) -> Positions<N> {
        match reached.lowest() {
            Some(start) if self.fits(key, start) => Positions::one(start + self.len()).and_later(),
            Some(_) => self.after(key, reached).and_later(),
            None => reached,
        }
    }

    /// The positions after the block, if `reached` are those before it.
    pub(super) fn after<const N: usize, const P: usize>(
        &self,
        key: &Key<N, P>,
        reached: Positions<N>,
    ) -> Positions<N> {
        let any = key.before_any();
        let mut starts = reached.intersection(any.back(self.len() - 1));
        for known in std::iter::once(&self.first).chain(&self.others) {
            if starts.is_empty() {
                return starts;
            }
            starts = starts_with(starts, key.before(known.word), any, known.offsets);
        }
        starts.ahead(self.len())
    }
}

/// Those of the starts from which a word is at all of the offsets. `before` are the positions before that word,
/// `any` those before any word.
fn starts_with<const N: usize>(
    starts: Positions<N>,
    before: Positions<N>,
    any: Positions<N>,
    offsets: Offsets,
) -> Positions<N> {
    let others = any.difference(before);
    if others.is_empty() {
        return starts;
    }
    if others.len() <= offsets.count_ones() as usize {
        return starts.without_before(others, offsets);
    }
    let mut left = starts;
    for offset in ones(offsets) {
        left = left.intersection(before.back(offset));
        if left.is_empty() {
            break;
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::words::Words;

    fn check<const N: usize, const P: usize>(
        pattern: &[&str],
        key_words: &[&str],
    ) -> Result<(), TestCaseError> {
        let mut words = Words::new();
        let ids: Vec<_> =
            pattern.iter().map(|&word| if word == "*" { WordId::ANY } else { words.take(word) }).collect();
        let key = Key::<N, P>::new(&key_words.join("."), &words);
        let Some(block) = Block::new(ids.into_iter()) else { return Ok(()) };
        let mut all = Positions::EMPTY;
        for start in 0..=key_words.len() {
            let fits = key_words[start..].len() >= pattern.len()
                && pattern.iter().zip(&key_words[start..]).all(|(&step, &word)| step == "*" || step == word);
            prop_assert_eq!(block.fits(&key, start), fits, "{}", start);
            let one = Positions::one(start);
            let mut after = Positions::EMPTY;
            if fits {
                after.insert(start + block.len());
                all.insert(start + block.len());
            }
            prop_assert_eq!(block.after(&key, one), after, "{}", start);
            prop_assert_eq!(block.after_and_later(&key, one), after.and_later(), "{}", start);
        }
        let from_start = Positions::below(1).and_later();
        prop_assert_eq!(block.after_and_later(&key, from_start), all.and_later());
        prop_assert_eq!(block.after(&key, from_start), all);
        Ok(())
    }

    /// The words with one of `*` or of another word here and there.
    fn sprinkled(
        len: std::ops::Range<usize>,
        rare: &'static str,
    ) -> impl Strategy<Value = Vec<&'static str>> {
        (1..12u32).prop_flat_map(move |common| {
            let word = prop_oneof![common => Just("a"), 1 => Just("b"), 1 => Just(rare)];
            prop::collection::vec(word, len.clone())
        })
    }

    proptest! {
        #[test]
        fn a_block_fits_where_its_words_do(
            pattern in sprinkled(8..64, "*"),
            stars in prop::collection::vec(any::<bool>(), 64),
            key in sprinkled(1..128, "c"),
        ) {
            check::<2, 128>(&pattern, &key)?;
            let starred: Vec<_> =
                pattern.iter().zip(stars).map(|(&word, star)| if star { "*" } else { word }).collect();
            check::<2, 128>(&starred, &key)?;
            check::<5, 257>(&starred, &key)?;
        }
    }

    #[test]
    fn blocks_are_for_many_words_few_of_them_different() {
        let block = |len: usize, different: u32| {
            let mut words = Words::new();
            let ids: Vec<_> = (0..different).map(|n| words.take(&n.to_string())).collect();
            Block::new((0..len).map(|at| ids.get(at % ids.len().max(1)).copied().unwrap_or(WordId::ANY)))
                .is_some()
        };
        assert!(block(8, 0) && block(8, 2) && block(63, 15));
        assert!(!block(7, 1) && !block(8, 3) && !block(63, 16) && !block(64, 1));
    }
}
