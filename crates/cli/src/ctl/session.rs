//! What every noun of `leveret ctl` does: list, show, make, and remove.

use serde_json::Value;

use super::output::{Change, OutputFlags, Thing};
use crate::failure::Failure;
use crate::management::{Management, ManagementError, Path, Put};

/// The virtual host that there is always.
const VHOST_DEFAULT: &str = "/";

/// One command's way to the broker and to the user.
pub(super) struct Session {
    pub(super) management: Management,
    pub(super) output: OutputFlags,
    /// `--vhost`, if it was given.
    pub(super) vhost: Option<String>,
    /// What is to be deleted may be gone already.
    pub(super) if_exists: bool,
}

impl Session {
    /// The virtual host to act in.
    pub(super) fn vhost(&self) -> &str {
        self.vhost.as_deref().unwrap_or(VHOST_DEFAULT)
    }

    /// The path of a listing: of the virtual host that was named, or of all that the user may see.
    pub(super) fn listing(&self, kind: &str) -> Path {
        match &self.vhost {
            Some(vhost) => Path::of(&[kind, vhost]),
            None => Path::of(&[kind]),
        }
    }

    /// A thing in the virtual host to act in, and its path.
    pub(super) fn thing<'a>(&'a self, kind: &'static str, plural: &str, name: &'a str) -> (Thing<'a>, Path) {
        let thing = Thing { kind, name, vhost: Some(self.vhost()) };
        (thing, Path::of(&[plural, self.vhost(), name]))
    }

    /// Lists what is at a path.
    pub(super) async fn list(&self, path: Path, columns: &[&str]) -> Result<(), Failure> {
        let path = match self.output.needed(columns) {
            Some(mut columns) => {
                if !columns.iter().any(|column| column == "vhost") {
                    columns.push("vhost".to_owned());
                }
                path.query("columns", &columns.join(","))
            }
            None => path,
        };
        let mut objects: Vec<Value> = self.management.get(&path).await?;
        // Not every listing has a path for one virtual host.
        objects.retain(|object| {
            self.vhost.is_none() || object["vhost"].as_str().is_none_or(|name| name == self.vhost())
        });
        Ok(self.output.list(objects, columns)?)
    }

    /// Shows all about one thing.
    pub(super) async fn show(&self, path: &Path) -> Result<(), Failure> {
        let object: Value = self.management.get(path).await?;
        Ok(self.output.facts(&object)?)
    }

    /// Makes something as the body says, unless it is so already.
    pub(super) async fn put(&self, thing: &Thing<'_>, path: &Path, body: &Value) -> Result<(), Failure> {
        let before: Option<Value> = self.management.find(path).await?;
        let change = match &before {
            Some(before) if agrees(before, body) => Change::Unchanged,
            _ => match self.management.put(path, body).await? {
                Put::Replaced if before.is_some() => Change::Changed,
                Put::Created | Put::Replaced => Change::Created,
            },
        };
        Ok(self.output.change(thing, change)?)
    }

    /// Removes something.
    pub(super) async fn delete(&self, thing: &Thing<'_>, path: &Path) -> Result<(), Failure> {
        self.delete_as(thing, path, Change::Deleted).await
    }

    /// Lets happen what the API has under DELETE; `done` is the word for it.
    pub(super) async fn delete_as(
        &self,
        thing: &Thing<'_>,
        path: &Path,
        done: Change,
    ) -> Result<(), Failure> {
        let change = match self.management.delete(path).await {
            Ok(()) => done,
            Err(ManagementError::NotFound { .. }) if self.if_exists => Change::Absent,
            Err(ManagementError::NotFound { .. }) => {
                return Err(Failure::Other(anyhow::Error::msg(format!("{thing}: not found"))));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(self.output.change(thing, change)?)
    }
}

/// Whether something already has every value that a body would give it.
fn agrees(before: &Value, body: &Value) -> bool {
    let is_so = |(key, value): (&String, &Value)| match (before.get(key), value) {
        // Tags are sent as words with commas between, and come back as a list.
        (Some(Value::Array(words)), Value::String(text)) => {
            words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",") == *text
        }
        (before, value) => before == Some(value),
    };
    body.as_object().is_some_and(|body| body.iter().all(is_so))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_all_values_already_is_not_sent_again() {
        let check = |before: Value, body: Value, expected| assert_eq!(agrees(&before, &body), expected);
        check(json!({"durable": true, "messages": 3}), json!({"durable": true}), true);
        check(json!({"durable": true}), json!({"durable": false}), false);
        check(json!({"durable": true}), json!({"arguments": {}}), false);
        check(json!({"tags": ["a", "b"]}), json!({"tags": "a,b"}), true);
        check(json!({"tags": ["a", "b"]}), json!({"tags": "b"}), false);
    }
}
