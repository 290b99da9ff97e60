//! The fanout exchange: every destination, whatever the key.

use std::hash::Hash;

use super::destinations::Destinations;

/// Where everything goes.
#[derive(Debug)]
pub(super) struct Fanout<D>(Destinations<D>);

impl<D: Eq + Hash> Fanout<D> {
    pub(super) fn new() -> Self {
        Self(Destinations::None)
    }

    pub(super) fn add(&mut self, destination: D) {
        self.0.add(destination);
    }

    pub(super) fn remove(&mut self, destination: &D) {
        self.0.remove(destination);
    }

    pub(super) fn route(&self, found: &mut dyn FnMut(&D)) {
        self.0.each(found);
    }
}
