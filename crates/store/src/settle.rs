//! Settling: emptying the oldest log file so that it can go. Driven by the caller, who knows what is alive.
//!
//! For each [`Store::file_to_settle`]: per queue `block_writer` → `push` … → `finish` → `Segments::add`, then
//! `Segments::flush_acks`, and when all queues are done [`Store::retire`]. Until `retire` has put the new
//! checkpoint in place, the log file still is the truth, so a crash at any point before it changes nothing.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::block_writer::BlockWriter;
use crate::checkpoint;
use crate::error::CommitError;
use crate::log_file::damaged_log_path;
use crate::place::{LogFileNumber, LogSpan, QueueId};
use crate::queue_folders::QueueFolders;
use crate::segment::{SegmentKey, SegmentTail, queue_dir};
use crate::segment_table::StagedChange;
use crate::store::Store;

impl Store {
    /// The oldest full log file, if there is one. Its ids are all durable.
    pub fn file_to_settle(&self) -> Option<LogSpan> {
        let logs = self.logs.read();
        let (oldest, next) = (logs.first()?, logs.get(1)?);
        Some(oldest.span(next.start))
    }

    /// How many full log files wait to be settled.
    pub fn rotated_files(&self) -> usize {
        self.logs.read().len() - 1
    }

    /// A writer that puts blocks behind the end of a queue's segments while `settled` is being emptied.
    pub fn block_writer(
        &self,
        queue: QueueId,
        transient: bool,
        settled: LogFileNumber,
        tail: &SegmentTail,
    ) -> BlockWriter<'_> {
        BlockWriter::new(self, queue, transient, settled, tail)
    }

    /// Ends the settling of the oldest log file: everything staged for it counts, and the file is removed.
    ///
    /// Commits first: what was dropped because of an ack, also one inside a transaction, must not be gone
    /// before that ack is durable.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: nothing has changed, call again later.
    pub fn retire(&self, file: LogFileNumber) -> Result<(), CommitError> {
        let _settler = self.settler.lock();
        if self.file_to_settle().map(|span| span.number) != Some(file) {
            return Ok(());
        }
        let checkpoint = self.encode_checkpoint(file);
        self.commit()?;
        checkpoint::replace(&self.guard, &checkpoint)?;
        self.settled_through.store(file.0, Ordering::Release);
        let retired = self.logs.write().remove(0);
        if retired.damaged.load(Ordering::Acquire) {
            self.guard.rename(&retired.path(), &damaged_log_path(file))?;
        } else {
            self.guard.remove_quietly(&retired.path());
        }
        let unneeded = self.table.lock().take_unneeded();
        unneeded.into_iter().for_each(|key| self.remove_segment(key));
        Ok(())
    }

    /// Forgets a queue and removes its files. Call when the change that deletes the queue is durable. A settle
    /// that is copying the queue meanwhile simply copies nothing.
    ///
    /// # Errors
    /// As for [`Store::commit`]; the files are then removed by a later call, or never read again.
    pub fn drop_queue(&self, queue: QueueId, transient: bool) -> Result<(), CommitError> {
        let dir = queue_dir(queue, transient);
        // Said in the log before the files go, or the checkpoint would miss them after a crash.
        if !transient && self.table.lock().mentions(queue) {
            self.append_drop(queue)?;
        }
        drop(self.forget_segments(queue));
        if !transient && !self.guard.raw().list(&dir).unwrap_or_default().is_empty() {
            self.commit()?;
        }
        let _folders = self.forget_segments(queue);
        remove_dir_quietly(self.guard.raw(), &dir);
        Ok(())
    }

    /// Nobody writes for the queue any more, and the next checkpoint does not know it.
    fn forget_segments(&self, queue: QueueId) -> MutexGuard<'_, QueueFolders> {
        let mut folders = self.folders.lock();
        folders.drop_queue(queue);
        self.table.lock().drop_queue(queue);
        folders
    }

    /// What the checkpoint says once `file` is settled.
    fn encode_checkpoint(&self, file: LogFileNumber) -> Vec<u8> {
        let meta = self.meta.lock();
        let mut table = self.table.lock();
        table.apply_staged(file);
        checkpoint::encode(file, &meta, table.rows(), self.seed)
    }

    /// A segment without living records: a durable one goes with its log file, a transient one at once.
    pub(crate) fn discard_segment(&self, settled: LogFileNumber, key: SegmentKey) {
        if key.transient {
            self.remove_segment(key);
        } else {
            self.table.lock().stage(settled, key, StagedChange::Remove);
        }
    }

    fn remove_segment(&self, key: SegmentKey) {
        self.segment_files.forget(key);
        self.guard.remove_quietly(&key.path());
    }
}

/// Removes a folder of files. What cannot be removed is found again at the next open.
pub(crate) fn remove_dir_quietly(disk: &dyn crate::disk::Disk, dir: &str) {
    for name in disk.list(dir).unwrap_or_default() {
        let _ = disk.remove(&format!("{dir}/{name}"));
    }
    let _ = disk.remove_dir(dir);
}
