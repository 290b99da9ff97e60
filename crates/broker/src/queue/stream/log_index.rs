//! Where the messages of a stream are that still lie in the log: eight octets for each.
//!
//! ```text
//!   chunk: first offset 1000, base id 70,412,339         message 1002 has id base + 512 and 130 octets
//!   ┌───────┬───────┬───────┬──
//!   │ 0 130 │256 130│512 130│ …      at most 1024 of (id − base u32, length u32)
//!   └───────┴───────┴───────┴──
//!   times   (1000, 13:00:00.017) (1002, 13:00:00.018) …     only where the time changes
//! ```

use std::collections::VecDeque;

use leveret_store::MessageId;

use super::Offset;

const CHUNK_MESSAGES: usize = 1024;

/// A message in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) id: MessageId,
    /// Octets of its serial form.
    pub(super) size_bytes: u32,
}

/// The newest messages of a stream, without gaps. Ids and times never fall.
#[derive(Debug)]
pub(super) struct LogIndex {
    chunks: VecDeque<Chunk>,
    /// Of the first message, or of the next one when there is none.
    first: Offset,
    next: Offset,
    last_ms: u64,
}

#[derive(Debug)]
struct Chunk {
    first: Offset,
    base_id: u64,
    messages: Vec<(u32, u32)>,
    times: Vec<(Offset, u64)>,
}

impl Chunk {
    fn new(first: Offset, base_id: u64) -> Self {
        Self { first, base_id, messages: Vec::new(), times: Vec::new() }
    }

    fn end(&self) -> Offset {
        self.first + self.messages.len() as u64
    }

    fn logged(&self, at: usize) -> Option<Logged> {
        let (id, size_bytes) = *self.messages.get(at)?;
        Some(Logged { id: MessageId(self.base_id + u64::from(id)), size_bytes })
    }

    fn last_id(&self) -> Option<MessageId> {
        self.logged(self.messages.len().checked_sub(1)?).map(|logged| logged.id)
    }

    fn time_of(&self, offset: Offset) -> u64 {
        let behind = self.times.partition_point(|(from, _)| *from <= offset);
        behind.checked_sub(1).and_then(|at| self.times.get(at)).map_or(0, |(_, ms)| *ms)
    }
}

impl LogIndex {
    /// An index without messages; the next one has this offset.
    pub(super) fn new(next: Offset) -> Self {
        Self { chunks: VecDeque::new(), first: next, next, last_ms: 0 }
    }

    /// Appends a message and answers its offset. A time before that of an earlier message counts as that.
    pub(super) fn push(&mut self, logged: Logged, published_ms: u64) -> Offset {
        let offset = self.next;
        self.next += 1;
        let id = logged.id.0;
        let fits = |chunk: &Chunk| {
            let distance = id.checked_sub(chunk.base_id);
            chunk.messages.len() < CHUNK_MESSAGES
                && distance.is_some_and(|distance| distance <= u64::from(u32::MAX))
        };
        if !self.chunks.back().is_some_and(fits) {
            self.chunks.push_back(Chunk::new(offset, id));
        }
        let Some(chunk) = self.chunks.back_mut() else { return offset };
        chunk.messages.push(((id - chunk.base_id) as u32, logged.size_bytes));
        if published_ms > self.last_ms || chunk.times.is_empty() {
            self.last_ms = self.last_ms.max(published_ms);
            chunk.times.push((offset, self.last_ms));
        }
        offset
    }

    /// Offset of the first message here; equal to [`Self::next`] when there is none.
    pub(super) fn first(&self) -> Offset {
        self.first
    }

    /// Offset of the next message.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// A message, if it is here.
    pub(super) fn get(&self, offset: Offset) -> Option<Logged> {
        let chunk = self.chunk_of(offset)?;
        chunk.logged((offset - chunk.first) as usize)
    }

    /// When a message that is here was published, ms since 1970.
    pub(super) fn published_ms(&self, offset: Offset) -> Option<u64> {
        self.chunk_of(offset).map(|chunk| chunk.time_of(offset))
    }

    /// Messages from an offset on.
    pub(super) fn from(&self, offset: Offset) -> impl Iterator<Item = Logged> + '_ {
        let offset = offset.max(self.first);
        let first = self.chunks.partition_point(|chunk| chunk.end() <= offset);
        let logged = |chunk: &Chunk, at: usize| chunk.logged(at);
        self.chunks.range(first..).flat_map(move |chunk| {
            let skipped = offset.saturating_sub(chunk.first) as usize;
            (skipped..chunk.messages.len()).filter_map(move |at| logged(chunk, at))
        })
    }

    /// The first message published at or after a time; the next one to come when there is none.
    pub(super) fn since(&self, published_ms: u64) -> Offset {
        let is_before = |chunk: &Chunk| chunk.times.last().is_some_and(|(_, ms)| *ms < published_ms);
        let Some(chunk) = self.chunks.get(self.chunks.partition_point(is_before)) else { return self.next };
        let at = chunk.times.partition_point(|(_, ms)| *ms < published_ms);
        chunk.times.get(at).map_or(self.next, |(offset, _)| (*offset).max(self.first))
    }

    /// The first message with this id or a higher one; the next one to come when there is none.
    pub(super) fn offset_of(&self, id: MessageId) -> Offset {
        let is_before = |chunk: &Chunk| chunk.last_id().is_some_and(|last| last < id);
        let Some(chunk) = self.chunks.get(self.chunks.partition_point(is_before)) else { return self.next };
        let at = chunk.messages.partition_point(|(low, _)| chunk.base_id + u64::from(*low) < id.0);
        (chunk.first + at as u64).max(self.first)
    }

    /// Forgets all messages before an offset.
    pub(super) fn forget_before(&mut self, offset: Offset) {
        self.first = self.first.max(offset.min(self.next));
        while self.chunks.pop_front_if(|chunk| chunk.end() <= self.first).is_some() {}
    }

    fn chunk_of(&self, offset: Offset) -> Option<&Chunk> {
        if offset < self.first || offset >= self.next {
            return None;
        }
        self.chunks.get(self.chunks.partition_point(|chunk| chunk.end() <= offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Message n has id 1000 + 10 n and was published at 5 (n / 3).
    fn filled(count: u64) -> LogIndex {
        let mut index = LogIndex::new(100);
        for n in 0..count {
            let logged = Logged { id: MessageId(1000 + 10 * n), size_bytes: n as u32 };
            assert_eq!(index.push(logged, 5 * (n / 3)), 100 + n);
        }
        index
    }

    #[test]
    fn every_message_is_found_by_offset_time_and_id() {
        let mut index = filled(5000);
        for gone in [0, 1, 1023, 1024, 3000, 4999] {
            index.forget_before(100 + gone);
            assert_eq!((index.first(), index.next()), (100 + gone, 5100));
            for n in [gone, gone + 1, 4500, 4999].into_iter().filter(|n| (gone..5000).contains(n)) {
                let offset = 100 + n;
                let logged = Logged { id: MessageId(1000 + 10 * n), size_bytes: n as u32 };
                assert_eq!(index.get(offset), Some(logged));
                assert_eq!(index.from(offset).next(), Some(logged));
                assert_eq!(index.from(offset).count() as u64, 5000 - n);
                assert_eq!(index.published_ms(offset), Some(5 * (n / 3)));
                assert_eq!(index.since(5 * (n / 3)), (100 + n / 3 * 3).max(index.first()));
                assert_eq!(index.offset_of(logged.id), offset);
                assert_eq!(index.offset_of(MessageId(logged.id.0 - 1)), offset);
            }
        }
        assert_eq!((index.get(5098), index.get(5100)), (None, None));
        assert_eq!((index.since(u64::MAX), index.offset_of(MessageId(u64::MAX))), (5100, 5100));
    }

    #[test]
    fn ids_may_be_far_apart_and_time_may_step_back() {
        let mut index = LogIndex::new(0);
        for (id, ms) in [(1, 10), (1 << 40, 5), ((1 << 40) + 1, 20)] {
            index.push(Logged { id: MessageId(id), size_bytes: 1 }, ms);
        }
        let ids: Vec<u64> = index.from(0).map(|logged| logged.id.0).collect();
        assert_eq!(ids, [1, 1 << 40, (1 << 40) + 1]);
        assert_eq!([0, 1, 2].map(|offset| index.published_ms(offset)), [Some(10), Some(10), Some(20)]);
        assert_eq!([index.since(5), index.since(11), index.since(21)], [0, 2, 3]);
    }

    #[test]
    fn an_emptied_index_goes_on_counting() {
        let mut index = filled(10);
        index.forget_before(1_000_000);
        assert_eq!((index.first(), index.next(), index.from(0).count()), (110, 110, 0));
        assert_eq!(index.push(Logged { id: MessageId(9999), size_bytes: 1 }, 100), 110);
        assert_eq!(index.since(0), 110);
    }
}
