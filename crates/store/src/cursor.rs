//! Walks the records of one queue's segments in order and yields each once.

use std::collections::VecDeque;

use crate::block_walk::{BlockWalk, CHUNK_BYTES};
use crate::error::ReadError;
use crate::place::QueueId;
use crate::segment::SegmentKey;
use crate::segments::{Segment, SegmentHead};
use crate::store::Store;

/// Where the next record is looked for.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    segment: u32,
    walk: BlockWalk,
}

impl Cursor {
    /// First index in a segment that the cursor has not passed.
    pub(crate) fn first_index_in(&self, segment: u32) -> u32 {
        match segment.cmp(&self.segment) {
            std::cmp::Ordering::Less => u32::MAX,
            std::cmp::Ordering::Equal => self.walk.index,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Moves past the record under the cursor.
    pub(crate) fn pass(&mut self) {
        self.walk.index += 1;
    }

    /// Moves to the next record that is neither gone nor held, and gives its head.
    pub(crate) fn head(
        &mut self,
        store: &Store,
        segments: &VecDeque<Segment>,
        key: impl Fn(u32) -> SegmentKey,
    ) -> Result<Option<SegmentHead>, ReadError> {
        let Some(segment) = self.find_ready(segments) else { return Ok(None) };
        let key = key(segment.number);
        let file = store.segment_files.open(store.guard.raw(), key)?;
        self.walk.load_block(&file, segment.entry.len)?;
        let current = self.walk.current();
        Ok(current.map(|(head, head_at)| SegmentHead::new(&head, key, self.walk.index, head_at)))
    }

    /// The payload of the record that [`Cursor::head`] has just given.
    pub(crate) fn payload(
        &mut self,
        store: &Store,
        queue: QueueId,
        transient: bool,
    ) -> Result<Vec<u8>, ReadError> {
        let Some((head, _)) = self.walk.current() else { return Err(ReadError::Missing) };
        let key = SegmentKey { queue, number: self.segment, transient };
        let file = store.segment_files.open(store.guard.raw(), key)?;
        if head.payload_len > CHUNK_BYTES {
            return file.payload(&head);
        }
        Ok(self.walk.payload(&file, &head)?.to_vec())
    }

    fn find_ready<'a>(&mut self, segments: &'a VecDeque<Segment>) -> Option<&'a Segment> {
        let first = segments.partition_point(|segment| segment.number < self.segment);
        for segment in segments.range(first..) {
            if segment.number != self.segment {
                *self = Self { segment: segment.number, walk: BlockWalk::default() };
            }
            let index = &mut self.walk.index;
            while *index < segment.entry.count && segment.is_skipped(*index) {
                *index += 1;
            }
            if *index < segment.entry.count {
                return Some(segment);
            }
        }
        None
    }
}
