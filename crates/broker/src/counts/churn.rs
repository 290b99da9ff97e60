//! How much comes and goes.

use super::counter::Counter;

/// What came and went since the process began (`churn_rates`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChurnCounts {
    /// Connections that opened a virtual host.
    pub connections_opened: u64,
    /// And those that are gone.
    pub connections_closed: u64,
    /// Channels opened.
    pub channels_opened: u64,
    /// Channels closed.
    pub channels_closed: u64,
    /// Declarations that found their queue or made it.
    pub queues_declared: u64,
    /// Queues made.
    pub queues_created: u64,
    /// Queues deleted, for whatever reason.
    pub queues_deleted: u64,
}

/// The same while it grows: several write at once, and none of it happens per message.
#[derive(Debug, Default)]
pub(crate) struct Churn {
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) channels_opened: Counter,
    pub(crate) channels_closed: Counter,
    pub(crate) queues_declared: Counter,
    pub(crate) queues_created: Counter,
    pub(crate) queues_deleted: Counter,
}

impl Churn {
    pub(crate) fn snapshot(&self) -> ChurnCounts {
        ChurnCounts {
            connections_opened: self.connections_opened.value(),
            connections_closed: self.connections_closed.value(),
            channels_opened: self.channels_opened.value(),
            channels_closed: self.channels_closed.value(),
            queues_declared: self.queues_declared.value(),
            queues_created: self.queues_created.value(),
            queues_deleted: self.queues_deleted.value(),
        }
    }
}
