//! Consumers that keep a delivery for too long.
//!
//! ```text
//!   deadline of the queue ─► which consumers are late? ─► client takes basic.cancel: the consumer ends, what it had
//!                                                     │    comes back as failed, the channel goes on
//!                                                     └─► else: its connection closes the channel, as RabbitMQ does
//! ```
//!
//! A queue looks at its deliveries when the oldest may be late, and at most once a second, so a timeout takes effect
//! within a second. The deliveries of `basic.get` belong to no consumer and are never late.

use std::sync::Arc;

use hashbrown::HashSet;

use super::settle::ignore_gone;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::port::{Batch, ChannelPort};
use crate::queue::{Courier, LateConsumer};
use crate::vhost::Queue;

impl Broker {
    /// Ends the consumers of a queue that are late.
    pub(crate) fn end_late_consumers(&self, queue: &Arc<Queue>, batch: &mut Batch) {
        let ended = self.with_queue(queue, batch, |state, carrier, aftermath| {
            let mut cancelled = Vec::new();
            for late in state.late_consumers(carrier.now_ms()) {
                let Some(consumer) = state.consumer(late.key) else { continue };
                let (port, tag) = (consumer.port.clone(), consumer.tag.clone());
                if !port.takes_cancel() {
                    port.doom(timed_out(&port, &late));
                    continue;
                }
                let positions: HashSet<_> = late.positions.into_iter().collect();
                let taken = port.time_out(queue, &positions);
                state.remove_consumer(late.key);
                for pos in taken {
                    state.requeue(pos, true, carrier, aftermath)?;
                }
                cancelled.push((port, tag));
            }
            Ok(cancelled)
        });
        match ended {
            Ok(cancelled) if cancelled.is_empty() => {}
            Ok(cancelled) => {
                for (port, tag) in cancelled {
                    tracing::warn!(queue = %queue.name, consumer = %tag, "consumer took too long, cancelled");
                    port.consumer_cancelled(&tag, batch);
                    self.resume(port.take_starved(), batch);
                }
                if let Some(vhost) = self.vhost(&queue.vhost) {
                    self.remove_if_abandoned(&vhost, queue, batch);
                }
            }
            Err(refusal) => {
                if let Err(refusal) = ignore_gone(Err(refusal)) {
                    tracing::error!(%refusal, queue = %queue.name, "late consumers could not be ended");
                }
            }
        }
    }
}

/// RabbitMQ's words, which clients know.
fn timed_out(port: &ChannelPort, late: &LateConsumer) -> Refusal {
    Refusal::precondition(format!(
        "delivery acknowledgement on channel {} timed out. Timeout value used: {} ms. This timeout value can be \
         configured, see consumers doc guide to learn more",
        port.number, late.timeout_ms
    ))
}
