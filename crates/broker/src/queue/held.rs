//! How much a queue holds, counted as it comes and goes.

use std::ops::Add;

use leveret_store::Segments;

use super::entry::{Content, Entry};

/// Messages that a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub messages: u64,
    /// Octets of them, as they are stored.
    pub bytes: u64,
    /// How many of them outlive the process.
    pub persistent: u64,
    /// Octets of those.
    pub persistent_bytes: u64,
    /// How many of them are in memory, perhaps on disk too.
    pub in_memory: u64,
    /// Octets of those.
    pub in_memory_bytes: u64,
    /// How many of them are in the index in memory; the others are only in segment files.
    pub in_index: u64,
}

impl Held {
    /// What one entry holds.
    #[inline]
    pub(super) fn one(entry: &Entry) -> Self {
        let (is_persistent, is_cached) = match &entry.content {
            Content::Memory(_) => (false, true),
            Content::Stored(stored) => (stored.durable, stored.cached.is_some()),
        };
        let bytes = u64::from(entry.size_bytes);
        let (persistent, in_memory) = (u64::from(is_persistent), u64::from(is_cached));
        Self {
            messages: 1,
            bytes,
            persistent,
            persistent_bytes: persistent * bytes,
            in_memory,
            in_memory_bytes: in_memory * bytes,
            in_index: 1,
        }
    }

    /// What waits in segment files.
    pub(super) fn in_segments(segments: &Segments, durable: bool) -> Self {
        let (messages, bytes) = (segments.ready_len(), segments.ready_bytes());
        let persistent = u64::from(durable);
        Self {
            messages,
            bytes,
            persistent: persistent * messages,
            persistent_bytes: persistent * bytes,
            ..Self::default()
        }
    }

    /// An entry comes.
    #[inline]
    pub(super) fn add_entry(&mut self, entry: &Entry) {
        *self = *self + Self::one(entry);
    }

    /// An entry goes, as it came.
    #[inline]
    pub(super) fn remove_entry(&mut self, entry: &Entry) {
        let gone = Self::one(entry);
        self.messages -= gone.messages;
        self.bytes -= gone.bytes;
        self.persistent -= gone.persistent;
        self.persistent_bytes -= gone.persistent_bytes;
        self.in_memory -= gone.in_memory;
        self.in_memory_bytes -= gone.in_memory_bytes;
        self.in_index -= gone.in_index;
    }
}

impl Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            persistent: self.persistent + other.persistent,
            persistent_bytes: self.persistent_bytes + other.persistent_bytes,
            in_memory: self.in_memory + other.in_memory,
            in_memory_bytes: self.in_memory_bytes + other.in_memory_bytes,
            in_index: self.in_index + other.in_index,
        }
    }
}
