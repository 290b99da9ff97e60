//! A stream: messages that stay when they are read, each with its offset, read by everyone from wherever they like.
//!
//! ```text
//!   offset   0 … 99     100 … 4,999     5,000 … 7,311    7,312
//!            dropped    segments        the log, indexed    next
//!                       ▲ a       ▲ b        ▲ c            ▲ d waits
//! ```
//!
//! Offsets count from 0 without gaps, in the order of the log, and are kept in the segments, so a restart changes none
//! of them. A reader only sees what is on the disk: an offset that somebody has seen never names another message.
//! So publishing costs the same whatever the number of readers; what is committed is told to those who wait, and
//! each reads on its own task, with the stream locked only to learn where ([`Turn`]).
//!
//! To know its next offset after a restart, a stream never drops its last segment, and the last message of each log
//! file is settled there even if retention has dropped it.

mod filter;
mod log_index;
mod readers;
mod retention;
mod start;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_store::{LogSpan, MessageId, Place, ReadError, RecoveredMessage, Segments, Store};

pub use filter::Filter;
use log_index::{LogIndex, Logged};
use readers::{Readers, Stage};
pub use start::StartAt;
pub use turn::Turn;
use turn::{Cursor, Next, TURN_MESSAGES_MAX, Tally, Work};

use super::{Consumer, ConsumerKey, Held, SeenConsumer, Settling};
use crate::settings::Settings;
use crate::stamp::{NEVER_MS, Stamp};

/// The number of a message in its stream, from 0.
pub type Offset = u64;

/// How a consumer reads a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Where it starts.
    pub start: StartAt,
    /// What it wants; `None`: everything.
    pub filter: Option<Filter>,
}

/// What came of a [`Turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// There may be more to read.
    GoOn,
    /// The reader waits: for an acknowledgement, for a message, or for room.
    Waits,
}

/// The rule of one stream. `P` is how messages reach a consumer.
#[derive(Debug)]
pub struct StreamState<P> {
    log: LogIndex,
    settled: Option<Segments>,
    /// Nothing of a stream is ever put aside; the settler asks.
    aside: Option<Segments>,
    /// The oldest message that was not dropped.
    first: Offset,
    /// Octets of the messages in the log that were not dropped.
    log_bytes: u64,
    readers: Readers<P>,
    /// Somebody has promised to tell of the next commit.
    is_awaited: bool,
    settings: Arc<Settings>,
    /// When the newest message of the oldest segment was published: the segment's last position, ms since 1970.
    oldest_settled: Option<(Offset, u64)>,
    /// The deadline that was last answered.
    deadline_ms: u64,
}

impl<P: Clone> StreamState<P> {
    /// A new stream.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self::recovered(settings, None, 0, &[])
    }

    /// A stream as a restart found it: `first` is the oldest message, and `logged` follows the segments without a gap.
    pub fn recovered(
        settings: Arc<Settings>,
        settled: Option<Segments>,
        first: Offset,
        logged: &[RecoveredMessage],
    ) -> Self {
        let mut log = LogIndex::new(settled.as_ref().map_or(0, |segments| segments.last_pos() + 1));
        for message in logged {
            let published_ms = Stamp::decode(&message.attributes).published_at_ms;
            log.push(Logged { id: message.id, size_bytes: message.len }, published_ms);
        }
        Self {
            first,
            log_bytes: logged.iter().map(|message| u64::from(message.len)).sum(),
            log,
            settled,
            aside: None,
            readers: Readers::default(),
            is_awaited: false,
            settings,
            oldest_settled: None,
            deadline_ms: NEVER_MS,
        }
    }

    /// Appends a message that the log has, behind all that were appended before.
    ///
    /// # Errors
    /// When what retention has to look at cannot be read.
    pub fn append(
        &mut self,
        (id, size_bytes): (MessageId, u32),
        published_ms: u64,
        store: &Store,
    ) -> Result<(), ReadError> {
        self.log.push(Logged { id, size_bytes }, published_ms);
        self.log_bytes += u64::from(size_bytes);
        self.trim(published_ms, store)
    }

    /// Adds a reader; it is due at once.
    pub fn add_consumer(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        let next = match consumer.reading.as_ref().map(|reading| reading.start).unwrap_or_default() {
            StartAt::First => Next::At(self.first),
            StartAt::Last => Next::At(self.log.next().saturating_sub(1)),
            StartAt::Next => Next::At(self.log.next()),
            StartAt::Offset(offset) => Next::At(offset),
            StartAt::Time(published_ms) => Next::Since(published_ms),
        };
        self.readers.add(consumer, next)
    }

    /// Removes a reader. A turn of it that is under way comes to nothing.
    pub fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        self.readers.remove(key)
    }

    /// Removes all readers, because the stream is going away.
    pub fn remove_consumers(&mut self) -> Vec<Consumer<P>> {
        self.readers.remove_all()
    }

    /// How many readers there are.
    pub fn consumer_count(&self) -> usize {
        self.readers.len()
    }

    /// Each reader, in no order.
    pub fn each_consumer<'a>(&'a self, see: &mut dyn FnMut(SeenConsumer<'a, P>)) {
        self.readers.each(see);
    }

    /// What is in the stream. Nothing is kept in memory but an index of what the log has.
    pub fn held(&self) -> Held {
        let (messages, bytes) = (self.len(), self.size_bytes());
        let in_index = self.log.next() - self.log.first();
        Held { messages, bytes, persistent: messages, persistent_bytes: bytes, in_index, ..Held::default() }
    }

    /// Whether a reader is still here.
    pub fn has_consumer(&self, key: ConsumerKey) -> bool {
        self.readers.contains(key)
    }

    /// A delivery is settled, in whatever way: its reader has credit for another.
    pub fn released(&mut self, key: ConsumerKey) {
        self.readers.released(key);
    }

    /// A reader's connection has room and time for it.
    pub fn resume(&mut self, key: ConsumerKey) {
        self.readers.resumed(key);
    }

    /// Readers that have something to do now; each is to get turns until it waits.
    pub fn take_due(&mut self) -> Vec<ConsumerKey> {
        self.readers.take_due()
    }

    /// Whether somebody waits for a message that is not on the disk yet, which has not been answered before: then
    /// [`Self::tell_committed`] is to be called after the next commit.
    pub fn awaits_commit(&mut self, durable: u64) -> bool {
        let is_new = !self.is_awaited && self.waits_for_commit(durable);
        self.is_awaited |= is_new;
        is_new
    }

    /// Tells readers who wait that messages they can read are on the disk; each is to be resumed by its connection.
    /// Answers whether the next commit is awaited too.
    pub fn tell_committed(&mut self, durable: u64, tell: impl FnMut(ConsumerKey, &Consumer<P>)) -> bool {
        let end = self.log.offset_of(MessageId(durable));
        self.readers.tell(end, tell);
        self.is_awaited = self.waits_for_commit(durable);
        self.is_awaited
    }

    fn waits_for_commit(&self, durable: u64) -> bool {
        let newest = self.log.next().checked_sub(1).and_then(|newest| self.log.get(newest));
        self.readers.wait_at_end() && newest.is_some_and(|newest| newest.id.0 >= durable)
    }

    /// Messages in the stream.
    pub fn len(&self) -> u64 {
        self.log.next() - self.first
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of the messages. What retention dropped of a segment counts until the whole segment is dropped.
    pub fn size_bytes(&self) -> u64 {
        let living = |segments: &&Segments| segments.last_pos() >= self.first;
        self.log_bytes + self.settled.as_ref().filter(living).map_or(0, Segments::ready_bytes)
    }

    /// Deliveries that were not settled yet, over all readers.
    pub fn in_flight(&self) -> u64 {
        self.readers.in_flight()
    }

    /// Begins a turn of a reader: `None` when it has to wait, or is gone, or has a turn under way.
    pub fn begin_turn(&mut self, key: ConsumerKey, store: &Store) -> Option<Turn<P>> {
        let reader = self.readers.get_mut(key).filter(|reader| reader.stage == Stage::Ready)?;
        let credit = reader.credit();
        if credit == 0 {
            self.readers.set_stage(key, Stage::NoCredit);
            return None;
        }
        let mut cursor = reader.cursor.take()?;
        let consumer = reader.consumer.clone();
        let Some(work) = self.work(&mut cursor, MessageId(store.durable())) else {
            cursor.rest();
            self.put_back(key, cursor, 0, Stage::AtEnd);
            return None;
        };
        let reader = self.readers.get_mut(key)?;
        reader.in_flight += credit; // given back in the end; acknowledgements may come before
        self.readers.set_stage(key, Stage::Reading { resumed: false });
        Some(Turn { key, consumer, cursor, work, tally: Tally::new(credit), failed: None })
    }

    /// What a reader has to read next; `None`: nothing yet.
    fn work(&self, cursor: &mut Cursor, durable: MessageId) -> Option<Work> {
        if let Next::Since(published_ms) = cursor.next {
            match self.search(published_ms) {
                Ok(offset) => cursor.next = Next::At(offset),
                Err(work) => return Some(work),
            }
        }
        let Next::At(wanted) = cursor.next else { return None };
        let next = wanted.max(self.first);
        cursor.next = Next::At(next);
        if next < self.log.first()
            && let Some(span) = self.settled.as_ref().and_then(|segments| segments.span_at(next))
        {
            return Some(Work::Segment(span, next));
        }
        let next = next.max(self.log.first());
        let on_disk = self.log.from(next).take(TURN_MESSAGES_MAX).take_while(|logged| logged.id < durable);
        let logged: Vec<Logged> = on_disk.collect();
        (!logged.is_empty() && next < self.log.next()).then_some(Work::Log(logged, next))
    }

    /// The first message since a time, if it can be told from memory, else where to look.
    fn search(&self, published_ms: u64) -> Result<Offset, Work> {
        let in_log = self.log.since(published_ms);
        let spans =
            self.settled.iter().flat_map(Segments::spans).filter(|span| span.last_pos() >= self.first);
        // Whatever is settled is older than what is in the log.
        if in_log > self.log.first() {
            return Ok(in_log);
        }
        let spans: Vec<_> = spans.collect();
        if spans.is_empty() { Ok(in_log) } else { Err(Work::Search(spans, published_ms)) }
    }

    /// Ends a turn.
    ///
    /// # Errors
    /// When a message that is still in the stream cannot be read.
    pub fn end_turn(&mut self, turn: Turn<P>) -> Result<TurnEnd, ReadError> {
        let Turn { key, cursor, work, tally, failed, .. } = turn;
        let Some(reader) = self.readers.get_mut(key) else { return Ok(TurnEnd::Waits) };
        let resumed = reader.stage == Stage::Reading { resumed: true };
        let stage = if tally.stalled && !resumed { Stage::Told } else { Stage::Ready };
        let next = cursor.next;
        self.put_back(key, cursor, tally.credit, stage);
        match failed {
            Some(error) if self.is_where_it_was(&work, next) => Err(error),
            _ if stage == Stage::Told => Ok(TurnEnd::Waits),
            _ => Ok(TurnEnd::GoOn),
        }
    }

    fn put_back(&mut self, key: ConsumerKey, cursor: Cursor, credit: u32, stage: Stage) {
        if let Some(reader) = self.readers.get_mut(key) {
            reader.cursor = Some(cursor);
            reader.in_flight = reader.in_flight.saturating_sub(credit);
        }
        self.readers.set_stage(key, stage);
    }

    /// A reader that had a turn pauses, so that others have theirs; its connection resumes it.
    pub fn pause(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        let reader = self.readers.get_mut(key).filter(|reader| reader.stage == Stage::Ready)?;
        let consumer = reader.consumer.clone();
        self.readers.set_stage(key, Stage::Told);
        Some(consumer)
    }

    /// Whether what a turn tried to read was neither settled nor dropped meanwhile: then it is damaged.
    fn is_where_it_was(&self, work: &Work, next: Next) -> bool {
        let is_there = |span: &leveret_store::SegmentSpan| {
            let found = self.settled.as_ref().and_then(|segments| segments.span_at(span.last_pos()));
            found.is_some_and(|found| found.is_same(span))
        };
        match (work, next) {
            (Work::Log(..), Next::At(offset)) => self.log.get(offset).is_some(),
            (Work::Segment(span, _), _) => is_there(span),
            (Work::Search(spans, _), _) => spans.iter().all(is_there),
            (Work::Log(..), Next::Since(_)) => false,
        }
    }

    /// What of the stream lives in one log file, and the last message of it in any case.
    pub fn alive_in(&mut self, span: &LogSpan) -> Vec<Settling> {
        let (begin, end) = (self.log.offset_of(span.start), self.log.offset_of(span.end));
        let alive = begin.max(self.first).min(end.saturating_sub(1)).max(begin)..end;
        let settling = |(pos, logged): (Offset, Logged)| {
            let published_at_ms = self.log.published_ms(pos)?;
            let place = Place::Log { id: logged.id, len: logged.size_bytes };
            let stamp = Stamp { expires_at_ms: NEVER_MS, published_at_ms };
            Some(Settling { pos, id: logged.id, place, stamp })
        };
        let logged = self.log.from(alive.start);
        let alive: Vec<Settling> = alive.zip(logged).filter_map(settling).collect();
        if let Some(segments) = self.settled.as_mut().filter(|segments| segments.last_pos() < self.first)
            && !alive.is_empty()
        {
            while segments.forget_oldest() {} // another one says where the stream goes on
        }
        alive
    }

    /// What [`Self::alive_in`] answered has been copied to `moved` and is in the segments now.
    pub fn settled(&mut self, moved: &BTreeMap<MessageId, Place>) {
        let Some((last, _)) = moved.last_key_value() else { return };
        let end = self.log.offset_of(MessageId(last.0 + 1));
        let kept = (self.log.first().max(self.first)..end).filter_map(|offset| self.log.get(offset));
        self.log_bytes -= kept.map(|logged| u64::from(logged.size_bytes)).sum::<u64>();
        self.log.forget_before(end);
        self.forget_dropped_segments();
    }

    /// The segment files, of which those for messages that were put aside are never any.
    pub fn segments_mut(&mut self, durable: bool) -> &mut Option<Segments> {
        if durable { &mut self.settled } else { &mut self.aside }
    }

    /// Other settings are in force from now on; what they drop goes with the next message or deadline.
    pub fn apply(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }
}
