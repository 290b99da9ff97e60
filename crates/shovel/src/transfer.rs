//! One run of a shovel: messages from a connection to another, until enough are moved or something breaks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use leveret_client::{
    Channel, ChannelError, ConfirmChannel, ConnectError, Connection, Consume, ConsumerEnd, Delivery, Flush,
    NotConfirmed, Publish, QueueDeclare,
};
use leveret_wire::FieldTable;
use tokio::sync::watch;

use crate::changes::Changes;
use crate::federation::Federation;
use crate::in_flight::InFlight;
use crate::intake::Intake;
use crate::progress::Progress;
use crate::upstream::{Following, UpstreamExchange};

/// How long nothing must come before it is asked whether the queue is empty.
const QUIET: Duration = Duration::from_millis(200);
/// How long what is on its way may take to be confirmed once the transfer is to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked whether messages are wanted while none come.
const WANTED_INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const NOT_FOUND: u16 = 404;

/// What is moved, and how.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Where messages come from.
    pub take: Take,
    /// The consumer's name at the source; empty: one is chosen.
    pub consumer_tag: String,
    /// Arguments of the consumer at the source, e.g. `x-priority`.
    pub consumer_arguments: FieldTable,
    /// How many messages may be on their way at a time.
    pub prefetch: u16,
    /// Where they go.
    pub give: Give,
    /// What is different about them there.
    pub changes: Changes,
    /// When a message is acknowledged at the source.
    pub ack_mode: AckMode,
    /// When it is over.
    pub until: Until,
    /// The rules, if it is a link of federation.
    pub federation: Option<Arc<dyn Federation>>,
}

/// Where messages come from.
#[derive(Clone, Debug)]
pub enum Take {
    /// A queue. If there is none of that name and arguments are given, it is declared with them, durable.
    Queue {
        /// Its name.
        name: String,
        /// What to declare it with.
        declare: Option<FieldTable>,
    },
    /// What an exchange routes, into a queue that is there while the shovel is connected.
    Exchange {
        /// Its name.
        name: String,
        /// The routing key to bind with.
        key: String,
    },
    /// A queue, declared like this if there is none of that name.
    Upstream(QueueDeclare),
    /// What an exchange routes, as the bindings here ask for; for transfers with a [`Federation`].
    UpstreamExchange(Box<UpstreamExchange>),
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq)]
pub enum Give {
    /// A queue, through the default exchange; a message that does not get there breaks the transfer. If there is none of
    /// that name and arguments are given, it is declared with them, durable.
    Queue {
        /// Its name.
        name: String,
        /// What to declare it with.
        declare: Option<FieldTable>,
    },
    /// An exchange. What it does not route is gone, as for every publisher.
    Exchange {
        /// Its name; `None`: the one that the message was published to first.
        name: Option<String>,
        /// The routing key; `None`: the one that the message was published with.
        key: Option<String>,
    },
}

/// When a message is acknowledged at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AckMode {
    /// When the destination has confirmed it: nothing is lost.
    #[default]
    OnConfirm,
    /// When it is published: what was on its way when a connection ended may be lost.
    OnPublish,
    /// Never: the source forgets it when it delivers it.
    NoAck,
}

/// When a transfer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Until {
    /// Never.
    #[default]
    Stopped,
    /// When that many messages were moved, by all runs together.
    Count(u64),
    /// When as many were moved as the queue had at the beginning of the run.
    QueueLength,
    /// When the queue is empty and nothing has come for 200 ms.
    Empty,
}

/// How a run ended that nothing broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was to be moved is moved.
    Done,
    /// It was told to stop. What is not moved is in the source's queue.
    Stopped,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The broker that messages are taken from.
    Source,
    /// The broker that they go to.
    Destination,
}

/// What broke a run. Nothing is lost: the source takes back what is not acknowledged. `Display` is one line without
/// passwords.
#[derive(Clone, Debug)]
pub enum Broken {
    /// There is no connection.
    Connect(Side, ConnectError),
    /// A connection or a channel ended, or an operation was refused.
    Channel(Side, ChannelError),
    /// The source ended the consumer.
    Consumer(ConsumerEnd),
    /// The destination does not take a message.
    NotConfirmed(NotConfirmed),
    /// Messages of the source may not be taken, and why.
    NotAccepted(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(side, error) => write!(f, "{side}: {error}"),
            Self::Channel(side, error) => write!(f, "{side}: {error}"),
            Self::Consumer(end) => write!(f, "{}: {end}", Side::Source),
            Self::NotConfirmed(error) => write!(f, "{}: {error}", Side::Destination),
            Self::NotAccepted(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Broken {}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

impl Side {
    fn broken(self, error: impl Into<ChannelError>) -> Broken {
        Broken::Channel(self, error.into())
    }
}

impl Transfer {
    /// Moves messages until it is over or `stop` turns true. What is on its way then still gets its confirm, for at most
    /// 5 s.
    ///
    /// # Errors
    /// What broke it. Messages that were not confirmed come again, redelivered, in the next run.
    pub async fn run(
        &self,
        source: &Connection,
        destination: &Connection,
        progress: &Progress,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Ended, Broken> {
        self.open(source, destination, progress).await?.run(stop).await
    }

    /// Makes everything ready to move messages.
    pub(crate) async fn open<'t>(
        &'t self,
        source: &'t Connection,
        destination: &Connection,
        progress: &'t Progress,
    ) -> Result<Run<'t>, Broken> {
        let upstream_name = name(source);
        if let Some(rules) = &self.federation {
            rules.accepts(&upstream_name).map_err(Broken::NotAccepted)?;
        }
        let channel = source.channel().await.map_err(|error| Side::Source.broken(error))?;
        let (queue, following) = self.open_source(source, &channel, &upstream_name).await?;
        let publisher =
            self.open_destination(destination).await.map_err(|error| Side::Destination.broken(error))?;
        let left = self.left(&channel, &queue, progress).await.map_err(|error| Side::Source.broken(error))?;
        let (in_flight, intake) = (InFlight::default(), Intake::Closed);
        Ok(Run {
            transfer: self,
            source,
            upstream_name,
            queue,
            channel,
            intake,
            publisher,
            in_flight,
            progress,
            left,
            following,
        })
    }

    /// Takes away what a link has made at the source.
    pub(crate) async fn clean_up(&self, source: &Connection) -> Result<(), ChannelError> {
        match &self.take {
            Take::UpstreamExchange(upstream) => upstream.clean_up(source).await,
            Take::Queue { .. } | Take::Exchange { .. } | Take::Upstream(_) => Ok(()),
        }
    }

    /// Gives the name of the queue to consume from.
    async fn open_source(
        &self,
        source: &Connection,
        channel: &Channel,
        upstream_name: &str,
    ) -> Result<(String, Option<Following>), Broken> {
        let broken = |error: ChannelError| Side::Source.broken(error);
        channel.prefetch(self.prefetch).await.map_err(broken)?;
        match (&self.take, &self.federation) {
            (Take::Queue { name, declare }, _) => {
                let durable = |arguments: &FieldTable| QueueDeclare {
                    arguments: arguments.clone(),
                    ..QueueDeclare::durable(name)
                };
                let declare = declare.as_ref().map(durable);
                ensure_queue(source, name, declare.as_ref()).await.map_err(broken)?;
                Ok((name.clone(), None))
            }
            (Take::Exchange { name, key }, _) => {
                let queue = channel.declare_queue(&QueueDeclare::exclusive("")).await.map_err(broken)?.name;
                channel.bind_queue(&queue, name, key, FieldTable::new()).await.map_err(broken)?;
                Ok((queue, None))
            }
            (Take::Upstream(queue), _) => {
                ensure_queue(source, &queue.name, Some(queue)).await.map_err(broken)?;
                Ok((queue.name.clone(), None))
            }
            (Take::UpstreamExchange(upstream), Some(rules)) => {
                let following = upstream.open(source, rules.clone(), upstream_name).await?;
                Ok((upstream.queue.name.clone(), Some(following)))
            }
            (Take::UpstreamExchange(_), None) => {
                Err(Broken::NotAccepted("an exchange of another broker needs the rules of federation".into()))
            }
        }
    }

    async fn open_destination(&self, destination: &Connection) -> Result<ConfirmChannel, ChannelError> {
        if let Give::Queue { name, declare } = &self.give {
            let durable = |arguments: &FieldTable| QueueDeclare {
                arguments: arguments.clone(),
                ..QueueDeclare::durable(name)
            };
            ensure_queue(destination, name, declare.as_ref().map(durable).as_ref()).await?;
        }
        destination.confirm_channel().await
    }

    /// How many messages are to be taken; `None`: all that come.
    async fn left(
        &self,
        channel: &Channel,
        queue: &str,
        progress: &Progress,
    ) -> Result<Option<u64>, ChannelError> {
        Ok(match self.until {
            Until::Stopped | Until::Empty => None,
            Until::Count(count) => Some(count.saturating_sub(progress.moved())),
            Until::QueueLength => Some(ready(channel, queue).await?),
        })
    }
}

/// A transfer that is going on.
pub(crate) struct Run<'t> {
    transfer: &'t Transfer,
    source: &'t Connection,
    /// The name that the source gives itself.
    upstream_name: String,
    queue: String,
    channel: Channel,
    intake: Intake,
    publisher: ConfirmChannel,
    in_flight: InFlight,
    progress: &'t Progress,
    /// Messages to be taken; `None`: all that come.
    left: Option<u64>,
    following: Option<Following>,
}

impl Run<'_> {
    /// Moves messages until it is over, `stop` turns true or something breaks.
    pub(crate) async fn run(mut self, stop: &mut watch::Receiver<bool>) -> Result<Ended, Broken> {
        let following = self.following.take();
        let follow = async {
            match following {
                Some(mut following) => following.keep_up().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = self.go(stop) => ended?,
            broken = follow => return Err(broken),
        };
        self.close().await?;
        Ok(ended)
    }

    async fn go(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Ended, Broken> {
        let is_link = self.transfer.federation.is_some();
        let is_of_queue = matches!(self.transfer.take, Take::Upstream(_));
        loop {
            let takes = self.left != Some(0);
            if !takes && self.in_flight.is_empty() {
                return Ok(Ended::Done);
            }
            if takes {
                self.open_or_close_intake().await?;
            }
            // Ready messages may all be on their way here; what is unacknowledged elsewhere may come back.
            let asks = self.transfer.until == Until::Empty && self.in_flight.is_empty();
            tokio::select! {
                confirmed = self.in_flight.confirmed() => {
                    let confirmed = confirmed.map_err(Broken::NotConfirmed)?;
                    self.channel.ack(confirmed.delivery_tag, true);
                    self.progress.add_moved(confirmed.messages, confirmed.size_bytes);
                }
                delivery = self.intake.next(), if takes => match delivery {
                    Ok(Some(delivery)) => self.forward(&delivery).await?,
                    Ok(None) => self.intake = Intake::Closed,
                    Err(end) => return Err(Broken::Consumer(end)),
                },
                closed = self.publisher.channel().closed() => return Err(Side::Destination.broken(closed)),
                closed = self.channel.closed(), if !takes || is_link => return Err(Side::Source.broken(closed)),
                () = tokio::time::sleep(QUIET), if asks => {
                    if self.is_empty().await? {
                        return Ok(Ended::Done);
                    }
                }
                () = tokio::time::sleep(WANTED_INTERVAL), if is_of_queue => {}
                () = told(stop) => {
                    self.confirm_the_rest().await?;
                    return Ok(Ended::Stopped);
                }
            }
        }
    }

    /// Consumes while messages are wanted, which they always are unless the rules say otherwise.
    async fn open_or_close_intake(&mut self) -> Result<(), Broken> {
        let wants = self.transfer.federation.as_ref().is_none_or(|rules| rules.wants());
        let changed = match &mut self.intake {
            intake @ Intake::Closed if wants => {
                let consume = Consume {
                    no_ack: self.transfer.ack_mode == AckMode::NoAck,
                    consumer_tag: self.transfer.consumer_tag.clone(),
                    ..Consume::queue(&self.queue).arguments(self.transfer.consumer_arguments.clone())
                };
                self.channel.consume(&consume).await.map(|consumer| *intake = Intake::Open(consumer))
            }
            intake if !wants => intake.close(&self.channel).await,
            _ => Ok(()),
        };
        changed.map_err(|error| Side::Source.broken(error))
    }

    async fn forward(&mut self, delivery: &Delivery) -> Result<(), Broken> {
        let transfer = self.transfer;
        let (mut properties, is_marked) = transfer.changes.apply(delivery, &self.queue);
        if let Some(rules) = &transfer.federation
            && !rules.receive(delivery, &self.upstream_name, &mut properties)
        {
            delivery.ack();
            return Ok(());
        }
        let (exchange, routing_key, mandatory) = match &transfer.give {
            Give::Queue { name, .. } => ("", name.as_str(), true),
            Give::Exchange { name, key } => (
                name.as_deref().unwrap_or(&delivery.exchange),
                key.as_deref().unwrap_or(&delivery.routing_key),
                false,
            ),
        };
        let flush = if delivery.batch_left() { Flush::Soon } else { Flush::Now };
        let body = &delivery.body;
        let message = Publish { exchange, routing_key, mandatory, properties: &properties, body, flush };
        self.publish(delivery.delivery_tag, &message)
            .await
            .map_err(|error| Side::Destination.broken(error))?;
        if is_marked {
            self.progress.add_marked();
        }
        self.left = self.left.map(|left| left - 1);
        Ok(())
    }

    async fn publish(&mut self, delivery_tag: u64, message: &Publish<'_>) -> Result<(), ChannelError> {
        let size_bytes = message.body.len() as u64;
        if self.transfer.ack_mode == AckMode::OnConfirm {
            let confirm = self.publisher.publish(message).await?;
            self.in_flight.add(delivery_tag, size_bytes, confirm);
            return Ok(());
        }
        self.publisher.channel().publish(message).await?;
        if self.transfer.ack_mode == AckMode::OnPublish {
            self.channel.ack(delivery_tag, false);
        }
        self.progress.add_moved(1, size_bytes);
        Ok(())
    }

    async fn is_empty(&self) -> Result<bool, Broken> {
        let asked = async {
            let channel = self.source.channel().await?;
            let ready = ready(&channel, &self.queue).await?;
            channel.close().await?;
            Ok(ready == 0)
        };
        asked.await.map_err(|error: ChannelError| Side::Source.broken(error))
    }

    async fn confirm_the_rest(&mut self) -> Result<(), Broken> {
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        while !self.in_flight.is_empty() {
            let Ok(confirmed) = tokio::time::timeout_at(deadline, self.in_flight.confirmed()).await else {
                break;
            };
            let confirmed = confirmed.map_err(Broken::NotConfirmed)?;
            self.channel.ack(confirmed.delivery_tag, true);
            self.progress.add_moved(confirmed.messages, confirmed.size_bytes);
        }
        Ok(())
    }

    /// Waits until the source has heard the last acknowledgement.
    async fn close(self) -> Result<(), Broken> {
        self.channel.close().await.map_err(|error| Side::Source.broken(error))?;
        self.publisher.channel().close().await.map_err(|error| Side::Destination.broken(error))
    }
}

/// Waits until the shovel is told to stop, or nobody is there any more who could.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    let _nobody_is_there = stop.wait_for(|stop| *stop).await.is_err();
}

/// What the broker at the other end calls itself; empty: it does not say.
fn name(source: &Connection) -> String {
    let name = source.server().table.get("cluster_name").and_then(leveret_wire::FieldValue::as_str);
    name.unwrap_or_default().to_owned()
}

/// Declares a queue if there is none of that name; `None`: there must be one. On channels of its own, as a refusal ends
/// the channel.
pub(crate) async fn ensure_queue(
    connection: &Connection,
    name: &str,
    declare: Option<&QueueDeclare>,
) -> Result<(), ChannelError> {
    let asking = connection.channel().await?;
    match (asking.declare_queue(&QueueDeclare::passive(name)).await, declare) {
        (Err(error), Some(declare)) if error.reply_code() == Some(NOT_FOUND) => {
            let declaring = connection.channel().await?;
            declaring.declare_queue(declare).await?;
            declaring.close().await
        }
        (asked, _) => {
            asked?;
            asking.close().await
        }
    }
}

async fn ready(channel: &Channel, queue: &str) -> Result<u64, ChannelError> {
    let declared = channel.declare_queue(&QueueDeclare::passive(queue)).await?;
    Ok(declared.messages.into())
}
