//! nameko.
//!
//! ```text
//!  request   exchange nameko-rpc, key weather.forecast      {"args": ["Ohio"], "kwargs": {"days": 3}}
//!  answer    exchange nameko-rpc, key = reply_to            {"result": …, "error": null}
//!  failure                                                  {"result": null, "error": {"exc_type": "ValueError",
//!                                                            "exc_path": "builtins.ValueError", "exc_args": […],
//!                                                            "value": …}}
//! ```
//!
//! Answers go through nameko's exchange, not the default one, and in the format of the request.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::delivery::{Delivery, part};
use super::{Dialect, Envelope, OutgoingCall, OutgoingRequest, ReplyAddress, Wrapper};
use super::{arguments, foreign_failure, json_body, spliced, unwrapped};
use crate::content::{self, ContentError, Format, json_text};
use crate::{Code, Failure, Payload};

const EXCHANGE: &str = "nameko-rpc";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    args: &'a RawValue,
    #[serde(borrow)]
    kwargs: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
    error: Option<Value>,
}

pub(super) fn read(delivery: &Delivery<'_>) -> Option<Envelope> {
    let text = delivery.json()?;
    let request: Request<'_> = unwrapped(&text)?;
    let payload = arguments::to_payload(&text, request.args, request.kwargs)?;
    let content_type = delivery.payload().content_type;
    let envelope = delivery.envelope(Dialect::Nameko, Wrapper::Nameko { content_type });
    let routing_key = delivery.reply_queue().map(str::to_owned);
    Some(Envelope {
        method: delivery.routing_key.rsplit_once('.').map(|(_, method)| method.to_owned()),
        payload,
        reply: routing_key
            .map(|routing_key| ReplyAddress { exchange: delivery.exchange.into(), routing_key }),
        ..envelope
    })
}

pub(super) fn success(content_type: Option<&str>, payload: &Payload) -> Result<Payload, ContentError> {
    let result = json_text(payload)?;
    let body = spliced(&[b"{\"result\":", &result, b",\"error\":null}"]);
    in_format_of_request(content_type, json_body(body))
}

pub(super) fn failure(content_type: Option<&str>, failure: &Failure) -> Payload {
    let (exc_type, exc_path) = exception(failure.code);
    let error = json!({
        "exc_type": exc_type,
        "exc_path": exc_path,
        "exc_args": [failure.message],
        "value": failure.message,
    });
    let body = json_body(json!({ "result": null, "error": error }).to_string());
    in_format_of_request(content_type, body.clone()).unwrap_or(body)
}

/// nameko's own exceptions, which its client raises as such; everything else arrives as `RemoteError`.
fn exception(code: Code) -> (&'static str, String) {
    match code {
        Code::Unimplemented => ("MethodNotFound", "nameko.exceptions.MethodNotFound".into()),
        Code::InvalidArgument => ("IncorrectSignature", "nameko.exceptions.IncorrectSignature".into()),
        other => (other.name(), format!("leveret.{other}")),
    }
}

fn in_format_of_request(content_type: Option<&str>, json: Payload) -> Result<Payload, ContentError> {
    if content_type.and_then(Format::of) != Some(Format::MessagePack) {
        return Ok(json);
    }
    let packed = content::encode(Format::MessagePack, &content::decode::<Value>(&json)?)?;
    Ok(Payload {
        content_type: content_type.map(str::to_owned),
        content_encoding: Some("binary".into()),
        ..packed
    })
}

pub(super) fn answer(payload: Payload) -> Result<Payload, Failure> {
    let Ok(text) = json_text(&payload) else { return Ok(payload) };
    match unwrapped(&text) {
        Some(Answer { error: Some(error), .. }) => Err(reported(error)),
        Some(Answer { result, .. }) => Ok(part(&text, result)),
        None => Ok(payload),
    }
}

fn reported(error: Value) -> Failure {
    let name = error["exc_type"].as_str().unwrap_or_default();
    let code = match name {
        "MethodNotFound" => Code::Unimplemented,
        "IncorrectSignature" | "MalformedRequest" => Code::InvalidArgument,
        other => Code::from_name(other),
    };
    let message =
        error["value"].as_str().map_or_else(|| error.to_string(), |value| format!("{name}: {value}"));
    foreign_failure(code, message, error)
}

pub(super) fn request(call: &OutgoingCall<'_>) -> Result<OutgoingRequest, ContentError> {
    let (args, kwargs) = arguments::from_json_text(&json_text(call.payload)?);
    let body = spliced(&[b"{\"args\":", &args, b",\"kwargs\":", &kwargs, b"}"]);
    let through = |key: &str| ReplyAddress { exchange: EXCHANGE.into(), routing_key: key.into() };
    Ok(OutgoingRequest {
        exchange: EXCHANGE.into(),
        routing_key: call.dotted(),
        reply_binding: call.reply_queue.map(through),
        ..call.to_queue(json_body(body))
    })
}
