//! `leveret ctl connections`.

use serde_json::Value;

use super::output::{Change, Thing};
use super::session::Session;
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// Connections of clients
#[derive(clap::Subcommand)]
pub(super) enum Connections {
    /// List the connections
    List,
    /// Show all about one
    Show {
        /// The name, as the list has it
        name: String,
    },
    /// Close a connection, all of a user, or all of a virtual host
    Close {
        /// The name, as the list has it
        #[arg(required_unless_present_any = ["user", "all"], conflicts_with_all = ["user", "all"])]
        name: Option<String>,
        /// All connections of this user
        #[arg(long, value_name = "USER", conflicts_with = "all")]
        user: Option<String>,
        /// All connections, of the virtual host if one is named
        #[arg(long)]
        all: bool,
    },
}

const COLUMNS: [&str; 8] =
    ["name", "user_provided_name", "user", "vhost", "state", "channels", "protocol", "connected_at"];

impl Connections {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => session.list(listing(session), &COLUMNS).await,
            Self::Show { name } => session.show(&path(&name)).await,
            Self::Close { name: Some(name), .. } => {
                session.delete_as(&thing(&name), &path(&name), Change::Done("closed")).await
            }
            Self::Close { user, .. } => close_all(session, user.as_deref()).await,
        }
    }
}

/// One after the other: the API tells of each whether it was still there.
async fn close_all(session: &Session, user: Option<&str>) -> Result<(), Failure> {
    let all: Vec<Value> = session.management.get(&listing(session).query("columns", "name,user")).await?;
    let theirs = all.iter().filter(|connection| user.is_none_or(|user| connection["user"] == user));
    for name in theirs.filter_map(|connection| connection["name"].as_str()) {
        let change = match session.management.delete(&path(name)).await {
            Ok(()) => Change::Done("closed"),
            Err(ManagementError::NotFound { .. }) => Change::Absent,
            Err(error) => return Err(error.into()),
        };
        session.output.change(&thing(name), change)?;
    }
    Ok(())
}

fn listing(session: &Session) -> Path {
    match &session.vhost {
        Some(vhost) => Path::of(&["vhosts", vhost, "connections"]),
        None => Path::of(&["connections"]),
    }
}

fn thing(name: &str) -> Thing<'_> {
    Thing { kind: "connection", name, vhost: None }
}

fn path(name: &str) -> Path {
    Path::of(&["connections", name])
}
