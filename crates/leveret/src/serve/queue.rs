//! The queue of a service and what it is bound to.
//!
//! Arguments of a queue travel badly: whoever declares it with others is refused. So a queue that exists is taken
//! as it is, and on a broker that lets requests bounce by itself a new one has no arguments of ours.

use leveret_client::{Channel, ChannelError, Connection, ExchangeDeclare, QueueDeclare};
use leveret_wire::{FieldTable, FieldValue};

use super::{Options, QueueKind, ServeError};
use crate::profile;

const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
/// The exchange that the profile prefers; it is ours to make.
const RPC_EXCHANGE: &str = "rpc";

/// Makes sure that the queue is there and bound, and names it.
pub(super) async fn prepare(
    connection: &Connection,
    options: &Options,
    instance: &str,
) -> Result<String, ServeError> {
    let service = &options.service;
    let queue = match options.queue.every_instance {
        true => format!("{service}.{instance}"),
        false => service.clone(),
    };
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: ChannelError| ServeError::setup(service, what, &error)
    };
    declare_exchanges(connection).await;
    if !exists(connection, &queue).await.map_err(failed("its queue"))? {
        declare(connection, options, &queue).await.map_err(failed("its queue"))?;
    }
    let channel = connection.channel().await.map_err(failed("a channel"))?;
    for (exchange, routing_key) in &options.queue.bindings {
        let what = format!("binding it to the exchange `{exchange}` by `{routing_key}`");
        bind(&channel, &queue, exchange, routing_key).await.map_err(failed(&what))?;
    }
    Ok(queue)
}

/// For bounces, cancellation and discovery. Whoever may not declare them can still serve.
async fn declare_exchanges(connection: &Connection) {
    for (name, kind) in [(profile::CONTROL_EXCHANGE, "topic"), (profile::BOUNCE_EXCHANGE, "headers")] {
        let declared = async {
            connection.channel().await?.declare_exchange(&ExchangeDeclare::durable(name, kind)).await
        };
        if let Err(error) = declared.await {
            tracing::warn!(%error, exchange = name, "cannot be declared; callers learn less");
        }
    }
}

async fn exists(connection: &Connection, queue: &str) -> Result<bool, ChannelError> {
    let channel = connection.channel().await?;
    match channel.declare_queue(&QueueDeclare::passive(queue)).await {
        Ok(_) => Ok(true),
        Err(error) if error.reply_code() == Some(NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn declare(connection: &Connection, options: &Options, queue: &str) -> Result<(), ChannelError> {
    let channel = connection.channel().await?;
    let base = match options.queue.every_instance {
        true => QueueDeclare::exclusive(queue),
        false => QueueDeclare::durable(queue),
    };
    let bounces_by_itself = connection.server().capability("rpc_bounce");
    let declare = QueueDeclare { arguments: arguments(options, bounces_by_itself), ..base };
    match channel.declare_queue(&declare).await {
        // Somebody else was faster, with other arguments.
        Err(error) if error.reply_code() == Some(PRECONDITION_FAILED) => Ok(()),
        declared => declared.map(|_| ()),
    }
}

fn arguments(options: &Options, bounces_by_itself: bool) -> FieldTable {
    let queue = &options.queue;
    let mut arguments = FieldTable::new();
    if queue.kind == QueueKind::Quorum && !queue.every_instance {
        arguments.insert("x-queue-type", "quorum");
    }
    if !queue.plain && !bounces_by_itself {
        arguments.insert("x-dead-letter-exchange", profile::BOUNCE_EXCHANGE);
    }
    if let Some(highest) = queue.priorities {
        arguments.insert("x-max-priority", FieldValue::I64(highest.into()));
    }
    if let Some(length) = queue.length_max {
        arguments.insert("x-max-length", FieldValue::I64(length.into()));
    }
    arguments
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, routing_key: &str) -> Result<(), ChannelError> {
    if exchange == RPC_EXCHANGE {
        channel.declare_exchange(&ExchangeDeclare::durable(RPC_EXCHANGE, "topic")).await?;
    }
    channel.bind_queue(queue, exchange, routing_key, FieldTable::new()).await
}
