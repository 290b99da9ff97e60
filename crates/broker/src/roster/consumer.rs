//! A consumer, as it can be looked at from outside.

use std::sync::Arc;

use leveret_wire::FieldTable;

use super::ConnectionRecord;
use crate::broker::Broker;
use crate::port::ChannelPort;
use crate::queue::{Activity, ConsumerKey, SeenConsumer};
use crate::vhost::{Queue, VHost};

/// A consumer at one moment.
#[derive(Clone, Debug)]
pub struct ConsumerRecord {
    /// What it consumes.
    pub queue: Arc<Queue>,
    /// Its tag on its channel.
    pub tag: Arc<str>,
    /// Whose it is; `None` when that has gone meanwhile.
    pub connection: Option<Arc<ConnectionRecord>>,
    /// The number of its channel on that connection.
    pub channel: u16,
    /// It acknowledges what it gets.
    pub ack_required: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacknowledged messages that it may have; 0: any number.
    pub prefetch_count: u32,
    /// Those that it has.
    pub messages_unacknowledged: u32,
    /// Higher ones are served first.
    pub priority: i64,
    /// The arguments of `basic.consume`.
    pub arguments: FieldTable,
    /// Whether it is served.
    pub activity: Activity,
}

impl ConsumerRecord {
    /// The consumer of that key, if it is still there.
    pub(super) fn find(
        queue: &Arc<Queue>,
        key: ConsumerKey,
        connection: Option<Arc<ConnectionRecord>>,
    ) -> Option<Self> {
        let mut found = None;
        let mut life = queue.lock();
        life.rule()?.each_consumer(&mut |seen| {
            if seen.key == key {
                found = Some(Self::of(queue, &seen, connection.clone()));
            }
        });
        found
    }

    fn of(
        queue: &Arc<Queue>,
        seen: &SeenConsumer<'_, Arc<ChannelPort>>,
        connection: Option<Arc<ConnectionRecord>>,
    ) -> Self {
        let consumer = seen.consumer;
        Self {
            queue: queue.clone(),
            tag: consumer.tag.clone(),
            connection,
            channel: consumer.port.number,
            ack_required: !consumer.no_ack,
            exclusive: consumer.exclusive,
            prefetch_count: consumer.prefetch,
            messages_unacknowledged: seen.in_flight,
            priority: consumer.priority,
            arguments: consumer.arguments.clone(),
            activity: seen.activity,
        }
    }
}

impl Broker {
    /// The consumers of a virtual host, queue by queue.
    pub fn consumers(&self, vhost: &VHost) -> Vec<ConsumerRecord> {
        vhost.queues().iter().flat_map(|queue| self.consumers_of(queue)).collect()
    }

    /// The consumers of a queue, those that came first in front.
    pub fn consumers_of(&self, queue: &Arc<Queue>) -> Vec<ConsumerRecord> {
        let mut found = Vec::new();
        if let Some(rule) = queue.lock().rule() {
            rule.each_consumer(&mut |seen| {
                let connection = seen.consumer.port.connection.id;
                found.push((seen.key, connection, ConsumerRecord::of(queue, &seen, None)));
            });
        }
        found.sort_unstable_by_key(|(key, ..)| *key);
        let with_connection = |(_, id, record)| ConsumerRecord { connection: self.connection(id), ..record };
        found.into_iter().map(with_connection).collect()
    }
}
