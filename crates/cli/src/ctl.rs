//! `leveret ctl NOUN VERB`: a broker, ours or a RabbitMQ, over its management API.
//!
//! ```text
//!   NOUN VERB ─▶ one file per noun ─▶ session: list, show, put, delete ─▶ management API
//!                                        └▶ output: table, tabs or JSON; what was changed
//! ```

mod arguments;
mod bindings;
mod connections;
mod definitions;
mod exchanges;
mod federation;
mod health;
mod legacy;
mod limits;
mod listings;
mod logs;
mod output;
mod parameters;
mod password;
mod peek;
mod permissions;
mod policies;
mod queues;
mod session;
mod shovels;
mod status;
mod topic_permissions;
mod transfer;
mod users;
mod vhosts;

use std::ffi::OsString;

use clap::Subcommand;

use crate::failure::Failure;
use crate::management::ManagementFlags;
use output::OutputFlags;
pub(crate) use output::facts;
use policies::Author;
use session::Session;

/// Administer a broker, this one or a RabbitMQ, over its management API
///
/// Exit codes: 0 done, 1 the broker refused or has no such thing, 2 usage, 6 no management API there.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    management: ManagementFlags,
    #[command(flatten)]
    output: OutputFlags,
    /// The virtual host. Default: lists are of all, everything else happens in /
    #[arg(long, short = 'p', global = true, value_name = "VHOST")]
    vhost: Option<String>,
    /// Deleting what is not there is no error
    #[arg(long, global = true, alias = "idempotently")]
    if_exists: bool,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Subcommand)]
enum Noun {
    Status(status::Arguments),
    Health(health::Arguments),
    #[command(subcommand)]
    Queues(queues::Queues),
    #[command(subcommand)]
    Exchanges(exchanges::Exchanges),
    #[command(subcommand)]
    Bindings(bindings::Bindings),
    #[command(subcommand)]
    Connections(connections::Connections),
    #[command(subcommand)]
    Channels(listings::Channels),
    #[command(subcommand)]
    Consumers(listings::Consumers),
    #[command(subcommand)]
    Nodes(listings::Nodes),
    #[command(subcommand)]
    Services(listings::Services),
    #[command(subcommand)]
    Users(users::Users),
    #[command(subcommand)]
    Vhosts(vhosts::Vhosts),
    #[command(subcommand)]
    Permissions(permissions::Permissions),
    #[command(subcommand)]
    TopicPermissions(topic_permissions::TopicPermissions),
    #[command(subcommand)]
    Policies(policies::Policies),
    /// Settings of the operator, which users cannot exceed
    #[command(subcommand)]
    OperatorPolicies(policies::Policies),
    #[command(subcommand)]
    Limits(limits::Limits),
    #[command(subcommand)]
    Parameters(parameters::Parameters),
    #[command(subcommand)]
    GlobalParameters(parameters::GlobalParameters),
    #[command(subcommand)]
    Shovels(shovels::Shovels),
    #[command(subcommand)]
    Federation(federation::Federation),
    Logs(logs::Logs),
    #[command(subcommand)]
    LogLevel(logs::LogLevel),
    #[command(subcommand)]
    Definitions(definitions::Definitions),
}

/// A whole command line with rabbitmqctl's spellings in the words of this program.
pub(crate) fn modernize(line: Vec<OsString>) -> Vec<OsString> {
    legacy::modernize(line, Noun::has_subcommand)
}

/// Does one thing.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { management, output, vhost, if_exists, noun } = arguments;
    let session = Session { management: management.client()?, output, vhost, if_exists };
    noun.run(&session).await
}

impl Noun {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Status(status) => status.run(session).await,
            Self::Health(health) => health.run(session).await,
            Self::Queues(queues) => queues.run(session).await,
            Self::Exchanges(exchanges) => exchanges.run(session).await,
            Self::Bindings(bindings) => bindings.run(session).await,
            Self::Connections(connections) => connections.run(session).await,
            Self::Channels(channels) => channels.run(session).await,
            Self::Consumers(consumers) => consumers.run(session).await,
            Self::Nodes(nodes) => nodes.run(session).await,
            Self::Services(services) => services.run(session).await,
            Self::Users(users) => users.run(session).await,
            Self::Vhosts(vhosts) => vhosts.run(session).await,
            Self::Permissions(permissions) => permissions.run(session).await,
            Self::TopicPermissions(permissions) => permissions.run(session).await,
            Self::Policies(policies) => policies.run(session, Author::User).await,
            Self::OperatorPolicies(policies) => policies.run(session, Author::Operator).await,
            Self::Limits(limits) => limits.run(session).await,
            Self::Parameters(parameters) => parameters.run(session).await,
            Self::GlobalParameters(parameters) => parameters.run(session).await,
            Self::Shovels(shovels) => shovels.run(session).await,
            Self::Federation(federation) => federation.run(session).await,
            Self::Logs(logs) => logs.run(session).await,
            Self::LogLevel(level) => level.run(session).await,
            Self::Definitions(definitions) => definitions.run(session).await,
        }
    }
}
