//! The properties of a content: everything a message carries besides its body.
//!
//! ```text
//!   flags u16                                    values, in the order of their flags
//!  +--------------------------------------------+----------------+---------+----
//!  | 15 content-type … 12 delivery-mode … 2 | 0 | shortstr       | octet   | …
//!  +--------------------------------------------+----------------+---------+----
//!    a set flag = the value is present       bit 0 = "more flags": refused; bit 1 = unused: ignored
//! ```
//!
//! They pass through a broker as the octets that were received ([`RawProperties`]), so what a
//! publisher sent is what a consumer gets, to the byte. [`Properties`] is the owned form to build them.

use crate::generated::{BASIC_PROPERTIES, property};
use crate::reader::{Reader, Truncated};
use crate::table::TableFault;
use crate::writer::{write_short_octets, write_sized};
use crate::{EncodeError, FieldTable, RawTable, ReplyCode, WireError};

/// How the value of a property is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PropertyType {
    Octet,
    ShortStr,
    Table,
    Timestamp,
}

/// "Another word of flags follows": never used, and libraries disagree on what it means.
const CONTINUATION: u16 = 1;

/// Properties as received: flags and values. Copying one copies a slice.
///
/// Text properties are octets, not checked for UTF-8: RabbitMQ passes any through, and a consumer
/// must be able to reject such a message instead of losing its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawProperties<'a>(&'a [u8]);

impl Default for RawProperties<'_> {
    fn default() -> Self {
        RawProperties(&[0, 0])
    }
}

impl<'a> RawProperties<'a> {
    /// Checks flags and values completely, the header table included.
    ///
    /// # Errors
    /// 502 if values are missing, incomplete, or followed by anything, or if the table is unsound.
    #[inline]
    pub fn parse(octets: &'a [u8]) -> Result<RawProperties<'a>, WireError> {
        if octets == [0, 0] {
            Ok(RawProperties(octets))
        } else {
            check(octets).map_err(PropertyFault::into_wire_error)
        }
    }

    /// Takes octets that were checked earlier, e.g. read back from a disk. Damaged octets cause no
    /// panic: what cannot be read is `None`.
    pub fn from_validated(octets: &'a [u8]) -> RawProperties<'a> {
        RawProperties(octets)
    }

    /// Flags and values.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// MIME type of the body.
    pub fn content_type(self) -> Option<&'a [u8]> {
        self.short_octets(property::CONTENT_TYPE)
    }

    /// MIME encoding of the body.
    pub fn content_encoding(self) -> Option<&'a [u8]> {
        self.short_octets(property::CONTENT_ENCODING)
    }

    /// The application's headers.
    pub fn headers(self) -> Option<RawTable<'a>> {
        self.value(property::HEADERS)?.long_octets().ok().map(RawTable::unchecked)
    }

    /// 1 transient, 2 persistent.
    #[inline]
    pub fn delivery_mode(self) -> Option<u8> {
        self.value(property::DELIVERY_MODE)?.octet().ok()
    }

    /// 0 (lowest) to 255; RabbitMQ documents 0 to 9.
    pub fn priority(self) -> Option<u8> {
        self.value(property::PRIORITY)?.octet().ok()
    }

    /// What the answer to this request must carry.
    pub fn correlation_id(self) -> Option<&'a [u8]> {
        self.short_octets(property::CORRELATION_ID)
    }

    /// Where to send the answer.
    pub fn reply_to(self) -> Option<&'a [u8]> {
        self.short_octets(property::REPLY_TO)
    }

    /// Time to live: digits, milliseconds.
    pub fn expiration(self) -> Option<&'a [u8]> {
        self.short_octets(property::EXPIRATION)
    }

    /// The application's message id.
    pub fn message_id(self) -> Option<&'a [u8]> {
        self.short_octets(property::MESSAGE_ID)
    }

    /// When the application made the message, in seconds since 1970.
    pub fn timestamp(self) -> Option<u64> {
        self.value(property::TIMESTAMP)?.longlong().ok()
    }

    /// The application's message type (property `type`).
    pub fn kind(self) -> Option<&'a [u8]> {
        self.short_octets(property::TYPE)
    }

    /// The user who published; a broker checks it.
    pub fn user_id(self) -> Option<&'a [u8]> {
        self.short_octets(property::USER_ID)
    }

    /// The application that published.
    pub fn app_id(self) -> Option<&'a [u8]> {
        self.short_octets(property::APP_ID)
    }

    /// Unused, but passed on.
    pub fn cluster_id(self) -> Option<&'a [u8]> {
        self.short_octets(property::CLUSTER_ID)
    }

    /// The owned form.
    pub fn to_properties(self) -> Properties {
        let owned = |octets: Option<&[u8]>| octets.map(<[u8]>::to_vec);
        Properties {
            content_type: owned(self.content_type()),
            content_encoding: owned(self.content_encoding()),
            headers: self.headers().map(RawTable::to_table),
            delivery_mode: self.delivery_mode(),
            priority: self.priority(),
            correlation_id: owned(self.correlation_id()),
            reply_to: owned(self.reply_to()),
            expiration: owned(self.expiration()),
            message_id: owned(self.message_id()),
            timestamp: self.timestamp(),
            kind: owned(self.kind()),
            user_id: owned(self.user_id()),
            app_id: owned(self.app_id()),
            cluster_id: owned(self.cluster_id()),
        }
    }

    /// The header table and what is around it; `None` for octets that were never checked and cannot be read.
    pub(crate) fn around_headers(self) -> Option<AroundHeaders<'a>> {
        let mut reader = Reader::new(self.0);
        let flags = reader.short().ok()?;
        let earlier = flags & !(flag(property::HEADERS) | (flag(property::HEADERS) - 1));
        let values = reader.rest();
        present(earlier).try_for_each(|kind| skip(&mut reader, kind)).ok()?;
        let before = &values[..values.len() - reader.rest().len()];
        let headers = match flags & flag(property::HEADERS) {
            0 => RawTable::default(),
            _ => RawTable::unchecked(reader.long_octets().ok()?),
        };
        Some(AroundHeaders { flags: flags | flag(property::HEADERS), before, headers, behind: reader.rest() })
    }

    fn short_octets(self, index: usize) -> Option<&'a [u8]> {
        self.value(index)?.short_octets().ok()
    }

    /// A reader at the value of the property with this index, if its flag is set. Passes over the
    /// values before it, so the early properties are the cheap ones.
    #[inline]
    fn value(self, index: usize) -> Option<Reader<'a>> {
        let mut reader = Reader::new(self.0);
        let flags = reader.short().ok()?;
        if flags & flag(index) == 0 {
            return None;
        }
        let earlier = flags & !(flag(index) | (flag(index) - 1));
        present(earlier).try_for_each(|kind| skip(&mut reader, kind)).ok()?;
        Some(reader)
    }
}

/// Properties taken apart at their header table.
pub(crate) struct AroundHeaders<'a> {
    /// With the one for headers set.
    pub(crate) flags: u16,
    pub(crate) before: &'a [u8],
    /// Empty when there is none.
    pub(crate) headers: RawTable<'a>,
    pub(crate) behind: &'a [u8],
}

impl Default for AroundHeaders<'_> {
    fn default() -> Self {
        Self { flags: flag(property::HEADERS), before: &[], headers: RawTable::default(), behind: &[] }
    }
}

/// Owned properties, to build a content with. Text properties are octets, so that what was received
/// can be echoed exactly.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<Vec<u8>>,
    /// MIME encoding of the body.
    pub content_encoding: Option<Vec<u8>>,
    /// The application's headers.
    pub headers: Option<FieldTable>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// 0 (lowest) to 255; RabbitMQ documents 0 to 9.
    pub priority: Option<u8>,
    /// What the answer to this request must carry.
    pub correlation_id: Option<Vec<u8>>,
    /// Where to send the answer.
    pub reply_to: Option<Vec<u8>>,
    /// Time to live: digits, milliseconds.
    pub expiration: Option<Vec<u8>>,
    /// The application's message id.
    pub message_id: Option<Vec<u8>>,
    /// When the application made the message, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's message type (property `type`).
    pub kind: Option<Vec<u8>>,
    /// The user who publishes; a broker checks it.
    pub user_id: Option<Vec<u8>>,
    /// The application that publishes.
    pub app_id: Option<Vec<u8>>,
    /// Unused, but passed on.
    pub cluster_id: Option<Vec<u8>>,
}

impl Properties {
    /// Flags and values: what [`RawProperties::parse`] accepts.
    ///
    /// # Errors
    /// A text property or header key above 255 octets, or headers without a form on the wire.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = PropertyWriter::new();
        writer.short_octets(property::CONTENT_TYPE, self.content_type.as_deref())?;
        writer.short_octets(property::CONTENT_ENCODING, self.content_encoding.as_deref())?;
        writer.table(property::HEADERS, self.headers.as_ref())?;
        writer.fixed(property::DELIVERY_MODE, self.delivery_mode.map(|mode| [mode]));
        writer.fixed(property::PRIORITY, self.priority.map(|priority| [priority]));
        writer.short_octets(property::CORRELATION_ID, self.correlation_id.as_deref())?;
        writer.short_octets(property::REPLY_TO, self.reply_to.as_deref())?;
        writer.short_octets(property::EXPIRATION, self.expiration.as_deref())?;
        writer.short_octets(property::MESSAGE_ID, self.message_id.as_deref())?;
        writer.fixed(property::TIMESTAMP, self.timestamp.map(u64::to_be_bytes));
        writer.short_octets(property::TYPE, self.kind.as_deref())?;
        writer.short_octets(property::USER_ID, self.user_id.as_deref())?;
        writer.short_octets(property::APP_ID, self.app_id.as_deref())?;
        writer.short_octets(property::CLUSTER_ID, self.cluster_id.as_deref())?;
        Ok(writer.finish())
    }
}

/// Octets that most messages' properties fit into.
const PROPERTIES_BYTES: usize = 256;

/// Collects values in the order of their flags.
struct PropertyWriter {
    flags: u16,
    out: Vec<u8>,
}

impl PropertyWriter {
    fn new() -> PropertyWriter {
        let mut out = Vec::with_capacity(PROPERTIES_BYTES);
        out.extend_from_slice(&[0, 0]); // where the flags will be
        PropertyWriter { flags: 0, out }
    }

    fn short_octets(&mut self, index: usize, value: Option<&[u8]>) -> Result<(), EncodeError> {
        let Some(value) = value else { return Ok(()) };
        self.flags |= flag(index);
        write_short_octets(&mut self.out, value)
    }

    fn table(&mut self, index: usize, value: Option<&FieldTable>) -> Result<(), EncodeError> {
        let Some(value) = value else { return Ok(()) };
        self.flags |= flag(index);
        write_sized(&mut self.out, |out| value.encode(out))
    }

    fn fixed<const N: usize>(&mut self, index: usize, value: Option<[u8; N]>) {
        if let Some(value) = value {
            self.flags |= flag(index);
            self.out.extend_from_slice(&value);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.out[..2].copy_from_slice(&self.flags.to_be_bytes());
        self.out
    }
}

/// What makes octets no properties.
enum PropertyFault {
    Truncated,
    Trailing,
    Continuation,
    Headers(TableFault),
}

impl PropertyFault {
    #[cold]
    fn into_wire_error(self) -> WireError {
        let text = match self {
            PropertyFault::Truncated => "content properties end within a value",
            PropertyFault::Trailing => "content properties are followed by unknown octets",
            PropertyFault::Continuation => "content properties have more than one word of flags",
            PropertyFault::Headers(fault) => return fault.into_wire_error(),
        };
        WireError::new(ReplyCode::SYNTAX_ERROR, text)
    }
}

impl From<Truncated> for PropertyFault {
    fn from(_: Truncated) -> PropertyFault {
        PropertyFault::Truncated
    }
}

fn check(octets: &[u8]) -> Result<RawProperties<'_>, PropertyFault> {
    let mut reader = Reader::new(octets);
    let flags = reader.short()?;
    if flags & CONTINUATION != 0 {
        return Err(PropertyFault::Continuation);
    }
    for kind in present(flags) {
        match kind {
            PropertyType::Table => {
                RawTable::checked(reader.long_octets()?).map_err(PropertyFault::Headers)?;
            }
            _ => skip(&mut reader, kind)?,
        }
    }
    if reader.is_at_end() { Ok(RawProperties(octets)) } else { Err(PropertyFault::Trailing) }
}

#[inline]
fn skip(reader: &mut Reader<'_>, kind: PropertyType) -> Result<(), Truncated> {
    match kind {
        PropertyType::Octet => reader.octet().map(drop),
        PropertyType::ShortStr => reader.short_octets().map(drop),
        PropertyType::Table => reader.long_octets().map(drop),
        PropertyType::Timestamp => reader.longlong().map(drop),
    }
}

/// The types of the properties whose flags are set, in the order of their values.
#[inline]
fn present(mut flags: u16) -> impl Iterator<Item = PropertyType> {
    std::iter::from_fn(move || {
        let index = flags.leading_zeros() as usize;
        let &kind = BASIC_PROPERTIES.get(index)?;
        flags &= !flag(index);
        Some(kind)
    })
}

/// The flag of the property with this index: the first has the highest bit.
#[inline]
fn flag(index: usize) -> u16 {
    0x8000 >> index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Properties {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        Properties {
            content_type: text("text/plain"),
            content_encoding: text("utf-8"),
            headers: Some(FieldTable::from([("k", 1)])),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some(vec![0xff]),
            reply_to: text("rq"),
            expiration: text("60000"),
            message_id: text(""),
            timestamp: Some(1_700_000_000),
            kind: text("kind"),
            user_id: text("guest"),
            app_id: text("app"),
            cluster_id: text("c"),
        }
    }

    #[test]
    fn all_properties_survive_and_are_found() {
        let octets = all().encode().unwrap();
        assert_eq!(octets[..2], [0xff, 0xfc]);
        let raw = RawProperties::parse(&octets).unwrap();
        assert_eq!(raw.to_properties(), all());
        assert_eq!((raw.delivery_mode(), raw.cluster_id()), (Some(2), Some(&b"c"[..])));
        assert_eq!(raw.headers().and_then(|headers| headers.find("k")), Some(1.into()));
    }

    #[test]
    fn no_property_is_two_octets() {
        assert_eq!(Properties::default().encode().unwrap(), [0, 0]);
        assert_eq!(RawProperties::default().as_bytes(), [0, 0]);
        assert_eq!(RawProperties::parse(&[0, 0]).unwrap().to_properties(), Properties::default());
    }

    fn check_refused(octets: &[u8], text: &str) {
        let error = RawProperties::parse(octets).unwrap_err();
        assert_eq!((error.code, error.text.as_ref()), (ReplyCode::SYNTAX_ERROR, text), "{octets:?}");
    }

    #[test]
    fn flaws_are_named() {
        let ends = "content properties end within a value";
        check_refused(&[], ends);
        check_refused(&[0], ends);
        check_refused(&[0x80, 0], ends);
        check_refused(&[0x80, 0, 2, b'a'], ends);
        check_refused(&[0x20, 0, 0xff, 0xff, 0xff, 0xff], ends);
        check_refused(&[0, 0x40, 1, 2, 3], ends);
        check_refused(&[0, 0, 0], "content properties are followed by unknown octets");
        check_refused(&[0, 1], "content properties have more than one word of flags");
        check_refused(&[0x20, 0, 0, 0, 0, 2, 0, b'Z'], "unknown field table type 'Z' (octet 90)");
    }

    #[test]
    fn the_unused_flag_is_ignored_as_by_rabbitmq() {
        assert_eq!(RawProperties::parse(&[0x10, 2, 1]).unwrap().delivery_mode(), Some(1));
    }

    #[test]
    fn damage_is_absence() {
        let octets = all().encode().unwrap();
        for end in 0..octets.len() {
            let damaged = RawProperties::from_validated(&octets[..end]).to_properties();
            assert_eq!(damaged.cluster_id, None);
        }
    }

    #[test]
    fn a_long_text_is_refused() {
        let properties = Properties { app_id: Some(vec![b'x'; 256]), ..Properties::default() };
        assert_eq!(properties.encode(), Err(EncodeError::ShortStringTooLong { size_bytes: 256 }));
    }
}
