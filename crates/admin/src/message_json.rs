//! Messages as JSON, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_wire::{Properties, RawProperties};
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::{json_table, table_json};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As text if it is UTF-8, else as base64.
    Auto,
    /// As base64.
    Base64,
}

/// A body, the name of how it is written; at most so many octets of it.
pub(crate) fn payload(body: &[u8], encoding: Encoding, max_bytes: usize) -> (String, &'static str) {
    let body = &body[..body.len().min(max_bytes)];
    match (encoding, std::str::from_utf8(body)) {
        (Encoding::Auto, Ok(text)) => (text.to_owned(), "string"),
        (Encoding::Auto, Err(_)) | (Encoding::Base64, _) => (STANDARD.encode(body), "base64"),
    }
}

/// The properties that a message has, by their names.
pub(crate) fn properties(raw: RawProperties<'_>) -> Map<String, Value> {
    let mut shown = Map::new();
    let texts = [
        ("content_type", raw.content_type()),
        ("content_encoding", raw.content_encoding()),
        ("correlation_id", raw.correlation_id()),
        ("reply_to", raw.reply_to()),
        ("expiration", raw.expiration()),
        ("message_id", raw.message_id()),
        ("type", raw.kind()),
        ("user_id", raw.user_id()),
        ("app_id", raw.app_id()),
        ("cluster_id", raw.cluster_id()),
    ];
    for (name, value) in texts {
        let text = value.map(|octets| json!(String::from_utf8_lossy(octets)));
        shown.extend(text.map(|text| (name.to_owned(), text)));
    }
    let others = [
        ("headers", raw.headers().map(|headers| table_json::object(&headers.to_table()))),
        ("delivery_mode", raw.delivery_mode().map(Value::from)),
        ("priority", raw.priority().map(Value::from)),
        ("timestamp", raw.timestamp().map(Value::from)),
    ];
    shown.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    shown
}

/// Reads properties; names that AMQP does not have are passed over.
///
/// # Errors
/// 400: a value has the wrong type or is too long, in RabbitMQ's words.
pub(crate) fn read_properties(shown: &Map<String, Value>) -> Result<Properties, ApiError> {
    let text = |name: &str| match shown.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= 255 => Ok(Some(text.as_bytes().to_vec())),
        Some(Value::String(_)) => Err(ApiError::bad_request(format!("{name} has at most 255 octets"))),
        Some(_) => Err(ApiError::bad_request(format!("not_string: {name}"))),
    };
    let number = |name: &str, max: u64| match shown.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64().filter(|number| *number <= max) {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::bad_request(format!("not_int: {name}"))),
        },
    };
    let octet = |name: &str| -> Result<Option<u8>, ApiError> {
        Ok(number(name, u8::MAX.into())?.and_then(|number| u8::try_from(number).ok()))
    };
    let headers = match shown.get("headers") {
        None => None,
        Some(Value::Object(headers)) => Some(json_table::table(headers)?),
        Some(_) => return Err(ApiError::bad_request("headers must be an object")),
    };
    Ok(Properties {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: number("timestamp", u64::MAX)?,
        kind: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_where_they_can_be() {
        let check = |body: &[u8], encoding, max_bytes, expected: (&str, &str)| {
            let (shown, name) = payload(body, encoding, max_bytes);
            assert_eq!((shown.as_str(), name), expected);
        };
        check("hü".as_bytes(), Encoding::Auto, 100, ("hü", "string"));
        check("hü".as_bytes(), Encoding::Auto, 1, ("h", "string"));
        check("hü".as_bytes(), Encoding::Auto, 2, ("aMM=", "base64"));
        check(b"h", Encoding::Base64, 100, ("aA==", "base64"));
        check(b"\xff", Encoding::Auto, 100, ("/w==", "base64"));
    }

    #[test]
    fn properties_come_back_as_they_were_given() {
        let given = json!({
            "content_type": "text/plain", "headers": {"a": 1}, "delivery_mode": 2, "priority": 3, "timestamp": 5,
            "type": "t", "user_id": "guest",
        });
        let encoded = read_properties(given.as_object().unwrap()).unwrap().encode().unwrap();
        let shown = properties(RawProperties::parse(&encoded).unwrap());
        assert_eq!(Value::Object(shown), given);
    }

    #[test]
    fn properties_of_the_wrong_type_are_named() {
        let check = |given: &Value, expected: &str| {
            assert_eq!(read_properties(given.as_object().unwrap()).unwrap_err().reason, expected);
        };
        check(&json!({"delivery_mode": "2"}), "not_int: delivery_mode");
        check(&json!({"delivery_mode": 300}), "not_int: delivery_mode");
        check(&json!({"priority": -1}), "not_int: priority");
        check(&json!({"expiration": 5}), "not_string: expiration");
        check(&json!({"headers": 5}), "headers must be an object");
        check(&json!({"headers": {"a": null}}), "null_not_allowed");
    }
}
