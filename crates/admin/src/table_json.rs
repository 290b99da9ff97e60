//! Field tables as JSON, the way RabbitMQ shows them.

use leveret_wire::{FieldTable, FieldValue};
use serde_json::{Map, Value, json};

/// A table as an object. Where a key is there twice, the last one counts.
pub(crate) fn object(table: &FieldTable) -> Value {
    Value::Object(table.iter().map(|(key, value)| (key.clone(), shown(value))).collect::<Map<_, _>>())
}

fn shown(value: &FieldValue) -> Value {
    match value {
        FieldValue::Bool(value) => json!(value),
        FieldValue::I8(value) => json!(value),
        FieldValue::U8(value) => json!(value),
        FieldValue::I16(value) => json!(value),
        FieldValue::U16(value) => json!(value),
        FieldValue::I32(value) => json!(value),
        FieldValue::U32(value) => json!(value),
        FieldValue::I64(value) => json!(value),
        FieldValue::U64(value) | FieldValue::Timestamp(value) => json!(value),
        // JSON has no infinity: it becomes null.
        FieldValue::F32(value) => json!(value),
        FieldValue::F64(value) => json!(value),
        FieldValue::Decimal { scale, value } => json!(f64::from(*value) / 10f64.powi(i32::from(*scale))),
        // RabbitMQ shows octets that are no text as they are; JSON cannot hold them.
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => json!(String::from_utf8_lossy(octets)),
        FieldValue::Array(values) => values.iter().map(shown).collect(),
        FieldValue::Table(table) => object(table),
        FieldValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_json() {
        let check = |value: FieldValue, expected: Value| assert_eq!(shown(&value), expected, "{value:?}");
        check(FieldValue::Bool(true), json!(true));
        check(FieldValue::I8(-1), json!(-1));
        check(FieldValue::U64(u64::MAX), json!(u64::MAX));
        check(FieldValue::F64(f64::NAN), Value::Null);
        check(FieldValue::Decimal { scale: 2, value: 125 }, json!(1.25));
        check(FieldValue::LongString(b"a\xff".to_vec()), json!("a\u{fffd}"));
        check(FieldValue::Array(vec![FieldValue::Void, FieldValue::Timestamp(7)]), json!([null, 7]));
        let mut table = FieldTable::new();
        table.push("k", 1);
        table.push("k", 2);
        check(FieldValue::Table(table), json!({"k": 2}));
    }
}
