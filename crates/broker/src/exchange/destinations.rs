//! The destinations behind one key: a set that counts, because several bindings (with the same key and other
//! arguments) may lead to the same place.

use std::hash::Hash;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;

/// A hash map that iterates in an order independent of its hash seed.
pub(super) type OrderedMap<K, V> = IndexMap<K, V, DefaultHashBuilder>;

/// Destinations, each with the number of bindings that lead to it.
#[derive(Debug)]
pub(super) struct Destinations<D>(OrderedMap<D, u32>);

impl<D: Eq + Hash> Destinations<D> {
    pub(super) fn new() -> Self {
        Self(OrderedMap::default())
    }

    pub(super) fn add(&mut self, destination: D) {
        *self.0.entry(destination).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, destination: &D) {
        let Some(count) = self.0.get_mut(destination) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.swap_remove(destination);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn each(&self, found: &mut dyn FnMut(&D)) {
        for destination in self.0.keys() {
            found(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_stays_until_its_last_binding_goes() {
        let mut destinations = Destinations::new();
        destinations.add("q");
        destinations.add("q");
        destinations.remove(&"q");
        assert!(!destinations.is_empty());
        destinations.remove(&"q");
        assert!(destinations.is_empty());
        destinations.remove(&"q");
        assert!(destinations.is_empty());
    }
}
