//! `leveret ctl shovels`: queues that are emptied into other brokers.

use serde_json::{Value, json};

use super::arguments::argument;
use super::output::{Change, Thing};
use super::parameters;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

const COMPONENT: &str = "shovel";

/// Shovels: what moves messages from broker to broker
#[derive(clap::Subcommand)]
pub(super) enum Shovels {
    /// List the shovels, with what they are doing
    List,
    /// Make a shovel, or change it
    Declare(Declare),
    /// Delete a shovel; what it has not moved stays where it is
    Delete {
        /// The name
        name: String,
    },
    /// Let a shovel begin again
    Restart {
        /// The name
        name: String,
    },
}

#[derive(clap::Args)]
pub(super) struct Declare {
    /// The name
    name: String,
    /// The queue to take from
    #[arg(long, value_name = "QUEUE")]
    from_queue: String,
    /// The queue to put into
    #[arg(
        long,
        value_name = "QUEUE",
        required_unless_present = "to_exchange",
        conflicts_with = "to_exchange"
    )]
    to_queue: Option<String>,
    /// The exchange to publish to
    #[arg(long, value_name = "EXCHANGE")]
    to_exchange: Option<String>,
    /// The broker to take from, as the shovel's broker reaches it
    #[arg(long, value_name = "URL", default_value = "amqp://")]
    from: String,
    /// The broker to publish to, as the shovel's broker reaches it
    #[arg(long, value_name = "URL", default_value = "amqp://")]
    to: String,
    /// Go when the messages that were there at the start have been moved
    #[arg(long)]
    once: bool,
    /// Another setting, such as ack-mode=on-publish; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = argument)]
    settings: Vec<(String, Value)>,
}

impl Shovels {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => {
                let columns =
                    ["vhost", "name", "type", "state", "src_queue", "dest_queue", "dest_exchange", "reason"];
                session.list(session.listing("shovels"), &columns).await
            }
            Self::Declare(declare) => {
                parameters::set(session, "shovel", COMPONENT, &declare.name, declare.value()).await
            }
            Self::Delete { name } => parameters::clear(session, "shovel", COMPONENT, &name).await,
            Self::Restart { name } => {
                let path = Path::of(&["shovels", "vhost", session.vhost(), &name, "restart"]);
                let thing = Thing { kind: "shovel", name: &name, vhost: Some(session.vhost()) };
                session.delete_as(&thing, &path, Change::Done("restarted")).await
            }
        }
    }
}

impl Declare {
    fn value(&self) -> Value {
        let mut value = json!({
            "src-protocol": "amqp091",
            "src-uri": self.from,
            "src-queue": self.from_queue,
            "dest-protocol": "amqp091",
            "dest-uri": self.to,
        });
        for (key, text) in [("dest-queue", &self.to_queue), ("dest-exchange", &self.to_exchange)] {
            if let Some(text) = text {
                value[key] = json!(text);
            }
        }
        if self.once {
            value["src-delete-after"] = json!("queue-length");
        }
        for (name, setting) in &self.settings {
            value[name] = setting.clone();
        }
        value
    }
}
