//! Messages on stdout: their bodies as they are, or one JSON object per line.

use std::io::{self, IsTerminal, Stdout, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
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
                out.write_all(&message.data)?;
                if separator == Separator::Line {
                    out.write_all(b"\n")?;
                }
            }
            Style::Terminal { coloured } => {
                let (dim, plain) = if coloured { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
                write!(out, "{dim}{}{plain} ", message.routing_key)?;
                out.write_all(&message.data)?;
                out.write_all(b"\n")?;
            }
        }
        out.flush()
    }
}

fn to_json(message: &Delivery) -> Value {
    let (body, encoding) = match std::str::from_utf8(&message.data) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (STANDARD.encode(&message.data), "base64"),
    };
    json!({
        "exchange": message.exchange.as_str(),
        "routing_key": message.routing_key.as_str(),
        "redelivered": message.redelivered,
        "properties": properties_to_json(&message.properties),
        "body": body,
        "body_encoding": encoding,
    })
}

/// Only those that are set, under the names of the HTTP API.
fn properties_to_json(properties: &BasicProperties) -> Value {
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, json!(text.as_ref()?.as_str()))));
    let numbers = [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", *properties.timestamp()),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, json!(number?))));
    let headers = properties.headers().iter().map(|headers| ("headers", table_to_json(headers)));
    Value::Object(texts.chain(numbers).chain(headers).map(|(name, value)| (name.to_owned(), value)).collect())
}

fn table_to_json(table: &FieldTable) -> Value {
    let entries = table.inner().iter().map(|(name, value)| (name.to_string(), value_to_json(value)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn value_to_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(truth) => json!(truth),
        AMQPValue::ShortShortInt(number) => json!(number),
        AMQPValue::ShortShortUInt(number) => json!(number),
        AMQPValue::ShortInt(number) => json!(number),
        AMQPValue::ShortUInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::Timestamp(seconds) => json!(seconds),
        AMQPValue::Float(number) => json!(number),
        AMQPValue::Double(number) => json!(number),
        AMQPValue::DecimalValue(decimal) => {
            json!(f64::from(decimal.value) / 10f64.powi(i32::from(decimal.scale)))
        }
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ByteArray(octets) => json!(STANDARD.encode(octets.as_slice())),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(value_to_json).collect(),
        AMQPValue::FieldTable(table) => table_to_json(table),
        AMQPValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], properties: BasicProperties, expected: &str) {
        let mut message = Delivery::mock(1, "amq.topic".into(), "a.b".into(), false, body.to_vec());
        message.properties = properties;
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(to_json(&message), expected);
    }

    #[test]
    fn a_message_is_one_json_object() {
        let plain = BasicProperties::default();
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
        let mut headers = FieldTable::default();
        headers.insert("n".into(), AMQPValue::LongInt(-3));
        headers.insert("s".into(), AMQPValue::LongString("x".into()));
        headers.insert("l".into(), AMQPValue::FieldArray(vec![AMQPValue::Void].into()));
        check(
            b"",
            plain.with_content_type("text/plain".into()).with_priority(3).with_headers(headers),
            r#"{"exchange":"amq.topic","routing_key":"a.b","redelivered":false,
                "properties":{"content_type":"text/plain","priority":3,"headers":{"n":-3,"s":"x","l":[null]}},
                "body":"","body_encoding":"utf-8"}"#,
        );
    }
}
