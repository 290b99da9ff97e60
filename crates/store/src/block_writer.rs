//! Copies messages that outlived their log file into blocks of their queue's segments.

use crate::checksum::{Seed, random_u64};
use crate::disk::DiskFile;
use crate::error::CommitError;
use crate::place::{Attributes, LogFileNumber, MessageId, Place, QueueId};
use crate::segment::{
    BLOCK_HEADER_BYTES, BLOCK_PAYLOAD_BYTES, BLOCK_RECORDS_MAX, BlockHeader, HEAD_BYTES, Head, NewBlocks,
    SegmentEntry, SegmentKey, SegmentTail, encode_segment_header, queue_dir, queues_dir,
};
use crate::segment_table::StagedChange;
use crate::store::Store;

/// Writes blocks behind the end of one queue's segments. See [`Store::block_writer`].
///
/// Dropping it unfinished leaves bytes behind the end that nobody looks at.
pub struct BlockWriter<'a> {
    store: &'a Store,
    queue: QueueId,
    transient: bool,
    settled: LogFileNumber,
    segment: OpenSegment,
    next_number: u32,
    touched: Vec<(u32, SegmentEntry)>,
    block: PendingBlock,
    failed: Option<CommitError>,
}

/// The segment that blocks go to; opened when the first block is written.
struct OpenSegment {
    number: u32,
    entry: SegmentEntry,
    file: Option<Box<dyn DiskFile>>,
    created: bool,
}

/// Records that wait to become a block.
#[derive(Default)]
struct PendingBlock {
    heads: Vec<Head>,
    payloads: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    pub(crate) fn new(
        store: &'a Store,
        queue: QueueId,
        transient: bool,
        settled: LogFileNumber,
        tail: &SegmentTail,
    ) -> Self {
        store.folders.lock().begin_writing(queue);
        let (segment, next_number) = match tail.last {
            Some((number, entry)) if u64::from(entry.len) < store.options.segment_bytes => {
                (OpenSegment { number, entry, file: None, created: false }, tail.next_number)
            }
            _ => (OpenSegment::fresh(tail.next_number), tail.next_number + 1),
        };
        Self {
            store,
            queue,
            transient,
            settled,
            segment,
            next_number,
            touched: Vec::new(),
            block: PendingBlock::default(),
            failed: None,
        }
    }

    /// Adds one message. `pos` is its place in the queue's order; push in that order.
    ///
    /// A disk error is kept and returned by [`BlockWriter::finish`]; until that has succeeded the returned
    /// place must not be used.
    pub fn push(&mut self, pos: u64, id: MessageId, attributes: &Attributes, payload: &[u8]) -> Place {
        if self.block.is_full(self.store.options.segment_bytes) {
            self.write_block();
            self.roll_if_full();
        }
        let entry = &mut self.segment.entry;
        let index_in_block = self.block.heads.len() as u32;
        let place = Place::Segment {
            transient: self.transient,
            segment: self.segment.number,
            index: entry.count + index_in_block,
            head: entry.len + BLOCK_HEADER_BYTES + index_in_block * HEAD_BYTES,
            len: payload.len() as u32,
        };
        self.block.heads.push(Head {
            payload_len: payload.len() as u32,
            payload_crc: entry.seed().of(payload),
            payload_at: self.block.payloads.len() as u32,
            pos,
            id,
            attributes: *attributes,
        });
        self.block.payloads.extend_from_slice(payload);
        place
    }

    /// Writes and syncs what is left; the blocks count once they are added and the log file is retired.
    ///
    /// # Errors
    /// On a full disk the queue is unchanged: take a new writer later.
    pub fn finish(mut self) -> Result<NewBlocks, CommitError> {
        self.write_block();
        self.close_segment();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let store = self.store;
        let folders = store.folders.lock();
        let touched =
            if folders.is_dropped(self.queue) { Vec::new() } else { std::mem::take(&mut self.touched) };
        if !self.transient {
            let mut table = self.store.table.lock();
            for (number, entry) in &touched {
                let key = SegmentKey { queue: self.queue, number: *number, transient: false };
                table.stage(self.settled, key, StagedChange::Blocks(*entry));
            }
        }
        drop(folders);
        Ok(NewBlocks { queue: self.queue, touched })
    }

    fn key(&self) -> SegmentKey {
        SegmentKey { queue: self.queue, number: self.segment.number, transient: self.transient }
    }

    fn roll_if_full(&mut self) {
        if u64::from(self.segment.entry.len) >= self.store.options.segment_bytes {
            self.close_segment();
            self.segment = OpenSegment::fresh(self.next_number);
            self.next_number += 1;
        }
    }

    /// Runs one step unless an earlier one failed or the queue was dropped meanwhile: its folder may be gone,
    /// which must not look like a failing disk.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<(), CommitError>) {
        let mut folders = self.store.folders.lock();
        if self.failed.is_some() || folders.is_dropped(self.queue) {
            return;
        }
        if self.continues_dropped_segment() {
            folders.drop_queue(self.queue);
            return;
        }
        self.failed = step(self).err();
    }

    /// The queue was dropped between [`Segments::tail`](crate::Segments::tail) and the first write.
    fn continues_dropped_segment(&self) -> bool {
        let continues = self.segment.entry.count > 0 && self.segment.file.is_none();
        if !continues {
            return false;
        }
        let key = self.key();
        if self.transient {
            let found = self.store.guard.raw().open(&key.path());
            return found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        }
        !self.store.table.lock().knows(key)
    }

    fn write_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        if !block.heads.is_empty() {
            self.attempt(|writer| writer.try_write_block(&block));
        }
    }

    fn try_write_block(&mut self, block: &PendingBlock) -> Result<(), CommitError> {
        let key = self.key();
        self.store.guard.check()?;
        self.open_segment(key)?;
        let entry = &mut self.segment.entry;
        let first_block = entry.count == 0;
        let mut bytes = if first_block { encode_segment_header(key, entry.birth) } else { Vec::new() };
        let write_at = entry.len - bytes.len() as u32;
        block.encode(entry, &mut bytes);
        if let Some(file) = &self.segment.file {
            self.store.guard.write_at(&key.path(), &**file, &bytes, write_at.into())?;
        }
        block.account(entry);
        entry.len = write_at + bytes.len() as u32;
        Ok(())
    }

    fn open_segment(&mut self, key: SegmentKey) -> Result<(), CommitError> {
        if self.segment.file.is_some() {
            return Ok(());
        }
        let guard = &self.store.guard;
        self.segment.created = self.segment.entry.count == 0;
        self.segment.file = Some(if self.segment.created {
            guard.create_dir(&queue_dir(self.queue, self.transient))?;
            self.store.segment_files.forget(key);
            guard.create(&key.path())?
        } else {
            guard.open(&key.path())?
        });
        Ok(())
    }

    fn close_segment(&mut self) {
        self.attempt(|writer| {
            let key = writer.key();
            let Some(file) = writer.segment.file.take() else { return Ok(()) };
            writer.touched.push((key.number, writer.segment.entry));
            // What a restart forgets anyway needs no sync.
            if writer.transient {
                return Ok(());
            }
            writer.store.guard.sync_data(&key.path(), &*file)?;
            if writer.segment.created {
                writer.store.guard.sync_dir(&queue_dir(key.queue, false))?;
            }
            if writer.segment.created && key.number == 0 {
                writer.store.guard.sync_dir(queues_dir(false))?;
            }
            Ok(())
        });
    }
}

impl Drop for BlockWriter<'_> {
    fn drop(&mut self) {
        self.store.folders.lock().end_writing(self.queue);
    }
}

impl OpenSegment {
    fn fresh(number: u32) -> Self {
        Self { number, entry: SegmentEntry::empty(random_u64()), file: None, created: false }
    }
}

impl PendingBlock {
    fn is_full(&self, segment_bytes: u64) -> bool {
        let bytes = self.payloads.len();
        let count = self.heads.len() as u32;
        count >= BLOCK_RECORDS_MAX || bytes >= BLOCK_PAYLOAD_BYTES || bytes as u64 >= segment_bytes
    }

    /// Appends header, heads and payloads as they stand behind `entry.len`.
    fn encode(&self, entry: &SegmentEntry, out: &mut Vec<u8>) {
        let seed: Seed = entry.seed();
        let ids = self.heads.iter().map(|head| head.id.0);
        let header = BlockHeader {
            count: self.heads.len() as u32,
            first_index: entry.count,
            payload_bytes: self.payloads.len() as u32,
            min_id: ids.clone().min().unwrap_or(0),
            max_id: ids.max().unwrap_or(0),
        };
        out.extend_from_slice(&header.encode(seed, entry.len));
        let payloads_at = header.payloads_at(entry.len) as u32;
        let mut head_at = entry.len + BLOCK_HEADER_BYTES;
        for head in &self.heads {
            Head { payload_at: payloads_at + head.payload_at, ..*head }.encode(seed, head_at, out);
            head_at += HEAD_BYTES;
        }
        out.extend_from_slice(&self.payloads);
    }

    /// Counts the block in.
    fn account(&self, entry: &mut SegmentEntry) {
        entry.count += self.heads.len() as u32;
        entry.payload_bytes += self.payloads.len() as u64;
        for head in &self.heads {
            entry.last_pos = entry.last_pos.max(head.pos);
            entry.min_id = entry.min_id.min(head.id.0);
            entry.max_id = entry.max_id.max(head.id.0);
        }
    }
}
