//! What an HTTP client hears when it gets no answer: `application/problem+json` (RFC 9457) and the status that fits.
//!
//! Statuses follow gRPC's codes as grpc-gateway maps them, so that a client that knows one knows the other. Failures on
//! the way to a worker have types of their own: whether the request may have run is worth more than a status.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use leveret::{CallError, Code, Ran, TaskError};
use serde_json::{Value, json};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// The last part of the type, as [`CallError::kind`] has it: for programs.
    kind: &'static str,
    /// The same for people.
    title: &'static str,
    detail: String,
    code: Code,
    retryable: bool,
    /// `None`: nobody knows, or it says nothing, as with an error that the service itself reports.
    may_have_run: Option<bool>,
    retry_after: Option<Duration>,
    details: Option<Value>,
}

/// How long to wait if nobody said how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

impl Problem {
    /// 400: something about the request, which the text names.
    pub(super) fn invalid(detail: impl Into<String>) -> Problem {
        let title = "The request makes no sense";
        Problem::refused(StatusCode::BAD_REQUEST, "invalid", title, Code::InvalidArgument, detail)
    }

    /// 401, with the challenge that RFC 6750 wants.
    pub(super) fn unauthenticated() -> Problem {
        let detail = "this gateway wants `Authorization: Bearer TOKEN` with a token it knows";
        let title = "No valid token";
        Problem::refused(StatusCode::UNAUTHORIZED, "unauthenticated", title, Code::Unauthenticated, detail)
    }

    /// 403: never called through this gateway.
    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        let title = "Not through this gateway";
        Problem::refused(StatusCode::FORBIDDEN, "forbidden", title, Code::PermissionDenied, detail)
    }

    /// 404: not a path of the gateway.
    pub(super) fn no_such_path(path: &str) -> Problem {
        let detail = format!("there is no `{path}`; /openapi.json lists what there is");
        Problem::refused(StatusCode::NOT_FOUND, "no_such_path", "No such path", Code::NotFound, detail)
    }

    /// 405: a path of the gateway, but not by this method. The router adds `Allow`.
    pub(super) fn wrong_method(method: &str, path: &str) -> Problem {
        let detail = format!("`{path}` does not take {method}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Problem::refused(status, "wrong_method", "Wrong method", Code::Unimplemented, detail)
    }

    /// 408: the client began a body and did not go on.
    pub(super) fn slow_body() -> Problem {
        let detail = "the body did not come in time";
        let status = StatusCode::REQUEST_TIMEOUT;
        Problem::refused(status, "slow_body", "The body was too slow", Code::DeadlineExceeded, detail)
    }

    /// 413
    pub(super) fn body_too_large(max_bytes: usize) -> Problem {
        let detail = format!("the body is larger than {max_bytes} octets");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Problem::refused(status, "body_too_large", "The body is too large", Code::InvalidArgument, detail)
    }

    /// 503: the gateway itself is at its limit.
    pub(super) fn too_many_requests_at_once() -> Problem {
        let detail = "the gateway works on as many requests as it may";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let title = "The gateway is busy";
        Problem {
            retryable: true,
            ..Problem::refused(status, "gateway_busy", title, Code::ResourceExhausted, detail)
        }
    }

    /// 503: there is no connection to the broker at this moment.
    pub(super) fn broker_away() -> Problem {
        let detail = "there is no connection to the broker at the moment";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem {
            retryable: true,
            ..Problem::refused(status, "broker_away", "Not ready", Code::Unavailable, detail)
        }
    }

    /// The gateway's own no: nothing has run.
    fn refused(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        code: Code,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            status,
            kind,
            title,
            detail: detail.into(),
            code,
            retryable: false,
            may_have_run: Some(false),
            retry_after: None,
            details: None,
        }
    }

    /// The body.
    pub(super) fn to_json(&self) -> Value {
        let mut problem = json!({
            "type": format!("urn:leveret:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code.name(),
            "retryable": self.retryable,
        });
        if let Some(may_have_run) = self.may_have_run {
            problem["may_have_run"] = json!(may_have_run);
        }
        if let Some(after) = self.retry_after {
            problem["retry_after_ms"] = json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        }
        if let Some(details) = &self.details {
            problem["details"] = details.clone();
        }
        problem
    }

    /// Seconds, rounded up: a client that comes too early comes twice.
    fn retry_after_s(&self) -> Option<u64> {
        let asks_to_wait =
            matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let after = asks_to_wait.then(|| self.retry_after.unwrap_or(RETRY_AFTER_DEFAULT))?;
        Some(after.as_secs() + u64::from(after.subsec_nanos() > 0))
    }
}

/// grpc-gateway's table.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // nginx's "client closed request"; no standard has a number for it.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        let (status, title, may_have_run) = match &error {
            CallError::NoRoute { .. } => (StatusCode::NOT_FOUND, "No such service", Some(false)),
            CallError::NoWorker { .. } => (StatusCode::SERVICE_UNAVAILABLE, "No worker", Some(false)),
            CallError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "Every worker is busy", Some(false)),
            CallError::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Overloaded", Some(false)),
            CallError::Expired { ran, .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "No answer in time", Some(*ran == Ran::Maybe))
            }
            CallError::ConnectionLost { may_have_run, .. } => {
                (StatusCode::BAD_GATEWAY, "The connection to the broker was lost", Some(*may_have_run))
            }
            CallError::Rejected { .. } => (status_of(error.code()), "The request was given up", Some(true)),
            CallError::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "The gateway stops", None),
            CallError::Unsendable(_) => (StatusCode::BAD_REQUEST, "The request cannot be sent", Some(false)),
            _ => (status_of(error.code()), "The service reported an error", None),
        };
        let remote = error.remote();
        Problem {
            status,
            kind: error.kind(),
            title,
            detail: remote.map_or_else(|| error.to_string(), |failure| failure.message.clone()),
            code: error.code(),
            retryable: error.is_retryable(),
            may_have_run,
            retry_after: remote.and_then(|failure| failure.retry_after),
            details: remote.and_then(|failure| failure.details.clone()),
        }
    }
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Problem {
        let detail = error.to_string();
        let (status, kind, title, code) = match error {
            TaskError::NoRoute { .. } => {
                (StatusCode::NOT_FOUND, "no_route", "No such service", Code::Unavailable)
            }
            TaskError::Full { .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, "overloaded", "The queue is full", Code::ResourceExhausted)
            }
            TaskError::Unsendable(_) => {
                let title = "The task cannot be sent";
                (StatusCode::BAD_REQUEST, "unsendable", title, Code::InvalidArgument)
            }
            _ => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                (status, "unconfirmed", "The broker has not confirmed", Code::DeadlineExceeded)
            }
        };
        // A task is safe to give again with the same `Idempotency-Key`, and only with it.
        let (retryable, may_have_run) = match kind {
            "overloaded" => (true, false),
            "unconfirmed" => (true, true),
            _ => (false, false),
        };
        let may_have_run = Some(may_have_run);
        Problem { retryable, may_have_run, ..Problem::refused(status, kind, title, code, detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = HeaderValue::from_static("application/problem+json");
        let body = self.to_json().to_string();
        let mut response = (self.status, [(CONTENT_TYPE, content_type)], body).into_response();
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use leveret::Failure;

    use super::*;

    fn check(error: impl Into<Problem>, status: u16, kind: &str, may_have_run: Option<bool>) {
        let problem = error.into();
        let body = problem.to_json();
        assert_eq!(problem.status.as_u16(), status, "{body}");
        assert_eq!(body["type"], format!("urn:leveret:problem:{kind}"));
        assert_eq!(body.get("may_have_run").and_then(Value::as_bool), may_have_run, "{body}");
        assert_eq!(body["status"], status);
        let response = problem.into_response();
        assert_eq!(response.headers().contains_key(RETRY_AFTER), matches!(status, 429 | 503), "{body}");
    }

    #[test]
    fn every_error_has_its_status() {
        let service = || "s".to_owned();
        let reason = || "r".to_owned();
        check(CallError::NoRoute { service: service() }, 404, "no_route", Some(false));
        check(CallError::NoWorker { service: service() }, 503, "no_worker", Some(false));
        check(CallError::Busy { service: service() }, 429, "busy", Some(false));
        let overloaded = CallError::Overloaded { service: service(), reason: reason() };
        check(overloaded, 503, "overloaded", Some(false));
        for (ran, may_have_run) in [(Ran::No, false), (Ran::Maybe, true)] {
            check(CallError::Expired { service: service(), ran }, 504, "expired", Some(may_have_run));
            let lost = CallError::ConnectionLost { may_have_run, reason: reason() };
            check(lost, 502, "connection_lost", Some(may_have_run));
        }
        check(CallError::Rejected { service: service(), reason: reason() }, 409, "rejected", Some(true));
        check(CallError::Unsendable(reason()), 400, "unsendable", Some(false));
        check(CallError::Cancelled, 503, "cancelled", None);
        check(TaskError::NoRoute { service: service() }, 404, "no_route", Some(false));
        check(TaskError::Full { service: service() }, 503, "overloaded", Some(false));
        check(TaskError::Unconfirmed { reason: reason() }, 504, "unconfirmed", Some(true));
        check(TaskError::Unsendable(reason()), 400, "unsendable", Some(false));
    }

    #[test]
    fn a_reported_error_has_the_status_of_its_code() {
        let statuses = [499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (&code, status) in Code::ALL.iter().zip(statuses) {
            check(CallError::Remote(Failure::new(code, "m")), status, "remote", None);
        }
    }

    #[test]
    fn what_the_service_says_is_passed_on() {
        let failure = Failure::unavailable("full").with_details(&["noon"]);
        let problem = Problem::from(CallError::Remote(failure.retry_after(Duration::from_millis(1_500))));
        assert_eq!(
            problem.to_json(),
            json!({
                "type": "urn:leveret:problem:remote", "title": "The service reported an error", "status": 503,
                "detail": "full", "code": "UNAVAILABLE", "retryable": true, "retry_after_ms": 1500,
                "details": ["noon"],
            })
        );
        assert_eq!(problem.retry_after_s(), Some(2));
    }
}
