//! `leveret ctl users`.

use leveret_wire::Secret;
use serde_json::{Value, json};

use super::output::{Change, Thing};
use super::password::PasswordFlags;
use super::session::Session;
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// Who may log in
#[derive(clap::Subcommand)]
pub(super) enum Users {
    /// List the users
    List,
    /// Add a user. The password is asked for, or is the first line of stdin
    Add {
        /// The name
        user: String,
        #[command(flatten)]
        password: PasswordFlags,
        /// administrator, monitoring, policymaker, management, or words of your own, with commas between
        #[arg(long, value_name = "TAGS", value_delimiter = ',')]
        tags: Vec<String>,
    },
    /// Give a user another password
    #[command(visible_alias = "passwd")]
    Password {
        /// The name
        user: String,
        #[command(flatten)]
        password: PasswordFlags,
    },
    /// Set the tags of a user, all of them; none takes them away
    Tags {
        /// The name
        user: String,
        /// administrator, monitoring, policymaker, management, or words of your own
        tags: Vec<String>,
    },
    /// Delete a user, with all permissions
    Delete {
        /// The name
        user: String,
    },
    /// Show who the API says that you are
    Whoami,
}

impl Users {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => session.list(Path::of(&["users"]), &["name", "tags"]).await,
            Self::Add { user, password, tags } => add(session, &user, password, &tags).await,
            Self::Password { user, password } => change_password(session, &user, password).await,
            Self::Tags { user, tags } => change_tags(session, &user, &tags).await,
            Self::Delete { user } => session.delete(&thing(&user), &path(&user)).await,
            Self::Whoami => session.show(&Path::of(&["whoami"])).await,
        }
    }
}

/// The API would give a user who is there another password: that has a verb of its own.
async fn add(session: &Session, user: &str, password: PasswordFlags, tags: &[String]) -> Result<(), Failure> {
    if session.management.find::<Value>(&path(user)).await?.is_some() {
        let what = format!("user {user} is there already; see `users password` and `users tags`");
        return Err(Failure::Other(anyhow::Error::msg(what)));
    }
    let body = with_password(json!({"tags": tags.join(",")}), password.read(user)?)?;
    session.management.put(&path(user), &body).await?;
    Ok(session.output.change(&thing(user), Change::Created)?)
}

async fn change_password(session: &Session, user: &str, password: PasswordFlags) -> Result<(), Failure> {
    let before: Value = session.management.get(&path(user)).await?;
    let body = with_password(json!({"tags": joined_tags(&before)}), password.read(user)?)?;
    session.management.put(&path(user), &body).await?;
    Ok(session.output.change(&thing(user), Change::Changed)?)
}

/// The API sets tags and password together: the password is handed back as the hash that it gave out.
async fn change_tags(session: &Session, user: &str, tags: &[String]) -> Result<(), Failure> {
    let before: Value = session.management.get(&path(user)).await?;
    let tags = tags.join(",");
    if joined_tags(&before) == tags {
        return Ok(session.output.change(&thing(user), Change::Unchanged)?);
    }
    let mut body = json!({"tags": tags, "password_hash": before["password_hash"]});
    if let Some(algorithm) = before.get("hashing_algorithm") {
        body["hashing_algorithm"] = algorithm.clone();
    }
    session.management.put(&path(user), &body).await?;
    Ok(session.output.change(&thing(user), Change::Changed)?)
}

fn with_password(mut body: Value, password: Option<Secret>) -> Result<Value, Failure> {
    let (key, text) = match &password {
        Some(password) => ("password", std::str::from_utf8(password.expose())),
        // RabbitMQ's words for a user who cannot log in with a password.
        None => ("password_hash", Ok("")),
    };
    body[key] = json!(text.map_err(|error| ManagementError::Address(error.to_string()))?);
    Ok(body)
}

/// A list since RabbitMQ 3.9, a text with commas before.
fn joined_tags(user: &Value) -> String {
    match &user["tags"] {
        Value::Array(tags) => tags.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        tags => tags.as_str().unwrap_or_default().to_owned(),
    }
}

fn thing(user: &str) -> Thing<'_> {
    Thing { kind: "user", name: user, vhost: None }
}

fn path(user: &str) -> Path {
    Path::of(&["users", user])
}
