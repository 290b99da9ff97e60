//! The exchange that a link of another broker declares here to take from: a fanout for messages that may go there.

use std::hash::Hash;

use leveret_wire::{FieldTable, FieldValue, RawProperties};

use super::bad_exchange::BadExchange;
use super::fanout::Fanout;
use crate::federation::{DOWNSTREAM_NAME, DOWNSTREAM_VHOST, MAX_HOPS, RECEIVED_FROM, Site, may_pass};

/// Where messages go that have not come too far.
#[derive(Debug)]
pub(super) struct FederationUpstream<D> {
    everything: Fanout<D>,
    max_hops: i64,
    downstream: Site,
}

impl<D: Eq + Hash> FederationUpstream<D> {
    pub(super) fn new(arguments: &FieldTable) -> Self {
        let text = |name| arguments.get(name).and_then(FieldValue::as_str).unwrap_or_default().to_owned();
        let downstream = Site { cluster: text(DOWNSTREAM_NAME), vhost: text(DOWNSTREAM_VHOST) };
        let max_hops = arguments.get(MAX_HOPS).and_then(FieldValue::as_i64).unwrap_or_default();
        Self { everything: Fanout::new(), max_hops, downstream }
    }

    pub(super) fn add(&mut self, destination: D) {
        self.everything.add(destination);
    }

    pub(super) fn remove(&mut self, destination: &D) {
        self.everything.remove(destination);
    }

    pub(super) fn route(&self, properties: RawProperties<'_>, found: &mut dyn FnMut(&D)) {
        let received_from = properties.headers().and_then(|headers| headers.find(RECEIVED_FROM));
        if may_pass(received_from.as_ref(), self.max_hops, &self.downstream) {
            self.everything.route(found);
        }
    }
}

/// Whether an exchange of this type can be declared so.
pub(super) fn check(arguments: &FieldTable) -> Result<(), BadExchange> {
    match arguments.get(MAX_HOPS) {
        None => Err(BadExchange::NoMaxHops),
        Some(FieldValue::I64(_)) => Ok(()),
        Some(_) => Err(BadExchange::MaxHopsNotLong),
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::Properties;

    use super::*;
    use crate::federation::received_by_exchange;

    #[test]
    fn only_what_may_go_on_is_routed() {
        let mut arguments = FieldTable::from([(DOWNSTREAM_NAME, "down"), (DOWNSTREAM_VHOST, "/")]);
        arguments.insert(MAX_HOPS, 2_i64);
        let mut exchange = FederationUpstream::new(&arguments);
        exchange.add(7);
        let check = |came_by: &[&str], expected: &[u32]| {
            let mut headers = FieldTable::new();
            for cluster in came_by {
                let at = Site { cluster: (*cluster).into(), vhost: "/".into() };
                received_by_exchange(&mut headers, FieldTable::new(), false, &at);
            }
            let properties = Properties { headers: Some(headers), ..Properties::default() };
            let octets = properties.encode().unwrap();
            let mut found = Vec::new();
            exchange.route(RawProperties::from_validated(&octets), &mut |to| found.push(*to));
            assert_eq!(found, expected, "{came_by:?}");
        };
        check(&[], &[7]);
        check(&["a"], &[7]);
        check(&["a", "b"], &[]);
        check(&["down"], &[]);
    }

    #[test]
    fn the_number_of_hops_is_required() {
        let check_one = |given: Option<FieldValue>, expected: Result<(), BadExchange>| {
            let arguments = FieldTable(given.map(|value| (MAX_HOPS.to_owned(), value)).into_iter().collect());
            assert_eq!(check(&arguments), expected, "{arguments:?}");
        };
        check_one(Some(FieldValue::I64(1)), Ok(()));
        check_one(None, Err(BadExchange::NoMaxHops));
        check_one(Some(FieldValue::I32(1)), Err(BadExchange::MaxHopsNotLong));
    }
}
