//! `leveret ctl permissions`.

use serde_json::json;

use super::output::Thing;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

/// What users may do in a virtual host
#[derive(clap::Subcommand)]
pub(super) enum Permissions {
    /// List the permissions
    List {
        /// Only those of this user
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Let a user in, and say which names it may configure, write to and read from
    Set {
        /// The user
        user: String,
        /// A regular expression: what it may declare and delete; '.*' is everything, '' nothing
        configure: String,
        /// What it may publish to
        write: String,
        /// What it may consume
        read: String,
    },
    /// Shut a user out of the virtual host
    #[command(visible_alias = "delete")]
    Clear {
        /// The user
        user: String,
    },
}

impl Permissions {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { user } => {
                session
                    .list(
                        listing(session, user, "permissions"),
                        &["vhost", "user", "configure", "write", "read"],
                    )
                    .await
            }
            Self::Set { user, configure, write, read } => {
                let body = json!({"configure": configure, "write": write, "read": read});
                session.put(&thing(session, &user), &path(session, &user), &body).await
            }
            Self::Clear { user } => session.delete(&thing(session, &user), &path(session, &user)).await,
        }
    }
}

/// The path of a listing of permissions: of a user, of a virtual host, or of everything.
pub(super) fn listing(session: &Session, user: Option<String>, kind: &str) -> Path {
    match (user, &session.vhost) {
        (Some(user), _) => Path::of(&["users", &user, kind]),
        (None, Some(vhost)) => Path::of(&["vhosts", vhost, kind]),
        (None, None) => Path::of(&[kind]),
    }
}

fn thing<'a>(session: &'a Session, user: &'a str) -> Thing<'a> {
    Thing { kind: "permissions of", name: user, vhost: Some(session.vhost()) }
}

fn path(session: &Session, user: &str) -> Path {
    Path::of(&["permissions", session.vhost(), user])
}
