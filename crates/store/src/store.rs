//! The store itself: its parts, options and simple questions. What it does is in the files named after it:
//! `append`, `commit`, `read`, `settle`, `recovery`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::checksum::Seed;
use crate::commit::{Committer, SpareFile};
use crate::gather::{Gather, GatheredBatch};
use crate::guard::GuardedDisk;
use crate::log_file::LogFile;
use crate::meta::MetaMap;
use crate::place::Position;
use crate::queue_folders::QueueFolders;
use crate::segment_files::SegmentFiles;
use crate::segment_table::SegmentTable;

/// Sizes; the defaults suit a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// A log file is full at so many bytes. Bounds recovery time and what a settle reads. Default 64 MiB.
    pub log_file_bytes: u64,
    /// A segment is full at so many bytes; at most [`Store::SEGMENT_BYTES_MAX`]. Default 8 MiB.
    pub segment_bytes: u64,
    /// The committer is called [`Urgency::Now`] when so many bytes have gathered. Default 1 MiB.
    pub gather_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { log_file_bytes: 64 << 20, segment_bytes: 8 << 20, gather_bytes: 1 << 20 }
    }
}

/// How soon the committer should come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody waits: acks and transient messages. They may gather for an ack-sync interval.
    Soon,
    /// Somebody waits for a confirm or an ok, or the buffer is full.
    Now,
}

/// A function that the store calls when there is work for the committer.
pub(crate) type Wake = Box<dyn Fn(Urgency) + Send + Sync>;

/// A data directory that is open. Shared as `Arc`; all calls may come from any thread.
pub struct Store {
    pub(crate) guard: GuardedDisk,
    pub(crate) options: Options,
    pub(crate) directory_id: u64,
    pub(crate) seed: Seed,
    pub(crate) gather: Mutex<Gather>,
    /// The batch on its way to the disk; not empty while a full disk keeps it from getting there.
    pub(crate) writing: RwLock<GatheredBatch>,
    pub(crate) committer: Mutex<Committer>,
    /// Oldest first; the last one is being written.
    pub(crate) logs: RwLock<Vec<Arc<LogFile>>>,
    pub(crate) spare: Mutex<Option<SpareFile>>,
    pub(crate) rotation_wanted: AtomicBool,
    /// End of what was appended; changed under the append lock, read without it.
    pub(crate) appended: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) settled_through: AtomicU32,
    pub(crate) meta: Mutex<MetaMap>,
    pub(crate) table: Mutex<SegmentTable>,
    pub(crate) folders: Mutex<QueueFolders>,
    /// One settle at a time changes the checkpoint.
    pub(crate) settler: Mutex<()>,
    pub(crate) segment_files: SegmentFiles,
    pub(crate) wake: OnceLock<Wake>,
    pub(crate) _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

impl Store {
    /// Longest record, head and payload together, bytes.
    pub const RECORD_BYTES_MAX: usize = 512 << 20;
    /// Most bytes that can gather while the disk is full.
    pub const GATHER_BYTES_MAX: usize = 1 << 30;
    /// Largest `segment_bytes`: offsets in a segment are 32 bits wide.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

    /// End of the log stream on disk: what was appended at position `p` is durable when this is `> p`.
    pub fn durable(&self) -> Position {
        self.durable.load(Ordering::Acquire)
    }

    /// End of the log stream in memory; equal to [`Store::durable`] when all is durable.
    pub fn appended(&self) -> Position {
        self.appended.load(Ordering::Acquire)
    }

    /// Bytes that are not durable yet, for back-pressure.
    pub fn gathered_bytes(&self) -> usize {
        let appended = self.appended();
        appended.saturating_sub(self.durable()) as usize
    }

    /// Sets the function that is called, outside all locks, when the gather buffer gets its first record, its
    /// first urgent one, or is full. Only the first call counts.
    pub fn set_wake(&self, wake: Box<dyn Fn(Urgency) + Send + Sync>) {
        let _ = self.wake.set(wake);
    }

    /// The durable key/value map, including changes that are not durable yet.
    pub fn meta_scan(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.meta.lock().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Bytes that can still be written to the disk.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.guard.raw().free_bytes()
    }
}
