//! An open channel, as it can be looked at from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::{ConnectionRecord, ConsumerRecord};
use crate::broker::Broker;
use crate::channel::Subscription;
use crate::connection::Connection;
use crate::counts::MessageCounts;
use crate::port::{ChannelPort, ConnectionId};

/// How publishes of a channel are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelMode {
    /// Not at all.
    #[default]
    Plain,
    /// Each is confirmed.
    Confirm,
    /// They wait for `tx.commit`.
    Transactional,
}

/// A channel at one moment.
#[derive(Clone, Debug)]
pub struct ChannelRecord {
    /// Its number on its connection.
    pub number: u16,
    /// The connection that it belongs to.
    pub connection: ConnectionId,
    /// How its publishes are answered.
    pub mode: ChannelMode,
    /// Unacknowledged deliveries that a consumer started now may have; 0: any number.
    pub prefetch_count: u32,
    /// Unacknowledged deliveries that all its consumers may have together; 0: any number.
    pub global_prefetch_count: u32,
    /// Its consumers.
    pub consumer_count: usize,
    /// Deliveries that were not settled yet.
    pub messages_unacknowledged: u32,
    /// Publishes that were not confirmed yet.
    pub messages_unconfirmed: usize,
    /// Publishes that wait for `tx.commit`.
    pub messages_uncommitted: u32,
    /// Settled deliveries that wait for `tx.commit`.
    pub acks_uncommitted: u32,
    /// When its client last published or acknowledged, ms since 1970; 0: never.
    pub used_at_ms: u64,
    /// What happened to messages on it.
    pub counts: MessageCounts,
    port: Arc<ChannelPort>,
}

impl ChannelRecord {
    pub(super) fn of(port: &Arc<ChannelPort>) -> Self {
        let facts = &port.facts;
        Self {
            number: port.number,
            connection: port.connection.id,
            mode: facts.mode(),
            prefetch_count: facts.prefetch(),
            global_prefetch_count: port.shared_limit(),
            consumer_count: facts.consumers().len(),
            messages_unacknowledged: port.outstanding(),
            messages_unconfirmed: port.unconfirmed(),
            messages_uncommitted: facts.uncommitted_messages.load(Ordering::Relaxed),
            acks_uncommitted: facts.uncommitted_acks.load(Ordering::Relaxed),
            used_at_ms: port.published.used_at_ms(),
            counts: port.totals().counts,
            port: port.clone(),
        }
    }

    /// Its consumers, in the order of their tags.
    pub fn consumers(&self, connection: &Arc<ConnectionRecord>) -> Vec<ConsumerRecord> {
        let mut consumers: Vec<_> = self
            .port
            .facts
            .consumers()
            .iter()
            .filter_map(|one| ConsumerRecord::find(&one.queue, one.key, Some(connection.clone())))
            .collect();
        consumers.sort_unstable_by(|a, b| a.tag.cmp(&b.tag));
        consumers
    }
}

/// What its owner says of a channel for others to see. Written by the channel's task.
#[derive(Debug, Default)]
pub(crate) struct ChannelFacts {
    mode: AtomicU8,
    /// For consumers that start from now on (`basic.qos global=false`).
    prefetch: AtomicU32,
    uncommitted_messages: AtomicU32,
    uncommitted_acks: AtomicU32,
    /// By their tags.
    subscriptions: Mutex<HashMap<Arc<str>, Subscription>>,
}

impl ChannelFacts {
    pub(crate) fn set_mode(&self, mode: ChannelMode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    fn mode(&self) -> ChannelMode {
        match self.mode.load(Ordering::Relaxed) {
            mode if mode == ChannelMode::Confirm as u8 => ChannelMode::Confirm,
            mode if mode == ChannelMode::Transactional as u8 => ChannelMode::Transactional,
            _ => ChannelMode::Plain,
        }
    }

    pub(crate) fn prefetch(&self) -> u32 {
        self.prefetch.load(Ordering::Relaxed)
    }

    pub(crate) fn set_prefetch(&self, count: u32) {
        self.prefetch.store(count, Ordering::Relaxed);
    }

    /// So many publishes and settled deliveries wait for `tx.commit`.
    pub(crate) fn set_uncommitted(&self, (messages, acks): (usize, usize)) {
        self.uncommitted_messages.store(messages as u32, Ordering::Relaxed);
        self.uncommitted_acks.store(acks as u32, Ordering::Relaxed);
    }

    pub(crate) fn subscribe(&self, tag: Arc<str>, subscription: Subscription) {
        self.subscriptions.lock().insert(tag, subscription);
    }

    pub(crate) fn subscription(&self, tag: &str) -> Option<Subscription> {
        self.subscriptions.lock().get(tag).cloned()
    }

    pub(crate) fn unsubscribe(&self, tag: &str) -> Option<Subscription> {
        self.subscriptions.lock().remove(tag)
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.lock().len()
    }

    pub(crate) fn subscriptions(&self) -> Vec<(Arc<str>, Subscription)> {
        self.subscriptions.lock().iter().map(|(tag, one)| (tag.clone(), one.clone())).collect()
    }

    pub(crate) fn take_subscriptions(&self) -> HashMap<Arc<str>, Subscription> {
        std::mem::take(&mut *self.subscriptions.lock())
    }

    /// Those that still consume: a consumer ends with its queue, without its channel being asked.
    fn consumers(&self) -> Vec<Subscription> {
        let subscriptions = self.subscriptions().into_iter().map(|(_, one)| one);
        subscriptions.filter(Subscription::is_consuming).collect()
    }
}

/// A channel's place in the list, until it is dropped.
#[derive(Debug)]
pub(crate) struct ListedChannel {
    port: Arc<ChannelPort>,
    record: Arc<ConnectionRecord>,
    broker: Arc<Broker>,
}

impl ListedChannel {
    pub(crate) fn new(connection: &Connection, port: &Arc<ChannelPort>) -> Self {
        let record = connection.record().clone();
        record.add(port);
        connection.broker.churn.channels_opened.add_shared(1);
        Self { port: port.clone(), record, broker: connection.broker.clone() }
    }
}

impl Drop for ListedChannel {
    fn drop(&mut self) {
        // One step to whoever sums up.
        let open = self.broker.roster.open.lock();
        self.record.remove(&self.port);
        self.port.paths.close();
        drop(open);
        self.broker.churn.channels_closed.add_shared(1);
    }
}
