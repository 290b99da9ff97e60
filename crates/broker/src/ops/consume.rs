//! Starting and ending consumers, and how much they may have in flight.

use std::sync::Arc;

use leveret_wire::FieldTable;

use super::queue::generated_name;
use super::reply_to::is_reply_to;
use super::settle::ignore_gone;
use crate::arguments::{ConsumerArguments, check_consumer};
use crate::channel::{Channel, Subscription, clean_name};
use crate::connection::Resource;
use crate::error::Refusal;
use crate::port::Batch;
use crate::queue::{Consumer, Courier};
use crate::users::Operation;

/// `basic.consume`. `no-local` is accepted and means nothing, as in RabbitMQ.
#[derive(Debug)]
pub struct Consume<'a> {
    /// The queue; empty: the last declared one.
    pub queue: &'a str,
    /// The tag; empty: the broker makes one up.
    pub consumer_tag: &'a str,
    /// Deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Arguments; `x-priority` and `x-consumer-timeout` are known.
    pub arguments: FieldTable,
}

impl Channel {
    /// Starts a consumer and answers its tag. Deliveries start with [`Self::start_deliveries`], after the
    /// client has been told the tag.
    pub fn consume(&mut self, consume: Consume<'_>, now_ms: u64) -> Result<Arc<str>, Refusal> {
        let name = clean_name(self.queue_name(consume.queue)?).into_owned();
        let tag = self.new_tag(consume.consumer_tag)?;
        if is_reply_to(&name) {
            self.consume_replies(tag.clone(), consume.no_ack)?;
            return Ok(tag);
        }
        self.connection.authorize(Operation::Read, Resource::Queue(&name))?;
        let queue = self.usable_queue(&name)?;
        queue.check_not_internal()?;
        let mut life = queue.lock();
        let state = life.alive(&queue)?;
        let ConsumerArguments { priority, timeout_ms } =
            check_consumer(&consume.arguments, &queue.described(), queue.kind)?;
        let reading = self.reading(&queue, consume.no_ack, &consume.arguments, now_ms)?;
        if state.refuses_consumer(consume.exclusive) {
            return Err(Refusal::access(format!("{} in exclusive use", queue.described())));
        }
        let prefetch = self.port.facts.prefetch();
        let consumer =
            Consumer::new(tag.clone(), consume.no_ack, consume.exclusive, prefetch, self.port.clone());
        let consumer = consumer
            .with_priority(priority)
            .with_timeout(timeout_ms)
            .with_reading(reading)
            .with_arguments(consume.arguments);
        let key = state.add_consumer(consumer);
        drop(life);
        self.port.facts.subscribe(tag.clone(), Subscription { queue, key });
        Ok(tag)
    }

    /// Hands out what waits in the queue of a consumer that has just started.
    pub fn start_deliveries(&self, consumer_tag: &str, batch: &mut Batch) -> Result<(), Refusal> {
        let Some(subscription) = self.port.facts.subscription(consumer_tag) else { return Ok(()) };
        self.connection.broker.with_queue(&subscription.queue, batch, |_, _, _| Ok(()))
    }

    /// Ends a consumer. An unknown tag is as good as ended.
    pub fn cancel(&mut self, consumer_tag: &str, batch: &mut Batch) {
        if self.direct_reply.as_ref().is_some_and(|reply| *reply.consumer_tag == *consumer_tag) {
            self.forget_direct_reply();
        }
        if let Some(subscription) = self.port.facts.unsubscribe(consumer_tag) {
            self.end_subscription(&subscription, batch);
        }
    }

    pub(crate) fn end_subscription(&self, subscription: &Subscription, batch: &mut Batch) {
        let queue = &subscription.queue;
        let removed = self.connection.broker.with_queue(queue, batch, |state, carrier, _| {
            state.remove_consumer(subscription.key);
            state.used(carrier.now_ms());
            Ok(())
        });
        if let Err(refusal) = ignore_gone(removed) {
            tracing::error!(%refusal, queue = %queue.name, "another consumer could not take over");
        }
        self.connection.broker.remove_if_abandoned(&self.connection.vhost, queue, batch);
    }

    /// `basic.qos`: for consumers that start later, or for the channel as a whole.
    pub fn limit_prefetch(
        &mut self,
        size_bytes: u32,
        count: u16,
        global: bool,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        if size_bytes != 0 {
            return Err(Refusal::not_implemented(format!("prefetch_size!=0 ({size_bytes})")));
        }
        let count = u32::from(count);
        if !global {
            self.port.facts.set_prefetch(count);
        }
        // RabbitMQ: a limit for single consumers ends the one for the channel.
        let resumed = self.port.limit(if global { count } else { 0 });
        self.connection.broker.resume(resumed, batch);
        Ok(())
    }

    fn new_tag(&self, wanted: &str) -> Result<Arc<str>, Refusal> {
        if wanted.is_empty() {
            return Ok(generated_name("amq.ctag-")?.into());
        }
        let in_use = self.port.facts.subscription(wanted).is_some_and(|known| known.is_consuming())
            || self.direct_reply.as_ref().is_some_and(|reply| *reply.consumer_tag == *wanted);
        if in_use {
            return Err(Refusal::not_allowed(format!("attempt to reuse consumer tag '{wanted}'")));
        }
        let limit = self.connection.broker.limits.consumers_per_channel;
        if self.port.facts.subscription_count() >= limit {
            return Err(Refusal::not_allowed(format!("reached maximum ({limit}) of consumers per channel")));
        }
        Ok(wanted.into())
    }
}
