//! Pausing a queue and resuming it. Whether a durable queue is paused survives a restart.

use leveret_store::MetaChange;

use crate::channel::Channel;
use crate::error::Refusal;
use crate::port::Batch;
use crate::records::Key;
use crate::users::Operation;

impl Channel {
    /// From now on a queue hands out nothing, or again what waits; see [`crate::queue::QueueState::set_paused`]. As often as one
    /// likes. Durable once [`topology_is_durable`](crate::Broker::topology_is_durable).
    ///
    /// # Errors
    /// 403 without the right to configure, 404, 405, 540 for a stream; or the log failed.
    pub fn set_paused(&self, queue: &str, is_paused: bool, batch: &mut Batch) -> Result<(), Refusal> {
        let queue = self.work_queue(queue, Operation::Configure, "pausing")?;
        let _change = self.connection.vhost.change();
        let broker = &self.connection.broker;
        queue.lock().alive(&queue)?;
        if queue.spec.durable {
            let key = Key::Paused(queue.id).encode();
            broker.log_meta(&[match is_paused {
                true => MetaChange::Put(key, Vec::new()),
                false => MetaChange::Delete(key),
            }])?;
            batch.urgent = true;
        }
        broker.with_queue(&queue, batch, |state, _, _| {
            if let Some(work) = state.work() {
                work.set_paused(is_paused);
            }
            Ok(())
        })
    }
}
