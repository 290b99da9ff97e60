//! How strangers write a request and want the answer.
//!
//! ```text
//!   delivery ──read──▶ Envelope { method, payload, reply, correlation_id, … } ──write(result)──▶ properties, body
//!
//!   payload  ──write_request──▶ OutgoingRequest ~~~▶ their worker ~~~▶ answer ──read_answer──▶ result
//! ```
//!
//! Pure functions, one file per dialect. Every file knows four things: how to recognise a request, how a success
//! and a failure look, how to read an answer, how to write a request. What no enabled dialect recognises is the wire
//! profile (`docs/features/profile.md`), whose level 0 asks for nothing at all; so reading never fails.

mod arguments;
mod celery;
mod delivery;
mod easynetq;
mod nameko;
mod nest;
mod problem;
mod profile;
mod seed;
mod spring;

use bytes::Bytes;
use leveret_wire::{FieldTable, FieldValue, Properties};
use serde::Deserialize;

use crate::content::ContentError;
use crate::profile::{IN_PROGRESS, PERSISTENT, STATUS};
use crate::{Code, Failure, Payload};

use delivery::Delivery;

/// The longest text property on the wire.
const SHORT_MAX_BYTES: usize = 255;
/// The name of RabbitMQ's direct reply-to, and what its addresses begin with.
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// Header with the message of a failure, for who does not read the body.
const ERROR: &str = "rpc-error";
/// A content header must fit into one frame, of 4096 octets at least.
const ERROR_MAX_BYTES: usize = 512;

/// Whose conventions a request follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The wire profile, and everybody who only uses `reply_to` and `correlation_id`.
    Profile,
    /// `{"q":…,"qid":…}`, answered on a topic exchange with the key qid.
    Seed,
    /// Spring AMQP: `reply_to` may be `exchange/key`.
    Spring,
    /// NestJS microservices: `{pattern, data, id}`.
    Nest,
    /// nameko: `{args, kwargs}` through the exchange `nameko-rpc`.
    Nameko,
    /// Celery's task protocol 2.
    Celery,
    /// EasyNetQ: .NET type names, errors in headers.
    EasyNetQ,
}

/// A request in any dialect, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Whose conventions it follows.
    pub dialect: Dialect,
    /// What is asked for, if the request says it.
    pub method: Option<String>,
    /// The arguments, without the dialect's wrapper.
    pub payload: Payload,
    /// Where the answer goes. Absent: the request is a task, and nobody waits.
    pub reply: Option<ReplyAddress>,
    /// What the answer must carry, to the octet: the request's correlation id, else its message id.
    pub correlation_id: Option<Vec<u8>>,
    persistent: bool,
    trace_id: Option<String>,
    wrapper: Wrapper,
}

/// What a dialect must remember of the request to write the answer.
#[derive(Clone, Debug, PartialEq)]
enum Wrapper {
    None,
    /// The qid, as JSON.
    Seed {
        qid: Bytes,
    },
    /// nameko answers in the format of the request.
    Nameko {
        content_type: Option<String>,
    },
    Celery {
        task_id: String,
    },
    /// The .NET type of the answer.
    EasyNetQ {
        answer_type: String,
    },
}

/// Where an answer is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyAddress {
    /// The exchange; empty for the default one.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

impl ReplyAddress {
    /// A queue, through the default exchange.
    pub fn queue(name: impl Into<String>) -> ReplyAddress {
        ReplyAddress { exchange: String::new(), routing_key: name.into() }
    }

    /// Whether it is a consumer of RabbitMQ's direct reply-to.
    pub(crate) fn is_direct(&self) -> bool {
        self.exchange.is_empty() && self.routing_key.starts_with(DIRECT_REPLY_TO)
    }

    /// Whether it is a queue and nothing else.
    pub(crate) fn is_plain_queue(&self) -> bool {
        self.exchange.is_empty() && !self.is_direct()
    }
}

/// How a failure is told in the dialects that have no form of their own for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ErrorStyle {
    /// In headers, details in the body as `application/problem+json`.
    #[default]
    Headers,
    /// Also in the body, as `{"error":{…}}`, for callers that never look at headers.
    Body,
}

/// A request ready to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingRequest {
    /// The exchange; empty for the default one.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Properties; deadline, trace and priority are still to be added.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
    /// What the reply queue must be bound to before publishing, where answers do not come by the default exchange.
    pub reply_binding: Option<ReplyAddress>,
}

/// Understands a request. Never fails: what none of the `enabled` dialects recognises, tried in order, is the profile.
pub fn read(
    enabled: &[Dialect],
    exchange: &str,
    routing_key: &str,
    properties: &Properties,
    body: &Bytes,
) -> Envelope {
    let delivery = Delivery { exchange, routing_key, properties, body };
    let recognised = enabled.iter().find_map(|&dialect| read_as(dialect, &delivery));
    recognised.unwrap_or_else(|| profile::read(&delivery))
}

fn read_as(dialect: Dialect, delivery: &Delivery<'_>) -> Option<Envelope> {
    match dialect {
        Dialect::Profile => Some(profile::read(delivery)),
        Dialect::Seed => seed::read(delivery),
        Dialect::Spring => spring::read(delivery),
        Dialect::Nest => nest::read(delivery),
        Dialect::Nameko => nameko::read(delivery),
        Dialect::Celery => celery::read(delivery),
        Dialect::EasyNetQ => easynetq::read(delivery),
    }
}

/// Properties and body of the answer, to be published to the envelope's reply address.
///
/// Persistent only if the request was. A failure carries the headers `rpc-status` and `rpc-error` in every dialect
/// (those who do not know them do not mind), next to the dialect's own form. A success that the dialect cannot express
/// (octets in a JSON wrapper) becomes [`Code::Internal`].
pub fn write(
    envelope: &Envelope,
    outcome: Result<&Payload, &Failure>,
    error_style: ErrorStyle,
) -> (Properties, Bytes) {
    match outcome.map(|payload| success(envelope, payload)) {
        Ok(Ok(payload)) => finish(envelope, payload, None),
        Ok(Err(error)) => {
            let failure =
                Failure::internal(format!("the answer does not fit {:?}: {error}", envelope.dialect));
            finish(envelope, self::failure(envelope, &failure, error_style), Some(&failure))
        }
        Err(failure) => finish(envelope, self::failure(envelope, failure, error_style), Some(failure)),
    }
}

fn success(envelope: &Envelope, payload: &Payload) -> Result<Payload, ContentError> {
    match (envelope.dialect, &envelope.wrapper) {
        (_, Wrapper::Seed { qid }) => seed::success(qid, payload),
        (_, Wrapper::Nameko { content_type }) => nameko::success(content_type.as_deref(), payload),
        (_, Wrapper::Celery { task_id }) => celery::success(task_id, payload),
        (Dialect::Nest, _) => nest::success(payload),
        _ => Ok(payload.clone()),
    }
}

fn failure(envelope: &Envelope, failure: &Failure, error_style: ErrorStyle) -> Payload {
    let trace_id = envelope.trace_id.as_deref();
    match (envelope.dialect, &envelope.wrapper) {
        (_, Wrapper::Seed { qid }) => seed::failure(qid, failure, trace_id),
        (_, Wrapper::Nameko { content_type }) => nameko::failure(content_type.as_deref(), failure),
        (_, Wrapper::Celery { task_id }) => celery::failure(task_id, failure),
        (Dialect::Nest, _) => nest::failure(failure, trace_id),
        (Dialect::EasyNetQ, _) => easynetq::failure(),
        _ => profile::failure(failure, trace_id, error_style),
    }
}

/// The properties around an answer.
fn finish(envelope: &Envelope, payload: Payload, failure: Option<&Failure>) -> (Properties, Bytes) {
    let mut properties = described(&payload);
    properties.correlation_id.clone_from(&envelope.correlation_id);
    properties.delivery_mode = envelope.persistent.then_some(PERSISTENT);
    if let Some(failure) = failure {
        let headers = properties.headers.get_or_insert_default();
        headers.insert(STATUS, text(failure.code.name()));
        headers.insert(ERROR, text(cut(&failure.message, ERROR_MAX_BYTES)));
    }
    if let Wrapper::EasyNetQ { answer_type } = &envelope.wrapper {
        easynetq::mark(answer_type, failure, &mut properties);
    }
    (properties, payload.body)
}

/// What somebody answered in a dialect: the payload without wrapper, or the failure.
///
/// An answer that has not the form of the dialect is taken as it is: a plain worker may stand in for a framework's.
///
/// # Errors
/// The failure that the service reported.
pub fn read_answer(dialect: Dialect, properties: &Properties, body: Bytes) -> Result<Payload, Failure> {
    let delivery = Delivery { exchange: "", routing_key: "", properties, body: &body };
    let payload = delivery.payload();
    if let Some(failure) = profile::reported(&delivery, &payload) {
        return Err(failure);
    }
    match dialect {
        Dialect::Profile | Dialect::Spring => Ok(payload),
        Dialect::Seed => seed::answer(payload),
        Dialect::Nest => nest::answer(payload),
        Dialect::Nameko => nameko::answer(payload),
        Dialect::Celery => celery::answer(payload),
        Dialect::EasyNetQ => easynetq::answer(&delivery, payload),
    }
}

/// Whether a message on the reply queue is the answer. What is not is a sign of life (`rpc-status: IN_PROGRESS`,
/// Celery's `STARTED` and `RETRY`), after which the answer is still to come.
pub fn is_answer(dialect: Dialect, properties: &Properties, body: &Bytes) -> bool {
    let delivery = Delivery { exchange: "", routing_key: "", properties, body };
    let in_progress = delivery.header_text(STATUS).is_some_and(|status| status == IN_PROGRESS);
    let notice = dialect == Dialect::Celery && celery::is_notice(&delivery.payload());
    !in_progress && !notice
}

/// A request to a service that speaks a dialect. `reply_queue` is where the answer shall arrive; without one the
/// request is a task.
///
/// The body of a call to Celery and nameko is the arguments: an array is positional, an object named, `null` or nothing
/// none, and anything else the only one. For EasyNetQ the service is the .NET type name of the request.
///
/// # Errors
/// The payload has no form in the dialect, e.g. octets in a JSON wrapper.
pub fn write_request(
    dialect: Dialect,
    service: &str,
    method: Option<&str>,
    payload: &Payload,
    reply_queue: Option<&str>,
    correlation_id: &str,
) -> Result<OutgoingRequest, ContentError> {
    let call = OutgoingCall { service, method, payload, reply_queue, correlation_id };
    match dialect {
        Dialect::Profile | Dialect::Spring => Ok(profile::request(&call)),
        Dialect::Seed => seed::request(&call),
        Dialect::Nest => nest::request(&call),
        Dialect::Nameko => nameko::request(&call),
        Dialect::Celery => celery::request(&call),
        Dialect::EasyNetQ => Ok(easynetq::request(&call)),
    }
}

/// What [`write_request`] was asked for.
struct OutgoingCall<'a> {
    service: &'a str,
    method: Option<&'a str>,
    payload: &'a Payload,
    reply_queue: Option<&'a str>,
    correlation_id: &'a str,
}

impl OutgoingCall<'_> {
    /// `service.method`, or the service alone.
    fn dotted(&self) -> String {
        match self.method {
            Some(method) => format!("{}.{method}", self.service),
            None => self.service.to_owned(),
        }
    }

    /// A request to the queue of the service, with the id where every dialect wants it.
    fn to_queue(&self, payload: Payload) -> OutgoingRequest {
        let properties = Properties {
            correlation_id: Some(self.correlation_id.into()),
            reply_to: self.reply_queue.map(Into::into),
            ..described(&payload)
        };
        OutgoingRequest {
            exchange: String::new(),
            routing_key: self.service.to_owned(),
            properties,
            body: payload.body,
            reply_binding: None,
        }
    }
}

/// The properties that say what a body is. Text that does not fit is left out: the receiver then guesses.
fn described(payload: &Payload) -> Properties {
    Properties {
        content_type: payload.content_type.as_deref().and_then(short),
        content_encoding: payload.content_encoding.as_deref().and_then(short),
        ..Properties::default()
    }
}

fn short(text: &str) -> Option<Vec<u8>> {
    (text.len() <= SHORT_MAX_BYTES).then(|| text.as_bytes().to_vec())
}

fn text(value: &str) -> FieldValue {
    FieldValue::LongString(value.as_bytes().to_vec())
}

fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// A JSON body as Python's libraries expect it: they look at the charset.
fn json_body(body: impl Into<Bytes>) -> Payload {
    Payload { content_encoding: Some("utf-8".into()), ..Payload::new("application/json", body) }
}

/// JSON text around parts that are JSON text already: no digit of them changes.
fn spliced(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

/// A wrapper: an object with the fields of `T`. Serde takes an array for a struct as well, its fields in order; here that
/// is somebody's list of arguments.
fn unwrapped<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(text).ok()).flatten()
}

/// JSON text of a string.
fn json_string(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// Headers, if there are any.
fn headers(entries: impl IntoIterator<Item = (&'static str, FieldValue)>) -> Option<FieldTable> {
    Some(entries.into_iter().collect::<FieldTable>()).filter(|headers| !headers.is_empty())
}

/// A failure that a stranger's framework reported by a name of its own.
fn foreign_failure(code: Code, message: String, details: serde_json::Value) -> Failure {
    Failure { details: Some(details), ..Failure::new(code, message) }
}

#[cfg(test)]
mod tests;
