//! The consumers of one queue and whose turn it is.
//!
//! Consumers that can take a message stand in a ring and are served in turn. One that has its prefetch in
//! flight, or whose connection has no room, leaves the ring and comes back when something was acknowledged
//! or written out. So a message never looks at a consumer that cannot take it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

/// Names a consumer within its queue; never reused there.
pub type ConsumerKey = u64;

/// One consumer. `P` is how messages reach it.
#[derive(Debug)]
pub struct Consumer<P> {
    /// Its tag on its channel.
    pub tag: Arc<str>,
    /// It acknowledges nothing: a delivery is the end of a message.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// How many unacknowledged messages it may have; 0 = any number.
    pub prefetch: u32,
    /// How messages reach it.
    pub port: P,
    in_flight: u32,
    in_ring: bool,
    stalled: bool,
}

impl<P> Consumer<P> {
    /// A consumer that has nothing in flight.
    pub fn new(tag: Arc<str>, no_ack: bool, exclusive: bool, prefetch: u32, port: P) -> Self {
        Self { tag, no_ack, exclusive, prefetch, port, in_flight: 0, in_ring: false, stalled: false }
    }

    fn has_credit(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.in_flight < self.prefetch
    }
}

/// All consumers of a queue.
#[derive(Debug)]
pub struct Consumers<P> {
    all: HashMap<ConsumerKey, Consumer<P>>,
    ring: VecDeque<ConsumerKey>,
    next_key: ConsumerKey,
}

impl<P> Default for Consumers<P> {
    fn default() -> Self {
        Self { all: HashMap::new(), ring: VecDeque::new(), next_key: 1 }
    }
}

impl<P> Consumers<P> {
    /// Adds a consumer at the end of the ring.
    pub fn add(&mut self, consumer: Consumer<P>) -> ConsumerKey {
        let key = self.next_key;
        self.next_key += 1;
        self.all.insert(key, consumer);
        self.enter_ring(key);
        key
    }

    /// Takes a consumer out for good.
    pub fn remove(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        let consumer = self.all.remove(&key)?;
        if consumer.in_ring {
            self.ring.retain(|other| *other != key);
        }
        Some(consumer)
    }

    /// Takes all of them out.
    pub fn remove_all(&mut self) -> Vec<Consumer<P>> {
        self.ring.clear();
        self.all.drain().map(|(_, consumer)| consumer).collect()
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

    /// Whether one of them consumes exclusively.
    pub fn any_exclusive(&self) -> bool {
        self.all.values().any(|consumer| consumer.exclusive)
    }

    /// Whose turn it is, if anybody can take a message.
    pub fn next(&self) -> Option<ConsumerKey> {
        self.ring.front().copied()
    }

    /// The consumer behind a key.
    pub fn by_key(&self, key: ConsumerKey) -> Option<&Consumer<P>> {
        self.all.get(&key)
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

    fn enter_ring(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.all.get_mut(&key)
            && !consumer.in_ring
            && !consumer.stalled
            && consumer.has_credit()
        {
            consumer.in_ring = true;
            self.ring.push_back(key);
        }
    }

    /// Only ever called for the front: serving is in turn.
    fn leave_ring(&mut self, key: ConsumerKey) {
        if self.ring.front() == Some(&key) {
            self.ring.pop_front();
        }
        if let Some(consumer) = self.all.get_mut(&key) {
            consumer.in_ring = false;
        }
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
        let mut consumers = Consumers::default();
        let keys = [consumers.add(consumer(0)), consumers.add(consumer(0)), consumers.add(consumer(0))];
        for turn in 0..7 {
            let key = consumers.next().unwrap();
            assert_eq!(key, keys[turn % 3]);
            consumers.took(key, true);
        }
    }

    #[test]
    fn a_full_prefetch_waits_for_an_ack() {
        let mut consumers = Consumers::default();
        let key = consumers.add(consumer(2));
        consumers.took(key, true);
        consumers.took(key, true);
        assert_eq!(consumers.next(), None);
        consumers.released(key);
        assert_eq!(consumers.next(), Some(key));
    }

    #[test]
    fn a_stalled_one_comes_back_once() {
        let mut consumers = Consumers::default();
        let key = consumers.add(consumer(0));
        consumers.took(key, false);
        consumers.released(key);
        assert_eq!(consumers.next(), None, "an ack gives credit, not room");
        consumers.resumed(key);
        consumers.resumed(key);
        assert_eq!(consumers.ring.len(), 1);
    }

    #[test]
    fn a_removed_one_has_no_turn() {
        let mut consumers = Consumers::default();
        let (first, second) = (consumers.add(consumer(0)), consumers.add(consumer(0)));
        assert!(consumers.remove(first).is_some());
        assert_eq!(consumers.next(), Some(second));
        assert!(consumers.remove(first).is_none());
    }
}
