//! What a transfer has done so far, readable while it goes on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that only grow, over all runs of a transfer.
#[derive(Debug, Default)]
pub struct Progress {
    moved: AtomicU64,
    moved_bytes: AtomicU64,
    marked: AtomicU64,
}

impl Progress {
    /// Messages that are safe at the destination, as far as the acknowledgement mode tells.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Octets of their bodies.
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    /// How many were published with a mark that they may be there twice.
    pub fn marked(&self) -> u64 {
        self.marked.load(Ordering::Relaxed)
    }

    pub(crate) fn add_moved(&self, messages: u64, octets: u64) {
        self.moved.fetch_add(messages, Ordering::Relaxed);
        self.moved_bytes.fetch_add(octets, Ordering::Relaxed);
    }

    pub(crate) fn add_marked(&self) {
        self.marked.fetch_add(1, Ordering::Relaxed);
    }
}
