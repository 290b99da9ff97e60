//! Whether anybody is there to hear the answer to a request.
//!
//! A request is an orphan when its reply-to is an address for direct replies whose caller is gone, or the name of a
//! queue that does not exist. A name may be something else: a path, or the key under which a queue is bound to an
//! exchange (so callers of nameko, and topic exchanges of answers). So a name is only taken for a missing queue's if it
//! can be nothing else.
//!
//! Asked while the lock of the request's queue is held: maps of names and tables of bindings are looked at, no other
//! queue.

use leveret_wire::{FieldValue, RawProperties};

use super::reply_to::{REPLY_TO, is_reply_to};
use crate::broker::Broker;
use crate::exchange::ExchangeKind;
use crate::message::MessageView;
use crate::vhost::{Exchange, VHost};

/// What names begin with that the broker makes up for queues.
const GENERATED_PREFIX: &str = "amq.gen-";
/// The header in which a request names the queue that its caller consumes from.
const CALLER_HEADER: &str = "rpc-caller";

impl Broker {
    /// Whether the answer to this message would reach nobody. `false` for what asks for none, and in case of doubt.
    pub(crate) fn is_orphan(&self, vhost: &str, message: &MessageView<'_>) -> bool {
        let reply_to = message.properties.reply_to().and_then(|name| std::str::from_utf8(name).ok());
        let Some(reply_to) = reply_to.filter(|name| !name.is_empty() && *name != REPLY_TO) else {
            return false;
        };
        if is_reply_to(reply_to) {
            return self.reply_tokens.resolve(reply_to).is_none();
        }
        let Some(vhost) = self.vhost(vhost) else { return false };
        vhost.queue(reply_to).is_none() && (names_a_queue(reply_to, message) || !vhost.may_lead_on(reply_to))
    }
}

/// Whether the reply-to can be nothing but a queue's name.
fn names_a_queue(reply_to: &str, message: &MessageView<'_>) -> bool {
    let caller = || message.properties.headers()?.find(CALLER_HEADER);
    reply_to.starts_with(GENERATED_PREFIX) || caller().as_ref().and_then(FieldValue::as_str) == Some(reply_to)
}

impl VHost {
    /// Whether an exchange might bring an answer with this key to somebody, or an address other than a key is meant.
    fn may_lead_on(&self, key: &str) -> bool {
        let selects = |kind| matches!(kind, ExchangeKind::Direct | ExchangeKind::Topic);
        let leads_on = |exchange: &Exchange| {
            let mut found = false;
            exchange.bindings.read().route(key, RawProperties::default(), &mut |_| found = true);
            found
        };
        key.contains('/')
            || self.exchanges().iter().any(|exchange| selects(exchange.spec.kind) && leads_on(exchange))
    }
}
