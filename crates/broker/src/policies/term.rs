//! Values as Erlang prints them, because RabbitMQ's texts quote a refused setting so.

use leveret_wire::{FieldTable, FieldValue, print_term};

/// `5`, `<<"text">>`, `[1,true]`, `#{<<"k">> => null}`: Erlang's `~p` on one line.
pub(crate) fn print(value: &FieldValue) -> String {
    match value {
        FieldValue::Bool(flag) => flag.to_string(),
        FieldValue::F32(number) => format!("{number:?}"),
        FieldValue::F64(number) => format!("{number:?}"),
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => print_term(octets),
        FieldValue::Array(items) => print_list(items.iter().map(print)),
        FieldValue::Table(table) => print_map(table),
        FieldValue::Void => "null".into(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

/// `[{<<"key">>,5}]`: settings, as they are listed in a text.
pub(crate) fn print_settings<'a>(settings: impl Iterator<Item = &'a (String, FieldValue)>) -> String {
    print_list(settings.map(|(key, value)| format!("{{{},{}}}", print_term(key.as_bytes()), print(value))))
}

fn print_map(table: &FieldTable) -> String {
    let pairs: Vec<_> = table
        .iter()
        .map(|(key, value)| format!("{} => {}", print_term(key.as_bytes()), print(value)))
        .collect();
    format!("#{{{}}}", pairs.join(","))
}

fn print_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_as_in_erlang() {
        let text = |text: &str| FieldValue::LongString(text.as_bytes().to_vec());
        let check = |value: FieldValue, expected: &str| assert_eq!(print(&value), expected);
        check(FieldValue::I32(-1), "-1");
        check(FieldValue::F64(1.5), "1.5");
        check(text("a"), "<<\"a\">>");
        check(FieldValue::Bool(true), "true");
        let map = FieldTable(vec![("a".into(), FieldValue::F64(1.5)), ("b".into(), FieldValue::Void)]);
        check(
            FieldValue::Array(vec![FieldValue::I32(1), FieldValue::Table(map)]),
            "[1,#{<<\"a\">> => 1.5,<<\"b\">> => null}]",
        );
        let settings = [("nonsense".to_owned(), FieldValue::I32(2)), ("worse".to_owned(), text("w"))];
        assert_eq!(print_settings(settings.iter()), "[{<<\"nonsense\">>,2},{<<\"worse\">>,<<\"w\">>}]");
    }
}
