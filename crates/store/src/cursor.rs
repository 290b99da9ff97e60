//! Walks the records of one queue's segments in order, a block of heads and a chunk of payload at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::ReadError;
use crate::place::{Place, QueueId};
use crate::segment::{BLOCK_HEADER_BYTES, HEAD_BYTES, Head, SEGMENT_HEADER_BYTES, SegmentKey};
use crate::segment_files::SegmentFile;
use crate::segments::{Segment, SegmentHead};
use crate::store::Store;

/// Payload bytes read ahead; a larger payload is read by itself.
pub(crate) const CHUNK_BYTES: u32 = 128 * 1024;

/// Where the next record is looked for.
#[derive(Debug)]
pub(crate) struct Cursor {
    segment: u32,
    index: u32,
    /// Offset in the segment of the block at or before `index`.
    block_at: u32,
    block: Option<LoadedBlock>,
    chunk: Option<Chunk>,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { segment: 0, index: 0, block_at: SEGMENT_HEADER_BYTES, block: None, chunk: None }
    }
}

#[derive(Debug)]
struct LoadedBlock {
    first_index: u32,
    heads: Vec<Head>,
    end: u32,
}

#[derive(Debug)]
struct Chunk {
    at: u32,
    bytes: Vec<u8>,
}

impl Cursor {
    /// First index in a segment that the cursor has not passed.
    pub(crate) fn first_index_in(&self, segment: u32) -> u32 {
        match segment.cmp(&self.segment) {
            std::cmp::Ordering::Less => u32::MAX,
            std::cmp::Ordering::Equal => self.index,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Moves past the record under the cursor.
    pub(crate) fn pass(&mut self) {
        self.index += 1;
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
        self.load_block(&file, segment)?;
        Ok(self.current().map(|(head, head_at)| SegmentHead {
            pos: head.pos,
            id: head.id,
            attributes: head.attributes,
            len: head.payload_len,
            place: Place::Segment {
                transient: key.transient,
                segment: key.number,
                index: self.index,
                head: head_at,
                len: head.payload_len,
            },
        }))
    }

    /// The payload of the record that [`Cursor::head`] has just given.
    pub(crate) fn payload(
        &mut self,
        store: &Store,
        queue: QueueId,
        transient: bool,
    ) -> Result<Vec<u8>, ReadError> {
        let Some((head, _)) = self.current() else { return Err(ReadError::Missing) };
        let key = SegmentKey { queue, number: self.segment, transient };
        let file = store.segment_files.open(store.guard.raw(), key)?;
        if head.payload_len > CHUNK_BYTES {
            return file.payload(&head);
        }
        let payload = self.chunk_holding(&file, &head)?;
        file.verify_payload(&head, &payload)?;
        Ok(payload)
    }

    fn find_ready<'a>(&mut self, segments: &'a VecDeque<Segment>) -> Option<&'a Segment> {
        let first = segments.partition_point(|segment| segment.number < self.segment);
        for segment in segments.range(first..) {
            if segment.number != self.segment {
                *self = Self { segment: segment.number, ..Self::default() };
            }
            while self.index < segment.entry.count && segment.is_skipped(self.index) {
                self.index += 1;
            }
            if self.index < segment.entry.count {
                return Some(segment);
            }
        }
        None
    }

    /// Jumps from block header to block header until the one that holds the index.
    fn load_block(&mut self, file: &Arc<SegmentFile>, segment: &Segment) -> Result<(), ReadError> {
        loop {
            match &self.block {
                Some(block) if self.index < block.first_index + block.heads.len() as u32 => return Ok(()),
                Some(block) => {
                    self.block_at = block.end;
                    self.block = None;
                }
                None => {}
            }
            let header = file.block_header(self.block_at)?;
            let end = header.end(self.block_at);
            if end > segment.entry.len.into() || header.count == 0 {
                return Err(file.damaged(self.block_at.into(), "a block beyond the end"));
            }
            if self.index >= header.first_index.saturating_add(header.count) {
                self.block_at = end as u32;
                continue;
            }
            let heads = file.heads(&header, self.block_at)?;
            self.block = Some(LoadedBlock { first_index: header.first_index, heads, end: end as u32 });
            if self.index < header.first_index {
                return Err(file.damaged(self.block_at.into(), "a block out of order"));
            }
        }
    }

    /// The loaded head under the cursor and its offset.
    fn current(&self) -> Option<(Head, u32)> {
        let block = self.block.as_ref()?;
        let index_in_block = self.index.checked_sub(block.first_index)?;
        let head = block.heads.get(index_in_block as usize)?;
        Some((*head, self.block_at + BLOCK_HEADER_BYTES + index_in_block * HEAD_BYTES))
    }

    fn chunk_holding(&mut self, file: &SegmentFile, head: &Head) -> Result<Vec<u8>, ReadError> {
        let (from, len) = (head.payload_at, head.payload_len as usize);
        if let Some(payload) = self.chunk.as_ref().and_then(|chunk| chunk.slice(from, len)) {
            return Ok(payload.to_vec());
        }
        // Never past the block: what follows is heads.
        let block_end = self.block.as_ref().map_or(from, |block| block.end);
        let wanted = CHUNK_BYTES.min(block_end.saturating_sub(from)).max(head.payload_len);
        let chunk = Chunk { at: from, bytes: file.bytes(from.into(), wanted as usize)? };
        let payload = chunk.slice(from, len).map(<[u8]>::to_vec).ok_or(ReadError::Missing)?;
        self.chunk = Some(chunk);
        Ok(payload)
    }
}

impl Chunk {
    fn slice(&self, from: u32, len: usize) -> Option<&[u8]> {
        self.bytes.get(from.checked_sub(self.at)? as usize..)?.get(..len)
    }
}
