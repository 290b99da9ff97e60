//! What a handler gets and gives.

use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;

use crate::content::{self, Format};
use crate::context::Context;
use crate::{Failure, Payload};

/// One request, as a handler sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks, until when, with which headers.
    pub cx: Context,
    /// What is asked for, if one service has many methods.
    pub method: Option<String>,
    /// The body.
    pub payload: Payload,
}

/// Many answers, one after the other.
pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<Payload, Failure>> + Send>>;

/// What a handler answers.
pub enum Answer {
    /// The usual case.
    One(Payload),
    /// As long as the caller takes them; see [`Client::stream`](crate::Client::stream).
    Many(AnswerStream),
}

impl Answer {
    /// A value in a format.
    ///
    /// # Errors
    /// The value has no form in that format: a fault of the service.
    pub fn encode<T: Serialize + ?Sized>(value: &T, format: Format) -> Result<Answer, Failure> {
        let payload = content::encode(format, value);
        payload
            .map(Answer::One)
            .map_err(|error| Failure::internal(format!("the answer does not encode: {error}")))
    }

    /// Nothing but "done".
    pub fn empty() -> Answer {
        Answer::One(Payload::bytes(Bytes::new()))
    }
}
