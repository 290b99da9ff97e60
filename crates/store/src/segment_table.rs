//! Which segments count, and which of their records are gone: the half of the checkpoint about segments.
//!
//! Changes are *staged* under the log file whose settling made them and enter the table when that file is
//! retired. Until then the log still has everything, so after a crash the staged changes never happened.

use std::collections::BTreeMap;

use crate::bitmap::Bitmap;
use crate::place::{LogFileNumber, QueueId};
use crate::segment::{SegmentEntry, SegmentKey};

/// Records of one segment that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) indexes: Bitmap,
    /// Payload bytes of them.
    pub(crate) payload_bytes: u64,
}

/// One segment as the checkpoint knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableRow {
    pub(crate) entry: SegmentEntry,
    pub(crate) gone: Gone,
}

/// A change that a settle has made.
#[derive(Debug)]
pub(crate) enum StagedChange {
    Blocks(SegmentEntry),
    Gone(Gone),
    Remove,
}

/// All durable segments of all queues. Transient segments are never in it.
#[derive(Debug, Default)]
pub(crate) struct SegmentTable {
    rows: BTreeMap<(QueueId, u32), TableRow>,
    staged: Vec<(LogFileNumber, SegmentKey, StagedChange)>,
    /// Removed from the table, but not from the disk before a checkpoint says so.
    unneeded: Vec<SegmentKey>,
}

impl SegmentTable {
    pub(crate) fn new(rows: BTreeMap<(QueueId, u32), TableRow>) -> Self {
        Self { rows, ..Self::default() }
    }

    pub(crate) fn rows(&self) -> &BTreeMap<(QueueId, u32), TableRow> {
        &self.rows
    }

    pub(crate) fn stage(&mut self, file: LogFileNumber, key: SegmentKey, change: StagedChange) {
        self.staged.push((file, key, change));
    }

    /// Lets what was staged up to `file` happen.
    pub(crate) fn apply_staged(&mut self, file: LogFileNumber) {
        for (settled, key, change) in std::mem::take(&mut self.staged) {
            if settled <= file {
                self.apply(key, change);
            } else {
                self.staged.push((settled, key, change));
            }
        }
    }

    /// Segments whose files may go, once a checkpoint without them is in place.
    pub(crate) fn take_unneeded(&mut self) -> Vec<SegmentKey> {
        std::mem::take(&mut self.unneeded)
    }

    fn apply(&mut self, key: SegmentKey, change: StagedChange) {
        let at = (key.queue, key.number);
        match change {
            StagedChange::Blocks(entry) => {
                let gone = self.rows.remove(&at).map(|row| row.gone).unwrap_or_default();
                self.rows.insert(at, TableRow { entry, gone });
            }
            StagedChange::Gone(gone) => {
                if let Some(row) = self.rows.get_mut(&at) {
                    row.gone = gone;
                }
            }
            StagedChange::Remove => {
                self.rows.remove(&at);
                self.unneeded.push(key);
            }
        }
    }

    /// Whether a segment counts, or will when its log file is retired.
    pub(crate) fn knows(&self, key: SegmentKey) -> bool {
        self.rows.contains_key(&(key.queue, key.number)) || self.staged.iter().any(|change| change.1 == key)
    }

    /// Whether any checkpoint, also the one on disk, may know segments of a queue.
    pub(crate) fn mentions(&self, queue: QueueId) -> bool {
        let rows = self.rows.range((queue, 0)..=(queue, u32::MAX)).next().is_some();
        let staged = self.staged.iter().any(|(_, key, _)| key.queue == queue);
        rows || staged || self.unneeded.iter().any(|key| key.queue == queue)
    }

    /// Forgets a queue.
    pub(crate) fn drop_queue(&mut self, queue: QueueId) {
        let numbers: Vec<_> = self.rows.range((queue, 0)..=(queue, u32::MAX)).map(|(at, _)| *at).collect();
        numbers.iter().for_each(|at| drop(self.rows.remove(at)));
        self.staged.retain(|(_, key, _)| key.queue != queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_changes_wait_for_their_file() {
        let key = |number| SegmentKey { queue: QueueId(1), number, transient: false };
        let mut table = SegmentTable::default();
        table.stage(LogFileNumber(5), key(0), StagedChange::Blocks(SegmentEntry::empty(1)));
        table.stage(LogFileNumber(6), key(0), StagedChange::Remove);
        for (file, rows, unneeded) in [(4, 0, vec![]), (5, 1, vec![]), (6, 0, vec![key(0)])] {
            table.apply_staged(LogFileNumber(file));
            assert_eq!((table.rows().len(), table.take_unneeded()), (rows, unneeded), "file {file}");
        }
        assert!(!table.mentions(QueueId(1)));
    }
}
