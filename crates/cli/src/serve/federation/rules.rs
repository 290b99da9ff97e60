//! What the broker's rules of federation say to links: of exchanges, and of queues.

use std::sync::Arc;

use leveret_broker::federation::{
    RECEIVED_FROM, Site, bound_from, may_pass, received_by_exchange, received_by_queue,
};
use leveret_broker::vhost::Queue;
use leveret_client::Delivery;
use leveret_shovel::Federation;
use leveret_wire::{FieldTable, Properties};

/// For a link that takes from an exchange.
#[derive(Debug)]
pub(super) struct OfExchange {
    /// This broker, and the exchange in it.
    pub(super) here: Site,
    pub(super) exchange: String,
    /// The virtual host there.
    pub(super) vhost: String,
    /// The upstream is not this very broker.
    pub(super) is_elsewhere: bool,
    pub(super) max_hops: i64,
    pub(super) trusts_user_id: bool,
    /// What is told of the upstream in headers.
    pub(super) station: FieldTable,
}

/// For a link that takes from a queue.
#[derive(Debug)]
pub(super) struct OfQueue {
    /// The queue here.
    pub(super) queue: Arc<Queue>,
    pub(super) trusts_user_id: bool,
    /// What is told of the upstream in headers.
    pub(super) station: FieldTable,
}

impl OfExchange {
    fn there(&self, upstream: &str) -> Site {
        Site { cluster: upstream.to_owned(), vhost: self.vhost.clone() }
    }
}

impl Federation for OfExchange {
    /// Brokers that cannot be told apart would take each other's messages for their own, and share a queue upstream.
    fn accepts(&self, upstream: &str) -> Result<(), String> {
        if self.is_elsewhere && self.there(upstream) == self.here {
            return Err(format!(
                "the upstream calls itself '{upstream}' as this broker does: give one of them another name (PUT \
                 /api/cluster-name)"
            ));
        }
        Ok(())
    }

    fn receive(&self, delivery: &Delivery, upstream: &str, properties: &mut Properties) -> bool {
        let headers = properties.headers.get_or_insert_default();
        if !may_pass(headers.get(RECEIVED_FROM), self.max_hops, &self.here) {
            return false;
        }
        let there = self.there(upstream);
        received_by_exchange(headers, self.station.clone(), delivery.redelivered, &there);
        forget_user(properties, self.trusts_user_id);
        true
    }

    fn wants(&self) -> bool {
        true
    }

    fn bind(&self, arguments: &FieldTable, upstream: &str, letter: char) -> Option<FieldTable> {
        let exchange = format!("{}:{} {letter}", self.here.vhost, self.exchange);
        bound_from(arguments, self.max_hops, Some(&self.there(upstream)), &self.here, &exchange)
    }
}

impl Federation for OfQueue {
    fn accepts(&self, _upstream: &str) -> Result<(), String> {
        Ok(())
    }

    fn receive(&self, delivery: &Delivery, _upstream: &str, properties: &mut Properties) -> bool {
        let headers = properties.headers.get_or_insert_default();
        let published_to = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        received_by_queue(headers, self.station.clone(), delivery.redelivered, published_to);
        forget_user(properties, self.trusts_user_id);
        true
    }

    fn wants(&self) -> bool {
        self.queue.lock().rule().is_some_and(|rule| rule.is_starving())
    }

    fn bind(&self, _arguments: &FieldTable, _upstream: &str, _letter: char) -> Option<FieldTable> {
        None
    }
}

fn forget_user(properties: &mut Properties, trusts_user_id: bool) {
    if !trusts_user_id {
        properties.user_id = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_of_one_name_do_not_take_from_each_other() {
        let site = |vhost: &str| Site { cluster: "a".into(), vhost: vhost.into() };
        let check = |vhost: &str, is_elsewhere: bool, upstream: &str, expected: bool| {
            let rules = OfExchange {
                here: site("/"),
                exchange: "x".into(),
                vhost: vhost.into(),
                is_elsewhere,
                max_hops: 1,
                trusts_user_id: false,
                station: FieldTable::new(),
            };
            assert_eq!(rules.accepts(upstream).is_ok(), expected, "{vhost} {is_elsewhere} {upstream}");
        };
        check("/", true, "b", true);
        check("/", true, "a", false);
        check("/", false, "a", true);
        check("other", true, "a", true);
    }
}
