//! One queue: what waits, what is unacknowledged, who consumes, and whose turn it is.
//!
//! [`QueueState`] is the rule, a state machine without lock, clock or socket: whoever holds the queue's lock
//! calls it and hands in a [`Courier`], which carries messages to consumers and knows the store. After every
//! call one of two things holds: nothing waits, or no consumer can take it.
//!
//! ```text
//!   publish ─► ready ─► deliver ─► unacked ─► ack: gone
//!                ▲                    │
//!                └───── requeue ◄─────┘   (to its old position)
//! ```

mod attempts;
mod browse;
mod consumers;
mod courier;
mod delays;
mod dying;
mod entry;
mod fetch;
mod handed_out;
mod held;
mod late;
mod levels;
mod limits;
mod pause;
mod ready;
mod requests;
mod rule;
mod settle;
pub mod stream;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::Arc;

use hashbrown::HashMap;
use leveret_store::{MessageId, Place, ReadError, Store};

pub use attempts::Attempts;
use attempts::Returned;
pub use browse::{Browsed, Section};
pub use consumers::{Activity, Consumer, ConsumerKey, Consumers, SeenConsumer};
pub use courier::{Courier, Handed};
pub use delays::{DelayState, Due, Leaving};
use dying::Dying;
pub use entry::{Aftermath, Content, Dead, DeathReason, Ended, Entry, Incoming, Note, Pos, Stored};
pub use fetch::Fetched;
pub use handed_out::HandedOut;
pub use held::Held;
pub use late::LateConsumer;
pub use levels::{Level, Levels, level_of, number_of, pos_at};
use ready::Taken;
pub use ready::{Ready, SeenBefore};
pub use requests::{Orphans, RequestCare};
pub use rule::Rule;
pub use settle::Settling;
pub use stream::StreamState;

use crate::message::{Message, MessageView};
use crate::settings::Settings;
use crate::stamp::NEVER_MS;

#[derive(Debug)]
struct Unacked {
    entry: Entry,
    holder: Option<ConsumerKey>,
    delivered_at_ms: u64,
}

/// The rule of one queue. `P` is how messages reach a consumer.
#[derive(Debug)]
pub struct QueueState<P> {
    ready: Levels,
    unacked: HashMap<Pos, Unacked>,
    unacked_held: Held,
    /// Messages that came back, where that is counted.
    returned: Returned,
    /// Messages given up whose dead letter nobody has taken yet.
    dying: Dying,
    consumers: Consumers<P>,
    settings: Arc<Settings>,
    next_number: u64,
    /// Messages for which no consumer was free when they arrived.
    waited: u64,
    had_consumer: bool,
    /// Some message here has, or may have, a limited time to wait.
    expires: bool,
    deadline_ms: u64,
    used_at_ms: u64,
    /// No delivery is late before.
    late_from_ms: u64,
    /// Something else than a message's own time may make this queue be looked at: its own, a retry, a late consumer.
    is_timed: bool,
    /// Nothing is handed out.
    is_paused: bool,
}

impl<P> Default for QueueState<P> {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl<P> QueueState<P> {
    /// A new queue.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self::recovered(settings, Levels::default(), 1)
    }

    /// A queue as a restart found it; new messages are numbered from `next_number` on.
    pub fn recovered(settings: Arc<Settings>, ready: Levels, next_number: u64) -> Self {
        let expires = settings.message_ttl_ms.is_some() || !ready.is_empty();
        let is_timed = settings.expires_ms.is_some();
        Self {
            ready,
            unacked: HashMap::new(),
            unacked_held: Held::default(),
            returned: Returned::default(),
            dying: Dying::default(),
            consumers: Consumers::new(settings.single_active_consumer),
            settings,
            next_number,
            waited: 0,
            had_consumer: false,
            expires,
            deadline_ms: NEVER_MS,
            used_at_ms: NEVER_MS,
            late_from_ms: NEVER_MS,
            is_timed,
            is_paused: false,
        }
    }

    /// What an earlier life of the process noted of messages that came back.
    #[must_use]
    pub fn with_attempts(self, attempts: HashMap<MessageId, Attempts>) -> Self {
        Self { returned: Returned::recovered(attempts), ..self }
    }

    /// A message arrives; `false` when the queue is full and its overflow rule is to refuse. What ended at once,
    /// because it was refused, its consumer does not acknowledge or it made room, is added to `aftermath`.
    pub fn publish(
        &mut self,
        incoming: &mut Incoming<'_>,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<bool, ReadError> {
        if self.refuses(incoming) {
            self.refuse(incoming, courier, aftermath);
            return Ok(false);
        }
        let pos = pos_at(incoming.level, self.next_number);
        self.next_number += 1;
        if self.has_taker() && self.gives_up_request(pos, incoming, courier, aftermath)? {
            return Ok(true);
        }
        // By the invariant a consumer in the ring means that nothing waits before this message.
        while let Some(key) = self.next_taker() {
            match self.hand(key, pos, false, incoming.view, courier) {
                Some(true) => {
                    aftermath.ended.extend(incoming.ended());
                    return Ok(true);
                }
                Some(false) => {
                    let entry = self.new_entry(pos, incoming, false, courier);
                    self.delivered(pos, entry, Some(key), courier.now_ms());
                    return Ok(true);
                }
                None => {}
            }
        }
        let entry = self.new_entry(pos, incoming, true, courier);
        // `expiration` 0 means now or never. RabbitMQ drops it when it gets to the head, which tells nobody anything.
        if entry.expires_at_ms <= courier.now_ms() {
            aftermath.dead.push(self.give_up((entry, None), DeathReason::Expired, courier)?);
            return Ok(true);
        }
        self.waited += 1;
        self.ready.push(entry);
        self.drop_excess(courier, aftermath)?;
        self.expire(courier, aftermath)?;
        Ok(true)
    }

    fn new_entry(
        &mut self,
        pos: Pos,
        incoming: &mut Incoming<'_>,
        waits: bool,
        courier: &mut impl Courier<P>,
    ) -> Entry {
        let size_bytes = incoming.view.size_bytes() as u32;
        let expires_at_ms = incoming.stamp.expires_at_ms(self.settings.message_ttl_ms);
        self.expires |= expires_at_ms != NEVER_MS;
        Entry {
            pos,
            content: courier.keep(incoming, waits),
            size_bytes,
            expires_at_ms,
            redelivered: false,
            may_name_caller: incoming.view.properties.headers().is_some(),
        }
    }

    fn delivered(&mut self, pos: Pos, entry: Entry, holder: Option<ConsumerKey>, now_ms: u64) {
        self.unacked_held.add_entry(&entry);
        self.unacked.insert(pos, Unacked { entry, holder, delivered_at_ms: now_ms });
        if let Some(key) = holder {
            self.expect_settlement(key, now_ms);
        }
    }

    /// Gives up what has waited too long, from the head of each level: what is behind a message without a limit
    /// waits with it, as in RabbitMQ.
    fn expire(&mut self, courier: &mut impl Courier<P>, aftermath: &mut Aftermath) -> Result<(), ReadError> {
        while self.expires
            && let Some(taken) =
                self.ready.take_expired(courier.now_ms(), courier.store(), courier.resident())?
        {
            aftermath.dead.push(self.give_up(taken, DeathReason::Expired, courier)?);
        }
        Ok(())
    }

    /// When this queue has to be looked at although nobody uses it; `None`: never. Answered once for each time.
    pub fn new_deadline_ms(&mut self, store: &Store) -> Option<u64> {
        if !self.expires && !self.is_timed {
            return None;
        }
        let head = if self.expires { self.ready.next_expiry_ms(store).ok().flatten() } else { None };
        let times = [head, self.returned.next_due_ms(), self.dying.next_due_ms()];
        let head = times.into_iter().flatten().min().unwrap_or(NEVER_MS);
        let deadline = head.min(self.unused_until_ms()).min(self.late_from_ms);
        if deadline >= self.deadline_ms {
            return None;
        }
        self.deadline_ms = deadline;
        Some(deadline)
    }

    /// The time that [`Self::new_deadline_ms`] named has come. Answers whether the queue itself is to go, because
    /// nobody has used it for as long as `x-expires` says.
    pub fn deadline_came(&mut self, now_ms: u64) -> bool {
        self.deadline_ms = NEVER_MS;
        if self.used_at_ms == NEVER_MS {
            self.used_at_ms = now_ms; // recovered: its time starts with the process
        }
        self.unused_until_ms() <= now_ms
    }

    /// Somebody declared the queue, fetched from it or stopped consuming from it: a use that `x-expires` counts from.
    pub fn used(&mut self, now_ms: u64) {
        self.used_at_ms = now_ms;
    }

    fn unused_until_ms(&self) -> u64 {
        match self.settings.expires_ms {
            Some(expires_ms) if self.consumers.is_empty() => self.used_at_ms.saturating_add(expires_ms),
            _ => NEVER_MS,
        }
    }

    fn give_up(
        &mut self,
        (entry, read): Taken,
        reason: DeathReason,
        courier: &impl Courier<P>,
    ) -> Result<Dead, ReadError> {
        let is_wanted = match (reason, &self.settings.dead_letters) {
            (DeathReason::Orphaned, own) => own.is_some() && self.settings.requests.buries_orphans(),
            (_, own) => own.is_some() || entry.may_name_caller && courier.bounces(),
        };
        let message = match read.or_else(|| entry.cached().cloned()) {
            None if is_wanted => Some(content_of(&entry, courier)?),
            at_hand => at_hand,
        };
        let redelivered = entry.redelivered;
        if !is_wanted || !self.settings.dead_letters.as_ref().is_some_and(|letters| letters.at_least_once) {
            let ended = self.end(&entry);
            return Ok(Dead { message, is_wanted, ended, reason, redelivered, dying: None });
        }
        let dying = Some(entry.pos);
        self.is_timed = true;
        self.dying.add(uncached(entry), reason);
        Ok(Dead { message, is_wanted, ended: None, reason, redelivered, dying })
    }

    /// Whether a message published now would go to a consumer at once (`immediate`).
    pub fn has_taker(&self) -> bool {
        self.next_taker().is_some()
    }

    /// How many messages found no consumer free when they arrived, since the process began.
    pub fn waited(&self) -> u64 {
        self.waited
    }

    /// Whether nothing waits, and a consumer of priority 0 or above could take a message.
    pub fn is_starving(&self) -> bool {
        let priority = |key| self.consumers.by_key(key).map(|consumer| consumer.priority);
        self.ready.is_empty() && self.next_taker().and_then(priority).is_some_and(|priority| priority >= 0)
    }

    fn next_taker(&self) -> Option<ConsumerKey> {
        if self.is_paused { None } else { self.consumers.next() }
    }

    /// Hands out what waits to those that can take it.
    pub fn pump(
        &mut self,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        self.bring_back(courier.now_ms());
        self.bury_again(courier, aftermath)?;
        self.drop_excess(courier, aftermath)?; // what came back may be too much
        self.expire(courier, aftermath)?;
        while let Some(key) = self.next_taker() {
            let Some((entry, message)) = self.take_ready(courier, aftermath)? else { break };
            match self.hand(key, entry.pos, entry.redelivered, message.view(), courier) {
                Some(true) => aftermath.ended.extend(self.end(&entry)),
                Some(false) => {
                    self.delivered(entry.pos, uncached(entry), Some(key), courier.now_ms());
                }
                None => self.ready.put_back(entry),
            }
            // What was behind it may have waited too long; RabbitMQ looks after every message, too.
            self.expire(courier, aftermath)?; // mutation: expire-next
        }
        Ok(())
    }

    /// The message whose turn it is, as its consumer is to see it. Requests that nobody waits for are given up on the way.
    fn take_ready(
        &mut self,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<Option<(Entry, Arc<Message>)>, ReadError> {
        loop {
            let Some((entry, read)) = self.ready.take(courier.store(), courier.resident())? else {
                return Ok(None);
            };
            let attempts = self.returned.attempts(&entry);
            // Only after a restart: whatever waited is ready then.
            if attempts.due_ms > courier.now_ms() {
                self.is_timed = true;
                self.returned.wait_until(attempts.due_ms.min(entry.expires_at_ms), uncached(entry));
                continue;
            }
            let message = match read {
                Some(message) => message,
                None => content_of(&entry, courier)?,
            };
            if let Some(reason) = self.unwanted(message.view(), courier) {
                aftermath.dead.push(self.give_up((entry, Some(message)), reason, courier)?);
                continue;
            }
            let told = attempts.told(&message.view(), courier.resident());
            return Ok(Some((entry, told.map_or(message, Arc::new))));
        }
    }

    /// Messages whose wait is over are ready again.
    fn bring_back(&mut self, now_ms: u64) {
        while let Some(entry) = self.returned.take_due(now_ms) {
            self.ready.put_back(entry);
        }
    }

    /// `Some(no_ack)` when the consumer took it.
    fn hand(
        &mut self,
        key: ConsumerKey,
        pos: Pos,
        redelivered: bool,
        message: MessageView<'_>,
        courier: &mut impl Courier<P>,
    ) -> Option<bool> {
        let consumer = self.consumers.by_key(key)?;
        let no_ack = consumer.no_ack;
        match courier.deliver(consumer, key, pos, redelivered, message) {
            Handed::Taken => self.consumers.took(key, true),
            Handed::TakenLast => self.consumers.took(key, false),
            Handed::NoRoom => {
                self.consumers.stalled(key);
                return None;
            }
        }
        Some(no_ack)
    }

    /// A delivered message is done with. Unknown positions (the queue was purged of them by its deletion) are
    /// nothing to do.
    pub fn ack(&mut self, pos: Pos) -> Option<Ended> {
        let entry = self.take_unacked(pos)?;
        self.end(&entry)
    }

    /// A delivery is over, however it ended: its consumer has credit for another.
    fn take_unacked(&mut self, pos: Pos) -> Option<Entry> {
        let Unacked { entry, holder, .. } = self.unacked.remove(&pos)?;
        self.unacked_held.remove_entry(&entry);
        if let Some(key) = holder {
            self.consumers.released(key);
        }
        Some(entry)
    }

    /// A delivered message is refused for good.
    pub fn reject(
        &mut self,
        pos: Pos,
        courier: &impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        let Some(entry) = self.take_unacked(pos) else { return Ok(()) };
        aftermath.dead.push(self.give_up((entry, None), DeathReason::Rejected, courier)?);
        Ok(())
    }

    /// A delivered message comes back to its old position, marked as redelivered. `failed`: it was not just
    /// returned unprocessed. Where that is counted it may have to wait, or be given up.
    pub fn requeue(
        &mut self,
        pos: Pos,
        failed: bool,
        courier: &impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        let Some(mut entry) = self.take_unacked(pos) else { return Ok(()) };
        entry.redelivered = true; // mutation: redelivered
        if !self.settings.counts_attempts {
            self.ready.put_back(entry);
            return Ok(());
        }
        self.count_attempt(entry, failed, courier, aftermath)
    }

    fn count_attempt(
        &mut self,
        entry: Entry,
        failed: bool,
        courier: &impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        let attempts = self.returned.count(&entry, failed);
        if self.settings.delivery_limit.is_some_and(|limit| attempts.failed > limit) {
            aftermath.dead.push(self.give_up((entry, None), DeathReason::DeliveryLimit, courier)?);
            return Ok(());
        }
        let delay_ms = self.settings.retry.and_then(|retry| retry.delay_ms(attempts.failed, failed));
        let due_ms = delay_ms.map(|delay_ms| courier.now_ms().saturating_add(delay_ms));
        attempts.due_ms = due_ms.unwrap_or(0);
        if let Some(id) = durable_id(&entry) {
            aftermath.notes.push(Note { id, level: level_of(entry.pos), attempts: Some(*attempts) });
        }
        match due_ms {
            Some(due_ms) => {
                self.is_timed = true;
                self.returned.wait_until(due_ms.min(entry.expires_at_ms), entry);
            }
            None => self.ready.put_back(entry),
        }
        Ok(())
    }

    /// Tells the segments that an entry is over, and answers what the log must be told.
    fn end(&mut self, entry: &Entry) -> Option<Ended> {
        let noted = self.returned.forget(entry);
        let (stored, level) = (entry.stored()?, level_of(entry.pos));
        if let Place::Segment { .. } = stored.place
            && let Some(segments) = self.ready.segments_mut(level, stored.durable)
        {
            segments.ack(stored.place);
        }
        stored.durable.then_some(Ended { id: stored.id, level, noted })
    }

    /// Drops everything that waits; answers how many messages that were.
    pub fn purge(&mut self) -> u64 {
        let (count, mut gone) = self.ready.drain();
        let waiting = self.returned.drain();
        let count = count + waiting.len() as u64;
        gone.extend(waiting);
        for entry in &gone {
            self.end(entry);
        }
        self.returned.retain(|pos| self.unacked.contains_key(&pos));
        count
    }

    /// Adds a consumer; [`Self::pump`] afterwards.
    pub fn add_consumer(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        self.had_consumer = true;
        self.consumers.add(consumer)
    }

    /// Removes a consumer; [`Self::pump`] afterwards. What it has unacknowledged stays so.
    pub fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        self.consumers.remove(key)
    }

    /// Removes all consumers, because the queue is going away.
    pub fn remove_consumers(&mut self) -> Vec<Consumer<P>> {
        self.consumers.remove_all()
    }

    /// A consumer that stalled has room again; [`Self::pump`] afterwards.
    pub fn resume(&mut self, key: ConsumerKey) {
        self.consumers.resumed(key);
    }

    /// The consumers.
    pub fn consumers(&self) -> &Consumers<P> {
        &self.consumers
    }

    /// Whether an auto-delete queue has served its time: it had a consumer and has none.
    pub fn is_abandoned(&self) -> bool {
        self.had_consumer && self.consumers.is_empty()
    }

    /// How many messages wait.
    pub fn ready_len(&self) -> u64 {
        self.ready.len()
    }

    /// How many messages are unacknowledged.
    pub fn unacked_len(&self) -> u64 {
        self.unacked.len() as u64
    }

    /// The messages that wait, for a consumer or for their retry.
    pub fn ready(&self) -> Held {
        self.ready.held()
    }

    /// The messages that were delivered and not settled.
    pub fn unacknowledged(&self) -> Held {
        self.unacked_held
    }

    /// The timestamp of the message whose turn it is, if that is in memory and its publisher gave one, s since 1970.
    pub fn head_timestamp_s(&self) -> Option<u64> {
        self.ready.cached_head()?.view().properties.timestamp()
    }

    /// Octets of the messages that wait.
    pub fn ready_bytes(&self) -> u64 {
        self.ready.size_bytes()
    }

    /// Ids of a level's durable messages that are unacknowledged or dying: what a purge must keep and a clean stop
    /// must note as delivered.
    pub fn unacked_ids(&self, level: Level) -> Vec<MessageId> {
        let held = self.unacked.values().map(|unacked| &unacked.entry).chain(self.dying.iter());
        held.filter(|entry| level_of(entry.pos) == level).filter_map(durable_id).collect()
    }

    /// What the log must be told when an unacknowledged message is acknowledged.
    pub fn would_end(&self, pos: Pos) -> Option<Ended> {
        let id = durable_id(&self.unacked.get(&pos)?.entry)?;
        Some(Ended { id, level: level_of(pos), noted: false })
    }
}

fn durable_id(entry: &Entry) -> Option<MessageId> {
    Some(entry.stored().filter(|stored| stored.durable)?.id)
}

fn content_of<P>(entry: &Entry, courier: &impl Courier<P>) -> Result<Arc<Message>, ReadError> {
    if let Some(message) = entry.cached() {
        return Ok(message.clone());
    }
    let Some(stored) = entry.stored() else { return Err(ReadError::Missing) };
    let payload = courier.read(level_of(entry.pos), stored.place)?;
    Message::from_payload(payload, courier.resident()).map(Arc::new).ok_or(ReadError::Missing)
}

/// An unacknowledged message that the store can read back need not stay in memory.
fn uncached(mut entry: Entry) -> Entry {
    if let Content::Stored(stored) = &mut entry.content {
        stored.cached = None;
    }
    entry
}
