//! The buffer in which appends gather until the committer takes them.
//!
//! ```text
//!   buffer:  [ room for the batch header | record | record | … ]
//!   stands for the log stream from `start` on; a record's position is start + its offset
//! ```

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::checksum::Seed;
use crate::error::StoreFailed;
use crate::place::Position;
use crate::record::PreparedRecord;
use crate::store::{Store, Urgency};

/// What has been appended since the committer last came by. Lives behind the append lock.
pub(crate) struct Gather {
    buffer: Vec<u8>,
    start: Position,
    records: u32,
    /// The loudest wake-up given since the buffer was last taken.
    woken: Option<Urgency>,
}

impl Gather {
    pub(crate) fn new(start: Position) -> Self {
        Self { buffer: vec![0; BATCH_HEADER_BYTES], start, records: 0, woken: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Refuses when `bytes` more would exceed a limit. The very first record of a batch always fits.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), StoreFailed> {
        if bytes > Store::RECORD_BYTES_MAX {
            return Err(StoreFailed::RecordTooLarge);
        }
        if self.buffer.len() + bytes > Store::GATHER_BYTES_MAX && self.records > 0 {
            return Err(StoreFailed::GatherFull);
        }
        Ok(())
    }

    /// Where the next record will be.
    pub(crate) fn next_position(&self) -> Position {
        self.start + self.buffer.len() as u64
    }

    /// Copies one record in. The caller has checked the room.
    pub(crate) fn append(&mut self, record: &PreparedRecord<'_>) {
        let position = self.next_position();
        record.append_to(&mut self.buffer, position);
        self.records += 1;
    }

    /// Whether the committer must hear of this append: the first one, a more urgent one, or a full buffer.
    pub(crate) fn wake_up(&mut self, urgency: Urgency, full_bytes: usize) -> Option<Urgency> {
        let urgency = if self.buffer.len() >= full_bytes { Urgency::Now } else { urgency };
        if self.woken >= Some(urgency) {
            return None;
        }
        self.woken = Some(urgency);
        Some(urgency)
    }

    /// Takes what has gathered as one batch and goes on with the empty `recycled` buffer.
    pub(crate) fn take(&mut self, mut recycled: Vec<u8>) -> GatheredBatch {
        recycled.clear();
        recycled.resize(BATCH_HEADER_BYTES, 0);
        let bytes = std::mem::replace(&mut self.buffer, recycled);
        let batch = GatheredBatch { bytes, start: self.start, records: self.records };
        self.start = batch.end();
        self.records = 0;
        self.woken = None;
        batch
    }

    /// The gathered bytes from `position` on, if it lies in the buffer.
    pub(crate) fn tail(&self, position: Position) -> Option<&[u8]> {
        self.buffer.get(usize::try_from(position.checked_sub(self.start)?).ok()?..)
    }
}

/// One batch on its way to the disk.
#[derive(Default)]
pub(crate) struct GatheredBatch {
    bytes: Vec<u8>,
    start: Position,
    records: u32,
}

impl GatheredBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn end(&self) -> Position {
        self.start + self.bytes.len() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Fills the room in front with the header, once the batch is complete.
    pub(crate) fn seal(&mut self, seed: Seed) {
        let len = (self.bytes.len() - BATCH_HEADER_BYTES) as u32;
        let header = BatchHeader { position: self.start, len, count: self.records };
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(seed));
    }

    /// The bytes from `position` on, if it lies in the batch.
    pub(crate) fn tail(&self, position: Position) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(position.checked_sub(self.start)?).ok()?..)
    }
}
