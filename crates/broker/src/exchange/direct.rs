//! The direct exchange: the routing key equals the binding key.

use std::hash::Hash;

use super::destinations::{Destinations, OrderedMap};

/// Binding keys and where each leads.
#[derive(Debug)]
pub(super) struct Direct<D>(OrderedMap<Box<str>, Destinations<D>>);

impl<D: Eq + Hash> Direct<D> {
    pub(super) fn new() -> Self {
        Self(OrderedMap::default())
    }

    pub(super) fn add(&mut self, destination: D, key: &str) {
        match self.0.get_mut(key) {
            Some(destinations) => destinations.add(destination),
            None => {
                let mut destinations = Destinations::None;
                destinations.add(destination);
                self.0.insert(key.into(), destinations);
            }
        }
    }

    pub(super) fn remove(&mut self, destination: &D, key: &str) {
        let Some(destinations) = self.0.get_mut(key) else { return };
        destinations.remove(destination);
        if destinations.is_empty() {
            self.0.swap_remove(key);
        }
    }

    pub(super) fn route(&self, key: &str, found: &mut dyn FnMut(&D)) {
        if let Some(destinations) = self.0.get(key) {
            destinations.each(found);
        }
    }
}
