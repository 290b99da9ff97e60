//! Field values as they travel in tables, and method fields: bytes in, values out, and back.

use std::fmt;

use super::spec::FieldType;

/// A value of a field table, a method field or a property. `tag` is the octet that announces the type in a
/// table; method fields and properties carry the tag of the table type they resemble.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// Any integer or timestamp: `b B s u I i l L T`
    Int {
        /// The type octet.
        tag: u8,
        /// The number, wide enough for all of them.
        value: i128,
    },
    /// `f` or `d`, kept as its bits.
    Float {
        /// The type octet.
        tag: u8,
        /// IEEE 754 bits, 32 or 64 of them.
        bits: u64,
    },
    /// `D`
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// The number without its point.
        value: u32,
    },
    /// `S` (text) or `x` (bytes)
    Str {
        /// The type octet.
        tag: u8,
        /// The octets.
        bytes: Vec<u8>,
    },
    /// `A`
    Array(Vec<Value>),
    /// `F`, in wire order
    Table(Vec<(Vec<u8>, Value)>),
    /// `V`
    Void,
}

/// The tag that integers of method fields carry, where the type is known from the table of methods.
pub const FIELD_INT: u8 = b'I';

/// Why bytes are not what they claim to be, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(pub String);

impl Value {
    /// A long string.
    pub fn text(text: &str) -> Value {
        Value::Str { tag: b'S', bytes: text.as_bytes().to_vec() }
    }

    /// The text of a string, when it is one and is UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Str { bytes, .. } => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number of an integer of any width.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// Appends type octet and value, as inside a table or an array.
    pub fn encode_tagged(&self, out: &mut Vec<u8>) {
        out.push(self.tag());
        match self {
            Value::Bool(value) => out.push(u8::from(*value)),
            Value::Int { tag, value } => put_int(out, *value, int_width(*tag)),
            Value::Float { tag, bits } => put_int(out, i128::from(*bits), if *tag == b'f' { 4 } else { 8 }),
            Value::Decimal { scale, value } => {
                out.push(*scale);
                out.extend(value.to_be_bytes());
            }
            Value::Str { bytes, .. } => put_long_string(out, bytes),
            Value::Array(items) => put_long_string(out, &encode_array(items)),
            Value::Table(entries) => put_long_string(out, &encode_table(entries)),
            Value::Void => {}
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Value::Bool(_) => b't',
            Value::Int { tag, .. } | Value::Float { tag, .. } | Value::Str { tag, .. } => *tag,
            Value::Decimal { .. } => b'D',
            Value::Array(_) => b'A',
            Value::Table(_) => b'F',
            Value::Void => b'V',
        }
    }
}

/// Appends a method field or property (a bit is the caller's business: it shares octets).
pub fn encode_field(out: &mut Vec<u8>, kind: FieldType, value: &Value) -> Result<(), DecodeError> {
    match (kind, value) {
        (FieldType::Octet, Value::Int { value, .. }) => put_int(out, *value, 1),
        (FieldType::Short, Value::Int { value, .. }) => put_int(out, *value, 2),
        (FieldType::Long, Value::Int { value, .. }) => put_int(out, *value, 4),
        (FieldType::LongLong, Value::Int { value, .. }) => put_int(out, *value, 8),
        (FieldType::ShortString, Value::Str { bytes, .. }) => {
            let length =
                u8::try_from(bytes.len()).map_err(|_| DecodeError("short string over 255 octets".into()))?;
            out.push(length);
            out.extend(bytes);
        }
        (FieldType::LongString, Value::Str { bytes, .. }) => put_long_string(out, bytes),
        (FieldType::Table, Value::Table(entries)) => put_long_string(out, &encode_table(entries)),
        _ => return Err(DecodeError(format!("{value} is no {kind:?}"))),
    }
    Ok(())
}

/// The value of a field nobody mentioned: zero, empty, false.
pub fn default_field(kind: FieldType) -> Value {
    match kind {
        FieldType::Bit => Value::Bool(false),
        FieldType::Octet | FieldType::Short | FieldType::Long | FieldType::LongLong => {
            Value::Int { tag: FIELD_INT, value: 0 }
        }
        FieldType::ShortString | FieldType::LongString => Value::text(""),
        FieldType::Table => Value::Table(Vec::new()),
    }
}

/// Reads values off the front of a byte slice.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { rest: bytes }
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` octets.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        if self.rest.len() < count {
            return Err(DecodeError(format!("{count} octets wanted, {} left", self.rest.len())));
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    /// An unsigned big-endian number of `width` octets.
    pub fn unsigned(&mut self, width: usize) -> Result<u64, DecodeError> {
        Ok(self.take(width)?.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)))
    }

    /// A method field or property other than a bit.
    pub fn field(&mut self, kind: FieldType) -> Result<Value, DecodeError> {
        let width = match kind {
            FieldType::Bit | FieldType::Octet => 1,
            FieldType::Short => 2,
            FieldType::Long => 4,
            FieldType::LongLong => 8,
            FieldType::ShortString => {
                let length = self.unsigned(1)? as usize;
                return Ok(Value::Str { tag: b'S', bytes: self.take(length)?.to_vec() });
            }
            FieldType::LongString => return Ok(Value::Str { tag: b'S', bytes: self.sized()?.to_vec() }),
            FieldType::Table => return decode_table(self.sized()?),
        };
        Ok(Value::Int { tag: FIELD_INT, value: i128::from(self.unsigned(width)?) })
    }

    fn sized(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.unsigned(4)? as usize;
        self.take(length)
    }

    fn tagged(&mut self) -> Result<Value, DecodeError> {
        let tag = self.unsigned(1)? as u8;
        Ok(match tag {
            b't' => Value::Bool(self.unsigned(1)? != 0),
            b'b' | b'B' | b's' | b'u' | b'I' | b'i' | b'l' | b'L' | b'T' => self.int(tag)?,
            b'f' => Value::Float { tag, bits: self.unsigned(4)? },
            b'd' => Value::Float { tag, bits: self.unsigned(8)? },
            b'D' => Value::Decimal { scale: self.unsigned(1)? as u8, value: self.unsigned(4)? as u32 },
            b'S' | b'x' => Value::Str { tag, bytes: self.sized()?.to_vec() },
            b'A' => decode_array(self.sized()?)?,
            b'F' => decode_table(self.sized()?)?,
            b'V' => Value::Void,
            other => return Err(DecodeError(format!("unknown type octet {:?}", char::from(other)))),
        })
    }

    fn int(&mut self, tag: u8) -> Result<Value, DecodeError> {
        let width = int_width(tag);
        let unsigned = self.unsigned(width)?;
        let signed = matches!(tag, b'b' | b's' | b'I' | b'l' | b'L');
        let shift = 64 - 8 * width as u32;
        let value = if signed {
            i128::from((unsigned << shift).cast_signed() >> shift)
        } else {
            i128::from(unsigned)
        };
        Ok(Value::Int { tag, value })
    }
}

fn int_width(tag: u8) -> usize {
    match tag {
        b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' => 4,
        _ => 8,
    }
}

fn put_int(out: &mut Vec<u8>, value: i128, width: usize) {
    out.extend(&value.to_be_bytes()[16 - width..]);
}

fn put_long_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_int(out, bytes.len() as i128, 4);
    out.extend(bytes);
}

fn encode_array(items: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        item.encode_tagged(&mut out);
    }
    out
}

/// The inside of a table, without its length.
pub fn encode_table(entries: &[(Vec<u8>, Value)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in entries {
        out.push(key.len() as u8);
        out.extend(key);
        value.encode_tagged(&mut out);
    }
    out
}

fn decode_array(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let mut items = Vec::new();
    while !decoder.is_at_end() {
        items.push(decoder.tagged()?);
    }
    Ok(Value::Array(items))
}

fn decode_table(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let mut entries = Vec::new();
    while !decoder.is_at_end() {
        let length = decoder.unsigned(1)? as usize;
        let key = decoder.take(length)?.to_vec();
        entries.push((key, decoder.tagged()?));
    }
    Ok(Value::Table(entries))
}

/// Writes the value as a scenario file would: `{ttl=l:60000, name="q"}`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int { tag: b'I', value } => write!(f, "{value}"),
            Value::Int { tag, value } => write!(f, "{}:{value}", char::from(*tag)),
            Value::Float { tag: b'f', bits } => write!(f, "f:{}", f32::from_bits(*bits as u32)),
            Value::Float { bits, .. } => write!(f, "d:{}", f64::from_bits(*bits)),
            Value::Decimal { scale, value } => write!(f, "D:{value}e-{scale}"),
            Value::Str { tag: b'x', bytes } => write!(f, "x:{}", quoted(bytes)),
            Value::Str { bytes, .. } => f.write_str(&quoted(bytes)),
            Value::Void => f.write_str("void"),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Table(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}={value}", String::from_utf8_lossy(key)))
                    .collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
        }
    }
}

/// Bytes as a quoted string of a scenario file; long ones are cut in the middle.
pub fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 300;
    let mut out = String::from("\"");
    for octet in bytes.iter().take(SHOWN) {
        match octet {
            b'"' | b'\\' => out.extend(['\\', char::from(*octet)]),
            0x20..=0x7e => out.push(char::from(*octet)),
            _ => out.push_str(&format!("\\x{octet:02x}")),
        }
    }
    out.push('"');
    if bytes.len() > SHOWN {
        out.push_str(&format!(" ({} octets)", bytes.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Value, bytes: &[u8], text: &str) {
        let mut encoded = Vec::new();
        value.encode_tagged(&mut encoded);
        assert_eq!(encoded, bytes);
        assert_eq!(Decoder::new(bytes).tagged(), Ok(value.clone()));
        assert_eq!(value.to_string(), text);
    }

    #[test]
    fn every_type_travels_both_ways() {
        check(Value::Bool(true), b"t\x01", "true");
        check(Value::Int { tag: b'b', value: -1 }, b"b\xff", "b:-1");
        check(Value::Int { tag: b'B', value: 255 }, b"B\xff", "B:255");
        check(Value::Int { tag: b's', value: -2 }, b"s\xff\xfe", "s:-2");
        check(Value::Int { tag: b'u', value: 65534 }, b"u\xff\xfe", "u:65534");
        check(Value::Int { tag: b'I', value: -1 }, b"I\xff\xff\xff\xff", "-1");
        check(Value::Int { tag: b'l', value: -1 }, b"l\xff\xff\xff\xff\xff\xff\xff\xff", "l:-1");
        check(Value::Int { tag: b'T', value: 1 }, b"T\0\0\0\0\0\0\0\x01", "T:1");
        check(Value::text("a\""), b"S\0\0\0\x02a\"", "\"a\\\"\"");
        check(Value::Array(vec![Value::Void]), b"A\0\0\0\x01V", "[void]");
        check(Value::Table(vec![(b"k".to_vec(), Value::Bool(false))]), b"F\0\0\0\x04\x01kt\0", "{k=false}");
    }

    #[test]
    fn what_ends_early_is_an_error() {
        assert!(Decoder::new(b"S\0\0\0\x05abc").tagged().is_err());
        assert!(Decoder::new(b"?").tagged().is_err());
    }
}
