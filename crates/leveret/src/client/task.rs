//! Work without an answer: it is on the broker's disk when this returns.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, Instant};

use leveret_client::{ChannelError, Flush, NotConfirmed, Publish};
use leveret_wire::{FieldTable, FieldValue, Properties};

use super::Client;
use super::attempt::octets;
use super::portable::{is_portable, not_portable};
use super::uplink::Uplink;
use crate::content::ContentError;
use crate::ids::message_id;
use crate::telemetry::{AskSpan, Asked};
use crate::trace::TraceContext;
use crate::wait_queue::{DELAY_MAX, declare_wait_queue};
use crate::{Payload, profile};

/// Pauses after a queue refused a task; they double.
const REFUSED_FIRST: Duration = Duration::from_millis(50);
const REFUSED_MAX: Duration = Duration::from_secs(1);
/// A broker that stops.
const CONNECTION_FORCED: u16 = 320;
/// A RabbitMQ node that lost another one.
const INTERNAL_ERROR: u16 = 541;

/// A task to be given away; awaiting it gives it, and returns its message id. Made by [`Client::task`].
///
/// When it returns, the broker has confirmed that the message is safe. If the connection is lost before that, the
/// task is given again on the next one, with the same message id, until the timeout: workers may see it twice
/// and recognise it by that id. A queue that refuses it (it is full, or in a cluster has no leader at the moment) is
/// asked again in the same way.
#[must_use = "a task is not given away until it is awaited"]
pub struct Task {
    client: Client,
    service: String,
    payload: Result<Payload, TaskError>,
    method: Option<String>,
    headers: FieldTable,
    message_id: String,
    priority: Option<u8>,
    delay: Option<Duration>,
    timeout: Duration,
}

/// Why a task was not given away.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TaskError {
    /// No queue takes tasks for this service.
    NoRoute {
        /// The service.
        service: String,
    },
    /// The queue refused it up to the timeout: it is full.
    Full {
        /// The service.
        service: String,
    },
    /// The broker did not confirm it in time. It may be there.
    Unconfirmed {
        /// What happened last.
        reason: String,
    },
    /// It cannot be sent as it is.
    Unsendable(String),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::NoRoute { service } => {
                write!(f, "no queue takes tasks for `{service}`; was a worker ever started?")
            }
            TaskError::Full { service } => write!(f, "the queue of `{service}` is full"),
            TaskError::Unconfirmed { reason } => write!(f, "the broker has not confirmed the task: {reason}"),
            TaskError::Unsendable(reason) => write!(f, "the task cannot be sent: {reason}"),
        }
    }
}

impl std::error::Error for TaskError {}

impl TaskError {
    /// The name of the kind, for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            TaskError::NoRoute { .. } => "no_route",
            TaskError::Full { .. } => "full",
            TaskError::Unconfirmed { .. } => "unconfirmed",
            TaskError::Unsendable(_) => "unsendable",
        }
    }
}

impl Task {
    pub(super) fn new(client: Client, service: &str, payload: Result<Payload, ContentError>) -> Task {
        let timeout = client.shared.settings.timeout;
        Task {
            client,
            service: service.to_owned(),
            payload: payload.map_err(|error| TaskError::Unsendable(error.to_string())),
            method: None,
            headers: FieldTable::new(),
            message_id: message_id(),
            priority: None,
            delay: None,
            timeout,
        }
    }

    /// Which of a service's methods is meant.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// A header for the handler.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        let (name, value) = (name.into(), value.into());
        if !is_portable(&value) {
            self.payload = Err(TaskError::Unsendable(not_portable(&name)));
        }
        self.headers.insert(name, value);
        self
    }

    /// What identifies the task if it is given more than once. Default: a new id.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = id.into();
        self
    }

    /// 0 (lowest) to 9, for queues that have priorities.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Not before this time has passed; at most 14 days.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay.min(DELAY_MAX));
        self
    }

    /// How long to try. Default: as for calls.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn give(self) -> Result<String, TaskError> {
        let payload = self.payload.as_ref().map_err(Clone::clone)?;
        let span = self.span(payload);
        let given = self.give_in(payload, span.trace()).await;
        span.end(given.as_ref().err().map(|error| (error.kind(), error.to_string())));
        given
    }

    fn span(&self, payload: &Payload) -> AskSpan {
        let asked = Asked {
            service: &self.service,
            method: self.method.as_deref(),
            exchange: "",
            routing_key: &self.service,
            is_call: false,
            body_bytes: payload.body.len(),
        };
        AskSpan::begin(asked, self.client.inherited.trace.as_ref())
    }

    async fn give_in(&self, payload: &Payload, trace: Option<&TraceContext>) -> Result<String, TaskError> {
        let properties = self.properties(payload, trace);
        let deadline = Instant::now() + self.timeout;
        let mut pause = REFUSED_FIRST;
        loop {
            let uplink = match self.client.uplink(deadline).await {
                Ok(uplink) => uplink,
                Err(error) => return Err(TaskError::Unconfirmed { reason: error.to_string() }),
            };
            let attempt = self.publish(&uplink, &properties, &payload.body);
            match tokio::time::timeout_at(deadline.into(), attempt).await {
                Err(_) => {
                    return Err(TaskError::Unconfirmed { reason: "no answer before the timeout".to_owned() });
                }
                Ok(Some(Err(TaskError::Full { .. }))) if Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(REFUSED_MAX);
                }
                Ok(Some(outcome)) => return outcome.map(|()| self.message_id.clone()),
                Ok(None) => {}
            }
        }
    }

    fn properties(&self, payload: &Payload, trace: Option<&TraceContext>) -> Properties {
        let mut headers = self.headers.clone();
        if let Some(trace) = trace {
            trace.write_to(&mut headers);
        }
        Properties {
            content_type: octets(&payload.content_type),
            content_encoding: octets(&payload.content_encoding),
            headers: Some(headers),
            delivery_mode: Some(profile::PERSISTENT),
            priority: self.priority,
            message_id: Some(self.message_id.as_bytes().to_vec()),
            timestamp: Some(std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())),
            kind: octets(&self.method),
            app_id: Some(self.client.shared.settings.app_id.as_bytes().to_vec()),
            ..Properties::default()
        }
    }

    /// `None`: the connection was lost, give it again.
    async fn publish(
        &self,
        uplink: &Uplink,
        properties: &Properties,
        body: &[u8],
    ) -> Option<Result<(), TaskError>> {
        let routing_key = match self.delay {
            None => self.service.clone(),
            Some(delay) => {
                let channel = uplink.connection.channel().await.ok()?;
                match declare_wait_queue(&channel, &self.service, delay).await {
                    Ok(name) => name,
                    Err(error) => return refused(error),
                }
            }
        };
        let publish = Publish {
            exchange: "",
            routing_key: &routing_key,
            mandatory: true,
            properties,
            body,
            flush: Flush::Soon,
        };
        let service = self.service.clone();
        let confirm = match uplink.requests.publish(&publish).await {
            Ok(confirm) => confirm,
            Err(error) => return refused(error),
        };
        match confirm.await {
            Ok(()) => Some(Ok(())),
            Err(NotConfirmed::Lost { .. }) => None,
            Err(NotConfirmed::Refused) => Some(Err(TaskError::Full { service })),
            Err(NotConfirmed::Returned(_)) => Some(Err(TaskError::NoRoute { service })),
        }
    }
}

/// A closed connection comes back; anything else does not become better.
fn refused(error: ChannelError) -> Option<Result<(), TaskError>> {
    match error {
        ChannelError::Closed(closed) if matches!(closed.code, 0 | CONNECTION_FORCED | INTERNAL_ERROR) => None,
        error => Some(Err(TaskError::Unsendable(error.to_string()))),
    }
}

impl IntoFuture for Task {
    type Output = Result<String, TaskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.give())
    }
}
