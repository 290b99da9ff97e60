//! Field tables: the typed key/value lists of arguments, headers and peer properties.
//!
//! ```text
//!  | size of all entries u32 | entry | entry | …        an entry:  | key shortstr | tag octet | value |
//!  └─ not part of RawTable ──┘└─ RawTable(&[u8]) ─┘
//! ```
//!
//! A broker mostly passes tables on, so the received form is [`RawTable`]: the octets, checked once.
//! [`FieldTable`] is the owned form for building and changing one. Both keep order and duplicates.
//!
//! Keys must be UTF-8 (a table with another key is refused with 502, although RabbitMQ lets it pass):
//! a key that one client library cannot decode would disable every consumer written with it.

use crate::reader::{Reader, Truncated};
use crate::value::{read_value, skip_value, write_value};
use crate::writer::{all_or_nothing, write_short_octets};
use crate::{EncodeError, ReplyCode, WireError};

pub use crate::value::FieldValue;

/// How deep tables and arrays may be nested, the outermost counting as 1. RabbitMQ has no limit; one
/// is needed because a stack overflow would end the whole process.
pub const MAX_TABLE_DEPTH: usize = 32;

/// A table as received: octets that are known to be a sound table, without their four-octet length.
///
/// Soundness is checked by [`RawTable::parse`]. Reading stops silently at the first flaw if the octets
/// came from elsewhere ([`RawProperties::from_validated`](crate::RawProperties::from_validated)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawTable<'a>(&'a [u8]);

impl<'a> RawTable<'a> {
    /// Checks the octets of a table (without its length): every tag is known, every value is complete,
    /// every key is UTF-8, nesting is at most [`MAX_TABLE_DEPTH`].
    ///
    /// # Errors
    /// 502, with a text that names the flaw. (RabbitMQ's decoder crashes and the connection just ends.)
    pub fn parse(octets: &'a [u8]) -> Result<RawTable<'a>, WireError> {
        RawTable::checked(octets).map_err(TableFault::into_wire_error)
    }

    pub(crate) fn checked(octets: &'a [u8]) -> Result<RawTable<'a>, TableFault> {
        check_entries(octets, 1)?;
        Ok(RawTable(octets))
    }

    pub(crate) fn unchecked(octets: &'a [u8]) -> RawTable<'a> {
        RawTable(octets)
    }

    /// The owned form. Costs an allocation per key and string.
    pub fn to_table(self) -> FieldTable {
        read_entries(self.0, 1)
    }

    /// The first value with this key.
    pub fn find(self, key: &str) -> Option<FieldValue> {
        let mut reader = Reader::new(self.0);
        while !reader.is_at_end() {
            if reader.short_octets().ok()? == key.as_bytes() {
                return read_value(&mut reader, 1).ok();
            }
            skip_value(&mut reader, 1).ok()?;
        }
        None
    }

    /// Whether the table has no entry.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The octets, without the four-octet length.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// An owned table. Order and duplicates are kept, since both are visible to the receiver.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldTable(pub Vec<(String, FieldValue)>);

impl FieldTable {
    /// A table without entries.
    pub fn new() -> FieldTable {
        FieldTable::default()
    }

    /// The first value with this key.
    pub fn get(&self, key: &str) -> Option<&FieldValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Sets the first entry with this key, or appends one.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<FieldValue>) {
        let key = key.into();
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((key, value.into())),
        }
    }

    /// Appends an entry, even if the key exists.
    pub fn push(&mut self, key: impl Into<String>, value: impl Into<FieldValue>) {
        self.0.push((key.into(), value.into()));
    }

    /// Removes every entry with this key; returns the first one's value.
    pub fn remove(&mut self, key: &str) -> Option<FieldValue> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(name, _)| name != key);
        Some(value)
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (String, FieldValue)> {
        self.0.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the octets of the table, without the four-octet length.
    ///
    /// # Errors
    /// A key above 255 octets, an integer without a wire type, or nesting deeper than
    /// [`MAX_TABLE_DEPTH`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        all_or_nothing(out, |out| write_entries(out, self, 1))
    }

    /// The octets of the table, without the four-octet length: what [`RawTable::parse`] accepts.
    ///
    /// # Errors
    /// As [`FieldTable::encode`].
    pub fn raw_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.encode(&mut out)?;
        Ok(out)
    }
}

impl<K: Into<String>, V: Into<FieldValue>> FromIterator<(K, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> FieldTable {
        FieldTable(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<K: Into<String>, V: Into<FieldValue>, const N: usize> From<[(K, V); N]> for FieldTable {
    fn from(entries: [(K, V); N]) -> FieldTable {
        entries.into_iter().collect()
    }
}

impl<'t> IntoIterator for &'t FieldTable {
    type Item = &'t (String, FieldValue);
    type IntoIter = std::slice::Iter<'t, (String, FieldValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What makes octets no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFault {
    Truncated,
    UnknownTag(u8),
    KeyUtf8,
    TooDeep,
}

impl TableFault {
    pub(crate) fn into_wire_error(self) -> WireError {
        let code = ReplyCode::SYNTAX_ERROR;
        match self {
            TableFault::Truncated => WireError::new(code, "field table ends within an entry"),
            TableFault::KeyUtf8 => WireError::new(code, "Malformed UTF-8 in field table key"),
            TableFault::UnknownTag(tag) => {
                let name = char::from(tag).escape_default();
                WireError::new(code, format!("unknown field table type '{name}' (octet {tag})"))
            }
            TableFault::TooDeep => {
                WireError::new(code, format!("field table nested deeper than {MAX_TABLE_DEPTH} levels"))
            }
        }
    }
}

impl From<Truncated> for TableFault {
    fn from(_: Truncated) -> TableFault {
        TableFault::Truncated
    }
}

/// Checks all entries of a table at this depth.
pub(crate) fn check_entries(octets: &[u8], depth: usize) -> Result<(), TableFault> {
    if depth > MAX_TABLE_DEPTH {
        return Err(TableFault::TooDeep);
    }
    let mut reader = Reader::new(octets);
    while !reader.is_at_end() {
        let key = reader.short_octets()?;
        std::str::from_utf8(key).map_err(|_| TableFault::KeyUtf8)?;
        skip_value(&mut reader, depth)?;
    }
    Ok(())
}

/// Reads entries until the end or, in octets that were never checked, the first flaw.
pub(crate) fn read_entries(octets: &[u8], depth: usize) -> FieldTable {
    let mut table = FieldTable::default();
    let mut reader = Reader::new(octets);
    while let Some(entry) = read_entry(&mut reader, depth) {
        table.0.push(entry);
    }
    table
}

fn read_entry(reader: &mut Reader<'_>, depth: usize) -> Option<(String, FieldValue)> {
    let key = std::str::from_utf8(reader.short_octets().ok()?).ok()?;
    Some((key.to_owned(), read_value(reader, depth).ok()?))
}

pub(crate) fn write_entries(out: &mut Vec<u8>, table: &FieldTable, depth: usize) -> Result<(), EncodeError> {
    if depth > MAX_TABLE_DEPTH {
        return Err(EncodeError::TableTooDeep);
    }
    for (key, value) in table {
        write_short_octets(out, key.as_bytes())?;
        write_value(out, value, depth)?;
    }
    Ok(())
}
