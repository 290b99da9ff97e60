//! Publishing: may this user, where does it go, is it logged, who takes it, what does the publisher hear.
//!
//! ```text
//!   checks ─► route ─► nowhere: return (mandatory) ─► confirm
//!                └───► log once ─► each queue ─► confirm when the log is durable
//! ```
//!
//! The order return, then confirm, is part of the contract with clients.

use std::sync::Arc;

use hashbrown::HashSet;
use leveret_store::{MetaChange, Place, QueueId};
use leveret_wire::{FieldValue, RawProperties, ReplyCode};
use parking_lot::MutexGuard;

use super::deduplicate::Gate;
use super::reply_to::{REPLY_TO, is_reply_to};
use super::routed::{Routed, only_remembers};
use super::together::Outgoing;
use crate::arguments::expiry;
use crate::broker::{Broker, Carrier, Logged, quarantine};
use crate::channel::{Channel, Mode};
use crate::connection::Resource;
use crate::counts::{Path, Published};
use crate::error::{Refusal, exchange_in};
use crate::message::MessageView;
use crate::port::Batch;
use crate::queue::{Aftermath, Courier, DeathReason, Incoming};
use crate::settings::QueueKind;
use crate::stamp::Stamp;
use crate::users::Operation;
use crate::vhost::{Destination, Exchange, Life, Queue, VHost};

/// `basic.publish` with its content.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The message.
    pub message: MessageView<'a>,
    /// Return it when no queue takes it.
    pub mandatory: bool,
    /// Return it when no consumer takes it at once. AMQP 0-9-1 defines it, RabbitMQ no longer has it.
    pub immediate: bool,
}

/// Where the last publish went. Valid while nothing changed: neither the topology nor a permission.
#[derive(Debug)]
pub struct Route {
    exchange: Arc<str>,
    routing_key: String,
    queues: Arc<[Arc<Queue>]>,
    path: Option<Arc<Path>>,
    /// How many of the queues are there for clients.
    reached: usize,
    /// Of the topology and of the users.
    versions: (u64, u64),
}

/// What a message's headers add to its routing.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    pub(crate) cc: Vec<String>,
    pub(crate) bcc: Vec<String>,
}

impl Channel {
    /// Publishes one message.
    pub fn publish(&mut self, publish: Publish<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        self.check_content(&publish)?;
        if publish.message.properties.reply_to() == Some(REPLY_TO.as_bytes()) {
            let rewritten = self.with_reply_address(publish.message.properties)?;
            let properties = RawProperties::from_validated(&rewritten);
            let message = MessageView { properties, ..publish.message };
            return self.accept(Publish { message, ..publish }, batch);
        }
        self.accept(publish, batch)
    }

    fn accept(&mut self, publish: Publish<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        if let Mode::Tx(_) = self.mode {
            let copies = Copies::of(publish.message.properties)?.unwrap_or_default();
            self.target(&publish.message, &copies)?;
            return self.publish_in_tx(&publish);
        }
        let position = match self.publish_now(&publish, batch) {
            Ok(position) => position,
            Err(Undone::Refused(refusal)) => return Err(refusal),
            Err(Undone::NotTaken) => {
                if let Mode::Confirm = self.mode {
                    self.port.refuse_publish(batch); // mutation: nack
                }
                return Ok(());
            }
        };
        if let Mode::Confirm = self.mode {
            if self.port.expect_confirm(position) {
                self.connection.broker.await_confirms(self.port.clone());
            }
            batch.confirming(&self.port);
            batch.urgent |= position > 0;
        }
        Ok(())
    }

    /// Answers the position in the log that the confirm has to wait for; 0: none.
    fn publish_now(&mut self, publish: &Publish<'_>, batch: &mut Batch) -> Result<u64, Undone> {
        if self.connection.vhost.judging().is_some() {
            return self.publish_once(publish, batch);
        }
        let routed = self.route_or_return(publish, &mut Gate::open(), batch)?;
        self.connection.broker.enqueue(&routed, &publish.message, batch)
    }

    /// The same where duplicates may have to be dropped: they count as taken.
    fn publish_once(&mut self, publish: &Publish<'_>, batch: &mut Batch) -> Result<u64, Undone> {
        let vhost = self.connection.vhost.clone();
        let mut gate = Gate::of(&vhost, batch.now_ms);
        let routed = self.route_or_return(publish, &mut gate, batch)?;
        self.connection.broker.enqueue_once(&routed, &publish.message, gate, batch)
    }

    /// Finds the queues, or sends the message back if it asked for that. A direct reply is handed over at once.
    pub(crate) fn route_or_return(
        &mut self,
        publish: &Publish<'_>,
        gate: &mut Gate<'_>,
        batch: &mut Batch,
    ) -> Result<Routed, Refusal> {
        let message = &publish.message;
        if message.exchange.is_empty() && is_reply_to(message.routing_key) {
            let exchange = self.target(message, &Copies::default())?;
            let became = self.reply_directly(publish, batch);
            self.count_path(&exchange, usize::from(became == Published::Routed));
            self.count_publish(message, became, batch.now_ms);
            return Ok(Routed::default());
        }
        gate.next_message();
        let mut routed = match Copies::of(message.properties)? {
            None => self.route_as_before(message, gate)?,
            Some(copies) => self.route_copies(message, &copies, gate)?,
        };
        let mut became = match routed.reaches_nobody() && !gate.found_duplicate() {
            true => Published::Unroutable { returned: publish.mandatory },
            false => Published::Routed,
        };
        if became == (Published::Unroutable { returned: true }) {
            self.port.returned(ReplyCode::NO_ROUTE, message, batch);
        }
        if publish.immediate && !routed.reaches_nobody() {
            let takes = |queue: &&Arc<Queue>| only_remembers(queue) || has_taker(queue);
            routed.queues = routed.queues.iter().filter(takes).cloned().collect();
            gate.forget_all_but(&routed.queues);
            if routed.reaches_nobody() {
                self.port.returned(ReplyCode::NO_CONSUMERS, message, batch);
                became = Published::Unroutable { returned: true };
            }
        }
        self.count_publish(message, became, batch.now_ms);
        routed.set_aside_delayed(&self.connection.vhost, message.properties);
        self.connection.broker.count_published(&self.connection.vhost.name, message, &routed.queues, batch);
        Ok(routed)
    }

    #[inline]
    fn count_publish(&self, message: &MessageView<'_>, became: Published, now_ms: u64) {
        if let Some(counting) = self.port.counting() {
            let confirms = matches!(self.mode, Mode::Confirm);
            counting.published(message.body.len(), confirms, became, now_ms);
        }
    }

    /// Counts for the exchange that a message was published to, and that it reaches so many queues.
    fn count_path(&mut self, exchange: &Arc<Exchange>, reached: usize) -> Option<Arc<Path>> {
        self.port.counting()?;
        let known = self.last_path.take().filter(|path| path.leads_to(exchange));
        let path = known.unwrap_or_else(|| self.port.paths.to(exchange));
        path.took(reached);
        self.last_path = Some(path.clone());
        Some(path)
    }

    fn route_copies(
        &mut self,
        message: &MessageView<'_>,
        copies: &Copies,
        gate: &mut Gate<'_>,
    ) -> Result<Routed, Refusal> {
        let exchange = self.target(message, copies)?;
        let queues: Arc<[_]> = self.connection.vhost.route(&exchange, *message, copies, gate).into();
        self.count_path(&exchange, count_visible(&queues));
        let properties = if copies.bcc.is_empty() { None } else { Some(without_bcc(message.properties)?) };
        Ok(Routed { properties, ..Routed::to(queues) })
    }

    /// The route of the last publish, if this is the same, else a new one.
    fn route_as_before(&mut self, message: &MessageView<'_>, gate: &mut Gate<'_>) -> Result<Routed, Refusal> {
        let (vhost, users) = (&self.connection.vhost, &self.connection.broker.users);
        let versions = (vhost.version(), users.version());
        if let Some(route) = &self.last_route
            && route.versions == versions
            && *route.exchange == *message.exchange
            && route.routing_key == message.routing_key
        {
            if let Some(path) = &route.path {
                path.took(route.reached);
            }
            return Ok(Routed::to(route.queues.clone()));
        }
        let exchange = self.target(message, &Copies::default())?;
        let queues: Arc<[_]> =
            self.connection.vhost.route(&exchange, *message, &Copies::default(), gate).into();
        let varies = exchange.varies() || queues.iter().any(|queue| queue.deduplicator.is_some());
        let reached = count_visible(&queues);
        let path = self.count_path(&exchange, reached);
        let is_whole = !varies && !gate.found_duplicate();
        self.last_route = is_whole.then(|| Route {
            exchange: exchange.name.clone(),
            routing_key: message.routing_key.to_owned(),
            queues: queues.clone(),
            path,
            reached,
            versions,
        });
        Ok(Routed::to(queues))
    }

    /// The exchange that a message is published to, if this user may do that with these keys.
    pub(crate) fn target(
        &self,
        message: &MessageView<'_>,
        copies: &Copies,
    ) -> Result<Arc<Exchange>, Refusal> {
        let (connection, name) = (&self.connection, message.exchange);
        connection.authorize(Operation::Write, Resource::Exchange(name))?;
        let exchange = connection.vhost.existing_exchange(name)?;
        if exchange.spec.internal {
            let described = exchange_in(name, &connection.vhost.name);
            return Err(Refusal::access(format!("cannot publish to internal {described}")));
        }
        for key in copies.keys(message.routing_key) {
            connection.authorize_topic(Operation::Write, &exchange, key)?;
        }
        Ok(exchange)
    }

    fn check_content(&self, publish: &Publish<'_>) -> Result<(), Refusal> {
        let (size, limit) =
            (publish.message.body.len() as u64, self.connection.broker.limits.message_size_bytes);
        if size > limit {
            return Err(Refusal::precondition(format!(
                "message size {size} is larger than configured max size {limit}"
            )));
        }
        let properties = publish.message.properties;
        if let Some(expiration) = properties.expiration() {
            check_expiration(expiration)?;
        }
        if let Some(claimed) = properties.user_id() {
            let user = self.connection.user()?;
            if claimed != user.name.as_bytes() && !user.has_tag("impersonator") {
                return Err(Refusal::precondition(format!(
                    "user_id property set to '{}' but authenticated user was '{}'",
                    String::from_utf8_lossy(claimed),
                    user.name
                )));
            }
        }
        Ok(())
    }
}

/// Why a publish did not happen.
#[derive(Debug)]
pub(crate) enum Undone {
    /// The channel or connection has to be closed.
    Refused(Refusal),
    /// A queue could not take it: the publisher hears a nack.
    NotTaken,
}

/// What is known of a message that comes to queues, beside the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// When it was published and when it expires.
    pub(crate) stamp: Stamp,
    /// Where it is in the log.
    pub(crate) logged: Option<Logged>,
    /// What the store has to be told if a queue refuses it.
    pub(crate) undo: &'a [MetaChange],
}

impl Arrival<'_> {
    /// A message that does not outlive the process.
    pub(crate) fn unlogged(stamp: Stamp) -> Self {
        Self { stamp, logged: None, undo: &[] }
    }
}

impl From<Refusal> for Undone {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Broker {
    /// Gives a message to its queues. Answers the position in the log that a confirm has to wait for; 0: none.
    pub(crate) fn enqueue(
        &self,
        routed: &Routed,
        message: &MessageView<'_>,
        batch: &mut Batch,
    ) -> Result<u64, Undone> {
        let mut position = Ok(0);
        for one in routed.outgoing(*message, batch.now_ms) {
            let enqueued = self.enqueue_one(&one, batch);
            position = position.and_then(|before: u64| Ok(before.max(enqueued?)));
        }
        position
    }

    /// Logs a message if it has to outlive the process, and offers it to its queues.
    fn enqueue_one(&self, outgoing: &Outgoing<'_>, batch: &mut Batch) -> Result<u64, Undone> {
        let Outgoing { message, queues, stamp } = outgoing;
        if !outgoing.is_logged() {
            return self.offer(queues, message, &Arrival::unlogged(*stamp), batch).map(|()| 0);
        }
        let _in_flight = self.in_flight.read();
        let _order = in_order(queues.iter());
        let logged = self.log(queues, message, *stamp)?;
        batch.logged = true;
        let arrival = Arrival { stamp: *stamp, logged: Some(logged), undo: &[] };
        self.offer(queues, message, &arrival, batch).map(|()| logged.0.0)
    }

    /// Writes the message once, whatever number of durable queues it goes to.
    fn log(&self, queues: &[Arc<Queue>], message: &MessageView<'_>, stamp: Stamp) -> Result<Logged, Refusal> {
        let head = message.head();
        let (parts, attributes) = (message.parts(&head), stamp.encode());
        let id = match queues {
            [queue] => {
                let id = queue.store_id(queue.level(message.properties));
                self.store.publish(&[id], false, &attributes, &parts)
            }
            queues => {
                let ids = durable_ids(queues, message.properties);
                self.store.publish(&ids, false, &attributes, &parts)
            }
        }?;
        Ok((id, Place::Log { id, len: message.size_bytes() as u32 }))
    }

    /// Gives a message to each of its queues, one after the other.
    pub(crate) fn offer(
        &self,
        queues: &[Arc<Queue>],
        message: &MessageView<'_>,
        arrival: &Arrival<'_>,
        batch: &mut Batch,
    ) -> Result<(), Undone> {
        let Arrival { stamp, logged, undo } = *arrival;
        let mut incoming = Incoming { view: *message, stamp, level: 0, logged: None, shared: None };
        let persistent = is_persistent(message.properties);
        let mut refused = false;
        for queue in queues {
            incoming.logged = if queue.logs(persistent) { logged } else { None };
            incoming.level = queue.level(message.properties);
            if !self.offer_one(queue, &mut incoming, undo, batch)? {
                self.count_given_up(queue, message, DeathReason::MaxLen);
                refused = true;
            }
        }
        if refused { Err(Undone::NotTaken) } else { Ok(()) }
    }

    fn offer_one(
        &self,
        queue: &Arc<Queue>,
        incoming: &mut Incoming<'_>,
        undo: &[MetaChange],
        batch: &mut Batch,
    ) -> Result<bool, Refusal> {
        let mut life = queue.lock();
        // A queue deleted a moment ago counts as having taken the message; a damaged one must not.
        let is_damaged = matches!(&*life, Life::Damaged(..));
        let Some(state) = life.rule() else {
            drop(life);
            return if is_damaged { self.take_back(undo).map(|()| false) } else { Ok(true) };
        };
        let mut aftermath = Aftermath::default();
        let mut carrier = Carrier::new(self, queue, batch);
        let published = state.publish(incoming, &mut carrier, &mut aftermath);
        if let (Ok(true), Some(counters)) = (&published, carrier.counters()) {
            counters.published(carrier.now_ms());
        }
        let deadline_ms = state.new_deadline_ms(&self.store);
        let awaits = state.stream().is_some_and(|stream| stream.awaits_commit(self.store.durable()));
        if let Err(damage) = &published {
            quarantine(&mut life, queue, damage, batch);
        }
        drop(life);
        if awaits {
            batch.urgent = true;
            self.await_commit(queue);
        }
        let is_taken = matches!(published, Ok(true));
        if !is_taken {
            self.take_back(undo)?;
        }
        self.settle_aftermath(queue, aftermath, deadline_ms, batch)?;
        Ok(is_taken)
    }

    /// A queue has refused a message. Comes before the log hears that the message is over: a key without its message
    /// would drop the next one.
    fn take_back(&self, undo: &[MetaChange]) -> Result<(), Refusal> {
        if undo.is_empty() { Ok(()) } else { Ok(self.store.note(undo).map(drop)?) }
    }
}

impl VHost {
    /// The queues a message reaches: through bindings of exchanges to exchanges, and through the alternate of
    /// every exchange that finds nothing. Each queue once.
    pub(crate) fn route(
        &self,
        exchange: &Arc<Exchange>,
        message: MessageView<'_>,
        copies: &Copies,
        gate: &mut Gate<'_>,
    ) -> Vec<Arc<Queue>> {
        let mut queues = Vec::new();
        let mut seen = HashSet::new();
        let mut todo = vec![exchange.clone()];
        while let Some(exchange) = todo.pop() {
            if !seen.insert(Arc::as_ptr(&exchange)) || !gate.passes(&exchange, message.properties) {
                continue;
            }
            let mut found = false;
            let keys = if exchange.spec.kind.picks_one() { 1 } else { usize::MAX };
            for key in copies.keys(message.routing_key).take(keys) {
                found |= self.route_one(&exchange, key, message.properties, &mut queues, &mut todo);
            }
            queues.extend(self.remembering_queue(&exchange, message.properties));
            if !found && let Some(alternate) = exchange.alternate().and_then(|name| self.exchange(&name)) {
                todo.push(alternate);
            }
        }
        if queues.len() > 1 {
            queues.sort_unstable_by_key(|queue| queue.id);
            queues.dedup_by(|a, b| Arc::ptr_eq(a, b));
        }
        queues.retain(|queue| gate.reaches(queue, message.properties));
        queues
    }

    fn route_one(
        &self,
        exchange: &Arc<Exchange>,
        key: &str,
        properties: RawProperties<'_>,
        queues: &mut Vec<Arc<Queue>>,
        todo: &mut Vec<Arc<Exchange>>,
    ) -> bool {
        if exchange.name.is_empty() {
            let queue = self.queue(key).filter(|queue| !queue.spec.internal);
            queues.extend(queue.clone());
            return queue.is_some();
        }
        if let Some(queue) = self.delay_queue_of(exchange, properties) {
            queues.push(queue);
            return true;
        }
        let mut found = false;
        exchange.bindings.read().route(key, properties, &mut |destination| {
            found = true;
            match destination {
                Destination::Queue(queue) => queues.push(queue.clone()),
                Destination::Exchange(exchange) => todo.push(exchange.clone()),
            }
        });
        found
    }
}

impl Exchange {
    /// Whether two messages with one key may take different ways: then the last route says nothing about the next.
    fn varies(&self) -> bool {
        let leads_on = |destination: &Destination| matches!(destination, Destination::Exchange(_));
        self.spec.kind.varies()
            || self.deduplicator.is_some()
            || self.spec.delays
            || self.alternate().is_some()
            || !self.name.is_empty()
                && self.bindings.read().iter().any(|(destination, ..)| leads_on(destination))
    }
}

impl Copies {
    /// All keys by which a message is routed.
    fn keys<'a>(&'a self, routing_key: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::once(routing_key).chain(self.cc.iter().chain(&self.bcc).map(String::as_str))
    }

    /// The `CC` and `BCC` headers, if there are any.
    pub(crate) fn of(properties: RawProperties<'_>) -> Result<Option<Self>, Refusal> {
        let Some(headers) = properties.headers() else { return Ok(None) };
        let (cc, bcc) = (headers.find("CC"), headers.find("BCC"));
        if cc.is_none() && bcc.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { cc: routing_keys("CC", cc)?, bcc: routing_keys("BCC", bcc)? }))
    }
}

/// The keys in a header. What is no text in its array means nothing, as in RabbitMQ.
fn routing_keys(header: &str, value: Option<FieldValue>) -> Result<Vec<String>, Refusal> {
    match value {
        None => Ok(Vec::new()),
        Some(FieldValue::Array(keys)) => {
            Ok(keys.iter().filter_map(FieldValue::as_str).map(str::to_owned).collect())
        }
        Some(other) => Err(Refusal::precondition(format!(
            "invalid message: {{unacceptable_type_in_header,\"{header}\",{}}}",
            other.type_name()
        ))),
    }
}

pub(crate) fn without_bcc(properties: RawProperties<'_>) -> Result<Vec<u8>, Refusal> {
    let mut properties = properties.to_properties();
    if let Some(headers) = &mut properties.headers {
        headers.remove("BCC");
    }
    properties.encode().map_err(|error| Refusal::internal(error.to_string()))
}

/// RabbitMQ reads as many digits as there are and names what it finds behind them.
fn check_expiration(expiration: &[u8]) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(expiration);
    let invalid = |term: String| Refusal::precondition(format!("invalid expiration '{text}': {term}"));
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(text.len() - unsigned.len() + digits);
    if digits == 0 {
        return Err(invalid("no_integer".into()));
    }
    if !rest.is_empty() {
        return Err(invalid(format!("{{leftover_string,{rest:?}}}")));
    }
    match number.parse::<i64>() {
        Ok(number) => expiry(number).map_err(invalid),
        Err(_) => Err(invalid(format!("{{value_too_large,{number}}}"))),
    }
}

/// Whether its publisher wants it to outlive the process.
pub(crate) fn is_persistent(properties: RawProperties<'_>) -> bool {
    properties.delivery_mode() == Some(2)
}

/// What the store calls the queues that a message goes to and outlives the process in.
pub(crate) fn durable_ids(queues: &[Arc<Queue>], properties: RawProperties<'_>) -> Vec<QueueId> {
    let persistent = is_persistent(properties);
    let logging = queues.iter().filter(|queue| queue.logs(persistent));
    logging.map(|queue| queue.store_id(queue.level(properties))).collect()
}

/// Keeps everybody else from logging for the streams among these queues.
pub(crate) fn in_order<'a>(queues: impl Iterator<Item = &'a Arc<Queue>>) -> Vec<MutexGuard<'a, ()>> {
    let mut streams: Vec<_> = queues.filter(|queue| queue.kind == QueueKind::Stream).collect();
    streams.sort_unstable_by_key(|stream| stream.id);
    streams.dedup_by_key(|stream| stream.id);
    streams.into_iter().map(|stream| stream.keep_order()).collect()
}

/// How long the publisher lets a message wait.
pub(crate) fn ttl_ms(properties: RawProperties<'_>) -> Option<u64> {
    std::str::from_utf8(properties.expiration()?).ok()?.parse().ok()
}

fn count_visible(queues: &[Arc<Queue>]) -> usize {
    queues.iter().filter(|queue| !queue.spec.internal).count()
}

fn has_taker(queue: &Arc<Queue>) -> bool {
    queue.lock().rule().is_some_and(|state| state.has_taker())
}
