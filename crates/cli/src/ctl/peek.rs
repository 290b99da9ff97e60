//! `leveret ctl queues peek`: messages as they wait.

use serde_json::{Value, json};

use super::output::write;
use super::session::Session;
use crate::escape::{Place, escape};
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// Show messages that wait, and leave them there
///
/// A RabbitMQ can only take them and put them back, which marks them as redelivered and counts towards a delivery limit.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The queue
    name: String,
    /// How many messages
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    count: u32,
    /// Show at most so many octets of each body
    #[arg(long, value_name = "OCTETS", default_value_t = 1_000)]
    payload_bytes: u32,
}

impl Arguments {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (_, path) = session.thing("queue", "queues", &self.name);
        let messages = match self.browse(session, &path).await {
            // A RabbitMQ has no such path; whether there is the queue, the next answer tells.
            Err(ManagementError::NotFound { .. } | ManagementError::Refused { status: 405, .. }) => {
                self.take_and_return(session, &path).await?
            }
            other => other?,
        };
        for message in &messages {
            let text = if session.output.is_json() { format!("{message}\n") } else { shown(message) };
            write(&text)?;
        }
        match messages.len() {
            0 => Err(Failure::Nothing),
            _ => Ok(()),
        }
    }

    async fn browse(&self, session: &Session, path: &Path) -> Result<Vec<Value>, ManagementError> {
        let path = path.clone().segment("messages").query("count", &self.count.to_string());
        session.management.get(&path.query("payload_bytes", &self.payload_bytes.to_string())).await
    }

    async fn take_and_return(&self, session: &Session, path: &Path) -> Result<Vec<Value>, ManagementError> {
        let body = json!({
            "count": self.count,
            "ackmode": "ack_requeue_true",
            "encoding": "auto",
            "truncate": self.payload_bytes,
        });
        let path = path.clone().segment("get");
        let taken = session.management.post(&path, &body).await?;
        let unreadable = |error: serde_json::Error| ManagementError::Unreadable {
            path: path.to_string(),
            reason: error.to_string(),
        };
        serde_json::from_value(taken).map_err(unreadable)
    }
}

/// A line of facts, and the body below it.
fn shown(message: &Value) -> String {
    let text = |key: &str| escape(message[key].as_str().unwrap_or_default(), Place::Screen);
    let redelivered = if message["redelivered"] == true { "  redelivered" } else { "" };
    let properties = match &message["properties"] {
        Value::Object(properties) if !properties.is_empty() => {
            format!("  {}", escape(&message["properties"].to_string(), Place::Screen))
        }
        _ => String::new(),
    };
    let encoding = if message["payload_encoding"] == "base64" { ", as base64" } else { "" };
    format!(
        "exchange={} key={} octets={}{encoding}{redelivered}{properties}\n{}\n",
        text("exchange"),
        text("routing_key"),
        message["payload_bytes"],
        text("payload"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line_of_facts_and_its_body() {
        let check = |message: Value, expected: &str| assert_eq!(shown(&message), expected);
        check(
            json!({"exchange": "", "routing_key": "a", "payload_bytes": 8, "redelivered": false,
                "properties": [], "payload": "hi\x1b[2J", "payload_encoding": "string"}),
            "exchange= key=a octets=8\nhi\\u{1b}[2J\n",
        );
        check(
            json!({"exchange": "x", "routing_key": "a b", "payload_bytes": 2, "redelivered": true,
                "properties": {"priority": 3}, "payload": "/wA=", "payload_encoding": "base64"}),
            "exchange=x key=a b octets=2, as base64  redelivered  {\"priority\":3}\n/wA=\n",
        );
    }
}
