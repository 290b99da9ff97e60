//! The checkpoint: everything that retired log files said. Drawn in `docs/format.md`, "checkpoint".
//!
//! State after a crash = checkpoint + log files after `settled_through`. Replacing it atomically *is* retiring
//! a log file; removing the file afterwards is tidying up.

use std::collections::BTreeMap;

use crate::bitmap::Bitmap;
use crate::bytes::{Fields, PutFields};
use crate::checksum::{Seed, verify};
use crate::disk::{Disk, read_exact_at};
use crate::error::{CommitError, OpenError};
use crate::guard::GuardedDisk;
use crate::meta::MetaMap;
use crate::place::{LogFileNumber, QueueId};
use crate::segment::SegmentEntry;
use crate::segment_table::{Gone, TableRow};

const CHECKPOINT_PATH: &str = "checkpoint";
const CHECKPOINT_TMP: &str = "checkpoint.tmp";
const CHECKPOINT_MAGIC: [u8; 8] = *b"LvCheckp";

/// A checkpoint as read at open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Number of the newest log file it replaces; 0 when none was retired yet.
    pub(crate) settled_through: u32,
    pub(crate) meta: MetaMap,
    pub(crate) segments: BTreeMap<(QueueId, u32), TableRow>,
}

/// Encodes without taking the maps apart, as they are shared with the running store.
pub(crate) fn encode(
    settled_through: LogFileNumber,
    meta: &MetaMap,
    segments: &BTreeMap<(QueueId, u32), TableRow>,
    seed: Seed,
) -> Vec<u8> {
    let mut bytes = CHECKPOINT_MAGIC.to_vec();
    bytes.put_u32(settled_through.0);
    bytes.put_u64(meta.len() as u64);
    for (key, value) in meta {
        bytes.put_counted(key);
        bytes.put_counted(value);
    }
    bytes.put_u64(segments.len() as u64);
    for ((queue, number), row) in segments {
        bytes.put_u64(queue.0);
        bytes.put_u32(*number);
        encode_row(row, &mut bytes);
    }
    let crc = seed.of(&bytes);
    bytes.put_u32(crc);
    bytes
}

fn encode_row(row: &TableRow, bytes: &mut Vec<u8>) {
    let entry = &row.entry;
    bytes.put_u64(entry.birth);
    bytes.put_u32(entry.len);
    bytes.put_u32(entry.count);
    for field in [entry.payload_bytes, entry.last_pos, entry.min_id, entry.max_id, row.gone.payload_bytes] {
        bytes.put_u64(field);
    }
    bytes.put_u32(row.gone.indexes.words().len() as u32);
    row.gone.indexes.words().iter().for_each(|word| bytes.put_u64(*word));
}

/// `None` when the bytes are not a whole checkpoint of this directory.
pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Option<Checkpoint> {
    let (body, crc) = bytes.split_last_chunk()?;
    verify(u32::from_le_bytes(*crc), seed.of(body)).ok()?;
    let mut fields = Fields::new(body);
    if fields.array()? != CHECKPOINT_MAGIC {
        return None;
    }
    let mut checkpoint = Checkpoint { settled_through: fields.u32()?, ..Checkpoint::default() };
    for _ in 0..fields.u64()? {
        checkpoint.meta.insert(fields.counted()?.to_vec(), fields.counted()?.to_vec());
    }
    for _ in 0..fields.u64()? {
        let key = (QueueId(fields.u64()?), fields.u32()?);
        checkpoint.segments.insert(key, decode_row(&mut fields)?);
    }
    fields.is_empty().then_some(checkpoint)
}

fn decode_row(fields: &mut Fields<'_>) -> Option<TableRow> {
    let entry = SegmentEntry {
        birth: fields.u64()?,
        len: fields.u32()?,
        count: fields.u32()?,
        payload_bytes: fields.u64()?,
        last_pos: fields.u64()?,
        min_id: fields.u64()?,
        max_id: fields.u64()?,
    };
    let payload_bytes = fields.u64()?;
    let word_count = fields.u32()?;
    let mut words = Fields::new(fields.take((word_count as usize).checked_mul(8)?)?);
    let words = std::iter::from_fn(|| words.u64()).collect();
    Some(TableRow { entry, gone: Gone { indexes: Bitmap::from_words(words), payload_bytes } })
}

/// Puts a new checkpoint in the place of the old one, atomically and durably.
pub(crate) fn replace(guard: &GuardedDisk, bytes: &[u8]) -> Result<(), CommitError> {
    let file = guard.create(CHECKPOINT_TMP)?;
    guard.write_at(CHECKPOINT_TMP, &*file, bytes, 0)?;
    guard.sync_data(CHECKPOINT_TMP, &*file)?;
    guard.rename(CHECKPOINT_TMP, CHECKPOINT_PATH)?;
    guard.sync_dir("")
}

/// The checkpoint, or an empty one when none was ever written.
pub(crate) fn load(disk: &dyn Disk, seed: Seed) -> Result<Checkpoint, OpenError> {
    let file = match disk.open(CHECKPOINT_PATH) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
        other => other?,
    };
    let mut bytes = vec![0; file.len()? as usize];
    read_exact_at(&*file, &mut bytes, 0)?;
    decode(&bytes, seed).ok_or_else(|| damaged("the checksum is wrong"))
}

/// The error for a checkpoint that cannot be used.
pub(crate) fn damaged(what: &'static str) -> OpenError {
    OpenError::Damaged { file: CHECKPOINT_PATH.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let mut indexes = Bitmap::default();
        indexes.insert(130);
        let gone = Gone { indexes, payload_bytes: 12 };
        let row = TableRow { entry: SegmentEntry::empty(4), gone };
        Checkpoint {
            settled_through: 3,
            meta: [(b"k".to_vec(), b"v".to_vec())].into(),
            segments: [((QueueId(1), 2), row)].into(),
        }
    }

    #[test]
    fn a_checkpoint_survives_the_round_trip_and_any_damage_is_seen() {
        let seed = Seed::new(1);
        let sample = sample();
        let bytes = encode(LogFileNumber(3), &sample.meta, &sample.segments, seed);
        assert_eq!(decode(&bytes, seed), Some(sample));
        assert_eq!(decode(&bytes, Seed::new(2)), None);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert_eq!(decode(&flipped, seed), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], seed), None, "cut at {at}");
        }
    }
}
