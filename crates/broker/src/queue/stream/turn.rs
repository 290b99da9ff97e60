//! One turn of a reader: what it reads and hands over while the stream is not locked.
//!
//! ```text
//!   lock ─► begin_turn: from where, how many ─► unlock ─► run: read, hand over ─► lock ─► end_turn
//! ```
//!
//! While the turn is under way nobody else hands anything to this reader, so the order is kept.

use leveret_store::{LogWindow, ReadError, SegmentReader, SegmentSpan, Store};
use leveret_wire::FieldValue;

use super::Offset;
use super::log_index::Logged;
use crate::message::MessageView;
use crate::queue::{Consumer, ConsumerKey, Handed};
use crate::stamp::Stamp;

/// The header that tells a consumer where in the stream a message is.
const OFFSET_HEADER: &str = "x-stream-offset";
/// A turn ends after so many octets, wanted or not: others wait for this thread.
const TURN_BYTES_MAX: usize = 1 << 20;
/// A turn ends after so many messages.
pub(super) const TURN_MESSAGES_MAX: usize = 1024;

/// Where a reader is, and what it has read ahead.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) next: Next,
    segment: Option<SegmentReader>,
    window: LogWindow,
    /// Properties with the offset in them, built here again and again.
    properties: Vec<u8>,
}

/// What a reader wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The message with this offset, or the first one behind it.
    At(Offset),
    /// The first message published at or after this time, ms since 1970.
    Since(u64),
}

impl Cursor {
    pub(super) fn new(next: Next) -> Self {
        Self { next, segment: None, window: LogWindow::default(), properties: Vec::new() }
    }

    /// Gives back what was read ahead: the reader waits.
    pub(super) fn rest(&mut self) {
        *self = Self::new(self.next);
    }
}

/// What there is to read.
#[derive(Debug)]
pub(super) enum Work {
    /// What was settled, from an offset on.
    Segment(SegmentSpan, Offset),
    /// Messages in the log; the first has this offset.
    Log(Vec<Logged>, Offset),
    /// The first message since a time is to be found, here or right behind.
    Search(Vec<SegmentSpan>, u64),
}

/// How much a turn may do, and what it did.
#[derive(Debug)]
pub(super) struct Tally {
    /// Messages it may still hand over.
    pub(super) credit: u32,
    /// The consumer has no room; it will be resumed.
    pub(super) stalled: bool,
    messages_left: usize,
    bytes_left: usize,
}

impl Tally {
    pub(super) fn new(credit: u32) -> Self {
        Self { credit, stalled: false, messages_left: TURN_MESSAGES_MAX, bytes_left: TURN_BYTES_MAX }
    }

    fn look_at(&mut self, size_bytes: usize) {
        self.messages_left = self.messages_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(size_bytes);
    }

    fn is_over(&self) -> bool {
        self.stalled || self.credit == 0 || self.messages_left == 0 || self.bytes_left == 0
    }
}

/// A turn under way.
#[derive(Debug)]
pub struct Turn<P> {
    pub(super) key: ConsumerKey,
    pub(super) consumer: Consumer<P>,
    pub(super) cursor: Cursor,
    pub(super) work: Work,
    pub(super) tally: Tally,
    /// What went wrong, perhaps only because the stream went on meanwhile.
    pub(super) failed: Option<ReadError>,
}

impl<P> Turn<P> {
    /// Reads, and hands over what is wanted until the consumer takes no more.
    pub fn run(&mut self, store: &Store, hand: impl FnMut(&Consumer<P>, MessageView<'_>) -> Handed) {
        let Self { consumer, cursor, work, tally, .. } = self;
        let Cursor { next, segment, window, properties } = cursor;
        let mut sink = Sink { consumer, properties, tally, next, hand };
        let read = match work {
            Work::Log(logged, first) => read_log(store, window, (logged, *first), &mut sink),
            Work::Segment(span, first) => read_segment(store, segment, (span, *first), &mut sink),
            Work::Search(spans, since_ms) => {
                first_since(store, spans, *since_ms).map(|offset| *sink.next = Next::At(offset))
            }
        };
        self.failed = read.err();
    }
}

/// Where messages go that a turn has read.
struct Sink<'a, P, F> {
    consumer: &'a Consumer<P>,
    properties: &'a mut Vec<u8>,
    tally: &'a mut Tally,
    next: &'a mut Next,
    hand: F,
}

impl<P, F: FnMut(&Consumer<P>, MessageView<'_>) -> Handed> Sink<'_, P, F> {
    /// Hands a message over if it is wanted; `false` when it was not taken for want of room.
    fn take(&mut self, offset: Offset, payload: &[u8]) -> Result<bool, ReadError> {
        let view = MessageView::from_payload(payload).ok_or(ReadError::Missing)?;
        self.tally.look_at(payload.len());
        let filter = self.consumer.reading.as_ref().and_then(|reading| reading.filter.as_ref());
        if filter.is_none_or(|filter| filter.wants(view.properties)) {
            // The offset always has a form on the wire.
            let value = FieldValue::I64(offset as i64);
            let properties = view
                .properties
                .with_header(OFFSET_HEADER, &value, self.properties)
                .unwrap_or(view.properties);
            let handed = (self.hand)(self.consumer, MessageView { properties, ..view });
            self.tally.stalled = handed != Handed::Taken;
            if handed == Handed::NoRoom {
                return Ok(false);
            }
            self.tally.credit -= 1;
        }
        *self.next = Next::At(offset + 1);
        Ok(true)
    }
}

fn read_log<P, F: FnMut(&Consumer<P>, MessageView<'_>) -> Handed>(
    store: &Store,
    window: &mut LogWindow,
    (logged, first): (&[Logged], Offset),
    sink: &mut Sink<'_, P, F>,
) -> Result<(), ReadError> {
    for (offset, Logged { id, size_bytes }) in (first..).zip(logged) {
        if sink.tally.is_over() || !sink.take(offset, window.read(store, *id, *size_bytes)?)? {
            break;
        }
    }
    Ok(())
}

fn read_segment<P, F: FnMut(&Consumer<P>, MessageView<'_>) -> Handed>(
    store: &Store,
    kept: &mut Option<SegmentReader>,
    (span, first): (&SegmentSpan, Offset),
    sink: &mut Sink<'_, P, F>,
) -> Result<(), ReadError> {
    let mut reader = match kept.take().filter(|reader| reader.is_in(span)) {
        Some(reader) => reader,
        None => {
            let mut reader = SegmentReader::open(store, span)?;
            reader.seek(span, |head| head.pos < first)?;
            reader
        }
    };
    while !sink.tally.is_over() {
        let Some((head, payload)) = reader.peek(span)? else { break };
        // Before the first one only when the stream has dropped what this reader would have read next.
        if head.pos >= first && !sink.take(head.pos, payload)? {
            break;
        }
        reader.pass();
    }
    *kept = Some(reader);
    Ok(())
}

/// The first message published at or after a time, or the one behind all of these segments.
fn first_since(store: &Store, spans: &[SegmentSpan], since_ms: u64) -> Result<Offset, ReadError> {
    let (mut low, mut high) = (0, spans.len());
    while low < high {
        let middle = low.midpoint(high);
        match last_published_ms(store, &spans[middle])? {
            last_ms if last_ms < since_ms => low = middle + 1,
            _ => high = middle,
        }
    }
    let Some(span) = spans.get(low) else { return Ok(spans.last().map_or(0, |span| span.last_pos() + 1)) };
    let mut reader = SegmentReader::open(store, span)?;
    reader.seek(span, |head| Stamp::decode(&head.attributes).published_at_ms < since_ms)?;
    Ok(reader.peek(span)?.map_or(span.last_pos() + 1, |(head, _)| head.pos))
}

/// When the newest message of a segment was published, ms since 1970.
pub(super) fn last_published_ms(store: &Store, span: &SegmentSpan) -> Result<u64, ReadError> {
    let head = SegmentReader::last_head(store, span)?;
    Ok(head.map_or(0, |head| Stamp::decode(&head.attributes).published_at_ms))
}
