//! The durable key/value map: small things that must be there before anything else, such as topology.

use std::collections::BTreeMap;

use crate::bytes::{Fields, PutFields};

/// One change of the map. The changes of one record happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaChange {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; fine if it is missing.
    Delete(Vec<u8>),
}

/// The map itself.
pub(crate) type MetaMap = BTreeMap<Vec<u8>, Vec<u8>>;

const PUT: u8 = 1;
const DELETE: u8 = 2;

pub(crate) fn apply(map: &mut MetaMap, changes: impl IntoIterator<Item = MetaChange>) {
    for change in changes {
        match change {
            MetaChange::Put(key, value) => map.insert(key, value),
            MetaChange::Delete(key) => map.remove(&key),
        };
    }
}

pub(crate) fn encode_changes(changes: &[MetaChange]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in changes {
        match change {
            MetaChange::Put(key, value) => {
                bytes.put(&[PUT]);
                bytes.put_counted(key);
                bytes.put_counted(value);
            }
            MetaChange::Delete(key) => {
                bytes.put(&[DELETE]);
                bytes.put_counted(key);
            }
        }
    }
    bytes
}

pub(crate) fn decode_changes(mut fields: Fields<'_>) -> Option<Vec<MetaChange>> {
    let mut changes = Vec::new();
    while !fields.is_empty() {
        changes.push(match fields.u8()? {
            PUT => MetaChange::Put(fields.counted()?.to_vec(), fields.counted()?.to_vec()),
            DELETE => MetaChange::Delete(fields.counted()?.to_vec()),
            _ => return None,
        });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_the_round_trip_and_cut_ones_are_refused() {
        let changes = vec![
            MetaChange::Put(b"queue/a".to_vec(), vec![1, 2, 3]),
            MetaChange::Delete(b"queue/b".to_vec()),
            MetaChange::Put(Vec::new(), Vec::new()),
        ];
        let bytes = encode_changes(&changes);
        assert_eq!(decode_changes(Fields::new(&bytes)), Some(changes));
        assert_eq!(decode_changes(Fields::new(&bytes[..bytes.len() - 1])), None);
        assert_eq!(decode_changes(Fields::new(&[3])), None);
    }
}
