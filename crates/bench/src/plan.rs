//! What load is asked for, and whether it can be run at all. Everything that can be refused is refused here, before
//! the first connection.

use crate::{Error, Result};
use std::time::Duration;

/// Number and time of a message stand in its body.
pub const SIZE_MIN_BYTES: usize = 16;
/// Of one body.
pub const SIZE_MAX_BYTES: usize = 64 << 20;
/// One thread each, on each side.
pub const CONNECTIONS_MAX: u32 = 1_000;
/// On one connection.
pub const CHANNELS_MAX: u16 = 2_047;
/// Queues of one load, and producers: their numbers stand in 16 bits of a message.
pub const QUEUES_MAX: u32 = 10_000;
/// Bindings that match nothing.
pub const OTHER_BINDINGS_MAX: u32 = 100_000;
/// Unconfirmed messages of one producer.
pub const WINDOW_MAX: u32 = 1_000_000;
/// Calls that one caller has in flight.
pub const IN_FLIGHT_MAX: u32 = 1_000;
/// Of the body of a request or an answer.
pub const CALL_MAX_BYTES: usize = 64 << 10;
/// Messages a second of one producer, calls of one caller.
pub const RATE_MAX: f64 = 10_000_000.0;
/// What the messages that are encoded ahead may take, of one producer.
const ENCODED_MAX_BYTES: usize = 256 << 20;

/// A load.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Producers and consumers at once.
    Flow(Flow),
    /// Producers first, then consumers.
    Backlog(Flow),
    /// Callers and responders.
    Calls(Calls),
    /// Something that is made and taken away again and again.
    Churn(Churn),
    /// Connections that are opened and do nothing.
    Hold {
        /// How many.
        connections: u32,
    },
}

/// Messages from producers through an exchange and queues to consumers.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Each on a channel of its own.
    pub producers: u32,
    /// Each on a channel of its own; consumer `i` reads queue `i` modulo the queues.
    pub consumers: u32,
    /// Producer `i` serves queue `i` modulo the queues; with fewer producers than queues, each serves several.
    pub queues: u32,
    /// Producers, or consumers, that share a connection.
    pub channels: u16,
    /// Sizes of bodies, octets; more than one take turns.
    pub sizes_bytes: Vec<usize>,
    /// Whether messages have delivery mode 2.
    pub persistent: bool,
    /// Messages a producer may have unconfirmed; without, no confirms.
    pub window: Option<u32>,
    /// How consumers settle.
    pub settle: Settle,
    /// Messages a second of each producer; without, as fast as the broker takes them.
    pub rate: Option<f64>,
    /// What is between producers and queues.
    pub route: Route,
    /// Further bindings of the exchange, which match none of the messages.
    pub other_bindings: u32,
    /// Whether the queues are durable.
    pub durable: bool,
    /// Arguments of the queues.
    pub arguments: Vec<(String, Argument)>,
    /// Whether messages that no queue takes come back.
    pub mandatory: bool,
    /// What each message says of itself.
    pub properties: Properties,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            producers: 1,
            consumers: 1,
            queues: 1,
            channels: 1,
            sizes_bytes: vec![1024],
            persistent: false,
            window: None,
            settle: Settle::None,
            rate: None,
            route: Route::Queue,
            other_bindings: 0,
            durable: false,
            arguments: Vec::new(),
            mandatory: false,
            properties: Properties::default(),
        }
    }
}

/// How a consumer settles what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Not at all: `no-ack`.
    None,
    /// After every so many messages, with one acknowledgement for all of them.
    Every {
        /// 1 or more, and not more than the prefetch.
        messages: u16,
        /// Deliveries that may be unacknowledged; 0 is without limit.
        prefetch: u16,
    },
}

/// The way from producers to queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The default exchange and the queue's name.
    Queue,
    /// A direct exchange.
    Direct,
    /// A fanout exchange: every queue gets every message.
    Fanout,
    /// A topic exchange; the bindings have wildcards.
    Topic,
    /// A headers exchange.
    Headers,
}

/// A value in the arguments of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

/// Properties of all messages of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Content type.
    pub content_type: Option<String>,
    /// Headers, all of them texts.
    pub headers: Vec<(String, String)>,
}

/// Requests and answers.
#[derive(Clone, Debug)]
pub struct Calls {
    /// Each on a connection of its own, with a reply queue of its own.
    pub callers: u32,
    /// Each on a connection of its own; they share the request queue.
    pub responders: u32,
    /// Calls of each caller that wait for their answer; with a rate, at most.
    pub in_flight: u32,
    /// Calls a second of each caller; without, the next request leaves when an answer comes.
    pub rate: Option<f64>,
    /// Of requests and answers, octets.
    pub size_bytes: usize,
    /// Whether answers come by `amq.rabbitmq.reply-to` instead of an exclusive queue.
    pub direct_reply_to: bool,
}

/// What is made and taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// TCP connection, handshake, channel, close.
    Connection,
    /// A channel on an open connection.
    Channel,
    /// A durable queue, a binding to a durable exchange, and the end of both.
    Declare,
}

/// Cycles by several threads.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// What a thread does again and again.
    pub cycle: Cycle,
    /// Threads, with a connection each.
    pub connections: u32,
}

/// How long a load runs.
#[derive(Clone, Copy, Debug)]
pub enum Span {
    /// By the clock.
    Time {
        /// Before anything counts.
        warm_up: Duration,
        /// What counts.
        observed: Duration,
    },
    /// Until so many messages, of all producers together, have come through. All of it counts.
    Count(u64),
}

impl Plan {
    /// Whether this can be run for `span`.
    ///
    /// # Errors
    /// [`Error::Plan`], in words that name the limit.
    pub fn check(&self, span: Span) -> Result<()> {
        match self {
            Plan::Flow(flow) => flow.check(span)?,
            Plan::Backlog(flow) => flow.check_backlog(span)?,
            Plan::Calls(calls) => calls.check()?,
            Plan::Churn(churn) => within("connections", churn.connections, 1, CONNECTIONS_MAX)?,
            Plan::Hold { connections } => within("connections", *connections, 1, 20_000)?,
        }
        match span {
            Span::Count(_) if !matches!(self, Plan::Flow(_) | Plan::Backlog(_)) => {
                refuse("only messages can be counted; this runs for a time")
            }
            Span::Time { observed, .. } if observed < Duration::from_millis(100) => {
                refuse("a load runs for 100 ms at least")
            }
            _ => Ok(()),
        }
    }
}

impl Flow {
    /// Connections of the producers, and of the consumers.
    pub(crate) fn connections(&self, lanes: u32) -> u32 {
        lanes.div_ceil(self.channels.into())
    }

    /// Whether `x-queue-type` says that the queues are streams.
    pub(crate) fn is_stream(&self) -> bool {
        let stream = Argument::Text("stream".to_owned());
        self.arguments.iter().any(|(name, value)| name == "x-queue-type" && *value == stream)
    }

    fn check(&self, span: Span) -> Result<()> {
        within("producers", self.producers, 1, QUEUES_MAX)?;
        within("consumers", self.consumers, 0, QUEUES_MAX)?;
        within("queues", self.queues, 1, QUEUES_MAX)?;
        within("channels", self.channels.into(), 1, CHANNELS_MAX.into())?;
        within("other bindings", self.other_bindings, 0, OTHER_BINDINGS_MAX)?;
        within("window of confirms", self.window.unwrap_or(1), 1, WINDOW_MAX)?;
        for lanes in [self.producers, self.consumers] {
            within("connections", self.connections(lanes), 0, CONNECTIONS_MAX)?;
        }
        self.check_sizes()?;
        self.check_settling()?;
        self.check_routes()?;
        check_rate(self.rate)?;
        match span {
            Span::Count(count) if count < self.producers.into() => {
                refuse("the count is one message per producer at least")
            }
            _ => Ok(()),
        }
    }

    fn check_backlog(&self, span: Span) -> Result<()> {
        self.check(span)?;
        match span {
            Span::Time { .. } => refuse("a backlog needs a count of messages"),
            Span::Count(_) if self.consumers == 0 => refuse("a backlog needs a consumer to drain it"),
            Span::Count(_) => Ok(()),
        }
    }

    fn check_sizes(&self) -> Result<()> {
        if self.sizes_bytes.is_empty() {
            return refuse("a message needs a size");
        }
        self.sizes_bytes.iter().try_for_each(|size| check_size(*size))?;
        let destinations = if self.route == Route::Fanout { 1 } else { self.queues.div_ceil(self.producers) };
        let encoded = self.sizes_bytes.iter().sum::<usize>().saturating_mul(destinations as usize);
        if encoded > ENCODED_MAX_BYTES {
            return refuse("a producer's messages, one of each size for each of its queues, exceed 256 MiB");
        }
        Ok(())
    }

    fn check_settling(&self) -> Result<()> {
        match self.settle {
            Settle::None if self.is_stream() && self.consumers > 0 => {
                refuse("a stream is read with acknowledgements and a prefetch")
            }
            Settle::Every { messages: 0, .. } => refuse("acknowledgements come after 1 message or more"),
            Settle::Every { messages, prefetch } if prefetch != 0 && messages > prefetch => refuse(format!(
                "with a prefetch of {prefetch}, {messages} messages are never waiting for an ack"
            )),
            Settle::Every { prefetch: 0, .. } if self.is_stream() => refuse("a stream needs a prefetch"),
            _ => Ok(()),
        }
    }

    fn check_routes(&self) -> Result<()> {
        if self.consumers > 0 && self.consumers < self.queues {
            return refuse(format!("{} queues need {0} consumers, or none", self.queues));
        }
        if self.is_stream() && !self.consumers.is_multiple_of(self.queues) {
            return refuse("each stream needs the same number of consumers");
        }
        if self.other_bindings > 0 && matches!(self.route, Route::Queue | Route::Fanout) {
            return refuse("other bindings need a direct, topic or headers exchange");
        }
        let texts = self.properties.headers.iter().flat_map(|(name, value)| [name, value]);
        match texts.chain(&self.properties.content_type).any(|text| text.len() > 255) {
            true => refuse("a property has more than 255 octets"),
            false => Ok(()),
        }
    }
}

impl Calls {
    fn check(&self) -> Result<()> {
        within("callers", self.callers, 1, CONNECTIONS_MAX)?;
        within("responders", self.responders, 1, CONNECTIONS_MAX)?;
        within("calls in flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
        check_rate(self.rate)?;
        if (1..=CALL_MAX_BYTES).contains(&self.size_bytes) {
            return Ok(());
        }
        refuse(format!("a call's body has 1 to {CALL_MAX_BYTES} octets: it goes in one frame"))
    }
}

fn check_rate(rate: Option<f64>) -> Result<()> {
    match rate {
        Some(rate) if !(rate > 0.0 && rate <= RATE_MAX) => {
            refuse(format!("a rate is more than 0 and at most {RATE_MAX} a second, not {rate}"))
        }
        _ => Ok(()),
    }
}

fn check_size(size: usize) -> Result<()> {
    if (SIZE_MIN_BYTES..=SIZE_MAX_BYTES).contains(&size) {
        return Ok(());
    }
    refuse(format!("a body has {SIZE_MIN_BYTES} to {SIZE_MAX_BYTES} octets; number and time stand in it"))
}

fn within(what: &str, value: u32, least: u32, most: u32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    refuse(format!("{what}: {value} is not from {least} to {most}"))
}

fn refuse<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Plan(why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Span = Span::Time { warm_up: Duration::ZERO, observed: Duration::from_secs(1) };

    #[test]
    fn flows_that_cannot_be_run_are_refused_by_name() {
        let check = |change: &dyn Fn(&mut Flow), span: Span, words: &str| {
            let mut flow = Flow::default();
            change(&mut flow);
            let said = Plan::Flow(flow).check(span).err().map_or_else(String::new, |error| error.to_string());
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{said:?}, not {words:?}");
        };
        let stream = ("x-queue-type".to_owned(), Argument::Text("stream".to_owned()));
        check(&|_| {}, SECOND, "");
        check(&|flow| flow.consumers = 0, SECOND, "");
        check(&|flow| flow.producers = 0, SECOND, "producers: 0 is not from 1 to 10000");
        check(&|flow| flow.producers = 1001, SECOND, "connections: 1001 is not from 0 to 1000");
        check(&|flow| (flow.producers, flow.channels) = (1001, 2), SECOND, "");
        check(&|flow| flow.queues = 2, SECOND, "2 queues need 2 consumers");
        check(&|flow| flow.sizes_bytes = vec![15], SECOND, "16 to 67108864");
        check(&|flow| flow.sizes_bytes.clear(), SECOND, "needs a size");
        check(&|flow| flow.rate = Some(0.0), SECOND, "more than 0");
        check(&|flow| flow.rate = Some(f64::NAN), SECOND, "more than 0");
        check(&|flow| flow.window = Some(0), SECOND, "window of confirms: 0");
        check(&|flow| flow.other_bindings = 1, SECOND, "other bindings need");
        check(&|flow| flow.settle = Settle::Every { messages: 9, prefetch: 8 }, SECOND, "prefetch of 8");
        check(&|flow| flow.settle = Settle::Every { messages: 9, prefetch: 0 }, SECOND, "");
        check(&|flow| flow.arguments.push(stream.clone()), SECOND, "a stream is read with");
        check(&|flow| flow.producers = 2, Span::Count(1), "one message per producer");
        check(&|_| {}, Span::Time { warm_up: Duration::ZERO, observed: Duration::ZERO }, "100 ms");
    }

    #[test]
    fn only_messages_are_counted() {
        let churn = Plan::Churn(Churn { cycle: Cycle::Channel, connections: 1 });
        assert!(churn.check(SECOND).is_ok() && churn.check(Span::Count(5)).is_err());
        let backlog = Plan::Backlog(Flow::default());
        assert!(backlog.check(Span::Count(5)).is_ok() && backlog.check(SECOND).is_err());
    }
}
