//! Which records of a segment are gone.

use std::sync::Arc;

/// A set of record indexes. Cloning shares; the first change after that copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: Arc<Vec<u64>>,
}

impl Bitmap {
    pub(crate) fn contains(&self, index: u32) -> bool {
        self.words.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Adds an index; false when it was there.
    pub(crate) fn insert(&mut self, index: u32) -> bool {
        let words = Arc::make_mut(&mut self.words);
        let at = index as usize / 64;
        if words.len() <= at {
            words.resize(at + 1, 0);
        }
        let bit = 1 << (index % 64);
        let fresh = words[at] & bit == 0;
        words[at] |= bit;
        fresh
    }

    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn from_words(words: Vec<u64>) -> Self {
        Self { words: Arc::new(words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut bitmap = Bitmap::default();
        for index in [0, 63, 64, 1000] {
            assert!(!bitmap.contains(index));
            assert!(bitmap.insert(index));
            assert!(!bitmap.insert(index));
        }
        let earlier = bitmap.clone();
        bitmap.insert(5);
        assert_eq!((earlier.count(), bitmap.count()), (4, 5));
        assert!(!earlier.contains(5) && bitmap.contains(1000));
        assert_eq!(Bitmap::from_words(bitmap.words().to_vec()), bitmap);
    }
}
