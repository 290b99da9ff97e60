//! Open segment files, a bounded number of them, and checked reads from them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::checksum::{Seed, verify};
use crate::disk::{Disk, DiskFile, read_full_at};
use crate::error::ReadError;
use crate::segment::{
    BLOCK_HEADER_BYTES, BlockHeader, HEAD_BYTES, Head, SEGMENT_HEADER_BYTES, SegmentKey,
    decode_segment_header,
};

/// Descriptors are needed for sockets too: ten thousand queues share this many.
const OPEN_FILES_MAX: usize = 64;

/// Most recently used segment files, newest last.
#[derive(Default)]
pub(crate) struct SegmentFiles {
    open: Mutex<Vec<(SegmentKey, Arc<SegmentFile>)>>,
}

impl SegmentFiles {
    /// The file, opened and its header checked if it was not open already.
    pub(crate) fn open(&self, disk: &dyn Disk, key: SegmentKey) -> Result<Arc<SegmentFile>, ReadError> {
        if let Some(file) = self.recall(key) {
            return Ok(file);
        }
        let file = Arc::new(SegmentFile::open(disk, key)?);
        let mut open = self.open.lock();
        if open.len() >= OPEN_FILES_MAX {
            open.remove(0);
        }
        open.push((key, file.clone()));
        Ok(file)
    }

    fn recall(&self, key: SegmentKey) -> Option<Arc<SegmentFile>> {
        let mut open = self.open.lock();
        let at = open.iter().rposition(|(other, _)| *other == key)?;
        let recalled = open.remove(at);
        let file = recalled.1.clone();
        open.push(recalled);
        Some(file)
    }

    /// Forgets a file that is about to be removed or made anew.
    pub(crate) fn forget(&self, key: SegmentKey) {
        self.open.lock().retain(|(other, _)| *other != key);
    }
}

/// One segment file, open for reading.
pub(crate) struct SegmentFile {
    file: Box<dyn DiskFile>,
    path: String,
    birth: u64,
    seed: Seed,
}

impl std::fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentFile({})", self.path)
    }
}

impl SegmentFile {
    pub(crate) fn open(disk: &dyn Disk, key: SegmentKey) -> Result<Self, ReadError> {
        let path = key.path();
        let damaged = |what| ReadError::Damaged { file: path.clone(), offset: 0, what };
        let file = match disk.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged("the file is missing"));
            }
            other => other?,
        };
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        read_full_at(&*file, &mut header, 0)?;
        let birth = decode_segment_header(&header, key).ok_or_else(|| damaged("bad segment header"))?;
        Ok(Self { file, birth, seed: Seed::new(birth), path })
    }

    pub(crate) fn birth(&self) -> u64 {
        self.birth
    }

    pub(crate) fn len(&self) -> Result<u64, ReadError> {
        Ok(self.file.len()?)
    }

    pub(crate) fn damaged(&self, offset: u64, what: &'static str) -> ReadError {
        ReadError::Damaged { file: self.path.clone(), offset, what }
    }

    /// Exactly `len` bytes; a file that ends before is damaged. `len` is bounded by checked headers.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; len];
        if read_full_at(&*self.file, &mut bytes, offset)? < len {
            return Err(self.damaged(offset, "the file ends too early"));
        }
        Ok(bytes)
    }

    pub(crate) fn block_header(&self, offset: u32) -> Result<BlockHeader, ReadError> {
        let bytes = self.bytes(offset.into(), BLOCK_HEADER_BYTES as usize)?;
        BlockHeader::decode(&bytes, self.seed, offset)
            .ok_or_else(|| self.damaged(offset.into(), "bad block header"))
    }

    /// All heads of the block at `offset`.
    pub(crate) fn heads(&self, header: &BlockHeader, offset: u32) -> Result<Vec<Head>, ReadError> {
        let first = offset + BLOCK_HEADER_BYTES;
        let bytes = self.bytes(first.into(), header.heads_bytes() as usize)?;
        let heads = bytes.chunks_exact(HEAD_BYTES as usize).zip((first..).step_by(HEAD_BYTES as usize));
        heads.map(|(bytes, offset)| self.decode_head(bytes, offset)).collect()
    }

    pub(crate) fn head(&self, offset: u32) -> Result<Head, ReadError> {
        let bytes = self.bytes(offset.into(), HEAD_BYTES as usize)?;
        self.decode_head(&bytes, offset)
    }

    fn decode_head(&self, bytes: &[u8], offset: u32) -> Result<Head, ReadError> {
        Head::decode(bytes, self.seed, offset).ok_or_else(|| self.damaged(offset.into(), "bad record head"))
    }

    pub(crate) fn payload(&self, head: &Head) -> Result<Vec<u8>, ReadError> {
        let payload = self.bytes(head.payload_at.into(), head.payload_len as usize)?;
        self.verify_payload(head, &payload)?;
        Ok(payload)
    }

    pub(crate) fn verify_payload(&self, head: &Head, payload: &[u8]) -> Result<(), ReadError> {
        verify(head.payload_crc, self.seed.of(payload))
            .map_err(|_| self.damaged(head.payload_at.into(), "the payload's checksum is wrong"))
    }
}
