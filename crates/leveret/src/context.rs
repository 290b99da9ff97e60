//! What a handler knows about the request it works on, and how it hears that nobody waits any more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leveret_client::{Channel, Flush, Publish};
use leveret_wire::{FieldTable, FieldValue, Properties};
use tokio::sync::Notify;

use crate::client::Client;
use crate::content::Format;
use crate::dialect::ReplyAddress;
use crate::profile;
use crate::trace::TraceContext;

/// The circumstances of one request. Cloning it is cheap.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// Calls through it inherit deadline and trace.
    pub(crate) client: Client,
    pub(crate) properties: Properties,
    pub(crate) routing_key: String,
    pub(crate) redelivered: bool,
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) format: Format,
    pub(crate) cancel: Arc<Cancel>,
    pub(crate) progress: Option<ProgressTo>,
}

/// Where signs of progress go.
pub(crate) struct ProgressTo {
    pub(crate) channel: Channel,
    pub(crate) address: ReplyAddress,
    pub(crate) correlation_id: Option<Vec<u8>>,
}

/// Set once, when nobody waits for the answer any more.
#[derive(Default)]
pub(crate) struct Cancel {
    cancelled: AtomicBool,
    heard: Notify,
}

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.heard.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) async fn cancelled(&self) {
        loop {
            let heard = self.heard.notified();
            if self.is_cancelled() {
                return;
            }
            heard.await;
        }
    }
}

impl Context {
    pub(crate) fn new(inner: Inner) -> Context {
        Context { inner: Arc::new(inner) }
    }

    /// When the caller stops waiting. `None`: it did not say, or nobody waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline
    }

    /// What is left until the deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.inner.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancel.is_cancelled()
    }

    /// Returns when nobody waits for the answer any more. An asynchronous handler needs this only for what it
    /// started elsewhere: its own future is dropped.
    pub async fn cancelled(&self) {
        self.inner.cancel.cancelled().await;
    }

    /// For calls on behalf of this request: they inherit what is left of its deadline, and its trace.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// A header of the request.
    pub fn header(&self, name: &str) -> Option<&FieldValue> {
        self.headers()?.get(name)
    }

    /// All headers of the request.
    pub fn headers(&self) -> Option<&FieldTable> {
        self.inner.properties.headers.as_ref()
    }

    /// The routing key it was published with: which farm, which method, as the service's bindings have it.
    pub fn routing_key(&self) -> &str {
        &self.inner.routing_key
    }

    /// What identifies the request, however often it is sent. `None` if the caller gave it no id or one that is no text.
    pub fn message_id(&self) -> Option<&str> {
        text(&self.inner.properties.message_id)
    }

    /// What the caller recognises the answer by.
    pub fn correlation_id(&self) -> Option<&[u8]> {
        self.inner.properties.correlation_id.as_deref()
    }

    /// As whom the caller logged in, if it says so: the broker has checked it.
    pub fn user_id(&self) -> Option<&str> {
        text(&self.inner.properties.user_id)
    }

    /// Which program calls, in its own words.
    pub fn app_id(&self) -> Option<&str> {
        text(&self.inner.properties.app_id)
    }

    /// Everything the message says about itself.
    pub fn properties(&self) -> &Properties {
        &self.inner.properties
    }

    /// Which attempt at this request it is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Whether a worker may have begun with it before, and died.
    pub fn redelivered(&self) -> bool {
        self.inner.redelivered
    }

    /// The format the answer should have: what the caller asked for, else that of its request.
    pub fn format(&self) -> Format {
        self.inner.format
    }

    /// The trace this request belongs to, as W3C trace context.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.inner.trace.as_ref()
    }

    /// Tells a caller that asked for a stream that work goes on, which also keeps it from giving up for silence.
    /// Nothing happens if it did not ask for one.
    pub async fn progress(&self, text: &str) {
        let Some(to) = &self.inner.progress else { return };
        let mut headers = FieldTable::new();
        headers.insert(profile::STATUS, profile::IN_PROGRESS);
        let properties = Properties {
            correlation_id: to.correlation_id.clone(),
            headers: Some(headers),
            ..Properties::default()
        };
        let publish = Publish {
            exchange: &to.address.exchange,
            routing_key: &to.address.routing_key,
            mandatory: false,
            properties: &properties,
            body: text.as_bytes(),
            flush: Flush::Now,
        };
        if let Err(error) = to.channel.publish(&publish).await {
            tracing::debug!(%error, "progress could not be told");
        }
    }

    pub(crate) fn cancel(&self) -> &Arc<Cancel> {
        &self.inner.cancel
    }
}

fn text(octets: &Option<Vec<u8>>) -> Option<&str> {
    std::str::from_utf8(octets.as_deref()?).ok()
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("routing_key", &self.inner.routing_key)
            .field("message_id", &self.message_id())
            .field("deadline", &self.inner.deadline)
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}
