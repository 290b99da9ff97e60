//! Declaring and deleting exchanges.

use std::sync::Arc;

use leveret_store::MetaChange;
use leveret_wire::{FieldTable, FieldValue};

use crate::arguments::{inequivalent, same_for_exchange};
use crate::broker::Broker;
use crate::channel::clean_name;
use crate::connection::{Connection, Resource};
use crate::error::{Refusal, exchange_in};
use crate::exchange::{ExchangeKind, check_declaration};
use crate::records::{Key, encode_exchange};
use crate::users::Operation;
use crate::vhost::{DELAYED_TYPE, Destination, Exchange, ExchangeSpec, VHost};

/// `exchange.declare`.
#[derive(Debug)]
pub struct DeclareExchange<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, by name.
    pub kind: &'a str,
    /// Only ask whether it exists.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Arguments.
    pub arguments: FieldTable,
}

impl Connection {
    /// Declares an exchange, or checks that it is what was asked for.
    pub fn declare_exchange(&self, declare: DeclareExchange<'_>) -> Result<(), Refusal> {
        let name = clean_name(declare.name);
        if declare.passive {
            return self.look_up_exchange(&name);
        }
        let (kind, delays) = exchange_type(declare.kind, &declare.arguments)?;
        if name.is_empty() {
            return Err(default_exchange());
        }
        self.authorize(Operation::Configure, Resource::Exchange(&name))?;
        let spec = ExchangeSpec {
            kind,
            delays,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
        };
        let _change = self.vhost.addition()?;
        match self.vhost.exchange(&name) {
            Some(existing) => same_exchange(&existing, &spec, &self.vhost),
            None => self.create_exchange(&name, spec),
        }
    }

    fn look_up_exchange(&self, name: &str) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(default_exchange());
        }
        self.vhost.existing_exchange(name)?;
        self.authorize_any(Resource::Exchange(name))
    }

    fn create_exchange(&self, name: &str, spec: ExchangeSpec) -> Result<(), Refusal> {
        if name.starts_with("amq.") {
            return Err(Refusal::access(format!("exchange name '{name}' contains reserved prefix 'amq.*'")));
        }
        self.check_alternate(name, &spec)?;
        check_declaration(spec.kind, &spec.arguments)
            .map_err(|bad| Refusal::precondition(bad.to_string()))?;
        let mut changes = Vec::new();
        if spec.durable {
            let key = Key::Exchange(self.vhost.name.to_string(), name.to_owned()).encode();
            changes.push(MetaChange::Put(key, encode_exchange(&spec)?));
        }
        let history = self.broker.new_internal_queue(&self.vhost, name, &spec, &mut changes)?;
        let delay_queue = self.broker.new_delay_queue_of_exchange(&self.vhost, name, &spec, &mut changes)?;
        self.broker.log_meta(&changes)?;
        for queue in history.into_iter().chain(delay_queue) {
            self.vhost.add_queue(queue);
        }
        self.vhost.add_exchange(name, spec);
        Ok(())
    }

    /// What an exchange cannot route, its declarer must be allowed to read and to write elsewhere.
    fn check_alternate(&self, name: &str, spec: &ExchangeSpec) -> Result<(), Refusal> {
        let Some(value) = spec.arguments.get("alternate-exchange") else { return Ok(()) };
        let Some(alternate) = value.as_str() else {
            return Err(Refusal::precondition(format!(
                "invalid type '{}' for arg 'alternate-exchange' in {}",
                value.type_name(),
                exchange_in(name, &self.vhost.name)
            )));
        };
        self.authorize(Operation::Read, Resource::Exchange(name))?;
        self.authorize(Operation::Write, Resource::Exchange(alternate))
    }

    /// Deletes an exchange; one that is missing is as good as deleted.
    pub fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<(), Refusal> {
        let name = clean_name(name);
        if name.is_empty() {
            return Err(default_exchange());
        }
        self.authorize(Operation::Configure, Resource::Exchange(&name))?;
        if name.starts_with("amq.") && self.vhost.exchange(&name).is_some() {
            return Err(Refusal::access(format!(
                "deletion of system {} not allowed",
                exchange_in(&name, &self.vhost.name)
            )));
        }
        let _change = self.vhost.change();
        let Some(exchange) = self.vhost.exchange(&name) else { return Ok(()) };
        if if_unused && !exchange.bindings.read().is_empty() {
            return Err(Refusal::precondition(format!("{} in use", exchange_in(&name, &self.vhost.name))));
        }
        self.broker.remove_exchange(&self.vhost, &exchange)
    }
}

impl Broker {
    /// Removes an exchange and every binding from and to it. The caller holds [`VHost::change`].
    pub(crate) fn remove_exchange(&self, vhost: &VHost, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        let mut changes = Vec::new();
        if exchange.spec.durable {
            let key = Key::Exchange(vhost.name.to_string(), exchange.name.to_string());
            changes.push(MetaChange::Delete(key.encode()));
        }
        vhost.remove_exchange(&exchange.name);
        let internal = self.remove_internal_queue(vhost, exchange, &mut changes);
        changes.extend(vhost.close_window(exchange.deduplicator.as_ref()));
        let delay_queue = self.remove_delay_queue_of_exchange(vhost, exchange, &mut changes);
        for (destination, key, arguments) in exchange.bindings.write().drain() {
            changes.extend(super::bind::deletion(vhost, exchange, &destination, &key, &arguments));
        }
        self.remove_destination(vhost, &Destination::Exchange(exchange.clone()), &mut changes)?;
        self.log_meta(&changes)?;
        internal.into_iter().chain(delay_queue).for_each(|queue| self.drop_files(&queue));
        Ok(())
    }

    /// Removes every binding to `destination`; auto-delete exchanges that lose their last one go too.
    pub(crate) fn remove_destination(
        &self,
        vhost: &VHost,
        destination: &Destination,
        changes: &mut Vec<MetaChange>,
    ) -> Result<(), Refusal> {
        for source in vhost.exchanges() {
            if source.bindings.read().is_empty() {
                continue;
            }
            let mut bindings = source.bindings.write();
            let removed = bindings.remove_destination(destination);
            let abandoned = !removed.is_empty() && source.spec.auto_delete && bindings.is_empty();
            drop(bindings);
            for (key, arguments) in removed {
                changes.extend(super::bind::deletion(vhost, &source, destination, &key, &arguments));
            }
            if abandoned {
                self.remove_exchange(vhost, &source)?;
            }
        }
        Ok(())
    }
}

fn exchange_type(name: &str, arguments: &FieldTable) -> Result<(ExchangeKind, bool), Refusal> {
    let refused = if name.is_empty() { "invalid" } else { "unknown" };
    let unknown = || {
        let delayed = arguments.get("x-delayed-type").and_then(FieldValue::as_str);
        let name = delayed.filter(|_| name == DELAYED_TYPE).unwrap_or(name);
        Refusal::precondition(format!("{refused} exchange type '{name}'"))
    };
    ExchangeSpec::parse_type(name, arguments)?.ok_or_else(unknown)
}

/// The refusal of anything that would change the default exchange.
pub(crate) fn default_exchange() -> Refusal {
    Refusal::access("operation not permitted on the default exchange")
}

fn same_exchange(existing: &Exchange, spec: &ExchangeSpec, vhost: &VHost) -> Result<(), Refusal> {
    let described = exchange_in(&existing.name, &vhost.name);
    let current = &existing.spec;
    let quoted = |text: &str| format!("'{text}'");
    let check = |key: &str, received: &str, current: &str| match received == current {
        true => Ok(()),
        false => Err(inequivalent(key, &described, &quoted(received), &quoted(current))),
    };
    let flag =
        |key: &str, received: bool, current: bool| check(key, &received.to_string(), &current.to_string());
    check("type", spec.type_name(), current.type_name())?;
    check("x-delayed-type", spec.kind.name(), current.kind.name())?;
    flag("durable", spec.durable, current.durable)?;
    flag("auto_delete", spec.auto_delete, current.auto_delete)?;
    flag("internal", spec.internal, current.internal)?;
    same_for_exchange(&current.arguments, &spec.arguments, &described)
}
