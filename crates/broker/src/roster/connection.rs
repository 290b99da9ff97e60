//! An open connection, as it can be looked at from outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{ChannelRecord, Introduction, MessageTotals, Over, Traffic};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::port::{ChannelPort, ConnectionId, ConnectionPort};
use crate::vhost::VHost;

/// What a connection is doing, in RabbitMQ's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// It works.
    #[default]
    Running,
    /// It publishes faster than the disk writes and is not read for a moment.
    Flow,
    /// An alarm is on; it will be blocked when it publishes.
    Blocking,
    /// It publishes and is not read, because an alarm is on.
    Blocked,
    /// It has been told to close.
    Closing,
}

impl ConnectionState {
    const ALL: [Self; 5] = [Self::Running, Self::Flow, Self::Blocking, Self::Blocked, Self::Closing];

    /// RabbitMQ's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Flow => "flow",
            Self::Blocking => "blocking",
            Self::Blocked => "blocked",
            Self::Closing => "closing",
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct ConnectionRecord {
    /// Names it for the life of the process.
    pub id: ConnectionId,
    /// `peer:port -> host:port`; of one in memory `memory:ID`. No two open ones have the same.
    pub name: String,
    /// The user who logged in.
    pub user: Arc<str>,
    /// The virtual host it opened.
    pub vhost: Arc<str>,
    /// What was known of it before.
    pub introduction: Arc<Introduction>,
    state: AtomicU8,
    port: Weak<ConnectionPort>,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    open: BTreeMap<u16, Arc<ChannelPort>>,
    /// What those have counted that are closed; on most connections none is before its end.
    gone: Option<Box<MessageTotals>>,
}

impl ConnectionRecord {
    /// What it is doing.
    pub fn state(&self) -> ConnectionState {
        ConnectionState::ALL[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// Says what it is doing.
    pub fn set_state(&self, state: ConnectionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// What its transport has counted.
    pub fn traffic(&self) -> &Traffic {
        &self.introduction.traffic
    }

    /// Has it closed: the client gets `connection.close` with 320 and `CONNECTION_FORCED - {reason}`, and everything
    /// that belongs to the connection ends. Happens on the connection's own task, soon after; nothing if it is gone.
    pub fn close(&self, reason: &str) {
        self.end(Refusal::forced(reason));
    }

    /// The same, for any reason.
    pub(super) fn end(&self, reason: Refusal) {
        if let Some(port) = self.port.upgrade() {
            port.end(reason);
        }
    }

    /// Has its task look again at what it may do.
    pub(super) fn wake(&self) {
        if let Some(port) = self.port.upgrade() {
            port.wake();
        }
    }

    /// Its open channels, by their numbers.
    pub fn channels(&self) -> Vec<ChannelRecord> {
        self.ports().iter().map(ChannelRecord::of).collect()
    }

    /// How many channels are open.
    pub fn channel_count(&self) -> usize {
        self.channels.lock().open.len()
    }

    /// What happened to messages on it, closed channels included.
    pub fn totals(&self) -> MessageTotals {
        let channels = self.channels.lock();
        let mut totals = channels.gone.as_deref().copied().unwrap_or_default();
        channels.open.values().for_each(|port| totals += port.totals());
        totals
    }

    /// Whether there is a client at the other end.
    pub(super) fn is_clients(&self) -> bool {
        self.introduction.over != Over::Nothing
    }

    pub(super) fn ports(&self) -> Vec<Arc<ChannelPort>> {
        self.channels.lock().open.values().cloned().collect()
    }

    pub(super) fn add(&self, port: &Arc<ChannelPort>) {
        self.channels.lock().open.insert(port.number, port.clone());
    }

    /// Takes a channel out, and keeps what it has counted.
    pub(super) fn remove(&self, port: &Arc<ChannelPort>) {
        let mut channels = self.channels.lock();
        channels.open.remove(&port.number);
        **channels.gone.get_or_insert_default() += port.totals();
    }
}

/// A connection's place in the list, until it is dropped.
#[derive(Debug)]
pub(crate) struct ListedConnection {
    pub(crate) record: Arc<ConnectionRecord>,
    vhost: Arc<VHost>,
    broker: Arc<Broker>,
}

impl ListedConnection {
    pub(crate) fn new(
        broker: &Arc<Broker>,
        port: &Arc<ConnectionPort>,
        user: &str,
        vhost: &Arc<VHost>,
    ) -> Self {
        let introduction = port.introduction.clone();
        let record = Arc::new(ConnectionRecord {
            id: port.id,
            name: name(port.id, introduction.over),
            user: user.into(),
            vhost: vhost.name.clone(),
            introduction,
            state: AtomicU8::new(ConnectionState::Running as u8),
            port: Arc::downgrade(port),
            channels: Mutex::default(),
        });
        broker.roster.open.lock().connections.insert(record.id, record.clone());
        if record.is_clients() {
            broker.churn.connections_opened.add_shared(1);
        }
        Self { record, vhost: vhost.clone(), broker: broker.clone() }
    }
}

impl Drop for ListedConnection {
    fn drop(&mut self) {
        let mut open = self.broker.roster.open.lock();
        open.connections.remove(&self.record.id);
        let totals = self.record.totals();
        open.gone += totals;
        *self.vhost.messages.lock() += totals;
        drop(open);
        if self.record.is_clients() {
            self.broker.churn.connections_closed.add_shared(1);
        }
    }
}

fn name(id: ConnectionId, over: Over) -> String {
    match over {
        Over::Tcp { peer, host } => format!("{peer} -> {host}"),
        Over::Memory => format!("memory:{id}"),
        Over::Nothing => format!("internal:{id}"),
    }
}
