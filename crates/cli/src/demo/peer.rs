//! An ordinary AMQP client for the stories: lapin, with the words that the stories need often.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_core::Stream;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind, Queue,
};

/// How long an answer may take on this machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection and a channel with confirms on.
pub(super) struct Peer {
    pub(super) channel: Channel,
    connection: Connection,
}

/// What a publish came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Confirmed, and in a queue.
    Queued,
    /// Confirmed and returned: no queue wanted it.
    Unroutable,
    /// Refused.
    Nacked,
}

impl Peer {
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let connection =
            Connection::connect(url, ConnectionProperties::default()).await.context("connect")?;
        let channel = channel(&connection).await?;
        Ok(Self { channel, connection })
    }

    /// Another channel on the same connection.
    pub(super) async fn second_channel(&self) -> Result<Channel> {
        channel(&self.connection).await
    }

    pub(super) async fn close(self) -> Result<()> {
        Ok(self.connection.close(200, "OK".into()).await?)
    }

    /// The code with which the broker refuses `attempt`, which gets a channel of its own, for an error closes it;
    /// 0 when it does not refuse.
    pub(super) async fn refusal<T>(
        &self,
        attempt: impl AsyncFnOnce(&Channel) -> lapin::Result<T>,
    ) -> Result<u16> {
        let channel = self.second_channel().await?;
        match attempt(&channel).await {
            Ok(_) => Ok(0),
            Err(error) => match error.kind() {
                lapin::ErrorKind::ProtocolError(refusal) => Ok(refusal.get_id()),
                _ => Err(error.into()),
            },
        }
    }

    /// The code for asking after a queue: 0 when it is there, 404 when it is not.
    pub(super) async fn passive_code(&self, queue: &str) -> Result<u16> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.refusal(async |channel| {
            channel.queue_declare(queue.into(), options, FieldTable::default()).await
        })
        .await
    }
}

async fn channel(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// How long what is declared lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Survives a restart of the broker.
    Durable,
    /// Until a restart.
    Transient,
    /// As long as its connection and its consumer.
    Temporary,
}

pub(super) async fn declare_queue(channel: &Channel, name: &str, life: Life) -> lapin::Result<Queue> {
    let options = QueueDeclareOptions {
        durable: life == Life::Durable,
        exclusive: life == Life::Temporary,
        auto_delete: life == Life::Temporary,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(name.into(), options, FieldTable::default()).await
}

pub(super) async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    life: Life,
) -> lapin::Result<()> {
    let options =
        ExchangeDeclareOptions { durable: life == Life::Durable, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await
}

pub(super) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

/// A queue of one's own, bound to an exchange; returns its name.
pub(super) async fn subscribe(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<String> {
    let queue = declare_queue(channel, "", Life::Temporary).await?;
    bind(channel, queue.name().as_str(), exchange, key).await?;
    Ok(queue.name().to_string())
}

/// Publishes and waits for the confirm.
pub(super) async fn publish(
    channel: &Channel,
    (exchange, key): (&str, &str),
    properties: BasicProperties,
    body: &[u8],
) -> Result<Outcome> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
    Ok(match confirm.await? {
        Confirmation::Ack(None) => Outcome::Queued,
        Confirmation::Ack(Some(_)) => Outcome::Unroutable,
        Confirmation::Nack(_) => Outcome::Nacked,
        Confirmation::NotRequested => bail!("confirms are off"),
    })
}

/// Asks for the messages of a queue, `prefetch` at a time; none: as many as there are, without acknowledgement.
pub(super) async fn consume(channel: &Channel, queue: &str, prefetch: Option<u16>) -> lapin::Result<Inbox> {
    if let Some(prefetch) = prefetch {
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    }
    let options = BasicConsumeOptions { no_ack: prefetch.is_none(), ..BasicConsumeOptions::default() };
    Ok(Inbox(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?))
}

/// Messages as they arrive.
pub(super) struct Inbox(Consumer);

impl Inbox {
    /// The next message; an error when none comes.
    pub(super) async fn next(&mut self) -> Result<Delivery> {
        self.next_within(PATIENCE).await?.context("waited for a message that did not come")
    }

    /// The next message, if one comes in time.
    pub(super) async fn next_within(&mut self, patience: Duration) -> Result<Option<Delivery>> {
        let next = poll_fn(|context| Pin::new(&mut self.0).poll_next(context));
        match tokio::time::timeout(patience, next).await {
            Ok(Some(delivery)) => Ok(Some(delivery?)),
            Ok(None) => bail!("the consumer was cancelled"),
            Err(_) => Ok(None),
        }
    }
}

/// A name that nobody else has.
pub(super) fn unique_id() -> Result<String> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}

/// Who signed an answer; plain workers do not.
pub(super) fn answered_by(answer: &Delivery) -> Option<String> {
    match answer.properties.headers().as_ref()?.inner().get("rpc-worker")? {
        AMQPValue::LongString(name) => Some(name.to_string()),
        _ => None,
    }
}

/// Runs a worker, and tells when it fails: those who wait for it only see that nothing comes.
pub(super) async fn watched(name: &'static str, worker: impl Future<Output = Result<()>>) {
    if let Err(error) = worker.await {
        tracing::error!("{name} failed: {error:#}");
    }
}
