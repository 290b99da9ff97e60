//! `leveret ctl policies` and `leveret ctl operator-policies`: the same verbs, two authors.

use serde_json::{Value, json};

use super::arguments::object;
use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

/// Settings for all queues and exchanges with names like this
#[derive(clap::Subcommand)]
pub(super) enum Policies {
    /// List the policies
    List,
    /// Make a policy, or change it
    Set(Set),
    /// Delete a policy
    #[command(visible_alias = "clear")]
    Delete {
        /// The name
        name: String,
        /// Change nothing; tell how many queues it concerns, and how many messages would be dropped
        #[arg(long)]
        preview: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct Set {
    /// The name
    name: String,
    /// A regular expression: which queues and exchanges
    pattern: String,
    /// A JSON object: {"max-length": 1000}
    #[arg(value_parser = object)]
    definition: Value,
    /// Of several that match, the highest counts
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// queues, exchanges, all, or a type of queue
    #[arg(long, value_name = "WHAT")]
    apply_to: Option<String>,
    /// Change nothing; tell how many queues it concerns, and how many messages would be dropped
    #[arg(long)]
    preview: bool,
}

/// Whose policies: those of users, or those of the operator, which bind users.
#[derive(Clone, Copy)]
pub(super) enum Author {
    User,
    Operator,
}

impl Policies {
    pub(super) async fn run(self, session: &Session, author: Author) -> Result<(), Failure> {
        match self {
            Self::List => {
                let columns = ["vhost", "name", "pattern", "apply-to", "definition", "priority"];
                session.list(session.listing(author.plural()), &columns).await
            }
            Self::Set(set) => set.run(session, author).await,
            Self::Delete { name, preview } => {
                let (thing, path) = session.thing(author.kind(), author.plural(), &name);
                if !preview {
                    return session.delete(&thing, &path).await;
                }
                let effect = session.management.delete_for_answer(&previewed(session, path).await?).await?;
                Ok(session.output.facts(&effect)?)
            }
        }
    }
}

impl Set {
    async fn run(self, session: &Session, author: Author) -> Result<(), Failure> {
        // The operator's settings are all of queues; RabbitMQ takes no others.
        let apply_to = self.apply_to.as_deref().unwrap_or(match author {
            Author::User => "all",
            Author::Operator => "queues",
        });
        let body = json!({
            "pattern": self.pattern,
            "definition": self.definition,
            "priority": self.priority,
            "apply-to": apply_to,
        });
        let (thing, path) = session.thing(author.kind(), author.plural(), &self.name);
        if !self.preview {
            return session.put(&thing, &path, &body).await;
        }
        let effect = session.management.put_for_answer(&previewed(session, path).await?, &body).await?;
        Ok(session.output.facts(&effect)?)
    }
}

/// A RabbitMQ would not know the word and do it: whether the broker is a Leveret is asked first.
async fn previewed(session: &Session, path: Path) -> Result<Path, Failure> {
    let overview: Value = session.management.get(&Path::of(&["overview"])).await?;
    if overview["product_name"] != "Leveret" {
        return Err(Failure::Usage("--preview: this broker cannot tell before it does it".to_owned()));
    }
    Ok(path.query("preview", "true"))
}

impl Author {
    fn kind(self) -> &'static str {
        match self {
            Self::User => "policy",
            Self::Operator => "operator policy",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::User => "policies",
            Self::Operator => "operator-policies",
        }
    }
}
