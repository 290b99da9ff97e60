//! A disk that knows which messages are on it for certain, by looking at what was written and flushed.
//!
//! A message is known by the mark in its body. It counts when a file that it was written to has been flushed since.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use leveret_store::{Disk, DiskFile, MemDisk};
use parking_lot::{Condvar, Mutex};

use crate::marks::Marks;

/// The numbers of messages that are on the disk for certain.
#[derive(Default)]
pub struct Flushed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    numbers: BTreeSet<u32>,
    flushes: usize,
    /// The flush that fails, if one does, and all behind it.
    fails_at: Option<usize>,
    failed: bool,
}

impl Flushed {
    /// Whether a message is on the disk.
    pub fn has(&self, number: u32) -> bool {
        self.state.lock().numbers.contains(&number)
    }

    /// Waits until a message is on the disk.
    pub fn wait_for(&self, number: u32) {
        let mut state = self.state.lock();
        while !state.numbers.contains(&number) {
            self.changed.wait(&mut state);
        }
    }

    /// After so many more flushes one fails.
    pub fn fail_after(&self, flushes: usize) {
        let mut state = self.state.lock();
        state.fails_at = Some(state.flushes + flushes);
    }

    /// Whether a flush has failed.
    pub fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    fn flush(&self, written: BTreeSet<u32>) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.fails_at.is_some_and(|fails_at| state.flushes >= fails_at) {
            state.failed = true;
            return Err(io::Error::other("the flush failed"));
        }
        state.flushes += 1;
        state.numbers.extend(written);
        self.changed.notify_all();
        Ok(())
    }
}

/// A disk in memory that tells [`Flushed`].
pub struct WatchedDisk {
    inner: MemDisk,
    flushed: Arc<Flushed>,
}

impl WatchedDisk {
    /// An empty disk.
    pub fn new(flushed: Arc<Flushed>) -> Self {
        Self { inner: MemDisk::new(), flushed }
    }

    fn watch(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(WatchedFile { inner: file, written: Mutex::default(), flushed: self.flushed.clone() })
    }
}

impl Disk for WatchedDisk {
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.watch(self.inner.create(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.watch(self.inner.open(path)?))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

struct WatchedFile {
    inner: Box<dyn DiskFile>,
    /// Since the last flush.
    written: Mutex<BTreeSet<u32>>,
    flushed: Arc<Flushed>,
}

impl DiskFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(data, offset)?;
        self.written.lock().extend(Marks::default().find(data));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // What is written from here on may miss this flush.
        let written = std::mem::take(&mut *self.written.lock());
        self.inner.sync_data()?;
        self.flushed.flush(written)
    }
}
