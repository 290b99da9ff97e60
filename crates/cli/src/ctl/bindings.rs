//! `leveret ctl bindings`.

use serde_json::{Value, json};

use super::arguments::{argument, table};
use super::output::{Change, Thing};
use super::session::Session;
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// Bindings: which exchange gives what to whom
#[derive(clap::Subcommand)]
pub(super) enum Bindings {
    /// List the bindings
    List,
    /// Bind a queue, or an exchange, to an exchange
    Add(Binding),
    /// Take a binding away
    Delete(Binding),
}

#[derive(clap::Args)]
pub(super) struct Binding {
    /// The exchange that gives
    source: String,
    /// The queue that gets
    destination: String,
    /// The routing key or pattern
    #[arg(long, value_name = "KEY", default_value = "")]
    key: String,
    /// The destination is an exchange
    #[arg(long)]
    to_exchange: bool,
    /// An argument like x-match=all; may be repeated
    #[arg(long = "argument", short, value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, Value)>,
}

const COLUMNS: [&str; 6] = ["vhost", "source", "destination", "destination_type", "routing_key", "arguments"];

impl Bindings {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => session.list(session.listing("bindings"), &COLUMNS).await,
            Self::Add(binding) => binding.add(session).await,
            Self::Delete(binding) => binding.delete(session).await,
        }
    }
}

impl Binding {
    async fn add(self, session: &Session) -> Result<(), Failure> {
        let (path, name) = (self.path(session), self.name());
        let change = match self.find(session, &path).await? {
            Some(_) => Change::Unchanged,
            None => {
                let body = json!({"routing_key": self.key, "arguments": table(self.arguments)});
                session.management.post(&path, &body).await?;
                Change::Created
            }
        };
        Ok(session.output.change(&thing(session, &name), change)?)
    }

    async fn delete(self, session: &Session) -> Result<(), Failure> {
        let (path, name) = (self.path(session), self.name());
        let change = match self.find(session, &path).await? {
            Some(properties_key) => {
                session.management.delete(&path.segment(&properties_key)).await?;
                Change::Deleted
            }
            None if session.if_exists => Change::Absent,
            None => return Err(ManagementError::NotFound { reason: format!("binding {name}") }.into()),
        };
        Ok(session.output.change(&thing(session, &name), change)?)
    }

    /// The properties key of this binding, if it is there: the broker's name for routing key and arguments.
    async fn find(&self, session: &Session, path: &Path) -> Result<Option<String>, Failure> {
        let arguments = table(self.arguments.clone());
        let all: Vec<Value> = session.management.find(path).await?.unwrap_or_default();
        let is_this = |binding: &&Value| {
            binding["routing_key"] == self.key.as_str() && binding["arguments"] == arguments
        };
        Ok(all.iter().find(is_this).and_then(|binding| Some(binding["properties_key"].as_str()?.to_owned())))
    }

    fn path(&self, session: &Session) -> Path {
        let kind = if self.to_exchange { "e" } else { "q" };
        Path::of(&["bindings", session.vhost(), "e", &self.source, kind, &self.destination])
    }

    fn name(&self) -> String {
        format!("{} -> {} by {:?}", self.source, self.destination, self.key)
    }
}

fn thing<'a>(session: &'a Session, name: &'a str) -> Thing<'a> {
    Thing { kind: "binding", name, vhost: Some(session.vhost()) }
}
