//! `leveret ctl vhosts`.

use serde_json::{Value, json};

use super::output::Thing;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

/// Virtual hosts: worlds of their own
#[derive(clap::Subcommand)]
pub(super) enum Vhosts {
    /// List the virtual hosts
    List,
    /// Show all about one
    Show {
        /// The name
        name: String,
    },
    /// Add a virtual host, or change what is said of it
    Add {
        /// The name
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Words to find it by, with commas between
        #[arg(long, value_name = "TAGS")]
        tags: Option<String>,
        /// The type of queues that are declared without one: classic, quorum or stream
        #[arg(long, value_name = "TYPE")]
        default_queue_type: Option<String>,
    },
    /// Delete a virtual host with all queues, messages, exchanges and permissions in it
    Delete {
        /// The name
        name: String,
    },
}

impl Vhosts {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => {
                let columns =
                    ["name", "description", "tags", "messages", "messages_ready", "messages_unacknowledged"];
                session.list(Path::of(&["vhosts"]), &columns).await
            }
            Self::Show { name } => session.show(&path(&name)).await,
            Self::Add { name, description, tags, default_queue_type } => {
                let mut body = json!({});
                let fields = [
                    ("description", description),
                    ("tags", tags),
                    ("default_queue_type", default_queue_type),
                ];
                for (key, value) in fields.into_iter().filter_map(|(key, value)| Some((key, value?))) {
                    body[key] = Value::String(value);
                }
                session.put(&thing(&name), &path(&name), &body).await
            }
            Self::Delete { name } => session.delete(&thing(&name), &path(&name)).await,
        }
    }
}

fn thing(name: &str) -> Thing<'_> {
    Thing { kind: "vhost", name, vhost: None }
}

fn path(name: &str) -> Path {
    Path::of(&["vhosts", name])
}
