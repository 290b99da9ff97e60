//! Spring AMQP: the profile, but the reply address may name an exchange.
//!
//! ```text
//!  reply_to   answers.ohio                     queue
//!             answers/ohio                     exchange / routing key
//!             amq.rabbitmq.reply-to.g1h2…      direct reply-to: never split, whatever it contains
//!  headers    __TypeId__                       a Java class: ignored
//! ```

use super::delivery::Delivery;
use super::{DIRECT_REPLY_TO, Dialect, Envelope, ReplyAddress, Wrapper};

const TYPE_ID: &str = "__TypeId__";

pub(super) fn read(delivery: &Delivery<'_>) -> Option<Envelope> {
    let reply_to = delivery.reply_queue();
    let names_exchange =
        reply_to.is_some_and(|address| address.contains('/') && !address.starts_with(DIRECT_REPLY_TO));
    if !names_exchange && delivery.header(TYPE_ID).is_none() {
        return None;
    }
    let envelope = delivery.envelope(Dialect::Spring, Wrapper::None);
    let method = delivery.kind().map(str::to_owned);
    Some(Envelope { method, reply: reply_to.map(address), ..envelope })
}

/// As Spring's class `Address` reads it: `scheme://` is dropped, a single leading slash means the default exchange.
fn address(reply_to: &str) -> ReplyAddress {
    if reply_to.starts_with(DIRECT_REPLY_TO) {
        return ReplyAddress::queue(reply_to);
    }
    if reply_to.rfind('/').is_none_or(|at| at == 0) {
        return ReplyAddress::queue(reply_to.trim_start_matches('/'));
    }
    let path = reply_to.rsplit_once("://").map_or(reply_to, |(_, path)| path);
    let (exchange, routing_key) = path.split_once('/').unwrap_or((path, ""));
    ReplyAddress { exchange: exchange.into(), routing_key: routing_key.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, exchange, key) in [
            ("answers", "", "answers"),
            ("/answers", "", "answers"),
            ("answers/ohio", "answers", "ohio"),
            ("answers/", "answers", ""),
            ("answers/ohio/1", "answers", "ohio/1"),
            ("//answers", "", "/answers"),
            ("topic://answers/ohio", "answers", "ohio"),
            ("amq.rabbitmq.reply-to.g1h2AA/x+9", "", "amq.rabbitmq.reply-to.g1h2AA/x+9"),
        ] {
            let expected = ReplyAddress { exchange: exchange.into(), routing_key: key.into() };
            assert_eq!(address(text), expected, "{text}");
        }
    }
}
