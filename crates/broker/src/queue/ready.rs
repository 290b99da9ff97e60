//! The messages that wait on one level of a queue, in the queue's order.
//!
//! They come from up to four sorted streams, and the lowest position of all goes first:
//!
//! ```text
//!   returned   requeued messages, back at their old positions       (memory)
//!   settled    durable messages in segment files, read by a cursor  (disk)
//!   aside      transient messages put aside to save memory, likewise
//!   tail       everything newer: in memory, or an index into the log
//! ```
//!
//! A queue that keeps up only ever uses `tail`. Memory is bounded because what the log holds is settled
//! into segments file by file, and segments are not indexed here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use leveret_store::{MessageId, Place, ReadError, Segments, Store};

use super::entry::{Content, Entry, Pos, Stored};
use super::held::Held;
use crate::message::{Message, ResidentBytes};
use crate::stamp::Stamp;

/// What was read from disk together with its entry, so that it is not read twice.
pub(super) type Taken = (Entry, Option<Arc<Message>>);

/// The waiting messages of one level.
#[derive(Debug, Default)]
pub struct Ready {
    returned: BTreeMap<Pos, Entry>,
    tail: VecDeque<Entry>,
    settled: Option<Segments>,
    aside: Option<Segments>,
    /// What of it is in the index.
    held: Held,
    seen_before: SeenBefore,
}

/// Which settled messages were delivered in an earlier life of the process (P4).
#[derive(Clone, Debug)]
pub struct SeenBefore {
    /// Everything older than this was, or may have been.
    pub below: MessageId,
    /// And these, sorted.
    pub also: Vec<MessageId>,
}

impl Default for SeenBefore {
    fn default() -> Self {
        Self { below: MessageId(0), also: Vec::new() }
    }
}

impl SeenBefore {
    /// Whether `id` may have been delivered before.
    pub fn contains(&self, id: MessageId) -> bool {
        id < self.below || self.also.binary_search(&id).is_ok()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Returned,
    Tail,
    Settled,
    Aside,
}

impl Ready {
    /// What a restart found.
    pub fn recovered(settled: Option<Segments>, tail: VecDeque<Entry>, seen_before: SeenBefore) -> Self {
        let mut held = Held::default();
        tail.iter().for_each(|entry| held.add_entry(entry));
        Self { settled, tail, seen_before, held, ..Self::default() }
    }

    /// How many wait.
    pub fn len(&self) -> u64 {
        let indexed = (self.returned.len() + self.tail.len()) as u64;
        indexed + self.segments().map(Segments::ready_len).sum::<u64>()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.returned.is_empty() && self.segments().all(|s| s.ready_len() == 0)
    }

    /// Octets of what waits.
    pub fn size_bytes(&self) -> u64 {
        self.held.bytes + self.segments().map(Segments::ready_bytes).sum::<u64>()
    }

    /// What waits.
    pub fn held(&self) -> Held {
        let settled = self.settled.iter().map(|segments| Held::in_segments(segments, true));
        let aside = self.aside.iter().map(|segments| Held::in_segments(segments, false));
        settled.chain(aside).fold(self.held, |sum, more| sum + more)
    }

    /// The message whose turn it is, if it is in the index and in memory; it may not be the first when others are in
    /// segments.
    pub fn cached_head(&self) -> Option<&Arc<Message>> {
        let returned = self.returned.first_key_value().map(|(_, entry)| entry);
        returned.into_iter().chain(self.tail.front()).min_by_key(|entry| entry.pos)?.cached()
    }

    /// Appends the newest message.
    pub fn push(&mut self, entry: Entry) {
        self.held.add_entry(&entry);
        self.tail.push_back(entry);
    }

    /// Puts a message back at its old position.
    pub fn put_back(&mut self, entry: Entry) {
        self.held.add_entry(&entry);
        self.returned.insert(entry.pos, entry);
    }

    /// Takes the message whose turn it is.
    pub fn take(&mut self, store: &Store, resident: &ResidentBytes) -> Result<Option<Taken>, ReadError> {
        let taken = match self.first(store)? {
            None => return Ok(None),
            Some(Stream::Tail) => self.tail.pop_front().map(|entry| self.leaves(entry)),
            Some(Stream::Returned) => self.returned.pop_first().map(|(_, entry)| self.leaves(entry)),
            Some(Stream::Settled) => {
                Self::take_segment(&mut self.settled, &self.seen_before, true, store, resident)?
            }
            Some(Stream::Aside) => {
                Self::take_segment(&mut self.aside, &self.seen_before, false, store, resident)?
            }
        };
        Ok(taken)
    }

    fn leaves(&mut self, entry: Entry) -> Taken {
        self.held.remove_entry(&entry);
        (entry, None)
    }

    /// When the message whose turn it is expires.
    pub fn head_expires_at_ms(&mut self, store: &Store) -> Result<Option<u64>, ReadError> {
        let Some(stream) = self.first(store)? else { return Ok(None) };
        Ok(match stream {
            Stream::Tail => self.tail.front().map(|entry| entry.expires_at_ms),
            Stream::Returned => self.returned.first_key_value().map(|(_, entry)| entry.expires_at_ms),
            Stream::Settled => head_expires_at_ms(&mut self.settled, store)?,
            Stream::Aside => head_expires_at_ms(&mut self.aside, store)?,
        })
    }

    /// Which stream has the lowest position.
    fn first(&mut self, store: &Store) -> Result<Option<Stream>, ReadError> {
        let tail = self.tail.front().map(|entry| (entry.pos, Stream::Tail));
        if self.returned.is_empty() && self.settled.is_none() && self.aside.is_none() {
            return Ok(tail.map(|(_, stream)| stream));
        }
        let returned = self.returned.first_key_value().map(|(pos, _)| (*pos, Stream::Returned));
        let settled = Self::peek_segment(&mut self.settled, store)?.map(|pos| (pos, Stream::Settled));
        let aside = Self::peek_segment(&mut self.aside, store)?.map(|pos| (pos, Stream::Aside));
        let lowest = [tail, returned, settled, aside].into_iter().flatten().min_by_key(|(pos, _)| *pos);
        Ok(lowest.map(|(_, stream)| stream))
    }

    fn peek_segment(segments: &mut Option<Segments>, store: &Store) -> Result<Option<Pos>, ReadError> {
        match segments {
            Some(segments) => Ok(segments.peek(store)?.map(|head| head.pos)),
            None => Ok(None),
        }
    }

    fn take_segment(
        segments: &mut Option<Segments>,
        seen: &SeenBefore,
        durable: bool,
        store: &Store,
        resident: &ResidentBytes,
    ) -> Result<Option<Taken>, ReadError> {
        let Some(segments) = segments else { return Ok(None) };
        let Some((head, payload)) = segments.next(store)? else { return Ok(None) };
        let size_bytes = payload.len() as u32;
        let message = Message::from_payload(payload, resident).map(Arc::new);
        let stored = Stored { id: head.id, place: head.place, durable, cached: None };
        let redelivered = seen.contains(head.id);
        let expires_at_ms = Stamp::decode(&head.attributes).expires_at_ms(None);
        Ok(Some((
            Entry {
                pos: head.pos,
                content: Content::Stored(stored),
                size_bytes,
                expires_at_ms,
                redelivered,
                may_name_caller: true,
            },
            message,
        )))
    }

    fn segments(&self) -> impl Iterator<Item = &Segments> {
        self.settled.iter().chain(self.aside.iter())
    }

    /// The segment files for durable or put-aside messages.
    pub fn segments_mut(&mut self, durable: bool) -> &mut Option<Segments> {
        if durable { &mut self.settled } else { &mut self.aside }
    }

    /// Whether messages were put aside to save memory and settled.
    pub fn has_put_aside(&self) -> bool {
        self.aside.is_some()
    }

    /// Takes everything that waits out. Settled messages end with their segments; the others are answered.
    pub fn drain(&mut self) -> (u64, Vec<Entry>) {
        let count = self.len();
        for segments in [&mut self.settled, &mut self.aside].into_iter().flatten() {
            segments.purge_ready();
        }
        let returned = std::mem::take(&mut self.returned);
        let gone = returned.into_values().chain(std::mem::take(&mut self.tail)).collect();
        self.held = Held::default();
        (count, gone)
    }

    /// Entries that are in the log, in memory's index.
    pub fn indexed(&self) -> impl Iterator<Item = &Entry> {
        self.returned.values().chain(self.tail.iter())
    }

    /// What was seen before, for the note of a clean stop.
    pub fn seen_before(&self) -> &SeenBefore {
        &self.seen_before
    }

    /// After settling: drops the tail entries that `moved` names and answers which they were; their segment's
    /// cursor brings them now. A tail entry is only `redelivered` when [`SeenBefore`] says so (requeued ones
    /// are in `returned`), so the flag is not lost.
    pub fn settle_tail(&mut self, moved: &BTreeMap<MessageId, Place>) -> Vec<MessageId> {
        let mut gone = Vec::with_capacity(moved.len());
        self.tail.retain(|entry| match entry.stored().filter(|stored| moved.contains_key(&stored.id)) {
            Some(stored) => {
                gone.push(stored.id);
                self.held.remove_entry(entry);
                false
            }
            None => true,
        });
        gone
    }

    /// Gives the requeued entries that `moved` names their new place.
    pub fn relocate_returned(&mut self, moved: &BTreeMap<MessageId, Place>) -> Vec<MessageId> {
        let mut found = Vec::new();
        for entry in self.returned.values_mut() {
            found.extend(relocate(entry, moved));
        }
        found
    }
}

/// Gives an entry its new place, if it is among `moved`.
pub(super) fn relocate(entry: &mut Entry, moved: &BTreeMap<MessageId, Place>) -> Option<MessageId> {
    let Content::Stored(stored) = &mut entry.content else { return None };
    stored.place = *moved.get(&stored.id)?;
    Some(stored.id)
}

fn head_expires_at_ms(segments: &mut Option<Segments>, store: &Store) -> Result<Option<u64>, ReadError> {
    let Some(segments) = segments else { return Ok(None) };
    Ok(segments.peek(store)?.map(|head| Stamp::decode(&head.attributes).expires_at_ms(None)))
}
