//! A method with its fields and its content, as one value.

use std::fmt;

use super::spec::{self, BASIC_PROPERTIES, FieldType, MethodSpec};
use super::value::{DecodeError, Decoder, Value, default_field, encode_field, quoted};

/// Properties present in a content header, in wire order.
pub type Properties = Vec<(&'static str, Value)>;

/// What follows a method that carries content.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// The properties that were there.
    pub properties: Properties,
    /// The whole body.
    pub body: Vec<u8>,
}

/// One method on one channel, with everything that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its entry in the table of methods.
    pub method: &'static str,
    /// One value for each field of the method, in wire order.
    pub fields: Vec<Value>,
    /// Present exactly when the method carries content.
    pub content: Option<Content>,
}

impl Message {
    /// The method `name` with every field zero, empty or false.
    pub fn new(name: &str) -> Option<Message> {
        let method = spec::method_named(name)?;
        let fields = method.fields.iter().map(|(_, kind)| default_field(*kind)).collect();
        let content = method.has_content.then(Content::default);
        Some(Message { method: &method.name, fields, content })
    }

    /// The same with one field set; panics when the method has no such field.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Message {
        let index = self.field_index(field).expect("the field is in methods.txt");
        self.fields[index] = value;
        self
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.field_index(name).map(|index| &self.fields[index])
    }

    /// The entry of the table of methods.
    pub fn spec(&self) -> &'static MethodSpec {
        spec::method_named(self.method).expect("a message is only made from the table")
    }

    fn field_index(&self, name: &str) -> Option<usize> {
        self.spec().fields.iter().position(|(field, _)| field == name)
    }

    /// The payload of the method frame.
    pub fn encode_method(&self) -> Result<Vec<u8>, DecodeError> {
        let spec = self.spec();
        let mut out = Vec::new();
        out.extend(spec.class_id.to_be_bytes());
        out.extend(spec.method_id.to_be_bytes());
        let mut bits_used = 0;
        for ((_, kind), value) in spec.fields.iter().zip(&self.fields) {
            match value {
                Value::Bool(bit) if *kind == FieldType::Bit => {
                    if bits_used % 8 == 0 {
                        out.push(0);
                    }
                    let last = out.last_mut().expect("a bit octet was just pushed or is still being filled");
                    *last |= u8::from(*bit) << (bits_used % 8);
                    bits_used += 1;
                }
                _ => {
                    bits_used = 0;
                    encode_field(&mut out, *kind, value)?;
                }
            }
        }
        Ok(out)
    }

    /// Reads the payload of a method frame; content, if any, comes later.
    pub fn decode_method(payload: &[u8]) -> Result<Message, DecodeError> {
        let mut decoder = Decoder::new(payload);
        let ids = (decoder.unsigned(2)? as u16, decoder.unsigned(2)? as u16);
        let spec = spec::method_with_ids(ids.0, ids.1)
            .ok_or_else(|| DecodeError(format!("no method has the ids {}/{}", ids.0, ids.1)))?;
        let mut fields = Vec::new();
        let mut bits: Option<(u64, u32)> = None;
        for (_, kind) in &spec.fields {
            if *kind == FieldType::Bit {
                let (octet, used) = match bits {
                    Some((octet, used)) if used < 8 => (octet, used),
                    _ => (decoder.unsigned(1)?, 0),
                };
                fields.push(Value::Bool(octet >> used & 1 == 1));
                bits = Some((octet, used + 1));
            } else {
                bits = None;
                fields.push(decoder.field(*kind)?);
            }
        }
        if !decoder.is_at_end() {
            return Err(DecodeError(format!("octets left over after {}", spec.name)));
        }
        Ok(Message { method: &spec.name, fields, content: None })
    }
}

/// The payload of a content header frame.
pub fn encode_header(class_id: u16, body_size: u64, properties: &Properties) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    out.extend(class_id.to_be_bytes());
    out.extend([0, 0]);
    out.extend(body_size.to_be_bytes());
    let mut flags = 0_u16;
    let mut values = Vec::new();
    for (bit, (name, kind)) in BASIC_PROPERTIES.iter().enumerate() {
        if let Some((_, value)) = properties.iter().find(|(property, _)| property == name) {
            flags |= 0x8000 >> bit;
            encode_field(&mut values, *kind, value)?;
        }
    }
    out.extend(flags.to_be_bytes());
    out.extend(values);
    Ok(out)
}

/// Reads a content header of class basic: the size of the body and the properties.
pub fn decode_header(payload: &[u8]) -> Result<(u64, Properties), DecodeError> {
    let mut decoder = Decoder::new(payload);
    decoder.take(4)?;
    let body_size = decoder.unsigned(8)?;
    let flags = decoder.unsigned(2)? as u16;
    let mut properties = Vec::new();
    for (bit, (name, kind)) in BASIC_PROPERTIES.iter().enumerate() {
        if flags & 0x8000 >> bit != 0 {
            properties.push((*name, decoder.field(*kind)?));
        }
    }
    Ok((body_size, properties))
}

/// Writes the message as a scenario file would, leaving out what is zero, empty or false.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method)?;
        for ((name, kind), value) in self.spec().fields.iter().zip(&self.fields) {
            match value {
                value if *value == default_field(*kind) => {}
                Value::Bool(true) => write!(f, " {name}")?,
                value => write!(f, " {name}={value}")?,
            }
        }
        let Some(content) = &self.content else { return Ok(()) };
        if !content.properties.is_empty() {
            let properties: Vec<String> =
                content.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(f, " props={{{}}}", properties.join(", "))?;
        }
        write!(f, " body={}", quoted(&content.body))
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::FIELD_INT;
    use super::*;

    #[test]
    fn bits_share_octets() {
        let declare = Message::new("queue.declare")
            .unwrap()
            .with("queue", Value::text("q"))
            .with("durable", Value::Bool(true))
            .with("nowait", Value::Bool(true));
        let bytes = declare.encode_method().unwrap();
        assert_eq!(bytes, b"\0\x32\0\x0a\0\0\x01q\x12\0\0\0\0");
        assert_eq!(Message::decode_method(&bytes), Ok(declare.clone()));
        assert_eq!(declare.to_string(), "queue.declare queue=\"q\" durable nowait");
    }

    #[test]
    fn properties_travel_in_flag_order() {
        let properties: Properties =
            vec![("delivery-mode", Value::Int { tag: FIELD_INT, value: 2 }), ("reply-to", Value::text("r"))];
        let bytes = encode_header(60, 3, &properties).unwrap();
        assert_eq!(bytes, b"\0\x3c\0\0\0\0\0\0\0\0\0\x03\x12\0\x02\x01r");
        assert_eq!(decode_header(&bytes), Ok((3, properties)));
    }

    #[test]
    fn every_method_survives_both_ways() {
        for method in spec::methods() {
            let message = Message::new(&method.name).unwrap();
            let back = Message::decode_method(&message.encode_method().unwrap()).unwrap();
            assert_eq!((back.method, back.fields), (message.method, message.fields));
        }
    }

    #[test]
    fn the_brokers_codec_reads_every_method_alike() {
        for spec in spec::methods() {
            let payload = Message::new(&spec.name).unwrap().encode_method().unwrap();
            let method = leveret_wire::Method::decode(&payload).unwrap();
            assert_eq!(
                (method.name(), method.class_id(), method.method_id(), method.has_content()),
                (spec.name.as_str(), spec.class_id, spec.method_id, spec.has_content)
            );
        }
    }
}
