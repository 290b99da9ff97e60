//! JSON as field tables, the way RabbitMQ reads it: whole numbers are `long`, others `double`, texts long strings; there is no
//! null.

use leveret_wire::{FieldTable, FieldValue, MAX_TABLE_DEPTH};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// An object as a table.
///
/// # Errors
/// 400: something in it is null, no number that AMQP has, or nested too deep.
pub(crate) fn table(object: &Map<String, Value>) -> Result<FieldTable, ApiError> {
    table_at(object, 1, Nulls::Refused)
}

/// The same for settings that never travel as AMQP, where null is a value like others.
///
/// # Errors
/// 400: something in it is no number that AMQP has, or nested too deep.
pub(crate) fn settings(object: &Map<String, Value>) -> Result<FieldTable, ApiError> {
    table_at(object, 1, Nulls::Kept)
}

#[derive(Clone, Copy)]
enum Nulls {
    Refused,
    Kept,
}

fn table_at(object: &Map<String, Value>, depth: usize, nulls: Nulls) -> Result<FieldTable, ApiError> {
    let mut table = FieldTable::new();
    for (key, value) in object {
        table.push(key.as_str(), value_at(value, depth, nulls)?);
    }
    Ok(table)
}

fn value_at(value: &Value, depth: usize, nulls: Nulls) -> Result<FieldValue, ApiError> {
    if depth > MAX_TABLE_DEPTH {
        return Err(ApiError::bad_request(format!("nested deeper than {MAX_TABLE_DEPTH} levels")));
    }
    Ok(match (value, nulls) {
        (Value::Null, Nulls::Refused) => return Err(ApiError::bad_request("null_not_allowed")),
        (Value::Null, Nulls::Kept) => FieldValue::Void,
        (Value::Bool(flag), _) => FieldValue::Bool(*flag),
        (Value::Number(number), _) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => FieldValue::I64(whole),
            (None, Some(float)) => FieldValue::F64(float),
            (None, None) => return Err(ApiError::bad_request(format!("{number} is no number of AMQP"))),
        },
        (Value::String(text), _) => text.as_str().into(),
        (Value::Array(values), _) => {
            let values = values.iter().map(|value| value_at(value, depth + 1, nulls));
            FieldValue::Array(values.collect::<Result<_, _>>()?)
        }
        (Value::Object(object), _) => FieldValue::Table(table_at(object, depth + 1, nulls)?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table_json;

    #[test]
    fn what_json_has_comes_back_from_a_table() {
        let check = |value: Value| {
            let table = table(value.as_object().unwrap()).unwrap();
            assert!(table.raw_bytes().is_ok());
            assert_eq!(table_json::object(&table), value);
        };
        check(json!({}));
        check(json!({"a": 1, "b": -1, "c": 1.5, "d": "ü", "e": [1, [true]], "f": {"g": {}}}));
    }

    #[test]
    fn what_amqp_does_not_have_is_refused() {
        let check = |value: &Value, expected: &str| {
            let error = table(value.as_object().unwrap()).unwrap_err();
            assert!(error.reason.contains(expected), "{}", error.reason);
        };
        check(&json!({"a": null}), "null_not_allowed");
        let deep = (0..40).fold(json!(1), |inner, _| json!({ "k": inner }));
        check(&deep, "nested deeper");
        assert_eq!(
            settings(json!({"a": null}).as_object().unwrap()).unwrap().get("a"),
            Some(&FieldValue::Void)
        );
    }
}
