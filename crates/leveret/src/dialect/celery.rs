//! Celery, task protocol 2, with the `rpc://` result backend.
//!
//! ```text
//!  request   headers task = weather.forecast, id = c57b…      [["Ohio"], {"days": 3}, {"callbacks": null, …}]
//!  answer    {"task_id": "c57b…", "status": "SUCCESS", "result": …, "traceback": null, "children": []}
//!  failure   {…, "status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": [text],
//!             "exc_module": "builtins"}, "traceback": text, …}
//! ```
//!
//! Pickled arguments are refused, since reading them can run code: the payload keeps its content type, which nothing
//! decodes. `eta` and the canvas (chains, groups, chords) belong to Celery's own workers and are not acted on.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::delivery::{Delivery, part};
use super::{Dialect, Envelope, OutgoingCall, OutgoingRequest, Wrapper};
use super::{arguments, foreign_failure, headers, json_body, json_string, spliced, text, unwrapped};
use crate::content::{ContentError, json_text};
use crate::{Code, Failure, Payload};

#[derive(Deserialize)]
struct Answer<'a> {
    status: &'a str,
    #[serde(borrow)]
    result: &'a RawValue,
}

pub(super) fn read(delivery: &Delivery<'_>) -> Option<Envelope> {
    let task = delivery.header_text("task")?;
    let task_id = delivery.header_text("id")?.to_owned();
    let ignored = delivery.header("ignore_result").and_then(|value| value.as_bool()) == Some(true);
    let method = task.rsplit('.').next().unwrap_or(task).to_owned();
    let envelope = delivery.envelope(Dialect::Celery, Wrapper::Celery { task_id: task_id.clone() });
    Some(Envelope {
        method: Some(method),
        payload: called_with(delivery).unwrap_or_else(|| delivery.payload()),
        reply: envelope.reply.filter(|_| !ignored),
        correlation_id: envelope.correlation_id.or(super::short(&task_id)),
        // The rpc backend's results are transient, whatever the task was.
        persistent: false,
        ..envelope
    })
}

fn called_with(delivery: &Delivery<'_>) -> Option<Payload> {
    let text = delivery.json()?;
    let (args, kwargs, _embed): (&RawValue, &RawValue, &RawValue) = serde_json::from_slice(&text).ok()?;
    arguments::to_payload(&text, args, kwargs)
}

pub(super) fn success(task_id: &str, payload: &Payload) -> Result<Payload, ContentError> {
    Ok(state(task_id, "SUCCESS", &json_text(payload)?, "null"))
}

pub(super) fn failure(task_id: &str, failure: &Failure) -> Payload {
    let (exc_type, exc_module) = exception(failure.code);
    let result = json!({ "exc_type": exc_type, "exc_message": [failure.message], "exc_module": exc_module });
    let status = if failure.code == Code::Cancelled { "REVOKED" } else { "FAILURE" };
    let traceback = Value::from(failure.to_string()).to_string();
    state(task_id, status, result.to_string().as_bytes(), &traceback)
}

fn state(task_id: &str, status: &str, result: &[u8], traceback: &str) -> Payload {
    json_body(spliced(&[
        b"{\"task_id\":",
        &json_string(task_id),
        b",\"status\":",
        &json_string(status),
        b",\"result\":",
        result,
        b",\"traceback\":",
        traceback.as_bytes(),
        b",\"children\":[]}",
    ]))
}

/// The exception that Celery's client raises. It makes one up, by this name, if the module has none.
fn exception(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::Unimplemented => ("NotRegistered", "celery.exceptions"),
        Code::Cancelled => ("TaskRevokedError", "celery.exceptions"),
        Code::InvalidArgument => ("ValueError", "builtins"),
        Code::NotFound => ("LookupError", "builtins"),
        Code::PermissionDenied => ("PermissionError", "builtins"),
        Code::DeadlineExceeded => ("TimeoutError", "builtins"),
        Code::AlreadyExists => ("FileExistsError", "builtins"),
        _ => ("RuntimeError", "builtins"),
    }
}

/// Whether this is a state on the way to the result.
pub(super) fn is_notice(payload: &Payload) -> bool {
    const STATES: [&str; 5] = ["PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS"];
    let Ok(text) = json_text(payload) else { return false };
    unwrapped::<Answer<'_>>(&text).is_some_and(|answer| STATES.contains(&answer.status))
}

pub(super) fn answer(payload: Payload) -> Result<Payload, Failure> {
    let Ok(text) = json_text(&payload) else { return Ok(payload) };
    match unwrapped::<Answer<'_>>(&text) {
        Some(answer) if answer.status == "SUCCESS" => Ok(part(&text, answer.result)),
        Some(answer) => {
            Err(reported(answer.status, serde_json::from_str(answer.result.get()).unwrap_or_default()))
        }
        None => Ok(payload),
    }
}

fn reported(status: &str, exception: Value) -> Failure {
    let name = exception["exc_type"].as_str().unwrap_or(status);
    let code = match (status, name) {
        ("REVOKED", _) => Code::Cancelled,
        (_, "NotRegistered") => Code::Unimplemented,
        _ => Code::Unknown,
    };
    let said = match &exception["exc_message"] {
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => plain(other),
    };
    foreign_failure(code, format!("{name}: {said}"), exception)
}

/// Text without quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn request(call: &OutgoingCall<'_>) -> Result<OutgoingRequest, ContentError> {
    const EMBED: &[u8] = br#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#;
    let (args, kwargs) = arguments::from_json_text(&json_text(call.payload)?);
    let mut request = call.to_queue(json_body(spliced(&[b"[", &args, b",", &kwargs, b",", EMBED, b"]"])));
    request.properties.headers = headers([
        ("lang", text("rust")),
        ("task", text(&call.dotted())),
        ("id", text(call.correlation_id)),
        ("root_id", text(call.correlation_id)),
        ("ignore_result", call.reply_queue.is_none().into()),
    ]);
    Ok(request)
}
