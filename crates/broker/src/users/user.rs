//! One user: who it is and what it may do.

use std::collections::BTreeMap;

use super::permissions::{Operation, Permissions, TopicPermissions};

/// A user as it was at some moment. Immutable and shared: a change makes a new one and raises
/// [`Users::version`](super::Users::version).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What it is to the management surface: `administrator`, `monitoring`, `policymaker`, `management`,
    /// `impersonator`, or any other text.
    pub tags: Vec<String>,
    /// It may only log in from this machine.
    pub loopback_only: bool,
    pub(super) permissions: BTreeMap<String, Permissions>,
    /// By virtual host and exchange.
    pub(super) topic_permissions: BTreeMap<(String, String), TopicPermissions>,
}

impl User {
    pub(crate) fn new(name: &str, tags: Vec<String>) -> Self {
        Self {
            name: name.into(),
            tags,
            loopback_only: false,
            permissions: BTreeMap::new(),
            topic_permissions: BTreeMap::new(),
        }
    }

    /// Gives it permissions in a virtual host, in place of those that it had there.
    pub(crate) fn permit(&mut self, vhost: &str, permissions: Permissions) {
        self.permissions.insert(vhost.into(), permissions);
    }

    /// Whether it has exactly that tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// Its permissions in a virtual host. Without any it may not even open it.
    pub fn permissions(&self, vhost: &str) -> Option<&Permissions> {
        self.permissions.get(vhost)
    }

    /// Whether the operation is allowed on the queue or exchange of that name.
    pub fn allows(&self, vhost: &str, operation: Operation, name: &str) -> bool {
        self.permissions(vhost).is_some_and(|permissions| permissions.allows(operation, name))
    }

    /// Whether a key may be published to (`Write`) or bound from (`Read`) a topic exchange. Everything is
    /// allowed where no topic permissions are set; the exchange itself must be allowed as well.
    pub fn allows_topic(&self, vhost: &str, exchange: &str, operation: Operation, routing_key: &str) -> bool {
        if self.topic_permissions.is_empty() {
            return true;
        }
        let key = (vhost.to_string(), exchange.to_string());
        self.topic_permissions.get(&key).is_none_or(|permissions| permissions.allows(operation, routing_key))
    }

    /// All its permissions, by virtual host.
    pub fn all_permissions(&self) -> impl Iterator<Item = (&str, &Permissions)> {
        self.permissions.iter().map(|(vhost, permissions)| (vhost.as_str(), permissions))
    }

    /// All its topic permissions: virtual host, exchange, patterns.
    pub fn all_topic_permissions(&self) -> impl Iterator<Item = (&str, &str, &TopicPermissions)> {
        self.topic_permissions.iter().map(|((vhost, exchange), p)| (vhost.as_str(), exchange.as_str(), p))
    }

    pub(super) fn mentions(&self, vhost: &str) -> bool {
        self.permissions.contains_key(vhost) || self.topic_permissions.keys().any(|(at, _)| at == vhost)
    }

    pub(super) fn forget(&mut self, vhost: &str) {
        self.permissions.remove(vhost);
        self.topic_permissions.retain(|(at, _), _| at != vhost);
    }
}
