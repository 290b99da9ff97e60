//! What the code that `#[leveret::service]` writes calls. No part of the API: it changes when the attribute does.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use futures_core::Stream;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
pub use {serde, tower_service};

use crate::content::{decode, encode};
pub use crate::{
    Answer, Call, Client, Code, Context, Description, Failure, IntoFailure, Payload, Request, Serve,
    StreamCall,
};

/// The body as the only argument of a method.
///
/// # Errors
/// [`Code::InvalidArgument`] when it is none.
pub fn argument<T: DeserializeOwned>(payload: &Payload, service: &str, method: &str) -> Result<T, Failure> {
    decode(payload).map_err(|error| {
        Failure::invalid_argument(format!("{service}: the argument of {method:?} does not decode: {error}"))
    })
}

/// The body as the arguments of a method, a struct with a field for each: an object with their names, or an array in
/// their order.
///
/// # Errors
/// [`Code::InvalidArgument`] when it is neither.
pub fn arguments<T: DeserializeOwned>(payload: &Payload, service: &str, method: &str) -> Result<T, Failure> {
    match decode(payload) {
        Ok(NamedOrInOrder(arguments)) => Ok(arguments),
        Err(error) => Err(Failure::invalid_argument(format!(
            "{service}: the arguments of {method:?} do not decode: {error}"
        ))),
    }
}

/// The one answer of a method.
///
/// # Errors
/// The method's own, and [`Code::Internal`] when what it returned cannot be written.
pub fn one<T: Serialize, E: IntoFailure>(cx: &Context, answer: Result<T, E>) -> Result<Answer, Failure> {
    written(cx, answer).map(Answer::One)
}

/// The many answers of a method, each written when it is asked for. The context lives as long as they do: its
/// cancellation is theirs.
///
/// # Errors
/// None; they come as answers.
pub fn many<T, E, S>(cx: Context, answers: S) -> Result<Answer, Failure>
where
    T: Serialize,
    E: IntoFailure,
    S: Stream<Item = Result<T, E>> + Send + 'static,
{
    Ok(Answer::Many(Box::pin(Written { cx, answers: Box::pin(answers) })))
}

/// A request for a method that the service has not.
pub fn no_such_method(service: &str, method: Option<&str>, methods: &[&str]) -> Failure {
    let methods = methods.join(", ");
    let text = match method {
        Some(method) => format!("{service} has no method {method:?}; it has: {methods}"),
        None => format!("the request names no method (property \"type\"); {service} has: {methods}"),
    };
    Failure::new(Code::Unimplemented, text)
}

fn written<T: Serialize, E: IntoFailure>(cx: &Context, answer: Result<T, E>) -> Result<Payload, Failure> {
    let answer = answer.map_err(IntoFailure::into_failure)?;
    encode(cx.format(), &answer)
        .map_err(|error| Failure::internal(format!("the answer cannot be written: {error}")))
}

struct Written<S> {
    cx: Context,
    answers: Pin<Box<S>>,
}

impl<T: Serialize, E: IntoFailure, S: Stream<Item = Result<T, E>>> Stream for Written<S> {
    type Item = Result<Payload, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        let next = self.answers.as_mut().poll_next(poller);
        next.map(|answer| answer.map(|answer| written(&self.cx, answer)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.answers.size_hint()
    }
}

/// A struct, from a map or from a sequence. A derived `Deserialize` can read both, but a format that is told to expect
/// a struct may insist on a map.
struct NamedOrInOrder<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NamedOrInOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedOrInOrderVisitor(PhantomData)).map(NamedOrInOrder)
    }
}

struct NamedOrInOrderVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedOrInOrderVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the arguments' names, or an array in their order")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<T, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Pair {
        a: u8,
        b: Option<String>,
    }

    fn read(body: &'static str) -> Result<Pair, String> {
        let payload = Payload::new("application/json", body);
        arguments(&payload, "weather", "compare").map_err(|failure| failure.to_string())
    }

    #[test]
    fn arguments_come_by_name_or_in_order() {
        let pair = |b: Option<&str>| Ok(Pair { a: 1, b: b.map(str::to_owned) });
        assert_eq!(read(r#"{"b":"x","a":1}"#), pair(Some("x")));
        assert_eq!(read(r#"[1,"x"]"#), pair(Some("x")));
        assert_eq!(read(r#"{"a":1,"new":true}"#), pair(None));
        for (body, expected) in [
            ("{}", "missing field `a`"),
            ("[1]", "invalid length 1"),
            ("[1,null,3]", "trailing characters"),
            ("7", "expected an object with the arguments' names, or an array in their order"),
        ] {
            let error = read(body).unwrap_err();
            let expected_start = "INVALID_ARGUMENT: weather: the arguments of \"compare\" do not decode: ";
            assert!(error.starts_with(expected_start) && error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn a_method_that_is_not_there_is_named() {
        let check = |method, expected: &str| {
            let failure = no_such_method("weather", method, &["forecast", "compare"]);
            assert_eq!((failure.code, failure.message.as_str()), (Code::Unimplemented, expected));
        };
        check(Some("radar"), "weather has no method \"radar\"; it has: forecast, compare");
        check(None, "the request names no method (property \"type\"); weather has: forecast, compare");
    }
}
