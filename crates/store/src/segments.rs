//! One queue's settled messages, and a cursor that reads them in order.
//!
//! ```text
//!  segment 3            segment 4                 segment 5
//!  ✗ ✗ ✗ · ✗ · ✗ ✗      · h · · · · · ·           · · ·
//!        └─ passed        ▲ cursor                     ✗ gone   h held by the caller   · alive
//! ```
//!
//! Memory: a few words per segment, one bitmap per segment that has gone or held records, one block of heads
//! and at most [`CHUNK_BYTES`](crate::block_walk::CHUNK_BYTES) of payload under the cursor.

use std::collections::VecDeque;

use crate::bitmap::Bitmap;
use crate::cursor::Cursor;
use crate::error::{CommitError, ReadError};
use crate::place::{Attributes, LogFileNumber, MessageId, Place, QueueId};
use crate::segment::{Head, NewBlocks, SegmentEntry, SegmentKey, SegmentTail};
use crate::segment_table::{Gone, StagedChange, TableRow};
use crate::store::Store;

/// A settled message, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// Its place in the queue's order.
    pub pos: u64,
    /// The message.
    pub id: MessageId,
    /// The caller's bytes.
    pub attributes: Attributes,
    /// Payload length, bytes.
    pub len: u32,
    /// Where the payload lies.
    pub place: Place,
}

impl SegmentHead {
    pub(crate) fn new(head: &Head, key: SegmentKey, index: u32, head_at: u32) -> Self {
        let SegmentKey { number: segment, transient, .. } = key;
        let len = head.payload_len;
        let place = Place::Segment { transient, segment, index, head: head_at, len };
        Self { pos: head.pos, id: head.id, attributes: head.attributes, len, place }
    }
}

/// One queue's settled messages. Owned by the queue and used under its lock.
#[derive(Debug)]
pub struct Segments {
    queue: QueueId,
    transient: bool,
    segments: VecDeque<Segment>,
    next_number: u32,
    cursor: Cursor,
    ready_len: u64,
    ready_bytes: u64,
}

/// One segment file and the fate of its records.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) entry: SegmentEntry,
    pub(crate) gone: Gone,
    pub(crate) gone_count: u32,
    /// Records in the caller's hands although the cursor has not passed them.
    held: Bitmap,
    /// Payload bytes of living records that were passed or are held.
    taken_bytes: u64,
    /// `gone` has changed since it was last flushed.
    dirty: bool,
}

impl Segment {
    fn new(number: u32, entry: SegmentEntry, gone: Gone) -> Self {
        let gone_count = gone.indexes.count();
        Self { number, entry, gone, gone_count, held: Bitmap::default(), taken_bytes: 0, dirty: false }
    }

    pub(crate) fn is_skipped(&self, index: u32) -> bool {
        self.gone.indexes.contains(index) || self.held.contains(index)
    }

    /// Marks a record; false when it was gone before.
    pub(crate) fn mark_gone(&mut self, index: u32, len: u32) -> bool {
        if index >= self.entry.count || !self.gone.indexes.insert(index) {
            return false;
        }
        self.gone_count += 1;
        self.gone.payload_bytes += u64::from(len);
        self.dirty = true;
        true
    }

    /// Marks all ready records from an index on. Their lengths are on disk, but their sum follows.
    fn purge_from(&mut self, first: u32) {
        for index in first..self.entry.count {
            if !self.is_skipped(index) {
                self.mark_gone(index, 0);
            }
        }
        if self.dirty {
            self.gone.payload_bytes = self.entry.payload_bytes.saturating_sub(self.taken_bytes);
        }
    }

    /// Marks every record, whether it was passed or not.
    pub(crate) fn mark_all_gone(&mut self) {
        for index in 0..self.entry.count {
            self.mark_gone(index, 0);
        }
        self.gone.payload_bytes = self.entry.payload_bytes;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.gone_count >= self.entry.count
    }
}

impl Segments {
    /// A queue without settled messages.
    pub fn new(queue: QueueId, transient: bool) -> Self {
        Self {
            queue,
            transient,
            segments: VecDeque::new(),
            next_number: 0,
            cursor: Cursor::default(),
            ready_len: 0,
            ready_bytes: 0,
        }
    }

    /// What the checkpoint knew, before the log's acks are applied.
    pub(crate) fn recovered(queue: QueueId, rows: impl Iterator<Item = (u32, TableRow)>) -> Self {
        let mut segments = Self::new(queue, false);
        for (number, row) in rows {
            segments.next_number = number.saturating_add(1);
            segments.segments.push_back(Segment::new(number, row.entry, row.gone));
        }
        segments.recount();
        segments
    }

    /// Counts anew what is ready; with the cursor at the start that is all that is not gone.
    pub(crate) fn recount(&mut self) {
        let alive = |segment: &Segment| u64::from(segment.entry.count.saturating_sub(segment.gone_count));
        self.ready_len = self.segments.iter().map(alive).sum();
        let bytes =
            |segment: &Segment| segment.entry.payload_bytes.saturating_sub(segment.gone.payload_bytes);
        self.ready_bytes = self.segments.iter().map(bytes).sum();
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        self.segments.iter_mut()
    }

    /// True when there is no segment at all.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The queue.
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// Where the last segment ends: what a [`Store::block_writer`] needs to write behind it.
    pub fn tail(&self) -> SegmentTail {
        let last = self.segments.back().map(|segment| (segment.number, segment.entry));
        SegmentTail { last, next_number: self.next_number }
    }

    /// Takes over blocks that a writer has finished. Their records are ready: hold those that are not.
    pub fn add(&mut self, blocks: NewBlocks) {
        debug_assert_eq!(blocks.queue, self.queue, "blocks belong to the queue they were written for");
        for (number, entry) in blocks.touched {
            self.next_number = self.next_number.max(number.saturating_add(1));
            let before = match self.segments.back_mut().filter(|segment| segment.number == number) {
                Some(segment) => std::mem::replace(&mut segment.entry, entry),
                None => {
                    self.segments.push_back(Segment::new(number, entry, Gone::default()));
                    SegmentEntry::empty(0)
                }
            };
            self.ready_len += u64::from(entry.count - before.count);
            self.ready_bytes += entry.payload_bytes - before.payload_bytes;
        }
    }

    /// Records that the cursor has yet to yield.
    pub fn ready_len(&self) -> u64 {
        self.ready_len
    }

    /// Payload bytes of them.
    pub fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// Highest queue position that was ever settled, 0 when none is known.
    pub fn last_pos(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entry.last_pos).max().unwrap_or(0)
    }

    /// The next ready record, without moving on. Its block's heads are read and checked.
    ///
    /// # Errors
    /// A damaged block or head stays under the cursor: the queue cannot go on by itself.
    pub fn peek(&mut self, store: &Store) -> Result<Option<SegmentHead>, ReadError> {
        if self.ready_len == 0 {
            return Ok(None);
        }
        let transient = self.transient;
        let key = |number| SegmentKey { queue: self.queue, number, transient };
        self.cursor.head(store, &self.segments, key)
    }

    /// Yields the next ready record with its payload and moves on.
    ///
    /// # Errors
    /// On damage the cursor stays where it is; nothing is delivered or lost.
    pub fn next(&mut self, store: &Store) -> Result<Option<(SegmentHead, Vec<u8>)>, ReadError> {
        let Some(head) = self.peek(store)? else { return Ok(None) };
        let payload = self.cursor.payload(store, self.queue, self.transient)?;
        self.advance(&head);
        Ok(Some((head, payload)))
    }

    /// Moves past the record that [`Segments::peek`] gave, without reading its payload; false when there was
    /// none. The caller holds it from now on.
    pub fn skip(&mut self, store: &Store) -> Result<bool, ReadError> {
        let Some(head) = self.peek(store)? else { return Ok(false) };
        self.advance(&head);
        Ok(true)
    }

    fn advance(&mut self, head: &SegmentHead) {
        self.cursor.pass();
        if let Some((segment, _, len)) = self.segment_of(head.place) {
            self.take_ready(segment, len);
        }
    }

    /// One ready record is now in the caller's hands.
    fn take_ready(&mut self, segment: usize, len: u32) {
        self.segments[segment].taken_bytes += u64::from(len);
        self.ready_len -= 1;
        self.ready_bytes -= u64::from(len);
    }

    /// The caller has this record in its hands (it was settled while in memory or unacked): the cursor will
    /// not yield it. It stays alive until acked.
    pub fn hold(&mut self, place: Place) {
        let Some((segment, index, len)) = self.segment_of(place) else { return };
        if !self.is_ready(segment, index) {
            return;
        }
        self.segments[segment].held.insert(index);
        self.take_ready(segment, len);
    }

    /// The record is gone. In memory at once; durable through the log's ack record until the next flush, so
    /// log first, then call this. Idempotent.
    pub fn ack(&mut self, place: Place) {
        let Some((segment, index, len)) = self.segment_of(place) else { return };
        if self.is_ready(segment, index) {
            self.take_ready(segment, len);
        }
        let segment = &mut self.segments[segment];
        if segment.mark_gone(index, len) {
            segment.taken_bytes -= u64::from(len);
        }
    }

    /// Everything the cursor has yet to yield is gone; returns how many records. Held ones stay. The caller
    /// logs it with [`Store::purge`] before.
    pub fn purge_ready(&mut self) -> u64 {
        let purged = std::mem::take(&mut self.ready_len);
        self.ready_bytes = 0;
        for segment in &mut self.segments {
            segment.purge_from(self.cursor.first_index_in(segment.number));
        }
        purged
    }

    /// The oldest segment is gone as a whole: what a reader beside the cursor no longer needs. False when there is
    /// none. Like everything that is gone it stays on the disk until [`Segments::flush_acks`]; nothing is logged,
    /// so after a crash before that it is back.
    pub fn forget_oldest(&mut self) -> bool {
        let Some(segment) = self.segments.iter_mut().find(|segment| !segment.is_dead()) else { return false };
        self.ready_len -= u64::from(segment.entry.count - segment.gone_count);
        self.ready_bytes -= segment.entry.payload_bytes.saturating_sub(segment.gone.payload_bytes);
        segment.mark_all_gone();
        true
    }

    pub(crate) fn living(&self) -> impl DoubleEndedIterator<Item = (SegmentKey, SegmentEntry)> {
        self.segments.iter().filter(|segment| !segment.is_dead()).map(|segment| self.described(segment))
    }

    /// The first record that is not gone.
    pub(crate) fn first_living(&self) -> Option<(SegmentKey, SegmentEntry, u32)> {
        let segment = self.segments.iter().find(|segment| !segment.is_dead())?;
        let index = (0..segment.entry.count).find(|index| !segment.gone.indexes.contains(*index))?;
        let (key, entry) = self.described(segment);
        Some((key, entry, index))
    }

    /// The first living segment that ends at or behind a position.
    pub(crate) fn living_from(&self, pos: u64) -> Option<(SegmentKey, SegmentEntry)> {
        let first = self.segments.partition_point(|segment| segment.entry.last_pos < pos);
        let segment = self.segments.range(first..).find(|segment| !segment.is_dead())?;
        Some(self.described(segment))
    }

    fn described(&self, segment: &Segment) -> (SegmentKey, SegmentEntry) {
        let key = SegmentKey { queue: self.queue, number: segment.number, transient: self.transient };
        (key, segment.entry)
    }

    /// Makes what is gone part of the settling of `settled`: it becomes durable, and segments without living
    /// records are removed, when that file is retired. Call after [`Segments::add`] and before
    /// [`Store::retire`], for every queue that has [`Segments::needs_flush`].
    ///
    /// # Errors
    /// When the store has stopped.
    pub fn flush_acks(&mut self, store: &Store, settled: LogFileNumber) -> Result<(), CommitError> {
        store.guard.check()?;
        let mut dead = Vec::new();
        for segment in self.segments.iter_mut().filter(|segment| segment.dirty) {
            segment.dirty = false;
            let key = SegmentKey { queue: self.queue, number: segment.number, transient: self.transient };
            if segment.is_dead() {
                dead.push(key);
            } else if !self.transient {
                let change = StagedChange::Gone(segment.gone.clone());
                store.table.lock().stage(settled, key, change);
            }
        }
        self.segments.retain(|segment| !dead.iter().any(|key| key.number == segment.number));
        dead.into_iter().for_each(|key| store.discard_segment(settled, key));
        Ok(())
    }

    /// Whether [`Segments::flush_acks`] has anything to do.
    pub fn needs_flush(&self) -> bool {
        self.segments.iter().any(|segment| segment.dirty)
    }

    fn segment_of(&self, place: Place) -> Option<(usize, u32, u32)> {
        let Place::Segment { segment, index, len, .. } = place else { return None };
        let at = self.segments.binary_search_by_key(&segment, |segment| segment.number).ok()?;
        Some((at, index, len))
    }

    fn is_ready(&self, at: usize, index: u32) -> bool {
        let segment = &self.segments[at];
        index < segment.entry.count
            && index >= self.cursor.first_index_in(segment.number)
            && !segment.is_skipped(index)
    }
}
