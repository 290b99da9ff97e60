//! What a consistent-hash exchange takes the hash of: the routing key, a header or a property.

use std::borrow::Cow;

use leveret_wire::{FieldTable, FieldValue, RawProperties};

use super::bad_exchange::BadExchange;

/// The part of a message that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HashOn {
    RoutingKey,
    Header(String),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    /// Reads `hash-header` and `hash-property`, as the plugin does; LavinMQ calls the first one `x-hash-on`.
    pub(super) fn of_arguments(arguments: &FieldTable) -> Result<Self, BadExchange> {
        let header = match arguments.get("hash-header") {
            Some(value) => Some(value),
            None => arguments.get("x-hash-on"),
        };
        match (header, arguments.get("hash-property")) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(_), Some(_)) => Err(BadExchange::HashOnBoth),
            (Some(header), None) => match header.as_str() {
                Some(header) => Ok(Self::Header(header.to_owned())),
                None => Err(BadExchange::HashHeaderNotText(header.type_name())),
            },
            (None, Some(property)) => match property.as_str() {
                Some("message_id") => Ok(Self::MessageId),
                Some("correlation_id") => Ok(Self::CorrelationId),
                Some("timestamp") => Ok(Self::Timestamp),
                _ => Err(BadExchange::UnsupportedProperty(property.clone())),
            },
        }
    }

    /// The octets to hash. What a message does not have is empty, so all such messages go one way.
    pub(super) fn octets<'a>(&self, key: &'a str, properties: RawProperties<'a>) -> Cow<'a, [u8]> {
        match self {
            Self::RoutingKey => key.as_bytes().into(),
            Self::MessageId => properties.message_id().unwrap_or_default().into(),
            Self::CorrelationId => properties.correlation_id().unwrap_or_default().into(),
            Self::Timestamp => match properties.timestamp() {
                Some(seconds) => seconds.to_string().into_bytes().into(),
                None => Cow::default(),
            },
            Self::Header(name) => match properties.headers().and_then(|headers| headers.find(name)) {
                Some(value) => value_octets(value).into(),
                None => Cow::default(),
            },
        }
    }
}

/// Text and integers of any width as they are read; other values by their form on the wire.
fn value_octets(value: FieldValue) -> Vec<u8> {
    match value {
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => octets,
        other => match other.as_i64() {
            Some(number) => number.to_string().into_bytes(),
            None => FieldTable::from([("", other)]).raw_bytes().unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::Properties;

    use super::*;

    #[test]
    fn arguments_say_what_decides() {
        let check = |pairs: &[(&str, &str)], expected: Result<HashOn, &str>| {
            let arguments = FieldTable(
                pairs.iter().map(|(key, value)| ((*key).to_owned(), FieldValue::from(*value))).collect(),
            );
            let found = HashOn::of_arguments(&arguments).map_err(|bad| bad.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{pairs:?}");
        };
        check(&[], Ok(HashOn::RoutingKey));
        check(&[("hash-header", "user")], Ok(HashOn::Header("user".into())));
        check(&[("x-hash-on", "user")], Ok(HashOn::Header("user".into())));
        check(&[("hash-property", "message_id")], Ok(HashOn::MessageId));
        check(&[("hash-property", "correlation_id")], Ok(HashOn::CorrelationId));
        check(&[("hash-property", "timestamp")], Ok(HashOn::Timestamp));
        check(&[("hash-property", "app_id")], Err("Unsupported property: app_id"));
        check(
            &[("hash-property", "timestamp"), ("hash-header", "user")],
            Err("hash-header and hash-property are mutually exclusive"),
        );
    }

    #[test]
    fn what_decides_is_found_in_the_message() {
        let properties = Properties {
            headers: Some(FieldTable::from([("user", FieldValue::I32(7)), ("flag", FieldValue::Bool(true))])),
            message_id: Some(b"m".to_vec()),
            timestamp: Some(9),
            ..Default::default()
        };
        let octets = properties.encode().unwrap();
        let check = |hash_on: HashOn, expected: &[u8]| {
            let found = hash_on.octets("key", RawProperties::parse(&octets).unwrap()).into_owned();
            assert_eq!(found, expected, "{hash_on:?}");
        };
        check(HashOn::RoutingKey, b"key");
        check(HashOn::Header("user".into()), b"7");
        check(HashOn::Header("flag".into()), b"\0t\x01");
        check(HashOn::Header("other".into()), b"");
        check(HashOn::MessageId, b"m");
        check(HashOn::CorrelationId, b"");
        check(HashOn::Timestamp, b"9");
    }
}
