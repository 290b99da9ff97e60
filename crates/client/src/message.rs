//! What goes in and what comes out: [`Publish`], [`Delivery`], [`Returned`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use leveret_wire::{FieldTable, Properties, RawProperties};

use crate::channel::Channel;
use crate::error::Closed;

/// A message to publish. Borrows everything: publishing copies it once, into the outbox.
///
/// ```
/// use leveret_client::{Flush, Publish};
/// use leveret_wire::Properties;
///
/// let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
/// let publish = Publish { properties: &properties, ..Publish::to_queue("jobs", b"work") };
/// assert_eq!((publish.routing_key, publish.flush), ("jobs", Flush::Now));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The exchange; empty: the default exchange, whose keys are queue names.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Return the message if no queue gets it.
    pub mandatory: bool,
    /// Everything else a message carries.
    pub properties: &'a Properties,
    /// The body.
    pub body: &'a [u8],
    /// When it is written to the socket.
    pub flush: Flush,
}

static NO_PROPERTIES: Properties = Properties {
    content_type: None,
    content_encoding: None,
    headers: None,
    delivery_mode: None,
    priority: None,
    correlation_id: None,
    reply_to: None,
    expiration: None,
    message_id: None,
    timestamp: None,
    kind: None,
    user_id: None,
    app_id: None,
    cluster_id: None,
};

impl<'a> Publish<'a> {
    /// A message for an exchange, without properties, not mandatory, [`Flush::Now`].
    pub fn new(exchange: &'a str, routing_key: &'a str, body: &'a [u8]) -> Publish<'a> {
        let properties = &NO_PROPERTIES;
        Publish { exchange, routing_key, mandatory: false, properties, body, flush: Flush::Now }
    }

    /// A message for a queue, through the default exchange.
    pub fn to_queue(queue: &'a str, body: &'a [u8]) -> Publish<'a> {
        Publish::new("", queue, body)
    }
}

/// When a message is written to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flush {
    /// At once, by whoever publishes, if the socket is idle: the lowest latency.
    #[default]
    Now,
    /// By the connection's task, with what else gathers: the fewest system calls.
    Soon,
}

/// A message from a queue. It is the receiver's until it is acked, nacked or rejected (unless the consumer
/// asked for `no_ack`, where those do nothing); dropping it does not settle it.
#[derive(Clone)]
pub struct Delivery {
    /// The number to ack it with, on this channel only.
    pub delivery_tag: u64,
    /// It was delivered before, perhaps to somebody else.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// The consumer it is for; empty for an answer to `get`.
    pub consumer_tag: Arc<str>,
    /// The body.
    pub body: Bytes,
    pub(crate) properties: Bytes,
    pub(crate) channel: Channel,
    pub(crate) no_ack: bool,
    pub(crate) batch_left: bool,
}

impl Delivery {
    /// Properties as received; what does not decode is `None`.
    pub fn properties(&self) -> RawProperties<'_> {
        RawProperties::from_validated(&self.properties)
    }

    /// The channel it came on.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// It is done: the broker forgets it. Nothing happens if the channel is closed: the broker has taken the
    /// message back.
    pub fn ack(&self) {
        if !self.no_ack {
            self.channel.ack(self.delivery_tag, false);
        }
    }

    /// It is not done: back into the queue, or to the dead letters.
    pub fn nack(&self, requeue: bool) {
        if !self.no_ack {
            self.channel.nack(self.delivery_tag, false, requeue);
        }
    }

    /// As [`Delivery::nack`], in the words of AMQP before RabbitMQ.
    pub fn reject(&self, requeue: bool) {
        if !self.no_ack {
            self.channel.reject(self.delivery_tag, requeue);
        }
    }

    /// More deliveries of the same read follow for this consumer: whoever acks in batches waits for the last.
    pub fn batch_left(&self) -> bool {
        self.batch_left
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("delivery_tag", &self.delivery_tag)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A mandatory message that no queue got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Why: 312 NO_ROUTE, 313 NO_CONSUMERS.
    pub code: u16,
    /// Why, in the broker's words.
    pub text: String,
    /// The exchange it was published to.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Flags and values of its properties, as received.
    pub properties: Vec<u8>,
    /// Its body.
    pub body: Bytes,
}

impl Returned {
    /// Properties as received; what does not decode is `None`.
    pub fn properties(&self) -> RawProperties<'_> {
        RawProperties::from_validated(&self.properties)
    }
}

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Returned { code, text, exchange, routing_key, .. } = self;
        write!(f, "returned by exchange '{exchange}' for key '{routing_key}': {code} {text}")
    }
}

/// What to consume, and how.
///
/// ```
/// let consume = leveret_client::Consume::queue("jobs").exclusive();
/// assert!(!consume.no_ack);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Consume {
    /// The queue; empty: the one declared last on the channel.
    pub queue: String,
    /// Deliveries count as done when they are sent.
    pub no_ack: bool,
    /// Nobody else may consume from the queue.
    pub exclusive: bool,
    /// `x-priority` and the like.
    pub arguments: FieldTable,
    /// The consumer's name on its channel; empty: one is chosen.
    pub consumer_tag: String,
}

impl Consume {
    /// Consumes from a queue, with acks.
    pub fn queue(queue: &str) -> Consume {
        Consume { queue: queue.to_owned(), ..Consume::default() }
    }

    /// Deliveries count as done when they are sent.
    #[must_use]
    pub fn no_ack(self) -> Consume {
        Consume { no_ack: true, ..self }
    }

    /// Nobody else may consume from the queue.
    #[must_use]
    pub fn exclusive(self) -> Consume {
        Consume { exclusive: true, ..self }
    }

    /// Names the consumer.
    #[must_use]
    pub fn tag(self, consumer_tag: &str) -> Consume {
        Consume { consumer_tag: consumer_tag.to_owned(), ..self }
    }

    /// Arguments, e.g. `x-priority`.
    #[must_use]
    pub fn arguments(self, arguments: FieldTable) -> Consume {
        Consume { arguments, ..self }
    }
}

/// The name of a consumer on its channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsumerTag(pub(crate) Arc<str>);

impl ConsumerTag {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConsumerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happens to a consumer. After anything but a delivery nothing more comes.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// A message.
    Delivery(Delivery),
    /// The broker ended it, e.g. because the queue was deleted.
    Cancelled,
    /// The channel or connection ended.
    Lost(Closed),
}
