//! What can be done to a queue and to what waits in it, beyond RabbitMQ's API: look without disturbing anybody, hold it, move its
//! messages, see who has what.

use std::sync::mpsc;
use std::time::Duration;

use leveret_broker::ops::browse::{COUNT_MAX, OFFSET_MAX, Unsettled};
use leveret_broker::ops::transfer::{MOVED_MAX, MoveTo};
use leveret_broker::queue::Browsed;
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::message_json::{self, Encoding};
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::PUT,
        path: "/api/queues/{vhost}/{queue}/pause",
        access: Access::VHost,
        about: "Lets a queue hand out nothing until it is resumed; it takes messages as before",
        handler: pause,
    },
    Route {
        method: Method::PUT,
        path: "/api/queues/{vhost}/{queue}/resume",
        access: Access::VHost,
        about: "Ends a pause",
        handler: resume,
    },
    Route {
        method: Method::GET,
        path: "/api/queues/{vhost}/{queue}/messages",
        access: Access::VHost,
        about: "Messages that wait, undisturbed: `offset`, `count`, `payload_bytes`, `encoding` (auto or base64)",
        handler: messages,
    },
    Route {
        method: Method::POST,
        path: "/api/queues/{vhost}/{queue}/move",
        access: Access::VHost,
        about: "Moves the first messages: `to_queue`, `to_exchange` (with `routing_key`) or `retry`, and `count`",
        handler: shift,
    },
    Route {
        method: Method::GET,
        path: "/api/queues/{vhost}/{queue}/unacked",
        access: Access::VHost,
        about: "Messages that were handed out and are not settled: who has them, and since when",
        handler: unacked,
    },
];

/// Messages shown where nobody says how many.
const COUNT: usize = 50;
/// Octets of each payload shown where nobody says how many.
const PAYLOAD_BYTES: usize = 50_000;
/// Payloads of one answer together.
const PAYLOADS_BYTES: usize = 16 << 20;
/// A log that does not get to the disk in this time will not.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

fn pause(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    set_paused(context, request, true)
}

fn resume(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    set_paused(context, request, false)
}

fn set_paused(context: &Context, request: &Request, is_paused: bool) -> Result<Answer, ApiError> {
    context.act(&request.caller()?, request.param("vhost"), |channel, _, batch| {
        Ok(channel.set_paused(request.param("queue"), is_paused, batch)?)
    })?;
    Ok(Answer::no_content())
}

fn messages(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let offset = number(request, "offset", 0, OFFSET_MAX)?;
    let count = number(request, "count", COUNT, COUNT_MAX)?;
    let payload_bytes = number(request, "payload_bytes", PAYLOAD_BYTES, PAYLOADS_BYTES)?;
    let encoding = match request.query("encoding") {
        None | Some("auto") => Encoding::Auto,
        Some("base64") => Encoding::Base64,
        Some(_) => return Err(ApiError::bad_request("encoding must be auto or base64")),
    };
    let browsed = context.act(&request.caller()?, request.param("vhost"), |channel, _, batch| {
        Ok(channel.browse(request.param("queue"), offset, count, batch)?)
    })?;
    let mut left = PAYLOADS_BYTES;
    let shown: Vec<Value> = browsed
        .iter()
        .map(|one| {
            let max_bytes = payload_bytes.min(left);
            left -= max_bytes.min(one.message.view().body.len());
            described(one, encoding, max_bytes)
        })
        .collect();
    Ok(Answer::json(&shown))
}

fn number(request: &Request, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
    let Some(text) = request.query(name) else { return Ok(default) };
    match text.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(ApiError::bad_request(format!("{name} must be a number from 0 to {max}"))),
    }
}

fn described(browsed: &Browsed, encoding: Encoding, max_bytes: usize) -> Value {
    let message = browsed.message.view();
    let (payload, encoding) = message_json::payload(message.body, encoding, max_bytes);
    json!({
        "offset": browsed.offset,
        "redelivered": browsed.redelivered,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": message_json::properties(message.properties),
        "payload_bytes": message.body.len(),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

fn shift(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    let to = destination(&fields)?;
    let count = match fields.integer("count")? {
        None => MOVED_MAX,
        Some(count) => {
            u64::try_from(count).map_err(|_| ApiError::bad_request("count must not be negative"))?
        }
    };
    let moved = context.act(&request.caller()?, request.param("vhost"), |channel, _, batch| {
        Ok(channel.move_messages(request.param("queue"), to, count, batch)?)
    })?;
    await_disk(context, moved.position)?;
    Ok(Answer::json(&json!({
        "moved": moved.moved,
        "stayed": moved.stayed,
        "reason": moved.why.map(|why| why.to_string()),
    })))
}

fn destination(fields: &Fields) -> Result<MoveTo<'_>, ApiError> {
    let (queue, exchange) = (fields.text_if("to_queue")?, fields.text_if("to_exchange")?);
    let routing_key = fields.text_if("routing_key")?;
    if routing_key.is_some_and(|key| key.len() > 255) {
        return Err(ApiError::bad_request("routing_key has at most 255 octets"));
    }
    match (queue, exchange, fields.flag("retry")?, routing_key) {
        (Some(queue), None, false, None) => Ok(MoveTo::Queue(queue)),
        (None, Some(name), false, routing_key) => Ok(MoveTo::Exchange { name, routing_key }),
        (None, None, true, None) => Ok(MoveTo::WhereTheyDied),
        _ => Err(ApiError::bad_request(
            "one of to_queue, to_exchange and retry must be given; routing_key only with to_exchange",
        )),
    }
}

/// What was moved is where it is for good when the answer says so (P2).
fn await_disk(context: &Context, position: u64) -> Result<(), ApiError> {
    if position == 0 {
        return Ok(());
    }
    let (reached, wait) = mpsc::channel();
    context.broker().when_durable(position, move || {
        // Whoever waited may be gone.
        let _ = reached.send(());
    });
    context.host.hurry();
    wait.recv_timeout(DISK_TIMEOUT).map_err(|_| {
        ApiError::unavailable("the messages were moved, but that is not durable: the disk does not answer")
    })
}

fn unacked(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let unsettled = context.act(&request.caller()?, request.param("vhost"), |channel, _, batch| {
        Ok(channel.unsettled(request.param("queue"), batch)?)
    })?;
    let shown: Vec<Value> = unsettled.iter().map(|one| held(context, one)).collect();
    Ok(Answer::json(&shown))
}

fn held(context: &Context, unsettled: &Unsettled) -> Value {
    let Unsettled { handed_out, holder } = unsettled;
    let connection = holder.as_ref().and_then(|holder| context.broker().connection(holder.connection));
    json!({
        "since": handed_out.since_ms,
        "redelivered": handed_out.redelivered,
        "message_bytes": handed_out.size_bytes,
        "consumer_tag": holder.as_ref().map(|holder| &*holder.consumer_tag),
        "channel": holder.as_ref().map(|holder| holder.channel),
        "connection": connection.map(|connection| connection.name.clone()),
    })
}
