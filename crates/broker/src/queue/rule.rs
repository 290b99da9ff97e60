//! What the doors of the broker do with a queue, whatever kind it is.
//!
//! Each kind is a state machine of its own; this is where they meet, so that no operation asks for the kind.

use std::collections::{BTreeMap, BTreeSet};

use leveret_store::{LogSpan, MessageId, Place, ReadError, Segments, Store};

use super::consumers::{Consumer, ConsumerKey};
use super::entry::{Aftermath, Ended, Incoming, Pos};
use super::levels::Level;
use super::ready::SeenBefore;
use super::{Courier, Fetched, QueueState, Settling};

/// The rule of one queue. `P` is how messages reach a consumer.
#[derive(Debug)]
pub enum Rule<P> {
    /// Messages go when they are consumed: classic and quorum queues.
    Work(QueueState<P>),
}

impl<P> Rule<P> {
    /// A message arrives; see [`QueueState::publish`].
    pub fn publish(
        &mut self,
        incoming: &mut Incoming<'_>,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<bool, ReadError> {
        match self {
            Self::Work(state) => state.publish(incoming, courier, aftermath),
        }
    }

    /// Hands out what waits to those that can take it.
    pub fn pump(
        &mut self,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        match self {
            Self::Work(state) => state.pump(courier, aftermath),
        }
    }

    /// Fetches one message (`basic.get`).
    pub fn fetch(
        &mut self,
        no_ack: bool,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<Option<Fetched>, ReadError> {
        match self {
            Self::Work(state) => state.fetch(no_ack, courier, aftermath),
        }
    }

    /// A delivered message is done with.
    pub fn ack(&mut self, pos: Pos) -> Option<Ended> {
        match self {
            Self::Work(state) => state.ack(pos),
        }
    }

    /// A delivered message is refused for good.
    pub fn reject(
        &mut self,
        pos: Pos,
        courier: &impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        match self {
            Self::Work(state) => state.reject(pos, courier, aftermath),
        }
    }

    /// A delivered message comes back; see [`QueueState::requeue`].
    pub fn requeue(
        &mut self,
        pos: Pos,
        failed: bool,
        courier: &impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        match self {
            Self::Work(state) => state.requeue(pos, failed, courier, aftermath),
        }
    }

    /// What the log must be told when an unacknowledged message is acknowledged.
    pub fn would_end(&self, pos: Pos) -> Option<Ended> {
        match self {
            Self::Work(state) => state.would_end(pos),
        }
    }

    /// Drops everything that waits; answers how many messages that were.
    pub fn purge(&mut self) -> u64 {
        match self {
            Self::Work(state) => state.purge(),
        }
    }

    /// Adds a consumer; [`Self::pump`] afterwards.
    pub fn add_consumer(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        match self {
            Self::Work(state) => state.add_consumer(consumer),
        }
    }

    /// Removes a consumer; [`Self::pump`] afterwards. What it has unacknowledged stays so.
    pub fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        match self {
            Self::Work(state) => state.remove_consumer(key),
        }
    }

    /// Removes all consumers, because the queue is going away.
    pub fn remove_consumers(&mut self) -> Vec<Consumer<P>> {
        match self {
            Self::Work(state) => state.remove_consumers(),
        }
    }

    /// A consumer that stalled has room again; [`Self::pump`] afterwards.
    pub fn resume(&mut self, key: ConsumerKey) {
        match self {
            Self::Work(state) => state.resume(key),
        }
    }

    /// How many consumers there are.
    pub fn consumer_count(&self) -> usize {
        match self {
            Self::Work(state) => state.consumers().len(),
        }
    }

    /// Whether a consumer is still here.
    pub fn has_consumer(&self, key: ConsumerKey) -> bool {
        match self {
            Self::Work(state) => state.consumers().contains(key),
        }
    }

    /// Whether another consumer must be refused because of an exclusive one, itself included.
    pub fn refuses_consumer(&self, exclusive: bool) -> bool {
        match self {
            Self::Work(state) => state.consumers().refuses(exclusive),
        }
    }

    /// Whether an auto-delete queue has served its time: it had a consumer and has none.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Work(state) => state.is_abandoned(),
        }
    }

    /// Whether a message published now would go to a consumer at once (`immediate`).
    pub fn has_taker(&self) -> bool {
        match self {
            Self::Work(state) => state.has_taker(),
        }
    }

    /// How many messages wait.
    pub fn ready_len(&self) -> u64 {
        match self {
            Self::Work(state) => state.ready_len(),
        }
    }

    /// How many messages are unacknowledged.
    pub fn unacked_len(&self) -> u64 {
        match self {
            Self::Work(state) => state.unacked_len(),
        }
    }

    /// Octets of the messages that wait.
    pub fn ready_bytes(&self) -> u64 {
        match self {
            Self::Work(state) => state.ready_bytes(),
        }
    }

    /// When this queue has to be looked at although nobody uses it. Answered once for each time.
    pub fn new_deadline_ms(&mut self, store: &Store) -> Option<u64> {
        match self {
            Self::Work(state) => state.new_deadline_ms(store),
        }
    }

    /// That time has come. Answers whether the queue itself is to go.
    pub fn deadline_came(&mut self, now_ms: u64) -> bool {
        match self {
            Self::Work(state) => state.deadline_came(now_ms),
        }
    }

    /// Somebody used the queue (`x-expires` counts from here).
    pub fn used(&mut self, now_ms: u64) {
        match self {
            Self::Work(state) => state.used(now_ms),
        }
    }

    /// Ids of a level's unacknowledged durable messages: what a purge must keep.
    pub fn unacked_ids(&self, level: Level) -> Vec<MessageId> {
        match self {
            Self::Work(state) => state.unacked_ids(level),
        }
    }

    /// The levels that may have something in the store.
    pub fn levels(&self) -> BTreeSet<Level> {
        match self {
            Self::Work(state) => state.levels(),
        }
    }

    /// Which durable messages of a level were delivered before, for the note of a clean stop.
    pub fn seen_before(&self, level: Level) -> SeenBefore {
        match self {
            Self::Work(state) => state.seen_before(level),
        }
    }

    /// What of a level lives in one log file, in the queue's order.
    pub fn alive_in(&self, span: &LogSpan, level: Level, durable: bool) -> Vec<Settling> {
        match self {
            Self::Work(state) => state.alive_in(span, level, durable),
        }
    }

    /// What [`Self::alive_in`] answered has been copied to `moved` and is in the segments now.
    pub fn settled(&mut self, level: Level, durable: bool, moved: BTreeMap<MessageId, Place>) {
        match self {
            Self::Work(state) => state.settled(level, durable, moved),
        }
    }

    /// Whether messages were put aside to save memory.
    pub fn has_put_aside(&self) -> bool {
        match self {
            Self::Work(state) => state.has_put_aside(),
        }
    }

    /// The segment files of a level, for durable or put-aside messages.
    pub fn segments_mut(&mut self, level: Level, durable: bool) -> &mut Option<Segments> {
        match self {
            Self::Work(state) => state.segments_mut(level, durable),
        }
    }
}
