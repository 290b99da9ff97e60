//! Any payload as JSON text: what most dialects wrap.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ContentError, DECOMPRESSED_MAX_BYTES, Format, declared, from_cbor, from_message_pack};
use crate::Payload;

/// The payload as JSON. JSON stays as it is, to the digit; MessagePack and CBOR are translated; text without a type
/// becomes a string and nothing becomes `null`, as [`decode`](super::decode) would read them.
///
/// # Errors
/// As [`decode`](super::decode); octets that are no text have no form in JSON.
pub(crate) fn json_text(payload: &Payload) -> Result<Bytes, ContentError> {
    let format = declared(payload)?;
    let body = payload.clone().decompress(DECOMPRESSED_MAX_BYTES)?.body;
    match format {
        Some(Format::Json) => checked(&body).map(|()| body),
        Some(Format::MessagePack) => from_message_pack::<Value>(&body).map(|value| text(&value)),
        Some(Format::Cbor) => from_cbor::<Value>(&body).map(|value| text(&value)),
        Some(Format::Bytes) => as_string(&body),
        None if body.is_empty() => Ok(text(&Value::Null)),
        None => checked(&body).map(|()| body.clone()).or_else(|_| as_string(&body)),
    }
}

/// Looks at the whole text without building anything, so nesting costs nothing.
fn checked(body: &[u8]) -> Result<(), ContentError> {
    serde_json::from_slice::<&RawValue>(body)
        .map(drop)
        .map_err(|error| ContentError::malformed(Format::Json, error))
}

fn as_string(body: &[u8]) -> Result<Bytes, ContentError> {
    let string = std::str::from_utf8(body).map_err(|error| ContentError::unsupported(Format::Json, error))?;
    Ok(text(&Value::from(string)))
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::super::{encode, from_json};
    use super::*;

    #[test]
    fn payloads_as_json() {
        let digits: &[u8] = b"{\"n\": 12345678901234567890.123456789012345678}";
        let packed = encode(Format::MessagePack, &serde_json::json!({"a": [1]})).unwrap();
        for (payload, expected) in [
            (Payload::new("application/json", digits), Some(digits)),
            (Payload::bytes(digits), Some(digits)),
            (Payload::bytes(&b"hello"[..]), Some(&br#""hello""#[..])),
            (Payload::bytes(&b""[..]), Some(b"null")),
            (packed, Some(br#"{"a":[1]}"#)),
            (Payload::new("application/json", &b"hello"[..]), None),
            (Payload::new("application/json", &b"\"\xff\""[..]), None),
            (Payload::new("application/octet-stream", &b"\xff"[..]), None),
            (Payload::new("image/png", &b"1"[..]), None),
        ] {
            assert_eq!(json_text(&payload).ok().as_deref(), expected, "{payload:?}");
        }
    }

    #[test]
    fn the_value_of_any_format_is_the_same_text() {
        let value = serde_json::json!({"sky": "grey", "days": [1, 2.5, null, true]});
        for format in [Format::Json, Format::MessagePack, Format::Cbor] {
            let text = json_text(&encode(format, &value).unwrap()).unwrap();
            assert_eq!(from_json::<Value>(&text).unwrap(), value, "{format:?}");
        }
    }
}
