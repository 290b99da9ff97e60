//! The headers exchange: the message's headers match the binding's arguments.
//!
//! `x-match` in the arguments says how: `all` of the other arguments must match (the default), or `any`; the
//! forms `all-with-x` and `any-with-x` also compare keys that begin with `x-`, which are ignored otherwise.
//! An argument without a value asks only that the key exists. An empty `all` matches every message, an empty
//! `any` none.
//!
//! Values are compared as RabbitMQ 4 compares them: integers of any width by value (RabbitMQ's decoder forgets
//! the width), text and octets by octets, everything else only with its own type.

use std::hash::Hash;

use hashbrown::HashMap;
use leveret_wire::{FieldTable, FieldValue, RawTable};

use super::bad_binding::BadBinding;
use super::destinations::{Destinations, OrderedMap};
use super::registry::canonical;

/// The different argument tables and where each leads.
#[derive(Debug)]
pub(super) struct Headers<D>(OrderedMap<Vec<u8>, Rule<D>>);

/// One argument table.
#[derive(Debug)]
struct Rule<D> {
    quantifier: Quantifier,
    wanted: Vec<(String, FieldValue)>,
    destinations: Destinations<D>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    All,
    Any,
}

/// Whether `x-match` is one of the known values.
pub(super) fn check(arguments: &FieldTable) -> Result<(), BadBinding> {
    match arguments.get("x-match") {
        None => Ok(()),
        Some(FieldValue::LongString(text)) => match parse_match(text) {
            Some(_) => Ok(()),
            None => Err(BadBinding::UnknownMatch(text.clone())),
        },
        Some(value) => Err(BadBinding::MatchNotText(value.clone())),
    }
}

/// The quantifier, and whether keys that begin with `x-` count.
fn parse_match(text: &[u8]) -> Option<(Quantifier, bool)> {
    match text {
        b"all" => Some((Quantifier::All, false)),
        b"any" => Some((Quantifier::Any, false)),
        b"all-with-x" => Some((Quantifier::All, true)),
        b"any-with-x" => Some((Quantifier::Any, true)),
        _ => None,
    }
}

impl<D: Eq + Hash> Headers<D> {
    pub(super) fn new() -> Self {
        Self(OrderedMap::default())
    }

    pub(super) fn add(&mut self, destination: D, arguments: &FieldTable) {
        let rule = self.0.entry(canonical(arguments)).or_insert_with(|| Rule::new(arguments));
        rule.destinations.add(destination);
    }

    pub(super) fn remove(&mut self, destination: &D, arguments: &FieldTable) {
        let key = canonical(arguments);
        let Some(rule) = self.0.get_mut(&key) else { return };
        rule.destinations.remove(destination);
        if rule.destinations.is_empty() {
            self.0.swap_remove(&key);
        }
    }

    pub(super) fn route(&self, headers: RawTable<'_>, found: &mut dyn FnMut(&D)) {
        let headers = headers.to_table();
        let mut by_key = HashMap::with_capacity(headers.len());
        for (key, value) in &headers {
            by_key.entry(key.as_str()).or_insert(value);
        }
        for rule in self.0.values() {
            if rule.matches(&by_key) {
                rule.destinations.each(found);
            }
        }
    }
}

impl<D: Eq + Hash> Rule<D> {
    /// Arguments that [`check`] refuses mean `all`, as in RabbitMQ for bindings older than its check.
    fn new(arguments: &FieldTable) -> Self {
        let given = match arguments.get("x-match") {
            Some(FieldValue::LongString(text)) => parse_match(text),
            _ => None,
        };
        let (quantifier, with_x) = given.unwrap_or((Quantifier::All, false));
        let counts = |key: &str| key != "x-match" && (with_x || !key.starts_with("x-"));
        let wanted = arguments.iter().filter(|(key, _)| counts(key)).cloned().collect();
        Self { quantifier, wanted, destinations: Destinations::None }
    }

    fn matches(&self, headers: &HashMap<&str, &FieldValue>) -> bool {
        let mut results = self
            .wanted
            .iter()
            .map(|(key, wanted)| headers.get(key.as_str()).is_some_and(|&v| satisfies(v, wanted)));
        match self.quantifier {
            Quantifier::All => results.all(|matched| matched),
            Quantifier::Any => results.any(|matched| matched),
        }
    }
}

fn satisfies(value: &FieldValue, wanted: &FieldValue) -> bool {
    match wanted {
        FieldValue::Void => true,
        wanted => plain(value) == plain(wanted),
    }
}

/// A value without what RabbitMQ's decoder drops: the width of numbers, text versus octets.
#[derive(PartialEq)]
enum Plain<'a> {
    Integer(i128),
    Float(f64),
    Octets(&'a [u8]),
    Typed(&'a FieldValue),
}

fn plain(value: &FieldValue) -> Plain<'_> {
    match value {
        FieldValue::Timestamp(n) | FieldValue::U64(n) => Plain::Integer((*n).into()),
        FieldValue::F32(n) => Plain::Float((*n).into()),
        FieldValue::F64(n) => Plain::Float(*n),
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Plain::Octets(octets),
        other => match other.as_i64() {
            Some(n) => Plain::Integer(n.into()),
            None => Plain::Typed(other),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, FieldValue)]) -> FieldTable {
        FieldTable(entries.iter().map(|(k, v)| (k.to_string(), v.clone())).collect())
    }

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.into())
    }

    fn int(n: i32) -> FieldValue {
        FieldValue::I32(n)
    }

    fn routes(arguments: &[(&str, FieldValue)], headers: &[(&str, FieldValue)]) -> bool {
        let mut exchange = Headers::new();
        exchange.add("q", &table(arguments));
        let raw = table(headers).raw_bytes().unwrap();
        let mut found = false;
        exchange.route(RawTable::parse(&raw).unwrap(), &mut |_| found = true);
        found
    }

    fn check_value(wanted: FieldValue, value: FieldValue, expected: bool) {
        assert_eq!(
            routes(&[("a", wanted.clone())], &[("a", value.clone())]),
            expected,
            "{wanted:?} {value:?}"
        );
    }

    #[test]
    fn quantifiers_and_x_keys_as_rabbitmq_3_10_does() {
        let check = |arguments: &[(&str, FieldValue)], headers: &[(&str, FieldValue)], expected: bool| {
            assert_eq!(routes(arguments, headers), expected, "{arguments:?} {headers:?}");
        };
        let any = ("x-match", text("any"));
        let any_x = ("x-match", text("any-with-x"));
        let all_x = ("x-match", text("all-with-x"));
        check(&[], &[], true);
        check(&[], &[("a", int(1))], true);
        check(std::slice::from_ref(&any), &[], false);
        check(std::slice::from_ref(&any), &[("a", int(1))], false);
        check(std::slice::from_ref(&all_x), &[], true);
        check(std::slice::from_ref(&any_x), &[("a", int(1))], false);
        check(&[("a", int(1)), ("b", int(2))], &[("c", int(3)), ("b", int(2)), ("a", int(1))], true);
        check(&[("a", int(1)), ("b", int(2))], &[("a", int(1))], false);
        check(&[any.clone(), ("a", int(1)), ("b", int(2))], &[("b", int(2))], true);
        check(&[any.clone(), ("a", int(1)), ("b", int(2))], &[("b", int(3))], false);
        check(&[("x-a", int(1))], &[], true);
        check(&[("x-a", int(1))], &[("x-a", int(2))], true);
        check(&[any.clone(), ("x-a", int(1))], &[("x-a", int(1))], false);
        check(&[any_x.clone(), ("x-a", int(1))], &[("x-a", int(1))], true);
        check(&[all_x.clone(), ("x-a", int(1))], &[("x-a", int(1))], true);
        check(&[all_x.clone(), ("x-a", int(1))], &[], false);
        check(&[any_x.clone(), ("x-match2", int(1))], &[("x-match2", int(1))], true);
        check(&[("x", int(1))], &[("x", int(2))], false);
        check(&[any.clone(), ("x", int(1))], &[("x", int(1))], true);
        check(&[("a", FieldValue::Void)], &[], false);
    }

    #[test]
    fn values_compare_by_type_and_value() {
        let decimal = |scale, value| FieldValue::Decimal { scale, value };
        check_value(int(1), int(1), true);
        check_value(int(1), int(2), false);
        check_value(int(1), FieldValue::I64(1), true);
        check_value(FieldValue::U8(1), FieldValue::I16(1), true);
        check_value(int(5), FieldValue::Timestamp(5), true);
        check_value(int(5), FieldValue::F64(5.0), false);
        check_value(FieldValue::F32(0.5), FieldValue::F64(0.5), true);
        check_value(int(1), FieldValue::Bool(true), false);
        check_value(FieldValue::Bool(true), FieldValue::Bool(true), true);
        check_value(text("1"), int(1), false);
        check_value(text("x"), FieldValue::Bytes(b"x".to_vec()), true);
        check_value(decimal(0, 5), int(5), false);
        check_value(decimal(1, 50), decimal(1, 50), true);
        check_value(FieldValue::Void, int(5), true);
        check_value(int(5), FieldValue::Void, false);
        check_value(FieldValue::Array(vec![int(1)]), FieldValue::Array(vec![int(1)]), true);
        check_value(FieldValue::Array(vec![int(1)]), FieldValue::Array(vec![FieldValue::I64(1)]), false);
        let nested =
            |keys: &[&str]| FieldValue::Table(table(&keys.iter().map(|k| (*k, int(1))).collect::<Vec<_>>()));
        check_value(nested(&["b", "c"]), nested(&["b", "c"]), true);
        check_value(nested(&["b", "c"]), nested(&["c", "b"]), false);
    }

    #[test]
    fn only_known_kinds_of_match_can_be_bound() {
        let checked = |value: FieldValue| check(&table(&[("x-match", value)]));
        for known in ["all", "any", "all-with-x", "any-with-x"] {
            assert_eq!(checked(text(known)), Ok(()));
        }
        assert_eq!(checked(text("foo")), Err(BadBinding::UnknownMatch(b"foo".to_vec())));
        assert_eq!(checked(int(5)), Err(BadBinding::MatchNotText(int(5))));
        assert_eq!(check(&FieldTable::new()), Ok(()));
    }
}
