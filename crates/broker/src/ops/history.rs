//! The recent-history exchange: what was published lately is given to whatever is bound anew.
//!
//! Every message also goes to the exchange's internal queue, which is as long as the history and drops the oldest. It is
//! a queue like any other: a persistent message is logged once for all its queues, and the history of a durable
//! exchange is there after a restart. It counts for nothing else: a message that only the history takes is unroutable.
//!
//! ```text
//!   publish ─► exchange ─┬► bound queues
//!                        └► amq.history.<exchange>      (x-max-length, drop-head)
//!   bind    ─► fetch some, publish them to what was bound, … , put all of them back
//! ```

use std::sync::Arc;

use leveret_wire::{FieldValue, RawProperties};

use super::deduplicate::Gate;
use super::publish::{Copies, Undone};
use super::routed::Routed;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::message::Message;
use crate::port::Batch;
use crate::queue::Pos;
use crate::vhost::{Destination, Exchange, Queue, VHost};

/// A message with this header set to true is not remembered.
const NO_STORE_HEADER: &str = "x-recent-history-no-store";
/// How many messages are in memory at a time while a history is handed over.
const RUN: usize = 64;

impl VHost {
    /// The queue that remembers a message with these properties, if the exchange has one.
    pub(crate) fn remembering_queue(
        &self,
        exchange: &Exchange,
        properties: RawProperties<'_>,
    ) -> Option<Arc<Queue>> {
        exchange.internal_queue.as_ref()?;
        let header = properties.headers().and_then(|headers| headers.find(NO_STORE_HEADER));
        if header == Some(FieldValue::Bool(true)) { None } else { self.internal_queue(exchange) }
    }
}

impl Broker {
    /// Gives the history of an exchange to a destination that is about to be bound to it, oldest first. A message that is
    /// published at this very moment may be missed; none comes twice.
    pub(crate) fn hand_over_history(
        &self,
        vhost: &VHost,
        exchange: &Exchange,
        destination: &Destination,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let Some(history) = vhost.internal_queue(exchange) else { return Ok(()) };
        let mut fetched = Vec::new();
        let handed_over = self.hand_over_all(vhost, &history, destination, &mut fetched, batch);
        let put_back = self.with_queue(&history, batch, |state, carrier, aftermath| {
            fetched.into_iter().try_for_each(|pos| state.requeue(pos, false, carrier, aftermath))
        });
        handed_over.and(put_back)
    }

    /// Leaves what it has fetched unacknowledged, so that the next fetch goes on behind it.
    fn hand_over_all(
        &self,
        vhost: &VHost,
        history: &Arc<Queue>,
        destination: &Destination,
        fetched: &mut Vec<Pos>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        loop {
            let run = self.fetch_run(history, batch)?;
            if run.is_empty() {
                return Ok(());
            }
            for (pos, message) in run {
                fetched.push(pos);
                self.hand_over_one(vhost, &message, destination, batch)?;
            }
        }
    }

    fn fetch_run(
        &self,
        history: &Arc<Queue>,
        batch: &mut Batch,
    ) -> Result<Vec<(Pos, Arc<Message>)>, Refusal> {
        self.with_queue(history, batch, |state, carrier, aftermath| {
            let mut run = Vec::new();
            while run.len() < RUN
                && let Some(fetched) = state.fetch(false, carrier, aftermath)?
            {
                run.push((fetched.pos, fetched.message));
            }
            Ok(run)
        })
    }

    fn hand_over_one(
        &self,
        vhost: &VHost,
        message: &Message,
        destination: &Destination,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let view = message.view();
        let queues = match destination {
            Destination::Queue(queue) => vec![queue.clone()],
            Destination::Exchange(exchange) => {
                vhost.route(exchange, view, &Copies::default(), &mut Gate::open())
            }
        };
        match self.enqueue(&Routed::new(vhost, queues, view.properties), &view, batch) {
            // A full queue refuses a message of the past as it refuses any other; there is nobody to tell.
            Ok(_) | Err(Undone::NotTaken) => Ok(()),
            Err(Undone::Refused(refusal)) => Err(refusal),
        }
    }
}
