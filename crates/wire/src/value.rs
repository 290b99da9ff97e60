//! The values of a field table and their octets.
//!
//! The tags are RabbitMQ's, which differ from the printed specification: `s` is a signed 16-bit
//! integer (not a short string), `l` and `L` are both signed 64-bit. `U` (the specification's signed
//! 16-bit tag) is accepted too; nothing is ever written as `L` or `U`.
//!
//! | tag | value | | tag | value | | tag | value |
//! |---|---|---|---|---|---|---|---|
//! | `t` | bool | | `I` | i32 | | `D` | decimal: scale u8, value i32 |
//! | `b` | i8 | | `i` | u32 | | `S` | long string (any octets) |
//! | `B` | u8 | | `l` `L` | i64 | | `x` | octets |
//! | `s` `U` | i16 | | `f` | f32 | | `A` | array |
//! | `u` | u16 | | `d` | f64 | | `T` | timestamp, u64 seconds |
//! | `V` | nothing | | | | | `F` | table |

use crate::EncodeError;
use crate::reader::Reader;
use crate::table::{FieldTable, MAX_TABLE_DEPTH, TableFault, check_entries, read_entries, write_entries};
use crate::writer::{write_long_octets, write_sized};

/// One value of a field table or array.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// `t`. Any octet but 0 is true; written as 0 or 1.
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s` (and `U` when read)
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` (and `L` when read)
    I64(i64),
    /// Never read: there is no such type on the wire. Written as `l` up to `i64::MAX`, refused above.
    U64(u64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` × 10^−`scale`
    Decimal {
        /// How many decimal digits are behind the point.
        scale: u8,
        /// The digits.
        value: i32,
    },
    /// `S`: text by convention, but any octets are allowed.
    LongString(Vec<u8>),
    /// `x`: octets that are not text.
    Bytes(Vec<u8>),
    /// `A`
    Array(Vec<FieldValue>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`: no value; what the headers exchange takes for "the key must exist".
    Void,
}

impl FieldValue {
    /// The text of a long string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            FieldValue::LongString(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The value of any integer type, if it fits. A timestamp, bool or float is not an integer.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            FieldValue::I8(value) => Some(value.into()),
            FieldValue::U8(value) => Some(value.into()),
            FieldValue::I16(value) => Some(value.into()),
            FieldValue::U16(value) => Some(value.into()),
            FieldValue::I32(value) => Some(value.into()),
            FieldValue::U32(value) => Some(value.into()),
            FieldValue::I64(value) => Some(value),
            FieldValue::U64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// The value of a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            FieldValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The nested table.
    pub fn as_table(&self) -> Option<&FieldTable> {
        match self {
            FieldValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[FieldValue]> {
        match self {
            FieldValue::Array(values) => Some(values),
            _ => None,
        }
    }

    /// RabbitMQ's name of the type, as its error texts show it.
    pub fn type_name(&self) -> &'static str {
        match self {
            FieldValue::Bool(_) => "bool",
            FieldValue::I8(_) => "byte",
            FieldValue::U8(_) => "unsignedbyte",
            FieldValue::I16(_) => "short",
            FieldValue::U16(_) => "unsignedshort",
            FieldValue::I32(_) => "signedint",
            FieldValue::U32(_) => "unsignedint",
            FieldValue::I64(_) | FieldValue::U64(_) => "long",
            FieldValue::F32(_) => "float",
            FieldValue::F64(_) => "double",
            FieldValue::Decimal { .. } => "decimal",
            FieldValue::LongString(_) => "longstr",
            FieldValue::Bytes(_) => "binary",
            FieldValue::Array(_) => "array",
            FieldValue::Timestamp(_) => "timestamp",
            FieldValue::Table(_) => "table",
            FieldValue::Void => "void",
        }
    }
}

macro_rules! field_value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for FieldValue {
            fn from(value: $from) -> FieldValue {
                FieldValue::$variant(value.into())
            }
        }
    )*};
}

field_value_from! {
    bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    u64 => U64, f32 => F32, f64 => F64, &str => LongString, String => LongString,
    Vec<FieldValue> => Array, FieldTable => Table,
}

/// Reads a value and its tag, found in a table or array at `depth`.
pub(crate) fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<FieldValue, TableFault> {
    Ok(match reader.octet()? {
        b't' => FieldValue::Bool(reader.octet()? != 0),
        b'b' => FieldValue::I8(i8::from_be_bytes(reader.array()?)),
        b'B' => FieldValue::U8(reader.octet()?),
        b's' | b'U' => FieldValue::I16(i16::from_be_bytes(reader.array()?)),
        b'u' => FieldValue::U16(reader.short()?),
        b'I' => FieldValue::I32(i32::from_be_bytes(reader.array()?)),
        b'i' => FieldValue::U32(reader.long()?),
        b'l' | b'L' => FieldValue::I64(i64::from_be_bytes(reader.array()?)),
        b'f' => FieldValue::F32(f32::from_be_bytes(reader.array()?)),
        b'd' => FieldValue::F64(f64::from_be_bytes(reader.array()?)),
        b'D' => {
            let scale = reader.octet()?;
            FieldValue::Decimal { scale, value: i32::from_be_bytes(reader.array()?) }
        }
        b'S' => FieldValue::LongString(reader.long_octets()?.to_vec()),
        b'x' => FieldValue::Bytes(reader.long_octets()?.to_vec()),
        b'A' => FieldValue::Array(read_array(reader.long_octets()?, deeper(depth)?)),
        b'T' => FieldValue::Timestamp(reader.longlong()?),
        b'F' => FieldValue::Table(read_entries(reader.long_octets()?, deeper(depth)?)),
        b'V' => FieldValue::Void,
        tag => return Err(TableFault::UnknownTag(tag)),
    })
}

/// Checks a value and its tag and passes over it.
pub(crate) fn skip_value(reader: &mut Reader<'_>, depth: usize) -> Result<(), TableFault> {
    let size_bytes = match reader.octet()? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' => return Ok(reader.long_octets().map(drop)?),
        b'A' => return check_array(reader.long_octets()?, deeper(depth)?),
        b'F' => return check_entries(reader.long_octets()?, depth + 1),
        tag => return Err(TableFault::UnknownTag(tag)),
    };
    Ok(reader.take(size_bytes).map(drop)?)
}

/// Appends a value and its tag, in a table or array at `depth`.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &FieldValue, depth: usize) -> Result<(), EncodeError> {
    match value {
        FieldValue::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
        FieldValue::I8(value) => write_tagged(out, b'b', value.to_be_bytes()),
        FieldValue::U8(value) => write_tagged(out, b'B', [*value]),
        FieldValue::I16(value) => write_tagged(out, b's', value.to_be_bytes()),
        FieldValue::U16(value) => write_tagged(out, b'u', value.to_be_bytes()),
        FieldValue::I32(value) => write_tagged(out, b'I', value.to_be_bytes()),
        FieldValue::U32(value) => write_tagged(out, b'i', value.to_be_bytes()),
        FieldValue::I64(value) => write_tagged(out, b'l', value.to_be_bytes()),
        FieldValue::U64(value) => {
            let value = i64::try_from(*value).map_err(|_| EncodeError::IntegerTooLarge(*value))?;
            write_tagged(out, b'l', value.to_be_bytes());
        }
        FieldValue::F32(value) => write_tagged(out, b'f', value.to_be_bytes()),
        FieldValue::F64(value) => write_tagged(out, b'd', value.to_be_bytes()),
        FieldValue::Decimal { scale, value } => {
            write_tagged(out, b'D', [*scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        FieldValue::LongString(octets) => return write_octets(out, b'S', octets),
        FieldValue::Bytes(octets) => return write_octets(out, b'x', octets),
        FieldValue::Array(values) => return write_array(out, values, depth + 1),
        FieldValue::Timestamp(value) => write_tagged(out, b'T', value.to_be_bytes()),
        FieldValue::Table(table) => {
            out.push(b'F');
            return write_sized(out, |out| write_entries(out, table, depth + 1));
        }
        FieldValue::Void => out.push(b'V'),
    }
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, TableFault> {
    if depth < MAX_TABLE_DEPTH { Ok(depth + 1) } else { Err(TableFault::TooDeep) }
}

fn check_array(octets: &[u8], depth: usize) -> Result<(), TableFault> {
    let mut reader = Reader::new(octets);
    while !reader.is_at_end() {
        skip_value(&mut reader, depth)?;
    }
    Ok(())
}

/// Reads elements until the end or, in octets that were never checked, the first flaw.
fn read_array(octets: &[u8], depth: usize) -> Vec<FieldValue> {
    let mut values = Vec::new();
    let mut reader = Reader::new(octets);
    while let Ok(value) = read_value(&mut reader, depth) {
        values.push(value);
    }
    values
}

fn write_array(out: &mut Vec<u8>, values: &[FieldValue], depth: usize) -> Result<(), EncodeError> {
    if depth > MAX_TABLE_DEPTH {
        return Err(EncodeError::TableTooDeep);
    }
    out.push(b'A');
    write_sized(out, |out| values.iter().try_for_each(|value| write_value(out, value, depth)))
}

fn write_tagged<const N: usize>(out: &mut Vec<u8>, tag: u8, octets: [u8; N]) {
    out.push(tag);
    out.extend_from_slice(&octets);
}

fn write_octets(out: &mut Vec<u8>, tag: u8, octets: &[u8]) -> Result<(), EncodeError> {
    out.push(tag);
    write_long_octets(out, octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(octets: &[u8], expected: FieldValue, type_name: &str) {
        let mut reader = Reader::new(octets);
        let value = read_value(&mut reader, 1).unwrap();
        assert!(reader.is_at_end());
        assert_eq!((&value, value.type_name()), (&expected, type_name));
        let mut skipped = Reader::new(octets);
        assert_eq!(skip_value(&mut skipped, 1).map(|()| skipped.is_at_end()), Ok(true));
        let mut out = Vec::new();
        write_value(&mut out, &value, 1).unwrap();
        let canonical: &[u8] = match octets[0] {
            b'U' => &[b's', octets[1], octets[2]],
            b'L' => &[&b"l"[..], &octets[1..]].concat(),
            b't' => &[b't', u8::from(octets[1] != 0)],
            _ => octets,
        };
        assert_eq!(out, canonical);
    }

    #[test]
    fn every_tag_has_rabbitmqs_meaning() {
        check(b"t\x00", FieldValue::Bool(false), "bool");
        check(b"t\x07", FieldValue::Bool(true), "bool");
        check(b"b\xff", FieldValue::I8(-1), "byte");
        check(b"B\xff", FieldValue::U8(255), "unsignedbyte");
        check(b"s\xff\xfe", FieldValue::I16(-2), "short");
        check(b"U\xff\xfe", FieldValue::I16(-2), "short");
        check(b"u\xff\xfe", FieldValue::U16(65_534), "unsignedshort");
        check(b"I\xff\xff\xff\xfe", FieldValue::I32(-2), "signedint");
        check(b"i\xff\xff\xff\xfe", FieldValue::U32(4_294_967_294), "unsignedint");
        check(b"l\xff\xff\xff\xff\xff\xff\xff\xfe", FieldValue::I64(-2), "long");
        check(b"L\xff\xff\xff\xff\xff\xff\xff\xfe", FieldValue::I64(-2), "long");
        check(b"f\xbf\0\0\0", FieldValue::F32(-0.5), "float");
        check(b"d\x40\x04\0\0\0\0\0\0", FieldValue::F64(2.5), "double");
        check(b"D\x02\xff\xff\xff\xff", FieldValue::Decimal { scale: 2, value: -1 }, "decimal");
        check(b"S\0\0\0\x01\xff", FieldValue::LongString(vec![255]), "longstr");
        check(b"x\0\0\0\x01\xff", FieldValue::Bytes(vec![255]), "binary");
        check(b"A\0\0\0\x03Vt\x01", vec![FieldValue::Void, FieldValue::Bool(true)].into(), "array");
        check(b"T\0\0\0\0\0\0\0\x05", FieldValue::Timestamp(5), "timestamp");
        check(b"F\0\0\0\x03\x01kV", FieldTable::from([("k", FieldValue::Void)]).into(), "table");
        check(b"V", FieldValue::Void, "void");
    }

    #[test]
    fn unsigned_64_bit_integers_are_written_signed_or_not_at_all() {
        let mut out = Vec::new();
        assert_eq!(write_value(&mut out, &FieldValue::U64(1), 1), Ok(()));
        assert_eq!(out, b"l\0\0\0\0\0\0\0\x01");
        let refused = write_value(&mut out, &FieldValue::U64(1 << 63), 1);
        assert_eq!(refused, Err(EncodeError::IntegerTooLarge(1 << 63)));
    }

    #[test]
    fn integers_of_all_widths_are_integers() {
        for value in [
            FieldValue::I8(5),
            FieldValue::U8(5),
            FieldValue::I16(5),
            FieldValue::U16(5),
            FieldValue::I32(5),
            FieldValue::U32(5),
            FieldValue::I64(5),
            FieldValue::U64(5),
        ] {
            assert_eq!((value.as_i64(), value.as_bool(), value.as_str()), (Some(5), None, None));
        }
        assert_eq!(FieldValue::U64(u64::MAX).as_i64(), None);
        assert_eq!(FieldValue::Timestamp(5).as_i64(), None);
        assert_eq!(FieldValue::from("a").as_str(), Some("a"));
        assert_eq!(FieldValue::LongString(vec![255]).as_str(), None);
    }
}
