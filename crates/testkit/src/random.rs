//! Random decisions that a seed repeats, the same on every machine and in every version.

/// A small generator (SplitMix64): quality enough for choosing what happens next.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator whose decisions all follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // an endless source, not an iterator over anything
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True `wins` times out of `tries`.
    pub fn chance(&mut self, wins: u64, tries: u64) -> bool {
        self.below(tries) < wins
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// What a crash leaves of things that were on their way, in their order: nothing, all, the first ones, or
    /// any of them.
    pub fn some_of<T>(&mut self, items: Vec<T>) -> Vec<T> {
        match self.below(5) {
            0 => Vec::new(),
            1 => items,
            2 => {
                let count = self.below(items.len() as u64 + 1) as usize;
                items.into_iter().take(count).collect()
            }
            _ => items.into_iter().filter(|_| self.chance(1, 2)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_decides_the_same() {
        let decisions = |seed| {
            let mut random = Random::new(seed);
            (0..5).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(decisions(1), decisions(1));
        assert_ne!(decisions(1), decisions(2));
        assert_eq!(Random::new(1).below(0), 0);
        assert_eq!(Random::new(1).pick::<u8>(&[]), None);
    }
}
