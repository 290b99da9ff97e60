//! Binding queues and exchanges to exchanges, and unbinding them.

use leveret_store::MetaChange;
use leveret_wire::FieldTable;

use super::exchange::default_exchange;
use super::reply_to::{REPLY_TO, is_reply_to};
use crate::channel::{Channel, clean_name};
use crate::connection::{Connection, Resource};
use crate::error::Refusal;
use crate::exchange::Bindings;
use crate::port::Batch;
use crate::records::{BindingKey, Key};
use crate::users::Operation;
use crate::vhost::{Destination, Exchange, VHost};

/// A binding as a client names it.
#[derive(Debug)]
pub struct Bind<'a> {
    /// The exchange that routes.
    pub source: &'a str,
    /// The queue or exchange it leads to.
    pub destination: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Arguments; part of its identity.
    pub arguments: FieldTable,
}

impl Channel {
    /// `queue.bind`.
    pub fn bind_queue(&self, bind: Bind<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        let (destination, routing_key) = self.binding_names(&bind)?;
        let bind = Bind { destination: &destination, routing_key: &routing_key, ..bind };
        self.connection.authorize_queue_binding(&bind)?;
        self.connection.bind(&bind, Resource::Queue(bind.destination), batch)
    }

    /// `queue.unbind`. What is not there needs no unbinding.
    pub fn unbind_queue(&self, bind: Bind<'_>) -> Result<(), Refusal> {
        let (destination, routing_key) = self.binding_names(&bind)?;
        let bind = Bind { destination: &destination, routing_key: &routing_key, ..bind };
        self.connection.authorize_queue_binding(&bind)?;
        self.connection.unbind(&bind, Resource::Queue(bind.destination))
    }

    /// RabbitMQ: with both names empty the routing key is the name of the last declared queue.
    fn binding_names(&self, bind: &Bind<'_>) -> Result<(String, String), Refusal> {
        let name = clean_name(self.queue_name(bind.destination)?).into_owned();
        let use_name = bind.destination.is_empty() && bind.routing_key.is_empty();
        let key = if use_name { name.clone() } else { bind.routing_key.to_owned() };
        Ok((name, key))
    }
}

impl Connection {
    /// `exchange.bind`.
    pub fn bind_exchange(&self, bind: Bind<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        self.authorize_binding(&bind, Resource::Exchange(bind.destination))?;
        self.bind(&bind, Resource::Exchange(bind.destination), batch)
    }

    /// `exchange.unbind`. What is not there needs no unbinding.
    pub fn unbind_exchange(&self, bind: Bind<'_>) -> Result<(), Refusal> {
        self.authorize_binding(&bind, Resource::Exchange(bind.destination))?;
        self.unbind(&bind, Resource::Exchange(bind.destination))
    }

    /// Addresses of direct reply-to cannot be bound; the name under which requesters consume is no queue at all.
    fn authorize_queue_binding(&self, bind: &Bind<'_>) -> Result<(), Refusal> {
        if is_reply_to(bind.destination) && bind.destination != REPLY_TO {
            return Err(Refusal::access("cannot bind or unbind to a volatile (direct reply-to) queue"));
        }
        self.authorize_binding(bind, Resource::Queue(bind.destination))
    }

    /// Binding writes to the destination and reads from the source.
    fn authorize_binding(&self, bind: &Bind<'_>, destination: Resource<'_>) -> Result<(), Refusal> {
        self.authorize(Operation::Write, destination)?;
        if bind.source.is_empty() || matches!(destination, Resource::Exchange("")) {
            return Err(default_exchange());
        }
        self.authorize(Operation::Read, Resource::Exchange(bind.source))?;
        match self.vhost.exchange(bind.source) {
            Some(source) => self.authorize_topic(Operation::Read, &source, bind.routing_key),
            None => Ok(()),
        }
    }

    fn bind(&self, bind: &Bind<'_>, destination: Resource<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        // Both ends are looked up under this lock: neither can be deleted before the binding is logged.
        let _change = self.vhost.addition()?;
        let destination = self.existing_destination(destination)?;
        let source = self.vhost.existing_exchange(bind.source)?;
        Bindings::check(source.spec.kind, &destination, bind.routing_key, &bind.arguments)
            .map_err(|bad| Refusal::precondition(bad.to_string()))?;
        // As in RabbitMQ, what is missing or invalid is told before whose the queue is.
        self.check_owner(&destination)?;
        if source.bindings.read().contains(&destination, bind.routing_key, &bind.arguments) {
            return Ok(());
        }
        self.broker.hand_over_history(&self.vhost, &source, &destination, batch)?;
        source.bindings.write().add(destination.clone(), bind.routing_key, &bind.arguments);
        self.vhost.changed();
        let record = record(&self.vhost, &source, &destination, bind.routing_key, &bind.arguments);
        let changes: Vec<_> = record.map(|key| MetaChange::Put(key, Vec::new())).into_iter().collect();
        Ok(self.broker.log_meta(&changes)?)
    }

    fn existing_destination(&self, resource: Resource<'_>) -> Result<Destination, Refusal> {
        Ok(match resource {
            Resource::Queue(name) => Destination::Queue(self.vhost.existing_queue(name)?),
            Resource::Exchange(name) => Destination::Exchange(self.vhost.existing_exchange(name)?),
        })
    }

    /// 405 for a queue that belongs to another connection, 403 for one that belongs to an exchange.
    fn check_owner(&self, destination: &Destination) -> Result<(), Refusal> {
        match destination {
            Destination::Queue(queue) => {
                queue.check_owner(self.port.id)?;
                queue.check_not_internal()
            }
            Destination::Exchange(_) => Ok(()),
        }
    }

    fn unbind(&self, bind: &Bind<'_>, destination: Resource<'_>) -> Result<(), Refusal> {
        let _change = self.vhost.change();
        let Some(source) = self.vhost.exchange(bind.source) else { return Ok(()) };
        let destination = match destination {
            Resource::Queue(name) => self.vhost.queue(name).map(Destination::Queue),
            Resource::Exchange(name) => self.vhost.exchange(name).map(Destination::Exchange),
        };
        let Some(destination) = destination else { return Ok(()) };
        let mut bindings = source.bindings.write();
        if !bindings.contains(&destination, bind.routing_key, &bind.arguments) {
            return Ok(());
        }
        self.check_owner(&destination)?;
        bindings.remove(&destination, bind.routing_key, &bind.arguments);
        let abandoned = source.spec.auto_delete && bindings.is_empty();
        drop(bindings);
        self.vhost.changed();
        let changes: Vec<_> = deletion(&self.vhost, &source, &destination, bind.routing_key, &bind.arguments)
            .into_iter()
            .collect();
        self.broker.log_meta(&changes)?;
        if abandoned {
            self.broker.remove_exchange(&self.vhost, &source)?;
        }
        Ok(())
    }
}

/// What the store must forget with a binding.
pub(crate) fn deletion(
    vhost: &VHost,
    source: &Exchange,
    destination: &Destination,
    routing_key: &str,
    arguments: &FieldTable,
) -> Option<MetaChange> {
    record(vhost, source, destination, routing_key, arguments).map(MetaChange::Delete)
}

/// A binding is durable when both its ends are.
fn record(
    vhost: &VHost,
    source: &Exchange,
    destination: &Destination,
    routing_key: &str,
    arguments: &FieldTable,
) -> Option<Vec<u8>> {
    if !(source.spec.durable && destination.is_durable()) {
        return None;
    }
    let key = BindingKey {
        vhost: vhost.name.to_string(),
        source: source.name.to_string(),
        to_queue: matches!(destination, Destination::Queue(_)),
        destination: destination.name().to_string(),
        routing_key: routing_key.to_owned(),
        // `Bindings::check` has seen that they have this form.
        arguments: arguments.raw_bytes().ok()?,
    };
    Some(Key::Binding(key).encode())
}
