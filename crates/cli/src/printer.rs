//! Messages on stdout: their bodies as they are, or one JSON object per line.

use std::io::{self, IsTerminal, Stdout, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret_client::Delivery;
use leveret_wire::{FieldTable, FieldValue, Properties};
use serde_json::{Map, Value, json};

use crate::logging::is_coloured;

/// How messages are shown.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Format {
    /// One JSON object per line, with exchange, routing key and properties; a body that is not UTF-8 as base64
    #[arg(long)]
    json: bool,
}

/// What stands between two bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    /// Nothing: a single body arrives octet by octet as it was sent. On a terminal a line feed all the same.
    Nothing,
    /// A line feed behind each.
    Line,
}

/// Writes messages to stdout.
pub(crate) struct Printer {
    stdout: Stdout,
    style: Style,
}

enum Style {
    Json,
    Body(Separator),
    /// For people: the routing key first.
    Terminal {
        coloured: bool,
    },
}

impl Printer {
    /// A printer for stdout as it is.
    pub(crate) fn new(format: Format, separator: Separator) -> Self {
        let stdout = io::stdout();
        let style = match (format.json, stdout.is_terminal(), separator) {
            (true, ..) => Style::Json,
            (false, false, separator) => Style::Body(separator),
            (false, true, Separator::Nothing) => Style::Body(Separator::Line),
            (false, true, Separator::Line) => Style::Terminal { coloured: is_coloured(&stdout) },
        };
        Self { stdout, style }
    }

    /// Writes a message and flushes: whoever reads a live stream wants it now, and an acknowledgement that
    /// follows must not overtake it.
    ///
    /// # Errors
    /// Nobody reads stdout any more.
    pub(crate) fn print(&mut self, message: &Delivery) -> io::Result<()> {
        let mut out = self.stdout.lock();
        match self.style {
            Style::Json => writeln!(out, "{}", to_json(message))?,
            Style::Body(separator) => {
                out.write_all(&message.body)?;
                if separator == Separator::Line {
                    out.write_all(b"\n")?;
                }
            }
            Style::Terminal { coloured } => {
                let (dim, plain) = if coloured { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
                write!(out, "{dim}{}{plain} ", message.routing_key)?;
                out.write_all(&message.body)?;
                out.write_all(b"\n")?;
            }
        }
        out.flush()
    }
}

fn to_json(message: &Delivery) -> Value {
    let properties = message.properties().to_properties();
    shown(&message.exchange, &message.routing_key, message.redelivered, &properties, &message.body)
}

fn shown(
    exchange: &str,
    routing_key: &str,
    redelivered: bool,
    properties: &Properties,
    body: &[u8],
) -> Value {
    let (body, encoding) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (STANDARD.encode(body), "base64"),
    };
    json!({
        "exchange": exchange,
        "routing_key": routing_key,
        "redelivered": redelivered,
        "properties": properties_to_json(properties),
        "body": body,
        "body_encoding": encoding,
    })
}

/// Only those that are set, under the names of the HTTP API.
fn properties_to_json(properties: &Properties) -> Value {
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, json!(String::from_utf8_lossy(text.as_deref()?)))));
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, json!(number?))));
    let headers = properties.headers.iter().map(|headers| ("headers", table_to_json(headers)));
    Value::Object(texts.chain(numbers).chain(headers).map(|(name, value)| (name.to_owned(), value)).collect())
}

fn table_to_json(table: &FieldTable) -> Value {
    let entries = table.iter().map(|(name, value)| (name.clone(), value_to_json(value)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn value_to_json(value: &FieldValue) -> Value {
    match value {
        FieldValue::Bool(truth) => json!(truth),
        FieldValue::F32(number) => json!(number),
        FieldValue::F64(number) => json!(number),
        FieldValue::Timestamp(seconds) => json!(seconds),
        FieldValue::Decimal { scale, value } => json!(f64::from(*value) / 10f64.powi(i32::from(*scale))),
        FieldValue::LongString(text) => json!(String::from_utf8_lossy(text)),
        FieldValue::Bytes(octets) => json!(STANDARD.encode(octets)),
        FieldValue::Array(values) => values.iter().map(value_to_json).collect(),
        FieldValue::Table(table) => table_to_json(table),
        FieldValue::Void => Value::Null,
        integer => json!(integer.as_i64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], properties: Properties, expected: &str) {
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(shown("amq.topic", "a.b", false, &properties, body), expected);
    }

    #[test]
    fn a_message_is_one_json_object() {
        let plain = Properties::default();
        check(
            "grüß dich".as_bytes(),
            plain.clone(),
            r#"{"exchange":"amq.topic","routing_key":"a.b","redelivered":false,"properties":{},
                "body":"grüß dich","body_encoding":"utf-8"}"#,
        );
        check(
            b"\xff\x00",
            plain.clone(),
            r#"{"exchange":"amq.topic","routing_key":"a.b","redelivered":false,"properties":{},
                "body":"/wA=","body_encoding":"base64"}"#,
        );
        let mut headers = FieldTable::new();
        headers.insert("n", FieldValue::I32(-3));
        headers.insert("s", "x");
        headers.insert("l", FieldValue::Array(vec![FieldValue::Void]));
        check(
            b"",
            Properties {
                content_type: Some(b"text/plain".to_vec()),
                priority: Some(3),
                headers: Some(headers),
                ..plain
            },
            r#"{"exchange":"amq.topic","routing_key":"a.b","redelivered":false,
                "properties":{"content_type":"text/plain","priority":3,"headers":{"n":-3,"s":"x","l":[null]}},
                "body":"","body_encoding":"utf-8"}"#,
        );
    }
}
