//! `leveret ctl queues`.

use serde_json::{Value, json};

use super::arguments::{argument, table};
use super::output::Change;
use super::peek;
use super::session::Session;
use super::transfer;
use crate::failure::Failure;
use crate::management::ManagementError;

/// Queues, and the messages in them
#[derive(clap::Subcommand)]
pub(super) enum Queues {
    /// List the queues
    List,
    /// Show all about one
    Show {
        /// The name
        name: String,
    },
    /// Make a queue; one that is there already and like this stays as it is
    Declare(Declare),
    /// Delete a queue with its messages
    Delete {
        /// The name
        name: String,
        /// Only if it is empty
        #[arg(long)]
        if_empty: bool,
        /// Only if it has no consumers
        #[arg(long)]
        if_unused: bool,
    },
    /// Throw away the messages that wait in a queue
    Purge {
        /// The name
        name: String,
    },
    /// Hand out nothing more, but take what is published; RabbitMQ cannot
    Pause {
        /// The name
        name: String,
    },
    /// Hand out messages again
    Resume {
        /// The name
        name: String,
    },
    Peek(peek::Arguments),
    Move(transfer::Arguments),
    /// List who has messages of a queue that are not acknowledged, and since when; on Leveret only
    Unacked {
        /// The name
        name: String,
    },
}

#[derive(clap::Args)]
pub(super) struct Declare {
    /// The name
    name: String,
    /// classic, quorum or stream
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Gone after a restart
    #[arg(long)]
    transient: bool,
    /// Gone with its last consumer
    #[arg(long)]
    auto_delete: bool,
    /// An argument like x-max-length=100; may be repeated
    #[arg(long = "argument", short, value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, Value)>,
}

const COLUMNS: [&str; 8] =
    ["vhost", "name", "type", "state", "messages_ready", "messages_unacknowledged", "consumers", "policy"];

impl Queues {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => session.list(session.listing("queues"), &COLUMNS).await,
            Self::Show { name } => session.show(&session.thing("queue", "queues", &name).1).await,
            Self::Declare(declare) => declare.run(session).await,
            Self::Delete { name, if_empty, if_unused } => {
                let (thing, mut path) = session.thing("queue", "queues", &name);
                for (name, _) in
                    [("if-empty", if_empty), ("if-unused", if_unused)].iter().filter(|(_, on)| *on)
                {
                    path = path.query(name, "true");
                }
                session.delete(&thing, &path).await
            }
            Self::Purge { name } => {
                let (thing, path) = session.thing("queue", "queues", &name);
                session.delete_as(&thing, &path.segment("contents"), Change::Done("purged")).await
            }
            Self::Pause { name } => act(session, &name, "pause", "paused").await,
            Self::Resume { name } => act(session, &name, "resume", "resumed").await,
            Self::Peek(peek) => peek.run(session).await,
            Self::Move(transfer) => transfer.run(session).await,
            Self::Unacked { name } => {
                let columns =
                    ["connection", "channel", "consumer_tag", "since", "redelivered", "message_bytes"];
                session.list(session.thing("queue", "queues", &name).1.segment("unacked"), &columns).await
            }
        }
    }
}

async fn act(session: &Session, name: &str, verb: &str, done: &'static str) -> Result<(), Failure> {
    let (thing, path) = session.thing("queue", "queues", name);
    match session.management.put(&path.segment(verb), &json!({})).await {
        Ok(_) => Ok(session.output.change(&thing, Change::Done(done))?),
        Err(ManagementError::NotFound { .. } | ManagementError::Refused { status: 405, .. }) => {
            let what = format!("{thing}: not found, or this broker cannot {verb} queues");
            Err(Failure::Other(anyhow::Error::msg(what)))
        }
        Err(error) => Err(error.into()),
    }
}

impl Declare {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let kind = self.kind.map(|kind| ("x-queue-type".to_owned(), Value::String(kind)));
        let arguments = table(kind.into_iter().chain(self.arguments).collect());
        let body =
            json!({"durable": !self.transient, "auto_delete": self.auto_delete, "arguments": arguments});
        let (thing, path) = session.thing("queue", "queues", &self.name);
        session.put(&thing, &path, &body).await
    }
}
