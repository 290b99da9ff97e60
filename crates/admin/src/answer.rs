//! What a handler answers.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

const JSON: &str = "application/json";

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// 200 with a JSON body. Values of this crate have string keys and finite numbers, so they can be written.
    pub(crate) fn json(body: &impl Serialize) -> Answer {
        match serde_json::to_vec(body) {
            Ok(body) => Answer::octets(JSON, body),
            Err(error) => {
                Answer::status(StatusCode::INTERNAL_SERVER_ERROR).with_body("text/plain", error.to_string())
            }
        }
    }

    /// 200 with a body of any type.
    pub(crate) fn octets(content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::status(StatusCode::OK).with_body(content_type, body)
    }

    /// 201: it is new.
    pub(crate) fn created() -> Answer {
        Answer::status(StatusCode::CREATED)
    }

    /// 201 where it is new, 204 where it was there.
    pub(crate) fn created_or_changed(is_new: bool) -> Answer {
        if is_new { Answer::created() } else { Answer::no_content() }
    }

    /// 204: done, nothing to say.
    pub(crate) fn no_content() -> Answer {
        Answer::status(StatusCode::NO_CONTENT)
    }

    /// No body.
    pub(crate) fn status(status: StatusCode) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Answer {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.push((name, value));
        self
    }

    /// The methods that a path takes.
    pub(crate) fn with_allow(self, methods: &str) -> Answer {
        match HeaderValue::from_str(methods) {
            Ok(value) => self.with_header(ALLOW, value),
            Err(_) => self,
        }
    }

    fn with_body(mut self, content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self.with_header(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// For the socket; `HEAD` has no body.
    pub(crate) fn into_response(self, with_body: bool) -> Response<Body> {
        let mut response = Response::new(if with_body { Body::from(self.body) } else { Body::empty() });
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
