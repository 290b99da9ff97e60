//! Reading one message back, wherever it lies by now.

use std::sync::atomic::Ordering;

use crate::checksum::{Seed, verify};
use crate::disk::read_full_at;
use crate::error::ReadError;
use crate::log_file::LogFile;
use crate::place::{MessageId, Place, QueueId};
use crate::record::{FIXED_HEAD_BYTES, claimed_lengths, parse_head};
use crate::segment::SegmentKey;
use crate::store::Store;

/// Read together with the payload; holds the head of a message for up to four queues.
const HEAD_GUESS_BYTES: usize = FIXED_HEAD_BYTES + 16 + 4 * 8;

impl Store {
    /// The payload of a message. Every byte is checked; wrong bytes are never returned.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] says which file; the queue should be taken out of service.
    pub fn read(&self, place: Place, queue: QueueId) -> Result<Vec<u8>, ReadError> {
        match place {
            Place::Log { id, len } => self.read_log(id, len),
            Place::Segment { transient, segment, head, .. } => {
                let key = SegmentKey { queue, number: segment, transient };
                let file = self.segment_files.open(self.guard.raw(), key)?;
                file.payload(&file.head(head)?)
            }
        }
    }

    /// Looks in the order in which bytes move (gather buffer, batch being written, file), so that a message
    /// that moves meanwhile is found all the same.
    fn read_log(&self, id: MessageId, len: u32) -> Result<Vec<u8>, ReadError> {
        let gathered = self.gather.lock().tail(id.0).map(|bytes| copy_payload(bytes, self.seed, id, len));
        if let Some(payload) = gathered {
            return payload.ok_or(ReadError::Missing);
        }
        let writing = self.writing.read().tail(id.0).map(|bytes| copy_payload(bytes, self.seed, id, len));
        if let Some(payload) = writing {
            return payload.ok_or(ReadError::Missing);
        }
        let logs = self.logs.read();
        let after = logs.partition_point(|log| log.start <= id.0);
        let log = after.checked_sub(1).and_then(|at| logs.get(at)).cloned();
        drop(logs);
        read_record(&*log.ok_or(ReadError::Missing)?, self.seed, id, len)
    }
}

fn copy_payload(bytes: &[u8], seed: Seed, id: MessageId, len: u32) -> Option<Vec<u8>> {
    let head = parse_head(bytes, seed, id.0).filter(|head| head.payload_len == len)?;
    bytes.get(head.head_len..head.record_len() as usize).map(<[u8]>::to_vec)
}

fn read_record(log: &LogFile, seed: Seed, id: MessageId, len: u32) -> Result<Vec<u8>, ReadError> {
    let offset = log.offset(id.0);
    let damaged = |what| {
        log.damaged.store(true, Ordering::Release); // P7: the file is kept when it is retired
        ReadError::Damaged { file: log.path(), offset, what }
    };
    let mut bytes = vec![0; HEAD_GUESS_BYTES + len as usize];
    let filled = read_full_at(&*log.file, &mut bytes, offset)?;
    let (head_len, record_len) =
        claimed_lengths(&bytes[..filled]).ok_or_else(|| damaged("bad record head"))?;
    if record_len > Store::RECORD_BYTES_MAX as u64 || record_len != head_len as u64 + u64::from(len) {
        return Err(damaged("the record has another length"));
    }
    let record_len = record_len as usize;
    bytes.resize(record_len, 0);
    if filled < record_len {
        let more = read_full_at(&*log.file, &mut bytes[filled..], offset + filled as u64)?;
        if filled + more < record_len {
            return Err(damaged("the file ends too early"));
        }
    }
    let head = parse_head(&bytes, seed, id.0).ok_or_else(|| damaged("bad record head"))?;
    verify(head.payload_crc, seed.of(&bytes[head_len..]))
        .map_err(|_| damaged("the payload's checksum is wrong"))?;
    bytes.drain(..head_len);
    Ok(bytes)
}
