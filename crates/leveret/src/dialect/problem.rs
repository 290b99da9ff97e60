//! A failure as JSON: the body of `application/problem+json`, and what other dialects embed.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{Code, Failure};

/// `{code, message, retryable, retry_after_ms?, details?, trace_id?}`
pub(super) fn to_json(failure: &Failure, trace_id: Option<&str>) -> Value {
    let mut problem = json!({
        "code": failure.code.name(),
        "message": failure.message,
        "retryable": failure.retryable,
    });
    if let Some(after) = failure.retry_after {
        problem["retry_after_ms"] = json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }
    if let Some(details) = &failure.details {
        problem["details"] = details.clone();
    }
    if let Some(trace_id) = trace_id {
        problem["trace_id"] = json!(trace_id);
    }
    problem
}

/// What a problem says. The code may be known better, from a header; a field of another type counts as absent.
pub(super) fn from_json(code: Option<Code>, problem: &Map<String, Value>) -> Failure {
    let field = |name: &str| problem.get(name);
    let code = code.or_else(|| field("code")?.as_str().map(Code::from_name)).unwrap_or(Code::Unknown);
    // `detail` and `title` are RFC 9457's names.
    let message = ["message", "detail", "title"].iter().find_map(|name| field(name)?.as_str());
    let failure = Failure::new(code, message.unwrap_or_default());
    Failure {
        retryable: field("retryable").and_then(Value::as_bool).unwrap_or(failure.retryable),
        retry_after: field("retry_after_ms").and_then(Value::as_u64).map(Duration::from_millis),
        details: field("details").filter(|details| !details.is_null()).cloned(),
        ..failure
    }
}
