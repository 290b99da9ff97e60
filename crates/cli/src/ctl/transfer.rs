//! `leveret ctl queues move`: messages from the front of a queue to another one, or back to where they died.

use serde_json::{Value, json};

use super::output::write;
use super::session::Session;
use crate::failure::Failure;
use crate::management::ManagementError;

/// Move messages from the front of a queue; on Leveret only
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The queue to take from
    name: String,
    #[command(flatten)]
    to: Destination,
    /// The routing key to publish with; without it each message keeps its own
    #[arg(long, value_name = "KEY", requires = "to_exchange")]
    routing_key: Option<String>,
    /// At most so many messages; without it all that wait
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Destination {
    /// The queue to put them into
    #[arg(long, value_name = "QUEUE")]
    to_queue: Option<String>,
    /// The exchange to publish them to
    #[arg(long, value_name = "EXCHANGE")]
    to_exchange: Option<String>,
    /// Back to where each of them died
    #[arg(long)]
    retry: bool,
}

impl Arguments {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (thing, path) = session.thing("queue", "queues", &self.name);
        let moved = match session.management.post(&path.segment("move"), &self.body()).await {
            Err(ManagementError::Refused { status: 405, .. }) => {
                let what = "this broker cannot move messages; a shovel can, see `ctl shovels declare --once`";
                return Err(Failure::Other(anyhow::Error::msg(what)));
            }
            moved => moved?,
        };
        if session.output.is_json() {
            write(&format!("{moved}\n"))?;
        } else {
            session.output.say(&format!("{thing}: {} moved, {} stayed", moved["moved"], moved["stayed"]));
        }
        match moved["reason"].as_str() {
            Some(reason) => Err(Failure::Other(anyhow::Error::msg(reason.to_owned()))),
            None => Ok(()),
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({});
        let texts = [
            ("to_queue", &self.to.to_queue),
            ("to_exchange", &self.to.to_exchange),
            ("routing_key", &self.routing_key),
        ];
        for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
            body[key] = json!(text);
        }
        if self.to.retry {
            body["retry"] = json!(true);
        }
        if let Some(count) = self.count {
            body["count"] = json!(count);
        }
        body
    }
}
