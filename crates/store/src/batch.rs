//! The header in front of everything that one commit writes. Drawn in `docs/format.md`, "Batch".
//!
//! A batch is written only after the one before it was synced. So one valid header proves that every byte
//! before it had reached the disk: bad bytes before it are damage, bad bytes after the last one are a torn tail.

use crate::bytes::{Fields, PutFields};
use crate::checksum::{Seed, verify};
use crate::place::Position;

/// Bytes of a batch header.
pub(crate) const BATCH_HEADER_BYTES: usize = 24;
/// First bytes of a batch header.
pub(crate) const BATCH_MAGIC: [u8; 4] = *b"LvBt";

/// What a batch header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Where the header itself begins in the log stream.
    pub(crate) position: Position,
    /// Bytes of records behind the header.
    pub(crate) len: u32,
    /// Number of records.
    pub(crate) count: u32,
}

impl BatchHeader {
    pub(crate) fn encode(&self, seed: Seed) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES);
        bytes.put(&BATCH_MAGIC);
        bytes.put_u32(self.len);
        bytes.put_u64(self.position);
        bytes.put_u32(self.count);
        let crc = seed.of(&bytes);
        bytes.put_u32(crc);
        let mut header = [0; BATCH_HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        let mut fields = Fields::new(bytes.get(..BATCH_HEADER_BYTES)?);
        if fields.array()? != BATCH_MAGIC {
            return None;
        }
        let header = Self { len: fields.u32()?, position: fields.u64()?, count: fields.u32()? };
        verify(fields.u32()?, seed.of(&bytes[..BATCH_HEADER_BYTES - 4])).ok()?;
        Some(header)
    }

    /// First position of the records.
    pub(crate) fn body(&self) -> Position {
        self.position + BATCH_HEADER_BYTES as u64
    }

    /// First position after the batch. A lying length saturates; callers compare with the file's end.
    pub(crate) fn end(&self) -> Position {
        self.body().saturating_add(u64::from(self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_round_trip_and_no_flipped_bit_does() {
        let header = BatchHeader { position: 77, len: 1 << 20, count: 3 };
        let bytes = header.encode(Seed::new(1));
        assert_eq!(BatchHeader::decode(&bytes, Seed::new(1)), Some(header));
        assert_eq!(BatchHeader::decode(&bytes, Seed::new(2)), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&flipped, Seed::new(1)), None, "bit {bit}");
        }
    }
}
