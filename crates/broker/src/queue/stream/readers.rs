//! The consumers of a stream: each reads on its own, with its own credit.
//!
//! ```text
//!            ┌────────────── ack ──────────────┐
//!            ▼                                 │
//!   due ─► Ready ─► Reading ─┬─► Ready      NoCredit
//!            ▲               ├─► AtEnd ──── committed ──► Told ─┐
//!            │               └─► Told   (no room, or a pause)   │
//!            └──────────────────── resume ◄────────────────────┘
//! ```
//!
//! `Told` readers wait for their connection's task, which resumes them when it has room and time.

use hashbrown::HashMap;

use super::turn::{Cursor, Next};
use crate::queue::{Activity, Consumer, ConsumerKey, SeenConsumer};

/// What a reader does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It can read on and is due.
    Ready,
    /// A turn of it is under way; it was resumed meanwhile, or not.
    Reading { resumed: bool },
    /// It has as much in flight as it may have.
    NoCredit,
    /// It has read everything that is on the disk.
    AtEnd,
    /// Its connection will resume it.
    Told,
}

#[derive(Debug)]
pub(super) struct Reader<P> {
    pub(super) consumer: Consumer<P>,
    pub(super) in_flight: u32,
    pub(super) stage: Stage,
    /// Away while a turn is under way.
    pub(super) cursor: Option<Cursor>,
}

impl<P> Reader<P> {
    /// Messages it may be handed.
    pub(super) fn credit(&self) -> u32 {
        self.consumer.prefetch.saturating_sub(self.in_flight)
    }
}

/// All readers of a stream.
#[derive(Debug)]
pub(super) struct Readers<P> {
    all: HashMap<ConsumerKey, Reader<P>>,
    due: Vec<ConsumerKey>,
    at_end: usize,
    next_key: ConsumerKey,
}

impl<P> Default for Readers<P> {
    fn default() -> Self {
        Self { all: HashMap::new(), due: Vec::new(), at_end: 0, next_key: 1 }
    }
}

impl<P> Readers<P> {
    pub(super) fn add(&mut self, consumer: Consumer<P>, next: Next) -> ConsumerKey {
        let key = self.next_key;
        self.next_key += 1;
        let cursor = Some(Cursor::new(next));
        self.all.insert(key, Reader { consumer, in_flight: 0, stage: Stage::Ready, cursor });
        self.due.push(key);
        key
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) -> Option<Consumer<P>> {
        let reader = self.all.remove(&key)?;
        self.at_end -= usize::from(reader.stage == Stage::AtEnd);
        Some(reader.consumer)
    }

    pub(super) fn remove_all(&mut self) -> Vec<Consumer<P>> {
        self.at_end = 0;
        self.all.drain().map(|(_, reader)| reader.consumer).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn contains(&self, key: ConsumerKey) -> bool {
        self.all.contains_key(&key)
    }

    pub(super) fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Reader<P>> {
        self.all.get_mut(&key)
    }

    /// Messages handed over and not yet settled.
    pub(super) fn in_flight(&self) -> u64 {
        self.all.values().map(|reader| u64::from(reader.in_flight)).sum()
    }

    /// Each of them, in no order.
    pub(super) fn each<'a>(&'a self, see: &mut dyn FnMut(SeenConsumer<'a, P>)) {
        for (key, reader) in &self.all {
            let Reader { consumer, in_flight, .. } = reader;
            let activity = Activity::Served;
            see(SeenConsumer { key: *key, consumer, in_flight: *in_flight, activity });
        }
    }

    /// Readers that have something to do, each once.
    pub(super) fn take_due(&mut self) -> Vec<ConsumerKey> {
        std::mem::take(&mut self.due)
    }

    /// Whether somebody waits for the next message.
    pub(super) fn wait_at_end(&self) -> bool {
        self.at_end > 0
    }

    pub(super) fn set_stage(&mut self, key: ConsumerKey, stage: Stage) {
        let Some(reader) = self.all.get_mut(&key) else { return };
        self.at_end -= usize::from(reader.stage == Stage::AtEnd);
        self.at_end += usize::from(stage == Stage::AtEnd);
        reader.stage = stage;
    }

    fn make_due(&mut self, key: ConsumerKey) {
        self.set_stage(key, Stage::Ready);
        self.due.push(key);
    }

    /// A delivery is settled, in whatever way.
    pub(super) fn released(&mut self, key: ConsumerKey) {
        let Some(reader) = self.all.get_mut(&key) else { return };
        reader.in_flight = reader.in_flight.saturating_sub(1);
        if reader.stage == Stage::NoCredit {
            self.make_due(key);
        }
    }

    /// Its connection has room and time for it.
    pub(super) fn resumed(&mut self, key: ConsumerKey) {
        match self.all.get(&key).map(|reader| reader.stage) {
            Some(Stage::Reading { .. }) => self.set_stage(key, Stage::Reading { resumed: true }),
            Some(Stage::Told | Stage::AtEnd) => self.make_due(key),
            Some(Stage::Ready | Stage::NoCredit) | None => {}
        }
    }

    /// Tells those that wait for a message before `end` that there is one.
    pub(super) fn tell(&mut self, end: u64, mut tell: impl FnMut(ConsumerKey, &Consumer<P>)) {
        if self.at_end == 0 {
            return;
        }
        for (key, reader) in self.all.iter_mut().filter(|(_, reader)| reader.stage == Stage::AtEnd) {
            let waits_for = reader.cursor.as_ref().map(|cursor| cursor.next);
            if matches!(waits_for, Some(Next::At(offset)) if offset >= end) {
                continue;
            }
            reader.stage = Stage::Told;
            self.at_end -= 1;
            tell(*key, &reader.consumer);
        }
    }
}
