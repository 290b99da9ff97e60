//! From an HTTP request to a question: where it goes, what it carries, how long it may take.
//!
//! ```text
//!   POST /call/weather.ohio/forecast?fail_fast=true
//!             └─ service ──┘└ method ┘
//!   Content-Type, Content-Encoding ─▶ the same of the message      X-Rpc-Timeout … ─▶ deadline
//!   Idempotency-Key ────────────────▶ message id                   Accept ──────────▶ rpc-accept, or a stream
//!   traceparent, tracestate ────────▶ the same headers             X-Rpc-Header-Tenant: a ─▶ header `tenant`
//! ```

use std::time::Duration;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use leveret::trace::TraceContext;
use leveret::{FieldTable, FieldValue, Payload};

use super::deadline::Patience;
use super::problem::Problem;

/// Names, keys and ids are short strings in AMQP.
const SHORT_MAX_BYTES: usize = 255;
const HEADER_PREFIX: &str = "x-rpc-header-";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const EVENT_STREAM: &str = "text/event-stream";
/// Headers of the profile. Whoever could set them could pretend a deadline or another caller.
const RESERVED_PREFIX: &str = "rpc-";

/// Everything the headers of an HTTP request say about a question.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub(super) timeout: Duration,
    pub(super) message_id: Option<String>,
    pub(super) headers: Vec<(String, FieldValue)>,
    /// The client wants each answer as it comes.
    pub(super) wants_events: bool,
    content_type: Option<String>,
    content_encoding: Option<String>,
}

impl Circumstances {
    /// Reads the headers.
    pub(super) fn read(headers: &HeaderMap, patience: Patience) -> Result<Circumstances, Problem> {
        let (accepted, wants_events) = accepted(headers);
        let mut passed_on = handler_headers(headers)?;
        passed_on.extend(trace(headers).0);
        passed_on.extend(accepted.map(|types| ("rpc-accept".to_owned(), long(types.as_bytes()))));
        Ok(Circumstances {
            timeout: patience.of(headers)?,
            message_id: idempotency_key(headers)?,
            headers: passed_on,
            wants_events,
            content_type: short(headers, CONTENT_TYPE)?,
            content_encoding: short(headers, CONTENT_ENCODING)?,
        })
    }

    /// The body with what the headers say about it.
    pub(super) fn payload(&self, body: axum::body::Bytes) -> Payload {
        let (content_type, content_encoding) = (self.content_type.clone(), self.content_encoding.clone());
        Payload { content_type, content_encoding, body }
    }
}

/// The decoded parts of the path that stand for names, in order.
pub(super) async fn names(parts: &mut Parts) -> Result<Vec<String>, Problem> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|error: RawPathParamsRejection| Problem::invalid(error.body_text()))?;
    let named = |(what, name): (&str, &str)| match name {
        "" => Err(Problem::no_such_path(parts.uri.path())),
        name => is_short(what, name).map(|()| name.to_owned()),
    };
    params.iter().map(named).collect()
}

/// Whether a name fits where AMQP has 255 octets for it.
pub(super) fn is_short(what: &str, text: &str) -> Result<(), Problem> {
    match text.len() {
        0..=SHORT_MAX_BYTES => Ok(()),
        size => Err(Problem::invalid(format!("{what} has {size} octets; AMQP takes {SHORT_MAX_BYTES}"))),
    }
}

fn short(headers: &HeaderMap, name: HeaderName) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::invalid(format!("the header {name} is no text")))?;
    is_short(name.as_str(), text)?;
    Ok(Some(text.to_owned()))
}

/// With or without the quotes that the draft of the standard wants around it.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let key = short(headers, HeaderName::from_static(IDEMPOTENCY_KEY))?;
    let key = key.map(|key| match key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
        Some(inner) => inner.to_owned(),
        None => key,
    });
    match key.as_deref() {
        Some("") => Err(Problem::invalid("the header Idempotency-Key is empty")),
        _ => Ok(key),
    }
}

fn handler_headers(headers: &HeaderMap) -> Result<Vec<(String, FieldValue)>, Problem> {
    let mut passed_on = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        is_short("the name of a header", name)?;
        if name.is_empty() || name.starts_with(RESERVED_PREFIX) {
            let name: String = name.chars().take(40).collect();
            return Err(Problem::invalid(format!(
                "X-Rpc-Header-{name}: the profile has that name for itself"
            )));
        }
        passed_on.push((name.to_owned(), long(value.as_bytes())));
    }
    Ok(passed_on)
}

/// The trace goes on unchanged: the gateway records no span that could stand between. What does not parse is none.
fn trace(headers: &HeaderMap) -> FieldTable {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let context = text("traceparent").and_then(|parent| TraceContext::parse(parent, text("tracestate")));
    let mut table = FieldTable::new();
    if let Some(context) = context {
        context.write_to(&mut table);
    }
    table
}

/// The types for the worker, and whether events are among them. `*/*` says nothing.
fn accepted(headers: &HeaderMap) -> (Option<String>, bool) {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let types: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let named = |kind: &str| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let wants_events = types.iter().any(|kind| named(kind) == EVENT_STREAM);
    let rest: Vec<&str> =
        types.into_iter().filter(|kind| !["", "*/*", EVENT_STREAM].contains(&named(kind).as_str())).collect();
    ((!rest.is_empty()).then(|| rest.join(", ")), wants_events)
}

fn long(octets: &[u8]) -> FieldValue {
    FieldValue::LongString(octets.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { default: Duration::from_secs(30), max: Duration::from_secs(300) };
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(lines: &[(&str, &str)]) -> Result<Circumstances, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Circumstances::read(&headers, PATIENCE)
    }

    fn passed_on(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        let headers = read(lines).unwrap().headers.into_iter();
        headers.map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn headers_for_the_handler() {
        let check = |lines: &[_], expected: &[_]| assert_eq!(passed_on(lines), pairs(expected), "{lines:?}");
        check(&[("X-Rpc-Header-Tenant", "grün"), ("X-Other", "x")], &[("tenant", "grün")]);
        check(
            &[("traceparent", PARENT), ("tracestate", "v=1")],
            &[("traceparent", PARENT), ("tracestate", "v=1")],
        );
        check(&[("traceparent", "nonsense"), ("tracestate", "v=1")], &[]);
        check(&[("accept", "*/*")], &[]);
        check(
            &[("accept", "application/cbor;q=1, */*"), ("accept", "application/json")],
            &[("rpc-accept", "application/cbor;q=1, application/json")],
        );
    }

    #[test]
    fn a_stream_is_asked_for_by_its_type() {
        let check = |accept, expected| {
            assert_eq!(read(&[("accept", accept)]).unwrap().wants_events, expected, "{accept}");
        };
        check("text/event-stream", true);
        check("application/json, Text/Event-Stream;q=0.9", true);
        check("text/*", false);
        assert_eq!(passed_on(&[("accept", "text/event-stream")]), []);
    }

    #[test]
    fn ids_are_short_texts() {
        let check = |key: &str, expected: Option<&str>| {
            let id = read(&[("idempotency-key", key)]).ok().and_then(|read| read.message_id);
            assert_eq!(id.as_deref(), expected, "{key}");
        };
        check("abc", Some("abc"));
        check("\"a b\"", Some("a b"));
        check("\"", Some("\""));
        check("", None);
        check("\"\"", None);
        check("é", None);
        check(&"x".repeat(255), Some(&"x".repeat(255)));
        check(&"x".repeat(256), None);
        assert_eq!(read(&[]).unwrap().message_id, None);
    }

    #[test]
    fn what_cannot_go_into_a_message_is_named() {
        let check = |name: &str, value: &str, words: &str| {
            let problem = read(&[(name, value)]).unwrap_err().to_json().to_string();
            assert!(problem.contains(words), "{name}: {problem}");
        };
        check("idempotency-key", &"x".repeat(300), "idempotency-key has 300 octets; AMQP takes 255");
        check("content-type", &"x".repeat(256), "content-type has 256 octets");
        check("x-rpc-header-rpc-deadline", "1", "X-Rpc-Header-rpc-deadline: the profile");
        check("x-rpc-header-", "1", "the profile");
        check(&format!("x-rpc-header-{}", "n".repeat(256)), "1", "the name of a header has 256");
        check("x-rpc-timeout", "never", "X-Rpc-Timeout `never`");
    }
}
