//! One queue as it comes out of recovery: settled segments, and the messages still in the log.

use crate::disk::Disk;
use crate::error::ReadError;
use crate::place::{Attributes, MessageId, Place, QueueId};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentKey};
use crate::segment_files::SegmentFile;
use crate::segments::{Segment, Segments};

/// A living message that is still in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// The message.
    pub id: MessageId,
    /// Where its payload lies.
    pub place: Place,
    /// The caller's bytes.
    pub attributes: Attributes,
    /// Payload length, bytes.
    pub len: u32,
}

/// What is left of a queue. Its segments come before the log's messages.
#[derive(Debug)]
pub struct RecoveredQueue {
    /// The queue; perhaps one that the caller no longer knows, then drop it.
    pub id: QueueId,
    /// Settled messages, with all acks applied.
    pub segments: Segments,
    /// Living messages in the log, in id order; none of them is in `segments`.
    pub log: Vec<RecoveredMessage>,
    /// Highest queue position in `segments`; messages from the log come after it.
    pub last_pos: u64,
}

impl RecoveredQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.segments.is_empty()
    }
}

/// What the log says about one queue while it is being read.
#[derive(Debug, Default)]
pub(crate) struct QueueLog {
    entries: Vec<LogEntry>,
    /// Acks of messages that were settled before.
    settled_acks: Vec<MessageId>,
    purges: Vec<(MessageId, Vec<MessageId>)>,
}

#[derive(Debug)]
struct LogEntry {
    id: MessageId,
    attributes: Attributes,
    len: u32,
    state: EntryState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
    Alive,
    Damaged,
    Gone,
}

impl QueueLog {
    pub(crate) fn publish(&mut self, id: MessageId, attributes: Attributes, len: u32) {
        self.entries.push(LogEntry { id, attributes, len, state: EntryState::Alive });
    }

    pub(crate) fn damaged_message(&mut self, id: MessageId) {
        self.entries.push(LogEntry { id, attributes: [0; 16], len: 0, state: EntryState::Damaged });
    }

    pub(crate) fn ack(&mut self, id: MessageId) {
        match self.entries.binary_search_by_key(&id, |entry| entry.id) {
            Ok(at) => self.entries[at].state = EntryState::Gone,
            Err(_) => self.settled_acks.push(id),
        }
    }

    pub(crate) fn purge(&mut self, up_to: MessageId, keep: Vec<MessageId>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.id <= up_to && !keep.contains(&entry.id)) {
            entry.state = EntryState::Gone;
        }
        self.purges.push((up_to, keep));
    }

    /// Damaged messages that nobody has acked.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = MessageId> {
        self.entries.iter().filter(|entry| entry.state == EntryState::Damaged).map(|entry| entry.id)
    }

    /// The queue, with what the log says about its settled messages applied to `segments`.
    ///
    /// The second value is damage that was met on the way; the queue is complete but for that.
    pub(crate) fn finish(
        mut self,
        disk: &dyn Disk,
        mut segments: Segments,
    ) -> (RecoveredQueue, Vec<ReadError>) {
        self.settled_acks.sort_unstable();
        let id = segments.queue();
        let mut errors = Vec::new();
        for segment in segments.iter_mut() {
            errors.extend(self.apply_to(disk, id, segment).err());
        }
        segments.recount();
        let log = self.entries.iter().filter(|entry| entry.state == EntryState::Alive);
        let log = log.map(LogEntry::recovered).collect();
        let last_pos = segments.last_pos();
        (RecoveredQueue { id, segments, log, last_pos }, errors)
    }

    fn apply_to(&self, disk: &dyn Disk, queue: QueueId, segment: &mut Segment) -> Result<(), ReadError> {
        let key = SegmentKey { queue, number: segment.number, transient: false };
        let file = SegmentFile::open(disk, key)?;
        if file.birth() != segment.entry.birth {
            return Err(file.damaged(0, "another segment under this name"));
        }
        let file_len = file.len()?;
        if file_len < segment.entry.len.into() {
            return Err(file.damaged(file_len, "the file was cut"));
        }
        if self.has_purged(segment.entry.max_id) {
            segment.mark_all_gone();
        } else if self.concerns(segment.entry.min_id, segment.entry.max_id) {
            self.mark_gone(&file, segment)?;
        }
        Ok(())
    }

    /// Whether any ack or purge can be about ids in this range.
    fn concerns(&self, min_id: u64, max_id: u64) -> bool {
        let first = self.settled_acks.partition_point(|id| id.0 < min_id);
        let acked = self.settled_acks.get(first).is_some_and(|id| id.0 <= max_id);
        acked || self.purges.iter().any(|(up_to, _)| up_to.0 >= min_id)
    }

    /// Whether everything up to this id is gone, without having to look at it.
    fn has_purged(&self, max_id: u64) -> bool {
        self.purges.iter().any(|(up_to, keep)| up_to.0 >= max_id && keep.is_empty())
    }

    /// Reads the heads of the blocks that can be concerned, never a payload.
    fn mark_gone(&self, file: &SegmentFile, segment: &mut Segment) -> Result<(), ReadError> {
        let mut block_at = u64::from(SEGMENT_HEADER_BYTES);
        while block_at < segment.entry.len.into() {
            let header = file.block_header(block_at as u32)?;
            if header.end(block_at as u32) > segment.entry.len.into() {
                return Err(file.damaged(block_at, "a block beyond the end"));
            }
            if self.concerns(header.min_id, header.max_id) {
                let heads = file.heads(&header, block_at as u32)?;
                for (index, head) in
                    (header.first_index..).zip(&heads).filter(|(_, head)| self.is_gone(head.id))
                {
                    segment.mark_gone(index, head.payload_len);
                }
            }
            block_at = header.end(block_at as u32);
        }
        Ok(())
    }

    fn is_gone(&self, id: MessageId) -> bool {
        self.settled_acks.binary_search(&id).is_ok()
            || self.purges.iter().any(|(up_to, keep)| id <= *up_to && !keep.contains(&id))
    }
}

impl LogEntry {
    fn recovered(&self) -> RecoveredMessage {
        let place = Place::Log { id: self.id, len: self.len };
        RecoveredMessage { id: self.id, place, attributes: self.attributes, len: self.len }
    }
}
