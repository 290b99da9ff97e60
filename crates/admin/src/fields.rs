//! The fields of a JSON body, read one by one in RabbitMQ's words.
//!
//! Fields that nobody asks for are passed over, as RabbitMQ does: its tools send back whole objects that they were shown.

use axum::body::Bytes;
use leveret_wire::FieldTable;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::json_table;

/// Fields whose names begin so are shown to nobody, not even to who sent them: answers are logged by proxies.
const SECRET: &str = "password";

/// The object in a body.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body; none is the same as `{}`.
    ///
    /// # Errors
    /// 400: it is not JSON, or no object.
    pub(crate) fn of_body(body: &Bytes) -> Result<Fields, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Fields::default());
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(ApiError::bad_request("not_json: the body must be an object")),
            Err(error) => Err(ApiError::bad_request(format!("not_json: {error}"))),
        }
    }

    /// The fields of an object inside a body.
    pub(crate) fn of_object(object: Map<String, Value>) -> Fields {
        Fields(object)
    }

    /// Refuses a body without all of these.
    pub(crate) fn require(&self, names: &[&str]) -> Result<(), ApiError> {
        let missing = names.iter().filter(|name| !self.0.contains_key(**name));
        let missing: Vec<_> = missing.map(|name| format!("{{key_missing,{name}}}")).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(ApiError::bad_request(format!("[{}]", missing.join(",")))),
        }
    }

    /// Whether the field is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Any value.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A text that must be there.
    pub(crate) fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.require(&[name])?;
        self.text_if(name).map(Option::unwrap_or_default)
    }

    /// A text that may be missing or null.
    pub(crate) fn text_if(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    /// A truth, which may be written as a text; false where it is missing.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(other) => Err(ApiError::bad_request(format!("not_boolean: {name} is {other}"))),
        }
    }

    /// A whole number, which may be written as a text.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let given = || self.0.get(name).map(Value::to_string).unwrap_or_default();
        number.map(Some).ok_or_else(|| ApiError::bad_request(format!("not_integer: {name} is {}", given())))
    }

    /// Arguments of AMQP; none where they are missing.
    pub(crate) fn arguments(&self, name: &str) -> Result<FieldTable, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(FieldTable::new()),
            // What RabbitMQ writes for an empty table, here and there.
            Some(Value::Array(empty)) if empty.is_empty() => Ok(FieldTable::new()),
            Some(Value::Object(object)) => json_table::table(object),
            Some(other) => Err(wrong(name, "an object", other)),
        }
    }
}

fn wrong(name: &str, expected: &str, actual: &Value) -> ApiError {
    if name.starts_with(SECRET) {
        return ApiError::bad_request(format!("{name} should be {expected}"));
    }
    let mut actual = actual.to_string();
    let end = actual.char_indices().map(|(at, _)| at).find(|at| *at >= 100).unwrap_or(actual.len());
    actual.truncate(end);
    ApiError::bad_request(format!("{name} should be {expected}, actually was {actual}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &'static str) -> Result<Fields, ApiError> {
        Fields::of_body(&Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_body_is_an_object_or_nothing() {
        let check = |body: &'static str, expected: Result<(), &str>| match (fields(body), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(text)) => assert!(error.reason.contains(text), "{body}: {}", error.reason),
            (got, expected) => panic!("{body}: {got:?}, expected {expected:?}"),
        };
        check("", Ok(()));
        check(" \n", Ok(()));
        check("{}", Ok(()));
        check("[]", Err("not_json"));
        check("{", Err("not_json"));
        check("\"x\"", Err("not_json"));
    }

    #[test]
    fn values_are_read_in_rabbitmqs_words() {
        let check = |body: &'static str, expected: Result<&str, &str>| {
            let fields = fields(body).unwrap();
            let read = fields
                .require(&["a"])
                .and_then(|()| fields.flag("f"))
                .and_then(|flag| Ok(format!("{flag} {:?}", fields.integer("n")?)))
                .and_then(|read| Ok(format!("{read} {}", fields.text("a")?)));
            assert_eq!(
                read.map_err(|error| error.reason),
                expected.map(str::to_owned).map_err(str::to_owned)
            );
        };
        check(r#"{"a":"x"}"#, Ok("false None x"));
        check(r#"{"a":"x","f":"true","n":"7"}"#, Ok("true Some(7) x"));
        check(r#"{}"#, Err("[{key_missing,a}]"));
        check(r#"{"a":5}"#, Err("a should be a string, actually was 5"));
        check(r#"{"a":"x","f":"yes"}"#, Err("not_boolean: f is \"yes\""));
        check(r#"{"a":"x","n":1.5}"#, Err("not_integer: n is 1.5"));
    }
}
