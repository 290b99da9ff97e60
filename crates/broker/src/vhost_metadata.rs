//! What a virtual host is called and meant for, beside its name.
//!
//! ```text
//!   record:  version u8 = 1 │ flags u8 │ description │ type │ tag │ tag │ …        text: length u32 │ octets; numbers little-endian
//! ```
//!
//! A record without an octet is one of a virtual host of which nothing was said.

use leveret_wire::{FieldTable, FieldValue};

use crate::parameter_error::ParameterError;
use crate::vhost::VHost;

const QUEUE_TYPE: &str = "x-queue-type";
const VERSION: u8 = 1;
const PROTECTED: u8 = 1;
/// The longest description, and the longest tag.
const TEXT_MAX_BYTES: usize = 1024;
const TAGS_MAX: usize = 32;

/// What was said of a virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VHostMetadata {
    /// For people; at most 1024 octets.
    pub description: String,
    /// For tools; at most 32 of at most 1024 octets.
    pub tags: Vec<String>,
    /// The type of durable queues whose declaration names none: `classic`, `quorum` or `stream`.
    pub default_queue_type: Option<String>,
    /// It cannot be deleted.
    pub is_protected: bool,
}

impl VHostMetadata {
    /// Refuses what is too long, and types of queues that there are not.
    ///
    /// # Errors
    /// [`ParameterError::Invalid`], and what is wrong.
    pub fn check(&self) -> Result<(), ParameterError> {
        let texts = self.tags.iter().chain([&self.description]);
        if self.tags.len() > TAGS_MAX || texts.into_iter().any(|text| text.len() > TEXT_MAX_BYTES) {
            let reason =
                format!("a virtual host has at most {TAGS_MAX} tags and texts of {TEXT_MAX_BYTES} octets");
            return Err(ParameterError::Invalid(reason));
        }
        match self.default_queue_type.as_deref() {
            None | Some("classic" | "quorum" | "stream") => Ok(()),
            Some(other) => {
                Err(ParameterError::Invalid(format!("default_queue_type '{other}' is no type of queue")))
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let queue_type = self.default_queue_type.as_deref().unwrap_or_default();
        let mut record = vec![VERSION, if self.is_protected { PROTECTED } else { 0 }];
        for text in
            [self.description.as_str(), queue_type].into_iter().chain(self.tags.iter().map(String::as_str))
        {
            record.extend_from_slice(&(text.len() as u32).to_le_bytes());
            record.extend_from_slice(text.as_bytes());
        }
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        if record.is_empty() {
            return Some(Self::default());
        }
        let ([VERSION, flags], mut rest) = record.split_first_chunk::<2>()? else { return None };
        let mut texts = Vec::new();
        while !rest.is_empty() {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            texts.push(std::str::from_utf8(text).ok()?.to_owned());
            rest = after;
        }
        let mut texts = texts.into_iter();
        let (description, queue_type) = (texts.next()?, texts.next()?);
        Some(Self {
            description,
            tags: texts.collect(),
            default_queue_type: Some(queue_type).filter(|name| !name.is_empty()),
            is_protected: flags & PROTECTED != 0,
        })
    }
}

impl VHost {
    /// The arguments of a declaration, with the type of the queue where it names none. Only what lives on its own can be of
    /// any type (RabbitMQ's rule).
    pub(crate) fn with_queue_type(&self, mut arguments: FieldTable, lives_on: bool) -> FieldTable {
        let metadata = self.metadata();
        if let (Some(name), true, None) = (&metadata.default_queue_type, lives_on, arguments.get(QUEUE_TYPE))
        {
            arguments.push(QUEUE_TYPE, FieldValue::from(name.as_str()));
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_the_same_metadata_back() {
        let check = |metadata: VHostMetadata| {
            let record = metadata.encode();
            assert_eq!(VHostMetadata::decode(&record), Some(metadata));
        };
        check(VHostMetadata::default());
        let some = VHostMetadata {
            description: "für alle".into(),
            tags: vec!["a".into(), String::new()],
            default_queue_type: Some("quorum".into()),
            is_protected: true,
        };
        check(some.clone());
        check(VHostMetadata { default_queue_type: None, tags: Vec::new(), ..some.clone() });
        assert_eq!(VHostMetadata::decode(&[2, 0]), None);
        assert_eq!(VHostMetadata::decode(&some.encode()[..9]), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |metadata: VHostMetadata, expected: bool| assert_eq!(metadata.check().is_ok(), expected);
        check(VHostMetadata { default_queue_type: Some("stream".into()), ..VHostMetadata::default() }, true);
        check(VHostMetadata { default_queue_type: Some("nope".into()), ..VHostMetadata::default() }, false);
        check(VHostMetadata { description: "x".repeat(1025), ..VHostMetadata::default() }, false);
        check(VHostMetadata { tags: vec![String::new(); 33], ..VHostMetadata::default() }, false);
    }
}
