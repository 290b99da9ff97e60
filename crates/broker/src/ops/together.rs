//! Messages and ends of messages that become durable together: after a crash all of it happened, or none.
//!
//! What a transaction commits, and what leaves a delay queue.

use std::sync::Arc;

use leveret_store::{MessageId, MetaChange, Place, QueueId, TxPublish, Urgency};

use super::publish::{Arrival, Undone, durable_ids, is_persistent};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::message::MessageView;
use crate::port::Batch;
use crate::stamp::Stamp;
use crate::vhost::Queue;

/// A message on its way to its queues.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// As its receivers see it.
    pub(crate) message: MessageView<'a>,
    /// Each once.
    pub(crate) queues: &'a [Arc<Queue>],
    /// What the store keeps beside it.
    pub(crate) stamp: Stamp,
}

impl Outgoing<'_> {
    /// Whether it has to outlive the process in one of its queues.
    pub(crate) fn is_logged(&self) -> bool {
        let persistent = is_persistent(self.message.properties);
        self.queues.iter().any(|queue| queue.logs(persistent))
    }
}

/// Where the messages that have to outlive the process were logged, in their order.
#[derive(Debug)]
pub(crate) struct LoggedTogether {
    ids: std::vec::IntoIter<MessageId>,
    /// The position to wait for; 0: none.
    pub(crate) position: u64,
}

impl Broker {
    /// Logs messages, the end of others and `notes`. The caller holds `in_flight`, and the order of streams, until the
    /// messages are in their queues.
    pub(crate) fn log_together<'a>(
        &self,
        outgoing: impl Iterator<Item = &'a Outgoing<'a>>,
        ended: &[(QueueId, Vec<MessageId>)],
        notes: &[MetaChange],
        urgency: Urgency,
    ) -> Result<LoggedTogether, Refusal> {
        let logged: Vec<_> = outgoing.filter(|one| one.is_logged()).collect();
        if logged.is_empty() && ended.is_empty() {
            return Ok(LoggedTogether { ids: Vec::new().into_iter(), position: 0 });
        }
        let queues: Vec<Vec<QueueId>> =
            logged.iter().map(|one| durable_ids(one.queues, one.message.properties)).collect();
        let payloads: Vec<Vec<u8>> = logged.iter().map(|one| one.message.to_payload()).collect();
        let stamps: Vec<_> = logged.iter().map(|one| one.stamp.encode()).collect();
        let parts: Vec<[&[u8]; 1]> = payloads.iter().map(|payload| [payload.as_slice()]).collect();
        let publishes: Vec<TxPublish<'_>> = queues
            .iter()
            .zip(&stamps)
            .zip(&parts)
            .map(|((queues, attributes), parts)| TxPublish { queues, attributes, parts })
            .collect();
        let (ids, position) = self.store.transaction(&publishes, ended, notes, urgency)?;
        Ok(LoggedTogether { ids: ids.into_iter(), position })
    }

    /// Gives messages to their queues; the next ones in `logged` are theirs. `undo` is what the store has to be told if a
    /// queue refuses one.
    pub(crate) fn offer_logged(
        &self,
        outgoing: &[Outgoing<'_>],
        logged: &mut LoggedTogether,
        undo: &[MetaChange],
        batch: &mut Batch,
    ) -> Result<(), Undone> {
        batch.logged |= logged.position > 0;
        let mut all_taken = true;
        for one in outgoing {
            let id = if one.is_logged() { logged.ids.next() } else { None };
            let place = |id| (id, Place::Log { id, len: one.message.size_bytes() as u32 });
            let arrival = Arrival { stamp: one.stamp, logged: id.map(place), undo };
            match self.offer(one.queues, &one.message, &arrival, batch) {
                Ok(()) => {}
                Err(Undone::NotTaken) => all_taken = false,
                Err(refused) => return Err(refused),
            }
        }
        if all_taken { Ok(()) } else { Err(Undone::NotTaken) }
    }
}
