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
        read_value(&mut self.behind(key)?, 1).ok()
    }

    /// The table under this key, if the first value there is one.
    pub fn find_table(self, key: &str) -> Option<RawTable<'a>> {
        self.find_octets(b'F', key).map(RawTable)
    }

    /// The text under this key, if the first value there is one.
    pub fn find_str(self, key: &str) -> Option<&'a str> {
        std::str::from_utf8(self.find_octets(b'S', key)?).ok()
    }

    /// Whether there is something true under this key, if the first value there is a bool.
    pub fn find_bool(self, key: &str) -> Option<bool> {
        let mut reader = self.behind(key)?;
        (reader.octet().ok()? == b't').then(|| reader.octet().ok()).flatten().map(|octet| octet != 0)
    }

    fn find_octets(self, tag: u8, key: &str) -> Option<&'a [u8]> {
        let mut reader = self.behind(key)?;
        if reader.octet().ok()? != tag {
            return None;
        }
        reader.long_octets().ok()
    }

    /// What follows the first such key.
    fn behind(self, key: &str) -> Option<Reader<'a>> {
        let mut reader = Reader::new(self.0);
        while !reader.is_at_end() {
            if reader.short_octets().ok()? == key.as_bytes() {
                return Some(reader);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Far beyond the limit. Building them is quadratic, which Miri does not finish with 20,000.
    const MANY_LEVELS: usize = if cfg!(miri) { 500 } else { 20_000 };

    fn check_refused(octets: &[u8], text: &str) {
        let error = RawTable::parse(octets).unwrap_err();
        assert_eq!((error.code, error.text.as_ref()), (ReplyCode::SYNTAX_ERROR, text), "{octets:?}");
    }

    /// Tables or arrays within each other, `depth` levels counting the outermost table.
    fn nested(tag: u8, depth: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        for level in 1..depth {
            let mut outer = if tag == b'F' || level == depth - 1 { vec![0, tag] } else { vec![tag] };
            outer.extend_from_slice(&(octets.len() as u32).to_be_bytes());
            outer.append(&mut octets);
            octets = outer;
        }
        octets
    }

    #[test]
    fn values_are_found_without_reading_the_others() {
        let inner = FieldTable::from([("here", true)]);
        let mut table = FieldTable::from([("name", "hare")]);
        table.push("inner", FieldValue::Table(inner.clone()));
        table.push("name", "second");
        let octets = table.raw_bytes().unwrap();
        let raw = RawTable::parse(&octets).unwrap();
        assert_eq!(raw.find_table("inner").map(RawTable::to_table), Some(inner));
        assert_eq!(
            (raw.find_str("name"), raw.find_str("inner"), raw.find_str("no")),
            (Some("hare"), None, None)
        );
        assert!(raw.find_table("name").is_none() && raw.find_table("no").is_none());
        assert_eq!(raw.find_table("inner").and_then(|inner| inner.find_bool("here")), Some(true));
    }

    #[test]
    fn flaws_are_named() {
        let ends = "field table ends within an entry";
        check_refused(&[1], ends);
        check_refused(b"\x01k", ends);
        check_refused(b"\x01kI\0\0\0", ends);
        check_refused(b"\x01kS\xff\xff\xff\xff", ends);
        check_refused(b"\x01kA\0\0\0\x02I\0", ends);
        check_refused(b"\x01kF\0\0\0\x01\x01", ends);
        check_refused(b"\x01kZ", "unknown field table type 'Z' (octet 90)");
        check_refused(b"\x01k\xff", "unknown field table type '\\u{ff}' (octet 255)");
        check_refused(b"\x01kA\0\0\0\x01\0", "unknown field table type '\\u{0}' (octet 0)");
        check_refused(b"\x01\xffV", "Malformed UTF-8 in field table key");
    }

    #[test]
    fn nesting_has_a_limit_in_both_directions() {
        for tag in [b'F', b'A'] {
            let deepest = nested(tag, MAX_TABLE_DEPTH);
            let table = RawTable::parse(&deepest).unwrap().to_table();
            assert_eq!(table.raw_bytes().unwrap(), deepest);
            check_refused(&nested(tag, MAX_TABLE_DEPTH + 1), "field table nested deeper than 32 levels");
            check_refused(&nested(tag, MANY_LEVELS), "field table nested deeper than 32 levels");
            let too_deep = FieldTable::from([("k", FieldValue::Array(vec![FieldValue::Table(table)]))]);
            assert_eq!(too_deep.raw_bytes(), Err(EncodeError::TableTooDeep));
        }
    }

    #[test]
    fn octets_that_were_never_checked_do_no_harm() {
        let (tables, arrays) = (nested(b'F', MANY_LEVELS), nested(b'A', MANY_LEVELS));
        let garbage = [tables, arrays, vec![255; 300], b"\x01kV\x01".to_vec()];
        for octets in &garbage {
            let table = RawTable::unchecked(octets);
            assert_eq!((table.find("nothing"), table.to_table().len() <= 1), (None, true));
        }
    }

    #[test]
    fn order_and_duplicates_are_kept() {
        let mut table = FieldTable::new();
        table.push("b", 1);
        table.push("a", 2);
        table.push("b", 3);
        let octets = table.raw_bytes().unwrap();
        let raw = RawTable::parse(&octets).unwrap();
        assert_eq!(raw.to_table(), table);
        assert_eq!((raw.find("b"), raw.find("c")), (Some(FieldValue::I32(1)), None));
        table.insert("b", 4);
        assert_eq!((table.get("b"), table.len()), (Some(&FieldValue::I32(4)), 3));
        assert_eq!((table.remove("b"), table.get("b"), table.len()), (Some(FieldValue::I32(4)), None, 1));
    }

    #[test]
    fn a_long_key_is_refused_and_leaves_nothing_behind() {
        let mut out = vec![7];
        let table = FieldTable::from([("k".to_owned(), 1), ("k".repeat(256), 2)]);
        assert_eq!(table.encode(&mut out), Err(EncodeError::ShortStringTooLong { size_bytes: 256 }));
        assert_eq!(out, [7]);
    }
}
