//! Definitions: all that can be set up in a broker, as one value. How it is put in force: [`crate::ops::define`].

use std::fmt;

use leveret_wire::FieldTable;

use crate::error::Refusal;
use crate::parameters::GlobalParameter;
use crate::policies::{Author, Policy};
use crate::quotas::{UserLimits, VHostLimits};
use crate::users::{PasswordHash, Permissions, UserError};
use crate::vhost_metadata::VHostMetadata;

/// What is to be there. What is there already stays, but for users, permissions, policies, limits, parameters and what is
/// said of virtual hosts, which become what is said here.
#[derive(Debug, Default)]
pub struct Definitions {
    /// Virtual hosts; without metadata, one that is there keeps its own.
    pub vhosts: Vec<(String, Option<VHostMetadata>)>,
    /// What virtual hosts may have.
    pub vhost_limits: Vec<(String, VHostLimits)>,
    /// Users.
    pub users: Vec<DefinedUser>,
    /// What users may do.
    pub permissions: Vec<DefinedPermissions>,
    /// Which routing keys users may use.
    pub topic_permissions: Vec<DefinedTopicPermissions>,
    /// Policies, by virtual host.
    pub policies: Vec<(String, Author, Policy)>,
    /// Runtime parameters.
    pub parameters: Vec<DefinedParameter>,
    /// Global parameters.
    pub global_parameters: Vec<GlobalParameter>,
    /// Queues.
    pub queues: Vec<DefinedQueue>,
    /// Exchanges.
    pub exchanges: Vec<DefinedExchange>,
    /// Bindings. One whose ends are not there is passed over, as RabbitMQ does.
    pub bindings: Vec<DefinedBinding>,
}

/// A user.
#[derive(Debug)]
pub struct DefinedUser {
    /// The name.
    pub name: String,
    /// The password's hash.
    pub password: PasswordHash,
    /// What it is to the management surface.
    pub tags: Vec<String>,
    /// What it may have; `None`: as before.
    pub limits: Option<UserLimits>,
}

/// What a user may do in a virtual host.
#[derive(Debug)]
pub struct DefinedPermissions {
    /// The user.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// What it may do there.
    pub permissions: Permissions,
}

/// Which routing keys of an exchange a user may use.
#[derive(Debug)]
pub struct DefinedTopicPermissions {
    /// The user.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// The exchange, which need not exist.
    pub exchange: String,
    /// The pattern for publishing.
    pub write: String,
    /// The pattern for binding.
    pub read: String,
}

/// A runtime parameter. Its value is not shown by `Debug`: addresses with passwords are among them.
pub struct DefinedParameter {
    /// Whose it is.
    pub component: String,
    /// The virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// JSON text.
    pub value: String,
}

impl fmt::Debug for DefinedParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { component, vhost, name, .. } = self;
        write!(f, "DefinedParameter({component} '{name}' in vhost '{vhost}')")
    }
}

/// A queue.
#[derive(Debug)]
pub struct DefinedQueue {
    /// The virtual host.
    pub vhost: String,
    /// Its name, 1 to 255 octets.
    pub name: String,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
    /// Declaration arguments.
    pub arguments: FieldTable,
}

/// An exchange.
#[derive(Debug)]
pub struct DefinedExchange {
    /// The virtual host.
    pub vhost: String,
    /// Its name, 1 to 255 octets.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Declaration arguments.
    pub arguments: FieldTable,
}

/// A binding.
#[derive(Debug)]
pub struct DefinedBinding {
    /// The virtual host.
    pub vhost: String,
    /// The exchange that routes.
    pub source: String,
    /// It leads to a queue, otherwise to an exchange.
    pub to_queue: bool,
    /// The name of that queue or exchange.
    pub destination: String,
    /// The routing key, at most 255 octets.
    pub routing_key: String,
    /// Arguments.
    pub arguments: FieldTable,
}

/// Why definitions are refused. Nothing of them is in force then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefinitionsError {
    /// Something is in a virtual host that neither exists nor is defined.
    NoVHost(String),
    /// Something is of a user that neither exists nor is defined.
    NoUser(String),
    /// Something makes no sense.
    Invalid {
        /// What it is: `queue 'q' in vhost '/'`.
        what: String,
        /// Why it is refused.
        reason: String,
    },
    /// It could not be kept: our fault.
    Failed(Refusal),
}

impl DefinitionsError {
    pub(crate) fn invalid(what: impl Into<String>, reason: &impl ToString) -> Self {
        Self::Invalid { what: what.into(), reason: reason.to_string() }
    }

    pub(crate) fn of_user(name: &str, error: &UserError) -> Self {
        Self::invalid(format!("user '{name}'"), error)
    }
}

impl fmt::Display for DefinitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVHost(name) => write!(f, "no_such_vhost: {name}"),
            Self::NoUser(name) => write!(f, "no_such_user: {name}"),
            Self::Invalid { what, reason } => write!(f, "{what}: {reason}"),
            Self::Failed(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for DefinitionsError {}

impl From<Refusal> for DefinitionsError {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal)
    }
}
