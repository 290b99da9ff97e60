//! Makes at the destination what the definitions say. Everything may be there already: applying them twice is applying
//! them once.

use leveret_client::{Channel, ChannelError, ConnectOptions, Connection, Scope};

use super::definitions::{Setting, Topology};
use crate::failure::Failure;
use crate::management::{Management, ManagementError};

/// Sends every setting. Answers what the destination does not take, in words.
///
/// # Errors
/// There is no management API, or it does not let this user in.
pub(super) async fn apply(to: &Management, settings: &[Setting]) -> Result<Vec<String>, Failure> {
    let mut refused = Vec::new();
    for Setting { what, path, body } in settings {
        match to.put(path, body).await {
            Ok(_) => {}
            Err(error @ (ManagementError::Refused { .. } | ManagementError::NotFound { .. })) => {
                refused.push(format!("{what}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(refused)
}

/// Declares exchanges, queues and bindings. Answers what the destination does not take, in words.
///
/// # Errors
/// There is no connection to the virtual host, or it ended.
pub(super) async fn declare(to: &ConnectOptions, topology: &Topology) -> Result<Vec<String>, Failure> {
    let Topology { vhost, exchanges, queues, queue_bindings, exchange_bindings } = topology;
    let connection = Connection::open(to).await?;
    let channel = connection.channel().await?;
    let mut declarer = Declarer { connection, channel, refused: Vec::new() };
    for exchange in exchanges {
        let declared = declarer.channel.declare_exchange(exchange).await;
        declarer.note(declared, || format!("exchange '{}' in vhost '{vhost}'", exchange.name)).await?;
    }
    for queue in queues {
        let declared = declarer.channel.declare_queue(queue).await.map(drop);
        declarer.note(declared, || format!("queue '{}' in vhost '{vhost}'", queue.name)).await?;
    }
    for b in queue_bindings {
        let arguments = b.arguments.clone();
        let bound = declarer.channel.bind_queue(&b.queue, &b.exchange, &b.routing_key, arguments).await;
        let what = || format!("binding of queue '{}' to '{}' in vhost '{vhost}'", b.queue, b.exchange);
        declarer.note(bound, what).await?;
    }
    for (to, b) in exchange_bindings {
        let bound =
            declarer.channel.bind_exchange(to, &b.exchange, &b.routing_key, b.arguments.clone()).await;
        declarer
            .note(bound, || format!("binding of exchange '{to}' to '{}' in vhost '{vhost}'", b.exchange))
            .await?;
    }
    declarer.connection.close().await;
    Ok(declarer.refused)
}

/// A channel that is opened again when a refusal has ended it.
struct Declarer {
    connection: Connection,
    channel: Channel,
    refused: Vec<String>,
}

impl Declarer {
    async fn note(
        &mut self,
        declared: Result<(), ChannelError>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match declared {
            Ok(()) => return Ok(()),
            Err(ChannelError::Closed(closed)) if closed.scope == Scope::Connection => {
                return Err(closed.into());
            }
            Err(error) => self.refused.push(format!("{}: {error}", what())),
        }
        if !self.channel.is_open() {
            self.channel = self.connection.channel().await?;
        }
        Ok(())
    }
}
