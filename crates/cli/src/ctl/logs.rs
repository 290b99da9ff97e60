//! `leveret ctl logs` and `leveret ctl log-level`: what the broker says about itself. A RabbitMQ has no such API.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::output::{Change, Thing};
use super::session::Session;
use crate::escape::{Place, escape};
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// How often a log is asked for more.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Print the newest lines of the broker's log
#[derive(clap::Args)]
pub(super) struct Logs {
    /// The least serious that is shown: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    level: String,
    /// How many lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: u32,
    /// Go on as lines come
    #[arg(long, short)]
    follow: bool,
}

/// How much is logged of what
#[derive(clap::Subcommand)]
pub(super) enum LogLevel {
    /// List the areas and their levels
    List,
    /// Change levels, until the next reload or restart
    Set {
        /// error, warn, info, debug, trace or off
        level: String,
        /// Only of this area
        area: Option<String>,
    },
}

impl Logs {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let path = Path::of(&["logs"])
                .query("level", &self.level)
                .query("count", &self.count.to_string())
                .query("after", &after.to_string());
            let lines: Vec<Value> = session.management.get(&path).await.map_err(explain)?;
            for line in &lines {
                after = after.max(line["number"].as_u64().unwrap_or(0));
                let text = if session.output.is_json() { line.to_string() } else { sentence(line) };
                super::output::write(&(text + "\n"))?;
            }
            if !self.follow {
                return Ok(());
            }
            sleep(FOLLOW_INTERVAL).await;
        }
    }
}

impl LogLevel {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let path = Path::of(&["log-levels"]);
        match self {
            Self::List => {
                let levels: Value = session.management.get(&path).await.map_err(explain)?;
                let mut rows =
                    vec![json!({"name": "default", "level": levels["default"], "about": "everything else"})];
                rows.extend(levels["areas"].as_array().into_iter().flatten().cloned());
                Ok(session.output.list(rows, &["name", "level", "about"])?)
            }
            Self::Set { level, area } => {
                let area = area.as_deref().unwrap_or("default");
                let body = Value::Object(Map::from_iter([(area.to_owned(), json!(level))]));
                session.management.put(&path, &body).await.map_err(explain)?;
                let thing = Thing { kind: "log level of", name: area, vhost: None };
                Ok(session.output.change(&thing, Change::Changed)?)
            }
        }
    }
}

fn explain(error: ManagementError) -> Failure {
    match error {
        ManagementError::NotFound { .. } => Failure::Other(anyhow::Error::msg(
            "this broker does not give its log away; RabbitMQ's is in its files",
        )),
        error => error.into(),
    }
}

/// `2026-11-21T16:15:13Z  WARN area: message key=value`
fn sentence(line: &Value) -> String {
    let text = |key: &str| escape(line[key].as_str().unwrap_or_default(), Place::Screen);
    let fields = line["fields"].as_object().into_iter().flatten().map(|(key, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!(" {}={}", escape(key, Place::Screen), escape(&value, Place::Screen))
    });
    let fields: String = fields.collect();
    format!(
        "{} {:>5} {}: {}{fields}",
        text("time"),
        text("level").to_uppercase(),
        text("area"),
        text("message")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_sentence() {
        let line = json!({"number": 7, "time": "2026-11-21T16:15:13Z", "level": "warn", "area": "connections",
            "message": "closed\x1b[2J", "fields": {"user": "bob", "after_ms": 12}});
        let expected = "2026-11-21T16:15:13Z  WARN connections: closed\\u{1b}[2J after_ms=12 user=bob";
        assert_eq!(sentence(&line), expected);
    }
}
