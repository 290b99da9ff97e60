//! CBOR, with `null` for nothing.
//!
//! cbor4ii writes serde's unit as an empty array, and `serde_json::Value::Null` is a unit: other languages would read a
//! list where `null` was meant. [`NullForUnit`] passes everything on as it is, except that.

use serde::de::value::UnitDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::ser::{self, Serialize, Serializer};

use super::{ContentError, Format, ended};

const NULL: &[u8] = &[0xf6];

pub(super) fn to_cbor<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ContentError> {
    let mut out = Vec::new();
    cbor4ii::serde::to_writer(&mut out, &NullForUnit(value))
        .map_err(|error| ContentError::unsupported(Format::Cbor, error))?;
    Ok(out)
}

pub(super) fn from_cbor<T: DeserializeOwned>(body: &[u8]) -> Result<T, ContentError> {
    if body == NULL {
        let nothing: UnitDeserializer<serde::de::value::Error> = ().into_deserializer();
        return T::deserialize(nothing).map_err(|error| ContentError::malformed(Format::Cbor, error));
    }
    let mut rest = body;
    let reader = cbor4ii::core::utils::IoReader::new(&mut rest);
    let mut deserializer = cbor4ii::serde::Deserializer::new(reader);
    let value =
        T::deserialize(&mut deserializer).map_err(|error| ContentError::malformed(Format::Cbor, error))?;
    ended(Format::Cbor, rest).map(|()| value)
}

/// A value, or (as a serializer, or a part of one) what a value is written with.
struct NullForUnit<T>(T);

impl<T: Serialize + ?Sized> Serialize for NullForUnit<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(NullForUnit(serializer))
    }
}

macro_rules! as_it_is {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.0.$method(value)
        }
    )*};
}

impl<S: Serializer> Serializer for NullForUnit<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = NullForUnit<S::SerializeSeq>;
    type SerializeTuple = NullForUnit<S::SerializeTuple>;
    type SerializeTupleStruct = NullForUnit<S::SerializeTupleStruct>;
    type SerializeTupleVariant = NullForUnit<S::SerializeTupleVariant>;
    type SerializeMap = NullForUnit<S::SerializeMap>;
    type SerializeStruct = NullForUnit<S::SerializeStruct>;
    type SerializeStructVariant = NullForUnit<S::SerializeStructVariant>;

    as_it_is! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_none()
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&NullForUnit(value))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        i: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit_variant(name, i, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &NullForUnit(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &NullForUnit(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.0.serialize_seq(len).map(NullForUnit)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(NullForUnit)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(NullForUnit)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple_variant(name, index, variant, len).map(NullForUnit)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.0.serialize_map(len).map(NullForUnit)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.0.serialize_struct(name, len).map(NullForUnit)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct_variant(name, index, variant, len).map(NullForUnit)
    }
}

macro_rules! elements_of {
    ($($part:ident :: $method:ident),* $(,)?) => {$(
        impl<C: ser::$part> ser::$part for NullForUnit<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.0.$method(&NullForUnit(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        }
    )*};
}

macro_rules! fields_of {
    ($($part:ident),* $(,)?) => {$(
        impl<C: ser::$part> ser::$part for NullForUnit<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
                self.0.serialize_field(key, &NullForUnit(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        }
    )*};
}

elements_of! {
    SerializeSeq::serialize_element, SerializeTuple::serialize_element, SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}
fields_of! { SerializeStruct, SerializeStructVariant }

impl<C: ser::SerializeMap> ser::SerializeMap for NullForUnit<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.0.serialize_key(&NullForUnit(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.0.serialize_value(&NullForUnit(value))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::{NULL, from_cbor, to_cbor};

    #[test]
    fn nothing_is_null() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        enum Sky {
            Grey,
            Cloudy(u8),
            Mixed { parts: Vec<Option<u8>> },
            Pair(u8, i64),
        }
        assert_eq!(to_cbor(&()).unwrap(), NULL);
        assert_eq!(to_cbor(&json!([null, {"a": null}])).unwrap(), b"\x82\xf6\xa1aa\xf6");
        from_cbor::<()>(NULL).unwrap();
        assert_eq!(from_cbor::<Value>(NULL).unwrap(), Value::Null);
        assert_eq!(from_cbor::<Option<u8>>(NULL).unwrap(), None);
        assert!(from_cbor::<u8>(NULL).is_err());
        for sky in [Sky::Grey, Sky::Cloudy(3), Sky::Mixed { parts: vec![None, Some(1)] }, Sky::Pair(1, -2)] {
            assert_eq!(from_cbor::<Sky>(&to_cbor(&sky).unwrap()).unwrap(), sky);
        }
    }
}
