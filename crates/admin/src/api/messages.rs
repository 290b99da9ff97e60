//! Publishing a message, and getting some from a queue.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_broker::ops::get::Got;
use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::settle::Settlement;
use leveret_broker::{Batch, Channel, MessageView, Refusal, Verdict};
use leveret_wire::{RawProperties, ReplyCode};
use serde_json::{Value, json};

use super::bindings::exchange_name;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::message_json::{self, Encoding};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::socketless::{Said, Socketless};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/api/exchanges/{vhost}/{exchange}/publish",
        access: Access::VHost,
        about: "Publishes a message: `properties`, `routing_key`, `payload`, `payload_encoding` (string or base64)",
        handler: publish,
    },
    Route {
        method: Method::POST,
        path: "/api/queues/{vhost}/{queue}/get",
        access: Access::VHost,
        about: "Gets messages: `count`, `ackmode`, `encoding` (auto or base64), `truncate`",
        handler: get,
    },
];

/// Whether the log takes a message is known within this time, or the disk does not work.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// More messages are not put into one answer.
const GET_COUNT_MAX: usize = 10_000;
/// An answer with this many octets of payload takes no further message.
const GET_ENOUGH_BYTES: usize = 64 << 20;

fn publish(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    fields.require(&["properties", "routing_key", "payload", "payload_encoding"])?;
    let routing_key = fields.text("routing_key")?;
    if routing_key.len() > 255 {
        return Err(ApiError::bad_request("routing_key has at most 255 octets"));
    }
    let properties = properties(&fields)?;
    let message = MessageView {
        exchange: exchange_name(request.param("exchange")),
        routing_key,
        properties: RawProperties::from_validated(&properties),
        body: &body(&fields)?,
    };
    context.vhost_to_change(request.param("vhost"))?;
    let routed = context.act(&request.caller()?, request.param("vhost"), |channel, outlet, batch| {
        channel.select_confirms()?;
        let publish = Publish { message, mandatory: true, immediate: false };
        channel.publish(publish, batch).map_err(as_closed)?;
        context.finish(batch);
        context.host.hurry();
        is_taken(outlet)
    })?;
    Ok(Answer::json(&json!({ "routed": routed })))
}

/// The octets of the properties.
fn properties(fields: &Fields) -> Result<Vec<u8>, ApiError> {
    let properties = match fields.value("properties") {
        // What RabbitMQ shows of a message without properties.
        Some(Value::Array(none)) if none.is_empty() => Default::default(),
        Some(Value::Object(properties)) => message_json::read_properties(properties)?,
        _ => return Err(ApiError::bad_request("properties must be an object")),
    };
    properties.encode().map_err(|error| ApiError::bad_request(error.to_string()))
}

fn body(fields: &Fields) -> Result<Vec<u8>, ApiError> {
    let Some(Value::String(payload)) = fields.value("payload") else {
        return Err(ApiError::bad_request("payload_not_string"));
    };
    match fields.text("payload_encoding")? {
        "string" => Ok(payload.as_bytes().to_vec()),
        "base64" => {
            STANDARD.decode(payload).map_err(|error| ApiError::bad_request(format!("not_base64: {error}")))
        }
        other => Err(ApiError::bad_request(format!("unsupported_encoding: {other}"))),
    }
}

/// Waits for the verdict: whether a queue has the message.
fn is_taken(outlet: &Socketless) -> Result<bool, ApiError> {
    let mut is_returned = false;
    loop {
        match outlet.next_within(CONFIRM_TIMEOUT) {
            Some(Said::Returned(_)) => is_returned = true,
            Some(Said::Confirmed(verdict)) => return Ok(verdict == Verdict::Ack && !is_returned),
            Some(Said::Delivered { .. } | Said::Cancelled) => {}
            None => {
                return Err(ApiError::unavailable("the message is not confirmed: the disk does not answer"));
            }
        }
    }
}

/// RabbitMQ answers 400 for all that closes a channel of a publisher.
fn as_closed(refusal: Refusal) -> ApiError {
    match refusal.code {
        ReplyCode::INTERNAL_ERROR => ApiError::internal(refusal.explanation),
        code => ApiError::bad_request(format!("{} {refusal}", code.0)),
    }
}

/// What is wanted of a queue.
struct Get {
    count: usize,
    settlement: Settlement,
    encoding: Encoding,
    max_bytes: usize,
}

impl Get {
    fn read(fields: &Fields) -> Result<Get, ApiError> {
        fields.require(&["count", "ackmode", "encoding"])?;
        let natural = |number: Option<i64>| number.map(|number| usize::try_from(number).unwrap_or(0));
        let settlement = match fields.text("ackmode")? {
            "ack_requeue_true" => Settlement::Requeue { failed: false },
            "reject_requeue_true" => Settlement::Requeue { failed: true },
            "ack_requeue_false" => Settlement::Ack,
            "reject_requeue_false" => Settlement::Discard,
            other => return Err(ApiError::bad_request(format!("unknown ackmode: {other}"))),
        };
        let encoding = match fields.text("encoding")? {
            "auto" => Encoding::Auto,
            "base64" => Encoding::Base64,
            _ => return Err(ApiError::bad_request("Unsupported encoding. Please use auto or base64.")),
        };
        let count = natural(fields.integer("count")?).unwrap_or(0).min(GET_COUNT_MAX);
        let max_bytes = natural(fields.integer("truncate")?).unwrap_or(usize::MAX);
        Ok(Get { count, settlement, encoding, max_bytes })
    }

    /// Fetches; what was fetched is settled when all is there, so that nothing is got twice.
    fn run(&self, channel: &mut Channel, queue: &str, batch: &mut Batch) -> Result<Vec<Value>, ApiError> {
        let (mut messages, mut tags, mut octets) = (Vec::new(), Vec::new(), 0);
        while messages.len() < self.count && octets < GET_ENOUGH_BYTES {
            let Some(got) = channel.get(queue, false, batch)? else { break };
            tags.push(got.delivery_tag);
            octets += got.message.view().body.len().min(self.max_bytes);
            messages.push(self.described(&got));
        }
        for tag in tags {
            channel.settle(tag, false, self.settlement, batch)?;
        }
        Ok(messages)
    }

    fn described(&self, got: &Got) -> Value {
        let message = got.message.view();
        let (payload, encoding) = message_json::payload(message.body, self.encoding, self.max_bytes);
        let properties = message_json::properties(message.properties);
        json!({
            "payload_bytes": message.body.len(),
            "redelivered": got.redelivered,
            "exchange": message.exchange,
            "routing_key": message.routing_key,
            "message_count": got.remaining,
            // RabbitMQ's empty object is an empty list.
            "properties": if properties.is_empty() { json!([]) } else { Value::Object(properties) },
            "payload": payload,
            "payload_encoding": encoding,
        })
    }
}

fn get(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let get = Get::read(&Fields::of_body(&request.body)?)?;
    let (vhost, queue) = (request.param("vhost"), request.param("queue"));
    context.vhost_to_change(vhost)?;
    let messages =
        context.act(&request.caller()?, vhost, |channel, _, batch| get.run(channel, queue, batch))?;
    Ok(Answer::json(&messages))
}
