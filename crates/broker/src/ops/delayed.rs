//! Delayed messages: where they wait, and how they go on when their time has come.
//!
//! ```text
//!   publish ─► exchange of type x-delayed-message ─► amq.delayed.NAME ─────► when due: routed by its x-delayed-type
//!   publish ─► any exchange ─► queue of type delayed ─► amq.delayed-queue.NAME ─► when due: to the tail of the queue
//! ```
//!
//! Both are internal queues whose rule is [`DelayState`](crate::queue::DelayState). A message that does not ask to wait
//! passes them by. What goes on is logged together with the end of its wait: a crash neither loses nor doubles it.

use std::sync::Arc;

use leveret_store::{MessageId, MetaChange, QueueId, Urgency};
use leveret_wire::{FieldTable, RawProperties};

use super::deduplicate::Gate;
use super::publish::{Copies, Undone, in_order, without_bcc};
use super::routed::Routed;
use super::together::Outgoing;
use crate::broker::{Broker, Carrier, quarantine};
use crate::delay;
use crate::error::Refusal;
use crate::message::MessageView;
use crate::port::Batch;
use crate::queue::{DelayState, Leaving, Rule};
use crate::records::Key;
use crate::settings::QueueKind;
use crate::vhost::{BEFORE_A_QUEUE, Exchange, ExchangeSpec, Life, Queue, QueueSpec, VHost};

/// How the names of internal queues begin in which messages wait for an exchange.
const OF_EXCHANGE: &str = "amq.delayed.";

/// When the store takes nothing more, because its disk is full, it is asked again so much later.
const RETRY_MS: u64 = 1_000;

/// Whose messages wait in a delay queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner<'a> {
    Exchange(&'a str),
    Queue(&'a str),
}

impl<'a> Owner<'a> {
    fn of(delay_queue: &'a str) -> Option<Self> {
        let of_queue = delay_queue.strip_prefix(BEFORE_A_QUEUE).map(Self::Queue);
        of_queue.or_else(|| delay_queue.strip_prefix(OF_EXCHANGE).map(Self::Exchange))
    }

    fn delay_queue(self) -> String {
        match self {
            Self::Exchange(name) => format!("{OF_EXCHANGE}{name}"),
            Self::Queue(name) => format!("{BEFORE_A_QUEUE}{name}"),
        }
    }
}

impl VHost {
    /// Where an exchange keeps a message that asks to wait; `None`: the exchange or the message does not delay.
    pub(crate) fn delay_queue_of(
        &self,
        exchange: &Exchange,
        properties: RawProperties<'_>,
    ) -> Option<Arc<Queue>> {
        let is_delayed = exchange.spec.delays && delay::is_asked(properties);
        is_delayed.then(|| self.queue(&Owner::Exchange(&exchange.name).delay_queue())).flatten()
    }

    /// How many messages wait for a queue, not in it.
    pub fn delayed_len(&self, queue: &Queue) -> u64 {
        let delay_queue = match queue.kind {
            QueueKind::Delayed => self.queue(&Owner::Queue(&queue.name).delay_queue()),
            _ => None,
        };
        delay_queue.map_or(0, |queue| queue.lock().rule().map_or(0, |state| state.ready_len()))
    }
}

impl Routed {
    /// Parts the queues that take a message now from those where it waits first.
    pub(crate) fn set_aside_delayed(&mut self, vhost: &VHost, properties: RawProperties<'_>) {
        if !self.queues.iter().any(|queue| queue.kind.delays()) || !delay::is_asked(properties) {
            return;
        }
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for queue in self.queues.iter() {
            let waits_in = match queue.kind {
                QueueKind::Delays => Some(queue.clone()),
                QueueKind::Delayed => vhost.queue(&Owner::Queue(&queue.name).delay_queue()),
                _ => None,
            };
            match waits_in {
                Some(delay_queue) => later.push(delay_queue),
                None => now.push(queue.clone()),
            }
        }
        (self.queues, self.later) = (now.into(), later);
    }
}

impl Broker {
    /// Makes the delay queue of a new exchange, if that delays.
    pub(crate) fn new_delay_queue_of_exchange(
        &self,
        vhost: &VHost,
        exchange: &str,
        spec: &ExchangeSpec,
        changes: &mut Vec<MetaChange>,
    ) -> Result<Option<Arc<Queue>>, Refusal> {
        if !spec.delays {
            return Ok(None);
        }
        self.new_delay_queue(vhost, Owner::Exchange(exchange), spec.durable, changes).map(Some)
    }

    /// Makes the delay queue of a new queue, if that is of type `delayed`.
    pub(crate) fn new_delay_queue_of(
        &self,
        vhost: &VHost,
        queue: &Queue,
        changes: &mut Vec<MetaChange>,
    ) -> Result<Option<Arc<Queue>>, Refusal> {
        if queue.kind != QueueKind::Delayed {
            return Ok(None);
        }
        self.new_delay_queue(vhost, Owner::Queue(&queue.name), queue.spec.durable, changes).map(Some)
    }

    fn new_delay_queue(
        &self,
        vhost: &VHost,
        owner: Owner<'_>,
        durable: bool,
        changes: &mut Vec<MetaChange>,
    ) -> Result<Arc<Queue>, Refusal> {
        let arguments = FieldTable::from([("x-queue-type", QueueKind::Delays.name())]);
        let spec = QueueSpec::internal(durable, arguments);
        self.new_queue(vhost, &owner.delay_queue(), spec, changes)
    }

    /// Takes the delay queue of an exchange out, which goes; its files are to be dropped once that is logged.
    pub(crate) fn remove_delay_queue_of_exchange(
        &self,
        vhost: &VHost,
        exchange: &Exchange,
        changes: &mut Vec<MetaChange>,
    ) -> Option<Arc<Queue>> {
        let owner = exchange.spec.delays.then_some(Owner::Exchange(&exchange.name))?;
        remove_internal(vhost, &owner.delay_queue(), changes)
    }

    /// The same for a queue that goes.
    pub(crate) fn remove_delay_queue_of(
        &self,
        vhost: &VHost,
        queue: &Queue,
        changes: &mut Vec<MetaChange>,
    ) -> Option<Arc<Queue>> {
        let owner = (queue.kind == QueueKind::Delayed).then_some(Owner::Queue(&queue.name))?;
        remove_internal(vhost, &owner.delay_queue(), changes)
    }

    /// Sends on some of what is due in a delay queue. The rest of it is a new deadline, so that others have their turn.
    pub(crate) fn send_on_due(&self, delay_queue: &Arc<Queue>, batch: &mut Batch) {
        let due = self.take_delayed(delay_queue, batch);
        if due.is_empty() {
            return;
        }
        let names = due.iter().map(|leaving| leaving.due);
        match self.send_on_together(delay_queue, &due, batch) {
            Ok(()) => delays(&mut delay_queue.lock(), |state| state.left(names)),
            Err(refusal) => {
                tracing::warn!(%refusal, queue = %delay_queue.name, "delayed messages wait longer");
                delays(&mut delay_queue.lock(), |state| state.stayed(names));
                self.deadlines.add(batch.now_ms.saturating_add(RETRY_MS), delay_queue);
            }
        }
    }

    fn take_delayed(&self, delay_queue: &Arc<Queue>, batch: &mut Batch) -> Vec<Leaving> {
        let now_ms = batch.now_ms;
        let mut life = delay_queue.lock();
        let Some(Rule::Delays(state)) = life.rule() else { return Vec::new() };
        state.deadline_came();
        let taken = state.take_due(now_ms, &Carrier::new(self, delay_queue, batch));
        let deadline_ms = state.new_deadline_ms();
        if let Err(damage) = &taken {
            quarantine(&mut life, delay_queue, damage, batch);
        }
        drop(life);
        if let Some(at_ms) = deadline_ms {
            self.deadlines.add(at_ms, delay_queue);
        }
        taken.unwrap_or_default()
    }

    fn send_on_together(
        &self,
        delay_queue: &Arc<Queue>,
        due: &[Leaving],
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost(&delay_queue.vhost);
        let owner = vhost.as_deref().zip(Owner::of(&delay_queue.name));
        let views = || due.iter().map(|leaving| leaving.message.view());
        let released: Vec<Option<Released>> =
            views().map(|message| owner.and_then(|(vhost, owner)| release(vhost, owner, &message))).collect();
        let outgoing: Vec<_> = views()
            .zip(&released)
            .filter_map(|(message, released)| Some((message, released.as_ref()?)))
            .flat_map(|(message, released)| released.outgoing(message, batch.now_ms))
            .collect();
        let _in_flight = self.in_flight.read();
        let _order = in_order(outgoing.iter().flat_map(|one| one.queues));
        let ended = ended(delay_queue, due);
        let mut logged = self.log_together(outgoing.iter(), &ended, &[], Urgency::Soon)?;
        // A full queue refuses what was delayed as it refuses anything; there is nobody to tell any more.
        if let Err(Undone::Refused(refusal)) = self.offer_logged(&outgoing, &mut logged, &[], batch) {
            tracing::error!(%refusal, queue = %delay_queue.name, "delayed messages could not be handed over");
        }
        Ok(())
    }
}

/// A message that has waited: what it says now, and where it goes.
struct Released {
    properties: Vec<u8>,
    routed: Routed,
}

impl Released {
    fn outgoing<'a>(&'a self, message: MessageView<'a>, now_ms: u64) -> impl Iterator<Item = Outgoing<'a>> {
        let properties = RawProperties::from_validated(&self.properties);
        self.routed.outgoing(MessageView { properties, ..message }, now_ms)
    }
}

/// Routes a message that has waited; `None` when its owner is gone.
fn release(vhost: &VHost, owner: Owner<'_>, message: &MessageView<'_>) -> Option<Released> {
    let properties = delay::waited(message.properties).encode().ok()?;
    let raw = RawProperties::from_validated(&properties);
    let copies = Copies::of(raw).ok().flatten().unwrap_or_default();
    let queues = match owner {
        Owner::Queue(name) => vec![vhost.queue(name)?],
        Owner::Exchange(name) => vhost.route(
            &vhost.exchange(name)?,
            MessageView { properties: raw, ..*message },
            &copies,
            &mut Gate::open(),
        ),
    };
    let visible = if copies.bcc.is_empty() { None } else { Some(without_bcc(raw).ok()?) };
    let routed = Routed::new(vhost, queues, raw);
    Some(Released { properties: visible.unwrap_or(properties), routed })
}

/// What the log must forget.
fn ended(delay_queue: &Queue, due: &[Leaving]) -> Vec<(QueueId, Vec<MessageId>)> {
    let ids: Vec<_> = due.iter().filter(|leaving| leaving.durable).map(|leaving| leaving.due.id).collect();
    if ids.is_empty() { Vec::new() } else { vec![(delay_queue.store_id(0), ids)] }
}

fn delays(life: &mut Life, work: impl FnOnce(&mut DelayState)) {
    if let Some(Rule::Delays(state)) = life.content() {
        work(state);
    }
}

/// The caller holds [`VHost::change`].
fn remove_internal(vhost: &VHost, name: &str, changes: &mut Vec<MetaChange>) -> Option<Arc<Queue>> {
    let queue = vhost.queue(name)?;
    *queue.lock() = Life::Gone;
    vhost.remove_queue(&queue);
    if queue.spec.durable {
        let key = Key::Queue(vhost.name.to_string(), queue.name.to_string());
        changes.push(MetaChange::Delete(key.encode()));
    }
    Some(queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_queue_knows_whose_it_is() {
        let check = |owner: Owner<'_>, name: &str| {
            assert_eq!(owner.delay_queue(), name);
            assert_eq!(Owner::of(name), Some(owner));
        };
        check(Owner::Exchange("news"), "amq.delayed.news");
        check(Owner::Queue("news"), "amq.delayed-queue.news");
        check(Owner::Exchange("-queue.news"), "amq.delayed.-queue.news");
        check(Owner::Queue(""), "amq.delayed-queue.");
        assert_eq!(Owner::of("news"), None);
    }
}
