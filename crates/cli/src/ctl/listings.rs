//! Nouns of `leveret ctl` that can only be looked at: channels, consumers, nodes, services.

use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;

/// Channels: conversations on connections
#[derive(clap::Subcommand)]
pub(super) enum Channels {
    /// List the channels
    List,
    /// Show all about one
    Show {
        /// The name, as the list has it
        name: String,
    },
}

/// Consumers: who gets messages from which queue
#[derive(clap::Subcommand)]
pub(super) enum Consumers {
    /// List the consumers
    List,
}

/// Nodes: the broker's processes
#[derive(clap::Subcommand)]
pub(super) enum Nodes {
    /// List the nodes
    List,
    /// Show all about one
    Show {
        /// The name, as the list has it
        name: String,
    },
}

/// Services: queues that requests come to, and what became of the requests; on Leveret only
#[derive(clap::Subcommand)]
pub(super) enum Services {
    /// List the services
    List,
    /// Show all about one
    Show {
        /// The name
        name: String,
    },
}

impl Services {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let columns = [
            "vhost",
            "name",
            "workers",
            "requests",
            "request_rate",
            "in_flight",
            "unanswered",
            "late",
            "errors",
            "latency_us.p50",
            "latency_us.p99",
        ];
        match self {
            Self::List => session.list(session.listing("services"), &columns).await,
            Self::Show { name } => session.show(&Path::of(&["services", session.vhost(), &name])).await,
        }
    }
}

impl Channels {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let columns = [
            "name",
            "user",
            "vhost",
            "consumer_count",
            "prefetch_count",
            "messages_unacknowledged",
            "confirm",
            "state",
        ];
        match self {
            Self::List => {
                let path = match &session.vhost {
                    Some(vhost) => Path::of(&["vhosts", vhost, "channels"]),
                    None => Path::of(&["channels"]),
                };
                session.list(path, &columns).await
            }
            Self::Show { name } => session.show(&Path::of(&["channels", &name])).await,
        }
    }
}

impl Consumers {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let columns = [
            "queue.vhost",
            "queue.name",
            "consumer_tag",
            "channel_details.name",
            "ack_required",
            "exclusive",
            "prefetch_count",
            "active",
        ];
        match self {
            Self::List => session.list(session.listing("consumers"), &columns).await,
        }
    }
}

impl Nodes {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let columns =
            ["name", "running", "mem_used", "mem_alarm", "disk_free", "disk_free_alarm", "fd_used", "uptime"];
        match self {
            Self::List => session.list(Path::of(&["nodes"]), &columns).await,
            Self::Show { name } => session.show(&Path::of(&["nodes", &name])).await,
        }
    }
}
