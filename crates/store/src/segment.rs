//! A segment file: settled messages of one queue. Drawn in `docs/format.md`, "Segment file".
//!
//! Blocks are written by one settle each. How much of the file counts is said by the checkpoint, so what an
//! unfinished settle left behind the end is simply not there.

use crate::bytes::{Fields, PutFields};
use crate::checksum::{Seed, verify};
use crate::place::{Attributes, MessageId, QueueId};

/// Bytes before the first block.
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 32;
/// Bytes of a block before its heads.
pub(crate) const BLOCK_HEADER_BYTES: u32 = 36;
/// Bytes of one record's head.
pub(crate) const HEAD_BYTES: u32 = 48;
/// A block is closed at so many records …
pub(crate) const BLOCK_RECORDS_MAX: u32 = 1024;
/// … or when its payloads reach so many bytes: what a cursor reads ahead.
pub(crate) const BLOCK_PAYLOAD_BYTES: usize = 256 * 1024;

const SEGMENT_MAGIC: [u8; 4] = *b"LvSg";
const BLOCK_MAGIC: [u8; 4] = *b"LvBk";

/// Names one segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentKey {
    pub(crate) queue: QueueId,
    pub(crate) number: u32,
    /// In a folder that does not survive a restart.
    pub(crate) transient: bool,
}

impl SegmentKey {
    pub(crate) fn path(self) -> String {
        format!("{}/{:08x}.seg", queue_dir(self.queue, self.transient), self.number)
    }
}

/// Folder of all queues' folders.
pub(crate) fn queues_dir(transient: bool) -> &'static str {
    if transient { "t" } else { "q" }
}

/// Folder of one queue's segments.
pub(crate) fn queue_dir(queue: QueueId, transient: bool) -> String {
    format!("{}/{:016x}", queues_dir(transient), queue.0)
}

/// Reads back the queue of a folder's name.
pub(crate) fn parse_queue_dir(name: &str) -> Option<QueueId> {
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok().map(QueueId))?
}

/// Reads back the number of a segment's name.
pub(crate) fn parse_segment_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// What is known of a segment without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    /// Random number of the file; seeds its checksums.
    pub(crate) birth: u64,
    /// Bytes of the file that count.
    pub(crate) len: u32,
    /// Records in them.
    pub(crate) count: u32,
    /// Payload bytes in them.
    pub(crate) payload_bytes: u64,
    /// Highest queue position.
    pub(crate) last_pos: u64,
    /// Lowest message id.
    pub(crate) min_id: u64,
    /// Highest message id.
    pub(crate) max_id: u64,
}

impl SegmentEntry {
    /// A segment without blocks.
    pub(crate) fn empty(birth: u64) -> Self {
        let len = SEGMENT_HEADER_BYTES;
        Self { birth, len, count: 0, payload_bytes: 0, last_pos: 0, min_id: u64::MAX, max_id: 0 }
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.birth)
    }
}

/// Where a queue's segments end; taken under the queue's lock, used without it.
#[derive(Debug, Clone, Copy)]
pub struct SegmentTail {
    pub(crate) last: Option<(u32, SegmentEntry)>,
    pub(crate) next_number: u32,
}

/// Blocks that are on disk and wait to be added to the queue's [`Segments`](crate::Segments).
#[derive(Debug)]
#[must_use = "the blocks belong to the queue only after Segments::add"]
pub struct NewBlocks {
    pub(crate) queue: QueueId,
    pub(crate) touched: Vec<(u32, SegmentEntry)>,
}

pub(crate) fn encode_segment_header(key: SegmentKey, birth: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    bytes.put(&SEGMENT_MAGIC);
    bytes.put_u32(key.number);
    bytes.put_u64(key.queue.0);
    bytes.put_u64(birth);
    bytes.put_u32(0);
    let crc = Seed::new(birth).of(&bytes);
    bytes.put_u32(crc);
    bytes
}

/// The birth number in a segment's header; `None` when it is damaged or of another segment.
pub(crate) fn decode_segment_header(bytes: &[u8], key: SegmentKey) -> Option<u64> {
    let bytes = bytes.get(..SEGMENT_HEADER_BYTES as usize)?;
    let mut fields = Fields::new(bytes);
    if fields.array()? != SEGMENT_MAGIC || fields.u32()? != key.number || fields.u64()? != key.queue.0 {
        return None;
    }
    let birth = fields.u64()?;
    fields.u32()?;
    verify(fields.u32()?, Seed::new(birth).of(&bytes[..SEGMENT_HEADER_BYTES as usize - 4])).ok()?;
    Some(birth)
}

/// What the first bytes of a block say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) count: u32,
    pub(crate) first_index: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) min_id: u64,
    pub(crate) max_id: u64,
}

impl BlockHeader {
    pub(crate) fn encode(&self, seed: Seed, offset: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES as usize);
        bytes.put(&BLOCK_MAGIC);
        bytes.put_u32(self.count);
        bytes.put_u32(self.first_index);
        bytes.put_u32(self.payload_bytes);
        bytes.put_u64(self.min_id);
        bytes.put_u64(self.max_id);
        let crc = seed.at(&bytes, offset.into());
        bytes.put_u32(crc);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], seed: Seed, offset: u32) -> Option<Self> {
        let bytes = bytes.get(..BLOCK_HEADER_BYTES as usize)?;
        let mut fields = Fields::new(bytes);
        if fields.array()? != BLOCK_MAGIC {
            return None;
        }
        let header = Self {
            count: fields.u32()?,
            first_index: fields.u32()?,
            payload_bytes: fields.u32()?,
            min_id: fields.u64()?,
            max_id: fields.u64()?,
        };
        let crc = seed.at(&bytes[..BLOCK_HEADER_BYTES as usize - 4], offset.into());
        verify(fields.u32()?, crc).ok()?;
        Some(header)
    }

    /// Bytes of the block's heads.
    pub(crate) fn heads_bytes(&self) -> u64 {
        u64::from(self.count) * u64::from(HEAD_BYTES)
    }

    /// Offset of the first payload of a block at `offset`.
    pub(crate) fn payloads_at(&self, offset: u32) -> u64 {
        u64::from(offset) + u64::from(BLOCK_HEADER_BYTES) + self.heads_bytes()
    }

    /// Offset of the block after one at `offset`.
    pub(crate) fn end(&self, offset: u32) -> u64 {
        self.payloads_at(offset) + u64::from(self.payload_bytes)
    }
}

/// One record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    /// Offset of the payload in the file.
    pub(crate) payload_at: u32,
    pub(crate) pos: u64,
    pub(crate) id: MessageId,
    pub(crate) attributes: Attributes,
}

impl Head {
    pub(crate) fn encode(&self, seed: Seed, offset: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32(0);
        out.put_u32(self.payload_len);
        out.put_u32(self.payload_crc);
        out.put_u32(self.payload_at);
        out.put_u64(self.pos);
        out.put_u64(self.id.0);
        out.put(&self.attributes);
        let crc = seed.at(&out[start + 4..], offset.into());
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8], seed: Seed, offset: u32) -> Option<Self> {
        let bytes = bytes.get(..HEAD_BYTES as usize)?;
        let mut fields = Fields::new(bytes);
        verify(fields.u32()?, seed.at(&bytes[4..], offset.into())).ok()?;
        Some(Self {
            payload_len: fields.u32()?,
            payload_crc: fields.u32()?,
            payload_at: fields.u32()?,
            pos: fields.u64()?,
            id: MessageId(fields.u64()?),
            attributes: fields.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_heads_are_valid_in_their_place_only() {
        let key = SegmentKey { queue: QueueId(7), number: 2, transient: false };
        let bytes = encode_segment_header(key, 99);
        assert_eq!(decode_segment_header(&bytes, key), Some(99));
        assert_eq!(decode_segment_header(&bytes, SegmentKey { number: 3, ..key }), None);

        let seed = Seed::new(99);
        let block = BlockHeader { count: 2, first_index: 4, payload_bytes: 10, min_id: 1, max_id: 2 };
        let bytes = block.encode(seed, 32);
        assert_eq!(bytes.len(), BLOCK_HEADER_BYTES as usize);
        assert_eq!(BlockHeader::decode(&bytes, seed, 32), Some(block));
        assert_eq!(BlockHeader::decode(&bytes, seed, 64), None);
        assert_eq!(BlockHeader::decode(&bytes, Seed::new(98), 32), None);

        let id = MessageId(1);
        let head = Head { payload_len: 1, payload_crc: 2, payload_at: 3, pos: 4, id, attributes: [6; 16] };
        let mut bytes = Vec::new();
        head.encode(seed, 68, &mut bytes);
        assert_eq!(bytes.len(), HEAD_BYTES as usize);
        assert_eq!(Head::decode(&bytes, seed, 68), Some(head));
        assert_eq!(Head::decode(&bytes, seed, 69), None);
    }

    #[test]
    fn names_survive_the_round_trip() {
        let key = SegmentKey { queue: QueueId(0xabc), number: 0x1f, transient: true };
        assert_eq!(key.path(), "t/0000000000000abc/0000001f.seg");
        assert_eq!(parse_queue_dir("0000000000000abc"), Some(QueueId(0xabc)));
        assert_eq!(parse_segment_name("0000001f.seg"), Some(0x1f));
        assert_eq!((parse_queue_dir("abc"), parse_segment_name("x.seg")), (None, None));
    }
}
