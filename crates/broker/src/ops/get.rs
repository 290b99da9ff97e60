//! `basic.get`: one message, now or not at all.

use std::sync::Arc;

use crate::channel::{Channel, clean_name};
use crate::connection::Resource;
use crate::error::Refusal;
use crate::message::Message;
use crate::port::Batch;
use crate::queue::Courier;
use crate::users::Operation;

/// `basic.get-ok`.
#[derive(Debug)]
pub struct Got {
    /// The delivery tag, from the same sequence as consumers' deliveries.
    pub delivery_tag: u64,
    /// It was handed out before.
    pub redelivered: bool,
    /// The message.
    pub message: Arc<Message>,
    /// How many still wait.
    pub remaining: u64,
}

impl Channel {
    /// Fetches one message; `None` when nothing waits.
    pub fn get(&mut self, queue: &str, no_ack: bool, batch: &mut Batch) -> Result<Option<Got>, Refusal> {
        let name = clean_name(self.queue_name(queue)?).into_owned();
        self.connection.authorize(Operation::Read, Resource::Queue(&name))?;
        let queue = self.usable_queue(&name)?;
        queue.refuse_if_stream(true, "basic.get")?;
        queue.check_not_internal()?;
        let fetched = self.connection.broker.with_queue(&queue, batch, |state, carrier, aftermath| {
            state.used(carrier.now_ms());
            let fetched = state.fetch(no_ack, carrier, aftermath)?;
            if let Some(counters) = carrier.counters() {
                counters.fetched(
                    no_ack,
                    fetched.as_ref().map(|fetched| fetched.redelivered),
                    carrier.now_ms(),
                );
            }
            Ok(fetched)
        })?;
        if let Some(counting) = self.port.counting() {
            counting.fetched(no_ack, fetched.as_ref().map(|fetched| fetched.redelivered));
        }
        Ok(fetched.map(|fetched| Got {
            delivery_tag: self.port.fetched(&queue, fetched.pos, no_ack),
            redelivered: fetched.redelivered,
            message: fetched.message,
            remaining: fetched.remaining,
        }))
    }
}
