//! Open channels of clients' connections.

use std::sync::Arc;

use leveret_broker::roster::{ChannelMode, ChannelRecord, ConnectionRecord, Over};
use serde_json::{Value, json};

use super::consumers;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing::Cheap;
use crate::message_stats::{self, Shown};
use crate::moment;
use crate::rates::{Span, Subject};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::{listing, sight};

/// A channel that has not been used for so long says since when.
const IDLE_MS: u64 = 1_000;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/channels",
        access: Access::Management,
        about: "All channels, or those of the caller without the tag monitoring",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/vhosts/{vhost}/channels",
        access: Access::VHostSight,
        about: "The channels of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/connections/{connection}/channels",
        access: Access::Management,
        about: "The channels of a connection",
        handler: list_of_connection,
    },
    Route {
        method: Method::GET,
        path: "/api/channels/{channel}",
        access: Access::Management,
        about: "A channel, with its consumers",
        handler: one,
    },
];

/// A channel and what it is on.
struct Found {
    connection: Arc<ConnectionRecord>,
    channel: ChannelRecord,
}

impl Found {
    fn name(&self) -> String {
        name(&self.connection, self.channel.number)
    }
}

/// RabbitMQ's name of a channel.
pub(crate) fn name(connection: &ConnectionRecord, number: u16) -> String {
    format!("{} ({number})", connection.name)
}

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    answer(context, request, &sight::connections(context, request)?)
}

fn list_of_connection(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    answer(context, request, &[sight::connection(context, request)?])
}

fn answer(
    context: &Context,
    request: &Request,
    connections: &[Arc<ConnectionRecord>],
) -> Result<Answer, ApiError> {
    let channels = connections.iter().flat_map(channels_of).collect();
    listing::lazy(request, channels, Found::name, cheap, |one| described(context, request, &one))
}

fn channels_of(connection: &Arc<ConnectionRecord>) -> Vec<Found> {
    let found = |channel| Found { connection: connection.clone(), channel };
    connection.channels().into_iter().map(found).collect()
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let wanted = request.param("channel");
    let connections = sight::connections(context, request)?;
    let found = connections.iter().flat_map(channels_of).find(|found| found.name() == wanted);
    let found = found.ok_or_else(ApiError::not_found)?;
    let mut shown = described(context, request, &found);
    let (consumers, node) = (found.channel.consumers(&found.connection), context.host.node_name());
    shown["consumer_details"] = consumers.iter().map(|one| consumers::described(one, node)).collect();
    // RabbitMQ lists queues and exchanges here when it keeps detailed statistics.
    shown["deliveries"] = json!([]);
    shown["publishes"] = json!([]);
    Ok(listing::one(request, shown))
}

/// The first channel of a connection of this process.
pub(super) fn only_channel_of(context: &Context, request: &Request, connection: &str) -> Option<Value> {
    let connection = context.broker().connection_named(connection)?;
    let found = channels_of(&connection).into_iter().next()?;
    Some(described(context, request, &found))
}

fn cheap(one: &Found, column: &str) -> Cheap {
    Cheap::Is(match column {
        "name" => json!(one.name()),
        "vhost" => json!(&*one.connection.vhost),
        "user" => json!(&*one.connection.user),
        "number" => json!(one.channel.number),
        "consumer_count" => json!(one.channel.consumer_count),
        "prefetch_count" => json!(one.channel.prefetch_count),
        "messages_unacknowledged" => json!(one.channel.messages_unacknowledged),
        "messages_unconfirmed" => json!(one.channel.messages_unconfirmed),
        _ => return Cheap::Unknown,
    })
}

fn described(context: &Context, request: &Request, found: &Found) -> Value {
    let Found { connection, channel } = found;
    let mut shown = json!({
        "name": found.name(),
        "number": channel.number,
        "node": context.host.node_name(),
        "vhost": &*connection.vhost,
        "user": &*connection.user,
        "user_who_performed_action": &*connection.user,
        "state": connection.state().name(),
        "confirm": channel.mode == ChannelMode::Confirm,
        "transactional": channel.mode == ChannelMode::Transactional,
        "prefetch_count": channel.prefetch_count,
        "global_prefetch_count": channel.global_prefetch_count,
        "consumer_count": channel.consumer_count,
        "messages_unacknowledged": channel.messages_unacknowledged,
        "messages_unconfirmed": channel.messages_unconfirmed,
        "messages_uncommitted": channel.messages_uncommitted,
        "acks_uncommitted": channel.acks_uncommitted,
        // Quorum queues log like all others.
        "pending_raft_commands": 0,
        "connection_details": connection_details(connection),
    });
    let now_ms = context.now_ms();
    if channel.used_at_ms > 0 && now_ms.saturating_sub(channel.used_at_ms) >= IDLE_MS {
        shown["idle_since"] = json!(moment::rfc3339(channel.used_at_ms));
    }
    if !request.asks_for("disable_stats") {
        let subject = Subject::Channel(connection.id, channel.number);
        let values = message_stats::values(&channel.counts);
        let trend = context.rates.look(subject, now_ms, &values, Span::any(request));
        let samples = Span::MessageRates.samples(request);
        if let Some(stats) = message_stats::object(&trend, 0, Shown::WhatHappened, samples) {
            shown["message_stats"] = stats;
        }
    }
    shown
}

fn connection_details(connection: &ConnectionRecord) -> Value {
    let (host, port) = peer(connection);
    json!({ "name": connection.name, "peer_host": host, "peer_port": port })
}

/// Where a client is, if it has an address.
pub(crate) fn peer(connection: &ConnectionRecord) -> (Option<String>, Option<u16>) {
    match connection.introduction.over {
        Over::Tcp { peer, .. } => (Some(peer.ip().to_canonical().to_string()), Some(peer.port())),
        Over::Memory | Over::Nothing => (None, None),
    }
}
