//! A policy as octets, for the store.
//!
//! ```text
//!   version u8 = 1 │ priority i64 │ pattern │ apply-to │ definition
//!
//!   pattern, apply-to   u32 length │ UTF-8
//!   definition          u32 length │ AMQP field table
//! ```
//!
//! Numbers are little-endian. Name, author and virtual host are the record's key in the store.

use leveret_wire::{EncodeError, RawTable};

use super::{Author, Policy};

const VERSION: u8 = 1;

/// The record of a policy.
pub(crate) fn encode(policy: &Policy) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&policy.priority.to_le_bytes());
    let definition = policy.definition.raw_bytes()?;
    for octets in [policy.pattern().as_bytes(), policy.apply_to.name().as_bytes(), &definition] {
        out.extend_from_slice(&(octets.len() as u32).to_le_bytes());
        out.extend_from_slice(octets);
    }
    Ok(out)
}

/// Reads a record back. `None` if it is of another version, damaged, or sets what this version does not know.
pub(crate) fn decode(author: Author, name: &str, record: &[u8]) -> Option<Policy> {
    let (&[VERSION, ..], rest) = record.split_first_chunk::<1>()? else { return None };
    let (priority, mut rest) = rest.split_first_chunk()?;
    let (pattern, apply_to) = (take_text(&mut rest)?, take_text(&mut rest)?);
    let definition = RawTable::parse(take(&mut rest)?).ok()?.to_table();
    if !rest.is_empty() {
        return None;
    }
    Policy::new(author, name, pattern, apply_to, i64::from_le_bytes(*priority), definition).ok()
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take(rest)?).ok()
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let (octets, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rest = after;
    Some(octets)
}

#[cfg(test)]
mod tests {
    use leveret_wire::{FieldTable, FieldValue};

    use super::*;

    fn sample() -> Policy {
        let definition = FieldTable(vec![
            ("max-length".into(), FieldValue::I64(5)),
            ("overflow".into(), FieldValue::LongString(b"reject-publish".to_vec())),
        ]);
        Policy::new(Author::User, "p", "^ü", "classic_queues", -3, definition).unwrap()
    }

    #[test]
    fn a_record_gives_the_same_policy_back() {
        assert_eq!(decode(Author::User, "p", &encode(&sample()).unwrap()), Some(sample()));
    }

    #[test]
    fn damaged_records_are_refused_whole() {
        let record = encode(&sample()).unwrap();
        for end in 0..record.len() {
            assert_eq!(decode(Author::User, "p", &record[..end]), None, "cut at {end}");
        }
        let newer = [&[2], &record[1..]].concat();
        assert_eq!(decode(Author::User, "p", &newer), None);
        assert_eq!(decode(Author::Operator, "p", &record), Some(sample()));
    }
}
