//! Reading the value of a parameter, with RabbitMQ's texts for what makes no sense.

use leveret_shovel::AckMode;
use leveret_wire::FieldTable;
use serde_json::{Map, Value};

use super::end::End;
use crate::json_table::table;

/// A parameter's value, and what was found wrong with it. Reading goes on after an error, so that everything that is wrong
/// is named.
pub(super) struct Reader<'v> {
    pub(super) name: &'v str,
    pub(super) fields: &'v Map<String, Value>,
    pub(super) errors: Vec<String>,
}

/// The value of a parameter, which is an object.
///
/// # Errors
/// It is something else.
pub(super) fn object(name: &str, value: &str) -> Result<Map<String, Value>, String> {
    match parse(name, value)? {
        Value::Object(fields) => Ok(fields),
        other => Err(format!("{name} should be an object, actually was {}", shown(&other))),
    }
}

/// The value of a parameter.
///
/// # Errors
/// It is not JSON.
pub(super) fn parse(name: &str, value: &str) -> Result<Value, String> {
    serde_json::from_str(value).map_err(|error| format!("{name} is not JSON: {error}"))
}

/// A value as RabbitMQ's texts have it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("<<\"{text}\">>"),
        other => other.to_string(),
    }
}

impl<'v> Reader<'v> {
    pub(super) fn new(name: &'v str, fields: &'v Map<String, Value>) -> Self {
        Self { name, fields, errors: Vec::new() }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.errors.push(what);
    }

    /// What is wrong if there are fields besides the known ones.
    pub(super) fn unknown(&self, known: &[&str]) -> Option<String> {
        let unknown = self.fields.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        let listed: Vec<_> =
            unknown.map(|(name, value)| format!("{{<<\"{name}\">>,{}}}", shown(value))).collect();
        let is_wrong = !listed.is_empty();
        is_wrong.then(|| format!("Unrecognised terms [{}] in {}", listed.join(","), self.name))
    }

    /// The field under its name of today or of before.
    pub(super) fn either(
        &self,
        name: &'static str,
        before: &'static str,
    ) -> Option<(&'static str, &'v Value)> {
        let found = |name| Some((name, self.fields.get(name)?));
        found(name).or_else(|| found(before))
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.fields.get(name)? {
            Value::String(text) if text.len() <= 255 => Some(text.clone()),
            Value::String(_) => {
                self.wrong(format!("{name} has more than 255 octets"));
                None
            }
            other => {
                self.wrong(format!("{name} should be binary, actually was {}", shown(other)));
                None
            }
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Option<FieldTable> {
        match self.fields.get(name)? {
            Value::Object(object) => Some(table(object)),
            other => {
                self.wrong(format!("{name} should be an object, actually was {}", shown(other)));
                None
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str, before: &'static str, default: u64) -> u64 {
        let Some((name, value)) = self.either(name, before) else { return default };
        match value.as_u64() {
            Some(number) => number,
            None => {
                self.wrong(format!("{name} should be a number, actually was {}", shown(value)));
                default
            }
        }
    }

    pub(super) fn flag(&mut self, name: &'static str, before: &'static str) -> bool {
        match self.either(name, before) {
            None => false,
            Some((_, Value::Bool(flag))) => *flag,
            Some((name, other)) => {
                self.wrong(format!("{name} should be boolean, actually was {}", shown(other)));
                false
            }
        }
    }

    /// One of the words, the first if nothing is given.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let default = words.first().copied().unwrap_or_default();
        let Some(given) = self.fields.get(name) else { return default };
        let found = given.as_str().and_then(|given| words.iter().find(|word| **word == given));
        if found.is_none() {
            let listed: Vec<_> = words.iter().rev().map(|word| format!("<<\"{word}\">>")).collect();
            let listed = listed.join(",");
            self.wrong(format!("{name} should be one of [{listed}], actually was {}", shown(given)));
        }
        found.copied().unwrap_or(default)
    }

    pub(super) fn ack_mode(&mut self) -> AckMode {
        match self.word("ack-mode", &["on-confirm", "on-publish", "no-ack"]) {
            "on-publish" => AckMode::OnPublish,
            "no-ack" => AckMode::NoAck,
            _ => AckMode::OnConfirm,
        }
    }

    /// Where an end is, and its addresses without passwords.
    pub(super) fn end(&mut self, name: &str) -> Option<(End, String)> {
        let Some(value) = self.fields.get(name) else {
            self.wrong(format!("Key \"{name}\" not found in {}", self.name));
            return None;
        };
        match addresses(name, value).and_then(|uris| End::parse(&uris)) {
            Ok(found) => Some(found),
            Err(what) => {
                self.wrong(what);
                None
            }
        }
    }
}

/// One address or a list of them.
pub(super) fn addresses(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("{name} should be list, actually was {}", shown(other))),
    };
    match value {
        Value::Array(values) if values.is_empty() => Err(format!("{name} should not be empty")),
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}
