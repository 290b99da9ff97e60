//! The recipe: a thin JSON wrapper with a unique id, answered on a topic exchange under that id.
//!
//! ```text
//!  request   {"q": …, "qid": "6ba7…"}     to a durable queue; without qid nobody waits
//!  answer    {"qid": "6ba7…", "a": …}     to the exchange of the request (amq.topic if it came through the
//!                                         default one), routing key = qid
//!  failure   {"qid": "6ba7…", "error": {code, message, …}}
//! ```

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::delivery::{Delivery, fits, part};
use super::{Dialect, Envelope, OutgoingCall, OutgoingRequest, ReplyAddress, Wrapper};
use super::{json_string, problem, spliced, unwrapped};
use crate::content::{ContentError, json_text};
use crate::{Failure, Payload};

/// Exists in every virtual host, so an answer to it cannot close the channel.
const EXCHANGE: &str = "amq.topic";

/// A question has these two fields and no others: a level-0 body that happens to have a `q` stays what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'a> {
    #[serde(borrow)]
    q: &'a RawValue,
    #[serde(borrow, default)]
    qid: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    a: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Value>,
}

pub(super) fn read(delivery: &Delivery<'_>) -> Option<Envelope> {
    let text = delivery.json()?;
    let question: Question<'_> = unwrapped(&text)?;
    let (qid, key) = match question.qid {
        None => (Bytes::from_static(b"null"), None),
        Some(qid) => (text.slice_ref(qid.get().as_bytes()), Some(key(qid)?)),
    };
    let envelope = delivery.envelope(Dialect::Seed, Wrapper::Seed { qid });
    let exchange = if delivery.exchange.is_empty() { EXCHANGE } else { delivery.exchange };
    let at =
        |routing_key: &String| ReplyAddress { exchange: exchange.into(), routing_key: routing_key.clone() };
    Some(Envelope {
        method: delivery.kind().map(str::to_owned),
        payload: part(&text, question.q),
        reply: key.as_ref().map(at),
        correlation_id: envelope.correlation_id.or(key.map(String::into_bytes)),
        ..envelope
    })
}

/// The routing key of a qid: text, or a number's digits.
fn key(qid: &RawValue) -> Option<String> {
    let key = match serde_json::from_str(qid.get()).ok()? {
        Value::String(text) => text,
        Value::Number(_) => qid.get().to_owned(),
        _ => return None,
    };
    (fits(key.as_bytes()) && !key.is_empty()).then_some(key)
}

pub(super) fn success(qid: &Bytes, payload: &Payload) -> Result<Payload, ContentError> {
    let answer = json_text(payload)?;
    Ok(Payload::new("application/json", spliced(&[b"{\"qid\":", qid, b",\"a\":", &answer, b"}"])))
}

pub(super) fn failure(qid: &Bytes, failure: &Failure, trace_id: Option<&str>) -> Payload {
    let problem = problem::to_json(failure, trace_id).to_string();
    Payload::new("application/json", spliced(&[b"{\"qid\":", qid, b",\"error\":", problem.as_bytes(), b"}"]))
}

pub(super) fn answer(payload: Payload) -> Result<Payload, Failure> {
    let Ok(text) = json_text(&payload) else { return Ok(payload) };
    match unwrapped(&text) {
        Some(Answer { error: Some(Value::Object(error)), .. }) => Err(problem::from_json(None, &error)),
        Some(Answer { a: Some(answer), .. }) => Ok(part(&text, answer)),
        _ => Ok(payload),
    }
}

pub(super) fn request(call: &OutgoingCall<'_>) -> Result<OutgoingRequest, ContentError> {
    let question = json_text(call.payload)?;
    let qid = json_string(call.correlation_id);
    let body = match call.reply_queue {
        Some(_) => spliced(&[b"{\"q\":", &question, b",\"qid\":", &qid, b"}"]),
        None => spliced(&[b"{\"q\":", &question, b"}"]),
    };
    let mut request = call.to_queue(Payload::new("application/json", body));
    request.properties.reply_to = None;
    request.reply_binding = call
        .reply_queue
        .map(|_| ReplyAddress { exchange: EXCHANGE.into(), routing_key: call.correlation_id.into() });
    Ok(request)
}
