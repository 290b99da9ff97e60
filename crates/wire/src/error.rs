//! What can be wrong with received octets ([`WireError`]) and with values to send ([`EncodeError`]).

use std::borrow::Cow;
use std::fmt;

use crate::ReplyCode;

/// The longest reply text a shortstr can carry, in octets.
const REPLY_TEXT_MAX: usize = 255;

/// The peer broke the protocol. Always the peer's fault, always of connection scope: after it the
/// position in the octet stream or the state of the conversation cannot be trusted, so the
/// connection closes with this code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// The code to close the connection with.
    pub code: ReplyCode,
    /// RabbitMQ's explanation, without the leading code name.
    pub text: Cow<'static, str>,
    /// Class of the method that failed, 0 if none was known.
    pub class_id: u16,
    /// The method that failed, 0 if none was known.
    pub method_id: u16,
}

impl WireError {
    /// An error that no method is to blame for.
    pub fn new(code: ReplyCode, text: impl Into<Cow<'static, str>>) -> WireError {
        WireError { code, text: text.into(), class_id: 0, method_id: 0 }
    }

    /// The same error, blamed on a method.
    #[must_use]
    pub fn with_method(self, class_id: u16, method_id: u16) -> WireError {
        WireError { class_id, method_id, ..self }
    }

    /// The `reply-text` of `connection.close`: `CODE_NAME - explanation`, cut to 255 octets with `...`
    /// as RabbitMQ cuts it.
    pub fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.text);
        if text.len() > REPLY_TEXT_MAX {
            text.truncate(text.floor_char_boundary(REPLY_TEXT_MAX - 3));
            text.push_str("...");
        }
        text
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} - {}", self.code.0, self.code.name(), self.text)
    }
}

impl std::error::Error for WireError {}

/// A value that has no form on the wire. The caller's fault; nothing was appended to the output.
///
/// Truncating instead would let a long value swallow or fake the fields after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A short string (name, routing key, table key, property) holds more than 255 octets.
    ShortStringTooLong {
        /// Its length in octets.
        size_bytes: usize,
    },
    /// A long string, table, array or frame payload holds more than 2³²−1 octets.
    TooLarge {
        /// Its length in octets.
        size_bytes: usize,
    },
    /// Tables and arrays are nested deeper than [`MAX_TABLE_DEPTH`](crate::MAX_TABLE_DEPTH).
    TableTooDeep,
    /// An unsigned 64-bit table value above `i64::MAX`: AMQP 0-9-1 as RabbitMQ speaks it has no such type.
    IntegerTooLarge(u64),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::ShortStringTooLong { size_bytes } => {
                write!(f, "short string of {size_bytes} octets, at most 255 are allowed")
            }
            EncodeError::TooLarge { size_bytes } => {
                write!(f, "{size_bytes} octets do not fit a 32-bit length")
            }
            EncodeError::TableTooDeep => {
                write!(f, "field table nested deeper than {} levels", crate::MAX_TABLE_DEPTH)
            }
            EncodeError::IntegerTooLarge(value) => {
                write!(f, "{value} does not fit a signed 64-bit table value")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_text_names_the_code() {
        let error = WireError::new(ReplyCode::FRAME_ERROR, "Malformed UTF-8 in shortstr").with_method(50, 10);
        assert_eq!(error.reply_text(), "FRAME_ERROR - Malformed UTF-8 in shortstr");
        assert_eq!(error.to_string(), "501 FRAME_ERROR - Malformed UTF-8 in shortstr");
    }

    #[test]
    fn reply_text_is_cut_between_characters() {
        for padding in 0..8 {
            let text = "x".repeat(230 + padding) + &"ü".repeat(20);
            let cut = WireError::new(ReplyCode::SYNTAX_ERROR, text).reply_text();
            assert!(cut.len() <= 255 && cut.len() >= 254, "{}", cut.len());
            assert!(cut.ends_with("..."));
        }
    }
}
