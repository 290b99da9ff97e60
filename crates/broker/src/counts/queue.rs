//! What is counted of one queue, under its lock.

use std::ops::AddAssign;

use super::counter::Counter;
use super::deaths::Deaths;
use super::{DeathCounts, MessageCounts};
use crate::queue::DeathReason;
use crate::settings::QueueKind;

/// What happened to the messages of a queue, or of all queues of a kind, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Arrived, delivered, acknowledged.
    pub messages: MessageCounts,
    /// Given up.
    pub deaths: DeathCounts,
    /// Dead letters that had to be taken (`at-least-once`) and were.
    pub letters_confirmed: u64,
}

impl AddAssign for QueueCounts {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.deaths += other.deaths;
        self.letters_confirmed += other.letters_confirmed;
    }
}

/// The same while it grows.
#[derive(Debug)]
pub(crate) struct QueueCounters {
    /// Readers of a stream are handed messages while it is not locked, several at a time.
    delivers_unlocked: bool,
    publish: Counter,
    deliver: Counter,
    deliver_no_ack: Counter,
    redeliver: Counter,
    get: Counter,
    get_no_ack: Counter,
    get_empty: Counter,
    ack: Counter,
    used_at_ms: Counter,
    deaths: Deaths,
    letters_confirmed: Counter,
}

impl QueueCounters {
    pub(crate) fn new(kind: QueueKind) -> Self {
        Self {
            delivers_unlocked: kind == QueueKind::Stream,
            publish: Counter::default(),
            deliver: Counter::default(),
            deliver_no_ack: Counter::default(),
            redeliver: Counter::default(),
            get: Counter::default(),
            get_no_ack: Counter::default(),
            get_empty: Counter::default(),
            ack: Counter::default(),
            used_at_ms: Counter::default(),
            deaths: Deaths::default(),
            letters_confirmed: Counter::default(),
        }
    }

    /// A message arrived. The caller holds the queue's lock.
    #[inline]
    pub(crate) fn published(&self, now_ms: u64) {
        self.publish.add(1);
        self.used_at_ms.set(now_ms);
    }

    /// A message was handed to a consumer. The caller holds the queue's lock, unless it is a stream.
    #[inline]
    pub(crate) fn delivered(&self, no_ack: bool, redelivered: bool) {
        let counter = if no_ack { &self.deliver_no_ack } else { &self.deliver };
        if self.delivers_unlocked {
            return counter.add_shared(1);
        }
        counter.add(1);
        if redelivered {
            self.redeliver.add(1);
        }
    }

    /// `basic.get` asked; whether the message it found was handed out before. The caller holds the queue's lock.
    pub(crate) fn fetched(&self, no_ack: bool, redelivered: Option<bool>, now_ms: u64) {
        self.used_at_ms.set(now_ms);
        match redelivered {
            None => return self.get_empty.add(1),
            Some(redelivered) => self.redeliver.add(redelivered.into()),
        }
        if no_ack { self.get_no_ack.add(1) } else { self.get.add(1) }
    }

    /// Deliveries were acknowledged. The caller holds the queue's lock.
    #[inline]
    pub(crate) fn acknowledged(&self, count: usize, now_ms: u64) {
        self.ack.add(count as u64);
        self.used_at_ms.set(now_ms);
    }

    /// A message was given up, and its dead letter taken where that was asked for.
    pub(crate) fn given_up(&self, reason: DeathReason, confirmed: bool) {
        self.deaths.add(reason);
        self.letters_confirmed.add_shared(confirmed.into());
    }

    /// When a message last came or went at a client's wish, ms since 1970; 0: never.
    pub(crate) fn used_at_ms(&self) -> u64 {
        self.used_at_ms.value()
    }

    pub(crate) fn snapshot(&self) -> QueueCounts {
        let messages = MessageCounts {
            publish: self.publish.value(),
            deliver: self.deliver.value(),
            deliver_no_ack: self.deliver_no_ack.value(),
            redeliver: self.redeliver.value(),
            get: self.get.value(),
            get_no_ack: self.get_no_ack.value(),
            get_empty: self.get_empty.value(),
            ack: self.ack.value(),
            ..MessageCounts::default()
        };
        let (deaths, letters_confirmed) = (self.deaths.snapshot(), self.letters_confirmed.value());
        QueueCounts { messages, deaths, letters_confirmed }
    }
}
