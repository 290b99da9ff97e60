//! Arguments of queues, exchanges and bindings on a command line: `x-max-length=100`.

use serde_json::{Map, Value};

/// `NAME=VALUE`; the value is JSON where it can be read so, else a text: `100` is a number, `"100"` and `drop-head` are
/// texts.
pub(super) fn argument(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE, with an `=` between")?;
    if name.is_empty() || name.len() > 255 {
        return Err("a name has from 1 to 255 octets".to_owned());
    }
    Ok((name.to_owned(), json_or_text(value)?))
}

/// Several of them as one object; of two with the same name the last one counts.
pub(super) fn table(arguments: Vec<(String, Value)>) -> Value {
    Value::Object(arguments.into_iter().collect::<Map<_, _>>())
}

/// A JSON object, such as the definition of a policy.
pub(super) fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("a JSON object, with { and }".to_owned()) }
}

/// Any JSON; what cannot be read so is a text.
pub(super) fn json_or_text(text: &str) -> Result<Value, String> {
    Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_json_or_a_text() {
        let check = |text, expected: Value| assert_eq!(argument(text).unwrap().1, expected, "{text}");
        check("x-max-length=100", json!(100));
        check("x-overflow=drop-head", json!("drop-head"));
        check("x=\"100\"", json!("100"));
        check("x=true", json!(true));
        check("x=a=b", json!("a=b"));
        check("x=", json!(""));
        assert!(argument("x").is_err() && argument("=1").is_err());
    }

    #[test]
    fn a_definition_is_an_object() {
        assert_eq!(object(r#"{"max-length": 3}"#), Ok(json!({"max-length": 3})));
        assert!(object("[1]").is_err() && object("max-length=3").is_err());
    }
}
