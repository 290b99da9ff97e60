//! Reads one log file at open, front to back, whatever is in it.
//!
//! ```text
//!   header │ batch │ batch │ ??? │ batch │ 0000…        ??? before a valid batch: damage, the rest is loaded
//!   header │ batch │ batch │ ??? 0000…                  ??? after the last one: torn tail, cut
//! ```
//!
//! Inside damage, records are looked for one by one: a record head is valid at its own position only.

use std::io;
use std::ops::Range;

use crate::batch::{BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader};
use crate::bytes::Fields;
use crate::checksum::{Seed, verify};
use crate::disk::DiskFile;
use crate::log_file::{LOG_HEADER_BYTES, LogHeader};
use crate::meta::{self, MetaChange};
use crate::place::{Attributes, LogFileNumber, MessageId, Position, QueueId};
use crate::record::{
    FIXED_HEAD_BYTES, Kind, RecordHead, claimed_lengths, decode_ids, decode_notes, parse_head,
};
use crate::window::Window;

/// What one record says, without a message's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogRecord {
    Publish { id: MessageId, transient: bool, attributes: Attributes, queues: Vec<QueueId>, len: u32 },
    Ack { queue: QueueId, ids: Vec<MessageId> },
    Purge { queue: QueueId, up_to: MessageId, keep: Vec<MessageId> },
    Meta(Vec<MetaChange>),
    Drop(QueueId),
    Clean(Vec<(QueueId, Vec<u8>)>),
}

/// One thing found in a log file, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogItem {
    Record(LogRecord),
    /// A message whose payload is damaged.
    BadMessage {
        id: MessageId,
        transient: bool,
        queues: Vec<QueueId>,
        offset: u64,
    },
    /// Another record whose payload is damaged.
    BadControl {
        queues: Vec<QueueId>,
        offset: u64,
    },
    /// Bytes in which nothing could be recognized.
    Gap {
        offset: u64,
        what: &'static str,
    },
}

impl LogItem {
    fn is_sound(&self) -> bool {
        matches!(self, Self::Record(_))
    }
}

/// How a log file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// First position after the content that counts.
    pub(crate) end: Position,
    /// Where in the file the last whole batch lies, bytes. The only one that may not have been synced.
    pub(crate) last_batch: Option<Range<u64>>,
    /// Octets behind it that somebody wrote: a torn batch, or damage that looks like one.
    pub(crate) torn_bytes: u64,
}

/// The header of a log file, if it is whole.
pub(crate) fn read_header(
    file: &dyn DiskFile,
    number: LogFileNumber,
    directory_id: u64,
) -> io::Result<Option<LogHeader>> {
    let mut window = Window::new(file)?;
    let bytes = window.bytes(0, LOG_HEADER_BYTES as usize)?;
    Ok(bytes.and_then(|bytes| LogHeader::decode(bytes, number, directory_id)))
}

/// Where a file without a readable header begins in the stream, judged by its first valid batch.
pub(crate) fn guess_start(
    file: &dyn DiskFile,
    seed: Seed,
    not_before: Position,
) -> io::Result<Option<Position>> {
    let mut reader = LogReader { window: Window::new(file)?, seed, start: 0, found: &mut |_| {} };
    let mut offset = LOG_HEADER_BYTES;
    while let Some(found) = reader.find_magic(offset)? {
        let header = reader.batch_at_offset(found)?;
        let start = header.and_then(|header| header.position.checked_sub(found - LOG_HEADER_BYTES));
        if let Some(start) = start.filter(|start| *start >= not_before) {
            return Ok(Some(start));
        }
        offset = found + 1;
    }
    Ok(None)
}

/// Reads a file that begins at `start`. `limit` is where a later file says that this one ended: then nothing
/// before it can be a torn tail.
pub(crate) fn read_log(
    file: &dyn DiskFile,
    seed: Seed,
    start: Position,
    limit: Option<Position>,
    found: &mut dyn FnMut(LogItem),
) -> io::Result<LogEnd> {
    LogReader { window: Window::new(file)?, seed, start, found }.run(limit)
}

struct LogReader<'a, 'f> {
    window: Window<'f>,
    seed: Seed,
    start: Position,
    found: &'a mut dyn FnMut(LogItem),
}

impl LogReader<'_, '_> {
    fn run(&mut self, limit: Option<Position>) -> io::Result<LogEnd> {
        let mut at = self.start;
        let mut last_batch = None;
        while limit.is_none_or(|limit| at < limit) {
            at = match self.batch_at(at)? {
                Some(batch) if self.read_batch(&batch, limit)? => {
                    last_batch = Some(self.offset(at)..self.offset(batch.end()));
                    batch.end()
                }
                Some(batch) => return Ok(LogEnd { end: at, last_batch, torn_bytes: batch.end() - at }),
                None => match (self.find_batch(at + 1, limit)?, limit) {
                    (Some(next), _) => self.salvage(at, next, "no valid batch")?,
                    (None, Some(limit)) => self.salvage(at, limit, "no valid batch")?,
                    (None, None) => break,
                },
            };
        }
        let torn_bytes = if limit.is_none() { self.used_bytes(at)? } else { 0 };
        Ok(LogEnd { end: at, last_batch, torn_bytes })
    }

    /// Hands on the records of a batch; false when it is bad and nothing proves that it was ever synced.
    fn read_batch(&mut self, batch: &BatchHeader, limit: Option<Position>) -> io::Result<bool> {
        let mut items = Vec::new();
        self.read_records(batch.body(), batch.end(), &mut items)?;
        let sound = items.iter().all(LogItem::is_sound) && items.len() == batch.count as usize;
        if !sound && limit.is_none() && self.find_batch(batch.end(), None)?.is_none() {
            return Ok(false);
        }
        items.into_iter().for_each(&mut *self.found);
        Ok(true)
    }

    /// A stretch without a valid batch header, before one that proves it was synced.
    fn salvage(&mut self, from: Position, to: Position, what: &'static str) -> io::Result<Position> {
        let offset = self.offset(from);
        (self.found)(LogItem::Gap { offset, what });
        let mut items = Vec::new();
        self.read_records(from, to, &mut items)?;
        // The gap has been said; what matters of the rest is what can be recognized.
        items.into_iter().filter(|item| !matches!(item, LogItem::Gap { .. })).for_each(&mut *self.found);
        Ok(to)
    }

    /// All records in a stretch; where there is none, the next valid head is looked for.
    fn read_records(&mut self, from: Position, to: Position, items: &mut Vec<LogItem>) -> io::Result<()> {
        let file_end = self.start + self.window.file_len().saturating_sub(LOG_HEADER_BYTES);
        let mut at = from;
        let mut in_gap = false;
        while at < to.min(file_end) {
            match self.head_at(at, to)? {
                Some(head) => {
                    items.push(self.item(at, &head)?);
                    at += head.record_len();
                    in_gap = false;
                }
                None => {
                    if !in_gap {
                        items.push(LogItem::Gap { offset: self.offset(at), what: "no valid record" });
                    }
                    in_gap = true;
                    at += 1;
                }
            }
        }
        if file_end < to {
            items.push(LogItem::Gap { offset: self.window.file_len(), what: "the file was cut" });
        }
        Ok(())
    }

    fn head_at(&mut self, at: Position, to: Position) -> io::Result<Option<RecordHead>> {
        let offset = self.offset(at);
        let Some(fixed) = self.window.bytes(offset, FIXED_HEAD_BYTES)? else { return Ok(None) };
        let Some((head_len, record_len)) = claimed_lengths(fixed) else { return Ok(None) };
        if at.saturating_add(record_len) > to || offset.saturating_add(record_len) > self.window.file_len() {
            return Ok(None);
        }
        let seed = self.seed;
        Ok(self.window.bytes(offset, head_len)?.and_then(|bytes| parse_head(bytes, seed, at)))
    }

    fn item(&mut self, at: Position, head: &RecordHead) -> io::Result<LogItem> {
        let offset = self.offset(at) + head.head_len as u64;
        let crc = self.window.checksum(self.seed, offset, head.payload_len.into())?;
        let sound = crc.is_some_and(|crc| verify(head.payload_crc, crc).is_ok());
        let (id, queues, transient) = (MessageId(at), head.queues.clone(), head.transient);
        if head.kind == Kind::Publish {
            return Ok(if sound {
                let (attributes, len) = (head.attributes, head.payload_len);
                LogItem::Record(LogRecord::Publish { id, transient, attributes, queues, len })
            } else {
                LogItem::BadMessage { id, transient, queues, offset: self.offset(at) }
            });
        }
        let record = if sound { self.control(head, offset)? } else { None };
        Ok(match record {
            Some(record) => LogItem::Record(record),
            None => LogItem::BadControl { queues, offset: self.offset(at) },
        })
    }

    fn control(&mut self, head: &RecordHead, offset: u64) -> io::Result<Option<LogRecord>> {
        let Some(payload) = self.window.bytes(offset, head.payload_len as usize)? else { return Ok(None) };
        Ok(decode_control(head, Fields::new(payload)))
    }

    fn batch_at(&mut self, at: Position) -> io::Result<Option<BatchHeader>> {
        let header = self.batch_at_offset(self.offset(at))?;
        Ok(header.filter(|header| header.position == at))
    }

    fn batch_at_offset(&mut self, offset: u64) -> io::Result<Option<BatchHeader>> {
        let seed = self.seed;
        let bytes = self.window.bytes(offset, BATCH_HEADER_BYTES)?;
        Ok(bytes.and_then(|bytes| BatchHeader::decode(bytes, seed)))
    }

    /// The first valid batch at or after `from` and before `limit`.
    fn find_batch(&mut self, from: Position, limit: Option<Position>) -> io::Result<Option<Position>> {
        let mut offset = self.offset(from);
        while let Some(found) = self.find_magic(offset)? {
            let position = self.start + (found - LOG_HEADER_BYTES);
            if limit.is_some_and(|limit| position >= limit) {
                return Ok(None);
            }
            if self.batch_at(position)?.is_some() {
                return Ok(Some(position));
            }
            offset = found + 1;
        }
        Ok(None)
    }

    fn find_magic(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut offset = from;
        let overlap = BATCH_MAGIC.len() - 1;
        while let Some(bytes) = self.window.some(offset, u64::MAX)? {
            if let Some(at) = bytes.windows(BATCH_MAGIC.len()).position(|bytes| bytes == BATCH_MAGIC) {
                return Ok(Some(offset + at as u64));
            }
            if bytes.len() <= overlap {
                return Ok(None);
            }
            offset += (bytes.len() - overlap) as u64;
        }
        Ok(None)
    }

    /// How far behind `from` the last octet lies that is not zero: what was reserved and never written is zero.
    fn used_bytes(&mut self, from: Position) -> io::Result<u64> {
        let begin = self.offset(from);
        let (mut offset, mut used) = (begin, 0);
        while let Some(bytes) = self.window.some(offset, u64::MAX)?.filter(|bytes| !bytes.is_empty()) {
            if let Some(last) = bytes.iter().rposition(|octet| *octet != 0) {
                used = offset + last as u64 + 1 - begin;
            }
            offset += bytes.len() as u64;
        }
        Ok(used)
    }

    fn offset(&self, position: Position) -> u64 {
        position - self.start + LOG_HEADER_BYTES
    }
}

fn decode_control(head: &RecordHead, mut payload: Fields<'_>) -> Option<LogRecord> {
    let queue = head.queues.first().copied();
    Some(match head.kind {
        Kind::Publish => return None,
        Kind::Ack => LogRecord::Ack { queue: queue?, ids: decode_ids(payload)? },
        Kind::Purge => {
            let up_to = MessageId(payload.u64()?);
            LogRecord::Purge { queue: queue?, up_to, keep: decode_ids(payload)? }
        }
        Kind::Meta => LogRecord::Meta(meta::decode_changes(payload)?),
        Kind::Drop => LogRecord::Drop(queue?),
        Kind::Clean => LogRecord::Clean(decode_notes(payload)?),
    })
}
