//! Readers that walk a queue's segments beside its own cursor and take nothing away.
//!
//! Each has its own place and its own buffers; all they share is open files. A [`SegmentSpan`] is what the queue
//! knows of a segment at one moment. It stays true without the queue's lock: a segment only grows, and one that
//! was removed meanwhile is read to its end through the open file.
//!
//! ```text
//!  segment 3   segment 4        segment 5
//!  · · · · ·   · · · · · · ·    · · · ·
//!      ▲ a         ▲ b   ▲ c              each reader: a block of heads, a chunk of payload
//! ```

use std::sync::Arc;

use crate::block_walk::BlockWalk;
use crate::error::ReadError;
use crate::segment::{SegmentEntry, SegmentKey};
use crate::segment_files::SegmentFile;
use crate::segments::{SegmentHead, Segments};
use crate::store::Store;

/// A segment as it is at one moment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentSpan {
    pub(crate) key: SegmentKey,
    pub(crate) entry: SegmentEntry,
}

impl SegmentSpan {
    /// Position of its last record.
    pub fn last_pos(&self) -> u64 {
        self.entry.last_pos
    }

    /// Payload bytes in it.
    pub fn payload_bytes(&self) -> u64 {
        self.entry.payload_bytes
    }

    /// Whether both are the same segment, perhaps at different moments.
    pub fn is_same(&self, other: &SegmentSpan) -> bool {
        self.key == other.key
    }

    /// Records in it.
    pub fn count(&self) -> u32 {
        self.entry.count
    }
}

/// A place in one segment.
#[derive(Debug)]
pub struct SegmentReader {
    key: SegmentKey,
    file: Arc<SegmentFile>,
    walk: BlockWalk,
}

impl SegmentReader {
    /// A reader before the first record.
    ///
    /// # Errors
    /// When the file cannot be opened, also because the segment was removed meanwhile.
    pub fn open(store: &Store, span: &SegmentSpan) -> Result<Self, ReadError> {
        let file = store.segment_files.open(store.guard.raw(), span.key)?;
        if file.birth() != span.entry.birth {
            return Err(file.damaged(0, "another segment under this name"));
        }
        Ok(Self { key: span.key, file, walk: BlockWalk::default() })
    }

    /// Whether it reads this segment.
    pub fn is_in(&self, span: &SegmentSpan) -> bool {
        self.key == span.key
    }

    /// Moves to the first record that is not `before` what is looked for; false when all are. Records must be
    /// sorted in that respect.
    ///
    /// # Errors
    /// On damage.
    pub fn seek(
        &mut self,
        span: &SegmentSpan,
        before: impl Fn(&SegmentHead) -> bool,
    ) -> Result<bool, ReadError> {
        let key = self.key;
        self.walk.seek(&self.file, span.entry.len, |head| before(&SegmentHead::new(head, key, 0, 0)))
    }

    /// The record at hand with its payload, without moving on; `None` at the end of the span.
    ///
    /// # Errors
    /// On damage the reader stays where it is.
    pub fn peek(&mut self, span: &SegmentSpan) -> Result<Option<(SegmentHead, &[u8])>, ReadError> {
        if self.walk.index >= span.entry.count {
            return Ok(None);
        }
        self.walk.load_block(&self.file, span.entry.len)?;
        let Some((head, head_at)) = self.walk.current() else { return Ok(None) };
        let found = SegmentHead::new(&head, self.key, self.walk.index, head_at);
        Ok(Some((found, self.walk.payload(&self.file, &head)?)))
    }

    /// Moves past the record at hand.
    pub fn pass(&mut self) {
        self.walk.index += 1;
    }

    /// The last record of a segment, without its payload.
    ///
    /// # Errors
    /// As for [`SegmentReader::open`].
    pub fn last_head(store: &Store, span: &SegmentSpan) -> Result<Option<SegmentHead>, ReadError> {
        match span.entry.count.checked_sub(1) {
            Some(last) => Self::head_at(store, span, last),
            None => Ok(None),
        }
    }

    fn head_at(store: &Store, span: &SegmentSpan, index: u32) -> Result<Option<SegmentHead>, ReadError> {
        let mut reader = Self::open(store, span)?;
        reader.walk.index = index;
        reader.walk.load_block(&reader.file, span.entry.len)?;
        let current = reader.walk.current();
        Ok(current.map(|(head, head_at)| SegmentHead::new(&head, span.key, index, head_at)))
    }
}

impl Segments {
    /// The segments that are not gone, oldest first.
    pub fn spans(&self) -> impl DoubleEndedIterator<Item = SegmentSpan> {
        self.living().map(|(key, entry)| SegmentSpan { key, entry })
    }

    /// The first record that is not gone, without its payload.
    ///
    /// # Errors
    /// As for [`SegmentReader::open`].
    pub fn first_head(&self, store: &Store) -> Result<Option<SegmentHead>, ReadError> {
        match self.first_living() {
            Some((key, entry, index)) => SegmentReader::head_at(store, &SegmentSpan { key, entry }, index),
            None => Ok(None),
        }
    }

    /// The segment that holds a position, or the next one there is. Positions must be sorted.
    pub fn span_at(&self, pos: u64) -> Option<SegmentSpan> {
        self.living_from(pos).map(|(key, entry)| SegmentSpan { key, entry })
    }
}
