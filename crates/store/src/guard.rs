//! The disk as the writing half of the store sees it: every failure is judged in one place.
//!
//! A full disk is passed on; anything else that fails while writing or syncing latches the store.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::disk::{Disk, DiskFile};
use crate::error::{CommitError, StoreFailed};

/// The disk, and the latch that a failure closes for good.
pub(crate) struct GuardedDisk {
    disk: Arc<dyn Disk>,
    stopped: AtomicBool,
    reason: OnceLock<StoreFailed>,
}

impl GuardedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, stopped: AtomicBool::new(false), reason: OnceLock::new() }
    }

    /// The disk without the latch, for reading.
    pub(crate) fn raw(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Refuses when the store has stopped. One relaxed load on the hot path.
    pub(crate) fn check(&self) -> Result<(), StoreFailed> {
        if self.stopped.load(Ordering::Acquire) { Err(self.reason()) } else { Ok(()) }
    }

    /// Stops the store; the first reason stays.
    pub(crate) fn stop(&self, reason: StoreFailed) -> StoreFailed {
        let _ = self.reason.set(reason);
        self.stopped.store(true, Ordering::Release);
        self.reason()
    }

    fn reason(&self) -> StoreFailed {
        self.reason.get().cloned().unwrap_or(StoreFailed::Closed)
    }

    /// A write or a change of names: a full disk may be tried again, all else latches.
    fn judge_write<T>(&self, what: &str, result: io::Result<T>) -> Result<T, CommitError> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CommitError::DiskFull,
            _ => CommitError::Failed(self.latch(what, &error)),
        })
    }

    /// A sync: any failure latches, for the kernel may have dropped the pages already.
    fn judge_sync(&self, what: &str, result: io::Result<()>) -> Result<(), CommitError> {
        result.map_err(|error| CommitError::Failed(self.latch(what, &error)))
    }

    fn latch(&self, what: &str, error: &io::Error) -> StoreFailed {
        self.stop(StoreFailed::Latched(format!("{what}: {error}").into()))
    }

    pub(crate) fn create_dir(&self, dir: &str) -> Result<(), CommitError> {
        self.judge_write(dir, self.disk.create_dir(dir))
    }

    pub(crate) fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, CommitError> {
        self.judge_write(path, self.disk.create(path))
    }

    pub(crate) fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, CommitError> {
        self.judge_write(path, self.disk.open(path))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), CommitError> {
        self.judge_write(from, self.disk.rename(from, to))
    }

    #[rustfmt::skip] // one line: the mutation check removes it
    pub(crate) fn sync_dir(&self, dir: &str) -> Result<(), CommitError> {
        self.judge_sync(dir, self.disk.sync_dir(dir))?; // mutation: dir-sync
        Ok(())
    }

    /// Removes a file that may be gone already. A failure other than that latches nothing: a file too many
    /// is found and removed at the next open.
    pub(crate) fn remove_quietly(&self, path: &str) {
        let _ = self.disk.remove(path);
    }

    pub(crate) fn write_at(
        &self,
        path: &str,
        file: &dyn DiskFile,
        data: &[u8],
        offset: u64,
    ) -> Result<(), CommitError> {
        self.judge_write(path, file.write_at(data, offset))
    }

    pub(crate) fn allocate(&self, path: &str, file: &dyn DiskFile, len: u64) -> Result<(), CommitError> {
        self.judge_write(path, file.allocate(len))
    }

    pub(crate) fn set_len(&self, path: &str, file: &dyn DiskFile, len: u64) -> Result<(), CommitError> {
        self.judge_write(path, file.set_len(len))
    }

    pub(crate) fn sync_data(&self, path: &str, file: &dyn DiskFile) -> Result<(), CommitError> {
        self.judge_sync(path, file.sync_data())
    }
}
