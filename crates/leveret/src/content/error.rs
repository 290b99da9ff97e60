//! Why a body is not what it should be.

use std::fmt;

use super::Format;

/// How much of a stranger's text goes into an error.
const QUOTED_MAX: usize = 80;
/// How much of a decoder's explanation does.
const REASON_MAX: usize = 200;

/// Why a value does not become a body, or a body not a value. One line that a caller can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentError {
    /// Sender's fault: a content type nobody here speaks.
    UnknownType {
        /// As sent, cut to 80 characters.
        content_type: String,
    },
    /// Sender's fault: a content encoding nobody here speaks.
    UnknownEncoding {
        /// As sent, cut to 80 characters.
        content_encoding: String,
    },
    /// Sender's fault: the body is not of its type, or has another shape than the receiver expects.
    Malformed {
        /// What it should be.
        format: Format,
        /// What the decoder says.
        reason: String,
    },
    /// Sender's fault: the compressed body is damaged.
    Damaged {
        /// `gzip`, `zstd` or `deflate`.
        encoding: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// The body is larger than it may be once decompressed.
    TooLarge {
        /// The limit it exceeds, in octets.
        limit_bytes: usize,
    },
    /// Our fault: the value has no form in this format, e.g. a number as octets.
    Unsupported {
        /// The format.
        format: Format,
        /// What the encoder says.
        reason: String,
    },
    /// Our fault: this program was built without that format.
    FeatureMissing {
        /// The feature of the crate `leveret`.
        feature: &'static str,
    },
}

impl ContentError {
    pub(super) fn unknown_type(content_type: &str) -> ContentError {
        ContentError::UnknownType { content_type: quoted(content_type, QUOTED_MAX) }
    }

    pub(super) fn unknown_encoding(content_encoding: &str) -> ContentError {
        ContentError::UnknownEncoding { content_encoding: quoted(content_encoding, QUOTED_MAX) }
    }

    pub(super) fn malformed(format: Format, reason: impl fmt::Display) -> ContentError {
        ContentError::Malformed { format, reason: quoted(&reason.to_string(), REASON_MAX) }
    }

    #[cfg(feature = "compression")]
    pub(super) fn damaged(encoding: &'static str, reason: impl fmt::Display) -> ContentError {
        ContentError::Damaged { encoding, reason: quoted(&reason.to_string(), REASON_MAX) }
    }

    pub(super) fn unsupported(format: Format, reason: impl fmt::Display) -> ContentError {
        ContentError::Unsupported { format, reason: quoted(&reason.to_string(), REASON_MAX) }
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentError::UnknownType { content_type } => write!(
                f,
                "content type {content_type} is not understood; understood are application/json, \
                 application/msgpack, application/cbor, application/octet-stream"
            ),
            ContentError::UnknownEncoding { content_encoding } => write!(
                f,
                "content encoding {content_encoding} is not understood; understood are gzip, zstd, deflate, utf-8"
            ),
            ContentError::Malformed { format, reason } => {
                write!(f, "the body is not {} as expected: {reason}", format.name())
            }
            ContentError::Damaged { encoding, reason } => {
                write!(f, "the {encoding} body does not decompress: {reason}")
            }
            ContentError::TooLarge { limit_bytes } => {
                write!(f, "the body is larger than {limit_bytes} octets when decompressed")
            }
            ContentError::Unsupported { format, reason } => {
                write!(f, "the value has no form in {}: {reason}", format.name())
            }
            ContentError::FeatureMissing { feature } => {
                write!(f, "this program was built without the feature {feature} of leveret")
            }
        }
    }
}

impl std::error::Error for ContentError {}

/// Foreign text for a log line: printable, and not endless.
fn quoted(text: &str, chars_max: usize) -> String {
    let mut quoted: String = text.chars().take(chars_max).flat_map(escaped).collect();
    if text.chars().nth(chars_max).is_some() {
        quoted.push('…');
    }
    quoted
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let control = c.is_control().then(|| c.escape_default());
    let plain = control.is_none().then_some(c);
    control.into_iter().flatten().chain(plain)
}
