//! Values that are octets: text, byte strings and `Vec<u8>`, as a body and back.

use serde::de::{self, DeserializeOwned, IntoDeserializer, SeqAccess, Visitor, value};
use serde::ser::{self, Impossible, Serialize, Serializer};
use serde::{Deserializer, forward_to_deserialize_any};

use super::{ContentError, Format};

/// The octets of a value that is text, a byte string, a sequence of octets, or nothing.
pub(super) fn to_octets<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ContentError> {
    value.serialize(OctetWriter).map_err(|error| ContentError::unsupported(Format::Bytes, error))
}

/// Octets as a type that takes them.
pub(super) fn from_octets<T: DeserializeOwned>(octets: &[u8]) -> Result<T, ContentError> {
    T::deserialize(Octets(octets)).map_err(|error| ContentError::malformed(Format::Bytes, error))
}

/// Plain enough for both directions: text.
type Fault = value::Error;

fn not_octets<T>() -> Result<T, Fault> {
    Err(ser::Error::custom("it is neither text nor octets"))
}

struct OctetWriter;

macro_rules! refuse {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, _: $type) -> Result<Vec<u8>, Fault> {
            not_octets()
        }
    )*};
}

impl Serializer for OctetWriter {
    type Ok = Vec<u8>;
    type Error = Fault;
    type SerializeSeq = OctetSequence;
    type SerializeTuple = OctetSequence;
    type SerializeTupleStruct = Impossible<Vec<u8>, Fault>;
    type SerializeTupleVariant = Impossible<Vec<u8>, Fault>;
    type SerializeMap = Impossible<Vec<u8>, Fault>;
    type SerializeStruct = Impossible<Vec<u8>, Fault>;
    type SerializeStructVariant = Impossible<Vec<u8>, Fault>;

    refuse! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char,
    }

    fn serialize_str(self, text: &str) -> Result<Vec<u8>, Fault> {
        Ok(text.as_bytes().to_vec())
    }

    fn serialize_bytes(self, octets: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(octets.to_vec())
    }

    fn serialize_none(self) -> Result<Vec<u8>, Fault> {
        Ok(Vec::new())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Vec<u8>, Fault> {
        Ok(Vec::new())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Vec<u8>, Fault> {
        Ok(Vec::new())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Vec<u8>, Fault> {
        not_octets()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Vec<u8>, Fault> {
        not_octets()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<OctetSequence, Fault> {
        Ok(OctetSequence(Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<OctetSequence, Fault> {
        Ok(OctetSequence(Vec::new()))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Fault> {
        not_octets()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        not_octets()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Fault> {
        not_octets()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Fault> {
        not_octets()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        not_octets()
    }
}

/// A `Vec<u8>` serializes as a sequence of numbers.
struct OctetSequence(Vec<u8>);

impl OctetSequence {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Fault> {
        let number = serde_json::to_value(element).ok().and_then(|value| value.as_u64());
        match number.map(u8::try_from) {
            Some(Ok(octet)) => {
                self.0.push(octet);
                Ok(())
            }
            _ => not_octets(),
        }
    }
}

impl ser::SerializeSeq for OctetSequence {
    type Ok = Vec<u8>;
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Fault> {
        self.push(element)
    }

    fn end(self) -> Result<Vec<u8>, Fault> {
        Ok(self.0)
    }
}

impl ser::SerializeTuple for OctetSequence {
    type Ok = Vec<u8>;
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Fault> {
        self.push(element)
    }

    fn end(self) -> Result<Vec<u8>, Fault> {
        Ok(self.0)
    }
}

/// A body as text if it is UTF-8, else as octets; as a sequence of octets for who asks for one.
#[derive(Clone, Copy)]
struct Octets<'a>(&'a [u8]);

impl<'de> Deserializer<'de> for Octets<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match std::str::from_utf8(self.0) {
            Ok(text) => visitor.visit_str(text),
            Err(_) => visitor.visit_bytes(self.0),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_byte_buf(self.0.to_vec())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(OctetElements(self.0.iter()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_empty() { visitor.visit_unit() } else { self.deserialize_any(visitor) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit_struct tuple_struct map struct
        enum identifier
    }
}

struct OctetElements<'a>(std::slice::Iter<'a, u8>);

impl<'de> SeqAccess<'de> for OctetElements<'_> {
    type Error = Fault;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.0.next().map(|&octet| seed.deserialize(Octet(octet))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// One octet, for who asks for exactly a `u8`: a list of larger numbers is no list of octets.
struct Octet(u8);

impl<'de> Deserializer<'de> for Octet {
    type Error = Fault;

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.0.into_deserializer().deserialize_u8(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(de::Error::custom("the body is text or octets, no list"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
