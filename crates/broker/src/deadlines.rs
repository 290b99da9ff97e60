//! Queues that must be looked at at a certain time although nobody uses them: their head expires then.
//!
//! One index for all queues instead of a timer per message. A deadline may come too late to matter (the head was
//! consumed meanwhile); looking at the queue then finds its next one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use leveret_store::QueueId;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::port::Batch;
use crate::settings::QueueKind;
use crate::vhost::Queue;

type Index = BTreeMap<(u64, QueueId), Weak<Queue>>;

/// Called when the earliest deadline has become earlier.
type Earlier = Box<dyn Fn() + Send + Sync>;

/// The deadlines of all queues.
#[derive(Default)]
pub struct Deadlines {
    index: Mutex<Index>,
    earlier: OnceLock<Earlier>,
}

impl Deadlines {
    /// Sets what is called when [`Self::next_ms`] has become earlier. Only the first call counts.
    pub fn on_earlier(&self, earlier: impl Fn() + Send + Sync + 'static) {
        let _first = self.earlier.set(Box::new(earlier));
    }

    /// The earliest deadline, ms since 1970.
    pub fn next_ms(&self) -> Option<u64> {
        self.index.lock().first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    pub(crate) fn add(&self, at_ms: u64, queue: &Arc<Queue>) {
        let mut index = self.index.lock();
        let is_earlier = index.first_key_value().is_none_or(|((first_ms, _), _)| at_ms < *first_ms);
        index.insert((at_ms, queue.id), Arc::downgrade(queue));
        drop(index);
        if let (true, Some(earlier)) = (is_earlier, self.earlier.get()) {
            earlier();
        }
    }

    fn take_due(&self, now_ms: u64) -> Vec<Arc<Queue>> {
        let mut index = self.index.lock();
        let later = index.split_off(&(now_ms + 1, QueueId(0)));
        let due = std::mem::replace(&mut *index, later);
        due.into_values().filter_map(|queue| queue.upgrade()).collect()
    }
}

impl Broker {
    /// Looks at the queues whose deadline has come.
    pub fn meet_deadlines(&self, batch: &mut Batch) {
        for queue in self.deadlines.take_due(batch.now_ms) {
            if queue.kind == QueueKind::Delays {
                self.send_on_due(&queue, batch);
                continue;
            }
            self.end_late_consumers(&queue, batch);
            let now_ms = batch.now_ms;
            let unused = self.with_queue(&queue, batch, |state, _, _| Ok(state.deadline_came(now_ms)));
            // A queue that is gone has no deadlines.
            if let (Ok(true), Some(vhost)) = (unused, self.vhost(&queue.vhost)) {
                self.remove_unused(&vhost, &queue, batch);
            }
        }
    }
}
