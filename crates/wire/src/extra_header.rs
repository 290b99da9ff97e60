//! One more header in properties that were received: spliced in, nothing else is decoded or copied twice.
//!
//! ```text
//!   flags │ values before │ u32 │ entries            │ values behind
//!     │          │           │        └─ + key, value       │
//!     ▼          ▼           ▼                 ▼             ▼
//!   flags │ values before │ u32 │ entries │ key, value │ values behind
//! ```

use crate::EncodeError;
use crate::properties::RawProperties;
use crate::reader::Reader;
use crate::table::RawTable;
use crate::value::{FieldValue, skip_value, write_value};
use crate::writer::{write_short_octets, write_sized};

impl RawProperties<'_> {
    /// Writes these properties with one more header to `out`, which is cleared first. A header of that name is
    /// replaced, the new one comes last. Properties that cannot be read are left out.
    ///
    /// # Errors
    /// A key above 255 octets or a value without a form on the wire; `out` is of no use then.
    pub fn with_header<'o>(
        self,
        key: &str,
        value: &FieldValue,
        out: &'o mut Vec<u8>,
    ) -> Result<RawProperties<'o>, EncodeError> {
        let around = self.around_headers().unwrap_or_default();
        out.clear();
        out.extend_from_slice(&around.flags.to_be_bytes());
        out.extend_from_slice(around.before);
        write_sized(out, |out| {
            write_others(out, around.headers, key.as_bytes());
            write_short_octets(out, key.as_bytes())?;
            write_value(out, value, 1)
        })?;
        out.extend_from_slice(around.behind);
        Ok(RawProperties::from_validated(out))
    }
}

/// Copies the entries of a table but those with this key; in one piece when there is none.
fn write_others(out: &mut Vec<u8>, table: RawTable<'_>, key: &[u8]) {
    let octets = table.as_bytes();
    let mut reader = Reader::new(octets);
    let mut copied = 0;
    while !reader.is_at_end() {
        let begin = octets.len() - reader.rest().len();
        let Ok(found) = reader.short_octets() else { break };
        if skip_value(&mut reader, 1).is_err() {
            break;
        }
        if found == key {
            out.extend_from_slice(&octets[copied..begin]);
            copied = octets.len() - reader.rest().len();
        }
    }
    out.extend_from_slice(&octets[copied..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FieldTable, Properties};

    fn check(headers: Option<FieldTable>, expected: FieldTable) {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let properties =
            Properties { content_type: text("a"), headers, cluster_id: text("z"), ..Properties::default() };
        let octets = properties.encode().unwrap();
        let mut out = vec![1, 2, 3];
        let raw = RawProperties::from_validated(&octets);
        raw.with_header("k", &FieldValue::I64(7), &mut out).unwrap();
        let expected = Properties { headers: Some(expected), ..properties };
        assert_eq!(RawProperties::parse(&out).unwrap().to_properties(), expected);
        assert_eq!(out, expected.encode().unwrap());
    }

    #[test]
    fn a_header_is_added_and_nothing_else_changes() {
        let table = |pairs: &[(&str, i64)]| {
            FieldTable(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect())
        };
        check(None, table(&[("k", 7)]));
        check(Some(table(&[])), table(&[("k", 7)]));
        check(Some(table(&[("a", 1), ("b", 2)])), table(&[("a", 1), ("b", 2), ("k", 7)]));
        check(Some(table(&[("k", 1)])), table(&[("k", 7)]));
        check(Some(table(&[("a", 1), ("k", 1), ("b", 2), ("k", 3)])), table(&[("a", 1), ("b", 2), ("k", 7)]));
    }

    #[test]
    fn damaged_properties_do_no_harm() {
        let headers = Some(FieldTable(vec![("a".into(), 1.into()), ("b".into(), "text".into())]));
        let octets =
            Properties { headers, message_id: Some(vec![1]), ..Properties::default() }.encode().unwrap();
        for end in 0..octets.len() {
            let mut out = Vec::new();
            let damaged = RawProperties::from_validated(&octets[..end]);
            damaged.with_header("k", &FieldValue::I64(7), &mut out).unwrap();
            assert!(RawProperties::from_validated(&out).headers().is_some(), "cut at {end}");
        }
    }
}
