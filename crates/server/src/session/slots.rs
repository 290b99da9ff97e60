//! What a connection has under each channel number: a sorted list. Most connections use one channel or a few, and each
//! frame asks twice; a map's hash would be a tenth of what a small message costs.

/// Things by channel number.
#[derive(Debug)]
pub(super) struct Slots<T> {
    sorted: Vec<(u16, T)>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { sorted: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The numbers in use, ascending.
    pub(super) fn numbers(&self) -> Vec<u16> {
        self.sorted.iter().map(|(number, _)| *number).collect()
    }

    pub(super) fn get(&self, number: u16) -> Option<&T> {
        let at = self.find(number).ok()?;
        self.sorted.get(at).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, number: u16) -> Option<&mut T> {
        let at = self.find(number).ok()?;
        self.sorted.get_mut(at).map(|(_, value)| value)
    }

    /// Puts a value in, in place of the one that was there.
    pub(super) fn insert(&mut self, number: u16, value: T) {
        match self.find(number) {
            Ok(at) => self.sorted[at].1 = value,
            Err(at) => {
                if self.sorted.len() == self.sorted.capacity() {
                    self.sorted.reserve_exact(self.sorted.len().max(1)); // room for four would be the first step
                }
                self.sorted.insert(at, (number, value));
            }
        }
    }

    pub(super) fn remove(&mut self, number: u16) -> Option<T> {
        let at = self.find(number).ok()?;
        Some(self.sorted.remove(at).1)
    }

    fn find(&self, number: u16) -> Result<usize, usize> {
        self.sorted.binary_search_by_key(&number, |(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_map_in_order() {
        let (mut slots, mut model) = (Slots::new(), BTreeMap::new());
        let mut state = 1_u64;
        for step in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 40) as u16 % 30;
            if step % 2 == 0 {
                slots.insert(number, step);
                model.insert(number, step);
            } else {
                assert_eq!(slots.remove(number), model.remove(&number));
            }
            assert_eq!(slots.get(number), model.get(&number));
            assert_eq!(slots.get_mut(number), model.get_mut(&number));
            assert_eq!((slots.numbers(), slots.len()), (model.keys().copied().collect(), model.len()));
        }
    }
}
