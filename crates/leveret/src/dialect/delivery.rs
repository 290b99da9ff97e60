//! A message as received, with the questions that dialects ask it.

use bytes::Bytes;
use leveret_wire::{FieldValue, Properties};
use serde_json::value::RawValue;

use super::{Dialect, Envelope, ReplyAddress, SHORT_MAX_BYTES, Wrapper};
use crate::Payload;
use crate::content::json_text;
use crate::profile::PERSISTENT;
use crate::trace::TraceContext;

/// Kombu says how it compressed in this header, not in the content encoding.
const KOMBU_COMPRESSION: &str = "compression";

pub(super) struct Delivery<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) properties: &'a Properties,
    pub(super) body: &'a Bytes,
}

impl Delivery<'_> {
    /// The body and what it is said to be.
    pub(super) fn payload(&self) -> Payload {
        let properties = self.properties;
        let encoding = self.kombu_compression().map(str::to_owned);
        Payload {
            content_type: properties.content_type.as_deref().map(lossy),
            content_encoding: encoding.or_else(|| properties.content_encoding.as_deref().map(lossy)),
            body: self.body.clone(),
        }
    }

    /// The body as JSON text, whatever its format and compression.
    pub(super) fn json(&self) -> Option<Bytes> {
        json_text(&self.payload()).ok()
    }

    /// An envelope with everything that is the same in all dialects.
    pub(super) fn envelope(&self, dialect: Dialect, wrapper: Wrapper) -> Envelope {
        let trace = self.properties.headers.as_ref().and_then(TraceContext::from_headers);
        Envelope {
            dialect,
            method: None,
            payload: self.payload(),
            reply: self.reply_queue().map(ReplyAddress::queue),
            correlation_id: self.correlation_id(),
            persistent: self.properties.delivery_mode == Some(PERSISTENT),
            trace_id: trace.map(|trace| trace.trace_id()),
            wrapper,
        }
    }

    /// The property `reply_to`. One that is empty or no text is none: nobody can be answered there.
    pub(super) fn reply_queue(&self) -> Option<&str> {
        text(self.properties.reply_to.as_deref()).filter(|name| fits(name.as_bytes()))
    }

    /// The property `type`.
    pub(super) fn kind(&self) -> Option<&str> {
        text(self.properties.kind.as_deref())
    }

    pub(super) fn header(&self, name: &str) -> Option<&FieldValue> {
        self.properties.headers.as_ref()?.get(name)
    }

    /// A header's text, whether it is written as text or as octets.
    pub(super) fn header_text(&self, name: &str) -> Option<&str> {
        match self.header(name)? {
            FieldValue::LongString(octets) | FieldValue::Bytes(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// RabbitMQ's own direct reply-to example sends only a message id, and expects it back as correlation id.
    fn correlation_id(&self) -> Option<Vec<u8>> {
        let id = self.properties.correlation_id.as_ref().or(self.properties.message_id.as_ref());
        id.filter(|id| fits(id)).cloned()
    }

    /// The compression that Kombu names, in the words of a content encoding. Its gzip is zlib's container.
    fn kombu_compression(&self) -> Option<&str> {
        match self.header_text(KOMBU_COMPRESSION)? {
            "application/x-gzip" => Some("deflate"),
            "application/zstd" => Some("zstd"),
            other => other.starts_with("application/").then_some(other),
        }
    }
}

/// The same payload with a part of its JSON body, without copying if the part lies in `whole`.
pub(super) fn part(whole: &Bytes, part: &RawValue) -> Payload {
    Payload::new("application/json", whole.slice_ref(part.get().as_bytes()))
}

/// Not longer than a text property can be: in a program of ours it might be.
pub(super) fn fits(octets: &[u8]) -> bool {
    octets.len() <= SHORT_MAX_BYTES
}

fn text(octets: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(octets?).ok().filter(|text| !text.is_empty())
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
