//! Positional and named arguments, as Python passes them, to one body and back.
//!
//! ```text
//!  f("Ohio")                  "Ohio"
//!  f(place="Ohio", days=3)    {"place": "Ohio", "days": 3}
//!  f("Ohio", 3)               ["Ohio", 3]
//!  f("Ohio", days=3)          ["Ohio", {"days": 3}]
//!  f()                        null
//! ```
//!
//! The other way round an array is positional, an object named, `null` none, and anything else the only argument.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::delivery::part;
use super::spliced;
use crate::Payload;

/// The arguments as one body. Both are parts of `text`; `None` if they are no list and no object.
pub(super) fn to_payload(text: &Bytes, args: &RawValue, kwargs: &RawValue) -> Option<Payload> {
    let positional: Vec<&RawValue> = serde_json::from_str(args.get()).ok()?;
    let named = !inner(kwargs.get(), '{', '}')?.is_empty();
    Some(match (positional.as_slice(), named) {
        ([], false) => Payload::new("application/json", "null"),
        ([], true) => part(text, kwargs),
        ([only], false) => part(text, only),
        (_, false) => part(text, args),
        (_, true) => {
            let list = inner(args.get(), '[', ']')?;
            let body = spliced(&[b"[", list.as_bytes(), b",", kwargs.get().as_bytes(), b"]"]);
            Payload::new("application/json", body)
        }
    })
}

/// A body as the JSON texts of a list and an object.
pub(super) fn from_json_text(text: &Bytes) -> (Bytes, Bytes) {
    const NO_ARGS: Bytes = Bytes::from_static(b"[]");
    const NO_KWARGS: Bytes = Bytes::from_static(b"{}");
    match text.trim_ascii() {
        b"null" => (NO_ARGS, NO_KWARGS),
        [b'[', ..] => (text.clone(), NO_KWARGS),
        [b'{', ..] => (NO_ARGS, text.clone()),
        only => (spliced(&[b"[", only, b"]"]), NO_KWARGS),
    }
}

/// What stands between brackets.
fn inner(text: &str, open: char, close: char) -> Option<&str> {
    Some(text.trim().strip_prefix(open)?.strip_suffix(close)?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_as_one_body() {
        for (args, kwargs, body) in [
            ("[]", "{ }", Some("null")),
            ("[1]", "{}", Some("1")),
            ("[[1, 2]]", "{}", Some("[1, 2]")),
            ("[ 1, \"]\" ]", "{}", Some("[ 1, \"]\" ]")),
            ("[]", "{\"a\": 1}", Some("{\"a\": 1}")),
            ("[1, 2]", "{\"a\": 1}", Some("[1, 2,{\"a\": 1}]")),
            ("{}", "{}", None),
            ("[]", "[]", None),
            ("null", "null", None),
        ] {
            let text = Bytes::from(format!("[{args},{kwargs}]"));
            let parts: [&RawValue; 2] = serde_json::from_slice(&text).unwrap();
            let payload = to_payload(&text, parts[0], parts[1]);
            let found = payload.as_ref().map(|payload| std::str::from_utf8(&payload.body).unwrap());
            assert_eq!(found, body, "{args} {kwargs}");
        }
    }

    #[test]
    fn a_body_as_arguments() {
        for (body, args, kwargs) in [
            ("null", "[]", "{}"),
            (" 1 ", "[1]", "{}"),
            ("\"Ohio\"", "[\"Ohio\"]", "{}"),
            ("[1, 2]", "[1, 2]", "{}"),
            ("[[1]]", "[[1]]", "{}"),
            ("{\"a\": 1}", "[]", "{\"a\": 1}"),
        ] {
            let (found_args, found_kwargs) = from_json_text(&Bytes::from(body));
            assert_eq!((&found_args[..], &found_kwargs[..]), (args.as_bytes(), kwargs.as_bytes()), "{body}");
        }
    }
}
