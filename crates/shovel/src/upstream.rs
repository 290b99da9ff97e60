//! An exchange of another broker, and what a link makes there to take from it.
//!
//! ```text
//!   exchange ──bindings as here──► "QUEUE A" ──► QUEUE ──► the link
//!                                  "QUEUE B"     a new one at every start; the old one goes when the new one is complete
//! ```
//!
//! The queue stays while the link is away, so nothing is missed that is published meanwhile. What is bound to the exchange
//! between cannot be asked for, so it begins anew, under the other letter: bindings that are wanted no longer are gone with
//! the old one, and no message falls between the two. The names are those of RabbitMQ's plugin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leveret_client::{Channel, ChannelError, ConnectOptions, Connection, ExchangeDeclare, QueueDeclare};
use leveret_wire::FieldTable;
use tokio::sync::watch;

use crate::federation::{Bindings, Federation, Identity};
use crate::transfer::{Broken, NOT_FOUND, Side, ensure_queue};

/// How often it is asked whether the exchange between is still there.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The type of the exchange between, where a broker knows it. Elsewhere a fanout does: the link checks what comes.
const KIND: &str = "x-federation-upstream";

/// An exchange that a link takes messages from.
#[derive(Clone, Debug)]
pub struct UpstreamExchange {
    /// The exchange, declared like this if there is none of that name.
    pub exchange: ExchangeDeclare,
    /// The queue in which messages wait for the link, declared like this.
    pub queue: QueueDeclare,
    /// The arguments of the exchange between.
    pub between: FieldTable,
    /// Which bindings are wanted.
    pub bindings: watch::Receiver<Arc<Bindings>>,
    /// The broker, for a question that may end a connection.
    pub address: ConnectOptions,
    /// Keep the queue when the link is taken away.
    pub keeps_queue: bool,
}

/// Keeps the bindings at the upstream like those here.
pub(crate) struct Following {
    upstream: UpstreamExchange,
    rules: Arc<dyn Federation>,
    /// The name that the upstream gives itself.
    name: String,
    letter: char,
    connection: Connection,
    channel: Channel,
    /// What is bound there, with the arguments it has there.
    bound: BTreeMap<Identity, FieldTable>,
}

impl UpstreamExchange {
    /// Makes what is needed there, complete with bindings.
    pub(crate) async fn open(
        &self,
        source: &Connection,
        rules: Arc<dyn Federation>,
        name: &str,
    ) -> Result<Following, Broken> {
        let broken = |error: ChannelError| Broken::Channel(Side::Source, error);
        let channel = source.channel().await.map_err(broken)?;
        let exists = self.prepare(source).await.map_err(broken)?;
        let letter = if exists[0] && !exists[1] { 'B' } else { 'A' };
        let between = self.between(letter);
        if exists != [true, true] {
            self.declare_between(&channel, &between).await?;
        }
        channel.bind_queue(&self.queue.name, &between, "", FieldTable::new()).await.map_err(broken)?;
        let mut following = Following {
            upstream: self.clone(),
            rules,
            name: name.to_owned(),
            letter,
            connection: source.clone(),
            channel,
            bound: BTreeMap::new(),
        };
        following.catch_up().await.map_err(broken)?;
        let old = self.between(if letter == 'A' { 'B' } else { 'A' });
        following.channel.delete_exchange(&old).await.map_err(broken)?;
        Ok(following)
    }

    /// Takes away what was made there; what waits in the queue is gone.
    pub(crate) async fn clean_up(&self, source: &Connection) -> Result<(), ChannelError> {
        if self.keeps_queue {
            return Ok(());
        }
        let channel = source.channel().await?;
        channel.delete_queue(&self.queue.name).await?;
        for letter in ['A', 'B'] {
            channel.delete_exchange(&self.between(letter)).await?;
        }
        channel.close().await
    }

    fn between(&self, letter: char) -> String {
        format!("{} {letter}", self.queue.name)
    }

    /// Declares queue and exchange; which of the exchanges between are there already.
    async fn prepare(&self, source: &Connection) -> Result<[bool; 2], ChannelError> {
        ensure_queue(source, &self.queue.name, Some(&self.queue)).await?;
        if !exists(source, &self.exchange.name).await? {
            let channel = source.channel().await?;
            channel.declare_exchange(&self.exchange).await?;
            channel.close().await?;
        }
        Ok([exists(source, &self.between('A')).await?, exists(source, &self.between('B')).await?])
    }

    /// A broker that does not know the type may end the connection, so the question has one of its own.
    async fn declare_between(&self, channel: &Channel, name: &str) -> Result<(), Broken> {
        let asking =
            Connection::open(&self.address).await.map_err(|error| Broken::Connect(Side::Source, error))?;
        let of_kind = |kind| ExchangeDeclare {
            auto_delete: true,
            internal: true,
            arguments: self.between.clone(),
            ..ExchangeDeclare::durable(name, kind)
        };
        let declared = async { asking.channel().await?.declare_exchange(&of_kind(KIND)).await }.await;
        asking.close().await;
        match declared.as_ref().map_err(ChannelError::reply_code) {
            Err(Some(COMMAND_INVALID | PRECONDITION_FAILED)) => {
                let declared = channel.declare_exchange(&of_kind("fanout")).await;
                declared.map_err(|error| Broken::Channel(Side::Source, error))
            }
            _ => declared.map_err(|error| Broken::Channel(Side::Source, error)),
        }
    }
}

/// RabbitMQ's answers to an unknown type: of the 3.x series, and since 4.0.
const COMMAND_INVALID: u16 = 503;
const PRECONDITION_FAILED: u16 = 406;

impl Following {
    /// Follows the bindings until something breaks.
    pub(crate) async fn keep_up(&mut self) -> Broken {
        loop {
            let kept = tokio::select! {
                changed = self.upstream.bindings.changed() => match changed {
                    Ok(()) => self.catch_up().await,
                    // Nobody is there any more who could say what is wanted: the link is about to be stopped.
                    Err(_) => std::future::pending().await,
                },
                () = tokio::time::sleep(CHECK_INTERVAL) => self.check().await,
            };
            if let Err(error) = kept {
                return Broken::Channel(Side::Source, error);
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), ChannelError> {
        let wanted = self.upstream.bindings.borrow_and_update().clone();
        let between = self.upstream.between(self.letter);
        let exchange = &self.upstream.exchange.name;
        let missing = wanted.iter().filter(|(identity, _)| !self.bound.contains_key(*identity));
        let mut made = Vec::new();
        for (identity, arguments) in missing {
            let Some(arguments) = self.rules.bind(arguments, &self.name, self.letter) else { continue };
            self.channel.bind_exchange(&between, exchange, &identity.0, arguments.clone()).await?;
            made.push((identity.clone(), arguments));
        }
        self.bound.extend(made);
        let surplus: Vec<_> =
            self.bound.keys().filter(|identity| !wanted.contains(identity)).cloned().collect();
        for identity in surplus {
            if let Some(arguments) = self.bound.remove(&identity) {
                self.channel.unbind_exchange(&between, exchange, &identity.0, arguments).await?;
            }
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), ChannelError> {
        let asking = self.connection.channel().await?;
        asking.declare_exchange(&ExchangeDeclare::passive(&self.upstream.between(self.letter))).await?;
        asking.close().await
    }
}

/// On a channel of its own, as "no" ends it.
async fn exists(connection: &Connection, exchange: &str) -> Result<bool, ChannelError> {
    let asking = connection.channel().await?;
    match asking.declare_exchange(&ExchangeDeclare::passive(exchange)).await {
        Ok(()) => asking.close().await.map(|()| true),
        Err(error) if error.reply_code() == Some(NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}
