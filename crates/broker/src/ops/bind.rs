//! Binding queues and exchanges to exchanges, and unbinding them.

use std::sync::Arc;

use leveret_store::MetaChange;
use leveret_wire::FieldTable;

use super::exchange::default_exchange;
use super::reply_to::is_reply_to;
use crate::channel::{Channel, clean_name};
use crate::connection::{Connection, Resource};
use crate::error::Refusal;
use crate::exchange::Bindings;
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
    pub fn bind_queue(&self, bind: Bind<'_>) -> Result<(), Refusal> {
        let (destination, routing_key) = self.binding_names(&bind)?;
        let bind = Bind { destination: &destination, routing_key: &routing_key, ..bind };
        let queue = self.authorized_queue(&bind)?;
        self.connection.bind(&bind, Destination::Queue(queue))
    }

    /// `queue.unbind`. What is not there needs no unbinding.
    pub fn unbind_queue(&self, bind: Bind<'_>) -> Result<(), Refusal> {
        let (destination, routing_key) = self.binding_names(&bind)?;
        let bind = Bind { destination: &destination, routing_key: &routing_key, ..bind };
        match self.authorized_queue(&bind) {
            Ok(queue) => self.connection.unbind(&bind, &Destination::Queue(queue)),
            Err(refusal) if refusal.code == leveret_wire::ReplyCode::NOT_FOUND => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn authorized_queue(&self, bind: &Bind<'_>) -> Result<Arc<crate::vhost::Queue>, Refusal> {
        self.connection.authorize_binding(bind, Resource::Queue(bind.destination))?;
        self.usable_queue(bind.destination)
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
    pub fn bind_exchange(&self, bind: Bind<'_>) -> Result<(), Refusal> {
        let destination = self.authorized_exchange(&bind)?;
        self.bind(&bind, Destination::Exchange(destination))
    }

    /// `exchange.unbind`. What is not there needs no unbinding.
    pub fn unbind_exchange(&self, bind: Bind<'_>) -> Result<(), Refusal> {
        match self.authorized_exchange(&bind) {
            Ok(destination) => self.unbind(&bind, &Destination::Exchange(destination)),
            Err(refusal) if refusal.code == leveret_wire::ReplyCode::NOT_FOUND => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn authorized_exchange(&self, bind: &Bind<'_>) -> Result<Arc<Exchange>, Refusal> {
        if bind.destination.is_empty() {
            return Err(default_exchange());
        }
        self.authorize_binding(bind, Resource::Exchange(bind.destination))?;
        self.vhost.existing_exchange(bind.destination)
    }

    /// Binding writes to the destination and reads from the source.
    fn authorize_binding(&self, bind: &Bind<'_>, destination: Resource<'_>) -> Result<(), Refusal> {
        if bind.source.is_empty() {
            return Err(default_exchange());
        }
        if is_reply_to(bind.destination) {
            return Err(Refusal::access("cannot bind or unbind to a volatile (direct reply-to) queue"));
        }
        self.authorize(Operation::Write, destination)?;
        self.authorize(Operation::Read, Resource::Exchange(bind.source))
    }

    fn bind(&self, bind: &Bind<'_>, destination: Destination) -> Result<(), Refusal> {
        let _change = self.vhost.change();
        let source = self.vhost.existing_exchange(bind.source)?;
        Bindings::<Destination>::check(source.spec.kind, &bind.arguments)
            .map_err(|bad| Refusal::precondition(bad.to_string()))?;
        let mut bindings = source.bindings.write();
        if !bindings.add(destination.clone(), bind.routing_key, &bind.arguments) {
            return Ok(());
        }
        drop(bindings);
        self.vhost.changed();
        let record = record(&self.vhost, &source, &destination, bind.routing_key, &bind.arguments);
        let changes: Vec<_> = record.map(|key| MetaChange::Put(key, Vec::new())).into_iter().collect();
        Ok(self.broker.log_meta(&changes)?)
    }

    fn unbind(&self, bind: &Bind<'_>, destination: &Destination) -> Result<(), Refusal> {
        let _change = self.vhost.change();
        let Some(source) = self.vhost.exchange(bind.source) else { return Ok(()) };
        let mut bindings = source.bindings.write();
        if !bindings.remove(destination, bind.routing_key, &bind.arguments) {
            return Ok(());
        }
        let abandoned = source.spec.auto_delete && bindings.is_empty();
        drop(bindings);
        self.vhost.changed();
        let changes: Vec<_> = deletion(&self.vhost, &source, destination, bind.routing_key, &bind.arguments)
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
