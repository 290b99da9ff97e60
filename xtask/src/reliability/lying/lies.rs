//! Octets that announce more than there is, or more than anybody should take.
//!
//! They are built from the testkit's own codec, which lets any number stand anywhere.

use anyhow::{Context, Result, anyhow};
use leveret_testkit::raw_client::frame_bytes;
use leveret_testkit::raw_client::message::{Message, encode_header};
use leveret_testkit::raw_client::value::{FIELD_INT, Value};

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
const CLASS_BASIC: u16 = 60;
/// What both sides agree on here.
pub(super) const FRAME_MAX: usize = 131_072;
/// Octets of a frame, and of a content header, that are not for a table of nothing but values.
const ROOM_FOR_OTHERS: usize = 100;
/// The head of an entry in a table: an empty key, the tag, the length.
const NESTING: [u8; 2] = [0, b'F'];

/// A frame of 4 GiB, as far as its head says.
pub(super) fn endless_frame(channel: u16) -> Vec<u8> {
    let mut head = vec![METHOD];
    head.extend(channel.to_be_bytes());
    head.extend(u32::MAX.to_be_bytes());
    head.extend([0; 64]);
    head
}

/// A method frame with a string or a table of 2 GiB at its end. `payload` ends with that field, empty.
pub(super) fn endless_field(channel: u16, mut payload: Vec<u8>) -> Vec<u8> {
    let length_at = payload.len().saturating_sub(4);
    payload.truncate(length_at);
    payload.extend(0x7fff_ffff_u32.to_be_bytes());
    payload.extend([b'x'; 64]);
    frame_bytes(METHOD, channel, &payload)
}

/// The octets of a table, without its length, in which a table is in a table, so many times, each as long as it says.
pub(super) fn deep_table(depth: usize) -> Vec<u8> {
    const LEVEL_BYTES: usize = NESTING.len() + 4;
    let mut octets = Vec::with_capacity(depth * LEVEL_BYTES);
    for level in (0..depth).rev() {
        octets.extend(NESTING);
        octets.extend(((level * LEVEL_BYTES) as u32).to_be_bytes());
    }
    octets
}

/// The octets of a table with one array in it: so many values of one octet each. It may say to have more of them.
pub(super) fn dense_array(values: usize, announced: usize) -> Vec<u8> {
    let mut octets = vec![0, b'A'];
    octets.extend((announced as u32).to_be_bytes());
    octets.resize(octets.len() + values, b'V');
    octets
}

/// As many values as a frame has room for.
pub(super) fn array_that_fills(frame_max: usize) -> Vec<u8> {
    let values = frame_max - ROOM_FOR_OTHERS;
    dense_array(values, values)
}

/// A method with a table, whatever is in it, as its last field.
pub(super) fn method_with_table(channel: u16, mut payload: Vec<u8>, table: &[u8]) -> Vec<u8> {
    let length_at = payload.len().saturating_sub(4);
    payload.truncate(length_at);
    payload.extend((table.len() as u32).to_be_bytes());
    payload.extend(table);
    frame_bytes(METHOD, channel, &payload)
}

/// A login by PLAIN, with these octets as the table of client properties.
pub(in crate::reliability) fn start_ok(properties: &[u8], user: &str, password: &str) -> Vec<u8> {
    let mut payload = vec![0, 10, 0, 11];
    payload.extend((properties.len() as u32).to_be_bytes());
    payload.extend(properties);
    let response = format!("\0{user}\0{password}");
    payload.extend(b"\x05PLAIN");
    payload.extend((response.len() as u32).to_be_bytes());
    payload.extend(response.as_bytes());
    payload.extend(b"\x05en_US");
    frame_bytes(METHOD, 0, &payload)
}

/// A content header of class basic that announces a body.
pub(super) fn header(channel: u16, body_bytes: u64) -> Result<Vec<u8>> {
    let payload = encode_header(CLASS_BASIC, body_bytes, &Vec::new()).map_err(|error| anyhow!(error.0))?;
    Ok(frame_bytes(HEADER, channel, &payload))
}

/// A content header whose headers are this table.
pub(super) fn header_with_table(channel: u16, table: &[u8]) -> Vec<u8> {
    const HAS_HEADERS: u16 = 0x2000;
    let mut payload = CLASS_BASIC.to_be_bytes().to_vec();
    payload.extend([0; 10]); // weight, and a body of nothing
    payload.extend(HAS_HEADERS.to_be_bytes());
    payload.extend((table.len() as u32).to_be_bytes());
    payload.extend(table);
    frame_bytes(HEADER, channel, &payload)
}

/// The payload of a method, fields not named being empty.
pub(super) fn payload(name: &str, fields: &[(&str, Value)]) -> Result<Vec<u8>> {
    let message = Message::new(name).with_context(|| format!("no method {name}"))?;
    let message = fields.iter().cloned().fold(message, |message, (field, value)| message.with(field, value));
    message.encode_method().map_err(|error| anyhow!(error.0))
}

pub(super) fn method(channel: u16, name: &str, fields: &[(&str, Value)]) -> Result<Vec<u8>> {
    Ok(frame_bytes(METHOD, channel, &payload(name, fields)?))
}

pub(super) fn number(value: i128) -> Value {
    Value::Int { tag: FIELD_INT, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::RawTable;

    /// The lies about depth and number are sound in themselves: what refuses them is a limit, not a typing error.
    #[test]
    fn shallow_ones_are_taken() {
        assert!(RawTable::parse(&deep_table(20)).is_ok());
        assert!(RawTable::parse(&deep_table(100_000)).is_err());
        assert!(RawTable::parse(&array_that_fills(FRAME_MAX)).is_ok());
        assert!(RawTable::parse(&dense_array(10, 11)).is_err());
    }
}
