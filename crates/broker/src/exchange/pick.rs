//! Exchanges that pick one of their bindings: by a hash of the routing key (`x-modulus-hash`), or by chance (`x-random`,
//! `x-local-random`). A destination that is bound several times is picked as many times as often.
//!
//! The bindings are kept sorted by the name of their destination: the same hash is the same queue after a restart, which
//! RabbitMQ's plugin did not promise.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Member;
use super::stable_hash::{hash, mix};

/// The step of SplitMix64.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// All bindings, one of which is picked.
#[derive(Debug)]
pub(super) struct Pick<D> {
    sorted: Vec<(Box<[u8]>, D)>,
    by: By,
}

/// How one is picked.
#[derive(Debug)]
pub(super) enum By {
    /// By a hash of the routing key.
    Hash,
    /// By the numbers of a generator, which are the same in every run. Holds its state.
    Chance(AtomicU64),
}

impl<D: Member> Pick<D> {
    pub(super) fn by_hash() -> Self {
        Self { sorted: Vec::new(), by: By::Hash }
    }

    pub(super) fn by_chance(seed: u64) -> Self {
        Self { sorted: Vec::new(), by: By::Chance(AtomicU64::new(seed)) }
    }

    pub(super) fn add(&mut self, destination: D) {
        let name = destination.stable_name().into_boxed_slice();
        let at = self.sorted.partition_point(|(other, _)| *other < name);
        self.sorted.insert(at, (name, destination));
    }

    pub(super) fn remove(&mut self, destination: &D) {
        let name = destination.stable_name();
        if let Ok(at) = self.sorted.binary_search_by(|(other, _)| (**other).cmp(&name)) {
            self.sorted.remove(at);
        }
    }

    pub(super) fn route(&self, key: &str, found: &mut dyn FnMut(&D)) {
        let number = match &self.by {
            By::Hash => hash(key.as_bytes()),
            By::Chance(state) => mix(state.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed)),
        };
        // The high half of the product: below the count, and as even as the number is.
        let at = (u128::from(number) * self.sorted.len() as u128) >> 64;
        if let Some((_, destination)) = self.sorted.get(at as usize) {
            found(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: usize = 40_000;

    fn counts(pick: &Pick<u32>) -> [usize; 4] {
        let mut counts = [0; 4];
        for key in 0..MESSAGES {
            pick.route(&format!("k{key}"), &mut |&to| counts[to as usize] += 1);
        }
        counts
    }

    fn check_even(mut pick: Pick<u32>) {
        [3, 1, 2, 0].into_iter().for_each(|destination| pick.add(destination));
        assert!(counts(&pick).iter().all(|count| count.abs_diff(MESSAGES / 4) < MESSAGES / 40));
        pick.remove(&3);
        pick.add(0);
        let [twice, once, ..] = counts(&pick);
        assert!(twice.abs_diff(MESSAGES / 2) < MESSAGES / 40 && once.abs_diff(MESSAGES / 4) < MESSAGES / 40);
        for destination in [0, 0, 1, 2] {
            pick.remove(&destination);
        }
        assert_eq!(counts(&pick), [0; 4]);
    }

    #[test]
    fn bindings_are_picked_evenly() {
        check_even(Pick::by_hash());
        check_even(Pick::by_chance(7));
    }

    #[test]
    fn a_key_goes_one_way_whatever_the_order_of_bindings() {
        let [mut one, mut other] = [Pick::by_hash(), Pick::by_hash()];
        (0..4u32).for_each(|destination| one.add(destination));
        (0..4u32).rev().for_each(|destination| other.add(destination));
        for key in ["", "a", "b", "news.ohio"] {
            let (mut there, mut here) = (Vec::new(), Vec::new());
            one.route(key, &mut |&to| there.push(to));
            other.route(key, &mut |&to| here.push(to));
            assert_eq!(there, here);
        }
    }

    #[test]
    fn chance_repeats_itself_from_the_same_seed() {
        let run = |seed| {
            let mut pick = Pick::by_chance(seed);
            (0..4u32).for_each(|destination| pick.add(destination));
            let mut picked = Vec::new();
            (0..32).for_each(|_| pick.route("", &mut |&to| picked.push(to)));
            picked
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
