//! Serving: a handler behind a queue.
//!
//! ```text
//!   queue ──▶ intake ─────▶ run ─────▶ finish
//!             expired?      handler    answer, then acknowledge     (a call)
//!             caller gone?  deadline   retry later, park            (a task)
//!             cancelled?    panic
//!             seen before?
//!             poison?
//! ```
//!
//! The request is acknowledged after its answer was sent, so a worker that dies loses nothing; and it is never
//! returned to the queue because of what the handler did, so nothing goes round in circles.

mod control;
mod dedup;
mod finish;
mod intake;
mod outside;
mod queue;
mod recent;
mod retry;
mod run;
mod shift;
mod stats;
mod worker;

use std::fmt;
use std::time::Duration;

use leveret_client::{ChannelError, Closed};
use tower_layer::Layer;
use tower_service::Service;

pub use retry::RetryPolicy;
pub use stats::WorkerStats;
pub use worker::Worker;

use crate::client::Client;
use crate::dialect::{Dialect, ErrorStyle};
use crate::{Answer, IntoFailure, Request};

/// Requests at once, unless [`Serve::concurrency`] says otherwise.
const DEFAULT_CONCURRENCY: u16 = 32;
/// A request that crashed so many workers is parked.
const DEFAULT_DELIVERY_LIMIT: u32 = 5;
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// Anything that serves: a [`handler`](crate::handler), a [`blocking`](crate::blocking) or [`raw`](crate::raw)
/// function, a `#[leveret::service]`, or any of them inside tower layers.
pub trait Handler:
    Service<Request, Response = Answer, Error: IntoFailure + Send, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Handler for S where
    S: Service<Request, Response = Answer, Error: IntoFailure + Send, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Settings of a worker; [`start`](Serve::start) starts it. Made by [`Client::serve`].
#[must_use = "nothing is served until it is started"]
pub struct Serve<S> {
    client: Client,
    handler: S,
    options: Options,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) service: String,
    pub(crate) description: Description,
    pub(crate) queue: QueueOptions,
    pub(crate) concurrency: u16,
    pub(crate) delivery_limit: u32,
    pub(crate) dialects: Vec<Dialect>,
    pub(crate) error_style: ErrorStyle,
    pub(crate) retries: RetryPolicy,
    pub(crate) drain: Duration,
}

/// The queue of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueOptions {
    pub(crate) kind: QueueKind,
    pub(crate) plain: bool,
    pub(crate) priorities: Option<u8>,
    pub(crate) length_max: Option<u32>,
    /// Every instance has a queue of its own.
    pub(crate) every_instance: bool,
    pub(crate) bindings: Vec<(String, String)>,
}

/// What holds the requests. A queue that exists is used as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// A durable classic queue, on one node.
    #[default]
    Classic,
    /// A quorum queue, replicated on the nodes of a RabbitMQ cluster.
    Quorum,
}

/// What discovery tells about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// A semantic version.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Names of the methods.
    pub endpoints: Vec<String>,
    /// Anything else.
    pub metadata: Vec<(String, String)>,
}

impl Default for Description {
    fn default() -> Self {
        Description {
            version: "0.1.0".to_owned(),
            description: String::new(),
            endpoints: Vec::new(),
            metadata: Vec::new(),
        }
    }
}

/// Why a worker did not start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The queue or a binding cannot be set up.
    Setup {
        /// The service.
        service: String,
        /// What was being set up.
        what: String,
        /// The broker's answer.
        error: String,
    },
    /// The client was closed.
    Closed(Closed),
}

impl ServeError {
    fn setup(service: &str, what: impl Into<String>, error: &ChannelError) -> ServeError {
        ServeError::Setup { service: service.to_owned(), what: what.into(), error: error.to_string() }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Setup { service, what, error } => {
                write!(f, "`{service}` cannot be served: {what}: {error}")
            }
            ServeError::Closed(closed) => write!(f, "the client was closed: {closed}"),
        }
    }
}

impl std::error::Error for ServeError {}

impl<S: Handler> Serve<S> {
    pub(crate) fn new(client: Client, service: &str, handler: S) -> Serve<S> {
        let options = Options {
            service: service.to_owned(),
            description: Description::default(),
            queue: QueueOptions::default(),
            concurrency: DEFAULT_CONCURRENCY,
            delivery_limit: DEFAULT_DELIVERY_LIMIT,
            dialects: vec![Dialect::Profile],
            error_style: ErrorStyle::Headers,
            retries: RetryPolicy::default(),
            drain: DEFAULT_DRAIN,
        };
        Serve { client, handler, options }
    }

    /// How many requests are worked on at once; the prefetch follows. Default: 32.
    pub fn concurrency(mut self, requests: u16) -> Self {
        self.options.concurrency = requests.max(1);
        self
    }

    /// Binds the service's queue to an exchange: `.bind("amq.topic", "#.ohio")`.
    pub fn bind(mut self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.options.queue.bindings.push((exchange.into(), routing_key.into()));
        self
    }

    /// Every instance gets every request, on a queue of its own that goes with it: for questions that are gathered.
    /// Needs a [`bind`](Serve::bind).
    pub fn every_instance(mut self) -> Self {
        self.options.queue.every_instance = true;
        self
    }

    /// Declares the queue without any argument, for services that share it with peers who declare it so. On
    /// RabbitMQ, a request that expires in such a queue is then noticed by the caller's clock only.
    pub fn plain_queue(mut self) -> Self {
        self.options.queue.plain = true;
        self
    }

    /// What holds the requests. Default: a classic queue.
    pub fn queue_kind(mut self, kind: QueueKind) -> Self {
        self.options.queue.kind = kind;
        self
    }

    /// Gives the queue priorities up to this one; at most 9 is wise.
    pub fn priorities(mut self, highest: u8) -> Self {
        self.options.queue.priorities = Some(highest);
        self
    }

    /// Sheds load: when so many requests wait, the oldest goes back to its caller as
    /// [`CallError::Overloaded`](crate::CallError::Overloaded).
    pub fn queue_length(mut self, requests: u32) -> Self {
        self.options.queue.length_max = Some(requests);
        self
    }

    /// A request that crashed so many workers is parked in the queue `<service>.parked`. Default: 5.
    pub fn delivery_limit(mut self, deliveries: u32) -> Self {
        self.options.delivery_limit = deliveries.max(1);
        self
    }

    /// What becomes of tasks (requests without reply-to) that fail.
    pub fn retries(mut self, policy: RetryPolicy) -> Self {
        self.options.retries = policy;
        self
    }

    /// Also understands callers that speak these dialects. Default: only the profile, which includes every plain
    /// AMQP client.
    pub fn dialects(mut self, dialects: &[Dialect]) -> Self {
        self.options.dialects = dialects.to_vec();
        self
    }

    /// Whether errors are told in headers (default) or, for callers that read only bodies, in the body.
    pub fn error_style(mut self, style: ErrorStyle) -> Self {
        self.options.error_style = style;
        self
    }

    /// What discovery tells about the service.
    pub fn describe(mut self, description: Description) -> Self {
        self.options.description = description;
        self
    }

    /// How long [`Worker::drain`] waits for requests that are being worked on. Default: 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain = timeout;
        self
    }

    /// Wraps the handler in a tower layer.
    pub fn layer<L>(self, layer: L) -> Serve<L::Service>
    where
        L: Layer<S>,
        L::Service: Handler,
    {
        Serve { client: self.client, handler: layer.layer(self.handler), options: self.options }
    }

    /// Declares what is missing and begins to take requests. The worker comes back by itself after a loss of the
    /// connection, until it is drained or dropped.
    ///
    /// # Errors
    /// The queue or a binding cannot be set up, in the broker's words.
    pub async fn start(self) -> Result<Worker, ServeError> {
        worker::start(self.client, self.handler, self.options).await
    }
}
