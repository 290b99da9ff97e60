//! What the doors of the broker do with a queue, whatever kind it is.
//!
//! Each kind is a state machine of its own; this is where they meet, so that no operation asks for the kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leveret_store::{LogSpan, MessageId, Place, ReadError, Segments, Store};

use super::consumers::{Consumer, ConsumerKey};
use super::delays::DelayState;
use super::entry::{Aftermath, Ended, Incoming, Pos};
use super::late::LateConsumer;
use super::levels::Level;
use super::limits::excess;
use super::ready::SeenBefore;
use super::stream::StreamState;
use super::{Courier, Fetched, Held, QueueState, SeenConsumer, Settling};
use crate::settings::{QueueKind, Settings};

/// Delayed messages that settle together: how long their queue is locked, and how much memory that takes.
const SETTLING_DELAYED_MAX: usize = 8192;

/// The rule of one queue. `P` is how messages reach a consumer.
#[derive(Debug)]
pub enum Rule<P> {
    /// Messages go when they are consumed: classic and quorum queues.
    Work(QueueState<P>),
    /// Messages stay when they are read.
    Stream(StreamState<P>),
    /// Messages go when their time has come. Nobody consumes.
    Delays(DelayState),
}

impl<P: Clone> Rule<P> {
    /// A new queue.
    pub fn new(kind: QueueKind, settings: Arc<Settings>) -> Self {
        match kind {
            QueueKind::Classic | QueueKind::Quorum | QueueKind::Delayed => {
                Self::Work(QueueState::new(settings))
            }
            QueueKind::Stream => Self::Stream(StreamState::new(settings)),
            QueueKind::Delays => Self::Delays(DelayState::default()),
        }
    }

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
            Self::Delays(state) => Ok(state.publish(incoming, courier)),
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
            Self::Delays(_) => Ok(()),
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
            Self::Stream(_) | Self::Delays(_) => Ok(None),
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
            Self::Delays(_) => None,
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
            Self::Delays(_) => Ok(()),
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
            Self::Delays(_) => Ok(()),
        }
    }

    /// What became of a dead letter; see [`QueueState::buried`].
    pub fn buried(&mut self, pos: Pos, was_taken: bool, now_ms: u64) -> Option<Ended> {
        match self {
            Self::Work(state) => state.buried(pos, was_taken, now_ms),
            Self::Stream(_) | Self::Delays(_) => None,
        }
    }

    /// What the log must be told when an unacknowledged message is acknowledged.
    pub fn would_end(&self, pos: Pos) -> Option<Ended> {
        match self {
            Self::Work(state) => state.would_end(pos),
            Self::Stream(_) | Self::Delays(_) => None,
        }
    }

    /// Drops everything that waits; answers how many messages that were.
    pub fn purge(&mut self) -> u64 {
        match self {
            Self::Work(state) => state.purge(),
            Self::Stream(_) => 0,
            Self::Delays(state) => state.purge(),
        }
    }

    /// Adds a consumer; [`Self::pump`] afterwards.
    pub fn add_consumer(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        match self {
            Self::Work(state) => state.add_consumer(consumer),
            Self::Stream(state) => state.add_consumer(consumer),
            Self::Delays(_) => 0, // it refuses consumers, so this names none
        }
    }

    /// Removes a consumer; [`Self::pump`] afterwards. What it has unacknowledged stays so.
    pub fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        match self {
            Self::Work(state) => state.remove_consumer(key),
            Self::Stream(state) => state.remove_consumer(key),
            Self::Delays(_) => None,
        }
    }

    /// Removes all consumers, because the queue is going away.
    pub fn remove_consumers(&mut self) -> Vec<Consumer<P>> {
        match self {
            Self::Work(state) => state.remove_consumers(),
            Self::Stream(state) => state.remove_consumers(),
            Self::Delays(_) => Vec::new(),
        }
    }

    /// A consumer that stalled has room again; [`Self::pump`] afterwards.
    pub fn resume(&mut self, key: ConsumerKey) {
        match self {
            Self::Work(state) => state.resume(key),
            Self::Stream(state) => state.resume(key),
            Self::Delays(_) => {}
        }
    }

    /// Each consumer, in no order.
    pub fn each_consumer<'a>(&'a self, see: &mut dyn FnMut(SeenConsumer<'a, P>)) {
        match self {
            Self::Work(state) => state.consumers().each(see),
            Self::Stream(state) => state.each_consumer(see),
            Self::Delays(_) => {}
        }
    }

    /// The messages that wait.
    pub fn ready(&self) -> Held {
        match self {
            Self::Work(state) => state.ready(),
            Self::Stream(state) => state.held(),
            Self::Delays(state) => state.held(),
        }
    }

    /// The messages that were delivered and not settled.
    pub fn unacknowledged(&self) -> Held {
        match self {
            Self::Work(state) => state.unacknowledged(),
            Self::Stream(state) => Held { messages: state.in_flight(), ..Held::default() },
            Self::Delays(_) => Held::default(),
        }
    }

    /// See [`QueueState::head_timestamp_s`].
    pub fn head_timestamp_s(&self) -> Option<u64> {
        match self {
            Self::Work(state) => state.head_timestamp_s(),
            Self::Stream(_) | Self::Delays(_) => None,
        }
    }

    /// How many consumers there are.
    pub fn consumer_count(&self) -> usize {
        match self {
            Self::Work(state) => state.consumers().len(),
            Self::Stream(state) => state.consumer_count(),
            Self::Delays(_) => 0,
        }
    }

    /// Whether a consumer is still here.
    pub fn has_consumer(&self, key: ConsumerKey) -> bool {
        match self {
            Self::Work(state) => state.consumers().contains(key),
            Self::Stream(state) => state.has_consumer(key),
            Self::Delays(_) => false,
        }
    }

    /// Whether another consumer must be refused because of an exclusive one, itself included.
    pub fn refuses_consumer(&self, exclusive: bool) -> bool {
        match self {
            Self::Work(state) => state.consumers().refuses(exclusive),
            Self::Stream(_) => false,
            Self::Delays(_) => true,
        }
    }

    /// Whether an auto-delete queue has served its time: it had a consumer and has none.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Work(state) => state.is_abandoned(),
            Self::Stream(_) | Self::Delays(_) => false,
        }
    }

    /// Whether a message published now would go to a consumer at once (`immediate`).
    pub fn has_taker(&self) -> bool {
        match self {
            Self::Work(state) => state.has_taker(),
            Self::Stream(_) => true,
            Self::Delays(_) => false,
        }
    }

    /// How many messages found no consumer free when they arrived, since the process began.
    pub fn waited(&self) -> u64 {
        match self {
            Self::Work(state) => state.waited(),
            Self::Stream(_) | Self::Delays(_) => 0,
        }
    }

    /// Whether a consumer of priority 0 or above could take a message and there is none: whoever brings messages from
    /// elsewhere brings them now. Consumers below 0 are such bringers themselves.
    pub fn is_starving(&self) -> bool {
        match self {
            Self::Work(state) => state.is_starving(),
            Self::Stream(_) | Self::Delays(_) => false,
        }
    }

    /// How many messages wait.
    pub fn ready_len(&self) -> u64 {
        match self {
            Self::Work(state) => state.ready_len(),
            Self::Stream(state) => state.len(),
            Self::Delays(state) => state.len(),
        }
    }

    /// How many messages are unacknowledged.
    pub fn unacked_len(&self) -> u64 {
        match self {
            Self::Work(state) => state.unacked_len(),
            Self::Stream(state) => state.in_flight(),
            Self::Delays(_) => 0,
        }
    }

    /// Octets of the messages that wait.
    pub fn ready_bytes(&self) -> u64 {
        match self {
            Self::Work(state) => state.ready_bytes(),
            Self::Stream(state) => state.size_bytes(),
            Self::Delays(state) => state.size_bytes(),
        }
    }

    /// Other settings are in force from now on; [`Self::drop_excess`] afterwards.
    pub fn apply(&mut self, settings: Arc<Settings>, now_ms: u64) {
        match self {
            Self::Work(state) => state.apply(settings, now_ms),
            Self::Stream(state) => state.apply(settings),
            Self::Delays(_) => {}
        }
    }

    /// Gives up what is more than the limits allow.
    pub fn drop_excess(
        &mut self,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        match self {
            Self::Work(state) => state.drop_excess(courier, aftermath),
            Self::Stream(state) => state.trim(courier.now_ms(), courier.store()),
            Self::Delays(_) => Ok(()),
        }
    }

    /// How many messages [`Self::drop_excess`] would give up under other settings; where octets are limited, an
    /// estimate. What would be too old in a stream does not count.
    pub fn excess(&self, settings: &Settings) -> u64 {
        excess(self.ready_len(), self.ready_bytes(), settings)
    }

    /// The consumers that have kept a delivery for too long.
    pub fn late_consumers(&mut self, now_ms: u64) -> Vec<LateConsumer> {
        match self {
            Self::Work(state) => state.late_consumers(now_ms),
            Self::Stream(_) | Self::Delays(_) => Vec::new(),
        }
    }

    /// The consumer behind a key of [`Self::late_consumers`].
    pub fn consumer(&self, key: ConsumerKey) -> Option<&Consumer<P>> {
        match self {
            Self::Work(state) => state.consumers().by_key(key),
            Self::Stream(_) | Self::Delays(_) => None,
        }
    }

    /// When this queue has to be looked at although nobody uses it. Answered once for each time.
    pub fn new_deadline_ms(&mut self, store: &Store) -> Option<u64> {
        match self {
            Self::Work(state) => state.new_deadline_ms(store),
            Self::Stream(state) => state.new_deadline_ms(store),
            Self::Delays(state) => state.new_deadline_ms(),
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
            Self::Delays(state) => {
                state.deadline_came();
                false
            }
        }
    }

    /// Somebody used the queue (`x-expires` counts from here).
    pub fn used(&mut self, now_ms: u64) {
        match self {
            Self::Work(state) => state.used(now_ms),
            Self::Stream(_) | Self::Delays(_) => {}
        }
    }

    /// Ids of a level's unacknowledged durable messages: what a purge must keep.
    pub fn unacked_ids(&self, level: Level) -> Vec<MessageId> {
        match self {
            Self::Work(state) => state.unacked_ids(level),
            Self::Stream(_) => Vec::new(),
            Self::Delays(state) => state.leaving_ids(),
        }
    }

    /// The levels that may have something in the store.
    pub fn levels(&self) -> BTreeSet<Level> {
        match self {
            Self::Work(state) => state.levels(),
            Self::Stream(_) | Self::Delays(_) => BTreeSet::from([0]),
        }
    }

    /// Which durable messages of a level were delivered before, for the note of a clean stop.
    pub fn seen_before(&self, level: Level) -> SeenBefore {
        match self {
            Self::Work(state) => state.seen_before(level),
            Self::Stream(_) | Self::Delays(_) => SeenBefore::default(),
        }
    }

    /// What of a level lives in one log file, in the queue's order; perhaps a portion of it, and `after` says what the
    /// last one ended with. An empty one is the last.
    pub fn alive_in(
        &mut self,
        span: &LogSpan,
        level: Level,
        durable: bool,
        after: Option<&Settling>,
    ) -> Vec<Settling> {
        match self {
            Self::Work(_) if after.is_some() => Vec::new(),
            Self::Work(state) => state.alive_in(span, level, durable),
            Self::Stream(state) if durable && after.is_none() => state.alive_in(span),
            Self::Stream(_) => Vec::new(),
            Self::Delays(state) => {
                state.alive_in(span, durable, after.map(Settling::due), SETTLING_DELAYED_MAX)
            }
        }
    }

    /// What [`Self::alive_in`] answered has been copied and is in the segments now.
    pub fn settled(&mut self, level: Level, durable: bool, moved: Vec<(Settling, Place)>) {
        match self {
            Self::Work(state) => state.settled(level, durable, by_id(moved)),
            Self::Stream(state) => state.settled(&by_id(moved)),
            Self::Delays(state) => state.settled(durable, moved),
        }
    }

    /// Whether messages were put aside to save memory.
    pub fn has_put_aside(&self) -> bool {
        match self {
            Self::Work(state) => state.has_put_aside(),
            Self::Stream(_) => false,
            Self::Delays(state) => state.has_put_aside(),
        }
    }

    /// The segment files of a level, for durable or put-aside messages.
    pub fn segments_mut(&mut self, level: Level, durable: bool) -> &mut Option<Segments> {
        match self {
            Self::Work(state) => state.segments_mut(level, durable),
            Self::Stream(state) => state.segments_mut(durable),
            Self::Delays(state) => state.segments_mut(durable),
        }
    }

    /// The rule of a queue whose messages go when they are consumed, for what only those do.
    pub fn work(&mut self) -> Option<&mut QueueState<P>> {
        match self {
            Self::Work(state) => Some(state),
            Self::Stream(_) | Self::Delays(_) => None,
        }
    }

    /// The rule of a stream, for what only streams do.
    pub fn stream(&mut self) -> Option<&mut StreamState<P>> {
        match self {
            Self::Work(_) | Self::Delays(_) => None,
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

fn by_id(moved: Vec<(Settling, Place)>) -> BTreeMap<MessageId, Place> {
    moved.into_iter().map(|(settling, place)| (settling.id, place)).collect()
}
