//! Where effects go up: from queues to the channels and connections that consume.
//!
//! ```text
//!   queue (locked) ──► ChannelPort (locked: delivery tags, unacked) ──► Outlet (locked: bytes)
//! ```
//!
//! Locks are only ever taken in this direction. The delivery tag is given out and the frame appended under
//! one lock, so that tags reach the client in order and an `ack multiple` can never cover a delivery that the
//! client has not received. Nothing here flushes: a [`Batch`] remembers whom it touched and lets their bytes
//! leave once, at its end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use hashbrown::HashSet;
use leveret_wire::ReplyCode;
use parking_lot::Mutex;

use crate::counts::{Paths, PublishCounts};
use crate::deliveries::{Deliveries, Outstanding};
use crate::error::Refusal;
use crate::message::MessageView;
use crate::queue::{Consumer, ConsumerKey, Dead, Handed, Pos};
use crate::roster::{ChannelFacts, Introduction, MessageTotals};
use crate::vhost::Queue;

/// Names a connection for the life of the process.
pub type ConnectionId = u64;

/// One delivery on its way to a consumer.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The channel's number.
    pub channel: u16,
    /// The consumer's tag.
    pub consumer_tag: &'a str,
    /// The delivery tag.
    pub delivery_tag: u64,
    /// It was handed out before.
    pub redelivered: bool,
    /// The message.
    pub message: MessageView<'a>,
}

/// The broker's verdict on published messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has taken responsibility (P1).
    Ack,
    /// It could not.
    Nack,
}

/// The way out of a connection: appends, never waits. Implemented by the server for sockets.
pub trait Outlet: Send + Sync {
    /// A message for a consumer.
    fn deliver(&self, delivery: &Delivery<'_>);
    /// A message back to its publisher.
    fn returned(&self, channel: u16, code: ReplyCode, message: &MessageView<'_>);
    /// A verdict on one publish, or on all up to it.
    fn confirm(&self, channel: u16, delivery_tag: u64, multiple: bool, verdict: Verdict);
    /// A consumer ended because its queue is gone.
    fn consumer_cancelled(&self, channel: u16, consumer_tag: &str);
    /// Whether more deliveries may be appended. Other effects are always taken.
    fn has_room(&self) -> bool;
    /// Lets what was appended leave.
    fn flush(&self);
    /// Whether the client understands `basic.cancel` from the broker.
    fn takes_cancel(&self) -> bool;
    /// Has the connection's own task resume the consumers that [`ConnectionPort::take_stalled`] answers, close the
    /// channels that [`ConnectionPort::take_doomed`] does, close the connection if it is [`ConnectionPort::ending`],
    /// and look again at what its user may do.
    fn wake(&self);
}

/// A connection, as far as others need to reach it.
pub struct ConnectionPort {
    /// Names it.
    pub id: ConnectionId,
    outlet: Box<dyn Outlet>,
    touched: AtomicBool,
    stalled: Mutex<Vec<Stalled>>,
    doomed: Mutex<Vec<Doomed>>,
    /// Why the connection has to be closed; the first reason counts.
    end: OnceLock<Refusal>,
    /// Who it is.
    pub(crate) introduction: Arc<Introduction>,
}

/// A channel that its connection has to close, and why.
pub type Doomed = (Weak<ChannelPort>, Refusal);

/// A consumer that could not take a message.
pub(crate) type Stalled = (Arc<Queue>, ConsumerKey);

impl std::fmt::Debug for ConnectionPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectionPort({})", self.id)
    }
}

impl ConnectionPort {
    /// The port of something that acts on this process's own behalf; such connections are not listed.
    pub fn new(id: ConnectionId, outlet: Box<dyn Outlet>) -> Arc<Self> {
        Self::introduced(id, outlet, Introduction::default())
    }

    /// The port of a client's connection.
    pub fn introduced(id: ConnectionId, outlet: Box<dyn Outlet>, introduction: Introduction) -> Arc<Self> {
        let (touched, stalled, doomed) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Arc::new(Self {
            id,
            outlet,
            touched,
            stalled,
            doomed,
            end: OnceLock::new(),
            introduction: Arc::new(introduction),
        })
    }

    /// Channels that the connection has to close for what did not happen on them.
    pub fn take_doomed(&self) -> Vec<Doomed> {
        std::mem::take(&mut *self.doomed.lock())
    }

    /// Has the connection closed by its own task.
    pub fn end(&self, reason: Refusal) {
        // Whoever was first has said why.
        self.end.set(reason).ok();
        self.outlet.wake();
    }

    /// Why the connection has to be closed, if it has to.
    pub fn ending(&self) -> Option<&Refusal> {
        self.end.get()
    }

    /// Has the connection's own task look at what changed.
    pub(crate) fn wake(&self) {
        self.outlet.wake();
    }

    /// Consumers to be resumed because the connection has written out what it had.
    pub fn take_stalled(&self) -> Vec<(Arc<Queue>, ConsumerKey)> {
        std::mem::take(&mut *self.stalled.lock())
    }

    /// Notes that a consumer waits for room; `false` when room appeared meanwhile.
    fn stall(&self, queue: &Arc<Queue>, key: ConsumerKey) -> bool {
        let mut stalled = self.stalled.lock();
        if self.outlet.has_room() {
            return false;
        }
        stalled.push((queue.clone(), key));
        true
    }

    /// A consumer is to be resumed by the connection's own task.
    pub(crate) fn resume_later(&self, queue: &Arc<Queue>, key: ConsumerKey) {
        self.stalled.lock().push((queue.clone(), key));
        self.outlet.wake();
    }

    fn touch(self: &Arc<Self>, batch: &mut Batch) {
        if !self.touched.swap(true, Ordering::AcqRel) {
            batch.touched.push(self.clone());
        }
    }
}

/// A consumer that is gone: its channel and its tag.
pub type Cancelled = (Arc<ChannelPort>, Arc<str>);

/// What one turn of work (all that one read returned) has set in motion.
#[derive(Debug, Default)]
pub struct Batch {
    touched: Vec<Arc<ConnectionPort>>,
    confirming: Vec<Arc<ChannelPort>>,
    buried: VecDeque<(Arc<Queue>, Dead)>,
    cancelled: Vec<Cancelled>,
    /// When the batch began, ms since 1970.
    pub now_ms: u64,
    /// The same, µs since 1970, for what is measured.
    pub now_us: u64,
    /// Something waits for the log: the committer must not dawdle.
    pub urgent: bool,
    /// Something was logged.
    pub logged: bool,
}

impl Batch {
    /// A batch that begins now, ms since 1970.
    pub fn at(now_ms: u64) -> Self {
        Self { now_ms, now_us: now_ms * 1000, ..Self::default() }
    }

    /// A batch that begins now, µs since 1970.
    pub fn at_us(now_us: u64) -> Self {
        Self { now_ms: now_us / 1000, now_us, ..Self::default() }
    }

    /// A channel has published something that may be confirmed at the end of the batch.
    pub fn confirming(&mut self, port: &Arc<ChannelPort>) {
        if !self.confirming.last().is_some_and(|last| Arc::ptr_eq(last, port)) {
            self.confirming.push(port.clone());
        }
    }

    /// Messages that a queue has given up, to be dealt with when no lock is held.
    pub(crate) fn bury(&mut self, queue: &Arc<Queue>, dead: Vec<Dead>) {
        self.buried.extend(dead.into_iter().map(|dead| (queue.clone(), dead)));
    }

    pub(crate) fn next_buried(&mut self) -> Option<(Arc<Queue>, Dead)> {
        self.buried.pop_front()
    }

    /// Takes the news for consumers that are gone. They leave with the batch, behind the answer to whoever
    /// caused them (RabbitMQ's order); whoever holds that answer back takes them first and sends them later.
    pub fn take_cancelled(&mut self) -> Vec<Cancelled> {
        std::mem::take(&mut self.cancelled)
    }

    /// Sends on what [`Self::take_cancelled`] took.
    pub fn send_cancelled(&mut self, cancelled: Vec<Cancelled>) {
        for (port, consumer_tag) in cancelled {
            port.connection.outlet.consumer_cancelled(port.number, &consumer_tag);
            port.connection.touch(self);
        }
    }

    /// Confirms what can be confirmed and lets everything leave that was appended to outlets.
    pub(crate) fn leave(&mut self, durable: u64) {
        for port in std::mem::take(&mut self.confirming) {
            port.confirm(durable, self);
        }
        let cancelled = self.take_cancelled();
        self.send_cancelled(cancelled);
        for port in self.touched.drain(..) {
            port.touched.store(false, Ordering::Release);
            port.outlet.flush();
        }
    }
}

/// A channel, as far as queues and the committer need to reach it.
#[derive(Debug)]
pub struct ChannelPort {
    /// Its number on its connection.
    pub number: u16,
    /// Its connection.
    pub connection: Arc<ConnectionPort>,
    deliveries: Mutex<Deliveries>,
    confirms: Mutex<Confirms>,
    /// Whether messages are counted.
    is_counting: bool,
    /// What its owner counts.
    pub(crate) published: PublishCounts,
    /// The same for each exchange.
    pub(crate) paths: Paths,
    /// What its owner says of it.
    pub(crate) facts: ChannelFacts,
}

impl ChannelPort {
    /// The port of a new channel.
    pub(crate) fn new(number: u16, connection: Arc<ConnectionPort>, is_counting: bool) -> Arc<Self> {
        Arc::new(Self {
            number,
            connection,
            deliveries: Mutex::default(),
            confirms: Mutex::default(),
            is_counting,
            published: PublishCounts::default(),
            paths: Paths::default(),
            facts: ChannelFacts::default(),
        })
    }

    /// What its owner counts, if messages are counted.
    #[inline]
    pub(crate) fn counting(&self) -> Option<&PublishCounts> {
        self.is_counting.then_some(&self.published)
    }

    /// What happened to messages on this channel.
    pub(crate) fn totals(&self) -> MessageTotals {
        let mut counts = self.published.snapshot();
        let delivered = self.deliveries.lock().counts;
        counts.deliver += delivered.deliver;
        counts.deliver_no_ack += delivered.deliver_no_ack;
        counts.redeliver += delivered.redeliver;
        counts.confirm += self.confirms.lock().confirmed;
        MessageTotals { counts, sizes: self.published.sizes() }
    }

    /// The limit that all consumers of the channel share; 0: none.
    pub(crate) fn shared_limit(&self) -> u32 {
        self.deliveries.lock().limit
    }

    /// How many publishes wait for their confirm.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.confirms.lock().pending.len()
    }

    /// Hands a message of `queue` to a consumer of this channel.
    pub fn deliver(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        (consumer, key): (&Consumer<Arc<Self>>, ConsumerKey),
        (pos, redelivered): (Pos, bool),
        message: MessageView<'_>,
        batch: &mut Batch,
    ) -> Handed {
        let mut deliveries = self.deliveries.lock();
        if deliveries.refuses(consumer.no_ack) {
            deliveries.starved.push((queue.clone(), key));
            return Handed::NoRoom;
        }
        if !self.connection.outlet.has_room() && self.connection.stall(queue, key) {
            return Handed::NoRoom;
        }
        let delivery_tag = deliveries.next_tag();
        if !consumer.no_ack {
            deliveries.hold(Outstanding { tag: delivery_tag, queue: queue.clone(), pos });
        }
        if self.is_counting {
            deliveries.counts.add(consumer.no_ack, redelivered);
        }
        self.connection.outlet.deliver(&Delivery {
            channel: self.number,
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered,
            message,
        });
        drop(deliveries);
        self.connection.touch(batch);
        if !self.connection.outlet.has_room() && self.connection.stall(queue, key) {
            return Handed::TakenLast;
        }
        Handed::Taken
    }

    /// Hands a reply to this channel's direct reply-to consumer: no queue, no acknowledgement, at most once (P8).
    pub fn reply(self: &Arc<Self>, consumer_tag: &str, message: MessageView<'_>, batch: &mut Batch) {
        let mut deliveries = self.deliveries.lock();
        if deliveries.closed || !self.connection.outlet.has_room() {
            return;
        }
        let delivery_tag = deliveries.next_tag();
        if self.is_counting {
            deliveries.counts.add(true, false);
        }
        let channel = self.number;
        let delivery = Delivery { channel, consumer_tag, delivery_tag, redelivered: false, message };
        self.connection.outlet.deliver(&delivery);
        drop(deliveries);
        self.connection.touch(batch);
    }

    /// Gives a message fetched by `basic.get` its delivery tag.
    pub fn fetched(&self, queue: &Arc<Queue>, pos: Pos, no_ack: bool) -> u64 {
        let mut deliveries = self.deliveries.lock();
        let tag = deliveries.next_tag();
        if !no_ack {
            deliveries.hold(Outstanding { tag, queue: queue.clone(), pos });
        }
        tag
    }

    /// Takes one outstanding delivery, or all up to `tag` (0 = all), in the order of their tags. `None`: there
    /// is no such delivery on this channel.
    pub(crate) fn settle(&self, tag: u64, multiple: bool) -> Option<Vec<Outstanding>> {
        let mut deliveries = self.deliveries.lock();
        if multiple { deliveries.take_up_to(tag) } else { deliveries.take_alone(tag) }
    }

    /// Makes deliveries outstanding again whose settlement was rolled back.
    pub(crate) fn restore(&self, settled: Vec<Outstanding>) {
        let mut deliveries = self.deliveries.lock();
        deliveries.live += settled.len() as u32;
        deliveries.outstanding.extend(settled.into_iter().map(|one| (one.tag, Some(one))));
        deliveries.outstanding.retain(|(_, one)| one.is_some());
        deliveries.outstanding.make_contiguous().sort_unstable_by_key(|(tag, _)| *tag);
    }

    /// Takes everything outstanding, in order.
    pub(crate) fn settle_all(&self) -> Vec<Outstanding> {
        self.deliveries.lock().take_up_to(0).unwrap_or_default()
    }

    /// No delivery leaves after this.
    pub fn close(&self) {
        let mut deliveries = self.deliveries.lock();
        deliveries.closed = true;
        deliveries.starved.clear();
        drop(deliveries);
        let mut confirms = self.confirms.lock();
        *confirms = Confirms { confirmed: confirms.confirmed, ..Confirms::default() };
    }

    /// Sets the limit that all consumers of the channel share (0 = none) and answers whom to resume.
    pub fn limit(&self, limit: u32) -> Vec<(Arc<Queue>, ConsumerKey)> {
        let mut deliveries = self.deliveries.lock();
        deliveries.limit = limit;
        deliveries.take_starved()
    }

    /// Consumers to be resumed because the channel is below its limit again.
    pub fn take_starved(&self) -> Vec<(Arc<Queue>, ConsumerKey)> {
        self.deliveries.lock().take_starved()
    }

    /// Whether its consumers share a limit.
    pub fn is_limited(&self) -> bool {
        self.deliveries.lock().limit > 0
    }

    /// How many deliveries are outstanding.
    pub fn outstanding(&self) -> u32 {
        self.deliveries.lock().live
    }

    /// Sends a message back to its publisher.
    pub fn returned(&self, code: ReplyCode, message: &MessageView<'_>, batch: &mut Batch) {
        self.connection.outlet.returned(self.number, code, message);
        self.connection.touch(batch);
    }

    /// Takes away what this channel has outstanding at these positions of a queue, because it took too long; answers
    /// which positions that were. Settling them later means nothing.
    pub(crate) fn time_out(&self, queue: &Arc<Queue>, positions: &HashSet<Pos>) -> Vec<Pos> {
        self.deliveries.lock().time_out(queue, positions)
    }

    /// Whether the client can be told that a consumer is gone.
    pub(crate) fn takes_cancel(&self) -> bool {
        self.connection.outlet.takes_cancel()
    }

    /// Has the connection close this channel.
    pub(crate) fn doom(self: &Arc<Self>, refusal: Refusal) {
        let mut doomed = self.connection.doomed.lock();
        if !doomed.iter().any(|(port, _)| std::ptr::eq(port.as_ptr(), Arc::as_ptr(self))) {
            doomed.push((Arc::downgrade(self), refusal));
        }
        drop(doomed);
        self.connection.outlet.wake();
    }

    /// Tells the client that a consumer is gone.
    pub fn consumer_cancelled(self: &Arc<Self>, consumer_tag: &Arc<str>, batch: &mut Batch) {
        batch.cancelled.push((self.clone(), consumer_tag.clone()));
    }

    /// A publish that will be confirmed once the log is durable past `position` (0 = at once, but never
    /// before an earlier one). Answers whether the channel now has to be told of progress.
    pub fn expect_confirm(&self, position: u64) -> bool {
        let mut confirms = self.confirms.lock();
        confirms.last_tag += 1;
        let tag = confirms.last_tag;
        confirms.pending.push_back((tag, position));
        position > 0 && !std::mem::replace(&mut confirms.waiting, true)
    }

    /// A publish that failed: its number is used up by a nack.
    pub fn refuse_publish(&self, batch: &mut Batch) {
        let mut confirms = self.confirms.lock();
        confirms.last_tag += 1;
        self.connection.outlet.confirm(self.number, confirms.last_tag, false, Verdict::Nack);
        drop(confirms);
        self.connection.touch(batch);
    }

    /// The log is durable up to `durable`: sends the confirms that waited for it, as few frames as possible.
    /// Answers whether others still wait.
    pub fn confirm(&self, durable: u64, batch: &mut Batch) -> bool {
        let mut confirms = self.confirms.lock();
        let (mut count, mut last) = (0u32, 0);
        while let Some((tag, _)) = confirms.pending.pop_front_if(|(_, position)| *position < durable.max(1)) {
            count += 1;
            last = tag;
        }
        if self.is_counting {
            confirms.confirmed += u64::from(count);
        }
        confirms.waiting &= !confirms.pending.is_empty();
        let waiting = confirms.waiting;
        if count > 0 {
            self.connection.outlet.confirm(self.number, last, count > 1, Verdict::Ack);
        }
        drop(confirms);
        if count > 0 {
            self.connection.touch(batch);
        }
        waiting
    }
}

/// Publisher confirms of one channel, always answered in order.
#[derive(Debug, Default)]
struct Confirms {
    last_tag: u64,
    /// Tag and the position the log must be durable past.
    pending: VecDeque<(u64, u64)>,
    /// The committer knows of this channel.
    waiting: bool,
    /// How many were confirmed.
    confirmed: u64,
}
