//! Writing into a queue's folder and removing it exclude each other.
//!
//! A queue may be deleted while the settler copies its messages. The copy is then pointless, and the missing
//! folder must not look like a failing disk. So writers are known by their queue, and a dropped queue's
//! writers do nothing more.

use std::collections::{BTreeMap, BTreeSet};

use crate::place::QueueId;

/// Live writers, and which of them came too late. Behind a lock that is held for each step of a writer and
/// while a folder is removed.
#[derive(Debug, Default)]
pub(crate) struct QueueFolders {
    writers: BTreeMap<QueueId, u32>,
    dropped: BTreeSet<QueueId>,
}

impl QueueFolders {
    pub(crate) fn begin_writing(&mut self, queue: QueueId) {
        *self.writers.entry(queue).or_insert(0) += 1;
    }

    pub(crate) fn end_writing(&mut self, queue: QueueId) {
        let left = self.writers.get(&queue).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            self.writers.remove(&queue);
            self.dropped.remove(&queue);
        } else {
            self.writers.insert(queue, left);
        }
    }

    /// From now on the queue's present writers do nothing more.
    pub(crate) fn drop_queue(&mut self, queue: QueueId) {
        if self.writers.contains_key(&queue) {
            self.dropped.insert(queue);
        }
    }

    pub(crate) fn is_dropped(&self, queue: QueueId) -> bool {
        self.dropped.contains(&queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_remembered_as_long_as_somebody_writes() {
        let (queue, mut folders) = (QueueId(1), QueueFolders::default());
        folders.drop_queue(queue);
        assert!(!folders.is_dropped(queue));
        folders.begin_writing(queue);
        folders.begin_writing(queue);
        folders.drop_queue(queue);
        folders.end_writing(queue);
        assert!(folders.is_dropped(queue));
        folders.end_writing(queue);
        assert!(!folders.is_dropped(queue) && folders.writers.is_empty());
    }
}
