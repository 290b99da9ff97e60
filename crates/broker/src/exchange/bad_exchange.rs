//! Why an exchange cannot be declared as asked for, in the words of RabbitMQ's plugins.

use std::fmt;

use leveret_wire::FieldValue;

use super::bad_binding::ErlangTerm;
use crate::dedup::BadDeduplication;

/// The arguments of an exchange are refused. The text is that of a 406.
#[derive(Clone, Debug, PartialEq)]
pub enum BadExchange {
    /// `hash-property` is none of the three known properties. Holds what it is.
    UnsupportedProperty(FieldValue),
    /// Both `hash-header` and `hash-property` are given.
    HashOnBoth,
    /// `hash-header` is not text. Holds the type's name; the plugin crashes.
    HashHeaderNotText(&'static str),
    /// `x-recent-history-length` is no positive integer. Holds what it is.
    HistoryLength(FieldValue),
    /// `x-max-hops` is not there.
    NoMaxHops,
    /// `x-max-hops` is no 64-bit integer.
    MaxHopsNotLong,
    /// The arguments of its window against duplicates make no sense.
    Deduplication(BadDeduplication),
}

impl fmt::Display for BadExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedProperty(FieldValue::LongString(name)) => {
                write!(f, "Unsupported property: {}", String::from_utf8_lossy(name))
            }
            Self::UnsupportedProperty(value) => write!(f, "Unsupported property: {}", ErlangTerm(value)),
            Self::HashOnBoth => f.write_str("hash-header and hash-property are mutually exclusive"),
            Self::HashHeaderNotText(given) => {
                write!(f, "invalid arg 'hash-header': expected longstr, got {given}")
            }
            Self::Deduplication(bad) => bad.fmt(f),
            Self::NoMaxHops => f.write_str("Argument x-max-hops missing"),
            Self::MaxHopsNotLong => f.write_str("Argument x-max-hops must be of type long"),
            Self::HistoryLength(value) => write!(
                f,
                "Invalid argument {}, 'x-recent-history-length' must be a positive integer",
                ErlangTerm(value)
            ),
        }
    }
}

impl std::error::Error for BadExchange {}
