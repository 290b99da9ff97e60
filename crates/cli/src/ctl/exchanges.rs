//! `leveret ctl exchanges`.

use serde_json::{Value, json};

use super::arguments::{argument, table};
use super::session::Session;
use crate::failure::Failure;

/// Exchanges: where messages are published to
#[derive(clap::Subcommand)]
pub(super) enum Exchanges {
    /// List the exchanges
    List,
    /// Show all about one
    Show {
        /// The name
        name: String,
    },
    /// Make an exchange; one that is there already and like this stays as it is
    Declare(Declare),
    /// Delete an exchange with its bindings
    Delete {
        /// The name
        name: String,
        /// Only if nothing is bound to it
        #[arg(long)]
        if_unused: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct Declare {
    /// The name
    name: String,
    /// direct, fanout, topic, headers, or another type that the broker has
    #[arg(long = "type", value_name = "TYPE", default_value = "direct")]
    kind: String,
    /// Gone after a restart
    #[arg(long)]
    transient: bool,
    /// Gone with its last binding
    #[arg(long)]
    auto_delete: bool,
    /// Only other exchanges may publish to it
    #[arg(long)]
    internal: bool,
    /// An argument like alternate-exchange=rest; may be repeated
    #[arg(long = "argument", short, value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, Value)>,
}

impl Exchanges {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => {
                let columns = ["vhost", "name", "type", "durable", "auto_delete", "internal", "policy"];
                session.list(session.listing("exchanges"), &columns).await
            }
            Self::Show { name } => session.show(&session.thing("exchange", "exchanges", &name).1).await,
            Self::Declare(declare) => declare.run(session).await,
            Self::Delete { name, if_unused } => {
                let (thing, path) = session.thing("exchange", "exchanges", &name);
                let path = if if_unused { path.query("if-unused", "true") } else { path };
                session.delete(&thing, &path).await
            }
        }
    }
}

impl Declare {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let body = json!({
            "type": self.kind,
            "durable": !self.transient,
            "auto_delete": self.auto_delete,
            "internal": self.internal,
            "arguments": table(self.arguments),
        });
        let (thing, path) = session.thing("exchange", "exchanges", &self.name);
        session.put(&thing, &path, &body).await
    }
}
