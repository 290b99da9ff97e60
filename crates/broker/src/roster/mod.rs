//! Who is connected: every open connection and its channels, while they are open, and what they have counted.
//!
//! ```text
//!   Connection ──owns──► Listed ──► Roster ─► ConnectionRecord ─► ChannelPort …
//!   Channel ────owns──► Listed ────────────────────┘
//! ```
//!
//! Whoever holds a connection or channel holds its place in the list; dropping it takes it out and hands its numbers to
//! its virtual host. So the list is as long as what it lists, and sums never shrink: both happen under one lock, which
//! nothing takes per message.

mod channel;
mod connection;
mod consumer;
mod introduction;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

pub(crate) use channel::{ChannelFacts, ListedChannel};
pub use channel::{ChannelMode, ChannelRecord};
pub(crate) use connection::ListedConnection;
pub use connection::{ConnectionRecord, ConnectionState};
pub use consumer::ConsumerRecord;
pub use introduction::{Introduction, Over, TlsFacts, Traffic};

use crate::broker::Broker;
use crate::counts::{ChurnCounts, ExchangeCounts, MessageCounts, QueueCounts, SizeHistogram};
use crate::error::Refusal;
use crate::port::ConnectionId;
use crate::settings::QueueKind;
use crate::vhost::{Exchange, VHost};

/// What happened to messages, over many channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageTotals {
    /// How often what happened.
    pub counts: MessageCounts,
    /// How large the published bodies were.
    pub sizes: SizeHistogram,
}

impl std::ops::AddAssign for MessageTotals {
    fn add_assign(&mut self, other: Self) {
        self.counts += other.counts;
        self.sizes += other.sizes;
    }
}

/// All open connections, and what those that are gone have counted.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: BTreeMap<ConnectionId, Arc<ConnectionRecord>>,
    /// Of connections that are closed, over all virtual hosts.
    gone: MessageTotals,
}

impl Broker {
    /// The clients' connections that have opened a virtual host, the oldest first. What this process does on its own
    /// behalf is not among them.
    pub fn connections(&self) -> Vec<Arc<ConnectionRecord>> {
        let open = self.roster.open.lock();
        open.connections.values().filter(|record| record.is_clients()).cloned().collect()
    }

    /// An open connection, also one of this process's own.
    pub fn connection(&self, id: ConnectionId) -> Option<Arc<ConnectionRecord>> {
        self.roster.open.lock().connections.get(&id).cloned()
    }

    /// The client's connection of that name.
    pub fn connection_named(&self, name: &str) -> Option<Arc<ConnectionRecord>> {
        let open = self.roster.open.lock();
        open.connections.values().find(|record| record.is_clients() && record.name == name).cloned()
    }

    /// Has the connections of a user look again at what they may do. A connection looks its user up with every operation,
    /// but one that only consumes has none.
    pub(crate) fn wake_connections_of(&self, user: &str) {
        let open = self.roster.open.lock();
        open.connections.values().filter(|record| *record.user == *user).for_each(|record| record.wake());
    }

    /// Closes the connections of a deleted virtual host.
    pub(crate) fn close_connections_of(&self, vhost: &VHost) {
        let open = self.roster.open.lock();
        for record in open.connections.values().filter(|record| Arc::ptr_eq(&record.vhost, &vhost.name)) {
            record.end(Refusal::forced(format!("vhost '{}' is deleted", vhost.name)));
        }
    }

    /// What happened to messages since the process began, over all virtual hosts.
    pub fn message_totals(&self) -> MessageTotals {
        let open = self.roster.open.lock();
        let mut totals = open.gone;
        open.connections.values().for_each(|record| totals += record.totals());
        totals
    }

    /// The same for one virtual host.
    pub fn message_totals_of(&self, vhost: &VHost) -> MessageTotals {
        let open = self.roster.open.lock();
        let mut totals = *vhost.messages.lock();
        let here = open.connections.values().filter(|record| record.vhost == vhost.name);
        here.for_each(|record| totals += record.totals());
        totals
    }

    /// The same by kind of queue: what happened to messages in queues, also in those that have been deleted.
    pub fn queue_totals(&self) -> BTreeMap<QueueKind, QueueCounts> {
        let deleted = self.deleted_queues.lock();
        let mut totals = deleted.clone();
        for queue in self.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            *totals.entry(queue.kind).or_default() += queue.counts();
        }
        totals
    }

    /// What came to each exchange of a virtual host, by its name.
    pub fn exchange_counts(&self, vhost: &VHost) -> HashMap<Arc<str>, ExchangeCounts> {
        let exchanges = vhost.exchanges();
        let open = self.roster.open.lock();
        let handed_in = |exchange: &Arc<Exchange>| (Arc::as_ptr(exchange), *exchange.handed_in.lock());
        let mut counts: HashMap<*const Exchange, ExchangeCounts> = exchanges.iter().map(handed_in).collect();
        for port in open.connections.values().flat_map(|record| record.ports()) {
            port.paths.each(|exchange, more| {
                if let Some(counts) = counts.get_mut(&exchange.as_ptr()) {
                    *counts += more;
                }
            });
        }
        let named = |exchange: Arc<Exchange>| {
            let counts = counts.get(&Arc::as_ptr(&exchange)).copied().unwrap_or_default();
            (exchange.name.clone(), counts)
        };
        exchanges.into_iter().map(named).collect()
    }

    /// How much came and went since the process began.
    pub fn churn(&self) -> ChurnCounts {
        self.churn.snapshot()
    }
}
