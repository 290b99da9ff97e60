//! One record of the log: a head that names its queues, then the payload. Drawn in `docs/format.md`, "Record".
//!
//! Head and payload have their own checksums, so a flipped bit in a payload still says whose it was.

use crate::bytes::{Fields, PutFields};
use crate::checksum::{Seed, add_place, verify};
use crate::place::{Attributes, Position, QueueId};

/// Bytes of a head before attributes and queues.
pub(crate) const FIXED_HEAD_BYTES: usize = 20;
const ATTRIBUTES_BYTES: usize = size_of::<Attributes>();
const FLAG_TRANSIENT: u8 = 1;
/// Fan-outs up to this many queues are encoded without an allocation.
const INLINE_QUEUES: usize = 24;
const INLINE_BYTES: usize = FIXED_HEAD_BYTES + ATTRIBUTES_BYTES + 8 * INLINE_QUEUES;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message: attributes, queues, payload.
    Publish = 1,
    /// Ids that are no longer alive in one queue.
    Ack = 2,
    /// All ids of one queue up to a limit, except a list.
    Purge = 3,
    /// Changes of the key/value map.
    Meta = 4,
    /// A queue whose files may be removed.
    Drop = 5,
    /// The end of a clean stop.
    Clean = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Publish, Self::Ack, Self::Purge, Self::Meta, Self::Drop, Self::Clean]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    fn head_bytes(self, queue_count: usize) -> usize {
        let attributes = if self == Self::Publish { ATTRIBUTES_BYTES } else { 0 };
        FIXED_HEAD_BYTES + attributes + 8 * queue_count
    }
}

/// A record ready to be appended: all checksums but the position's are done, outside the lock.
pub(crate) struct PreparedRecord<'a> {
    head: HeadBytes,
    crc: u32,
    parts: &'a [&'a [u8]],
    payload_len: usize,
}

/// Head bytes, on the stack unless a fan-out is very wide.
enum HeadBytes {
    Inline([u8; INLINE_BYTES], usize),
    Heap(Vec<u8>),
}

impl HeadBytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline(bytes, len) => &bytes[..*len],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl<'a> PreparedRecord<'a> {
    /// A message for `queues`; `parts` together are its payload.
    pub(crate) fn publish(
        seed: Seed,
        queues: &[QueueId],
        transient: bool,
        attributes: &Attributes,
        parts: &'a [&'a [u8]],
    ) -> Self {
        let flags = if transient { FLAG_TRANSIENT } else { 0 };
        Self::new(seed, Kind::Publish, flags, attributes, queues, parts)
    }

    /// Any other record.
    pub(crate) fn control(seed: Seed, kind: Kind, queues: &[QueueId], parts: &'a [&'a [u8]]) -> Self {
        Self::new(seed, kind, 0, &[], queues, parts)
    }

    fn new(
        seed: Seed,
        kind: Kind,
        flags: u8,
        attributes: &[u8],
        queues: &[QueueId],
        parts: &'a [&'a [u8]],
    ) -> Self {
        let payload_len = parts.iter().map(|part| part.len()).sum();
        let mut payload_crc = seed.start();
        parts.iter().for_each(|part| payload_crc.add(part));
        let head = encode_head(kind, flags, attributes, queues, payload_len, payload_crc.finish());
        let crc = seed.of(&head.as_slice()[4..]);
        Self { head, crc, parts, payload_len }
    }

    /// Bytes the record takes in the log.
    pub(crate) fn len(&self) -> usize {
        self.head.as_slice().len() + self.payload_len
    }

    /// Copies the record to the end of `buffer`, which stands for `position` there.
    pub(crate) fn append_to(&self, buffer: &mut Vec<u8>, position: Position) {
        buffer.reserve(self.len());
        buffer.put_u32(add_place(self.crc, position));
        buffer.put(&self.head.as_slice()[4..]);
        self.parts.iter().for_each(|part| buffer.put(part));
    }
}

fn encode_head(
    kind: Kind,
    flags: u8,
    attributes: &[u8],
    queues: &[QueueId],
    payload_len: usize,
    payload_crc: u32,
) -> HeadBytes {
    let mut fixed = [0; FIXED_HEAD_BYTES];
    fixed[4] = kind as u8;
    fixed[5] = flags;
    fixed[8..12].copy_from_slice(&(queues.len() as u32).to_le_bytes());
    fixed[12..16].copy_from_slice(&(payload_len as u32).to_le_bytes());
    fixed[16..20].copy_from_slice(&payload_crc.to_le_bytes());
    if queues.len() > INLINE_QUEUES {
        let mut bytes = Vec::with_capacity(kind.head_bytes(queues.len()));
        bytes.put(&fixed);
        bytes.put(attributes);
        queues.iter().for_each(|queue| bytes.put_u64(queue.0));
        return HeadBytes::Heap(bytes);
    }
    let mut bytes = [0; INLINE_BYTES];
    let mut len = 0;
    let mut put = |part: &[u8]| {
        bytes[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    };
    put(&fixed);
    put(attributes);
    queues.iter().for_each(|queue| put(&queue.0.to_le_bytes()));
    HeadBytes::Inline(bytes, len)
}

/// A head read back and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: Kind,
    pub(crate) transient: bool,
    pub(crate) attributes: Attributes,
    pub(crate) queues: Vec<QueueId>,
    pub(crate) head_len: usize,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
}

impl RecordHead {
    /// Length of the whole record, bytes.
    pub(crate) fn record_len(&self) -> u64 {
        self.head_len as u64 + u64::from(self.payload_len)
    }
}

/// Length of head and of whole record as the first bytes claim; `None` when they cannot be a head.
pub(crate) fn claimed_lengths(fixed: &[u8]) -> Option<(usize, u64)> {
    let mut fields = Fields::new(fixed);
    fields.u32()?;
    let kind = Kind::from_byte(fields.u8()?)?;
    if fields.u8()? > FLAG_TRANSIENT || fields.u16()? != 0 {
        return None;
    }
    let head_len = kind.head_bytes(fields.u32()? as usize);
    Some((head_len, head_len as u64 + u64::from(fields.u32()?)))
}

/// Parses and checks a whole head that was found at `position`.
pub(crate) fn parse_head(bytes: &[u8], seed: Seed, position: Position) -> Option<RecordHead> {
    let (head_len, _) = claimed_lengths(bytes)?;
    let mut fields = Fields::new(bytes.get(..head_len)?);
    let crc = fields.u32()?;
    verify(crc, seed.at(&bytes[4..head_len], position)).ok()?;
    let kind = Kind::from_byte(fields.u8()?)?;
    let transient = fields.u8()? == FLAG_TRANSIENT;
    fields.u16()?;
    let queue_count = fields.u32()?;
    let payload_len = fields.u32()?;
    let payload_crc = fields.u32()?;
    let attributes = if kind == Kind::Publish { fields.array()? } else { [0; ATTRIBUTES_BYTES] };
    let queues = (0..queue_count).map_while(|_| fields.u64().map(QueueId)).collect();
    Some(RecordHead { kind, transient, attributes, queues, head_len, payload_len, payload_crc })
}

/// Payload of an ack record.
pub(crate) fn encode_ids<'a>(ids: impl IntoIterator<Item = &'a crate::place::MessageId>) -> Vec<u8> {
    ids.into_iter().flat_map(|id| id.0.to_le_bytes()).collect()
}

/// Reads back what [`encode_ids`] wrote.
pub(crate) fn decode_ids(mut fields: Fields<'_>) -> Option<Vec<crate::place::MessageId>> {
    let mut ids = Vec::with_capacity(fields.remaining() / 8);
    while !fields.is_empty() {
        ids.push(crate::place::MessageId(fields.u64()?));
    }
    Some(ids)
}

/// Payload of a clean-stop record.
pub(crate) fn encode_notes(notes: &[(QueueId, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (queue, note) in notes {
        bytes.put_u64(queue.0);
        bytes.put_counted(note);
    }
    bytes
}

/// Reads back what [`encode_notes`] wrote.
pub(crate) fn decode_notes(mut fields: Fields<'_>) -> Option<Vec<(QueueId, Vec<u8>)>> {
    let mut notes = Vec::new();
    while !fields.is_empty() {
        notes.push((QueueId(fields.u64()?), fields.counted()?.to_vec()));
    }
    Some(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_round_trip_at_their_own_position_only() {
        let seed = Seed::new(7);
        for queue_count in [0, 1, 2, INLINE_QUEUES, INLINE_QUEUES + 1, 1000] {
            let queues: Vec<_> = (0..queue_count as u64).map(QueueId).collect();
            let parts: [&[u8]; 2] = [b"pay", b"load"];
            let record = PreparedRecord::publish(seed, &queues, true, &[9; 16], &parts);
            let mut bytes = Vec::new();
            record.append_to(&mut bytes, 4096);
            assert_eq!(bytes.len(), record.len());

            let head = parse_head(&bytes, seed, 4096).unwrap();
            assert_eq!(head.queues, queues);
            assert_eq!((head.transient, head.attributes, head.payload_len), (true, [9; 16], 7));
            assert_eq!(head.record_len(), bytes.len() as u64);
            assert_eq!(parse_head(&bytes, seed, 4097), None);
            assert_eq!(parse_head(&bytes, Seed::new(8), 4096), None);
        }
    }
}
