//! The open connections: who is told when users and virtual hosts change.
//!
//! A connection looks its user up with every operation, but one that only consumes has none. So a change wakes
//! the connections it concerns, and they look whether they may still do what they do.

use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::port::ConnectionId;
use crate::vhost::VHost;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connected(Mutex<HashMap<ConnectionId, Weak<Connection>>>);

impl Connected {
    pub(crate) fn add(&self, connection: &Arc<Connection>) {
        self.0.lock().insert(connection.port.id, Arc::downgrade(connection));
    }

    pub(crate) fn remove(&self, id: ConnectionId) {
        self.0.lock().remove(&id);
    }

    /// Those that are open at this moment, in no order.
    fn all(&self) -> Vec<Arc<Connection>> {
        self.0.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl Broker {
    /// Has the connections of a user look again at what they may do.
    pub(crate) fn wake_connections_of(&self, user: &str) {
        for connection in self.connected.all() {
            if connection.is_of(user) {
                connection.port.wake();
            }
        }
    }

    /// Closes the connections of a deleted virtual host.
    pub(crate) fn close_connections_of(&self, vhost: &Arc<VHost>) {
        for connection in self.connected.all() {
            if Arc::ptr_eq(&connection.vhost, vhost) {
                connection.port.end(Refusal::forced(format!("vhost '{}' is deleted", vhost.name)));
            }
        }
    }
}
