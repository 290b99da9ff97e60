//! Direct reply-to: replies without a queue, at most once (P8).
//!
//! The requester consumes `amq.rabbitmq.reply-to` without acknowledgement and publishes on the same channel
//! with that name as `reply-to`; the broker replaces it by an address nobody can guess. Whoever has the
//! address publishes to it through the default exchange of the requester's virtual host; in others it leads nowhere, so
//! that tenants stay apart even when one leaks an address.

use std::sync::Arc;

use leveret_wire::{RawProperties, ReplyCode};

use super::publish::Publish;
use super::queue::QueueOk;
use crate::broker::ReplyTarget;
use crate::channel::{Channel, DirectReply};
use crate::counts::Published;
use crate::error::{Refusal, queue_in};
use crate::port::Batch;

/// The name under which requesters consume.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Whether a name is the pseudo-queue or an address made from it.
pub fn is_reply_to(name: &str) -> bool {
    name.strip_prefix(REPLY_TO).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Channel {
    /// Starts the channel's reply consumer.
    pub(crate) fn consume_replies(&mut self, consumer_tag: Arc<str>, no_ack: bool) -> Result<(), Refusal> {
        if !no_ack {
            return Err(Refusal::precondition("reply consumer cannot acknowledge"));
        }
        if self.direct_reply.is_some() {
            return Err(Refusal::precondition("reply consumer already set"));
        }
        let vhost = self.connection.vhost.clone();
        let target = ReplyTarget { vhost, port: self.port.clone(), consumer_tag: consumer_tag.clone() };
        let address = self
            .connection
            .broker
            .reply_tokens
            .issue(target)
            .map_err(|error| Refusal::internal(error.to_string()))?;
        self.direct_reply = Some(DirectReply { consumer_tag, address });
        Ok(())
    }

    pub(crate) fn forget_direct_reply(&mut self) {
        if let Some(reply) = self.direct_reply.take() {
            self.connection.broker.reply_tokens.revoke(&reply.address);
        }
    }

    /// The properties of a request with the address in place of the pseudo-queue's name.
    pub(crate) fn with_reply_address(&self, properties: RawProperties<'_>) -> Result<Vec<u8>, Refusal> {
        let Some(reply) = &self.direct_reply else {
            return Err(Refusal::precondition("fast reply consumer does not exist"));
        };
        let mut properties = properties.to_properties();
        properties.reply_to = Some(reply.address.clone().into());
        properties.encode().map_err(|error| Refusal::internal(error.to_string()))
    }

    /// A reply goes straight to the requester, or is unroutable when there is none any more. Answers what became of it.
    pub(crate) fn reply_directly(&self, publish: &Publish<'_>, batch: &mut Batch) -> Published {
        let message = publish.message;
        let target = self.requester(message.routing_key);
        let (vhost, statistics) = (&self.connection.vhost.name, &self.connection.broker.statistics);
        statistics.replied(vhost, &message, target.is_some(), batch.now_us);
        let Some(target) = target else {
            if publish.mandatory {
                self.port.returned(ReplyCode::NO_ROUTE, &message, batch);
            }
            return Published::Unroutable { returned: publish.mandatory };
        };
        target.port.reply(&target.consumer_tag, message, batch);
        Published::Routed
    }

    /// Whom an address leads to from here.
    fn requester(&self, address: &str) -> Option<ReplyTarget> {
        let target = self.connection.broker.reply_tokens.resolve(address)?;
        Arc::ptr_eq(&target.vhost, &self.connection.vhost).then_some(target)
    }

    /// A declaration only tells whether the requester is still there.
    pub(crate) fn declare_reply_to(&self, name: &str) -> Result<QueueOk, Refusal> {
        let known = name == REPLY_TO || self.requester(name).is_some();
        if known {
            return Ok(QueueOk { name: name.into(), messages: 0, consumers: 1 });
        }
        Err(Refusal::not_found(format!("no {}", queue_in(name, &self.connection.vhost.name))))
    }
}

#[cfg(test)]
mod tests {
    use super::is_reply_to;

    #[test]
    fn only_the_pseudo_queue_and_its_addresses_are_meant() {
        let check = |name: &str, expected: bool| assert_eq!(is_reply_to(name), expected, "{name}");
        check("amq.rabbitmq.reply-to", true);
        check("amq.rabbitmq.reply-to.abc", true);
        check("amq.rabbitmq.reply-tomorrow", false);
        check("", false);
    }
}
