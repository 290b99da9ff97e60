//! Reads messages that lie one behind the other in the log, many with one call to the disk.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::block_walk::CHUNK_BYTES;
use crate::checksum::{Seed, verify};
use crate::disk::read_full_at;
use crate::error::ReadError;
use crate::log_file::LogFile;
use crate::place::{MessageId, Position};
use crate::record::{FIXED_HEAD_BYTES, claimed_lengths, parse_head};
use crate::store::Store;

/// Read together with the payload; holds the head of a message for up to four queues.
const HEAD_GUESS_BYTES: usize = FIXED_HEAD_BYTES + 16 + 4 * 8;

/// A piece of one log file. Every reader has its own.
#[derive(Debug, Default)]
pub struct LogWindow {
    /// Position of the first byte.
    at: Position,
    bytes: Vec<u8>,
}

impl LogWindow {
    /// The payload of a durable message that is still in the log.
    ///
    /// # Errors
    /// As for [`Store::read`]; [`ReadError::Missing`] also when the message has been settled into a segment.
    pub fn read(&mut self, store: &Store, id: MessageId, len: u32) -> Result<&[u8], ReadError> {
        let mut payload = self.payload(store.seed, id, len);
        if payload.is_err() {
            let (log, end) = store.log_of(id).ok_or(ReadError::Missing)?;
            let ahead = end.min(store.durable()).saturating_sub(id.0).min(CHUNK_BYTES.into());
            self.load(&log, id, len, ahead as usize)?;
            payload = self.payload(store.seed, id, len);
            if let Err(what) = payload {
                return Err(damaged(&log, id, what));
            }
        }
        payload.map(|range| &self.bytes[range]).map_err(|_| ReadError::Missing)
    }

    /// One message and nothing ahead.
    pub(crate) fn read_one(log: &LogFile, seed: Seed, id: MessageId, len: u32) -> Result<Vec<u8>, ReadError> {
        let mut window = Self::default();
        window.load(log, id, len, 0)?;
        let payload = window.payload(seed, id, len).map_err(|what| damaged(log, id, what))?;
        window.bytes.truncate(payload.end);
        window.bytes.drain(..payload.start);
        Ok(window.bytes)
    }

    /// Reads from a message on, at least that message, else `ahead` bytes.
    fn load(&mut self, log: &LogFile, id: MessageId, len: u32, ahead: usize) -> Result<(), ReadError> {
        self.at = id.0;
        self.bytes.clear();
        self.fill(log, (HEAD_GUESS_BYTES + len as usize).max(ahead))?;
        let (head_len, record_len) =
            claimed_lengths(&self.bytes).ok_or_else(|| damaged(log, id, "bad record head"))?;
        if record_len > Store::RECORD_BYTES_MAX as u64 || record_len != head_len as u64 + u64::from(len) {
            return Err(damaged(log, id, "the record has another length"));
        }
        self.fill(log, record_len as usize)
    }

    /// Makes the window at least so many bytes long, unless the file ends before.
    fn fill(&mut self, log: &LogFile, wanted: usize) -> Result<(), ReadError> {
        let there = self.bytes.len();
        if there < wanted {
            self.bytes.resize(wanted, 0);
            let offset = log.offset(self.at) + there as u64;
            let filled = read_full_at(&*log.file, &mut self.bytes[there..], offset)?;
            self.bytes.truncate(there + filled);
        }
        Ok(())
    }

    /// Where in the window the payload of a record is; else what is wrong with it.
    fn payload(&self, seed: Seed, id: MessageId, len: u32) -> Result<Range<usize>, &'static str> {
        let start = id.0.checked_sub(self.at).ok_or("it is before the window")? as usize;
        let record = self.bytes.get(start..).ok_or("it is behind the window")?;
        let head = parse_head(record, seed, id.0).ok_or("bad record head")?;
        let end = head.head_len + len as usize;
        let payload = record.get(head.head_len..end).ok_or("the file ends too early")?;
        verify(head.payload_crc, seed.of(payload)).map_err(|_| "the payload's checksum is wrong")?;
        Ok(start + head.head_len..start + end)
    }
}

/// P7: the file is kept when it is retired.
fn damaged(log: &LogFile, id: MessageId, what: &'static str) -> ReadError {
    log.damaged.store(true, Ordering::Release);
    ReadError::Damaged { file: log.path(), offset: log.offset(id.0), what }
}
