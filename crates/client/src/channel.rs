//! A channel: where everything but the connection itself happens.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use leveret_wire::method::{
    BasicAck, BasicCancel, BasicConsume, BasicGet, BasicNack, BasicPublish, BasicQos, BasicReject,
    ChannelClose, ChannelOpen, ExchangeBind, ExchangeDelete, ExchangeUnbind, QueueBind, QueueDelete,
    QueuePurge, QueueUnbind,
};
use leveret_wire::{
    FRAME_OVERHEAD, FieldTable, Method, Properties, RawProperties, RawTable, ReplyCode, write_content,
    write_method,
};

use crate::call::{Undo, Waiter};
use crate::connection::Connection;
use crate::consumer::Consumer;
use crate::error::{By, ChannelError, Closed};
use crate::message::{Consume, ConsumerEvent, ConsumerTag, Delivery, Flush, Publish, Returned};
use crate::session::{Answer, Expects, Incoming, Refused};
use crate::shared::{ChannelCore, ConsumerCell, Shared};
use crate::topology::{ExchangeDeclare, QueueDeclare, QueueDeclared};

/// Octets of a content header besides the properties.
const CONTENT_HEADER_BYTES: usize = 12;

/// A channel of a connection. Clones are the same channel; when the last one is dropped it is closed, and with it
/// everything that was consumed and not acked goes back into its queue. A callback given to
/// [`Channel::consume_with`] that holds a clone keeps it open.
///
/// Every method that waits may be dropped while it waits: what the broker answers later goes to nobody else.
#[derive(Clone)]
pub struct Channel {
    handle: Arc<ChannelHandle>,
}

pub(crate) struct ChannelHandle {
    core: Arc<ChannelCore>,
    connection: Connection,
    /// 0: without a limit.
    prefetch: AtomicU16,
}

impl Channel {
    pub(crate) async fn open(connection: &Connection) -> Result<Channel, ChannelError> {
        let channel = Channel::allocate(connection)?;
        let open = ChannelOpen::default();
        channel.call(&Method::ChannelOpen(open), Expects::Method(20, 11), Undo::Nothing).await?;
        Ok(channel)
    }

    /// Takes a number. If anything fails from here on, dropping the channel frees it.
    fn allocate(connection: &Connection) -> Result<Channel, ChannelError> {
        let shared = connection.shared();
        let mut session = shared.session.lock();
        if let Some(closed) = shared.closed() {
            return Err(closed.clone().into());
        }
        let mut allocated = None;
        let opened = session.channels().open(|number| allocated.insert(ChannelCore::new(number)).clone());
        drop(session);
        match (opened, allocated) {
            (Ok(_), Some(core)) => {
                let connection = connection.clone();
                let handle = ChannelHandle { core: core.clone(), connection, prefetch: AtomicU16::new(0) };
                let handle = Arc::new(handle);
                let _only_now = core.handle.set(Arc::downgrade(&handle) as Weak<_>);
                Ok(Channel { handle })
            }
            (Err(Refused::TooMany(channel_max)), _) => Err(ChannelError::TooManyChannels { channel_max }),
            _ => Err(Closed::connection(By::Us, 0, "closed").into()),
        }
    }

    pub(crate) fn from_handle(handle: Arc<ChannelHandle>) -> Channel {
        Channel { handle }
    }

    /// Its connection.
    pub fn connection(&self) -> &Connection {
        &self.handle.connection
    }

    /// Declares a queue, or asks about one.
    ///
    /// # Errors
    /// 404 (passive: there is none), 405 (somebody else's exclusive queue), 406 (it exists and is different).
    pub async fn declare_queue(&self, q: &QueueDeclare) -> Result<QueueDeclared, ChannelError> {
        let arguments = q.arguments.raw_bytes()?;
        let declare = leveret_wire::method::QueueDeclare {
            queue: &q.name,
            passive: q.passive,
            durable: q.durable,
            exclusive: q.exclusive,
            auto_delete: q.auto_delete,
            arguments: table(&arguments),
            ..Default::default()
        };
        match self.ask(&Method::QueueDeclare(declare), 11).await? {
            Answer::Queue(declared) => Ok(declared),
            _ => Err(self.why_closed().into()), // the session only answers with what was asked for
        }
    }

    /// Declares an exchange, or asks about one.
    ///
    /// # Errors
    /// 404 (passive: there is none), 406 (it exists and is different), 503 (no such kind).
    pub async fn declare_exchange(&self, e: &ExchangeDeclare) -> Result<(), ChannelError> {
        let arguments = e.arguments.raw_bytes()?;
        let declare = leveret_wire::method::ExchangeDeclare {
            exchange: &e.name,
            kind: &e.kind,
            passive: e.passive,
            durable: e.durable,
            auto_delete: e.auto_delete,
            internal: e.internal,
            arguments: table(&arguments),
            ..Default::default()
        };
        self.ask(&Method::ExchangeDeclare(declare), 11).await.map(drop)
    }

    /// Messages of an exchange go to a queue as well.
    ///
    /// # Errors
    /// 404 if one of them does not exist.
    pub async fn bind_queue(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), ChannelError> {
        let arguments = arguments.raw_bytes()?;
        let arguments = table(&arguments);
        let bind = QueueBind { queue, exchange, routing_key, arguments, ..Default::default() };
        self.ask(&Method::QueueBind(bind), 21).await.map(drop)
    }

    /// Takes a binding away.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn unbind_queue(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), ChannelError> {
        let arguments = arguments.raw_bytes()?;
        let arguments = table(&arguments);
        let unbind = QueueUnbind { queue, exchange, routing_key, arguments, ..Default::default() };
        self.ask(&Method::QueueUnbind(unbind), 51).await.map(drop)
    }

    /// Messages of exchange `source` go to exchange `destination` as well.
    ///
    /// # Errors
    /// 404 if one of them does not exist.
    pub async fn bind_exchange(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), ChannelError> {
        let arguments = arguments.raw_bytes()?;
        let arguments = table(&arguments);
        let bind = ExchangeBind { destination, source, routing_key, arguments, ..Default::default() };
        self.ask(&Method::ExchangeBind(bind), 31).await.map(drop)
    }

    /// Takes a binding between exchanges away.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn unbind_exchange(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) -> Result<(), ChannelError> {
        let arguments = arguments.raw_bytes()?;
        let arguments = table(&arguments);
        let unbind = ExchangeUnbind { destination, source, routing_key, arguments, ..Default::default() };
        self.ask(&Method::ExchangeUnbind(unbind), 51).await.map(drop)
    }

    /// Deletes a queue with all its messages; how many there were. One that does not exist is no error.
    ///
    /// # Errors
    /// 405 if it is somebody else's exclusive queue.
    pub async fn delete_queue(&self, queue: &str) -> Result<u32, ChannelError> {
        let delete = QueueDelete { queue, ..Default::default() };
        self.ask(&Method::QueueDelete(delete), 41).await.map(count)
    }

    /// Deletes the messages of a queue that are ready; how many there were.
    ///
    /// # Errors
    /// 404 if there is no such queue.
    pub async fn purge_queue(&self, queue: &str) -> Result<u32, ChannelError> {
        let purge = QueuePurge { queue, ..Default::default() };
        self.ask(&Method::QueuePurge(purge), 31).await.map(count)
    }

    /// Deletes an exchange. One that does not exist is no error.
    ///
    /// # Errors
    /// 403 if it is one of the broker's own.
    pub async fn delete_exchange(&self, exchange: &str) -> Result<(), ChannelError> {
        let delete = ExchangeDelete { exchange, ..Default::default() };
        self.ask(&Method::ExchangeDelete(delete), 21).await.map(drop)
    }

    /// How many unacked messages each consumer that starts after this may have; 0 is no limit.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn prefetch(&self, count: u16) -> Result<(), ChannelError> {
        let qos = BasicQos { prefetch_count: count, ..Default::default() };
        self.ask(&Method::BasicQos(qos), 11).await?;
        self.handle.prefetch.store(count, Ordering::Relaxed);
        Ok(())
    }

    /// Publishes and forgets. Waits only for room in the outbox.
    ///
    /// # Errors
    /// The channel is closed, or the message has no form on the wire. That it was sent is not known.
    pub async fn publish(&self, m: &Publish<'_>) -> Result<(), ChannelError> {
        self.room().await;
        match self.core().confirms.get() {
            // The broker counts this one too.
            Some(book) => book.lock().publish_unheard(|| self.put(m))?,
            None => drop(self.put(m)?),
        }
        self.flush_as(m.flush);
        Ok(())
    }

    /// Takes one message from a queue.
    ///
    /// # Errors
    /// 404 if there is no such queue.
    pub async fn get(&self, queue: &str, no_ack: bool) -> Result<Option<Delivery>, ChannelError> {
        let get = BasicGet { queue, no_ack, ..Default::default() };
        let undo = if no_ack { Undo::Nothing } else { Undo::Requeue };
        match self.call(&Method::BasicGet(get), Expects::Get, undo).await? {
            Answer::Got(Some(incoming)) => Ok(Some(delivery(self.clone(), incoming, no_ack, false))),
            _ => Ok(None),
        }
    }

    /// Acks a delivery of this channel, or all up to it. Never waits; nothing happens on a closed channel.
    pub fn ack(&self, delivery_tag: u64, multiple: bool) {
        self.settle(&Method::BasicAck(BasicAck { delivery_tag, multiple }));
    }

    /// Refuses a delivery of this channel, or all up to it.
    pub fn nack(&self, tag: u64, multiple: bool, requeue: bool) {
        self.settle(&Method::BasicNack(BasicNack { delivery_tag: tag, multiple, requeue }));
    }

    /// Refuses a delivery of this channel.
    pub fn reject(&self, tag: u64, requeue: bool) {
        self.settle(&Method::BasicReject(BasicReject { delivery_tag: tag, requeue }));
    }

    /// Writes what gathered in the outbox at once, as far as the socket takes it.
    pub fn flush(&self) {
        self.shared().outbox.flush();
    }

    /// Starts a consumer with a callback. It runs on the connection's task, in order: it must be quick and must
    /// not block.
    ///
    /// # Errors
    /// 403 (somebody else's exclusive consumer), 404 (no such queue), 405 (somebody else's exclusive queue).
    pub async fn consume_with(
        &self,
        c: &Consume,
        on: impl FnMut(ConsumerEvent) + Send + 'static,
    ) -> Result<ConsumerTag, ChannelError> {
        let arguments = c.arguments.raw_bytes()?;
        let tag = consumer_tag(&c.consumer_tag);
        let consume = BasicConsume {
            queue: &c.queue,
            consumer_tag: &tag,
            no_ack: c.no_ack,
            exclusive: c.exclusive,
            arguments: table(&arguments),
            ..Default::default()
        };
        let expects = Expects::Consume(tag.clone(), ConsumerCell::new(c.no_ack, on));
        match self.call(&Method::BasicConsume(consume), expects, Undo::Cancel).await? {
            Answer::Consuming(tag) => Ok(ConsumerTag(tag)),
            _ => Err(self.why_closed().into()),
        }
    }

    /// Starts a consumer as a stream. It holds as many deliveries as the prefetch allows; with `no_ack` or without
    /// a prefetch, the connection's socket is not read while it holds 256 (unless somebody waits for an answer or
    /// a confirm on the connection: that may be what makes room).
    ///
    /// # Errors
    /// As [`Channel::consume_with`].
    pub async fn consume(&self, c: &Consume) -> Result<Consumer, ChannelError> {
        Consumer::start(self, c, self.handle.prefetch.load(Ordering::Relaxed)).await
    }

    /// Ends a consumer; what it was delivered stays unacked.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn cancel(&self, tag: &ConsumerTag) -> Result<(), ChannelError> {
        let cancel = BasicCancel { consumer_tag: &tag.0, nowait: false };
        let expects = Expects::Cancel(tag.0.clone());
        self.call(&Method::BasicCancel(cancel), expects, Undo::Nothing).await.map(drop)
    }

    /// What to do with mandatory messages that came back and whose [`Confirm`](crate::Confirm) nobody awaits. Runs
    /// on the connection's task.
    pub fn on_return(&self, f: impl FnMut(Returned) + Send + 'static) {
        *self.core().on_return.lock() = Some(Box::new(f));
    }

    /// Waits for its end.
    pub async fn closed(&self) -> Closed {
        self.core().until_closed().await
    }

    /// Whether it still works, as far as is known.
    pub fn is_open(&self) -> bool {
        self.core().closed().is_none()
    }

    /// Closes it, after everything that was published, and waits for the answer. One that is closed already is no
    /// error.
    ///
    /// # Errors
    /// The connection ended before the answer.
    pub async fn close(&self) -> Result<(), ChannelError> {
        let (waiter, pending) = Waiter::new(self, Undo::Nothing);
        match self.handle.begin_close(waiter) {
            Ok(()) => Ok(pending.await.map(drop)?),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn core(&self) -> &Arc<ChannelCore> {
        &self.handle.core
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.handle.connection.shared()
    }

    /// Why it is closed, for those who know that it is.
    pub(crate) fn why_closed(&self) -> Closed {
        let closed = self.core().closed().or(self.shared().closed());
        closed.cloned().unwrap_or_else(|| Closed::channel(By::Us, ReplyCode::REPLY_SUCCESS.0, "closed"))
    }

    /// Sends a method of the class whose answer has this id.
    pub(crate) async fn ask(&self, method: &Method<'_>, answer_id: u16) -> Result<Answer, ChannelError> {
        self.call(method, Expects::Method(method.class_id(), answer_id), Undo::Nothing).await
    }

    async fn call(
        &self,
        method: &Method<'_>,
        expects: Expects<Arc<ConsumerCell>>,
        undo: Undo,
    ) -> Result<Answer, ChannelError> {
        let (waiter, pending) = Waiter::new(self, undo);
        self.send(method, expects, waiter)?;
        self.flush_as(Flush::Now);
        Ok(pending.await?)
    }

    /// Ends a consumer that nobody has a handle of any more.
    pub(crate) fn cancel_unheard(&self, tag: &Arc<str>) {
        let cancel = Method::BasicCancel(BasicCancel { consumer_tag: tag, nowait: false });
        if let Ok(()) = self.send(&cancel, Expects::Cancel(tag.clone()), Waiter::nobody()) {
            self.shared().outbox.wake();
        }
    }

    /// Appends a method and remembers who waits for its answer, in the same order.
    fn send(
        &self,
        method: &Method<'_>,
        expects: Expects<Arc<ConsumerCell>>,
        waiter: Waiter,
    ) -> Result<(), ChannelError> {
        let (shared, core) = (self.shared(), self.core());
        let mut session = shared.session.lock();
        let frame_max = shared.outbox.frame_max();
        let append = |out: &mut Vec<u8>| write_checked(out, core.number, method, frame_max);
        shared.outbox.append(Flush::Now, || core.admit(), append)?;
        let refused = session.channels().expect(core.number, expects, waiter);
        drop(session);
        refused.map_err(|(_, waiter)| {
            drop(waiter);
            self.why_closed().into()
        })
    }

    pub(crate) async fn room(&self) {
        let outbox = &self.shared().outbox;
        if !outbox.has_room() {
            outbox.room().await;
        }
    }

    /// Appends a message; the number of its first octet.
    pub(crate) fn put(&self, m: &Publish<'_>) -> Result<u64, ChannelError> {
        let (outbox, core) = (&self.shared().outbox, self.core());
        let properties = encode(m.properties)?;
        let properties = RawProperties::from_validated(&properties);
        let frame_max = outbox.frame_max();
        check_size(CONTENT_HEADER_BYTES + properties.as_bytes().len() + FRAME_OVERHEAD, frame_max)?;
        let publish = Method::BasicPublish(BasicPublish {
            exchange: m.exchange,
            routing_key: m.routing_key,
            mandatory: m.mandatory,
            ..Default::default()
        });
        let append =
            |out: &mut Vec<u8>| Ok(write_content(out, core.number, &publish, properties, m.body, frame_max)?);
        outbox.append(m.flush, || core.admit(), append)
    }

    pub(crate) fn flush_as(&self, flush: Flush) {
        let shared = self.shared();
        if flush == Flush::Now {
            shared.outbox.flush();
        }
        if shared.gate.is_shut() {
            shared.outbox.wake(); // whoever waits for an answer now lets it be read
        }
    }

    fn settle(&self, method: &Method<'_>) {
        let (outbox, core) = (&self.shared().outbox, self.core());
        let append = |out: &mut Vec<u8>| Ok(write_method(out, core.number, method)?);
        // On a closed channel the broker has taken everything back already.
        let _closed = outbox.append(Flush::Soon, || core.admit(), append);
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core();
        f.debug_struct("Channel").field("number", &core.number).field("closed", &core.closed()).finish()
    }
}

impl ChannelHandle {
    /// Sends channel.close, unless it is closed.
    fn begin_close(&self, waiter: Waiter) -> Result<(), Closed> {
        let shared = self.connection.shared();
        let closed = Closed::channel(By::Us, ReplyCode::REPLY_SUCCESS.0, "closed");
        let close = ChannelClose { reply_code: closed.code, reply_text: "closed", class_id: 0, method_id: 0 };
        // With the outbox locked: a message after channel.close would end the connection.
        let last = || self.core.admit().map(|()| self.core.close(&closed));
        let append =
            |out: &mut Vec<u8>| Ok(write_method(out, self.core.number, &Method::ChannelClose(close))?);
        let mut session = shared.session.lock();
        if shared.outbox.append(Flush::Now, last, append).is_err() {
            return Err(closed); // before, or with its connection
        }
        let refused = session.channels().close(self.core.number, waiter);
        drop(session);
        drop(refused);
        shared.outbox.wake();
        Ok(())
    }
}

impl Drop for ChannelHandle {
    fn drop(&mut self) {
        let _closed_before = self.begin_close(Waiter::nobody());
    }
}

pub(crate) fn delivery(channel: Channel, incoming: Incoming, no_ack: bool, batch_left: bool) -> Delivery {
    let Incoming { delivery_tag, redelivered, exchange, routing_key, consumer_tag, properties, body } =
        incoming;
    Delivery {
        delivery_tag,
        redelivered,
        exchange,
        routing_key,
        consumer_tag,
        body,
        properties,
        channel,
        no_ack,
        batch_left,
    }
}

/// A tag that this process has not used yet, unless one is given.
fn consumer_tag(given: &str) -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    match given {
        "" => format!("leveret-{}", NEXT.fetch_add(1, Ordering::Relaxed)).into(),
        given => given.into(),
    }
}

fn count(answer: Answer) -> u32 {
    match answer {
        Answer::Count(count) => count,
        _ => 0,
    }
}

/// What a FieldTable encoded is a sound table.
fn table(octets: &[u8]) -> RawTable<'_> {
    RawTable::parse(octets).unwrap_or_default()
}

/// Most messages have a few properties, many have none.
fn encode(properties: &Properties) -> Result<Cow<'static, [u8]>, ChannelError> {
    static NONE: [u8; 2] = [0, 0];
    if *properties == Properties::default() {
        return Ok(Cow::Borrowed(&NONE));
    }
    Ok(Cow::Owned(properties.encode()?))
}

fn write_checked(
    out: &mut Vec<u8>,
    channel: u16,
    method: &Method<'_>,
    frame_max: u32,
) -> Result<(), ChannelError> {
    let before = out.len();
    write_method(out, channel, method)?;
    check_size(out.len() - before, frame_max)
}

fn check_size(size_bytes: usize, max_bytes: u32) -> Result<(), ChannelError> {
    if size_bytes > max_bytes as usize {
        return Err(ChannelError::FrameTooLarge { size_bytes, max_bytes });
    }
    Ok(())
}
