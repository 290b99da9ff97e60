//! Header values that any broker takes.

use leveret_wire::FieldValue;

/// RabbitMQ cannot read numbers that are infinite or none, and ends the connection of whoever sends one (observed:
/// 3.10.8), with every call on it.
pub(super) fn is_portable(value: &FieldValue) -> bool {
    match value {
        FieldValue::F32(number) => number.is_finite(),
        FieldValue::F64(number) => number.is_finite(),
        FieldValue::Array(values) => values.iter().all(is_portable),
        FieldValue::Table(table) => table.iter().all(|(_, value)| is_portable(value)),
        _ => true,
    }
}

pub(super) fn not_portable(header: &str) -> String {
    format!(
        "the header `{header}` holds a number that is infinite or not a number, which not every broker can read"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::FieldTable;

    #[test]
    fn numbers_must_be_finite_at_any_depth() {
        let nested = |number| {
            let table = FieldTable(vec![("n".to_owned(), FieldValue::F64(number))]);
            FieldValue::Array(vec![FieldValue::Void, FieldValue::Table(table)])
        };
        for (value, portable) in [
            (FieldValue::F64(1e308), true),
            (FieldValue::F32(f32::NAN), false),
            (FieldValue::F64(f64::NEG_INFINITY), false),
            (nested(0.5), true),
            (nested(f64::NAN), false),
        ] {
            assert_eq!(is_portable(&value), portable, "{value:?}");
        }
    }
}
