//! The consumers of one queue and whose turn it is.
//!
//! Consumers that can take a message stand in rings, one for each priority, and are served in turn; a lower
//! priority has its turn when nobody above it can take anything. One that has its prefetch in flight, or whose
//! connection has no room, leaves its ring and comes back when something was acknowledged or written out. So a
//! message never looks at a consumer that cannot take it.
//!
//! ```text
//!   priority 5   ─► c ─► d ─┐        front of the highest ring that is not empty: next
//!                └──────────┘
//!   priority 0   ─► a ─► b ─► e ─┐   out of the rings: no credit, no room, or not the single active one
//!                └───────────────┘
//! ```
//!
//! Where only a single consumer may be active, the others stand in no ring until it is gone.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use leveret_wire::FieldTable;

use super::stream::Reading;

/// Names a consumer within its queue; never reused there.
pub type ConsumerKey = u64;

/// One consumer. `P` is how messages reach it.
#[derive(Clone, Debug)]
pub struct Consumer<P> {
    /// Its tag on its channel.
    pub tag: Arc<str>,
    /// It acknowledges nothing: a delivery is the end of a message.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// How many unacknowledged messages it may have; 0 = any number.
    pub prefetch: u32,
    /// Higher ones are served first (`x-priority`).
    pub priority: i64,
    /// How it reads, where the queue is a stream.
    pub reading: Option<Arc<Reading>>,
    /// How long it may keep a delivery unacknowledged, ms; 0: for ever, `None`: as its queue says.
    pub timeout_ms: Option<u64>,
    /// How messages reach it.
    pub port: P,
    /// What it was started with, for whoever looks.
    pub arguments: FieldTable,
    in_flight: u32,
    in_ring: bool,
    stalled: bool,
}

impl<P> Consumer<P> {
    /// A consumer of priority 0 that has nothing in flight.
    pub fn new(tag: Arc<str>, no_ack: bool, exclusive: bool, prefetch: u32, port: P) -> Self {
        let (priority, timeout_ms, reading) = (0, None, None);
        let (in_flight, in_ring, stalled) = (0, false, false);
        let arguments = FieldTable::default();
        Self {
            tag,
            no_ack,
            exclusive,
            prefetch,
            priority,
            reading,
            timeout_ms,
            port,
            arguments,
            in_flight,
            in_ring,
            stalled,
        }
    }

    /// The same consumer, of a stream.
    #[must_use]
    pub fn with_reading(self, reading: Option<Reading>) -> Self {
        Self { reading: reading.map(Arc::new), ..self }
    }

    /// The same consumer with another priority.
    #[must_use]
    pub fn with_priority(self, priority: i64) -> Self {
        Self { priority, ..self }
    }

    /// The same consumer with a time limit of its own.
    #[must_use]
    pub fn with_timeout(self, timeout_ms: Option<u64>) -> Self {
        Self { timeout_ms, ..self }
    }

    /// The same consumer, started with these arguments.
    #[must_use]
    pub fn with_arguments(self, arguments: FieldTable) -> Self {
        Self { arguments, ..self }
    }

    fn has_credit(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.in_flight < self.prefetch
    }
}

/// Whether a consumer is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is, beside others.
    Served,
    /// It is, and nobody else (`x-single-active-consumer`).
    SingleActive,
    /// It waits until the single active one is gone.
    Waiting,
}

/// A consumer as others see it.
#[derive(Clone, Copy, Debug)]
pub struct SeenConsumer<'a, P> {
    /// Its name in its queue.
    pub key: ConsumerKey,
    /// The consumer.
    pub consumer: &'a Consumer<P>,
    /// What it has and has not settled.
    pub in_flight: u32,
    /// Whether it is served.
    pub activity: Activity,
}

/// All consumers of a queue.
#[derive(Debug)]
pub struct Consumers<P> {
    /// Each in a box: most queues have one, and a table has room for three from the start.
    all: HashMap<ConsumerKey, Box<Consumer<P>>>,
    /// Highest priority first; one for each priority that was seen.
    rings: Vec<Ring>,
    serving: Serving,
    /// One that was ever here has a time of its own to acknowledge in.
    have_timeouts: bool,
    next_key: ConsumerKey,
}

#[derive(Debug)]
struct Ring {
    priority: i64,
    turns: VecDeque<ConsumerKey>,
}

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    All,
    /// Only this one (`x-single-active-consumer`); nobody when there is no consumer.
    Single(Option<ConsumerKey>),
}

impl<P> Consumers<P> {
    /// No consumer yet; with `single_active` only one of those to come is served at a time.
    pub fn new(single_active: bool) -> Self {
        let serving = if single_active { Serving::Single(None) } else { Serving::All };
        Self { all: HashMap::new(), rings: Vec::new(), serving, have_timeouts: false, next_key: 1 }
    }

    /// Adds a consumer at the end of its ring.
    pub fn add(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        let key = self.next_key;
        self.next_key += 1;
        if let Err(at) = self.ring_at(consumer.priority) {
            self.rings.reserve_exact(1); // most queues only ever see one priority
            self.rings.insert(at, Ring { priority: consumer.priority, turns: VecDeque::new() });
        }
        self.have_timeouts |= consumer.timeout_ms.is_some();
        self.all.insert(key, Box::new(consumer));
        if self.serving == Serving::Single(None) {
            self.serving = Serving::Single(Some(key));
        }
        self.enter_ring(key);
        key
    }

    /// Takes a consumer out for good. If it was the single active one, the next in line takes over.
    pub fn remove(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        let consumer = *self.all.remove(&key)?;
        if consumer.in_ring
            && let Ok(at) = self.ring_at(consumer.priority)
        {
            self.rings[at].turns.retain(|other| *other != key);
        }
        if !self.all.values().any(|other| other.priority == consumer.priority) {
            self.rings.retain(|ring| ring.priority != consumer.priority);
        }
        if self.serving == Serving::Single(Some(key)) {
            self.activate_next();
        }
        Some(consumer)
    }

    /// Takes all of them out.
    pub fn remove_all(&mut self) -> Vec<Consumer<P>> {
        self.rings.clear();
        if let Serving::Single(active) = &mut self.serving {
            *active = None;
        }
        self.all.drain().map(|(_, consumer)| *consumer).collect()
    }

    /// Whether any consumer may have a time of its own to acknowledge in (`x-consumer-timeout`).
    pub fn have_timeouts(&self) -> bool {
        self.have_timeouts
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether `key` is still here.
    pub fn contains(&self, key: ConsumerKey) -> bool {
        self.all.contains_key(&key)
    }

    /// Whether another consumer must be refused, or, if it wants to be `exclusive`, must be refused because it
    /// could not be the only one. Where a single one is active nobody can have the queue for itself.
    pub fn refuses(&self, exclusive: bool) -> bool {
        match self.serving {
            Serving::Single(_) => exclusive,
            Serving::All => {
                exclusive && !self.all.is_empty() || self.all.values().any(|consumer| consumer.exclusive)
            }
        }
    }

    /// Whose turn it is, if anybody can take a message.
    pub fn next(&self) -> Option<ConsumerKey> {
        self.rings.iter().find_map(|ring| ring.turns.front().copied())
    }

    /// The consumer behind a key.
    pub fn by_key(&self, key: ConsumerKey) -> Option<&Consumer<P>> {
        self.all.get(&key).map(|consumer| &**consumer)
    }

    /// Each of them, in no order.
    pub fn each<'a>(&'a self, see: &mut dyn FnMut(SeenConsumer<'a, P>)) {
        for (key, consumer) in &self.all {
            let activity = match self.serving {
                Serving::All => Activity::Served,
                Serving::Single(active) if active == Some(*key) => Activity::SingleActive,
                Serving::Single(_) => Activity::Waiting,
            };
            see(SeenConsumer { key: *key, consumer, in_flight: consumer.in_flight, activity });
        }
    }

    /// The one whose turn it was took a message: its turn is over.
    pub fn took(&mut self, key: ConsumerKey, has_room: bool) {
        self.leave_ring(key);
        if let Some(consumer) = self.all.get_mut(&key) {
            if !consumer.no_ack {
                consumer.in_flight += 1;
            }
            consumer.stalled = !has_room;
        }
        self.enter_ring(key);
    }

    /// The one whose turn it was had no room after all.
    pub fn stalled(&mut self, key: ConsumerKey) {
        self.leave_ring(key);
        if let Some(consumer) = self.all.get_mut(&key) {
            consumer.stalled = true;
        }
    }

    /// A stalled consumer has room again.
    pub fn resumed(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.all.get_mut(&key) {
            consumer.stalled = false;
        }
        self.enter_ring(key);
    }

    /// A message that was in flight to `key` is settled.
    pub fn released(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.all.get_mut(&key) {
            consumer.in_flight = consumer.in_flight.saturating_sub(1);
        }
        self.enter_ring(key);
    }

    /// Highest priority first, then whoever came first, as in RabbitMQ.
    fn activate_next(&mut self) {
        let next = self.all.iter().min_by_key(|(key, consumer)| (Reverse(consumer.priority), **key));
        let active = next.map(|(key, _)| *key);
        self.serving = Serving::Single(active);
        if let Some(key) = active {
            self.enter_ring(key);
        }
    }

    fn is_served(&self, key: ConsumerKey) -> bool {
        match self.serving {
            Serving::All => true,
            Serving::Single(active) => active == Some(key),
        }
    }

    fn enter_ring(&mut self, key: ConsumerKey) {
        let is_served = self.is_served(key);
        let Some(consumer) = self.all.get_mut(&key) else { return };
        if !is_served || consumer.in_ring || consumer.stalled || !consumer.has_credit() {
            return;
        }
        consumer.in_ring = true;
        let priority = consumer.priority;
        if let Ok(at) = self.ring_at(priority) {
            self.rings[at].turns.push_back(key);
        }
    }

    /// Only ever called for the one whose turn it is.
    fn leave_ring(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.all.get_mut(&key) else { return };
        consumer.in_ring = false;
        let priority = consumer.priority;
        if let Ok(at) = self.ring_at(priority) {
            self.rings[at].turns.pop_front_if(|front| *front == key);
        }
    }

    /// Where the ring of a priority is, or belongs.
    fn ring_at(&self, priority: i64) -> Result<usize, usize> {
        self.rings.binary_search_by(|ring| priority.cmp(&ring.priority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(prefetch: u32) -> Consumer<()> {
        Consumer::new("t".into(), false, false, prefetch, ())
    }

    #[test]
    fn they_are_served_in_turn() {
        let mut consumers = Consumers::new(false);
        let keys = [consumers.add(consumer(0)), consumers.add(consumer(0)), consumers.add(consumer(0))];
        for turn in 0..7 {
            let key = consumers.next().unwrap();
            assert_eq!(key, keys[turn % 3]);
            consumers.took(key, true);
        }
    }

    #[test]
    fn a_full_prefetch_waits_for_an_ack() {
        let mut consumers = Consumers::new(false);
        let key = consumers.add(consumer(2));
        consumers.took(key, true);
        consumers.took(key, true);
        assert_eq!(consumers.next(), None);
        consumers.released(key);
        assert_eq!(consumers.next(), Some(key));
    }

    #[test]
    fn a_stalled_one_comes_back_once() {
        let mut consumers = Consumers::new(false);
        let key = consumers.add(consumer(0));
        consumers.took(key, false);
        consumers.released(key);
        assert_eq!(consumers.next(), None, "an ack gives credit, not room");
        consumers.resumed(key);
        consumers.resumed(key);
        assert_eq!(consumers.rings[0].turns.len(), 1);
    }

    #[test]
    fn a_removed_one_has_no_turn() {
        let mut consumers = Consumers::new(false);
        let (first, second) = (consumers.add(consumer(0)), consumers.add(consumer(0)));
        assert!(consumers.remove(first).is_some());
        assert_eq!(consumers.next(), Some(second));
        assert!(consumers.remove(first).is_none());
    }

    #[test]
    fn the_highest_priority_that_can_take_goes_first() {
        let mut consumers = Consumers::new(false);
        let low = consumers.add(consumer(0).with_priority(-1));
        let high = [consumers.add(consumer(1).with_priority(7)), consumers.add(consumer(1).with_priority(7))];
        let middle = consumers.add(consumer(1));
        for expected in [high[0], high[1], middle, low, low] {
            assert_eq!(consumers.next(), Some(expected));
            consumers.took(expected, true);
        }
        consumers.released(high[1]);
        assert_eq!(consumers.next(), Some(high[1]));
        consumers.remove(high[1]);
        consumers.remove(high[0]);
        assert_eq!(consumers.rings.len(), 2, "a priority that nobody has is forgotten");
        assert_eq!(consumers.next(), Some(low));
    }

    #[test]
    fn a_single_active_one_is_followed_by_the_next_in_line() {
        let mut consumers = Consumers::new(true);
        let first = consumers.add(consumer(1));
        let second = consumers.add(consumer(0));
        let urgent = consumers.add(consumer(0).with_priority(1));
        assert!(consumers.refuses(true) && !consumers.refuses(false));
        consumers.took(first, true);
        assert_eq!(consumers.next(), None, "the active one is busy, nobody else is served");
        consumers.remove(first);
        assert_eq!(consumers.next(), Some(urgent));
        consumers.remove(urgent);
        assert_eq!(consumers.next(), Some(second));
        consumers.remove(second);
        assert_eq!(consumers.next(), None);
        let last = consumers.add(consumer(0));
        assert_eq!(consumers.next(), Some(last));
    }

    #[test]
    fn an_exclusive_one_is_alone() {
        let mut consumers = Consumers::new(false);
        assert!(!consumers.refuses(true));
        let key = consumers.add(consumer(0));
        assert!(consumers.refuses(true) && !consumers.refuses(false));
        consumers.remove(key);
        consumers.add(Consumer::new("t".into(), false, true, 0, ()));
        assert!(consumers.refuses(false));
    }
}
