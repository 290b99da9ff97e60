//! From a header's value to the key that a window remembers: short, and different for different values.

use leveret_wire::{FieldTable, FieldValue};
use sha2::{Digest, Sha256};

/// Longer values are remembered by their SHA-256, so that a window's memory is bounded by its size.
const PLAIN_OCTETS_MAX: usize = 64;

/// The key of a value. Integers of any width are the same if their values are; no value is no key.
pub(super) fn key_of(value: &FieldValue) -> Option<Vec<u8>> {
    match value {
        FieldValue::Void => None,
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Some(tagged(b's', octets)),
        other => match other.as_i64() {
            Some(number) => Some(tagged(b'i', &number.to_be_bytes())),
            None => Some(tagged(b'o', &FieldTable::from([("", other.clone())]).raw_bytes().ok()?)),
        },
    }
}

/// The tag in capitals stands in front of a digest.
fn tagged(tag: u8, octets: &[u8]) -> Vec<u8> {
    if octets.len() <= PLAIN_OCTETS_MAX {
        return [&[tag], octets].concat();
    }
    [&[tag.to_ascii_uppercase()], Sha256::digest(octets).as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_values_have_different_keys() {
        let long = |octet: u8| FieldValue::LongString(vec![octet; 10_000]);
        let values = [
            FieldValue::from("1"),
            FieldValue::from(""),
            FieldValue::I32(1),
            FieldValue::Bool(true),
            FieldValue::F64(1.0),
            FieldValue::Timestamp(1),
            long(1),
            long(2),
        ];
        let keys: Vec<_> = values.iter().map(|value| key_of(value).unwrap()).collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(key.len() <= PLAIN_OCTETS_MAX + 1);
            assert!(!keys[..at].contains(key), "{:?}", values[at]);
        }
        assert_eq!(key_of(&FieldValue::I32(1)), key_of(&FieldValue::I64(1)));
        assert_eq!(key_of(&FieldValue::Void), None);
    }
}
