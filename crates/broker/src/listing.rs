//! A queue, as it can be looked at from outside.

use std::sync::Arc;

use crate::counts::QueueCounts;
use crate::queue::{Activity, Held};
use crate::vhost::{Life, Queue};

/// Whether a queue works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCondition {
    /// It does.
    Running,
    /// It takes messages and hands out nothing.
    Paused,
    /// A message of it cannot be read: it takes and gives nothing. Says where.
    Offline(String),
    /// It has just been deleted.
    Gone,
}

/// A queue at one moment. What never changes is in the [`Queue`] itself.
#[derive(Clone, Debug)]
pub struct QueueRecord {
    /// Whether it works.
    pub condition: QueueCondition,
    /// Messages that wait. Octets are of what is stored: names and properties, too.
    pub ready: Held,
    /// Messages that were delivered and not settled.
    pub unacknowledged: Held,
    /// Its consumers.
    pub consumers: usize,
    /// The tag of the consumer that has it for itself.
    pub exclusive_consumer: Option<Arc<str>>,
    /// The tag of the consumer that is served, where only one is.
    pub single_active_consumer: Option<Arc<str>>,
    /// The timestamp that the publisher of the first waiting message gave it, s since 1970; `None` when it gave none or
    /// the message is only on disk.
    pub head_timestamp_s: Option<u64>,
    /// When a client last published here, fetched or acknowledged, ms since 1970; 0: not since the process began.
    pub used_at_ms: u64,
    /// What happened to its messages since the process began.
    pub counts: QueueCounts,
    /// Messages for which no consumer was free when they arrived, since the process began.
    pub waited: u64,
    /// A message that came now would go to a consumer at once.
    pub has_taker: bool,
    /// Octets of memory that it takes, estimated.
    pub memory_bytes: u64,
}

/// An estimate of what a queue takes while nothing is in it.
const EMPTY_BYTES: u64 = 2_048;
/// The same for each consumer.
const CONSUMER_BYTES: u64 = 256;
/// The same for each message in its index, beside the message.
const ENTRY_BYTES: u64 = 112;

impl Queue {
    /// What happened to its messages since the process began.
    pub fn counts(&self) -> QueueCounts {
        self.counters.snapshot()
    }

    /// How it is at this moment. Locks it for a short time, whatever is in it.
    pub fn record(&self) -> QueueRecord {
        let mut record = QueueRecord {
            condition: QueueCondition::Running,
            ready: Held::default(),
            unacknowledged: Held::default(),
            consumers: 0,
            exclusive_consumer: None,
            single_active_consumer: None,
            head_timestamp_s: None,
            used_at_ms: self.counters.used_at_ms(),
            counts: self.counts(),
            waited: 0,
            has_taker: false,
            memory_bytes: EMPTY_BYTES,
        };
        let mut life = self.lock();
        match &*life {
            Life::Alive(_) => {}
            Life::Damaged(reason, _) => record.condition = QueueCondition::Offline(reason.clone()),
            Life::Gone => record.condition = QueueCondition::Gone,
        }
        let Some(rule) = life.content() else { return record };
        if record.condition == QueueCondition::Running && rule.work().is_some_and(|work| work.is_paused()) {
            record.condition = QueueCondition::Paused;
        }
        record.ready = rule.ready();
        record.unacknowledged = rule.unacknowledged();
        record.consumers = rule.consumer_count();
        rule.each_consumer(&mut |seen| {
            if seen.consumer.exclusive {
                record.exclusive_consumer = Some(seen.consumer.tag.clone());
            }
            if seen.activity == Activity::SingleActive {
                record.single_active_consumer = Some(seen.consumer.tag.clone());
            }
        });
        record.waited = rule.waited();
        record.has_taker = record.consumers > 0 && rule.has_taker();
        record.head_timestamp_s = rule.head_timestamp_s();
        drop(life);
        let held = record.ready + record.unacknowledged;
        record.memory_bytes +=
            held.in_index * ENTRY_BYTES + held.in_memory_bytes + record.consumers as u64 * CONSUMER_BYTES;
        record
    }
}
