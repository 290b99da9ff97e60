//! Reading one message back, wherever it lies by now.

use std::sync::Arc;

use crate::checksum::Seed;
use crate::error::ReadError;
use crate::log_file::LogFile;
use crate::log_window::LogWindow;
use crate::place::{MessageId, Place, Position, QueueId};
use crate::record::parse_head;
use crate::segment::SegmentKey;
use crate::store::Store;

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
        let (log, _) = self.log_of(id).ok_or(ReadError::Missing)?;
        LogWindow::read_one(&log, self.seed, id, len)
    }

    /// The log file that a message was written to, and the first position behind it that can be in another.
    pub(crate) fn log_of(&self, id: MessageId) -> Option<(Arc<LogFile>, Position)> {
        let logs = self.logs.read();
        let after = logs.partition_point(|log| log.start <= id.0);
        let end = logs.get(after).map_or(Position::MAX, |next| next.start);
        Some((logs.get(after.checked_sub(1)?)?.clone(), end))
    }
}

fn copy_payload(bytes: &[u8], seed: Seed, id: MessageId, len: u32) -> Option<Vec<u8>> {
    let head = parse_head(bytes, seed, id.0).filter(|head| head.payload_len == len)?;
    bytes.get(head.head_len..head.record_len() as usize).map(<[u8]>::to_vec)
}
