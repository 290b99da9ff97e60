//! Sums over virtual hosts.

use std::sync::Arc;

use leveret_broker::Broker;
use leveret_broker::counts::MessageCounts;
use leveret_broker::queue::Held;
use leveret_broker::vhost::VHost;

/// What virtual hosts hold together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Messages that wait.
    pub(crate) ready: Held,
    /// Messages that were delivered and not settled.
    pub(crate) unacknowledged: Held,
    /// What happened to messages since the process began.
    pub(crate) counts: MessageCounts,
    pub(crate) queues: u64,
    pub(crate) exchanges: u64,
    pub(crate) consumers: u64,
    /// What the queues take, estimated, their messages in memory included.
    pub(crate) queue_memory_bytes: u64,
}

impl Totals {
    /// Looks at every queue of these virtual hosts for a moment.
    pub(crate) fn of(broker: &Broker, vhosts: &[Arc<VHost>]) -> Totals {
        let mut totals = Totals::default();
        for vhost in vhosts {
            totals.counts += broker.message_totals_of(vhost).counts;
            totals.exchanges += vhost.exchanges().len() as u64;
            for queue in vhost.queues() {
                let record = queue.record();
                totals.ready = totals.ready + record.ready;
                totals.unacknowledged = totals.unacknowledged + record.unacknowledged;
                totals.consumers += record.consumers as u64;
                totals.queue_memory_bytes += record.memory_bytes;
                totals.queues += 1;
            }
        }
        totals
    }

    /// Octets of messages that are in memory.
    pub(crate) fn in_memory_bytes(&self) -> u64 {
        self.ready.in_memory_bytes + self.unacknowledged.in_memory_bytes
    }

    /// `messages`, `messages_ready`, `messages_unacknowledged`.
    pub(crate) fn lengths(&self) -> [u64; 3] {
        let (ready, unacknowledged) = (self.ready.messages, self.unacknowledged.messages);
        [ready + unacknowledged, ready, unacknowledged]
    }
}
