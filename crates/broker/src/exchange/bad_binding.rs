//! Why a binding cannot be made, in RabbitMQ's words.

use std::fmt;

use leveret_wire::{EncodeError, FieldValue};

/// The arguments of a binding are refused. The text is that of RabbitMQ's 406.
#[derive(Clone, Debug, PartialEq)]
pub enum BadBinding {
    /// `x-match` is text, but not one of the four known ones. Holds the text.
    UnknownMatch(Vec<u8>),
    /// `x-match` is not text.
    MatchNotText(FieldValue),
    /// The key of a binding to a consistent-hash exchange is no integer. Holds the key.
    WeightNotInteger(String),
    /// It is less than 1.
    WeightBelowOne,
    /// It is more than 2^32 - 1, which RabbitMQ's plugin would try to make as many buckets for.
    WeightTooLarge,
    /// A binding to a local random exchange has a key. Holds the key.
    KeyNotEmpty(String),
    /// A local random exchange only leads to queues.
    NotAQueue,
    /// The arguments have no form on the wire, so no client could ever remove the binding.
    Arguments(EncodeError),
}

impl fmt::Display for BadBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMatch(text) => write!(
                f,
                "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                ErlangBinary(text)
            ),
            Self::MatchNotText(value) => write!(
                f,
                "Invalid x-match field type {} (value {}); expected longstr",
                value.type_name(),
                ErlangTerm(value)
            ),
            Self::WeightNotInteger(key) => {
                write!(f, "The binding key must be an integer: {}", ErlangBinary(key.as_bytes()))
            }
            Self::WeightBelowOne => f.write_str("The binding key must be greater than 0"),
            Self::WeightTooLarge => write!(f, "The binding key must be at most {}", u32::MAX),
            Self::KeyNotEmpty(key) => write!(f, "Non empty binding '{key}' key not permitted"),
            Self::NotAQueue => f.write_str("Destination not found"),
            Self::Arguments(error) => write!(f, "invalid binding arguments: {error}"),
        }
    }
}

impl std::error::Error for BadBinding {}

/// Octets as Erlang's `~p` prints them.
struct ErlangBinary<'a>(&'a [u8]);

impl fmt::Display for ErlangBinary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) if !text.is_empty() && !text.contains(char::is_control) => {
                write!(f, "<<\"{}\">>", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
            _ => write_list(f, "<<", self.0, ">>"),
        }
    }
}

/// A field value as Erlang's `~p` prints RabbitMQ's term for it.
pub(super) struct ErlangTerm<'a>(pub(super) &'a FieldValue);

impl fmt::Display for ErlangTerm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FieldValue::Void => f.write_str("undefined"),
            FieldValue::Bool(value) => write!(f, "{value}"),
            FieldValue::F32(value) => write!(f, "{value:?}"),
            FieldValue::F64(value) => write!(f, "{value:?}"),
            FieldValue::U64(value) | FieldValue::Timestamp(value) => write!(f, "{value}"),
            FieldValue::Decimal { scale, value } => write!(f, "{{{scale},{value}}}"),
            FieldValue::LongString(octets) | FieldValue::Bytes(octets) => ErlangBinary(octets).fmt(f),
            FieldValue::Array(values) => {
                let items = values.iter().map(|v| format!("{{{},{}}}", v.type_name(), ErlangTerm(v)));
                write_list(f, "[", items, "]")
            }
            FieldValue::Table(table) => {
                let items = table.iter().map(|(key, v)| {
                    format!("{{{},{},{}}}", ErlangBinary(key.as_bytes()), v.type_name(), ErlangTerm(v))
                });
                write_list(f, "[", items, "]")
            }
            integer => write!(f, "{}", integer.as_i64().unwrap_or_default()),
        }
    }
}

fn write_list<I: IntoIterator<Item: fmt::Display>>(
    f: &mut fmt::Formatter<'_>,
    open: &str,
    items: I,
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    for (at, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { "," })?;
    }
    f.write_str(close)
}

#[cfg(test)]
mod tests {
    use leveret_wire::FieldTable;

    use super::*;

    fn check(value: FieldValue, quoted: &str) {
        assert_eq!(ErlangTerm(&value).to_string(), quoted);
    }

    #[test]
    fn values_are_quoted_as_rabbitmq_quotes_them() {
        check(FieldValue::I32(5), "5");
        check(FieldValue::Void, "undefined");
        check(FieldValue::Bool(true), "true");
        check(FieldValue::Bytes(b"all".to_vec()), "<<\"all\">>");
        check(FieldValue::Bytes(vec![0, 255]), "<<0,255>>");
        check(FieldValue::F64(1.5), "1.5");
        check(FieldValue::Decimal { scale: 1, value: 50 }, "{1,50}");
        check(FieldValue::Array(vec![FieldValue::I32(1)]), "[{signedint,1}]");
        check(FieldValue::Table(FieldTable::from([("k", FieldValue::I32(1))])), "[{<<\"k\">>,signedint,1}]");
    }

    #[test]
    fn texts_are_those_seen_from_rabbitmq() {
        let unknown = |text: &str| BadBinding::UnknownMatch(text.into()).to_string();
        let expected = "; expected all, any, all-with-x, or any-with-x";
        assert_eq!(unknown("foo"), format!("Invalid x-match field value <<\"foo\">>{expected}"));
        assert_eq!(unknown(""), format!("Invalid x-match field value <<>>{expected}"));
        assert_eq!(unknown("fü\"o"), format!("Invalid x-match field value <<\"fü\\\"o\">>{expected}"));
        assert_eq!(
            BadBinding::MatchNotText(FieldValue::I32(5)).to_string(),
            "Invalid x-match field type signedint (value 5); expected longstr"
        );
    }
}
