//! An authenticated connection: who acts, where, and what belongs to it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::authority::{self, Right};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::exchange::ExchangeKind;
use crate::port::{Batch, ConnectionPort};
use crate::quotas::{Seat, UserQuotas};
use crate::roster::{ConnectionRecord, ListedConnection};
use crate::users::{Operation, User};
use crate::vhost::{Exchange, Queue, VHost};

/// What an operation is about to touch.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// An exchange; the empty name is the default exchange.
    Exchange(&'a str),
    /// A queue.
    Queue(&'a str),
}

impl<'a> Resource<'a> {
    /// The name that permissions are matched with.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Exchange("") => "amq.default",
            Self::Exchange(name) | Self::Queue(name) => name,
        }
    }
}

/// A connection that has authenticated and opened its virtual host. Whatever acts on the broker does so
/// through one: it is the only holder of [`Connection::authorize`].
#[derive(Debug)]
pub struct Connection {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The way to the client.
    pub port: Arc<ConnectionPort>,
    /// The virtual host it opened.
    pub vhost: Arc<VHost>,
    /// The client understands `basic.cancel` from the server.
    pub cancel_notify: bool,
    user: RwLock<(u64, Arc<User>)>,
    exclusive: Mutex<Vec<Arc<Queue>>>,
    listed: ListedConnection,
    /// In the virtual host and with the user, until the connection is gone.
    _seats: [Seat; 2],
    user_quotas: Arc<UserQuotas>,
}

impl Connection {
    /// Opens a virtual host for an authenticated user (`connection.open`). Refused with 530 when there is no
    /// such virtual host, when it or the user has as many connections as allowed, or when the user has no
    /// permissions in it or was deleted meanwhile (in this order, as RabbitMQ has it).
    pub fn open(
        broker: Arc<Broker>,
        port: Arc<ConnectionPort>,
        user: Arc<User>,
        vhost: &str,
        cancel_notify: bool,
    ) -> Result<Arc<Self>, Refusal> {
        let refused = format!("access to vhost '{vhost}' refused for user '{}'", user.name);
        let found =
            broker.vhost(vhost).ok_or_else(|| Refusal::not_allowed(format!("vhost {vhost} not found")))?;
        let user_quotas = broker.user_quotas.of(&user.name);
        let seats = take_seats(&found, &user_quotas, &user.name, &refused)?;
        // In this order: a change that this look-up misses is seen by the next one.
        let version = broker.users.version();
        let allowed = |user: &Arc<User>| authority::authorize(user, Right::Enter(vhost)).is_ok();
        let user = broker.users.find(&user.name).filter(allowed);
        let user = user.ok_or_else(|| Refusal::not_allowed(refused))?;
        let listed = ListedConnection::new(&broker, &port, &user.name, &found);
        let connection = Arc::new(Self {
            broker,
            port,
            vhost: found,
            cancel_notify,
            user: RwLock::new((version, user)),
            exclusive: Mutex::default(),
            listed,
            _seats: seats,
            user_quotas,
        });
        connection.catch_up(version)?;
        Ok(connection)
    }

    /// It is listed, and so told of changes from now on. Tells it of what changed since it was allowed.
    fn catch_up(&self, users_version: u64) -> Result<(), Refusal> {
        if self.broker.users.version() != users_version {
            self.port.wake();
        }
        match self.broker.vhost(&self.vhost.name) {
            Some(found) if Arc::ptr_eq(&found, &self.vhost) => Ok(()),
            _ => Err(Refusal::not_allowed(format!("vhost {} not found", self.vhost.name))),
        }
    }

    /// The version of the users for which its own one was last looked up.
    pub fn users_version(&self) -> u64 {
        self.user.read().0
    }

    /// What others see of it.
    pub fn record(&self) -> &Arc<ConnectionRecord> {
        &self.listed.record
    }

    /// A seat for one more channel of this connection's user, or 530.
    pub(crate) fn channel_seat(&self) -> Result<Seat, Refusal> {
        self.user_quotas.channels.take().map_err(|limit| {
            Refusal::not_allowed(format!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of ({limit})",
                self.user.read().1.name
            ))
        })
    }

    /// The user as it is now. Refused when it was deleted meanwhile.
    pub fn user(&self) -> Result<Arc<User>, Refusal> {
        let version = self.broker.users.version();
        {
            let known = self.user.read();
            if known.0 == version {
                return Ok(known.1.clone());
            }
        }
        let mut known = self.user.write();
        let name = known.1.name.clone();
        let user = self
            .broker
            .users
            .find(&name)
            .ok_or_else(|| Refusal::forced(format!("user '{name}' was deleted")))?;
        *known = (version, user.clone());
        Ok(user)
    }

    /// May this connection's user do `operation` to `resource`?
    pub fn authorize(&self, operation: Operation, resource: Resource<'_>) -> Result<(), Refusal> {
        let vhost = &self.vhost.name;
        authority::authorize(&*self.user()?, Right::Resource { vhost, operation, resource })
    }

    /// May this connection's user publish to (`Write`) or bind (`Read`) a routing key of that exchange? Only
    /// topic exchanges restrict keys; the exchange itself must be allowed as well.
    pub fn authorize_topic(
        &self,
        operation: Operation,
        exchange: &Exchange,
        routing_key: &str,
    ) -> Result<(), Refusal> {
        if exchange.spec.kind != ExchangeKind::Topic {
            return Ok(());
        }
        let right =
            Right::Topic { vhost: &self.vhost.name, exchange: &exchange.name, operation, routing_key };
        authority::authorize(&*self.user()?, right)
    }

    /// Whether any permission on the queue's name is held (passive declare, CVE-2026-57221).
    pub fn authorize_any(&self, resource: Resource<'_>) -> Result<(), Refusal> {
        self.authorize(Operation::Configure, resource)
            .or_else(|refusal| self.authorize(Operation::Write, resource).map_err(|_| refusal))
            .or_else(|refusal| self.authorize(Operation::Read, resource).map_err(|_| refusal))
    }

    pub(crate) fn owns(&self, queue: Arc<Queue>) {
        self.exclusive.lock().push(queue);
    }

    /// Ends the connection's exclusive queues. Its channels are closed before.
    pub fn close(&self, batch: &mut Batch) {
        for queue in std::mem::take(&mut *self.exclusive.lock()) {
            if let Err(refusal) = self.broker.remove_queue(&self.vhost, &queue, batch) {
                tracing::error!(%refusal, queue = %queue.name, "exclusive queue could not be removed");
            }
        }
    }

    pub(crate) fn disowns(&self, queue: &Arc<Queue>) {
        self.exclusive.lock().retain(|other| !Arc::ptr_eq(other, queue));
    }
}

/// Seats for one more connection, or the refusal that RabbitMQ gives.
fn take_seats(
    vhost: &VHost,
    user_quotas: &UserQuotas,
    user: &str,
    refused: &str,
) -> Result<[Seat; 2], Refusal> {
    let in_vhost = vhost
        .connections
        .take()
        .map_err(|limit| Refusal::not_allowed(format!("{refused}: connection limit ({limit}) is reached")))?;
    let of_user = user_quotas.connections.take().map_err(|limit| {
        Refusal::not_allowed(format!(
            "connection refused for user '{user}': user connection limit ({limit}) is reached"
        ))
    })?;
    Ok([in_vhost, of_user])
}
