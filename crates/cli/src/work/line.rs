//! The lines between us and a long-lived program.
//!
//! ```text
//!   → {"id":7,"method":"forecast","body":{"place":"Ohio"},"content_type":"application/json","deadline_ms":…,"headers":{}}
//!   ← {"id":7,"result":"rain"}
//!   ← {"id":7,"error":{"code":"NOT_FOUND","message":"no such place"}}
//! ```
//!
//! A body that is JSON stands there as it came, digit for digit; any other as base64, and `"body_encoding":"base64"`
//! says so.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret::{Code, Failure};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::job::{Job, unix_ms};

/// How much of a line that makes no sense is shown.
const EXCERPT_CHARS_MAX: usize = 80;

/// A request as one line, with its end.
///
/// # Errors
/// [`Code::InvalidArgument`] for what claims to be JSON and is not.
pub(crate) fn request_line(id: u64, job: &Job) -> Result<Vec<u8>, Failure> {
    let (body, body_encoding) = body(job)?;
    let line = RequestLine {
        id,
        method: job.method.as_deref(),
        body,
        body_encoding,
        content_type: job.content_type.as_deref(),
        deadline_ms: job.deadline.map(unix_ms),
        headers: job.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    };
    let mut line = serde_json::to_vec(&line).map_err(unwritable)?;
    line.push(b'\n');
    Ok(line)
}

/// What a program answered to the request `id`; the result is JSON.
///
/// # Errors
/// The line is not an answer to that request: what is wrong with it, in words.
pub(crate) fn answer(id: u64, line: &[u8]) -> Result<Result<Vec<u8>, Failure>, String> {
    let excerpt = || {
        let text = String::from_utf8_lossy(line);
        format!("{:?}", text.trim_end().chars().take(EXCERPT_CHARS_MAX).collect::<String>())
    };
    let answer: AnswerLine =
        serde_json::from_slice(line).map_err(|error| format!("{} is no answer: {error}", excerpt()))?;
    if answer.id != id {
        return Err(format!("{} answers request {}, not {id}", excerpt(), answer.id));
    }
    match (answer.result, answer.error) {
        (Some(result), None) => Ok(Ok(result.get().as_bytes().to_vec())),
        (None, Some(error)) => Ok(Err(error.into_failure())),
        _ => Err(format!("{} has no result and no error, or both", excerpt())),
    }
}

#[derive(Serialize)]
struct RequestLine<'a> {
    id: u64,
    method: Option<&'a str>,
    body: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    content_type: Option<&'a str>,
    deadline_ms: Option<u128>,
    headers: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct AnswerLine {
    id: u64,
    /// `null` is a result, too.
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: Option<String>,
    message: Option<String>,
    retryable: Option<bool>,
    retry_after_ms: Option<u64>,
    details: Option<Value>,
}

impl ErrorObject {
    fn into_failure(self) -> Failure {
        let code = self.code.as_deref().map_or(Code::Unknown, Code::from_name);
        let mut failure = Failure::new(code, self.message.unwrap_or_default());
        if let Some(after_ms) = self.retry_after_ms {
            failure = failure.retry_after(Duration::from_millis(after_ms));
        }
        if let Some(retryable) = self.retryable {
            failure = failure.retryable(retryable);
        }
        Failure { details: self.details, ..failure }
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn body(job: &Job) -> Result<(Box<RawValue>, Option<&'static str>), Failure> {
    let is_json = job.content_type.as_deref().map(is_json);
    match (is_json, one_line_of_json(&job.body)) {
        (Some(true), Err(error)) => {
            Err(Failure::invalid_argument(format!("the body is not the JSON that it claims to be: {error}")))
        }
        (Some(true) | None, Ok(json)) => Ok((json, None)),
        (Some(false), _) | (None, Err(_)) => {
            let encoded = serde_json::value::to_raw_value(&STANDARD.encode(&job.body)).map_err(unwritable)?;
            Ok((encoded, Some("base64")))
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(media_type.as_str(), "application/json" | "text/json") || media_type.ends_with("+json")
}

/// Line ends in JSON stand between its tokens only, where a space means the same. No body at all is `null`.
fn one_line_of_json(body: &[u8]) -> Result<Box<RawValue>, String> {
    if body.is_empty() {
        return Ok(RawValue::NULL.to_owned());
    }
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    RawValue::from_string(text.replace(['\n', '\r'], " ")).map_err(|error| error.to_string())
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::internal(format!("the request cannot be written as a line: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::job::testing::job;
    use super::*;

    fn line(job: &Job) -> String {
        request_line(7, job)
            .map_or_else(|failure| failure.to_string(), |line| String::from_utf8(line).unwrap())
    }

    fn check_body(content_type: Option<&str>, body: &[u8], expected: &str) {
        let content_type = content_type.map(str::to_owned);
        let job = Job { content_type, body: body.to_vec(), deadline: None, ..job("") };
        let line = line(&job);
        let begin = line.find("\"body\":").unwrap_or_else(|| panic!("{line}"));
        let end = line.find(",\"content_type\"").unwrap();
        assert_eq!(&line[begin..end], expected);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
    }

    #[test]
    fn json_stands_as_it_came_and_octets_as_base64() {
        let json = Some("application/json; charset=utf-8");
        check_body(
            json,
            b"{\"a\":\n 1.10000000000000000000001}\n",
            "\"body\":{\"a\":  1.10000000000000000000001}",
        );
        check_body(Some("application/problem+json"), b"\"a\\nb\"", "\"body\":\"a\\nb\"");
        check_body(None, b"30", "\"body\":30");
        check_body(None, b"", "\"body\":null");
        check_body(None, b"hello", "\"body\":\"aGVsbG8=\",\"body_encoding\":\"base64\"");
        check_body(Some("image/png"), b"30", "\"body\":\"MzA=\",\"body_encoding\":\"base64\"");
        let lie = Job { content_type: Some("text/json".to_owned()), ..job("{") };
        assert!(line(&lie).starts_with("INVALID_ARGUMENT: the body is not the JSON that it claims to be: "));
    }

    #[test]
    fn a_request_is_one_line() {
        let headers = vec![("b".to_owned(), "2\n".to_owned()), ("a".to_owned(), "1".to_owned())];
        let job = Job { method: Some("sum".to_owned()), headers, deadline: None, ..job("1") };
        let expected = concat!(
            r#"{"id":7,"method":"sum","body":1,"content_type":null,"deadline_ms":null,"headers":{"a":"1","b":"2\n"}}"#,
            "\n"
        );
        assert_eq!(line(&job), expected);
    }

    #[test]
    fn answers_are_understood() {
        let check = |line: &str, expected: &str| {
            let said = match answer(7, line.as_bytes()) {
                Ok(Ok(result)) => String::from_utf8(result).unwrap(),
                Ok(Err(failure)) => failure.to_string(),
                Err(garbage) => format!("garbage: {garbage}"),
            };
            assert!(said.starts_with(expected), "{line}: {said}");
        };
        check(r#"{"id":7,"result":{"a": 1.10}}"#, r#"{"a": 1.10}"#);
        check(r#"{"result":null,"id":7,"more":1}"#, "null");
        check(r#"{"id":7,"error":{"code":"NOT_FOUND","message":"no"}}"#, "NOT_FOUND: no");
        check(r#"{"id":7,"error":{"message":"no"}}"#, "UNKNOWN: no");
        check("ready\n", "garbage: \"ready\" is no answer: ");
        check(r#"{"id":6,"result":1}"#, r#"garbage: "{\"id\":6,\"result\":1}" answers request 6, not 7"#);
        check(r#"{"id":7}"#, "garbage: ");
        check(r#"{"id":7,"result":1,"error":{}}"#, "garbage: ");
        check(&"x".repeat(100), &format!("garbage: \"{}\" is", "x".repeat(80)));
    }

    #[test]
    fn an_error_may_say_when_to_come_back() {
        let line =
            br#"{"id":7,"error":{"code":"INTERNAL","message":"m","retry_after_ms":50,"details":{"a":1}}}"#;
        let failure = answer(7, line).unwrap().unwrap_err();
        assert_eq!((failure.retryable, failure.retry_after), (true, Some(Duration::from_millis(50))));
        assert_eq!(failure.details, Some(serde_json::json!({"a": 1})));
    }
}
