//! JSON as AMQP field tables, as RabbitMQ's management API reads arguments.

use leveret_wire::{FieldTable, FieldValue};
use serde_json::{Map, Value};

/// An object as a table. Whole numbers are 64-bit integers, other numbers doubles.
pub(crate) fn table(object: &Map<String, Value>) -> FieldTable {
    FieldTable(object.iter().map(|(name, value)| (name.clone(), field(value))).collect())
}

fn field(value: &Value) -> FieldValue {
    match value {
        Value::Null => FieldValue::Void,
        Value::Bool(truth) => FieldValue::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => FieldValue::I64(whole),
            None => FieldValue::F64(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(text) => FieldValue::LongString(text.as_bytes().to_vec()),
        Value::Array(values) => FieldValue::Array(values.iter().map(field).collect()),
        Value::Object(object) => FieldValue::Table(table(object)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_json_has_a_field() {
        let object = json!({"a": 1, "b": [true, null], "c": {"d": "ü"}, "e": 1.5});
        let text = |text: &str| FieldValue::LongString(text.as_bytes().to_vec());
        let expected = [
            ("a", FieldValue::I64(1)),
            ("b", FieldValue::Array(vec![FieldValue::Bool(true), FieldValue::Void])),
            ("c", FieldValue::Table(FieldTable(vec![("d".into(), text("ü"))]))),
            ("e", FieldValue::F64(1.5)),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(table(object.as_object().unwrap()), FieldTable(expected.into()));
    }
}
