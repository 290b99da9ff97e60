//! The consistent-hash exchange: a message goes to one destination, decided by a hash, in proportion to weights.
//!
//! Every binding draws a number for the message, from the hash of both, and the best one wins (weighted rendezvous
//! hashing). A binding that comes wins its share from all others; one that goes leaves its messages to the others;
//! nothing else moves. Nothing depends on the order in which bindings were made, so a restart changes nothing.
//!
//! ```text
//!   draw = hash(message, binding)       uniform in (0, 1]
//!   best = lowest  -ln(draw) / weight   wins with probability weight / sum of weights
//! ```
//!
//! Bindings of one weight only compare their draws; the logarithm is taken once for each different weight. A route costs
//! about two nanoseconds for each binding, and a weight costs nothing, however large it is.

use std::collections::BTreeMap;

use leveret_wire::{FieldTable, RawProperties};

use super::Member;
use super::bad_binding::BadBinding;
use super::hash_on::HashOn;
use super::registry::canonical;
use super::stable_hash::{hash, mix};

/// The bindings by weight.
#[derive(Debug)]
pub(super) struct ConsistentHash<D> {
    hash_on: HashOn,
    by_weight: BTreeMap<u32, Vec<Contender<D>>>,
}

#[derive(Debug)]
struct Contender<D> {
    seed: u64,
    destination: D,
}

/// Whether the binding key is a weight.
pub(super) fn check(key: &str) -> Result<(), BadBinding> {
    weight(key).map(drop)
}

/// RabbitMQ's plugin reads an integer as Erlang does: a sign, then digits.
fn weight(key: &str) -> Result<u32, BadBinding> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(BadBinding::WeightNotInteger(key.to_owned()));
    }
    let is_zero = digits.bytes().all(|octet| octet == b'0');
    if key.starts_with('-') || is_zero {
        return Err(BadBinding::WeightBelowOne);
    }
    digits.parse().map_err(|_| BadBinding::WeightTooLarge)
}

impl<D: Member> ConsistentHash<D> {
    pub(super) fn new(hash_on: HashOn) -> Self {
        Self { hash_on, by_weight: BTreeMap::new() }
    }

    /// A key that [`check`] refuses counts as the weight 1.
    pub(super) fn add(&mut self, destination: D, key: &str, arguments: &FieldTable) {
        let seed = seed(&destination, key, arguments);
        let contenders = self.by_weight.entry(weight(key).unwrap_or(1)).or_default();
        contenders.push(Contender { seed, destination });
    }

    pub(super) fn remove(&mut self, destination: &D, key: &str, arguments: &FieldTable) {
        let (seed, weight) = (seed(destination, key, arguments), weight(key).unwrap_or(1));
        let Some(contenders) = self.by_weight.get_mut(&weight) else { return };
        if let Some(at) = contenders.iter().position(|one| one.seed == seed) {
            contenders.swap_remove(at);
        }
        if contenders.is_empty() {
            self.by_weight.remove(&weight);
        }
    }

    pub(super) fn route(&self, key: &str, properties: RawProperties<'_>, found: &mut dyn FnMut(&D)) {
        let message = hash(&self.hash_on.octets(key, properties));
        let winners = self.by_weight.iter().filter_map(|(weight, contenders)| {
            let draw = |one: &&Contender<D>| (mix(message ^ one.seed), one.seed);
            let best = contenders.iter().max_by_key(draw)?;
            Some((minus_ln(draw(&best).0) / f64::from(*weight), best))
        });
        if let Some((_, winner)) = winners.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
            found(&winner.destination);
        }
    }
}

/// Names a binding in the same way in every process.
fn seed<D: Member>(destination: &D, key: &str, arguments: &FieldTable) -> u64 {
    let mut octets = destination.stable_name();
    octets.push(0);
    octets.extend_from_slice(key.as_bytes());
    octets.push(0);
    octets.extend_from_slice(&canonical(arguments));
    hash(&octets)
}

/// `-ln` of a number that stands for one in (0, 1]. By basic arithmetic only, which every machine rounds alike.
fn minus_ln(draw: u64) -> f64 {
    let number = (draw >> 11) + 1; // 1 to 2^53
    let exponent = 63 - number.leading_zeros();
    let mantissa = number as f64 / (1u64 << exponent) as f64; // 1 to 2
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let terms = (0..8).rev().fold(0.0, |sum, at| sum * z * z + 1.0 / f64::from(2 * at + 1));
    f64::from(53 - exponent) * std::f64::consts::LN_2 - 2.0 * z * terms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: usize = 5_000;

    fn exchange(weights: &[(u32, &str)]) -> ConsistentHash<u32> {
        let mut exchange = ConsistentHash::new(HashOn::RoutingKey);
        for (destination, weight) in weights {
            exchange.add(*destination, weight, &FieldTable::new());
        }
        exchange
    }

    fn route(exchange: &ConsistentHash<u32>) -> Vec<u32> {
        let one = |key: usize| {
            let mut to = Vec::new();
            exchange.route(&format!("order.{key}"), RawProperties::default(), &mut |&found| to.push(found));
            assert_eq!(to.len(), 1);
            to[0]
        };
        (0..KEYS).map(one).collect()
    }

    fn share(routes: &[u32], destination: u32) -> f64 {
        routes.iter().filter(|&&to| to == destination).count() as f64 / KEYS as f64
    }

    #[test]
    fn weights_are_integers_from_one_on() {
        let check = |key: &str, expected: Result<u32, &str>| {
            assert_eq!(weight(key).map_err(|bad| bad.to_string()), expected.map_err(str::to_owned), "{key}");
        };
        check("1", Ok(1));
        check("+007", Ok(7));
        check("4294967295", Ok(u32::MAX));
        check("4294967296", Err("The binding key must be at most 4294967295"));
        check("0", Err("The binding key must be greater than 0"));
        check("-3", Err("The binding key must be greater than 0"));
        check("", Err("The binding key must be an integer: <<>>"));
        check("1.5", Err("The binding key must be an integer: <<\"1.5\">>"));
        check("+", Err("The binding key must be an integer: <<\"+\">>"));
    }

    #[test]
    fn logarithms_are_close() {
        for draw in [0, 1 << 11, 12345 << 40, u64::MAX / 2, u64::MAX / 3, u64::MAX] {
            let exact = -((((draw >> 11) + 1) as f64) / (1u64 << 53) as f64).ln();
            assert!((minus_ln(draw) - exact).abs() < 1e-8, "{draw}: {} {exact}", minus_ln(draw));
        }
    }

    /// Whoever changes this moves messages of existing exchanges to other queues.
    #[test]
    fn messages_go_the_same_way_in_every_version() {
        let routes = route(&exchange(&[(1, "1"), (2, "2"), (3, "3")]));
        assert_eq!(routes[..12], [3, 3, 2, 3, 2, 3, 3, 3, 2, 2, 3, 3]);
    }

    #[test]
    fn nobody_bound_finds_nobody() {
        let mut exchange = exchange(&[(1, "1")]);
        exchange.remove(&1, "1", &FieldTable::new());
        exchange.route("k", RawProperties::default(), &mut |_| panic!("nobody is bound"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn shares_follow_weights_and_few_messages_move(
            weights in prop::collection::vec(1..20u32, 1..12),
            new_weight in 1..20u32,
        ) {
            let keys: Vec<String> = weights.iter().map(u32::to_string).collect();
            let bound: Vec<(u32, &str)> = (0..).zip(keys.iter().map(String::as_str)).collect();
            let mut some = exchange(&bound);
            let before = route(&some);
            let total = f64::from(weights.iter().sum::<u32>());
            for (destination, weight) in (0..).zip(&weights) {
                let fair = f64::from(*weight) / total;
                let off = (share(&before, destination) - fair).abs();
                // Six standard deviations of so many draws: never by chance.
                prop_assert!(off < 6.0 * (fair * (1.0 - fair) / KEYS as f64).sqrt() + 1e-9, "{off} of {fair}");
            }
            let newcomer = bound.len() as u32;
            some.add(newcomer, &new_weight.to_string(), &FieldTable::new());
            let after = route(&some);
            prop_assert!(before.iter().zip(&after).all(|(old, new)| old == new || *new == newcomer));
            some.remove(&newcomer, &new_weight.to_string(), &FieldTable::new());
            prop_assert_eq!(&route(&some), &before);
            let reversed: Vec<_> = bound.iter().rev().copied().collect();
            prop_assert_eq!(route(&exchange(&reversed)), before);
        }
    }
}
