//! A row of the outbox, from the database's side to the broker's: JSON headers become AMQP's, and what came of it.

use std::time::Duration;

use leveret_wire::{FieldTable, FieldValue, Properties};
use serde_json::Value;

use super::Message;
use crate::profile;

/// A row that may leave now.
pub(super) struct Row {
    pub(super) id: i64,
    /// Attempts that have failed so far.
    pub(super) attempts: u32,
    /// When its transaction wrote it, Unix seconds.
    pub(super) created_at_s: u64,
    pub(super) message: Message,
    /// The headers as they are in the table; somebody else may have written them.
    pub(super) headers_json: String,
}

/// What has to be written down about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) id: i64,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker has it: the row goes.
    Delivered,
    /// Not this time.
    Retry { after: Duration, error: String },
    /// Not until somebody says so.
    Park { error: String },
}

/// A message that was given up, and stays in the table until it is retried or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// The row.
    pub id: i64,
    /// Its message id.
    pub message_id: String,
    /// The exchange it is for.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed the last time.
    pub reason: String,
}

/// What is in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Messages on their way.
    pub waiting: u64,
    /// Those of them that have failed at least once.
    pub failing: u64,
    /// Messages given up.
    pub parked: u64,
    /// How long the oldest one on its way has waited.
    pub oldest: Option<Duration>,
}

impl Row {
    /// Everything but the body, as the broker gets it.
    ///
    /// # Errors
    /// What cannot be sent: headers that are no JSON object.
    pub(super) fn properties(&self, app_id: &str) -> Result<Properties, String> {
        let message = &self.message;
        let octets = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        Ok(Properties {
            content_type: octets(&message.payload.content_type),
            content_encoding: octets(&message.payload.content_encoding),
            headers: Some(headers(&self.headers_json)?),
            delivery_mode: message.persistent.then_some(profile::PERSISTENT),
            priority: message.priority,
            correlation_id: octets(&message.correlation_id),
            reply_to: octets(&message.reply_to),
            expiration: message.expiration_ms().map(|ms| ms.to_string().into_bytes()),
            message_id: Some(message.message_id.as_bytes().to_vec()),
            timestamp: Some(self.created_at_s),
            kind: octets(&message.method),
            app_id: Some(app_id.as_bytes().to_vec()),
            ..Properties::default()
        })
    }
}

fn headers(json: &str) -> Result<FieldTable, String> {
    match serde_json::from_str(json) {
        Ok(Value::Object(members)) => Ok(table(members)),
        Ok(_) => Err("its headers are no JSON object".to_owned()),
        Err(error) => Err(format!("its headers are no JSON: {error}")),
    }
}

fn table(members: serde_json::Map<String, Value>) -> FieldTable {
    members.into_iter().map(|(name, value)| (name, field(value))).collect()
}

fn field(value: Value) -> FieldValue {
    match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => FieldValue::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => FieldValue::I64(integer),
            // Every JSON number without arbitrary precision is one.
            None => FieldValue::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => FieldValue::LongString(text.into_bytes()),
        Value::Array(values) => FieldValue::Array(values.into_iter().map(field).collect()),
        Value::Object(members) => FieldValue::Table(table(members)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    fn check(json: &str, expected: Option<FieldTable>) {
        assert_eq!(headers(json).ok(), expected, "{json}");
    }

    #[test]
    fn headers_of_any_language_become_amqps() {
        let inner =
            FieldTable::from([("deep", FieldValue::Array(vec![FieldValue::I64(1), FieldValue::Void]))]);
        check("{}", Some(FieldTable::new()));
        check(r#"{"a":"b"}"#, Some(FieldTable::from([("a", "b")])));
        check(r#"{"a":-3}"#, Some(FieldTable::from([("a", FieldValue::I64(-3))])));
        check(r#"{"a":1.5}"#, Some(FieldTable::from([("a", FieldValue::F64(1.5))])));
        check(r#"{"a":true}"#, Some(FieldTable::from([("a", FieldValue::Bool(true))])));
        check(r#"{"a":{"deep":[1,null]}}"#, Some(FieldTable::from([("a", FieldValue::Table(inner))])));
        for no_object in ["", "[]", "null", "{", "\"text\""] {
            check(no_object, None);
        }
    }

    #[test]
    fn a_row_becomes_a_message_with_its_own_id_and_time() {
        let message = Message::new("service.tasks", "service.page", Payload::new("text/plain", "hello"))
            .message_id("m-1")
            .reply_to("site.7", "c-1")
            .method("render")
            .expiration(Duration::from_secs(2))
            .transient();
        let headers_json = r#"{"n":1}"#.to_owned();
        let row = Row { id: 1, attempts: 0, created_at_s: 77, message, headers_json };
        let properties = row.properties("site").unwrap();
        let text = |octets: Option<Vec<u8>>| String::from_utf8(octets.unwrap()).unwrap();
        assert_eq!((properties.timestamp, properties.delivery_mode), (Some(77), None));
        assert_eq!(text(properties.message_id), "m-1");
        assert_eq!(
            (text(properties.reply_to), text(properties.correlation_id)),
            ("site.7".into(), "c-1".into())
        );
        assert_eq!((text(properties.kind), text(properties.expiration)), ("render".into(), "2000".into()));
        assert_eq!(
            (text(properties.content_type), text(properties.app_id)),
            ("text/plain".into(), "site".into())
        );
    }
}
