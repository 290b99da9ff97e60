//! An open connection: its channels, and which frame belongs to what.

use std::sync::Arc;

use leveret_broker::ops::publish::Publish;
use leveret_broker::{Batch, Cancelled, Channel, Connection, MessageView, Refusal, Scope};
use leveret_wire::method::{
    BasicPublish, ChannelClose, ChannelCloseOk, ChannelOpenOk, ConnectionBlocked, ConnectionCloseOk,
    ConnectionUnblocked, ConnectionUpdateSecretOk,
};
use leveret_wire::{
    Assembler, Content, FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, Method, Progress, RawFrame,
    ReplyCode, TuneLimits, WireError, content, split_frame, whole_content,
};

use super::handshake::Opened;
use super::slots::Slots;
use super::{Received, Step, check_heartbeat};
use crate::identity::Client;
use crate::outbox::Outbox;
use crate::shared::Shared;

/// The class of everything that carries a content.
const BASIC: u16 = 60;
/// What RabbitMQ refuses to look at, whatever is configured.
const BODY_MAX_BYTES: u64 = 512 << 20;

/// An open connection.
pub(super) struct Running {
    pub(super) connection: Arc<Connection>,
    pub(super) shared: Arc<Shared>,
    pub(super) outbox: Arc<Outbox>,
    limits: TuneLimits,
    client: Client,
    channels: Slots<Slot>,
    publishes: bool,
    told_blocked: bool,
    held: Option<Held>,
    /// The version of the users for which it was last looked whether all this is allowed.
    users_version: u64,
}

/// A reply that must not leave before the log is durable past `position`, and what must not overtake it.
struct Held {
    position: u64,
    octets: Vec<u8>,
    cancelled: Vec<Cancelled>,
}

/// One channel number in use.
enum Slot {
    Open(Channel, Expects),
    /// We have said `channel.close`: everything but its answer is discarded.
    Closing,
}

/// What an open channel has to say next.
enum Expects {
    Method,
    /// The method of a publish has come, its content has not.
    Content(Assembler<PublishMethod>),
}

/// A `basic.publish` that waits for its content.
#[derive(Debug)]
struct PublishMethod {
    exchange: String,
    routing_key: String,
    mandatory: bool,
    immediate: bool,
}

/// What an operation failed with, and on behalf of which method.
pub(super) type Failed = (Refusal, (u16, u16));

impl Running {
    pub(super) fn new(opened: Opened, shared: Arc<Shared>, outbox: Arc<Outbox>) -> Self {
        let Opened { connection, limits, client } = opened;
        Self {
            users_version: connection.users_version(),
            connection,
            shared,
            outbox,
            limits,
            client,
            channels: Slots::new(),
            publishes: false,
            told_blocked: false,
            held: None,
        }
    }

    pub(super) fn heartbeat_s(&self) -> u16 {
        self.limits.heartbeat_s
    }

    pub(super) fn publishes(&self) -> bool {
        self.publishes
    }

    /// Deals with the first frame of `rest`.
    pub(super) fn receive(&mut self, rest: &[u8], batch: &mut Batch) -> Result<Received, WireError> {
        let Some((frame, octets)) = split_frame(rest, self.limits.frame_max)? else {
            return Ok(Received::Incomplete);
        };
        let after = &rest[octets..];
        let more = match frame.kind {
            FRAME_METHOD => match self.method(&frame, after, batch)? {
                Handled::Frames(more) => more,
                Handled::Step(step) => return Ok(Received::Step(octets, step)),
            },
            FRAME_HEADER | FRAME_BODY => {
                self.content(&frame, batch)?;
                0
            }
            FRAME_HEARTBEAT => check_heartbeat(&frame).map(|()| 0)?,
            _ => return Err(frame.unknown()),
        };
        Ok(match &self.held {
            Some(held) => Received::Step(octets + more, Step::AwaitDurable(held.position)),
            None => Received::Frame(octets + more),
        })
    }

    fn method(
        &mut self,
        frame: &RawFrame<'_>,
        after: &[u8],
        batch: &mut Batch,
    ) -> Result<Handled, WireError> {
        let method = Method::decode(frame.payload)?;
        if frame.channel == 0 {
            return self.connection_method(&method);
        }
        match self.channels.get(frame.channel) {
            Some(Slot::Open(_, Expects::Method)) => {}
            Some(Slot::Open(_, Expects::Content(assembler))) => return Err(assembler.unexpected()),
            Some(Slot::Closing) => {
                self.closing_method(frame.channel, &method);
                return Ok(Handled::Frames(0));
            }
            None => return self.unopened(frame.channel, &method).map(|()| Handled::Frames(0)),
        }
        if let Method::BasicPublish(publish) = method {
            return self.publish(frame.channel, publish, after, batch).map(Handled::Frames);
        }
        match method {
            Method::ChannelClose(_) => {
                self.close_channel(frame.channel, batch);
                self.outbox.send(frame.channel, &Method::ChannelCloseOk(ChannelCloseOk));
            }
            Method::ChannelOpen(_) => return Err(blame(&method, "second 'channel.open' seen")),
            _ => self.on_channel(frame.channel, &method, batch)?,
        }
        Ok(Handled::Frames(0))
    }

    fn connection_method(&mut self, method: &Method<'_>) -> Result<Handled, WireError> {
        match method {
            Method::ConnectionClose(_) => {
                self.outbox.send(0, &Method::ConnectionCloseOk(ConnectionCloseOk));
                Ok(Handled::Step(Step::AwaitEnd))
            }
            Method::ConnectionCloseOk(_) => Ok(Handled::Frames(0)),
            // Passwords do not expire, so there is nothing to renew; RabbitMQ's internal backend agrees alike.
            Method::ConnectionUpdateSecret(_) => {
                self.outbox.send(0, &Method::ConnectionUpdateSecretOk(ConnectionUpdateSecretOk));
                Ok(Handled::Frames(0))
            }
            _ => Err(blame(method, "unexpected method in connection state running")),
        }
    }

    fn unopened(&mut self, number: u16, method: &Method<'_>) -> Result<(), WireError> {
        let Method::ChannelOpen(_) = method else {
            return Err(blame(method, "expected 'channel.open'"));
        };
        // RabbitMQ counts channels; their numbers may be any.
        let (open, max) = (self.channels.len(), self.limits.channel_max);
        if max != 0 && open >= usize::from(max) {
            let text =
                format!("number of channels opened ({open}) has reached the negotiated channel_max ({max})");
            return Err(WireError::new(ReplyCode::NOT_ALLOWED, text));
        }
        let opened = Channel::open(self.connection.clone(), number);
        let channel = opened.map_err(|refusal| WireError::new(refusal.code, refusal.explanation))?;
        self.channels.insert(number, Slot::Open(channel, Expects::Method));
        self.outbox.send(number, &Method::ChannelOpenOk(ChannelOpenOk { channel_id: b"" }));
        Ok(())
    }

    fn closing_method(&mut self, number: u16, method: &Method<'_>) {
        match method {
            Method::ChannelCloseOk(_) => {
                self.channels.remove(number);
            }
            Method::ChannelClose(_) => {
                self.outbox.send(number, &Method::ChannelCloseOk(ChannelCloseOk));
            }
            _ => {}
        }
    }

    fn on_channel(&mut self, number: u16, method: &Method<'_>, batch: &mut Batch) -> Result<(), WireError> {
        batch.logged |= is_topology(method);
        match self.dispatch(number, method, batch) {
            Ok(()) => Ok(()),
            Err(refusal) => self.failed(number, (refusal, (method.class_id(), method.method_id())), batch),
        }
    }

    /// Settlements that were on their way when the broker began to stop.
    pub(super) fn settle_late(&mut self, frame: &RawFrame<'_>, batch: &mut Batch) {
        let method = (frame.kind == FRAME_METHOD).then(|| Method::decode(frame.payload));
        if let Some(Ok(method @ (Method::BasicAck(_) | Method::BasicNack(_) | Method::BasicReject(_)))) =
            method
            && let Err(refusal) = self.dispatch(frame.channel, &method, batch)
        {
            tracing::debug!(%refusal, "late settlement");
        }
    }

    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        match self.channels.get_mut(number) {
            Some(Slot::Open(channel, _)) => Some(channel),
            Some(Slot::Closing) | None => None,
        }
    }

    /// Closes what the refusal says: the channel here, the connection in the caller.
    fn failed(&mut self, number: u16, (refusal, method): Failed, batch: &mut Batch) -> Result<(), WireError> {
        tracing::debug!(channel = number, %refusal, "refused");
        if refusal.scope() == Scope::Connection {
            return Err(WireError::new(refusal.code, refusal.explanation).with_method(method.0, method.1));
        }
        self.close_channel(number, batch);
        let reply_text = refusal.reply_text();
        let close = ChannelClose {
            reply_code: refusal.code.0,
            reply_text: &reply_text,
            class_id: method.0,
            method_id: method.1,
        };
        self.outbox.send(number, &Method::ChannelClose(close));
        self.channels.insert(number, Slot::Closing);
        Ok(())
    }

    fn close_channel(&mut self, number: u16, batch: &mut Batch) {
        if let Some(Slot::Open(channel, _)) = self.channels.remove(number) {
            channel.close(batch);
        }
    }

    /// Publishes at once when the whole content has been read, else waits for it. Answers how many more octets
    /// were used.
    fn publish(
        &mut self,
        number: u16,
        method: BasicPublish<'_>,
        after: &[u8],
        batch: &mut Batch,
    ) -> Result<usize, WireError> {
        self.publishes = true;
        if method.immediate && self.client.refuses_immediate {
            let text = "immediate=true";
            return Err(WireError::new(ReplyCode::NOT_IMPLEMENTED, text).with_method(BASIC, 40));
        }
        let limit = self.shared.broker.limits.message_size_bytes;
        let Some(Slot::Open(channel, expects)) = self.channels.get_mut(number) else { return Ok(0) };
        if let Some((header, body, octets)) =
            whole_content(after, number, BASIC, self.limits.frame_max, limit)
        {
            let message = MessageView {
                exchange: method.exchange,
                routing_key: method.routing_key,
                properties: header.properties,
                body,
            };
            let (mandatory, immediate) = (method.mandatory, method.immediate);
            let published = channel.publish(Publish { message, mandatory, immediate }, batch);
            if let Err(refusal) = published {
                self.failed(number, (refusal, (BASIC, 40)), batch)?;
            }
            return Ok(octets);
        }
        let waiting = PublishMethod {
            exchange: method.exchange.to_owned(),
            routing_key: method.routing_key.to_owned(),
            mandatory: method.mandatory,
            immediate: method.immediate,
        };
        *expects = Expects::Content(Assembler::start(waiting, BASIC).of_method(40));
        Ok(0)
    }

    /// A header or body frame.
    fn content(&mut self, frame: &RawFrame<'_>, batch: &mut Batch) -> Result<(), WireError> {
        let number = frame.channel;
        let expects = match self.channels.get_mut(number) {
            Some(Slot::Open(_, expects)) => expects,
            Some(Slot::Closing) => return Ok(()),
            None if number == 0 => return Err(frame.unexpected()),
            None => return Err(content::expected_method()),
        };
        let Expects::Content(assembler) = std::mem::replace(expects, Expects::Method) else {
            return Err(content::expected_method());
        };
        if let Some(refusal) = oversized(frame, self.shared.broker.limits.message_size_bytes) {
            return self.failed(number, (refusal, (BASIC, 40)), batch);
        }
        let progress = match frame.kind {
            FRAME_HEADER => assembler.header(frame.payload, BODY_MAX_BYTES)?,
            _ => assembler.body(frame.payload)?,
        };
        match progress {
            Progress::More(assembler) => {
                *expects = Expects::Content(assembler);
                Ok(())
            }
            Progress::Done(content) => self.publish_assembled(number, &content, batch),
        }
    }

    fn publish_assembled(
        &mut self,
        number: u16,
        content: &Content<PublishMethod>,
        batch: &mut Batch,
    ) -> Result<(), WireError> {
        let Some(channel) = self.channel(number) else { return Ok(()) };
        let PublishMethod { exchange, routing_key, mandatory, immediate } = &content.method;
        let message =
            MessageView { exchange, routing_key, properties: content.properties(), body: &content.body };
        let publish = Publish { message, mandatory: *mandatory, immediate: *immediate };
        match channel.publish(publish, batch) {
            Ok(()) => Ok(()),
            Err(refusal) => self.failed(number, (refusal, (BASIC, 40)), batch),
        }
    }

    /// Answers a method; held back while the change it confirms is not on the disk (P2).
    pub(super) fn reply_when_durable(&mut self, number: u16, position: u64, method: &Method<'_>) {
        if self.shared.broker.is_durable(position) {
            return self.outbox.send(number, method);
        }
        let mut octets = Vec::new();
        match leveret_wire::write_method(&mut octets, number, method) {
            Ok(()) => self.held = Some(Held { position, octets, cancelled: Vec::new() }),
            Err(error) => tracing::error!(%error, method = method.name(), "method could not be encoded"),
        }
    }

    /// Keeps the news about ended consumers behind a reply that is held back.
    pub(super) fn hold_cancelled(&mut self, batch: &mut Batch) {
        if let Some(held) = &mut self.held {
            held.cancelled.extend(batch.take_cancelled());
        }
    }

    pub(super) fn release_held(&mut self, batch: &mut Batch) {
        if let Some(held) = self.held.take() {
            self.outbox.send_raw(&held.octets);
            batch.send_cancelled(held.cancelled);
        }
    }

    /// Tells the client once that it is blocked, and once that it no longer is.
    pub(super) fn blocked(&mut self, reason: Option<&str>) {
        if reason.is_some() == self.told_blocked || !self.client.blocked {
            return;
        }
        self.told_blocked = reason.is_some();
        match reason {
            Some(reason) => self.outbox.send(0, &Method::ConnectionBlocked(ConnectionBlocked { reason })),
            None => self.outbox.send(0, &Method::ConnectionUnblocked(ConnectionUnblocked)),
        }
    }

    /// Ends what the user may no longer do, if anything changed about users.
    ///
    /// # Errors
    /// The reason why the connection has to be closed.
    pub(super) fn check_access(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        if let Some(reason) = self.connection.port.ending() {
            return Err(reason.clone());
        }
        let version = self.connection.broker.users.version();
        if std::mem::replace(&mut self.users_version, version) == version {
            return Ok(());
        }
        self.connection.check_access()?;
        for number in self.channels.numbers() {
            let Some(channel) = self.channel(number) else { continue };
            if let Err(refusal) = channel.end_forbidden_consumers(batch) {
                self.doom(number, refusal, batch);
            }
        }
        Ok(())
    }

    /// Closes a channel for what no method of it has done.
    fn doom(&mut self, number: u16, refusal: Refusal, batch: &mut Batch) {
        if let Err(error) = self.failed(number, (refusal, super::NO_METHOD), batch) {
            tracing::error!(%error, "only a channel can be doomed");
        }
    }

    pub(super) fn resume_consumers(&self, batch: &mut Batch) {
        let stalled = self.connection.port.take_stalled();
        self.connection.broker.resume(stalled, batch);
    }

    /// Closes channels for what did not happen on them.
    pub(super) fn close_doomed(&mut self, batch: &mut Batch) {
        for (port, refusal) in self.connection.port.take_doomed() {
            let Some(port) = port.upgrade() else { continue };
            let is_open = self.channel(port.number).is_some_and(|channel| Arc::ptr_eq(&channel.port, &port));
            if is_open {
                self.doom(port.number, refusal, batch);
            }
        }
    }

    /// Ends everything the connection had, in the order of its channels.
    pub(super) fn close(mut self, batch: &mut Batch) {
        for number in self.channels.numbers() {
            self.close_channel(number, batch);
        }
        self.connection.close(batch);
    }
}

/// Whether a method may have logged a change of exchanges, queues or bindings.
fn is_topology(method: &Method<'_>) -> bool {
    matches!(method.class_id(), 40 | 50)
}

/// What a method came to.
enum Handled {
    /// It is dealt with, and so are so many octets after it.
    Frames(usize),
    /// Something else has to happen.
    Step(Step),
}

/// A body that will be too large is refused by its header, before it is received.
fn oversized(frame: &RawFrame<'_>, limit: u64) -> Option<Refusal> {
    if frame.kind != FRAME_HEADER {
        return None;
    }
    let size = content::parse_header(frame.payload).ok()?.body_size;
    let too_large = size > limit && size <= BODY_MAX_BYTES;
    too_large.then(|| {
        Refusal::precondition(format!("message size {size} is larger than configured max size {limit}"))
    })
}

/// 504: a method that has no place in this state.
fn blame(method: &Method<'_>, text: &'static str) -> WireError {
    WireError::new(ReplyCode::CHANNEL_ERROR, text).with_method(method.class_id(), method.method_id())
}
