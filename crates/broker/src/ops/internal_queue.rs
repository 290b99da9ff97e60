//! Queues that belong to an exchange: made with it, gone with it, filled and emptied by nobody else. Clients may look
//! at one and purge it.
//!
//! ```text
//!   exchange.declare ─► records of the exchange and of its queue, in one step of the log
//!   exchange.delete  ─► both gone, in one step of the log; then the queue's files
//! ```

use std::sync::Arc;

use leveret_store::MetaChange;
use leveret_wire::{FieldTable, FieldValue};

use crate::broker::Broker;
use crate::error::Refusal;
use crate::exchange::history_length;
use crate::records::Key;
use crate::vhost::{Exchange, ExchangeSpec, Life, Queue, QueueSpec, VHost};

impl Broker {
    /// Makes the queue that an exchange of this kind needs, if it does. What the store has to know is added to
    /// `changes`; the caller adds the queue to the virtual host.
    pub(crate) fn new_internal_queue(
        &self,
        vhost: &VHost,
        exchange: &str,
        spec: &ExchangeSpec,
        changes: &mut Vec<MetaChange>,
    ) -> Result<Option<Arc<Queue>>, Refusal> {
        let Some(name) = spec.kind.internal_queue(exchange) else { return Ok(None) };
        // The other overflow rules would keep the oldest messages.
        let length = FieldValue::I64(i64::try_from(history_length(&spec.arguments)).unwrap_or(i64::MAX));
        let spec = QueueSpec::internal(spec.durable, FieldTable::from([("x-max-length", length)]));
        self.new_queue(vhost, &name, spec, changes).map(Some)
    }

    /// Takes the queue of an exchange out of the virtual host. The caller holds [`VHost::change`], logs `changes` and
    /// then lets the files go.
    pub(crate) fn remove_internal_queue(
        &self,
        vhost: &VHost,
        exchange: &Exchange,
        changes: &mut Vec<MetaChange>,
    ) -> Option<Arc<Queue>> {
        let queue = vhost.internal_queue(exchange)?;
        *queue.lock() = Life::Gone;
        vhost.remove_queue(&queue);
        if queue.spec.durable {
            changes.push(MetaChange::Delete(
                Key::Queue(vhost.name.to_string(), queue.name.to_string()).encode(),
            ));
        }
        Some(queue)
    }
}

impl VHost {
    /// The queue that belongs to an exchange.
    pub(crate) fn internal_queue(&self, exchange: &Exchange) -> Option<Arc<Queue>> {
        self.queue(exchange.internal_queue.as_ref()?).filter(|queue| queue.spec.internal)
    }
}
