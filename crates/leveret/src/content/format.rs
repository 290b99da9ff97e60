//! The formats a body can have, and the names that others have for them.

/// How a value becomes octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// `application/json`
    #[default]
    Json,
    /// `application/msgpack`
    MessagePack,
    /// `application/cbor`
    Cbor,
    /// `application/octet-stream`: no format at all.
    Bytes,
}

impl Format {
    /// The content type to write.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::MessagePack => "application/msgpack",
            Format::Cbor => "application/cbor",
            Format::Bytes => "application/octet-stream",
        }
    }

    /// The format that a content type names, in any case and with any parameters. Also understood are `text/json`,
    /// everything that ends with `+json`, and Kombu's `application/x-msgpack`.
    pub fn of(content_type: &str) -> Option<Format> {
        let essence = essence(content_type).to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" => Some(Format::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
                Some(Format::MessagePack)
            }
            "application/cbor" => Some(Format::Cbor),
            "application/octet-stream" => Some(Format::Bytes),
            other => other.ends_with("+json").then_some(Format::Json),
        }
    }

    /// The name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Json => "JSON",
            Format::MessagePack => "MessagePack",
            Format::Cbor => "CBOR",
            Format::Bytes => "octets",
        }
    }
}

/// A content type without its parameters.
pub(super) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_formats() {
        for (name, format) in [
            ("application/json", Some(Format::Json)),
            ("APPLICATION/JSON;charset=utf-8", Some(Format::Json)),
            ("application/problem+json", Some(Format::Json)),
            ("text/json", Some(Format::Json)),
            ("application/x-msgpack", Some(Format::MessagePack)),
            ("application/msgpack", Some(Format::MessagePack)),
            (" application/cbor ", Some(Format::Cbor)),
            ("application/octet-stream", Some(Format::Bytes)),
            ("application/x-java-serialized-object", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(Format::of(name), format, "{name}");
        }
        for format in [Format::Json, Format::MessagePack, Format::Cbor, Format::Bytes] {
            assert_eq!(Format::of(format.content_type()), Some(format));
        }
    }
}
