//! Declaring, purging and deleting queues.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::HashSet;
use leveret_store::{MessageId, MetaChange, QueueId, StoreFailed};
use leveret_wire::FieldTable;

use super::reply_to::is_reply_to;
use crate::arguments::{check_queue, inequivalent, same_for_queue};
use crate::broker::Broker;
use crate::channel::{Channel, clean_name};
use crate::connection::{Connection, Resource};
use crate::dedup;
use crate::error::{Refusal, queue_in};
use crate::port::Batch;
use crate::queue::{Courier, Rule};
use crate::records::{Key, attempts_of, encode_queue};
use crate::settings::QueueKind;
use crate::users::Operation;
use crate::vhost::{Destination, Life, Queue, QueueSpec, VHost};

/// `queue.declare`.
#[derive(Debug)]
pub struct DeclareQueue<'a> {
    /// Its name; empty: the broker makes one up.
    pub name: &'a str,
    /// Only ask whether it exists.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// Only this connection may use it; it goes with the connection.
    pub exclusive: bool,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
    /// Arguments.
    pub arguments: FieldTable,
}

/// `queue.declare-ok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOk {
    /// Its name.
    pub name: Arc<str>,
    /// Messages that wait.
    pub messages: u64,
    /// Consumers.
    pub consumers: u32,
}

impl Channel {
    /// Declares a queue, or checks that it is what was asked for.
    pub fn declare_queue(
        &mut self,
        declare: DeclareQueue<'_>,
        batch: &mut Batch,
    ) -> Result<QueueOk, Refusal> {
        let name = clean_name(declare.name).into_owned();
        if is_reply_to(&name) {
            return self.declare_reply_to(&name);
        }
        let queue = if declare.passive {
            self.connection.authorize_any(Resource::Queue(&name))?;
            self.usable_queue(&name)?
        } else {
            let declared = self.connection.declare_queue(&name, declare)?;
            self.connection.broker.churn.queues_declared.add_shared(1);
            declared
        };
        self.last_queue = Some(queue.name.clone());
        self.connection.broker.queue_ok(&queue, batch)
    }

    /// Drops what waits in a queue; answers how many messages that were.
    pub fn purge_queue(&self, name: &str) -> Result<u64, Refusal> {
        let name = self.queue_name(name)?;
        self.connection.authorize(Operation::Read, Resource::Queue(name))?;
        let queue = self.usable_queue(name)?;
        queue.refuse_if_stream(true, "queue.purge")?;
        self.connection.broker.purge(&queue)
    }

    /// Deletes a queue; answers how many messages it had. One that is missing is as good as deleted.
    pub fn delete_queue(
        &self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
        batch: &mut Batch,
    ) -> Result<u64, Refusal> {
        let name = clean_name(self.queue_name(name)?).into_owned();
        let connection = &self.connection;
        connection.authorize(Operation::Configure, Resource::Queue(&name))?;
        let Some(queue) = connection.vhost.queue(&name) else { return Ok(0) };
        queue.check_owner(connection.port.id)?;
        queue.check_not_internal()?;
        let delayed = connection.vhost.delayed_len(&queue);
        if let Life::Alive(state) = &*queue.lock() {
            if if_unused && state.consumer_count() > 0 {
                return Err(Refusal::precondition(format!("{} in use", queue.described())));
            }
            if if_empty && state.ready_len() + delayed > 0 {
                return Err(Refusal::precondition(format!("{} not empty", queue.described())));
            }
        }
        connection.disowns(&queue);
        connection.broker.remove_queue(&connection.vhost, &queue, batch)
    }
}

impl Connection {
    fn declare_queue(&self, name: &str, declare: DeclareQueue<'_>) -> Result<Arc<Queue>, Refusal> {
        let generated = if name.is_empty() { generated_name("amq.gen-")? } else { String::new() };
        let name = if name.is_empty() { &generated } else { name };
        if generated.is_empty() && name.starts_with("amq.") {
            return Err(Refusal::access(format!("queue name '{name}' contains reserved prefix 'amq.*'")));
        }
        self.authorize(Operation::Configure, Resource::Queue(name))?;
        let lives_on = declare.durable && !declare.exclusive && !declare.auto_delete;
        let spec = QueueSpec {
            durable: declare.durable && !declare.exclusive,
            owner: declare.exclusive.then_some(self.port.id),
            auto_delete: declare.auto_delete,
            internal: false,
            arguments: self.vhost.with_queue_type(declare.arguments, lives_on),
        };
        let _change = self.vhost.addition()?;
        if let Some(existing) = self.vhost.queue(name) {
            same_queue(&existing, &spec, self.port.id)?;
            return Ok(existing);
        }
        self.vhost.check_queue_limit(name)?;
        self.check_dead_letters(name, &spec)?;
        let described = queue_in(name, &self.vhost.name);
        let kind = check_queue(&spec.arguments, &described)?;
        dedup::check(&spec.arguments, false).map_err(|bad| Refusal::precondition(bad.to_string()))?;
        check_properties(kind, &spec, &described, !generated.is_empty())?;
        self.create_queue(name, spec)
    }

    fn create_queue(&self, name: &str, spec: QueueSpec) -> Result<Arc<Queue>, Refusal> {
        let exclusive = spec.owner.is_some();
        let mut changes = Vec::new();
        let queue = self.broker.new_queue(&self.vhost, name, spec, &mut changes)?;
        let delay_queue = self.broker.new_delay_queue_of(&self.vhost, &queue, &mut changes)?;
        self.broker.log_meta(&changes)?;
        delay_queue.into_iter().for_each(|queue| self.vhost.add_queue(queue));
        self.vhost.add_queue(queue.clone());
        if exclusive {
            self.owns(queue.clone());
        }
        self.broker.churn.queues_created.add_shared(1);
        Ok(queue)
    }

    /// Dead letters are read from this queue and written to another exchange.
    fn check_dead_letters(&self, name: &str, spec: &QueueSpec) -> Result<(), Refusal> {
        let Some(value) = spec.arguments.get("x-dead-letter-exchange") else { return Ok(()) };
        let Some(exchange) = value.as_str() else {
            return Err(Refusal::precondition(format!(
                "invalid type '{}' for arg 'x-dead-letter-exchange' in {}",
                value.type_name(),
                queue_in(name, &self.vhost.name)
            )));
        };
        self.authorize(Operation::Read, Resource::Queue(name))?;
        self.authorize(Operation::Write, Resource::Exchange(exchange))
    }
}

impl Broker {
    /// Makes a queue that is in no virtual host yet; what the store has to know of it is added to `changes`.
    pub(crate) fn new_queue(
        &self,
        vhost: &VHost,
        name: &str,
        spec: QueueSpec,
        changes: &mut Vec<MetaChange>,
    ) -> Result<Arc<Queue>, Refusal> {
        let kind = QueueKind::of(&spec.arguments);
        let id = self.next_queue_id(u64::from(kind.max_level(&spec.arguments)) + 1);
        if spec.durable {
            let key = Key::Queue(vhost.name.to_string(), name.to_owned()).encode();
            changes.push(MetaChange::Put(key, encode_queue(id, &spec)?));
        }
        let policies = vhost.policies_for(name, &spec);
        let settings = Arc::new(self.limits.settings(kind, &spec.arguments, &policies));
        let life = Life::Alive(Rule::new(kind, settings.clone()));
        let queue = Queue::new(id, name.into(), vhost.name.clone(), spec, life);
        queue.put_in_force(policies, settings);
        Ok(queue)
    }

    /// Drops what waits in a queue.
    pub(crate) fn purge(&self, queue: &Arc<Queue>) -> Result<u64, Refusal> {
        // Every logged message is in its queue now, so "up to here" in the log and in memory mean the same.
        let _everything_has_arrived = self.in_flight.write();
        let mut life = queue.lock();
        let state = life.alive(queue)?;
        let levels = state.levels();
        let purged = state.purge();
        if purged > 0 && queue.spec.durable {
            for level in levels {
                self.log_purge(queue.store_id(level), &state.unacked_ids(level))?;
            }
        }
        Ok(purged)
    }

    /// Everything in a level of a queue is gone but what consumers have.
    fn log_purge(&self, id: QueueId, keep: &[MessageId]) -> Result<(), StoreFailed> {
        self.store.purge(id, MessageId(self.store.appended()), keep)?;
        let kept: HashSet<Vec<u8>> =
            keep.iter().map(|message| Key::Attempts(id, *message).encode()).collect();
        self.store.forget_notes(&attempts_of(id), |key| kept.contains(key))
    }

    /// Removes a queue with its bindings, ends its consumers, answers how many messages waited.
    pub(crate) fn remove_queue(
        &self,
        vhost: &VHost,
        queue: &Arc<Queue>,
        batch: &mut Batch,
    ) -> Result<u64, Refusal> {
        let _change = vhost.change();
        let life = std::mem::replace(&mut *queue.lock(), Life::Gone);
        if matches!(life, Life::Gone) {
            return Ok(0);
        }
        self.count_deleted(vhost, queue);
        let mut changes = Vec::new();
        if queue.spec.durable {
            let key = Key::Queue(vhost.name.to_string(), queue.name.to_string());
            changes.push(MetaChange::Delete(key.encode()));
            changes.push(MetaChange::Delete(Key::Paused(queue.id).encode()));
            if matches!(life, Life::Damaged(..)) {
                changes.push(MetaChange::Delete(Key::Damaged(queue.id).encode()));
            }
        }
        changes.extend(vhost.close_window(queue.deduplicator.as_ref()));
        self.remove_destination(vhost, &Destination::Queue(queue.clone()), &mut changes)?;
        let delay_queue = self.remove_delay_queue_of(vhost, queue, &mut changes);
        self.log_meta(&changes)?;
        delay_queue.iter().for_each(|queue| self.drop_files(queue));
        batch.urgent |= !changes.is_empty();
        let Life::Alive(mut state) = life else { return Ok(0) };
        if queue.spec.durable || state.has_put_aside() {
            self.drop_files(queue);
        }
        if queue.settings().counts_attempts {
            queue
                .store_ids()
                .try_for_each(|id| self.store.forget_notes(&attempts_of(QueueId(id)), |_| false))?;
        }
        for consumer in state.remove_consumers() {
            consumer.port.consumer_cancelled(&consumer.tag, batch);
        }
        Ok(state.ready_len())
    }

    /// Takes a queue out of its virtual host, and keeps what it has counted: in one step to whoever sums up.
    fn count_deleted(&self, vhost: &VHost, queue: &Arc<Queue>) {
        let mut deleted = self.deleted_queues.lock();
        vhost.remove_queue(queue);
        *deleted.entry(queue.kind).or_default() += queue.counts();
        if !queue.spec.internal {
            self.churn.queues_deleted.add_shared(1);
        }
    }

    /// What `declare-ok` says; being declared is being used.
    fn queue_ok(&self, queue: &Arc<Queue>, batch: &mut Batch) -> Result<QueueOk, Refusal> {
        self.with_queue(queue, batch, |state, carrier, aftermath| {
            state.used(carrier.now_ms());
            state.pump(carrier, aftermath)?;
            let (messages, consumers) = (state.ready_len(), state.consumer_count() as u32);
            Ok(QueueOk { name: queue.name.clone(), messages, consumers })
        })
    }

    /// Removes a queue that nobody has used for too long.
    pub(crate) fn remove_unused(&self, vhost: &VHost, queue: &Arc<Queue>, batch: &mut Batch) {
        if let Err(refusal) = self.remove_queue(vhost, queue, batch) {
            tracing::error!(%refusal, queue = %queue.name, "unused queue could not be removed");
        }
    }

    pub(crate) fn drop_files(&self, queue: &Queue) {
        let (store, ids) = (self.store.clone(), queue.store_ids());
        self.when_durable(self.topology_position(), move || {
            for (id, transient) in ids.flat_map(|id| [(QueueId(id), false), (QueueId(id), true)]) {
                if let Err(failed) = store.drop_queue(id, transient) {
                    tracing::warn!(%failed, ?id, "files of a deleted queue could not be removed");
                }
            }
        });
    }

    /// Removes an auto-delete queue that has lost its last consumer.
    pub(crate) fn remove_if_abandoned(&self, vhost: &VHost, queue: &Arc<Queue>, batch: &mut Batch) {
        let abandoned = matches!(&*queue.lock(), Life::Alive(state) if state.is_abandoned());
        if queue.spec.auto_delete
            && abandoned
            && let Err(refusal) = self.remove_queue(vhost, queue, batch)
        {
            tracing::error!(%refusal, queue = %queue.name, "auto-delete queue could not be removed");
        }
    }
}

/// What only outlives its connection and its consumers: quorum queues and streams (RabbitMQ's order of checks).
pub(super) fn check_properties(
    kind: QueueKind,
    spec: &QueueSpec,
    described: &str,
    is_generated: bool,
) -> Result<(), Refusal> {
    if kind.is_classic() {
        return Ok(());
    }
    if is_generated {
        return Err(Refusal::precondition(format!(
            "Cannot declare a server-named queue for type rabbit_{}_queue",
            kind.name()
        )));
    }
    let wrong = [
        (spec.auto_delete, "auto-delete"),
        (spec.owner.is_some(), "exclusive-owner"),
        (!spec.durable, "non-durable"),
    ];
    match wrong.iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, property)) => {
            Err(Refusal::precondition(format!("invalid property '{property}' for {described}")))
        }
        None => Ok(()),
    }
}

/// RabbitMQ's order of checks: exclusive, durable, auto_delete, arguments.
fn same_queue(existing: &Queue, spec: &QueueSpec, connection: u64) -> Result<(), Refusal> {
    existing.check_owner(connection)?;
    let described = existing.described();
    let current = &existing.spec;
    let check = |key: &str, received: bool, current: bool| match received == current {
        true => Ok(()),
        false => Err(inequivalent(key, &described, &format!("'{received}'"), &format!("'{current}'"))),
    };
    if spec.owner != current.owner {
        return Err(existing.locked());
    }
    check("durable", spec.durable, current.durable)?;
    check("auto_delete", spec.auto_delete, current.auto_delete)?;
    same_for_queue(&current.arguments, &spec.arguments, &described)
}

/// A name nobody else has: 128 random bits, as RabbitMQ writes them.
pub(crate) fn generated_name(prefix: &str) -> Result<String, Refusal> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Refusal::internal(format!("no randomness: {error}")))?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random)))
}
