//! What of a queue is in the store, and how it moves from full log files into segments.

use std::collections::{BTreeMap, BTreeSet};

use leveret_store::{LogSpan, MessageId, Place, Segments};

use super::QueueState;
use super::entry::{Entry, Pos};
use super::levels::{Level, level_of};
use super::ready::{Ready, SeenBefore, relocate};
use crate::stamp::Stamp;

/// A message that has to move from a log file into a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settling {
    /// Its place in the queue's order.
    pub pos: Pos,
    /// Its id.
    pub id: MessageId,
    /// Where it is now.
    pub place: Place,
    /// When it expires.
    pub stamp: Stamp,
}

impl<P> QueueState<P> {
    /// The levels on which something waits, waited, or is unacknowledged.
    pub fn levels(&self) -> BTreeSet<Level> {
        let unacked = self.unacked.keys().map(|pos| level_of(*pos));
        let waiting = self.returned.waiting().chain(self.dying.iter()).map(|entry| level_of(entry.pos));
        self.ready.all().map(|(level, _)| level).chain(unacked).chain(waiting).collect()
    }

    /// Which durable messages of a level were delivered before, for the note of a clean stop.
    pub fn seen_before(&self, level: Level) -> SeenBefore {
        let ready = self.ready.level(level);
        let mut seen = ready.map(|ready| ready.seen_before().clone()).unwrap_or_default();
        let returned = ready.into_iter().flat_map(Ready::indexed).filter(|entry| entry.redelivered);
        let waiting =
            self.returned.waiting().chain(self.dying.iter()).filter(|entry| level_of(entry.pos) == level);
        seen.also.extend(returned.chain(waiting).filter_map(|entry| Some(entry.stored()?.id)));
        seen.also.extend(self.unacked_ids(level));
        seen.also.retain(|id| *id >= seen.below);
        seen.also.sort_unstable();
        seen.also.dedup();
        seen
    }

    /// What of a level lives in one log file, in the queue's order.
    pub fn alive_in(&self, span: &LogSpan, level: Level, durable: bool) -> Vec<Settling> {
        let unacked = self.unacked.iter().filter(|(pos, _)| level_of(**pos) == level);
        let unacked = unacked.map(|(_, unacked)| &unacked.entry);
        let waiting =
            self.returned.waiting().chain(self.dying.iter()).filter(|entry| level_of(entry.pos) == level);
        let indexed = self.ready.level(level).into_iter().flat_map(Ready::indexed);
        let mut alive: Vec<Settling> = indexed
            .chain(unacked)
            .chain(waiting)
            .filter_map(|entry| settling(entry, span, durable))
            .collect();
        alive.sort_unstable_by_key(|settling| settling.pos);
        alive
    }

    /// Whether messages were put aside to save memory.
    pub fn has_put_aside(&self) -> bool {
        self.ready.all().any(|(_, ready)| ready.has_put_aside())
    }

    /// The segment files of a level, for durable or put-aside messages.
    pub fn segments_mut(&mut self, level: Level, durable: bool) -> &mut Option<Segments> {
        self.ready.segments_mut(level, durable)
    }

    /// What [`Self::alive_in`] answered has been copied to `moved` and is in the segments now.
    pub fn settled(&mut self, level: Level, durable: bool, mut moved: BTreeMap<MessageId, Place>) {
        let ready = self.ready.level_mut(level);
        for id in ready.settle_tail(&moved) {
            moved.remove(&id);
        }
        let mut held = ready.relocate_returned(&moved);
        let unacked = self.unacked.iter_mut().filter(|(pos, _)| level_of(**pos) == level);
        held.extend(unacked.filter_map(|(_, unacked)| relocate(&mut unacked.entry, &moved)));
        let waiting = self
            .returned
            .waiting_mut()
            .chain(self.dying.iter_mut())
            .filter(|entry| level_of(entry.pos) == level);
        held.extend(waiting.filter_map(|entry| relocate(entry, &moved)));
        let Some(segments) = ready.segments_mut(durable) else { return };
        for id in held {
            if let Some(place) = moved.remove(&id) {
                segments.hold(place);
            }
        }
        for place in moved.into_values() {
            segments.ack(place);
        }
    }
}

fn settling(entry: &Entry, span: &LogSpan, durable: bool) -> Option<Settling> {
    let stored = entry.stored().filter(|stored| stored.durable == durable)?;
    let in_log = matches!(stored.place, Place::Log { .. });
    let in_span = span.start <= stored.id && stored.id < span.end;
    let stamp = Stamp::counted(entry.expires_at_ms);
    (in_log && in_span).then_some(Settling { pos: entry.pos, id: stored.id, place: stored.place, stamp })
}
