//! Putting definitions in force: all of them, or none.
//!
//! ```text
//!   checked ─► new queues, made ─► users ─► logged: one record ─► in place ─► policies ─► components told
//!            nothing has changed so far ┘                       └ cannot fail any more
//! ```
//!
//! A power cut finds all or nothing. Parameters are checked in [`super::define_parameters`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use leveret_store::MetaChange;

use super::define_parameters::Checked;
use super::parameter::{check_lengths, key_of};
use super::queue::check_properties;
use crate::arguments::check_queue;
use crate::broker::Broker;
use crate::dedup;
use crate::definitions::{DefinedBinding, DefinedExchange, DefinedQueue, Definitions, DefinitionsError};
use crate::error::{Refusal, exchange_in, queue_in};
use crate::exchange::{Bindings, ExchangeKind, Member, check_declaration};
use crate::parameters::encode_global;
use crate::policies::encode;
use crate::port::Batch;
use crate::records::{BindingKey, Key, encode_exchange};
use crate::users::{Permissions, TopicPermissions, Users};
use crate::vhost::{Destination, Exchange, ExchangeSpec, Queue, QueueSpec, VHost};

/// The longest name, and the longest routing key.
const NAME_MAX_BYTES: usize = 255;

type Outcome<T> = Result<T, DefinitionsError>;

/// A virtual host that definitions are about.
struct Site {
    vhost: Arc<VHost>,
    is_new: bool,
}

/// Virtual host and name.
type Place = (Arc<str>, String);

/// What is put in place once it is logged.
#[derive(Default)]
struct Made {
    changes: Vec<MetaChange>,
    queues: HashMap<Place, (Arc<VHost>, Arc<Queue>)>,
    exchanges: HashMap<Place, (Arc<VHost>, ExchangeSpec)>,
}

/// The end of a binding, as far as its check asks.
#[derive(Clone, PartialEq, Eq, Hash)]
struct End {
    is_queue: bool,
}

impl Member for End {
    fn stable_name(&self) -> Vec<u8> {
        Vec::new()
    }

    fn is_queue(&self) -> bool {
        self.is_queue
    }
}

impl Broker {
    /// Puts definitions in force, on behalf of a user, or of the first administrator. Durable once
    /// [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// Something makes no sense, or the log failed; nothing has changed then.
    pub fn define(&self, definitions: &Definitions, by: Option<&str>, batch: &mut Batch) -> Outcome<()> {
        let parameters = self.check_parameters(definitions, by)?;
        self.define_at_once(definitions, &parameters, by, batch)?;
        let users = definitions.users.iter().map(|user| &user.name);
        let permitted = definitions.permissions.iter().map(|permissions| &permissions.user);
        let changed: BTreeSet<_> = users.chain(permitted).collect();
        changed.into_iter().for_each(|name| self.wake_connections_of(name));
        parameters.tell();
        Ok(())
    }

    fn define_at_once(
        &self,
        definitions: &Definitions,
        parameters: &Checked,
        by: Option<&str>,
        batch: &mut Batch,
    ) -> Outcome<()> {
        let turn = self.administration.lock();
        let sites = self.sites(definitions);
        // Nothing is added or deleted meanwhile by others. No one else locks two virtual hosts.
        let changes = sites.values().map(|site| site.vhost.addition()).collect::<Result<Vec<_>, _>>()?;
        let parameter_changes = self.parameters.changes.lock();
        self.check(definitions, &sites)?;
        let mut made = self.make(definitions, &sites)?;
        let new = sites.values().filter(|site| site.is_new);
        let own: Vec<_> =
            by.into_iter().flat_map(|by| new.clone().map(move |site| (by, &*site.vhost.name))).collect();
        made.changes
            .extend(parameters.list.iter().map(|one| MetaChange::Put(key_of(one).encode(), one.encode())));
        self.put_users(definitions, &own, &mut made.changes)?;
        self.log_meta(&made.changes).map_err(Refusal::from)?;
        batch.urgent |= !made.changes.is_empty();
        self.put_in_place(made, definitions, &sites, batch);
        parameters.list.iter().for_each(|parameter| self.parameters.put(parameter.clone()));
        for (name, site) in sites.iter().filter(|(_, site)| site.is_new) {
            self.vhosts.write().insert(name.clone(), site.vhost.clone());
        }
        drop(parameter_changes);
        drop(changes);
        drop(turn);
        Ok(())
    }

    /// The virtual hosts that are named, those that are new among them.
    fn sites(&self, definitions: &Definitions) -> BTreeMap<String, Site> {
        let mut sites = BTreeMap::new();
        for name in definitions.vhosts.iter().map(|(name, _)| name.as_str()).chain(definitions.places()) {
            if let Some(vhost) = self.vhost(name) {
                sites.insert(name.to_owned(), Site { vhost, is_new: false });
            }
        }
        for (name, _) in &definitions.vhosts {
            let new = || Site { vhost: VHost::new(name), is_new: true };
            sites.entry(name.clone()).or_insert_with(new);
        }
        sites
    }

    fn check(&self, definitions: &Definitions, sites: &BTreeMap<String, Site>) -> Outcome<()> {
        if let Some(missing) = definitions.places().find(|name| !sites.contains_key(*name)) {
            return Err(DefinitionsError::NoVHost(missing.to_owned()));
        }
        for (name, metadata) in &definitions.vhosts {
            let what = format!("vhost '{name}'");
            check_name(&what, name)?;
            let checked = metadata.as_ref().map_or(Ok(()), |metadata| metadata.check());
            checked.map_err(|error| DefinitionsError::invalid(what, &error))?;
        }
        for user in &definitions.users {
            Users::check(&user.name, &user.tags)
                .map_err(|error| DefinitionsError::of_user(&user.name, &error))?;
        }
        for of in &definitions.topic_permissions {
            let checked = TopicPermissions::new(&of.write, &of.read, &of.user, &of.vhost);
            checked.map_err(|bad| DefinitionsError::invalid(format!("user '{}'", of.user), &bad))?;
        }
        for parameter in &definitions.global_parameters {
            let what = || format!("global parameter '{}'", parameter.name);
            check_lengths(&parameter.name, &parameter.value)
                .map_err(|error| DefinitionsError::invalid(what(), &error))?;
        }
        let defined: BTreeSet<_> = definitions.users.iter().map(|user| user.name.as_str()).collect();
        let named = definitions.permissions.iter().map(|permissions| permissions.user.as_str());
        let named = named.chain(definitions.topic_permissions.iter().map(|keys| keys.user.as_str()));
        match named.into_iter().find(|name| !defined.contains(name) && self.users.find(name).is_none()) {
            None => Ok(()),
            Some(missing) => Err(DefinitionsError::NoUser(missing.to_owned())),
        }
    }

    /// Makes what is new, and the records of everything but users.
    fn make(&self, definitions: &Definitions, sites: &BTreeMap<String, Site>) -> Outcome<Made> {
        let mut made = Made { changes: settings(definitions, sites)?, ..Made::default() };
        for exchange in &definitions.exchanges {
            let vhost = &sites[&exchange.vhost].vhost;
            if made.exchange(vhost, &exchange.name).is_none() {
                self.make_exchange(vhost, exchange, &mut made)?;
            }
        }
        for queue in &definitions.queues {
            let vhost = &sites[&queue.vhost].vhost;
            if made.queue(vhost, &queue.name).is_none() {
                self.make_queue(vhost, queue, &mut made)?;
            }
        }
        for binding in &definitions.bindings {
            made.bind(&sites[&binding.vhost].vhost, binding)?;
        }
        Ok(made)
    }

    fn make_exchange(&self, vhost: &Arc<VHost>, defined: &DefinedExchange, made: &mut Made) -> Outcome<()> {
        let DefinedExchange { name, kind, arguments, .. } = defined;
        let what = exchange_in(name, &vhost.name);
        check_name(&what, name)?;
        let invalid = |reason: &dyn ToString| DefinitionsError::invalid(&*what, &reason.to_string());
        let parsed = ExchangeSpec::parse_type(kind, arguments).map_err(|refusal| invalid(&refusal))?;
        let (kind, delays) = parsed.ok_or_else(|| invalid(&format!("unknown exchange type '{kind}'")))?;
        check_declaration(kind, arguments).map_err(|bad| invalid(&bad))?;
        let spec = ExchangeSpec {
            kind,
            delays,
            durable: defined.durable,
            auto_delete: defined.auto_delete,
            internal: defined.internal,
            arguments: arguments.clone(),
        };
        let encoded = encode_exchange(&spec).map_err(|error| invalid(&error))?;
        if spec.durable {
            let key = Key::Exchange(vhost.name.to_string(), name.clone()).encode();
            made.changes.push(MetaChange::Put(key, encoded));
        }
        let history = self.new_internal_queue(vhost, name, &spec, &mut made.changes)?;
        let delays = self.new_delay_queue_of_exchange(vhost, name, &spec, &mut made.changes)?;
        history.into_iter().chain(delays).for_each(|queue| made.add_queue(vhost, queue));
        made.exchanges.insert((vhost.name.clone(), name.clone()), (vhost.clone(), spec));
        Ok(())
    }

    fn make_queue(&self, vhost: &Arc<VHost>, defined: &DefinedQueue, made: &mut Made) -> Outcome<()> {
        let what = queue_in(&defined.name, &vhost.name);
        check_name(&what, &defined.name)?;
        let invalid = |reason: &dyn ToString| DefinitionsError::invalid(&*what, &reason.to_string());
        let spec = QueueSpec {
            durable: defined.durable,
            owner: None,
            auto_delete: defined.auto_delete,
            internal: false,
            arguments: defined.arguments.clone(),
        };
        let kind = check_queue(&spec.arguments, &what).map_err(|refusal| invalid(&refusal.explanation))?;
        dedup::check(&spec.arguments, false).map_err(|bad| invalid(&bad))?;
        check_properties(kind, &spec, &what, false).map_err(|refusal| invalid(&refusal.explanation))?;
        spec.arguments.raw_bytes().map_err(|error| invalid(&error))?;
        let queue = self.new_queue(vhost, &defined.name, spec, &mut made.changes)?;
        let delays = self.new_delay_queue_of(vhost, &queue, &mut made.changes)?;
        delays.into_iter().chain([queue]).for_each(|queue| made.add_queue(vhost, queue));
        Ok(())
    }

    /// The users are in force from here on; that is as early as `save_user` has it.
    /// Whoever makes a virtual host may use it, unless the definitions say what else (RabbitMQ's rule): `own`.
    fn put_users(
        &self,
        definitions: &Definitions,
        own: &[(&str, &str)],
        changes: &mut Vec<MetaChange>,
    ) -> Outcome<()> {
        let mut changed = BTreeSet::new();
        for (user, vhost) in own {
            let set = self.users.set_permissions(user, vhost, Permissions::all());
            set.map_err(|error| DefinitionsError::of_user(user, &error))?;
            changed.insert(*user);
        }
        for user in &definitions.users {
            let put = self.users.put(&user.name, user.password.clone(), user.tags.clone());
            put.map_err(|error| DefinitionsError::of_user(&user.name, &error))?;
            changed.insert(user.name.as_str());
            if let Some(limits) = user.limits {
                changes.push(MetaChange::Put(Key::UserLimits(user.name.clone()).encode(), limits.encode()));
                self.user_quotas.of(&user.name).set(limits);
            }
        }
        for of in &definitions.permissions {
            let set = self.users.set_permissions(&of.user, &of.vhost, of.permissions.clone());
            set.map_err(|error| DefinitionsError::of_user(&of.user, &error))?;
            changed.insert(of.user.as_str());
        }
        for of in &definitions.topic_permissions {
            let set =
                self.users.set_topic_permissions(&of.user, &of.vhost, &of.exchange, &of.write, &of.read);
            set.map_err(|error| DefinitionsError::of_user(&of.user, &error))?;
            changed.insert(of.user.as_str());
        }
        for name in changed {
            if let Some(record) = self.users.encode(name) {
                changes.push(MetaChange::Put(Key::User(name.to_owned()).encode(), record));
            }
        }
        Ok(())
    }

    fn put_in_place(
        &self,
        made: Made,
        definitions: &Definitions,
        sites: &BTreeMap<String, Site>,
        batch: &mut Batch,
    ) {
        for (vhost, queue) in made.queues.into_values() {
            vhost.add_queue(queue);
        }
        for ((_, name), (vhost, spec)) in made.exchanges {
            vhost.add_exchange(&name, spec);
        }
        for binding in &definitions.bindings {
            self.put_binding(&sites[&binding.vhost].vhost, binding, batch);
        }
        for (name, metadata) in &definitions.vhosts {
            metadata.iter().for_each(|metadata| sites[name].vhost.set_metadata(metadata.clone()));
        }
        for (name, limits) in &definitions.vhost_limits {
            sites[name].vhost.set_limits(*limits);
        }
        for parameter in &definitions.global_parameters {
            self.parameters.put_global(&parameter.name, parameter.value.clone());
        }
        let mut concerned = BTreeSet::new();
        for (name, author, policy) in &definitions.policies {
            sites[name].vhost.policies.write().put(*author, Arc::new(policy.clone()));
            concerned.insert(name);
        }
        for name in concerned {
            self.put_in_force(&sites[name].vhost, batch);
        }
    }

    fn put_binding(&self, vhost: &VHost, binding: &DefinedBinding, batch: &mut Batch) {
        let Some((source, destination)) = ends(vhost, binding) else {
            let DefinedBinding { source, destination, .. } = binding;
            tracing::warn!(%source, %destination, vhost = %vhost.name, "a binding is passed over: an end is missing");
            return;
        };
        let DefinedBinding { routing_key, arguments, .. } = binding;
        if source.bindings.read().contains(&destination, routing_key, arguments) {
            return;
        }
        if let Err(refusal) = self.hand_over_history(vhost, &source, &destination, batch) {
            tracing::warn!(%refusal, exchange = %source.name, "the history of an exchange is not handed over");
        }
        source.bindings.write().add(destination, routing_key, arguments);
        vhost.changed();
    }
}

impl Made {
    fn add_queue(&mut self, vhost: &Arc<VHost>, queue: Arc<Queue>) {
        self.queues.insert((vhost.name.clone(), queue.name.to_string()), (vhost.clone(), queue));
    }

    /// Whether there is such a queue, or will be, and whether it is durable.
    fn queue(&self, vhost: &VHost, name: &str) -> Option<bool> {
        let there = vhost.queue(name).map(|queue| queue.spec.durable);
        let place = (vhost.name.clone(), name.to_owned());
        there.or_else(|| self.queues.get(&place).map(|(_, queue)| queue.spec.durable))
    }

    /// The same for an exchange, and its kind.
    fn exchange(&self, vhost: &VHost, name: &str) -> Option<(ExchangeKind, bool)> {
        let there = vhost.exchange(name).map(|exchange| (exchange.spec.kind, exchange.spec.durable));
        let place = (vhost.name.clone(), name.to_owned());
        there.or_else(|| self.exchanges.get(&place).map(|(_, spec)| (spec.kind, spec.durable)))
    }

    /// Checks a binding whose ends are there or will be. It is durable when both are.
    fn bind(&mut self, vhost: &VHost, binding: &DefinedBinding) -> Outcome<()> {
        let DefinedBinding { source, destination, to_queue, routing_key, arguments, .. } = binding;
        let to = if *to_queue {
            self.queue(vhost, destination)
        } else {
            self.exchange(vhost, destination).map(|(_, durable)| durable)
        };
        let (Some((kind, durable)), Some(to_durable)) = (self.exchange(vhost, source), to) else {
            return Ok(());
        };
        let what = || format!("binding of '{destination}' to {}", exchange_in(source, &vhost.name));
        if source.is_empty() || routing_key.len() > NAME_MAX_BYTES {
            let reason = "the default exchange binds itself, and a key has at most 255 octets";
            return Err(DefinitionsError::invalid(what(), &reason));
        }
        Bindings::check(kind, &End { is_queue: *to_queue }, routing_key, arguments)
            .map_err(|bad| DefinitionsError::invalid(what(), &bad))?;
        if durable && to_durable {
            let key = BindingKey {
                vhost: vhost.name.to_string(),
                source: source.clone(),
                to_queue: *to_queue,
                destination: destination.clone(),
                routing_key: routing_key.clone(),
                arguments: arguments.raw_bytes().map_err(Refusal::from)?,
            };
            self.changes.push(MetaChange::Put(Key::Binding(key).encode(), Vec::new()));
        }
        Ok(())
    }
}

/// The records of what is neither made nor of users.
fn settings(definitions: &Definitions, sites: &BTreeMap<String, Site>) -> Outcome<Vec<MetaChange>> {
    let mut changes = Vec::new();
    for (name, metadata) in &definitions.vhosts {
        let key = Key::VHost(name.clone()).encode();
        match metadata {
            Some(metadata) => changes.push(MetaChange::Put(key, metadata.encode())),
            None if sites[name].is_new => changes.push(MetaChange::Put(key, Vec::new())),
            None => {}
        }
    }
    for (name, limits) in &definitions.vhost_limits {
        changes.push(MetaChange::Put(Key::VHostLimits(name.clone()).encode(), limits.encode()));
    }
    for (vhost, author, policy) in &definitions.policies {
        let record = encode(policy).map_err(Refusal::from)?;
        let key = Key::Policy(*author, vhost.clone(), policy.name.clone()).encode();
        changes.push(MetaChange::Put(key, record));
    }
    for parameter in &definitions.global_parameters {
        let key = Key::GlobalParameter(parameter.name.clone()).encode();
        changes.push(MetaChange::Put(key, encode_global(&parameter.value)));
    }
    Ok(changes)
}

impl Definitions {
    /// The virtual hosts that something is in.
    fn places(&self) -> impl Iterator<Item = &str> {
        let limits = self.vhost_limits.iter().map(|(vhost, _)| vhost);
        let policies = self.policies.iter().map(|(vhost, ..)| vhost);
        let permissions = self.permissions.iter().map(|of| &of.vhost);
        let topic_permissions = self.topic_permissions.iter().map(|of| &of.vhost);
        let parameters = self.parameters.iter().map(|of| &of.vhost);
        let queues = self.queues.iter().map(|of| &of.vhost);
        let exchanges = self.exchanges.iter().map(|of| &of.vhost);
        let bindings = self.bindings.iter().map(|of| &of.vhost);
        let settings = limits.chain(policies).chain(permissions).chain(topic_permissions).chain(parameters);
        settings.chain(queues).chain(exchanges).chain(bindings).map(String::as_str)
    }
}

/// The ends of a binding, if they are there.
fn ends(vhost: &VHost, binding: &DefinedBinding) -> Option<(Arc<Exchange>, Destination)> {
    let source = vhost.exchange(&binding.source)?;
    let destination = match binding.to_queue {
        true => Destination::Queue(vhost.queue(&binding.destination)?),
        false => Destination::Exchange(vhost.exchange(&binding.destination)?),
    };
    Some((source, destination))
}

fn check_name(what: &str, name: &str) -> Outcome<()> {
    match (1..=NAME_MAX_BYTES).contains(&name.len()) {
        true => Ok(()),
        false => Err(DefinitionsError::invalid(what, &"a name has 1 to 255 octets")),
    }
}
