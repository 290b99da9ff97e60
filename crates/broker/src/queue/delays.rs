//! Messages that wait for a time instead of a consumer: the rule of a delay queue.
//!
//! In memory there is an index by due time and nothing else; the content is in the log, and later in segments. So a
//! message costs about 55 octets of memory whatever its size, and no limit of a timer applies.
//!
//! ```text
//!   publish ─► index ─► take_due ─► leaving ─► left: gone
//!                ▲                     │
//!                └────── stayed ◄──────┘      (it could not be sent on now)
//! ```
//!
//! What was taken is `leaving` until its copies are logged: a settling in between must still find it, or a crash
//! would lose it. Transient messages are put aside on disk at once, as they will hardly be wanted before the memory.
//!
//! Settled messages are not read in the order in which they lie, so all of them are held: the cursor of their segments
//! only serves to find them at a start.

use std::collections::BTreeMap;
use std::ops::Bound;

use leveret_store::{LogSpan, MessageId, Place, ReadError, RecoveredQueue, Segments, Store};

use super::entry::{Incoming, Stored};
use super::{Courier, Held, Settling};
use crate::message::Message;
use crate::stamp::{NEVER_MS, Stamp};

/// Taken at once, so that a burst holds neither the queue's lock nor a thread for long.
const TAKEN_MAX: usize = 64;
/// Likewise, octets; at least one message is taken.
const TAKEN_BYTES_MAX: usize = 1 << 20;

/// Names a delayed message, and is its place in the order: by time, among equals as they were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When it is to be sent on, ms since 1970.
    pub at_ms: u64,
    /// The message.
    pub id: MessageId,
}

/// A message whose time has come.
#[derive(Debug)]
pub struct Leaving {
    /// Its name here.
    pub due: Due,
    /// Its end must be logged.
    pub durable: bool,
    /// What it says.
    pub message: Message,
}

/// Where the content lies, in half the octets of a [`Place`]: there are millions of them.
#[derive(Clone, Copy, Debug)]
struct Spot {
    segment: u32,
    index: u32,
    head: u32,
    len_and_flags: u32,
}

const DURABLE: u32 = 1 << 31;
const SETTLED: u32 = 1 << 30;
const LEN: u32 = SETTLED - 1;

impl Spot {
    fn new(place: Place, durable: bool) -> Self {
        let durable = if durable { DURABLE } else { 0 };
        match place {
            Place::Log { len, .. } => {
                Self { segment: 0, index: 0, head: 0, len_and_flags: len & LEN | durable }
            }
            Place::Segment { segment, index, head, len, .. } => {
                Self { segment, index, head, len_and_flags: len & LEN | durable | SETTLED }
            }
        }
    }

    fn place(self, id: MessageId) -> Place {
        let Self { segment, index, head, .. } = self;
        match self.is_settled() {
            true => {
                Place::Segment { transient: !self.is_durable(), segment, index, head, len: self.len_bytes() }
            }
            false => Place::Log { id, len: self.len_bytes() },
        }
    }

    fn is_durable(self) -> bool {
        self.len_and_flags & DURABLE != 0
    }

    fn is_settled(self) -> bool {
        self.len_and_flags & SETTLED != 0
    }

    fn len_bytes(self) -> u32 {
        self.len_and_flags & LEN
    }
}

/// The rule of one delay queue. Nobody consumes from it.
#[derive(Debug, Default)]
pub struct DelayState {
    index: BTreeMap<Due, Spot>,
    leaving: BTreeMap<Due, Spot>,
    settled: Option<Segments>,
    aside: Option<Segments>,
    size_bytes: u64,
    /// The deadline that was answered last; none is awaited when it has come.
    deadline_ms: Option<u64>,
}

impl DelayState {
    /// A delay queue as a restart found it. Reads the heads of its segments, no content. With an error it knows what could
    /// be read, and must be taken out of service.
    pub fn recovered(content: RecoveredQueue, store: &Store) -> (Self, Option<ReadError>) {
        let RecoveredQueue { mut segments, log, .. } = content;
        let mut found = Vec::with_capacity(segments.ready_len() as usize + log.len());
        let damage = walk(&mut segments, store, &mut found).err();
        found.extend(
            log.iter()
                .map(|message| (due_of(&message.attributes, message.id), Spot::new(message.place, true))),
        );
        let size_bytes = found.iter().map(|(_, spot)| u64::from(spot.len_bytes())).sum();
        // Built at once from what is sorted, its nodes are full.
        let index = found.into_iter().collect();
        (Self { index, settled: Some(segments), size_bytes, ..Self::default() }, damage)
    }

    /// A message arrives, with the time of its [`Stamp::due_ms`]. `false` when it cannot be kept: the store has stopped.
    pub fn publish<P>(&mut self, incoming: &mut Incoming<'_>, courier: &mut impl Courier<P>) -> bool {
        let logged = incoming.logged.map(|(id, place)| Stored { id, place, durable: true, cached: None });
        let Some(stored) = logged.or_else(|| courier.put_aside(incoming)) else { return false };
        let due = Due { at_ms: incoming.stamp.due_ms(), id: stored.id };
        self.size_bytes += u64::from(stored.place.len());
        self.index.insert(due, Spot::new(stored.place, stored.durable));
        true
    }

    /// Takes some of what is due, the earliest first; nothing when nothing is. Each is to be [`Self::left`] or
    /// [`Self::stayed`] afterwards.
    ///
    /// # Errors
    /// A message that cannot be read back.
    pub fn take_due<P>(&mut self, now_ms: u64, courier: &impl Courier<P>) -> Result<Vec<Leaving>, ReadError> {
        let mut taken = Vec::new();
        let mut taken_bytes = 0;
        while taken.len() < TAKEN_MAX
            && taken_bytes < TAKEN_BYTES_MAX
            && let Some(first) = self.index.first_entry().filter(|first| first.key().at_ms <= now_ms)
        {
            let (due, spot) = (*first.key(), *first.get());
            let payload = courier.read(0, spot.place(due.id))?;
            let message = Message::from_payload(payload, courier.resident()).ok_or(ReadError::Missing)?;
            taken_bytes += message.size_bytes();
            first.remove();
            self.leaving.insert(due, spot);
            taken.push(Leaving { due, durable: spot.is_durable(), message });
        }
        Ok(taken)
    }

    /// These have been sent on, and their end is logged.
    pub fn left(&mut self, gone: impl IntoIterator<Item = Due>) {
        for due in gone {
            if let Some(spot) = self.leaving.remove(&due) {
                self.end(due, spot);
            }
        }
    }

    /// These could not be sent on; they are due still.
    pub fn stayed(&mut self, still_here: impl IntoIterator<Item = Due>) {
        for due in still_here {
            if let Some(spot) = self.leaving.remove(&due) {
                self.index.insert(due, spot);
            }
        }
    }

    fn end(&mut self, due: Due, spot: Spot) {
        self.size_bytes -= u64::from(spot.len_bytes());
        if let Some(segments) = self.segments_mut(spot.is_durable()) {
            segments.ack(spot.place(due.id));
        }
    }

    /// Drops everything that waits; answers how many messages that were. What is leaving leaves.
    pub fn purge(&mut self) -> u64 {
        let gone = std::mem::take(&mut self.index);
        let count = gone.len() as u64;
        gone.into_iter().for_each(|(due, spot)| self.end(due, spot));
        count
    }

    /// When the next message is due; `None`: nothing new since the last answer, or never.
    pub fn new_deadline_ms(&mut self) -> Option<u64> {
        let next =
            self.index.first_key_value().map(|(due, _)| due.at_ms).filter(|at_ms| *at_ms < NEVER_MS)?;
        if self.deadline_ms.is_some_and(|answered| answered <= next) {
            return None;
        }
        self.deadline_ms = Some(next);
        Some(next)
    }

    /// The time that [`Self::new_deadline_ms`] named has come.
    pub fn deadline_came(&mut self) {
        self.deadline_ms = None;
    }

    /// How many messages wait.
    pub fn len(&self) -> u64 {
        (self.index.len() + self.leaving.len()) as u64
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.leaving.is_empty()
    }

    /// Octets of the messages that wait.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What waits: in the index, and its content on disk. Nobody counts what of it outlives the process.
    pub fn held(&self) -> Held {
        Held { messages: self.len(), bytes: self.size_bytes, in_index: self.len(), ..Held::default() }
    }

    /// Ids of the durable messages that a purge leaves alone.
    pub fn leaving_ids(&self) -> Vec<MessageId> {
        self.leaving.iter().filter(|(_, spot)| spot.is_durable()).map(|(due, _)| due.id).collect()
    }

    /// Whether transient messages are on disk.
    pub fn has_put_aside(&self) -> bool {
        self.aside.is_some()
            || self.index.values().chain(self.leaving.values()).any(|spot| !spot.is_durable())
    }

    /// The segment files for durable or transient messages.
    pub fn segments_mut(&mut self, durable: bool) -> &mut Option<Segments> {
        if durable { &mut self.settled } else { &mut self.aside }
    }

    /// What lives in one log file behind `after`, earliest first and at most `count_max` messages besides those that are
    /// leaving. In portions, because a log file may hold more messages than there should be in memory. Settled in this
    /// order, messages that are due together end together, and their file goes.
    pub fn alive_in(
        &self,
        span: &LogSpan,
        durable: bool,
        after: Option<Due>,
        count_max: usize,
    ) -> Vec<Settling> {
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let settling = |(due, spot): (&Due, &Spot)| settling(*due, *spot, span, durable);
        let mut alive: Vec<Settling> = self.index.range(from).filter_map(settling).take(count_max).collect();
        let end = alive.last().filter(|_| alive.len() == count_max).map(|last| last.due());
        let leaving = self.leaving.range(from).take_while(|(due, _)| end.is_none_or(|end| **due <= end));
        alive.extend(leaving.filter_map(settling));
        alive.sort_unstable_by_key(Settling::due);
        alive
    }

    /// What [`Self::alive_in`] answered has been copied and is in the segments now.
    pub fn settled(&mut self, durable: bool, moved: impl IntoIterator<Item = (Settling, Place)>) {
        let segments = if durable { &mut self.settled } else { &mut self.aside };
        let Some(segments) = segments else { return };
        for (settling, place) in moved {
            let due = settling.due();
            match self.index.get_mut(&due).or_else(|| self.leaving.get_mut(&due)) {
                Some(spot) => {
                    *spot = Spot::new(place, durable);
                    segments.hold(place);
                }
                None => segments.ack(place), // it left meanwhile
            }
        }
    }
}

/// Takes everything out of `segments` into the caller's hands.
fn walk(segments: &mut Segments, store: &Store, found: &mut Vec<(Due, Spot)>) -> Result<(), ReadError> {
    while let Some(head) = segments.peek(store)? {
        found.push((due_of(&head.attributes, head.id), Spot::new(head.place, true)));
        segments.skip(store)?;
    }
    Ok(())
}

impl Settling {
    /// The name of a delayed message that settles.
    pub(crate) fn due(&self) -> Due {
        Due { at_ms: self.pos, id: self.id }
    }
}

fn due_of(attributes: &leveret_store::Attributes, id: MessageId) -> Due {
    Due { at_ms: Stamp::decode(attributes).due_ms(), id }
}

fn settling(due: Due, spot: Spot, span: &LogSpan, durable: bool) -> Option<Settling> {
    let is_here = span.start <= due.id && due.id < span.end && !spot.is_settled();
    let stamp = Stamp::due_at(due.at_ms);
    (is_here && spot.is_durable() == durable).then_some(Settling {
        pos: due.at_ms,
        id: due.id,
        place: spot.place(due.id),
        stamp,
    })
}

#[cfg(test)]
mod tests;
