//! Methods: decoding and encoding the payload of a method frame.
//!
//! ```text
//!   | class id u16 | method id u16 | arguments, packed in the order of the specification |
//! ```
//!
//! The structs (one per method, named `ClassMethod`) and [`Method`] over them are generated: they are
//! the specification's tables. How each type is read and written is in `reader` and `writer`.

use std::fmt;

use crate::erlang::write_term;
use crate::reader::{ArgFault, ArgReader, Reader};
use crate::writer::{ArgWriter, all_or_nothing};
use crate::{EncodeError, ReplyCode, WireError};

pub use crate::generated::*;

impl<'a> Method<'a> {
    /// Decodes the payload of a method frame. Nothing is copied; tables are checked completely.
    ///
    /// # Errors
    /// - 501 `cannot decode <<…>>` if the arguments are too short or followed by more,
    /// - 501 `Malformed UTF-8 in shortstr`,
    /// - 502 that names the flaw of a table (see [`RawTable::parse`](crate::RawTable::parse)),
    /// - 503 `unimplemented method` if class or method are unknown.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Method<'a>, WireError> {
        let mut ids = Reader::new(payload);
        let (Ok(class_id), Ok(method_id)) = (ids.short(), ids.short()) else {
            return Err(no_ids(payload));
        };
        let mut args = ArgReader::new(ids.rest());
        match Method::read(class_id, method_id, &mut args) {
            Some(Ok(method)) if args.finish().is_ok() => Ok(method),
            Some(Ok(_)) => Err(blame(ArgFault::Truncated, ids.rest(), class_id, method_id)),
            Some(Err(fault)) => Err(blame(fault, ids.rest(), class_id, method_id)),
            None => Err(unknown(class_id, method_id)),
        }
    }

    /// Appends the payload of a method frame.
    ///
    /// # Errors
    /// A short string above 255 octets; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        all_or_nothing(out, |out| {
            out.extend_from_slice(&self.class_id().to_be_bytes());
            out.extend_from_slice(&self.method_id().to_be_bytes());
            self.write(&mut ArgWriter::new(out))
        })
    }

    /// The class's number.
    pub fn class_id(&self) -> u16 {
        self.signature().class_id
    }

    /// The method's number within its class.
    pub fn method_id(&self) -> u16 {
        self.signature().method_id
    }

    /// The method's name as the specification writes it, e.g. `queue.declare-ok`.
    pub fn name(&self) -> &'static str {
        self.signature().name
    }

    /// Whether a content header and body follow the method.
    pub fn has_content(&self) -> bool {
        self.signature().has_content
    }
}

/// What is the same for all values of a method.
pub(crate) struct Signature {
    pub(crate) class_id: u16,
    pub(crate) method_id: u16,
    pub(crate) name: &'static str,
    pub(crate) has_content: bool,
}

/// Stands for octets that must not be logged.
struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for ConnectionStartOk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionStartOk")
            .field("client_properties", &self.client_properties)
            .field("mechanism", &self.mechanism)
            .field("response", &Redacted)
            .field("locale", &self.locale)
            .finish()
    }
}

impl fmt::Debug for ConnectionSecureOk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSecureOk").field("response", &Redacted).finish()
    }
}

impl fmt::Debug for ConnectionUpdateSecret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionUpdateSecret")
            .field("new_secret", &Redacted)
            .field("reason", &self.reason)
            .finish()
    }
}

#[cold]
fn no_ids(payload: &[u8]) -> WireError {
    crate::RawFrame { kind: crate::FRAME_METHOD, channel: 0, payload }.unknown()
}

#[cold]
fn unknown(class_id: u16, method_id: u16) -> WireError {
    WireError::new(ReplyCode::COMMAND_INVALID, "unimplemented method").with_method(class_id, method_id)
}

#[cold]
fn blame(fault: ArgFault, args: &[u8], class_id: u16, method_id: u16) -> WireError {
    let error = match fault {
        ArgFault::Truncated => {
            WireError::new(ReplyCode::FRAME_ERROR, cannot_decode(args, class_id, method_id))
        }
        // RabbitMQ finds this out after decoding and blames no method.
        ArgFault::Utf8 => return WireError::new(ReplyCode::FRAME_ERROR, "Malformed UTF-8 in shortstr"),
        ArgFault::Table(fault) => fault.into_wire_error(),
    };
    error.with_method(class_id, method_id)
}

/// RabbitMQ quotes all arguments. A text that may be logged must not quote a password, though.
fn cannot_decode(args: &[u8], class_id: u16, method_id: u16) -> String {
    let carries_secret = class_id == crate::class_id::CONNECTION && matches!(method_id, 11 | 21 | 70);
    if carries_secret {
        "cannot decode <<...>>".to_owned()
    } else {
        format!("cannot decode {}", write_term(args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(payload: &[u8], code: ReplyCode, text: &str, ids: (u16, u16)) {
        let error = Method::decode(payload).unwrap_err();
        assert_eq!((error.code, error.text.as_ref()), (code, text), "{payload:?}");
        assert_eq!((error.class_id, error.method_id), ids);
    }

    #[test]
    fn malformed_arguments_are_refused_in_rabbitmqs_words() {
        let frame_error = ReplyCode::FRAME_ERROR;
        check_refused(b"", frame_error, "type 1, all octets = <<>>: unknown_frame", (0, 0));
        check_refused(b"\0\x14\0", frame_error, "type 1, all octets = <<0,20,0>>: unknown_frame", (0, 0));
        check_refused(b"\0\x32\0\x0a\0\0\x01q", frame_error, "cannot decode <<0,0,1,113>>", (50, 10));
        check_refused(b"\0\x14\0\x14\x01\x02", frame_error, "cannot decode <<1,2>>", (20, 20));
        check_refused(b"\0\x5a\0\x0a\0", frame_error, "cannot decode <<0>>", (90, 10));
        let utf8 = "Malformed UTF-8 in shortstr";
        check_refused(b"\0\x32\0\x1e\0\0\x02a\xff\0", frame_error, utf8, (0, 0));
    }

    #[test]
    fn unknown_methods_are_unimplemented() {
        let command_invalid = ReplyCode::COMMAND_INVALID;
        check_refused(b"\0\x63\0\x0a", command_invalid, "unimplemented method", (99, 10));
        check_refused(b"\0\x32\0\x63", command_invalid, "unimplemented method", (50, 99));
    }

    #[test]
    fn unsound_tables_are_syntax_errors() {
        let text = "unknown field table type 'Z' (octet 90)";
        let declare = b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\x03\x01kZ";
        check_refused(declare, ReplyCode::SYNTAX_ERROR, text, (50, 10));
    }

    #[test]
    fn no_secret_is_shown() {
        for payload in [
            &b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x06canary\x05en_US"[..],
            b"\0\x0a\0\x15\0\0\0\x06canary",
            b"\0\x0a\0\x46\0\0\0\x06canary\0",
        ] {
            let method = Method::decode(payload).unwrap();
            assert!(!format!("{method:?}").contains("canary"));
            let error = Method::decode(&[payload, b"\0"].concat()).unwrap_err();
            assert_eq!(error.text, "cannot decode <<...>>");
        }
    }

    #[test]
    fn the_unbind_oks_are_numbered_as_on_the_wire() {
        assert_eq!(Method::from(ExchangeUnbindOk).method_id(), 51);
        assert_eq!(Method::from(QueueUnbindOk).method_id(), 51);
        let publish = Method::from(BasicPublish::default());
        assert_eq!((publish.name(), publish.has_content()), ("basic.publish", true));
    }
}
