//! Values to bodies and back: what a content type and a content encoding mean.
//!
//! ```text
//!  value ──encode(format)──▶ Payload { content_type, content_encoding, body } ──decode──▶ value
//!                               compress(gzip | zstd)  ⇄  decompress(limit)
//! ```
//!
//! Bodies come from strangers. Whatever the octets are, decoding ends with a value or a [`ContentError`]: nesting,
//! and the size of what is decompressed, have limits that are checked before memory is spent.

#[cfg(feature = "cbor")]
mod cbor;
mod compression;
mod error;
mod format;
mod json;
mod octets;

pub use compression::{Compression, DECOMPRESSED_MAX_BYTES};
pub use error::ContentError;
pub use format::Format;
pub(crate) use json::json_text;

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Payload;
#[cfg(feature = "cbor")]
use cbor::{from_cbor, to_cbor};

/// How deep MessagePack may nest, which is serde_json's limit too; CBOR's is 256. A stack overflow would end the
/// whole process.
#[cfg(feature = "msgpack")]
const NESTING_MAX: usize = 128;

/// A value as a body, with its content type.
///
/// [`Format::Bytes`] takes a byte string, text (its octets) or a `Vec<u8>`. MessagePack and CBOR write structs with
/// the names of their fields, so that other languages can read them.
///
/// # Errors
/// The value has no form in this format, or the format's feature is off.
pub fn encode<T: Serialize + ?Sized>(format: Format, value: &T) -> Result<Payload, ContentError> {
    let body = match format {
        Format::Json => {
            serde_json::to_vec(value).map_err(|error| ContentError::unsupported(format, error))?
        }
        Format::MessagePack => to_message_pack(value)?,
        Format::Cbor => to_cbor(value)?,
        Format::Bytes => octets::to_octets(value)?,
    };
    Ok(Payload::new(format.content_type(), body))
}

/// The value in a body, decompressed first if need be (at most [`DECOMPRESSED_MAX_BYTES`]).
///
/// Clients of other languages often say nothing about their body, or something careless. Therefore a body without
/// a type, and `text/plain`, is JSON if it is JSON, and otherwise octets if `T` takes text or octets; for
/// `application/octet-stream` it is the other way round. So the body `30` is a number to who wants one, and `hello`
/// is text.
///
/// # Errors
/// An unknown type or encoding, a body that is not of its type or not a `T`, or one that is too large.
pub fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T, ContentError> {
    let body = plain(payload)?;
    let guess = || from_json(&body).or_else(|error| octets::from_octets(&body).map_err(|_| error));
    match declared(payload)? {
        None => guess(),
        Some(Format::Json) => from_json(&body),
        Some(Format::MessagePack) => from_message_pack(&body),
        Some(Format::Cbor) => from_cbor(&body),
        Some(Format::Bytes) => {
            octets::from_octets(&body).or_else(|error| from_json(&body).map_err(|_| error))
        }
    }
}

/// The format that a payload declares; `None` if it leaves us to guess.
fn declared(payload: &Payload) -> Result<Option<Format>, ContentError> {
    let Some(content_type) = payload.content_type.as_deref() else { return Ok(None) };
    let essence = format::essence(content_type);
    if essence.is_empty() || essence.eq_ignore_ascii_case("text/plain") {
        return Ok(None);
    }
    Format::of(content_type).map(Some).ok_or_else(|| ContentError::unknown_type(content_type))
}

/// The octets without compression.
fn plain(payload: &Payload) -> Result<Cow<'_, [u8]>, ContentError> {
    if compression::is_identity(payload.content_encoding.as_deref()) {
        return Ok(Cow::Borrowed(&payload.body));
    }
    let payload = payload.clone().decompress(DECOMPRESSED_MAX_BYTES)?;
    Ok(Cow::Owned(payload.body.into()))
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ContentError> {
    serde_json::from_slice(body).map_err(|error| ContentError::malformed(Format::Json, error))
}

#[cfg(feature = "msgpack")]
fn to_message_pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ContentError> {
    rmp_serde::to_vec_named(value).map_err(|error| ContentError::unsupported(Format::MessagePack, error))
}

#[cfg(not(feature = "msgpack"))]
fn to_message_pack<T: Serialize + ?Sized>(_: &T) -> Result<Vec<u8>, ContentError> {
    Err(ContentError::FeatureMissing { feature: "msgpack" })
}

#[cfg(feature = "msgpack")]
fn from_message_pack<T: DeserializeOwned>(body: &[u8]) -> Result<T, ContentError> {
    let mut rest = body;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(NESTING_MAX);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| ContentError::malformed(Format::MessagePack, error))?;
    ended(Format::MessagePack, rest).map(|()| value)
}

#[cfg(not(feature = "msgpack"))]
fn from_message_pack<T: DeserializeOwned>(_: &[u8]) -> Result<T, ContentError> {
    Err(ContentError::FeatureMissing { feature: "msgpack" })
}

#[cfg(not(feature = "cbor"))]
fn to_cbor<T: Serialize + ?Sized>(_: &T) -> Result<Vec<u8>, ContentError> {
    Err(ContentError::FeatureMissing { feature: "cbor" })
}

#[cfg(not(feature = "cbor"))]
fn from_cbor<T: DeserializeOwned>(_: &[u8]) -> Result<T, ContentError> {
    Err(ContentError::FeatureMissing { feature: "cbor" })
}

/// Two values in one body are not one value: JSON's rule, for every format.
#[cfg(any(feature = "msgpack", feature = "cbor"))]
fn ended(format: Format, rest: &[u8]) -> Result<(), ContentError> {
    match rest.len() {
        0 => Ok(()),
        extra => Err(ContentError::malformed(format, format_args!("{extra} octets after the value"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Place {
        name: String,
        days: u32,
        wind: Option<f64>,
    }

    const ALL: [Format; 3] = [Format::Json, Format::MessagePack, Format::Cbor];

    fn typed(content_type: &str, body: &[u8]) -> Payload {
        Payload::new(content_type, body.to_vec())
    }

    fn untyped(body: &[u8]) -> Payload {
        Payload::bytes(body.to_vec())
    }

    #[test]
    fn every_format_gives_back_what_it_took() {
        let place = Place { name: "Óhio".into(), days: 3, wind: None };
        for format in ALL {
            let payload = encode(format, &place).unwrap();
            assert_eq!(payload.content_type.as_deref(), Some(format.content_type()));
            assert_eq!(decode::<Place>(&payload).unwrap(), place, "{format:?}");
            let map: BTreeMap<String, Value> = decode(&payload).unwrap();
            assert_eq!(map["name"], "Óhio", "{format:?} writes field names");
        }
    }

    #[test]
    fn bodies_that_other_languages_write() {
        fn check<T: DeserializeOwned + PartialEq + std::fmt::Debug>(payload: Payload, value: T) {
            assert_eq!(decode::<T>(&payload).unwrap(), value, "{payload:?}");
        }
        let hello = || "hello".to_owned();
        check(untyped(b"30"), 30u32);
        check(untyped(b"30"), "30".to_owned());
        check(untyped(b"hello"), hello());
        check(untyped(b"hello"), json!("hello"));
        check(untyped(b"hello"), b"hello".to_vec());
        check(untyped(b"\xff\x00"), vec![0xffu8, 0]);
        check(untyped(b""), ());
        check(untyped(b""), None::<u32>);
        check(untyped(b"[1,2]"), vec![1u8, 2]);
        check(typed("", b"30"), 30u32);
        check(typed("text/plain", b"hello"), hello());
        check(typed("text/plain; charset=UTF-8", b"30"), 30u32);
        check(typed("text/json", b"\"hello\""), hello());
        check(typed("Application/JSON; charset=utf-8", b"[1]"), vec![1u64]);
        check(typed("application/cloudevents+json", b"1"), 1u64);
        // Java's MessageProperties.PERSISTENT_BASIC says octet-stream about anything.
        check(typed("application/octet-stream", b"30"), 30u32);
        check(typed("application/octet-stream", b"30"), "30".to_owned());
        check(typed("application/octet-stream", b"[1]"), b"[1]".to_vec());
        // msgpack.packb({"q": "why", "n": [1, -1, 2.5, None, True]})
        let packed = b"\x82\xa1q\xa3why\xa1n\x95\x01\xff\xcb@\x04\x00\x00\x00\x00\x00\x00\xc0\xc3";
        check(typed("application/x-msgpack", packed), json!({"q": "why", "n": [1, -1, 2.5, null, true]}));
        // cbor2.dumps({"q": "why", "n": [1, -1]})
        check(typed("application/cbor", b"\xa2aqcwhyan\x82\x01 "), json!({"q": "why", "n": [1, -1]}));
    }

    #[test]
    fn octets_of_a_value() {
        fn check<T: Serialize + ?Sized>(value: &T, body: &[u8]) {
            assert_eq!(encode(Format::Bytes, value).unwrap(), typed("application/octet-stream", body));
        }
        check("hello", b"hello");
        check(&vec![1u8, 2], &[1, 2]);
        check(&[7u8; 3], &[7; 3]);
        check(&(), b"");
        check(&Some("x"), b"x");
    }

    #[test]
    fn refusals_say_why() {
        fn check<T: DeserializeOwned + std::fmt::Debug>(payload: Payload, expected: &str) {
            let text = decode::<T>(&payload).unwrap_err().to_string();
            assert!(text.starts_with(expected), "{text:?} instead of {expected:?}");
            assert!(!text.contains('\n') && text.len() < 400, "{text:?}");
        }
        let encoded = |encoding: &str| Payload { content_encoding: Some(encoding.into()), ..untyped(b"x") };
        check::<Value>(
            typed("application/x-python-serialize", b"cos\nsystem\n"),
            "content type application/x-python-serialize is not understood; understood are application/json",
        );
        check::<Value>(typed(&"x".repeat(1000), b"1"), "content type xxxxx");
        check::<Value>(typed("a\nb", b"1"), r"content type a\nb is not understood");
        check::<u32>(untyped(b"hello"), "the body is not JSON as expected: expected value at line 1");
        check::<Vec<u64>>(untyped(b"hello"), "the body is not JSON as expected: expected value");
        check::<Value>(typed("application/json", b"\"\xff\""), "the body is not JSON as expected");
        check::<Value>(typed("application/json", b"1 2"), "the body is not JSON as expected: trailing");
        check::<Place>(
            typed("application/json", b"{\"name\":1}"),
            "the body is not JSON as expected: invalid",
        );
        check::<u32>(
            typed("application/msgpack", b"\x01\x01"),
            "the body is not MessagePack as expected: 1 oct",
        );
        check::<Value>(typed("application/msgpack", b"\xdd\xff\xff\xff\xff"), "the body is not MessagePack");
        check::<Value>(
            typed("application/cbor", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
            "the body is not CBOR",
        );
        check::<u32>(typed("application/cbor", b"\x01\x01"), "the body is not CBOR as expected: 1 octets");
        check::<Value>(encoded("brotli"), "content encoding brotli is not understood");
        check::<Value>(encoded("gzip"), "the gzip body does not decompress");
        check::<Value>(encoded("zstd"), "the zstd body does not decompress");
        check::<Value>(encoded("deflate"), "the deflate body does not decompress");
        let error = encode(Format::Bytes, &1u32).unwrap_err().to_string();
        assert!(error.starts_with("the value has no form in octets"), "{error}");
        assert!(encode(Format::Json, &BTreeMap::from([(vec![1], 1)])).is_err());
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = |open: u8, close: &[u8]| {
            let mut body = vec![open; 10_000];
            body.extend(close.iter().cycle().take(10_000 * close.len()));
            body
        };
        for payload in [
            typed("application/json", &deep(b'[', b"]")),
            untyped(&deep(b'[', b"]")),
            typed("application/msgpack", &deep(0x91, b"\xc0")),
            typed("application/cbor", &deep(0x81, b"")),
            typed("application/cbor", &deep(0x9f, b"\xff")),
            typed("application/cbor", &deep(0xc1, b"")),
        ] {
            let value = decode::<Value>(&payload);
            let text_of_an_untyped_body = payload.content_type.is_none() && value.is_ok();
            assert!(value.is_err() || text_of_an_untyped_body, "{:?}", payload.content_type);
        }
    }
}
