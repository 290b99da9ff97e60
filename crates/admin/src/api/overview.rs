//! The broker at a glance, and what it is called.

use leveret_broker::counts::ChurnCounts;
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::message_stats::{self, Shown};
use crate::node::NodeFacts;
use crate::rates::{Samples, Span, Subject, Trend};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::totals::Totals;
use crate::{listing, sight};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/overview",
        access: Access::Management,
        about: "The broker at a glance: totals of what the caller may see",
        handler: overview,
    },
    Route {
        method: Method::GET,
        path: "/api/cluster-name",
        access: Access::Management,
        about: "What operators call this broker",
        handler: cluster_name,
    },
    Route {
        method: Method::GET,
        path: "/api/version",
        access: Access::Management,
        about: "The version of RabbitMQ whose behaviour clients may expect",
        handler: version,
    },
    Route {
        method: Method::GET,
        path: "/api/extensions",
        access: Access::Management,
        about: "Extensions of RabbitMQ's console; there are none",
        handler: extensions,
    },
];

/// The exchange types that can be declared, and what they do with messages.
pub(super) const EXCHANGE_TYPES: [(&str, &str); 11] = [
    ("direct", "AMQP direct exchange, as per the AMQP specification"),
    ("fanout", "AMQP fanout exchange, as per the AMQP specification"),
    ("headers", "AMQP headers exchange, as per the AMQP specification"),
    ("topic", "AMQP topic exchange, as per the AMQP specification"),
    ("x-consistent-hash", "Consistent hashing over queues"),
    ("x-modulus-hash", "Modulus hashing over queues"),
    ("x-random", "A queue by chance"),
    ("x-local-random", "A queue by chance"),
    ("x-recent-history", "Fanout that keeps the latest messages for new queues"),
    ("x-message-deduplication", "Fanout that drops duplicates"),
    ("x-delayed-message", "Any other type, after a delay"),
];

const LENGTHS: [&str; 3] = ["messages", "messages_ready", "messages_unacknowledged"];
const DISK: [&str; 2] = ["disk_reads", "disk_writes"];
pub(super) const CHURN: [&str; 7] = [
    "connection_created",
    "connection_closed",
    "channel_created",
    "channel_closed",
    "queue_declared",
    "queue_created",
    "queue_deleted",
];

fn overview(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let caller = request.caller()?;
    let node = context.host.node();
    let totals = Totals::of(context.broker(), &sight::vhosts(context, request)?);
    let mut shown = identity(context, &node, request);
    let mut values = totals.lengths().to_vec();
    values.extend(message_stats::values(&totals.counts));
    values.extend([node.disk_reads.count, node.disk_writes.count]);
    values.extend(churn_values(&context.broker().churn()));
    let subject = Subject::Overview(caller.name.clone());
    let trend = context.rates.look(subject, context.now_ms(), &values, Span::any(request));
    put_rates(&mut shown, &trend, request);
    shown.insert("object_totals".to_owned(), objects(context, request, &totals)?);
    if sight::sees_all(&caller) {
        shown.insert("listeners".to_owned(), listeners(context, &node));
        shown.insert("contexts".to_owned(), contexts(context, &node));
    }
    Ok(listing::one(request, Value::Object(shown)))
}

fn identity(context: &Context, node: &NodeFacts, request: &Request) -> Map<String, Value> {
    let identity = json!({
        "management_version": node.rabbitmq_version,
        "rabbitmq_version": node.rabbitmq_version,
        "product_name": "Leveret",
        "product_version": node.version,
        "release_series_support_status": "supported",
        "rates_mode": "basic",
        "sample_retention_policies": { "global": [600], "basic": [600], "detailed": [600] },
        "exchange_types": exchange_types(),
        "cluster_name": named(context, node),
        "node": context.host.node_name(),
        "disable_stats": request.asks_for("disable_stats"),
        "enable_queue_totals": request.asks_for("enable_queue_totals"),
        "statistics_db_event_queue": 0,
    });
    match identity {
        Value::Object(identity) => identity,
        _ => Map::new(),
    }
}

pub(super) fn exchange_types() -> Value {
    EXCHANGE_TYPES
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description, "enabled": true }))
        .collect()
}

fn put_rates(shown: &mut Map<String, Value>, trend: &Trend, request: &Request) {
    let (lengths, rates) = (Span::Lengths.samples(request), Span::MessageRates.samples(request));
    let stats_at = LENGTHS.len();
    let disk_at = stats_at + message_stats::COUNT;
    let object = |first: usize, names: &[&str], samples: Option<Samples>| {
        let mut object = Map::new();
        trend.put(&mut object, first, names, samples);
        object
    };
    let mut stats = object(disk_at, &DISK, rates);
    if let Some(Value::Object(happened)) = message_stats::object(trend, stats_at, Shown::All, rates) {
        stats.extend(happened);
    }
    shown.insert("queue_totals".to_owned(), Value::Object(object(0, &LENGTHS, lengths)));
    shown.insert("message_stats".to_owned(), Value::Object(stats));
    let churn = object(disk_at + DISK.len(), &CHURN, rates);
    shown.insert("churn_rates".to_owned(), Value::Object(churn));
}

/// In the order of the names.
pub(super) fn churn_values(churn: &ChurnCounts) -> [u64; 7] {
    [
        churn.connections_opened,
        churn.connections_closed,
        churn.channels_opened,
        churn.channels_closed,
        churn.queues_declared,
        churn.queues_created,
        churn.queues_deleted,
    ]
}

fn objects(context: &Context, request: &Request, totals: &Totals) -> Result<Value, ApiError> {
    let connections = sight::connections(context, request)?;
    let channels: usize = connections.iter().map(|one| one.channel_count()).sum();
    Ok(json!({
        "connections": connections.len(),
        "channels": channels,
        "consumers": totals.consumers,
        "exchanges": totals.exchanges,
        "queues": totals.queues,
    }))
}

fn listeners(context: &Context, node: &NodeFacts) -> Value {
    let listeners = node.listeners.iter().map(|listener| {
        json!({
            "node": context.host.node_name(),
            "protocol": listener.protocol,
            "ip_address": listener.address.ip().to_string(),
            "port": listener.address.port(),
            "socket_opts": { "nodelay": true },
        })
    });
    listeners.collect()
}

/// Where HTTP is served.
pub(super) fn contexts(context: &Context, node: &NodeFacts) -> Value {
    let http = node.listeners.iter().filter(|listener| listener.protocol.starts_with("http"));
    let contexts = http.map(|listener| {
        json!({
            "node": context.host.node_name(),
            "description": "Leveret Management",
            "path": "/",
            "ip": listener.address.ip().to_string(),
            "port": listener.address.port().to_string(),
            "ssl_opts": [],
        })
    });
    contexts.collect()
}

fn cluster_name(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    Ok(listing::one(request, json!({ "name": named(context, &context.host.node()) })))
}

/// The operator's name for it, if it was given one.
fn named(context: &Context, node: &NodeFacts) -> Value {
    let given = context.broker().global_parameter("cluster_name");
    let given = given.and_then(|parameter| serde_json::from_str(&parameter.value).ok());
    given.filter(Value::is_string).unwrap_or_else(|| json!(node.cluster_name))
}

fn version(context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::json(&json!(context.host.node().rabbitmq_version)))
}

fn extensions(_context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::json(&json!([])))
}
