//! A message as it waits for its transaction.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::content::{self, ContentError, Format};
use crate::ids::message_id;
use crate::{Context, Payload};

/// A message to be enqueued: everything that goes into its row.
///
/// Headers are JSON, so that every database and every language can write them: text, numbers, booleans, arrays and
/// objects become their AMQP counterparts.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where it is published to; empty: the default exchange, whose keys are queue names.
    pub exchange: String,
    /// The routing key, at most 255 octets.
    pub routing_key: String,
    /// Messages with the same key leave in the order they were enqueued, each after the confirm of the one before.
    pub order_key: Option<String>,
    /// Body and content type.
    pub payload: Payload,
    /// Which of a service's methods is meant (AMQP's `type`).
    pub method: Option<String>,
    /// Headers for the handler.
    pub headers: Map<String, Value>,
    /// By which a repetition is recognised.
    pub message_id: String,
    /// Where an answer goes, if one is wanted.
    pub reply_to: Option<String>,
    /// By which the answer is recognised.
    pub correlation_id: Option<String>,
    /// 0 (lowest) to 9, for queues that have priorities.
    pub priority: Option<u8>,
    /// How long it may wait in its queue, counted from when the broker has it.
    pub expiration: Option<Duration>,
    /// Whether it survives a restart of the broker. Default: yes.
    pub persistent: bool,
}

impl Message {
    /// A task for a service, as JSON: what [`Client::task`](crate::Client::task) gives away at once.
    ///
    /// # Errors
    /// The value has no form in JSON.
    pub fn task<Q: Serialize + ?Sized>(service: &str, query: &Q) -> Result<Message, ContentError> {
        Ok(Message::new("", service, content::encode(Format::Json, query)?))
    }

    /// A message for an exchange, persistent, with a new message id.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>, payload: Payload) -> Message {
        Message {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            order_key: None,
            payload,
            method: None,
            headers: Map::new(),
            message_id: message_id(),
            reply_to: None,
            correlation_id: None,
            priority: None,
            expiration: None,
            persistent: true,
        }
    }

    /// Messages with the same key leave in the order they were enqueued, each after the confirm of the one before.
    #[must_use]
    pub fn order_key(self, key: impl Into<String>) -> Message {
        Message { order_key: Some(key.into()), ..self }
    }

    /// Which of a service's methods is meant.
    #[must_use]
    pub fn method(self, method: impl Into<String>) -> Message {
        Message { method: Some(method.into()), ..self }
    }

    /// A header for the handler.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Message {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The trace of the request that is being handled.
    #[must_use]
    pub fn traced(self, cx: &Context) -> Message {
        let Some(trace) = cx.trace().map(crate::trace::TraceContext::child) else { return self };
        let traced = self.header("traceparent", trace.traceparent());
        match trace.tracestate() {
            Some(state) => traced.header("tracestate", state),
            None => traced,
        }
    }

    /// What identifies the message, however often it is sent. Default: a new id.
    #[must_use]
    pub fn message_id(self, id: impl Into<String>) -> Message {
        Message { message_id: id.into(), ..self }
    }

    /// Where the answer goes, and what it is recognised by.
    #[must_use]
    pub fn reply_to(self, queue: impl Into<String>, correlation_id: impl Into<String>) -> Message {
        Message { reply_to: Some(queue.into()), correlation_id: Some(correlation_id.into()), ..self }
    }

    /// 0 (lowest) to 9, for queues that have priorities.
    #[must_use]
    pub fn priority(self, priority: u8) -> Message {
        Message { priority: Some(priority), ..self }
    }

    /// How long it may wait in its queue, counted from when the broker has it.
    #[must_use]
    pub fn expiration(self, expiration: Duration) -> Message {
        Message { expiration: Some(expiration), ..self }
    }

    /// It need not survive a restart of the broker.
    #[must_use]
    pub fn transient(self) -> Message {
        Message { persistent: false, ..self }
    }

    /// The headers as the text of a JSON object.
    pub(super) fn headers_json(&self) -> String {
        Value::Object(self.headers.clone()).to_string()
    }

    /// As the tables hold it.
    pub(super) fn expiration_ms(&self) -> Option<i64> {
        self.expiration.map(|expiration| i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX))
    }
}
