//! Answers and errors of services as JSON, for machines: `leveret call --json`, and what the gateway gathers.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leveret::{CallError, FieldValue, Reply};
use serde_json::{Value, json};

/// An answer. A body that is no JSON is a string, one that is no text is base64 and says so.
pub(crate) fn reply_as_json(reply: &Reply, after: Duration) -> Value {
    let octets = &reply.payload.body;
    let mut told = json!({
        "content_type": reply.payload.content_type,
        "from": reply.header("rpc-worker").and_then(FieldValue::as_str),
        "after_ms": milliseconds(after),
    });
    told["body"] = match (serde_json::from_slice::<Value>(octets), std::str::from_utf8(octets)) {
        (Ok(body), _) => body,
        (Err(_), Ok(text)) => json!(text),
        (Err(_), Err(_)) => {
            told["body_encoding"] = json!("base64");
            json!(BASE64_STANDARD.encode(octets))
        }
    };
    told
}

/// An error, with what a program may want to know about it.
pub(crate) fn error_as_json(error: &CallError, after: Duration) -> Value {
    let mut told = json!({
        "error": error.kind(),
        "code": error.code().name(),
        "message": error.to_string(),
        "retryable": error.is_retryable(),
        "after_ms": milliseconds(after),
    });
    if let Some(details) = error.remote().and_then(|failure| failure.details.as_ref()) {
        told["details"] = details.clone();
    }
    told
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use leveret::{Payload, Properties};

    use super::*;

    #[test]
    fn a_body_is_shown_as_what_it_is() {
        let check = |body: &'static [u8], expected: Value, encoding: Value| {
            let payload = Payload::bytes(body);
            let reply = Reply { payload, properties: Properties::default(), routing_key: String::new() };
            let told = reply_as_json(&reply, Duration::from_micros(1_500));
            assert_eq!((&told["body"], &told["body_encoding"]), (&expected, &encoding), "{told}");
            assert_eq!(told["after_ms"], 1.5);
        };
        check(b"{\"a\":1}", json!({ "a": 1 }), Value::Null);
        check(b"sunny", json!("sunny"), Value::Null);
        check(b"\xff\x00", json!("/wA="), json!("base64"));
    }
}
