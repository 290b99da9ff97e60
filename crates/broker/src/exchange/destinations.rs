//! The destinations behind one key: a set that counts, because several bindings (with the same key and other
//! arguments) may lead to the same place.

use std::hash::Hash;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;

/// A hash map that iterates in an order independent of its hash seed.
pub(super) type OrderedMap<K, V> = IndexMap<K, V, DefaultHashBuilder>;

/// Destinations, each with the number of bindings that lead to it. Most keys have one, which is kept in place.
#[derive(Debug)]
pub(super) enum Destinations<D> {
    None,
    One(D, u32),
    Many(Box<OrderedMap<D, u32>>),
}

impl<D: Eq + Hash> Destinations<D> {
    pub(super) fn add(&mut self, destination: D) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(destination, 1),
            Self::One(only, count) if only == destination => Self::One(only, count + 1),
            Self::One(only, count) => {
                Self::Many(Box::new([(only, count), (destination, 1)].into_iter().collect()))
            }
            Self::Many(mut all) => {
                *all.entry(destination).or_insert(0) += 1;
                Self::Many(all)
            }
        }
    }

    pub(super) fn remove(&mut self, destination: &D) {
        let count = match self {
            Self::One(only, count) if only == destination => count,
            Self::None | Self::One(..) => return,
            Self::Many(all) => match all.get_mut(destination) {
                Some(count) => count,
                None => return,
            },
        };
        *count -= 1;
        if *count == 0 {
            self.forget(destination);
        }
    }

    fn forget(&mut self, destination: &D) {
        match self {
            Self::Many(all) if all.len() > 1 => drop(all.swap_remove(destination)),
            Self::None | Self::One(..) | Self::Many(_) => *self = Self::None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn each(&self, found: &mut dyn FnMut(&D)) {
        match self {
            Self::None => {}
            Self::One(only, _) => found(only),
            Self::Many(all) => all.keys().for_each(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(destinations: &Destinations<&str>, expected: &[&str]) {
        let mut found = Vec::new();
        destinations.each(&mut |destination| found.push(*destination));
        assert_eq!(found, expected);
        assert_eq!(destinations.is_empty(), expected.is_empty());
    }

    #[test]
    fn a_destination_stays_until_its_last_binding_goes() {
        for others in [&[][..], &["o"], &["o", "p", "s"]] {
            let mut destinations = Destinations::None;
            others.iter().for_each(|other| destinations.add(*other));
            destinations.add("q");
            destinations.add("q");
            destinations.remove(&"q");
            check(&destinations, &[others, &["q"]].concat());
            destinations.remove(&"q");
            check(&destinations, others);
            destinations.remove(&"q");
            check(&destinations, others);
            others.iter().for_each(|other| destinations.remove(other));
            check(&destinations, &[]);
        }
    }
}
