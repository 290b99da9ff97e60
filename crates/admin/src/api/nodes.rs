//! The node: there is one.

use serde_json::{Map, Value, json};

use super::overview::{CHURN, churn_values, contexts, exchange_types};
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing;
use crate::memory::Memory;
use crate::node::NodeFacts;
use crate::rates::{Span, Subject};
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/nodes",
        access: Access::Monitoring,
        about: "The nodes: one",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/nodes/{node}",
        access: Access::Monitoring,
        about: "The node; with memory=true what its memory is used for",
        handler: one,
    },
    Route {
        method: Method::GET,
        path: "/api/nodes/{node}/memory",
        access: Access::Monitoring,
        about: "What the node's memory is used for, octets",
        handler: memory,
    },
    Route {
        method: Method::GET,
        path: "/api/nodes/{node}/memory/relative",
        access: Access::Monitoring,
        about: "The same in percent",
        handler: memory_in_percent,
    },
];

/// What has a rate.
const MEASURED: [&str; 9] = [
    "mem_used",
    "fd_used",
    "sockets_used",
    "disk_free",
    "io_read_count",
    "io_read_bytes",
    "io_write_count",
    "io_write_bytes",
    "io_sync_count",
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    listing::answer(request, vec![described(context, request)])
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    let mut shown = described(context, request);
    if request.asks_for("memory") {
        shown["memory"] = Memory::of(context).in_bytes();
    }
    Ok(listing::one(request, shown))
}

fn memory(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    Ok(listing::one(request, json!({ "memory": Memory::of(context).in_bytes() })))
}

fn memory_in_percent(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    Ok(listing::one(request, json!({ "memory": Memory::of(context).in_percent() })))
}

pub(super) fn check_name(context: &Context, request: &Request) -> Result<(), ApiError> {
    match request.param("node") == context.host.node_name() {
        true => Ok(()),
        false => Err(ApiError::not_found()),
    }
}

fn described(context: &Context, request: &Request) -> Value {
    let node = context.host.node();
    let mut shown = facts(context, &node);
    put_measured(&mut shown, context, request, &node);
    let average = [
        ("io_read_avg_time", node.disk_reads.average_ms()),
        ("io_write_avg_time", node.disk_writes.average_ms()),
        ("io_sync_avg_time", node.disk_syncs.average_ms()),
    ];
    shown.extend(average.map(|(name, value)| (name.to_owned(), json!(value))));
    Value::Object(shown)
}

fn facts(context: &Context, node: &NodeFacts) -> Map<String, Value> {
    let facts = json!({
        "name": context.host.node_name(),
        "type": "disc",
        "running": true,
        "being_drained": false,
        "os_pid": node.os_pid.to_string(),
        "uptime": node.uptime_ms,
        "processors": node.processors,
        "rates_mode": "basic",
        "mem_limit": node.memory_limit_bytes,
        "mem_alarm": node.memory_alarm,
        "mem_calculation_strategy": "rss",
        "disk_free_limit": node.disk_free_limit_bytes,
        "disk_free_alarm": node.disk_alarm,
        "fd_total": node.open_files_max,
        "sockets_total": node.connections_max,
        "exchange_types": exchange_types(),
        "auth_mechanisms": auth_mechanisms(),
        "applications": [{ "name": "leveret", "description": "Leveret", "version": node.version }],
        "contexts": contexts(context, node),
        "partitions": [],
        "cluster_links": [],
        "enabled_plugins": [],
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

fn auth_mechanisms() -> Value {
    let mechanism = |name, description| json!({ "name": name, "description": description, "enabled": true });
    json!([
        mechanism("PLAIN", "SASL PLAIN authentication mechanism"),
        mechanism("AMQPLAIN", "QPid AMQPLAIN mechanism"),
    ])
}

fn put_measured(shown: &mut Map<String, Value>, context: &Context, request: &Request, node: &NodeFacts) {
    let mut values = vec![
        node.memory_used_bytes,
        node.open_files,
        node.connections as u64,
        node.disk_free_bytes.unwrap_or(0),
        node.disk_reads.count,
        node.disk_reads.bytes,
        node.disk_writes.count,
        node.disk_writes.bytes,
        node.disk_syncs.count,
    ];
    values.extend(churn_values(&context.broker().churn()));
    let trend = context.rates.look(Subject::Node, context.now_ms(), &values, Span::any(request));
    let samples = Span::NodeStats.samples(request);
    trend.put(shown, 0, &MEASURED, samples);
    trend.put(shown, MEASURED.len(), &CHURN, samples);
}
