//! What happened to messages, under RabbitMQ's names (`message_stats`).

use std::ops::AddAssign;

/// Messages counted since the process began, of a channel, a queue, a virtual host, or a kind of queue. What does not
/// happen to one of these stays 0 there: queues confirm nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Published; to a queue: arrived there.
    pub publish: u64,
    /// Published on a channel that confirms.
    pub publish_with_confirm: u64,
    /// Confirmed by the broker.
    pub confirm: u64,
    /// Published with `mandatory` and returned, as no queue takes them.
    pub return_unroutable: u64,
    /// Published and dropped, as no queue takes them.
    pub drop_unroutable: u64,
    /// Delivered to consumers who acknowledge.
    pub deliver: u64,
    /// Delivered to consumers who do not.
    pub deliver_no_ack: u64,
    /// Fetched with `basic.get`, to be acknowledged.
    pub get: u64,
    /// Fetched with `basic.get` and not to be acknowledged.
    pub get_no_ack: u64,
    /// `basic.get` that found nothing.
    pub get_empty: u64,
    /// Of what was delivered or fetched: those that had been before.
    pub redeliver: u64,
    /// Acknowledged. What was rejected does not count.
    pub ack: u64,
}

impl MessageCounts {
    /// Delivered or fetched, in whatever way (`deliver_get`).
    pub fn deliver_get(&self) -> u64 {
        self.deliver + self.deliver_no_ack + self.get + self.get_no_ack
    }

    /// Published messages that some queue took.
    pub fn routed(&self) -> u64 {
        self.publish.saturating_sub(self.return_unroutable + self.drop_unroutable)
    }
}

impl AddAssign for MessageCounts {
    fn add_assign(&mut self, other: Self) {
        self.publish += other.publish;
        self.publish_with_confirm += other.publish_with_confirm;
        self.confirm += other.confirm;
        self.return_unroutable += other.return_unroutable;
        self.drop_unroutable += other.drop_unroutable;
        self.deliver += other.deliver;
        self.deliver_no_ack += other.deliver_no_ack;
        self.get += other.get;
        self.get_no_ack += other.get_no_ack;
        self.get_empty += other.get_empty;
        self.redeliver += other.redeliver;
        self.ack += other.ack;
    }
}
