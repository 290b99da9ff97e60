//! Calling a service over HTTP: a request on a connection without a socket, and the answer that comes to it.
//!
//! ```text
//!   POST ─▶ no queue: 404 │ nobody consumes it: 503 │ publish, reply-to amq.rabbitmq.reply-to ─▶ worker
//!   200 ◀── the answer, whatever it says             │ 504: no answer in time                   ◀──┘
//! ```

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_broker::ops::consume::Consume;
use leveret_broker::ops::publish::Publish;
use leveret_broker::{Batch, Channel, MessageView};
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::message_json::{self, Encoding};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::socketless::{Said, Socketless};

pub(crate) const ROUTES: &[Route] = &[Route {
    method: Method::POST,
    path: "/api/services/{vhost}/{service}/call",
    access: Access::VHost,
    about: "Calls a service: `payload`, `payload_encoding` (string or base64), `content_type`, `headers`, `timeout_ms`",
    handler: call,
}];

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const TIMEOUT_MS: u64 = 5_000;
/// Each call holds a thread while it waits.
const TIMEOUT_MAX_MS: u64 = 60_000;
/// When the caller gives up, ms since 1970; see the wire profile.
const DEADLINE_HEADER: &str = "rpc-deadline";
/// What an answer is; the same.
const STATUS_HEADER: &str = "rpc-status";

/// A request to a service.
struct Question {
    body: Vec<u8>,
    content_type: Option<String>,
    headers: FieldTable,
    timeout_ms: u64,
}

fn call(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let question = Question::read(&Fields::of_body(&request.body)?)?;
    let (vhost, service) = (request.param("vhost"), request.param("service"));
    check_served(context, vhost, service)?;
    let asked = Instant::now();
    let (properties, body) = context.act(&request.caller()?, vhost, |channel, outlet, batch| {
        question.publish(service, context.now_ms(), channel, batch)?;
        context.finish(batch);
        question.await_answer(service, outlet, asked)
    })?;
    Ok(described(&properties, &body, asked.elapsed()))
}

/// Says at once what would otherwise be an answer that never comes.
fn check_served(context: &Context, vhost: &str, service: &str) -> Result<(), ApiError> {
    let queue = context.vhost(vhost)?.queue(service).ok_or_else(|| no_route(service))?;
    if queue.record().consumers == 0 {
        return Err(ApiError::unavailable(format!(
            "no worker serves '{service}' at the moment; nothing was sent"
        )));
    }
    Ok(())
}

fn no_route(service: &str) -> ApiError {
    ApiError::missing(format!("no queue takes requests for '{service}'"))
}

impl Question {
    fn read(fields: &Fields) -> Result<Question, ApiError> {
        let payload = fields.text_if("payload")?.unwrap_or_default();
        let body = match fields.text_if("payload_encoding")? {
            None | Some("string") => payload.as_bytes().to_vec(),
            Some("base64") => STANDARD
                .decode(payload)
                .map_err(|error| ApiError::bad_request(format!("not_base64: {error}")))?,
            Some(other) => return Err(ApiError::bad_request(format!("unsupported_encoding: {other}"))),
        };
        let timeout_ms = match fields.integer("timeout_ms")? {
            None => TIMEOUT_MS,
            Some(timeout_ms) => u64::try_from(timeout_ms)
                .ok()
                .filter(|timeout_ms| (1..=TIMEOUT_MAX_MS).contains(timeout_ms))
                .ok_or_else(|| {
                    ApiError::bad_request(format!("timeout_ms must be a number from 1 to {TIMEOUT_MAX_MS}"))
                })?,
        };
        let content_type = fields.text_if("content_type")?.map(str::to_owned);
        Ok(Question { body, content_type, headers: fields.arguments("headers")?, timeout_ms })
    }

    fn publish(
        &self,
        service: &str,
        now_ms: u64,
        channel: &mut Channel,
        batch: &mut Batch,
    ) -> Result<(), ApiError> {
        let arguments = FieldTable::new();
        let consume =
            Consume { queue: REPLY_TO, consumer_tag: "", no_ack: true, exclusive: false, arguments };
        channel.consume(consume, now_ms)?;
        let properties = self.properties(now_ms)?;
        let message = MessageView {
            exchange: "",
            routing_key: service,
            properties: RawProperties::from_validated(&properties),
            body: &self.body,
        };
        Ok(channel.publish(Publish { message, mandatory: true, immediate: false }, batch)?)
    }

    /// The octets of the request's properties.
    fn properties(&self, now_ms: u64) -> Result<Vec<u8>, ApiError> {
        let mut headers = self.headers.clone();
        let deadline_ms = now_ms.saturating_add(self.timeout_ms);
        headers.insert(DEADLINE_HEADER, FieldValue::I64(i64::try_from(deadline_ms).unwrap_or(i64::MAX)));
        let properties = Properties {
            content_type: self.content_type.as_ref().map(|text| text.as_bytes().to_vec()),
            headers: Some(headers),
            delivery_mode: Some(1),
            correlation_id: Some(b"1".to_vec()), // the only request of its connection
            reply_to: Some(REPLY_TO.as_bytes().to_vec()),
            expiration: Some(self.timeout_ms.to_string().into_bytes()),
            ..Properties::default()
        };
        properties.encode().map_err(|error| ApiError::bad_request(error.to_string()))
    }

    fn await_answer(
        &self,
        service: &str,
        outlet: &Socketless,
        asked: Instant,
    ) -> Result<(Vec<u8>, Vec<u8>), ApiError> {
        let ends = asked + Duration::from_millis(self.timeout_ms);
        loop {
            match outlet.next(ends) {
                Some(Said::Delivered { properties, .. }) if is_progress(&properties) => {}
                Some(Said::Delivered { properties, body }) => return Ok((properties, body)),
                Some(Said::Returned(_)) => return Err(no_route(service)),
                Some(Said::Confirmed(_) | Said::Cancelled) => {}
                None => {
                    return Err(ApiError::timed_out(format!(
                        "no answer of '{service}' within {} ms: the request expired in its queue, or a worker has it",
                        self.timeout_ms
                    )));
                }
            }
        }
    }
}

/// Whether a worker only says that it is still at it.
fn is_progress(properties: &[u8]) -> bool {
    let headers = RawProperties::from_validated(properties).headers();
    let status = headers.and_then(|headers| headers.find(STATUS_HEADER));
    status.as_ref().and_then(FieldValue::as_str) == Some("IN_PROGRESS")
}

fn described(properties: &[u8], body: &[u8], took: Duration) -> Answer {
    let (payload, encoding) = message_json::payload(body, Encoding::Auto, usize::MAX);
    let answer: Value = json!({
        "payload": payload,
        "payload_encoding": encoding,
        "payload_bytes": body.len(),
        "properties": message_json::properties(RawProperties::from_validated(properties)),
        "took_ms": took.as_millis(),
    });
    Answer::json(&answer)
}
