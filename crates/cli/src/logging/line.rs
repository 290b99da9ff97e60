//! One line of the log, and how it looks.
//!
//! ```text
//!   text  2026-11-21T16:15:00.123456Z  WARN auth: login refused peer="127.0.0.1:5 -> 127.0.0.1:5672" user=ann
//!   json  {"time":"2026-11-21T16:15:00.123456Z","level":"warn","area":"auth","target":"leveret_server::logins",
//!          "message":"login refused","fields":{"peer":"127.0.0.1:5 -> 127.0.0.1:5672","user":"ann"}}
//! ```
//!
//! Whatever a peer can choose (names, reasons) is a field. Its control characters are written as escapes, so that no
//! name can begin a line of its own or colour a terminal.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::areas::area_of;

/// Octets of a message or of a field: a name has at most 255, an error a sentence or two.
const TEXT_MAX_BYTES: usize = 2048;
/// The field that the macros of `tracing` put the message into.
const MESSAGE: &str = "message";

/// An event, told once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    time: String,
    level: &'static str,
    area: String,
    target: &'static str,
    message: String,
    fields: Map<String, Value>,
    #[serde(skip)]
    severity: Level,
}

impl Line {
    /// An event of now.
    pub(super) fn of(event: &Event<'_>, left_out: u64) -> Line {
        let metadata = event.metadata();
        let mut parts = Parts::default();
        event.record(&mut parts);
        if left_out > 0 {
            parts.fields.insert("left_out".to_owned(), left_out.into());
        }
        Line {
            time: now(),
            level: name_of(*metadata.level()),
            area: area_of(metadata.target()).to_owned(),
            target: metadata.target(),
            message: parts.message,
            fields: parts.fields,
            severity: *metadata.level(),
        }
    }

    #[cfg(test)]
    pub(super) fn example(severity: Level) -> Line {
        Line {
            time: "2026-11-21T16:15:00.000000Z".to_owned(),
            level: name_of(severity),
            area: "auth".to_owned(),
            target: "leveret_server::logins",
            message: "refused".to_owned(),
            fields: Map::new(),
            severity,
        }
    }

    /// How serious it is.
    pub(crate) fn severity(&self) -> Level {
        self.severity
    }

    /// With the end of the line.
    pub(super) fn json(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// With the end of the line.
    pub(super) fn text(&self, coloured: bool) -> String {
        let mut text = format!("{} ", self.time);
        let level = self.severity.as_str();
        match coloured {
            true => text.push_str(&format!("\x1b[{}m{level:>5}\x1b[0m", colour_of(self.severity))),
            false => text.push_str(&format!("{level:>5}")),
        }
        text.push_str(&format!(" {}: {}", self.area, Escaped(&self.message)));
        for (name, value) in &self.fields {
            text.push_str(&match value {
                Value::String(value) if is_plain(value) => format!(" {name}={value}"),
                Value::String(value) => format!(" {name}=\"{}\"", Escaped(value)),
                other => format!(" {name}={other}"),
            });
        }
        text.push('\n');
        text
    }
}

fn now() -> String {
    let mut text = String::new();
    // Only a `String` without memory cannot be written to.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn name_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Red, yellow, green, blue, magenta.
fn colour_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
}

/// Without control characters and with escaped quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            c if c.is_control() || is_invisible(c) => write!(f, "{}", c.escape_unicode()),
            c => f.write_char(c),
        })
    }
}

/// Characters that change the direction or the lines of what follows.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What an event consists of.
#[derive(Default)]
struct Parts {
    message: String,
    fields: Map<String, Value>,
}

impl Parts {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            (MESSAGE, Value::String(text)) => self.message = text,
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        // A text that is cut off says so by an error.
        let _ = write!(text, "{value:?}");
        self.put(field, text.0.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded::default();
        let _ = text.write_str(value);
        self.put(field, text.0.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// A text that takes no more than [`TEXT_MAX_BYTES`].
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_MAX_BYTES.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str, fields: &[(&str, Value)]) -> Line {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Line { message: message.to_owned(), fields, ..Line::example(Level::WARN) }
    }

    fn check(fields: &[(&str, Value)], expected: &str) {
        let expected = format!("2026-11-21T16:15:00.000000Z  WARN auth: refused{expected}\n");
        assert_eq!(line("refused", fields).text(false), expected);
    }

    #[test]
    fn fields_stand_behind_the_message() {
        check(&[], "");
        check(&[("user", "ann".into()), ("tries", 3.into())], " tries=3 user=ann");
        check(&[("reason", "low on memory".into())], " reason=\"low on memory\"");
        check(&[("name", "".into())], " name=\"\"");
    }

    #[test]
    fn no_name_can_forge_a_line_or_colour_a_terminal() {
        check(&[("user", "a\n2026 INFO root: in".into())], " user=\"a\\u{a}2026 INFO root: in\"");
        check(&[("user", "\u{1b}[31m\"".into())], " user=\"\\u{1b}[31m\\\"\"");
        check(&[("user", "a\u{202e}b".into())], " user=\"a\\u{202e}b\"");
        assert_eq!(line("a\nb", &[]).text(false).lines().count(), 1);
        assert_eq!(line("a\nb", &[("x", "\n".into())]).json().lines().count(), 1);
    }

    #[test]
    fn a_line_of_json_has_everything_in_its_place() {
        let json: Value = serde_json::from_str(&line("refused", &[("tries", 3.into())]).json()).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-21T16:15:00.000000Z", "level": "warn", "area": "auth",
            "target": "leveret_server::logins", "message": "refused", "fields": {"tries": 3},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut text = Bounded(String::new());
        assert!(text.write_str(&"é".repeat(TEXT_MAX_BYTES)).is_err());
        assert_eq!(text.0.len(), TEXT_MAX_BYTES);
        assert!(text.write_str("x").is_err());
    }

    #[test]
    fn the_time_is_rfc_3339() {
        let text = now();
        assert!(text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
}
