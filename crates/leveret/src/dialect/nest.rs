//! NestJS microservices (`Transport.RMQ`).
//!
//! ```text
//!  request   {"pattern": "forecast" | {"cmd": "forecast"}, "data": …, "id": "4e25…"}
//!            without an id it is an event: nobody waits
//!  answer    {"response": …, "isDisposed": true}
//!  failure   {"err": {"status": "error", "message": …, "code": …}, "isDisposed": true}
//! ```
//!
//! Nest's client takes an answer with any other key for somebody else's and hands it on whole.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::delivery::{Delivery, fits, part};
use super::{Dialect, Envelope, OutgoingCall, OutgoingRequest, Wrapper};
use super::{foreign_failure, json_string, problem, spliced, unwrapped};
use crate::content::{ContentError, json_text};
use crate::{Code, Failure, Payload};

/// How Nest's server says that it has no handler.
const NO_HANDLER: &str = "There is no matching message handler";

#[derive(Deserialize)]
struct Packet<'a> {
    #[serde(borrow)]
    pattern: &'a RawValue,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    err: Option<Value>,
    #[serde(default, rename = "isDisposed")]
    is_disposed: Option<bool>,
    #[serde(default, rename = "id")]
    _id: Option<Value>,
    #[serde(default, rename = "status")]
    _status: Option<Value>,
}

pub(super) fn read(delivery: &Delivery<'_>) -> Option<Envelope> {
    let text = delivery.json()?;
    let packet: Packet<'_> = unwrapped(&text)?;
    if packet.data.is_none() && packet.id.is_none() {
        return None;
    }
    let method = method(packet.pattern, delivery.routing_key)?;
    let envelope = delivery.envelope(Dialect::Nest, Wrapper::None);
    let id = packet.id.as_ref().and_then(Value::as_str).filter(|id| fits(id.as_bytes()));
    Some(Envelope {
        method: Some(method),
        payload: packet
            .data
            .map_or_else(|| Payload::new("application/json", "null"), |data| part(&text, data)),
        reply: envelope.reply.filter(|_| packet.id.is_some()),
        correlation_id: envelope.correlation_id.or_else(|| id.map(|id| id.as_bytes().to_vec())),
        ..envelope
    })
}

/// `"forecast"`, `"weather.forecast"` on the queue weather, `{"cmd": "forecast"}`; any other pattern is its JSON.
fn method(pattern: &RawValue, service: &str) -> Option<String> {
    let name = match serde_json::from_str(pattern.get()).ok()? {
        Value::String(name) => name,
        Value::Object(entries) => match entries.values().next() {
            Some(Value::String(name)) if entries.len() == 1 => name.clone(),
            _ => Value::Object(entries).to_string(),
        },
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let own = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('.'));
    Some(own.map_or(name.clone(), str::to_owned))
}

pub(super) fn success(payload: &Payload) -> Result<Payload, ContentError> {
    let response = json_text(payload)?;
    Ok(Payload::new("application/json", spliced(&[b"{\"response\":", &response, b",\"isDisposed\":true}"])))
}

pub(super) fn failure(failure: &Failure, trace_id: Option<&str>) -> Payload {
    let mut err = problem::to_json(failure, trace_id);
    err["status"] = json!("error");
    Payload::new("application/json", json!({ "err": err, "isDisposed": true }).to_string())
}

pub(super) fn answer(payload: Payload) -> Result<Payload, Failure> {
    let Ok(text) = json_text(&payload) else { return Ok(payload) };
    let Some(answer) = unwrapped::<Answer<'_>>(&text) else { return Ok(payload) };
    match (answer.err, answer.response) {
        (Some(err), _) if !err.is_null() => Err(reported(err)),
        (_, Some(response)) => Ok(part(&text, response)),
        (_, None) if answer.is_disposed == Some(true) => Ok(Payload::new("application/json", "null")),
        _ => Ok(payload),
    }
}

/// `err` is whatever the handler threw: text, or an object with a message.
fn reported(err: Value) -> Failure {
    let message = err.as_str().or_else(|| err["message"].as_str()).unwrap_or_default().to_owned();
    let named = err["code"].as_str().map(Code::from_name);
    let code = if message.starts_with(NO_HANDLER) { Some(Code::Unimplemented) } else { named };
    let message = if message.is_empty() { err.to_string() } else { message };
    foreign_failure(code.unwrap_or(Code::Unknown), message, err)
}

pub(super) fn request(call: &OutgoingCall<'_>) -> Result<OutgoingRequest, ContentError> {
    let data = json_text(call.payload)?;
    let pattern = json_string(call.method.unwrap_or(call.service));
    let id = json_string(call.correlation_id);
    let body = match call.reply_queue {
        Some(_) => spliced(&[b"{\"pattern\":", &pattern, b",\"data\":", &data, b",\"id\":", &id, b"}"]),
        None => spliced(&[b"{\"pattern\":", &pattern, b",\"data\":", &data, b"}"]),
    };
    Ok(call.to_queue(Payload::new("application/json", body)))
}
