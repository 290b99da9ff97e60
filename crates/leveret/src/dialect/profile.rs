//! The wire profile, levels 0 and 1.
//!
//! ```text
//!  level 0   reply_to, correlation_id, a body
//!  level 1   + type (method), content_type, content_encoding; failures: rpc-status, rpc-error,
//!            application/problem+json
//! ```

use serde_json::{Value, json};

use super::delivery::Delivery;
use super::{Dialect, ERROR, Envelope, ErrorStyle, OutgoingCall, OutgoingRequest, Wrapper};
use super::{cut, problem, short};
use crate::content::decode;
use crate::profile::{IN_PROGRESS, OK, STATUS};
use crate::{Code, Failure, Payload};

/// How much of a body becomes the message of a failure that has none.
const EXCERPT_MAX_BYTES: usize = 200;

pub(super) fn read(delivery: &Delivery<'_>) -> Envelope {
    let envelope = delivery.envelope(Dialect::Profile, Wrapper::None);
    Envelope { method: delivery.kind().map(str::to_owned), ..envelope }
}

pub(super) fn failure(failure: &Failure, trace_id: Option<&str>, style: ErrorStyle) -> Payload {
    let problem = problem::to_json(failure, trace_id);
    match style {
        ErrorStyle::Headers => Payload::new("application/problem+json", problem.to_string()),
        ErrorStyle::Body => Payload::new("application/json", json!({ "error": problem }).to_string()),
    }
}

/// The failure that headers report: the presence of `rpc-status` decides, the body only adds to it.
pub(super) fn reported(delivery: &Delivery<'_>, payload: &Payload) -> Option<Failure> {
    delivery.header(STATUS)?;
    let status = delivery.header_text(STATUS).unwrap_or_default();
    if status == OK || status == IN_PROGRESS {
        return None;
    }
    let code = Code::from_name(status);
    let body = decode::<Value>(payload).ok();
    let problem = body.as_ref().map(|body| body.get("error").unwrap_or(body)).and_then(Value::as_object);
    let mut failure = match problem {
        Some(problem) => problem::from_json(Some(code), problem),
        None => Failure::new(code, ""),
    };
    if failure.message.is_empty() {
        failure.message = delivery.header_text(ERROR).map_or_else(|| excerpt(payload), str::to_owned);
    }
    Some(failure)
}

/// A worker that only sets the header may have explained itself in the body.
fn excerpt(payload: &Payload) -> String {
    cut(&String::from_utf8_lossy(&payload.body), EXCERPT_MAX_BYTES).to_owned()
}

pub(super) fn request(call: &OutgoingCall<'_>) -> OutgoingRequest {
    let mut request = call.to_queue(call.payload.clone());
    request.properties.kind = call.method.and_then(short);
    request
}
