//! Sets of positions in a routing key: position `p` means that the first `p` words are matched.
//!
//! ```text
//!   news . ohio . today        a pattern step moves all positions at once:
//!  0      1      2       3       a word   keep those before that word, shift by one
//!                                *        keep those before any word, shift by one
//!                                #        everything from the lowest position on
//! ```

/// A set of positions below `64 × N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Positions<const N: usize>([u64; N]);

impl<const N: usize> Positions<N> {
    pub(super) const EMPTY: Self = Self([0; N]);

    /// All positions below `end`.
    pub(super) fn below(end: usize) -> Self {
        let mut set = Self::EMPTY;
        for position in 0..end {
            set.insert(position);
        }
        set
    }

    pub(super) fn one(position: usize) -> Self {
        let mut set = Self::EMPTY;
        set.insert(position);
        set
    }

    pub(super) fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    pub(super) fn contains(self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; N]
    }

    pub(super) fn lowest(self) -> Option<usize> {
        let at = self.0.iter().position(|&bits| bits != 0)?;
        Some(at * 64 + self.0[at].trailing_zeros() as usize)
    }

    /// The only position, if there is exactly one.
    pub(super) fn single(self) -> Option<usize> {
        let at = self.0.iter().position(|&bits| bits != 0)?;
        let is_single = self.0[at].is_power_of_two() && self.0[at + 1..].iter().all(|&bits| bits == 0);
        is_single.then(|| at * 64 + self.0[at].trailing_zeros() as usize)
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// Every position moved on by one word. The highest possible one must not be in the set.
    pub(super) fn next(self) -> Self {
        Self(std::array::from_fn(|at| {
            let carried = if at == 0 { 0 } else { self.0[at - 1] >> 63 };
            (self.0[at] << 1) | carried
        }))
    }

    /// Every position moved on by that many words, 63 at most. None may leave the set.
    pub(super) fn ahead(self, words: usize) -> Self {
        Self(std::array::from_fn(|at| {
            let carried = if at == 0 { 0 } else { self.0[at - 1] >> 1 >> (63 - words) };
            (self.0[at] << words) | carried
        }))
    }

    /// Every position moved back by that many words, 63 at most. Those below zero are dropped.
    pub(super) fn back(self, words: usize) -> Self {
        Self(std::array::from_fn(|at| {
            let carried = self.0.get(at + 1).map_or(0, |bits| bits << 1 << (63 - words));
            (self.0[at] >> words) | carried
        }))
    }

    /// The 64 positions from `start` on.
    pub(super) fn window(self, start: usize) -> u64 {
        let word = |at: usize| self.0.get(at).copied().unwrap_or_default();
        let (at, shift) = (start / 64, start % 64);
        (word(at) >> shift) | (word(at + 1) << 1 << (63 - shift))
    }

    /// Removes what is before any of the positions by any of the distances, whose numbers are the bits of a mask.
    pub(super) fn without_before(mut self, positions: Self, distances: u64) -> Self {
        let from_lowest = distances.reverse_bits();
        for (at, &bits) in positions.0.iter().enumerate() {
            for bit in ones(bits) {
                self.0[at] &= !(from_lowest >> (63 - bit));
                if let Some(below) = at.checked_sub(1) {
                    self.0[below] &= !(from_lowest << bit << 1);
                }
            }
        }
        self
    }

    /// How many positions there are.
    pub(super) fn len(self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub(super) fn difference(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    /// The lowest position and all above it, also beyond the end of the key.
    pub(super) fn and_later(self) -> Self {
        let mut seen = false;
        Self(self.0.map(|bits| {
            let filled = match (seen, bits) {
                (true, _) => u64::MAX,
                (false, 0) => 0,
                (false, bits) => !((bits & bits.wrapping_neg()) - 1),
            };
            seen |= bits != 0;
            filled
        }))
    }
}

/// The numbers of the bits that are set.
pub(super) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        lowest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(positions: &[usize]) -> Positions<3> {
        let mut set = Positions::EMPTY;
        positions.iter().for_each(|&p| set.insert(p));
        set
    }

    #[test]
    fn sets_move_across_word_boundaries() {
        assert_eq!(set(&[0, 63, 100, 127]).next(), set(&[1, 64, 101, 128]));
        assert_eq!(Positions::<3>::below(130), set(&(0..130).collect::<Vec<_>>()));
        assert_eq!(set(&[3, 70]).intersection(set(&[4, 70])), set(&[70]));
    }

    #[test]
    fn a_set_is_filled_from_its_lowest_position() {
        for lowest in [0, 5, 63, 64, 150, 191] {
            let filled = set(&[lowest, 191]).and_later();
            assert_eq!(filled, set(&(lowest..192).collect::<Vec<_>>()));
        }
        assert!(set(&[]).and_later().is_empty());
    }

    #[test]
    fn single_finds_only_singletons() {
        for position in [0, 63, 64, 191] {
            assert_eq!(set(&[position]).single(), Some(position));
            assert!(set(&[position]).contains(position));
        }
        assert_eq!(set(&[]).single(), None);
        assert_eq!(set(&[0, 1]).single(), None);
        assert_eq!(set(&[0, 64]).single(), None);
    }

    /// What the operations on several words do, told position by position.
    #[test]
    fn sets_move_as_their_positions_do() {
        let all = [0, 1, 5, 62, 63, 64, 65, 100, 120, 126, 127];
        for words in 0..64 {
            let ahead: Vec<_> = all.iter().map(|at| at + words).collect();
            assert_eq!(set(&all).ahead(words), set(&ahead));
            let back: Vec<_> = all.iter().filter_map(|at: &usize| at.checked_sub(words)).collect();
            assert_eq!(set(&all).back(words), set(&back));
        }
        let distances = 1 | 1 << 4 | 1 << 63;
        for position in 0..192 {
            let seen = ones(set(&all).window(position)).map(|bit| bit + position).collect::<Vec<_>>();
            let expected = all.iter().copied().filter(|at| (position..position + 64).contains(at));
            assert_eq!(seen, expected.collect::<Vec<_>>());
            let kept: Vec<_> =
                all.iter().copied().filter(|at| ![0, 4, 63].iter().any(|d| at + d == position)).collect();
            assert_eq!(set(&all).without_before(set(&[position]), distances), set(&kept));
            assert_eq!(set(&kept).lowest(), kept.first().copied());
            assert_eq!(set(&all).difference(set(&kept)).len(), all.len() - kept.len());
        }
    }
}
