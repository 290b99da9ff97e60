//! Channels for answers whose address can cost what it is sent on.
//!
//! ```text
//!   queue                  ─▶ the worker's own channel          a queue that is gone costs nothing
//!   exchange, routing key  ─▶ another channel                   an exchange that is missing costs the channel
//!   direct reply-to        ─▶ a channel of another connection   a forged address costs the connection
//! ```
//!
//! The last one is RabbitMQ's (observed: 3.10.8): an address that decodes, but to a node that is not there, ends the
//! publisher's connection with 541. Anybody can forge one, and the callers of a node that died have one.

use leveret_client::{By, Channel, ChannelError, Closed, Connection, Link, Scope};
use tokio::sync::Mutex;

use crate::dialect::ReplyAddress;

/// The ways out of one connection.
pub(super) struct Outside {
    connection: Connection,
    link: Link,
    own: Channel,
    exchanges: Mutex<Option<Channel>>,
    direct: Mutex<Option<Channel>>,
}

impl Outside {
    pub(super) fn new(connection: Connection, link: Link, own: Channel) -> Outside {
        Outside { connection, link, own, exchanges: Mutex::default(), direct: Mutex::default() }
    }

    /// The channel for an answer to this address.
    pub(super) async fn channel_to(&self, address: &ReplyAddress) -> Result<Channel, ChannelError> {
        if !address.exchange.is_empty() {
            return opened(&self.exchanges, || Box::pin(self.connection.channel())).await;
        }
        // A broker that bounces by itself is ours, and decodes whatever it is given.
        if !address.is_direct() || self.connection.server().capability("rpc_bounce") {
            return Ok(self.own.clone());
        }
        opened(&self.direct, || Box::pin(self.another())).await
    }

    async fn another(&self) -> Result<Channel, ChannelError> {
        let unreachable = |error: leveret_client::ConnectError| Closed {
            scope: Scope::Connection,
            by: By::Network,
            code: 0,
            text: error.to_string().into(),
        };
        self.link.another().await.map_err(unreachable)?.channel().await
    }

    /// Sends what is still to be sent, and lets go.
    pub(super) async fn close(&self) {
        for slot in [&self.exchanges, &self.direct] {
            let channel = slot.lock().await.take();
            if let Some(channel) = channel
                && let Err(error) = channel.close().await
            {
                tracing::debug!(%error, "the channel was closed already");
            }
        }
    }
}

async fn opened<F: Future<Output = Result<Channel, ChannelError>>>(
    slot: &Mutex<Option<Channel>>,
    open: impl FnOnce() -> F,
) -> Result<Channel, ChannelError> {
    let mut slot = slot.lock().await;
    match &*slot {
        Some(channel) if channel.is_open() => Ok(channel.clone()),
        _ => Ok(slot.insert(open().await?).clone()),
    }
}
