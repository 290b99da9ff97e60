//! `leveret ctl limits`: how much of what a virtual host or a user may have.

use serde_json::{Value, json};

use super::output::{Change, Thing};
use super::session::Session;
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// How many connections, channels and queues there may be
#[derive(clap::Subcommand)]
pub(super) enum Limits {
    /// List the limits of virtual hosts, or those of users
    List {
        #[command(flatten)]
        owner: Owner,
        /// Those of all users
        #[arg(long, conflicts_with = "user")]
        users: bool,
    },
    /// Set a limit of the virtual host, or of a user
    Set {
        #[command(flatten)]
        owner: Owner,
        /// max-connections or max-queues; for users max-connections or max-channels
        name: String,
        /// How many; -1 is any number
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Take a limit away
    #[command(visible_alias = "delete")]
    Clear {
        #[command(flatten)]
        owner: Owner,
        /// max-connections, max-queues or max-channels
        name: String,
    },
}

#[derive(clap::Args)]
pub(super) struct Owner {
    /// A user, instead of the virtual host
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl Limits {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { owner, users } => list(session, &owner, users).await,
            Self::Set { owner, name, value } => set(session, &owner, &name, value).await,
            Self::Clear { owner, name } => {
                let path = owner.path(session).segment(&name);
                let present = owner.limits(session).await?[&name].is_number();
                let change = match (present, session.if_exists) {
                    (true, _) => {
                        session.management.delete(&path).await?;
                        Change::Deleted
                    }
                    (false, true) => Change::Absent,
                    (false, false) => {
                        return Err(ManagementError::NotFound { reason: format!("limit {name}") }.into());
                    }
                };
                Ok(session.output.change(&owner.thing(session, &name), change)?)
            }
        }
    }
}

impl Owner {
    fn path(&self, session: &Session) -> Path {
        match &self.user {
            Some(user) => Path::of(&["user-limits", user]),
            None => Path::of(&["vhost-limits", session.vhost()]),
        }
    }

    /// All limits of this owner by their names.
    async fn limits(&self, session: &Session) -> Result<Value, Failure> {
        let mut found: Vec<Value> = session.management.get(&self.path(session)).await?;
        Ok(found.first_mut().map(|one| one["value"].take()).unwrap_or_default())
    }

    fn thing<'a>(&'a self, session: &'a Session, name: &'a str) -> Thing<'a> {
        match &self.user {
            Some(_) => Thing { kind: "limit", name, vhost: None },
            None => Thing { kind: "limit", name, vhost: Some(session.vhost()) },
        }
    }
}

async fn set(session: &Session, owner: &Owner, name: &str, value: i64) -> Result<(), Failure> {
    let change = match owner.limits(session).await?[name].as_i64() {
        Some(before) if before == value => Change::Unchanged,
        Some(_) => Change::Changed,
        None => Change::Created,
    };
    if change != Change::Unchanged {
        let path = owner.path(session).segment(name);
        session.management.put(&path, &json!({"value": value})).await?;
    }
    Ok(session.output.change(&owner.thing(session, name), change)?)
}

async fn list(session: &Session, owner: &Owner, users: bool) -> Result<(), Failure> {
    let (path, key) = match (&owner.user, users, &session.vhost) {
        (Some(user), ..) => (Path::of(&["user-limits", user]), "user"),
        (None, true, _) => (Path::of(&["user-limits"]), "user"),
        (None, false, Some(vhost)) => (Path::of(&["vhost-limits", vhost]), "vhost"),
        (None, false, None) => (Path::of(&["vhost-limits"]), "vhost"),
    };
    let owners: Vec<Value> = session.management.get(&path).await?;
    let rows = owners.iter().flat_map(|owner| rows(owner, key)).collect();
    Ok(session.output.list(rows, &[key, "name", "value"])?)
}

/// The API has one object per owner with all its limits in it.
fn rows(owner: &Value, key: &str) -> Vec<Value> {
    let limits = owner["value"].as_object().into_iter().flatten();
    limits.map(|(name, value)| json!({key: owner[key], "name": name, "value": value})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_a_row() {
        let owner = json!({"vhost": "/", "value": {"max-connections": 3, "max-queues": 5}});
        let expected = [
            json!({"vhost": "/", "name": "max-connections", "value": 3}),
            json!({"vhost": "/", "name": "max-queues", "value": 5}),
        ];
        assert_eq!(rows(&owner, "vhost"), expected);
    }
}
