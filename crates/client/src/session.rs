//! An open connection without its socket: octets in, events out.
//!
//! ```text
//!  octets ─▶ frame ─▶ channel 0: close, blocked, heartbeat ───────────────────▶ Event
//!                 └─▶ channel n: method ─▶ an answer: the first who waits ─────▶ Event::Answered
//!                                      └─▶ with content: Assembler ─ … ─────────▶ Event::Delivered, …
//! ```
//!
//! The broker is not trusted. Whatever is not expected here and now (an unknown channel, a delivery for nobody, an
//! answer nobody asked for, a body longer than announced or allowed) is an error that ends the connection with
//! AMQP's code; nothing panics, and no memory is reserved for what was only announced.
//!
//! What waits for answers, and who consumes, are the caller's own values ([`Tokens`]): they are handed back with
//! the event. The caller drops and calls them outside of any lock.

pub(crate) mod channels;
pub(crate) mod handshake;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use leveret_wire::method::{
    BasicCancelOk, BasicDeliver, BasicGetOk, BasicReturn, ChannelCloseOk, ChannelFlowOk, ConnectionCloseOk,
};
use leveret_wire::{
    Assembler, FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, Method, Progress, RawFrame,
    ReplyCode, WireError, class_id, split_frame, whole_content, write_method,
};

use crate::error::{By, Closed};
use crate::message::Returned;
use crate::topology::QueueDeclared;
use channels::{Channels, Open, Phase};

pub(crate) use channels::{Ended, Expects, Refused};

/// The caller's own values in a session.
pub(crate) trait Tokens {
    /// Waits for an answer.
    type Waiter;
    /// Takes deliveries.
    type Consumer: Clone;
    /// Stands for a channel.
    type Channel: Clone;
}

/// What was agreed, and what we accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Channels at a time.
    pub(crate) channel_max: u16,
    /// Octets of a frame to accept; 0 is the default limit.
    pub(crate) frame_max: u32,
    /// Octets of a body.
    pub(crate) message_max_bytes: u64,
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) consumer_tag: Arc<str>,
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

/// An answer to a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing but that it is done.
    Done,
    /// queue.declare-ok
    Queue(QueueDeclared),
    /// How many messages were deleted.
    Count(u32),
    /// basic.consume-ok
    Consuming(Arc<str>),
    /// basic.get-ok or basic.get-empty
    Got(Option<Incoming>),
}

/// What happened.
pub(crate) enum Event<T: Tokens> {
    /// A message for a consumer.
    Delivered { channel: T::Channel, consumer: T::Consumer, incoming: Incoming },
    /// A mandatory message came back.
    Returned { channel: T::Channel, returned: Returned },
    /// Publishes are confirmed, or refused.
    Settled { channel: T::Channel, delivery_tag: u64, multiple: bool, ack: bool },
    /// Somebody's method was answered. A consumer that was cancelled comes along to be dropped.
    Answered { channel: T::Channel, waiter: T::Waiter, answer: Answer, dropped: Option<T::Consumer> },
    /// The broker ended a consumer.
    Cancelled { consumer: T::Consumer },
    /// A channel is closed; its number is free.
    ChannelEnded(Ended<T>),
    /// The broker does not read publishes now, for this reason.
    Blocked(Arc<str>),
    /// It does again.
    Unblocked,
    /// The connection is closed in order.
    Closed(Closed),
}

/// What the first octets of the buffer were.
pub(crate) enum Step<T: Tokens> {
    /// Not a whole frame yet.
    Incomplete,
    /// This many octets are done with.
    Took(usize, Option<Event<T>>),
}

/// The state of an open connection.
pub(crate) struct Session<T: Tokens> {
    limits: Limits,
    channels: Channels<T>,
    closing: bool,
}

/// A content's method, decoded and owned, until its body is there.
pub(crate) enum Head<C> {
    Deliver { consumer: C, incoming: Incoming },
    Return(Returned),
    Get(Incoming),
}

impl<T: Tokens> Session<T> {
    pub(crate) fn new(limits: Limits) -> Session<T> {
        Session { limits, channels: Channels::new(limits.channel_max), closing: false }
    }

    /// The channels, to open and close them and to wait for answers.
    pub(crate) fn channels(&mut self) -> &mut Channels<T> {
        &mut self.channels
    }

    /// connection.close was sent: what comes before its answer no longer matters.
    pub(crate) fn closing(&mut self) {
        self.closing = true;
    }

    /// Takes one frame, or one whole message, off `buf`, and appends what must be answered to `out`: before
    /// anything else is sent on that channel.
    ///
    /// # Errors
    /// The broker broke the protocol: the connection ends with this.
    #[inline]
    pub(crate) fn receive(&mut self, buf: &[u8], out: &mut Vec<u8>) -> Result<Step<T>, WireError> {
        let Some((frame, size_bytes)) = split_frame(buf, self.limits.frame_max)? else {
            return Ok(Step::Incomplete);
        };
        if frame.channel == 0 {
            return Ok(Step::Took(size_bytes, self.connection_frame(frame, out)?));
        }
        let limits = self.limits;
        let Some(open) = self.channels.find(frame.channel) else {
            return Err(unknown_channel(frame));
        };
        if frame.kind != FRAME_METHOD {
            return Ok(Step::Took(size_bytes, open.content_frame(frame, limits)?));
        }
        if let Some(content) = &open.content {
            return Err(content.unexpected());
        }
        let method = Method::decode(frame.payload)?;
        if !method.has_content() {
            return Ok(Step::Took(size_bytes, self.channel_method(frame.channel, method, out)?));
        }
        let method_id = method.method_id();
        let head = open.head(method)?;
        let rest = &buf[size_bytes..];
        let whole =
            whole_content(rest, frame.channel, class_id::BASIC, limits.frame_max, limits.message_max_bytes);
        match whole {
            Some((header, body, content_bytes)) => {
                let properties = header.properties.as_bytes();
                let event =
                    open.finish(head, Bytes::copy_from_slice(properties), Bytes::copy_from_slice(body))?;
                Ok(Step::Took(size_bytes + content_bytes, event))
            }
            None => {
                open.content = Some(Assembler::start(head, class_id::BASIC).of_method(method_id).lenient());
                Ok(Step::Took(size_bytes, None))
            }
        }
    }

    fn connection_frame(
        &mut self,
        frame: RawFrame<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<T>>, WireError> {
        match frame.kind {
            FRAME_HEARTBEAT if frame.payload.is_empty() => return Ok(None),
            FRAME_METHOD => {}
            FRAME_HEADER | FRAME_BODY => return Err(frame.unexpected()),
            _ => return Err(frame.unknown()),
        }
        match Method::decode(frame.payload)? {
            Method::ConnectionClose(close) => {
                reply(out, 0, &Method::ConnectionCloseOk(ConnectionCloseOk));
                let closed = Closed::connection(By::Broker, close.reply_code, close.reply_text);
                Ok(Some(Event::Closed(closed)))
            }
            Method::ConnectionCloseOk(_) if self.closing => {
                let code = ReplyCode::REPLY_SUCCESS.0;
                Ok(Some(Event::Closed(Closed::connection(By::Us, code, "closed"))))
            }
            Method::ConnectionBlocked(blocked) => Ok(Some(Event::Blocked(blocked.reason.into()))),
            Method::ConnectionUnblocked(_) => Ok(Some(Event::Unblocked)),
            method => Err(unexpected(&method)),
        }
    }

    fn channel_method(
        &mut self,
        number: u16,
        method: Method<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<T>>, WireError> {
        let Some(open) = self.channels.find(number) else { return Ok(None) };
        match method {
            Method::BasicAck(ack) => open.settled(ack.delivery_tag, ack.multiple, true),
            Method::BasicNack(nack) => open.settled(nack.delivery_tag, nack.multiple, false),
            Method::BasicCancel(cancel) => {
                if !cancel.nowait {
                    let consumer_tag = cancel.consumer_tag;
                    reply(out, number, &Method::BasicCancelOk(BasicCancelOk { consumer_tag }));
                }
                // One that was just cancelled from here, or never was, is no loss.
                let consumer = open.consumers.remove(cancel.consumer_tag);
                Ok(consumer.map(|consumer| Event::Cancelled { consumer }))
            }
            Method::ChannelFlow(flow) => {
                reply(out, number, &Method::ChannelFlowOk(ChannelFlowOk { active: flow.active }));
                Ok(None)
            }
            Method::ChannelClose(close) => {
                reply(out, number, &Method::ChannelCloseOk(ChannelCloseOk));
                if open.phase == Phase::Closing {
                    return Ok(None); // our close crossed theirs, and its answer is still to come
                }
                let closed = Closed::channel(By::Broker, close.reply_code, close.reply_text);
                Ok(self.channels.end(number, closed).map(Event::ChannelEnded))
            }
            Method::ChannelCloseOk(_) if open.phase == Phase::Closing => {
                let closed = Closed::channel(By::Us, ReplyCode::REPLY_SUCCESS.0, "closed");
                Ok(self.channels.end(number, closed).map(Event::ChannelEnded))
            }
            method => self.channels.answer(number, &method),
        }
    }
}

impl<T: Tokens> Open<T> {
    /// Publishes are settled; only a channel in confirm mode hears that.
    fn settled(&self, delivery_tag: u64, multiple: bool, ack: bool) -> Result<Option<Event<T>>, WireError> {
        if !self.confirms {
            let text = "publishes were confirmed on a channel that is not in confirm mode";
            return Err(WireError::new(ReplyCode::COMMAND_INVALID, text));
        }
        Ok(Some(Event::Settled { channel: self.token.clone(), delivery_tag, multiple, ack }))
    }

    /// The start of a message.
    fn head(&mut self, method: Method<'_>) -> Result<Head<T::Consumer>, WireError> {
        match method {
            Method::BasicDeliver(deliver) => {
                let Some((consumer_tag, consumer)) = self.consumers.get_key_value(deliver.consumer_tag)
                else {
                    return Err(unknown_consumer(deliver.consumer_tag));
                };
                let incoming = delivered(&deliver, consumer_tag.clone());
                Ok(Head::Deliver { consumer: consumer.clone(), incoming })
            }
            Method::BasicReturn(returned) => Ok(Head::Return(came_back(&returned))),
            Method::BasicGetOk(got) if self.expects_get() => Ok(Head::Get(fetched(&got))),
            method => Err(unexpected(&method)),
        }
    }

    /// A frame of a content.
    fn content_frame(&mut self, frame: RawFrame<'_>, limits: Limits) -> Result<Option<Event<T>>, WireError> {
        let content = match frame.kind {
            FRAME_HEADER | FRAME_BODY => self.content.take().ok_or_else(|| frame.unexpected())?,
            FRAME_HEARTBEAT => return Err(frame.unexpected()),
            _ => return Err(frame.unknown()),
        };
        let progress = match frame.kind {
            FRAME_HEADER => content.header(frame.payload, limits.message_max_bytes)?,
            _ => content.body(frame.payload)?,
        };
        match progress {
            Progress::More(content) => {
                self.content = Some(content);
                Ok(None)
            }
            Progress::Done(content) => {
                self.finish(content.method, content.properties.into(), content.body.into())
            }
        }
    }

    /// The end of a message.
    #[inline]
    fn finish(
        &mut self,
        head: Head<T::Consumer>,
        properties: Bytes,
        body: Bytes,
    ) -> Result<Option<Event<T>>, WireError> {
        let channel = self.token.clone();
        match head {
            Head::Deliver { .. } if self.phase == Phase::Closing => Ok(None),
            Head::Deliver { consumer, incoming } => {
                let incoming = Incoming { properties, body, ..incoming };
                Ok(Some(Event::Delivered { channel, consumer, incoming }))
            }
            Head::Return(returned) => {
                let returned = Returned { properties: properties.into(), body, ..returned };
                Ok(Some(Event::Returned { channel, returned }))
            }
            Head::Get(incoming) => {
                let incoming = Incoming { properties, body, ..incoming };
                let waiter = self.take_getter().ok_or_else(|| {
                    WireError::new(ReplyCode::COMMAND_INVALID, "a message that nobody asked for")
                })?;
                let answer = Answer::Got(Some(incoming));
                Ok(Some(Event::Answered { channel, waiter, answer, dropped: None }))
            }
        }
    }
}

/// Consumers of a channel by their tags.
pub(crate) type Consumers<C> = HashMap<Arc<str>, C>;

fn delivered(deliver: &BasicDeliver<'_>, consumer_tag: Arc<str>) -> Incoming {
    Incoming {
        delivery_tag: deliver.delivery_tag,
        redelivered: deliver.redelivered,
        exchange: deliver.exchange.to_owned(),
        routing_key: deliver.routing_key.to_owned(),
        consumer_tag,
        properties: Bytes::new(),
        body: Bytes::new(),
    }
}

fn fetched(got: &BasicGetOk<'_>) -> Incoming {
    Incoming {
        delivery_tag: got.delivery_tag,
        redelivered: got.redelivered,
        exchange: got.exchange.to_owned(),
        routing_key: got.routing_key.to_owned(),
        consumer_tag: Arc::from(""),
        properties: Bytes::new(),
        body: Bytes::new(),
    }
}

fn came_back(returned: &BasicReturn<'_>) -> Returned {
    Returned {
        code: returned.reply_code,
        text: returned.reply_text.to_owned(),
        exchange: returned.exchange.to_owned(),
        routing_key: returned.routing_key.to_owned(),
        properties: Vec::new(),
        body: Bytes::new(),
    }
}

/// Appends a short method that always has a form on the wire: what it repeats was just received.
fn reply(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    if let Err(error) = write_method(out, channel, method) {
        tracing::error!(%error, method = method.name(), "an answer could not be encoded");
    }
}

#[cold]
fn unknown_channel(frame: RawFrame<'_>) -> WireError {
    let text = format!("a frame on channel {}, which is not open", frame.channel);
    WireError::new(ReplyCode::CHANNEL_ERROR, text)
}

#[cold]
fn unknown_consumer(consumer_tag: &str) -> WireError {
    let text = format!("a delivery for unknown consumer '{consumer_tag}'");
    WireError::new(ReplyCode::COMMAND_INVALID, text).with_method(60, 60)
}

#[cold]
pub(crate) fn unexpected(method: &Method<'_>) -> WireError {
    let text = format!("{} was not expected here", method.name());
    WireError::new(ReplyCode::COMMAND_INVALID, text).with_method(method.class_id(), method.method_id())
}
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
