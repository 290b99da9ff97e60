//! What the doors of the broker do with a queue, whatever kind it is.
//!
//! Each kind is a state machine of its own; this is where they meet, so that no operation asks for the kind.

use std::collections::{BTreeMap, BTreeSet};

use leveret_store::{LogSpan, MessageId, Place, ReadError, Segments, Store};

use super::consumers::{Consumer, ConsumerKey};
use super::entry::{Aftermath, Ended, Incoming, Pos};
use super::levels::Level;
use super::ready::SeenBefore;
use super::stream::StreamState;
use super::{Courier, Fetched, QueueState, Settling};

/// The rule of one queue. `P` is how messages reach a consumer.
#[derive(Debug)]
pub enum Rule<P> {
    /// Messages go when they are consumed: classic and quorum queues.
    Work(QueueState<P>),
    /// Messages stay when they are read.
    Stream(StreamState<P>),
}

impl<P: Clone> Rule<P> {
    /// A message arrives; see [`QueueState::publish`].
    pub fn publish(
        &mut self,
        incoming: &mut Incoming<'_>,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<bool, ReadError> {
        match self {
            Self::Work(state) => state.publish(incoming, courier, aftermath),
            Self::Stream(state) => publish_to_stream(state, incoming, courier),
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
            Self::Stream(state) => state.trim(courier.now_ms(), courier.store()),
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
            Self::Stream(_) => Ok(None),
        }
    }

    /// A delivered message is done with.
    pub fn ack(&mut self, pos: Pos) -> Option<Ended> {
        match self {
            Self::Work(state) => state.ack(pos),
            Self::Stream(state) => {
                state.released(pos);
                None
            }
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
            Self::Stream(state) => {
                state.released(pos);
                Ok(())
            }
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
            Self::Stream(state) => {
                state.released(pos);
                Ok(())
            }
        }
    }

    /// What became of a dead letter; see [`QueueState::buried`].
    pub fn buried(&mut self, pos: Pos, was_taken: bool, now_ms: u64) -> Option<Ended> {
        match self {
            Self::Work(state) => state.buried(pos, was_taken, now_ms),
            Self::Stream(_) => None,
        }
    }

    /// What the log must be told when an unacknowledged message is acknowledged.
    pub fn would_end(&self, pos: Pos) -> Option<Ended> {
        match self {
            Self::Work(state) => state.would_end(pos),
            Self::Stream(_) => None,
        }
    }

    /// Drops everything that waits; answers how many messages that were.
    pub fn purge(&mut self) -> u64 {
        match self {
            Self::Work(state) => state.purge(),
            Self::Stream(_) => 0,
        }
    }

    /// Adds a consumer; [`Self::pump`] afterwards.
    pub fn add_consumer(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        match self {
            Self::Work(state) => state.add_consumer(consumer),
            Self::Stream(state) => state.add_consumer(consumer),
        }
    }

    /// Removes a consumer; [`Self::pump`] afterwards. What it has unacknowledged stays so.
    pub fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        match self {
            Self::Work(state) => state.remove_consumer(key),
            Self::Stream(state) => state.remove_consumer(key),
        }
    }

    /// Removes all consumers, because the queue is going away.
    pub fn remove_consumers(&mut self) -> Vec<Consumer<P>> {
        match self {
            Self::Work(state) => state.remove_consumers(),
            Self::Stream(state) => state.remove_consumers(),
        }
    }

    /// A consumer that stalled has room again; [`Self::pump`] afterwards.
    pub fn resume(&mut self, key: ConsumerKey) {
        match self {
            Self::Work(state) => state.resume(key),
            Self::Stream(state) => state.resume(key),
        }
    }

    /// How many consumers there are.
    pub fn consumer_count(&self) -> usize {
        match self {
            Self::Work(state) => state.consumers().len(),
            Self::Stream(state) => state.consumer_count(),
        }
    }

    /// Whether a consumer is still here.
    pub fn has_consumer(&self, key: ConsumerKey) -> bool {
        match self {
            Self::Work(state) => state.consumers().contains(key),
            Self::Stream(state) => state.has_consumer(key),
        }
    }

    /// Whether another consumer must be refused because of an exclusive one, itself included.
    pub fn refuses_consumer(&self, exclusive: bool) -> bool {
        match self {
            Self::Work(state) => state.consumers().refuses(exclusive),
            Self::Stream(_) => false,
        }
    }

    /// Whether an auto-delete queue has served its time: it had a consumer and has none.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Work(state) => state.is_abandoned(),
            Self::Stream(_) => false,
        }
    }

    /// Whether a message published now would go to a consumer at once (`immediate`).
    pub fn has_taker(&self) -> bool {
        match self {
            Self::Work(state) => state.has_taker(),
            Self::Stream(_) => true,
        }
    }

    /// How many messages wait.
    pub fn ready_len(&self) -> u64 {
        match self {
            Self::Work(state) => state.ready_len(),
            Self::Stream(state) => state.len(),
        }
    }

    /// How many messages are unacknowledged.
    pub fn unacked_len(&self) -> u64 {
        match self {
            Self::Work(state) => state.unacked_len(),
            Self::Stream(state) => state.in_flight(),
        }
    }

    /// Octets of the messages that wait.
    pub fn ready_bytes(&self) -> u64 {
        match self {
            Self::Work(state) => state.ready_bytes(),
            Self::Stream(state) => state.size_bytes(),
        }
    }

    /// When this queue has to be looked at although nobody uses it. Answered once for each time.
    pub fn new_deadline_ms(&mut self, store: &Store) -> Option<u64> {
        match self {
            Self::Work(state) => state.new_deadline_ms(store),
            Self::Stream(state) => state.new_deadline_ms(store),
        }
    }

    /// That time has come. Answers whether the queue itself is to go.
    pub fn deadline_came(&mut self, now_ms: u64) -> bool {
        match self {
            Self::Work(state) => state.deadline_came(now_ms),
            Self::Stream(state) => {
                state.deadline_came();
                false
            }
        }
    }

    /// Somebody used the queue (`x-expires` counts from here).
    pub fn used(&mut self, now_ms: u64) {
        match self {
            Self::Work(state) => state.used(now_ms),
            Self::Stream(_) => {}
        }
    }

    /// Ids of a level's unacknowledged durable messages: what a purge must keep.
    pub fn unacked_ids(&self, level: Level) -> Vec<MessageId> {
        match self {
            Self::Work(state) => state.unacked_ids(level),
            Self::Stream(_) => Vec::new(),
        }
    }

    /// The levels that may have something in the store.
    pub fn levels(&self) -> BTreeSet<Level> {
        match self {
            Self::Work(state) => state.levels(),
            Self::Stream(_) => BTreeSet::from([0]),
        }
    }

    /// Which durable messages of a level were delivered before, for the note of a clean stop.
    pub fn seen_before(&self, level: Level) -> SeenBefore {
        match self {
            Self::Work(state) => state.seen_before(level),
            Self::Stream(_) => SeenBefore::default(),
        }
    }

    /// What of a level lives in one log file, in the queue's order.
    pub fn alive_in(&mut self, span: &LogSpan, level: Level, durable: bool) -> Vec<Settling> {
        match self {
            Self::Work(state) => state.alive_in(span, level, durable),
            Self::Stream(state) if durable => state.alive_in(span),
            Self::Stream(_) => Vec::new(),
        }
    }

    /// What [`Self::alive_in`] answered has been copied to `moved` and is in the segments now.
    pub fn settled(&mut self, level: Level, durable: bool, moved: BTreeMap<MessageId, Place>) {
        match self {
            Self::Work(state) => state.settled(level, durable, moved),
            Self::Stream(state) => state.settled(&moved),
        }
    }

    /// Whether messages were put aside to save memory.
    pub fn has_put_aside(&self) -> bool {
        match self {
            Self::Work(state) => state.has_put_aside(),
            Self::Stream(_) => false,
        }
    }

    /// The segment files of a level, for durable or put-aside messages.
    pub fn segments_mut(&mut self, level: Level, durable: bool) -> &mut Option<Segments> {
        match self {
            Self::Work(state) => state.segments_mut(level, durable),
            Self::Stream(state) => state.segments_mut(durable),
        }
    }

    /// The rule of a stream, for what only streams do.
    pub fn stream(&mut self) -> Option<&mut StreamState<P>> {
        match self {
            Self::Work(_) => None,
            Self::Stream(state) => Some(state),
        }
    }
}

/// A stream takes whatever the log has; everything in it is logged.
fn publish_to_stream<P: Clone>(
    state: &mut StreamState<P>,
    incoming: &Incoming<'_>,
    courier: &impl Courier<P>,
) -> Result<bool, ReadError> {
    let Some((id, _)) = incoming.logged else { return Ok(false) };
    let size_bytes = incoming.view.size_bytes() as u32;
    state.append((id, size_bytes), incoming.stamp.published_at_ms, courier.store())?;
    Ok(true)
}
