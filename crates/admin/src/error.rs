//! What a client hears when a request fails: RabbitMQ's status, its short word, and the reason in a sentence.

use axum::http::StatusCode;
use leveret_broker::definitions::DefinitionsError;
use leveret_broker::users::UserError;
use leveret_broker::{ParameterError, Refusal};
use leveret_wire::ReplyCode;
use serde_json::json;

use crate::answer::Answer;
use crate::door::BODY_MAX_BYTES;
use crate::http::body::BodyError;

/// A request that was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// For programs: RabbitMQ's word.
    pub(crate) error: &'static str,
    /// For people.
    pub(crate) reason: String,
}

impl ApiError {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<String>) -> ApiError {
        ApiError { status, error, reason: reason.into() }
    }

    /// 400: something about the request, which the text names.
    pub(crate) fn bad_request(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 401: who asks may not.
    pub(crate) fn not_authorised(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// 403: a page of another site asks.
    pub(crate) fn forbidden(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", reason)
    }

    /// 404.
    pub(crate) fn not_found() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404, and what is missing.
    pub(crate) fn missing(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 405.
    pub(crate) fn wrong_method() -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", "Method Not Allowed")
    }

    /// 500: our fault.
    pub(crate) fn internal(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", reason)
    }

    /// 504: what was asked for did not happen in time.
    pub(crate) fn timed_out(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", reason)
    }

    /// 503, and why not now.
    pub(crate) fn unavailable(reason: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
    }

    pub(crate) fn into_answer(self) -> Answer {
        let body = json!({ "error": self.error, "reason": self.reason });
        Answer::json(&body).with_status(self.status)
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> ApiError {
        match error {
            BodyError::TooLarge => {
                let reason = format!("the body is larger than {BODY_MAX_BYTES} octets");
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", reason)
            }
            BodyError::TooSlow => {
                ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time")
            }
            BodyError::Unreadable(why) => ApiError::bad_request(format!("the body cannot be read: {why}")),
        }
    }
}

/// What AMQP would have closed a channel for (RabbitMQ's `with_channel`).
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal.code {
            ReplyCode::NOT_FOUND => ApiError::missing(refusal.explanation),
            ReplyCode::ACCESS_REFUSED => ApiError::not_authorised(refusal.explanation),
            ReplyCode::INTERNAL_ERROR => ApiError::internal(refusal.explanation),
            _ => ApiError::bad_request(refusal.explanation),
        }
    }
}

impl From<ParameterError> for ApiError {
    fn from(error: ParameterError) -> ApiError {
        match error {
            ParameterError::NoVHost(_) | ParameterError::NoUser(_) | ParameterError::Missing => {
                ApiError::not_found()
            }
            ParameterError::Invalid(_) => ApiError::bad_request(error.to_string()),
            ParameterError::Protected(_) => {
                ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", error.to_string())
            }
            ParameterError::Failed(refusal) => refusal.into(),
        }
    }
}

impl From<DefinitionsError> for ApiError {
    fn from(error: DefinitionsError) -> ApiError {
        match error {
            DefinitionsError::Failed(refusal) => refusal.into(),
            error => ApiError::bad_request(error.to_string()),
        }
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> ApiError {
        match error {
            UserError::Unknown(_) => ApiError::not_found(),
            error => ApiError::bad_request(error.to_string()),
        }
    }
}
