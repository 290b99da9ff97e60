//! Walks the records of one segment file in order, a block of heads and a chunk of payload at a time.

use crate::error::ReadError;
use crate::segment::{BLOCK_HEADER_BYTES, BlockHeader, HEAD_BYTES, Head, SEGMENT_HEADER_BYTES};
use crate::segment_files::SegmentFile;

/// Payload bytes read ahead; a larger payload is read by itself.
pub(crate) const CHUNK_BYTES: u32 = 128 * 1024;

/// A place in one segment file and what was read there.
#[derive(Debug)]
pub(crate) struct BlockWalk {
    /// The record under it.
    pub(crate) index: u32,
    /// Offset in the segment of the block at or before `index`.
    block_at: u32,
    block: Option<LoadedBlock>,
    chunk: Option<Chunk>,
}

impl Default for BlockWalk {
    fn default() -> Self {
        Self { index: 0, block_at: SEGMENT_HEADER_BYTES, block: None, chunk: None }
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

impl BlockWalk {
    /// Jumps from block header to block header until the one that holds the index. `len` bytes of the file count.
    pub(crate) fn load_block(&mut self, file: &SegmentFile, len: u32) -> Result<(), ReadError> {
        loop {
            match &self.block {
                Some(block) if self.index < block.first_index + block.heads.len() as u32 => return Ok(()),
                Some(block) => {
                    self.block_at = block.end;
                    self.block = None;
                }
                None => {}
            }
            let (header, end) = self.block_header(file, len)?;
            if self.index >= header.first_index.saturating_add(header.count) {
                self.block_at = end;
                continue;
            }
            let heads = file.heads(&header, self.block_at)?;
            self.block = Some(LoadedBlock { first_index: header.first_index, heads, end });
            if self.index < header.first_index {
                return Err(file.damaged(self.block_at.into(), "a block out of order"));
            }
        }
    }

    /// The header of the block at hand and where the block ends.
    fn block_header(&self, file: &SegmentFile, len: u32) -> Result<(BlockHeader, u32), ReadError> {
        let header = file.block_header(self.block_at)?;
        let end = header.end(self.block_at);
        if end > len.into() || header.count == 0 {
            return Err(file.damaged(self.block_at.into(), "a block beyond the end"));
        }
        Ok((header, end as u32))
    }

    /// Moves to the first record that is not `before` what is looked for; false when all are. What is before it
    /// comes before it in the file.
    pub(crate) fn seek(
        &mut self,
        file: &SegmentFile,
        len: u32,
        before: impl Fn(&Head) -> bool,
    ) -> Result<bool, ReadError> {
        *self = Self::default();
        while self.block_at < len {
            let (header, end) = self.block_header(file, len)?;
            let last = self.block_at + BLOCK_HEADER_BYTES + (header.count - 1) * HEAD_BYTES;
            self.index = header.first_index;
            if before(&file.head(last)?) {
                self.index += header.count;
                self.block_at = end;
                continue;
            }
            self.load_block(file, len)?;
            self.index += self.block.as_ref().map_or(0, |block| block.heads.partition_point(before)) as u32;
            return Ok(true);
        }
        Ok(false)
    }

    /// The loaded head under the cursor and its offset.
    pub(crate) fn current(&self) -> Option<(Head, u32)> {
        let block = self.block.as_ref()?;
        let index_in_block = self.index.checked_sub(block.first_index)?;
        let head = block.heads.get(index_in_block as usize)?;
        Some((*head, self.block_at + BLOCK_HEADER_BYTES + index_in_block * HEAD_BYTES))
    }

    /// The payload of the record under the cursor, checked.
    pub(crate) fn payload(&mut self, file: &SegmentFile, head: &Head) -> Result<&[u8], ReadError> {
        let (from, len) = (head.payload_at, head.payload_len as usize);
        if self.chunk.as_ref().and_then(|chunk| chunk.slice(from, len)).is_none() {
            self.read_chunk(file, head)?;
        }
        let payload = self.chunk.as_ref().and_then(|chunk| chunk.slice(from, len));
        let payload = payload.ok_or(ReadError::Missing)?;
        file.verify_payload(head, payload)?;
        Ok(payload)
    }

    /// Never past the block: what follows is heads.
    fn read_chunk(&mut self, file: &SegmentFile, head: &Head) -> Result<(), ReadError> {
        let from = head.payload_at;
        let block_end = self.block.as_ref().map_or(from, |block| block.end);
        let wanted = CHUNK_BYTES.min(block_end.saturating_sub(from)).max(head.payload_len);
        self.chunk = Some(Chunk { at: from, bytes: file.bytes(from.into(), wanted as usize)? });
        Ok(())
    }
}

impl Chunk {
    fn slice(&self, from: u32, len: usize) -> Option<&[u8]> {
        self.bytes.get(from.checked_sub(self.at)? as usize..)?.get(..len)
    }
}
