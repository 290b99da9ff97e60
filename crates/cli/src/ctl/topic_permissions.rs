//! `leveret ctl topic-permissions`.

use serde_json::{Value, json};

use super::output::{Change, Thing};
use super::permissions::listing;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

/// Which routing keys users may use on topic exchanges
#[derive(clap::Subcommand)]
pub(super) enum TopicPermissions {
    /// List the topic permissions
    List {
        /// Only those of this user
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Say which routing keys a user may publish with and bind by
    Set {
        /// The user
        user: String,
        /// The topic exchange
        exchange: String,
        /// A regular expression: keys to publish with
        write: String,
        /// Keys to bind by
        read: String,
    },
    /// Take the restrictions away
    #[command(visible_alias = "delete")]
    Clear {
        /// The user
        user: String,
        /// Only those on this exchange
        exchange: Option<String>,
    },
}

impl TopicPermissions {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { user } => {
                let columns = ["vhost", "user", "exchange", "write", "read"];
                session.list(listing(session, user, "topic-permissions"), &columns).await
            }
            Self::Set { user, exchange, write, read } => {
                let body = json!({"exchange": exchange, "write": write, "read": read});
                set(session, &user, &exchange, &body).await
            }
            Self::Clear { user, exchange } => {
                let path = path(session, &user);
                let path = exchange.iter().fold(path, |path, exchange| path.segment(exchange));
                session.delete(&thing(session, &user), &path).await
            }
        }
    }
}

/// The path has all of a user's topic permissions: which one is there already has to be looked for.
async fn set(session: &Session, user: &str, exchange: &str, body: &Value) -> Result<(), Failure> {
    let path = path(session, user);
    let all: Vec<Value> = session.management.find(&path).await?.unwrap_or_default();
    let before = all.iter().find(|one| one["exchange"] == exchange);
    let is_so =
        before.is_some_and(|before| before["write"] == body["write"] && before["read"] == body["read"]);
    let change = match (before, is_so) {
        (_, true) => Change::Unchanged,
        (Some(_), false) => Change::Changed,
        (None, _) => Change::Created,
    };
    if change != Change::Unchanged {
        session.management.put(&path, body).await?;
    }
    Ok(session.output.change(&thing(session, user), change)?)
}

fn thing<'a>(session: &'a Session, user: &'a str) -> Thing<'a> {
    Thing { kind: "topic permissions of", name: user, vhost: Some(session.vhost()) }
}

fn path(session: &Session, user: &str) -> Path {
    Path::of(&["topic-permissions", session.vhost(), user])
}
