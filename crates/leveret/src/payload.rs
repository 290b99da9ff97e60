//! A body and what it is: what requests and answers carry, whatever they mean.

use bytes::Bytes;

/// Octets with their content type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// `application/json` and the like. Absent: the receiver's guess.
    pub content_type: Option<String>,
    /// `gzip`, `zstd`; a charset means none. Absent: none.
    pub content_encoding: Option<String>,
    /// The octets.
    pub body: Bytes,
}

impl Payload {
    /// Octets of a type.
    pub fn new(content_type: impl Into<String>, body: impl Into<Bytes>) -> Payload {
        Payload { content_type: Some(content_type.into()), content_encoding: None, body: body.into() }
    }

    /// Octets without a type.
    pub fn bytes(body: impl Into<Bytes>) -> Payload {
        Payload { content_type: None, content_encoding: None, body: body.into() }
    }
}
