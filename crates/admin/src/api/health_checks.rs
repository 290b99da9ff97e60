//! Health checks: `{"status":"ok"}`, or 503 and why not. What RabbitMQ asks of a cluster, one node answers for itself.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::nodes::check_name;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::moment;
use crate::node::NodeFacts;
use crate::request::Request;
use crate::route::{Handler, Method, Route};

const fn check(path: &'static str, about: &'static str, handler: Handler) -> Route {
    Route { method: Method::GET, path, access: Access::Management, about, handler }
}

pub(crate) const ROUTES: &[Route] = &[
    check("/api/health/checks/alarms", "No alarm blocks publishers", alarms),
    check("/api/health/checks/local-alarms", "The same", alarms),
    check("/api/health/checks/port-listener/{port}", "Something listens on this port", port_listener),
    check(
        "/api/health/checks/protocol-listener/{protocol}",
        "Something speaks this protocol",
        protocol_listener,
    ),
    check(
        "/api/health/checks/certificate-expiration/{within}/{unit}",
        "No certificate of a listener expires that soon",
        certificate_expiration,
    ),
    check("/api/health/checks/virtual-hosts", "All virtual hosts run", fine),
    check("/api/health/checks/node-is-mirror-sync-critical", "No queue depends on this node alone", alone),
    check("/api/health/checks/node-is-quorum-critical", "No quorum depends on this node", alone),
    check("/api/health/checks/is-in-service", "Clients are served", in_service),
    check("/api/health/checks/ready-to-serve-clients", "Clients are served", in_service),
    check("/api/health/checks/below-node-connection-limit", "More connections may be opened", below_limit),
    check("/api/health/checks/reached-target-cluster-size", "As many nodes as intended: one", fine),
    check("/api/health/checks/metadata-store/initialized", "What is durable has been read", fine),
    check("/api/health/checks/metadata-store/initialized/with-data", "The same", fine),
    check("/api/healthchecks/node", "RabbitMQ keeps it for old tools", fine),
    check("/api/healthchecks/node/{node}", "The same", of_node),
];

fn ok() -> Result<Answer, ApiError> {
    Ok(Answer::json(&json!({ "status": "ok" })))
}

fn failed(reason: &str, details: Value) -> Result<Answer, ApiError> {
    let mut body = json!({ "status": "failed", "reason": reason });
    if let (Value::Object(body), Value::Object(details)) = (&mut body, details) {
        body.extend(details);
    }
    Ok(Answer::json(&body).with_status(StatusCode::SERVICE_UNAVAILABLE))
}

fn fine(_context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    ok()
}

fn of_node(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    ok()
}

fn alone(_context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::json(&json!({ "status": "ok", "reason": "single node cluster" })))
}

fn alarms(context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    let node = context.host.node();
    let alarms = [(node.memory_alarm, "memory"), (node.disk_alarm, "disk")];
    let name = context.host.node_name();
    let on: Vec<_> = alarms.iter().filter(|(is_on, _)| *is_on).collect();
    if on.is_empty() {
        return ok();
    }
    let on: Value = on.iter().map(|(_, resource)| json!({ "node": name, "resource": resource })).collect();
    failed("There are alarms in effect in the cluster", json!({ "alarms": on }))
}

fn port_listener(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let text = request.param("port");
    let port: u16 = text.parse().map_err(|_| ApiError::bad_request("Invalid port"))?;
    let node = context.host.node();
    let ports: Vec<u16> = node.listeners.iter().map(|listener| listener.address.port()).collect();
    match ports.contains(&port) {
        true => Ok(Answer::json(&json!({ "status": "ok", "port": port }))),
        false => failed("No active listener", json!({ "missing": port, "ports": ports })),
    }
}

fn protocol_listener(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let wanted = known_protocol(request.param("protocol"));
    let node = context.host.node();
    let protocols = protocols(&node);
    match protocols.contains(&&*wanted) {
        true => Ok(Answer::json(&json!({ "status": "ok", "protocol": wanted }))),
        false => failed("No active listener", json!({ "missing": wanted, "protocols": protocols })),
    }
}

fn protocols(node: &NodeFacts) -> Vec<&'static str> {
    let mut protocols: Vec<_> = node.listeners.iter().map(|listener| listener.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

/// RabbitMQ takes these names, too, and answers with the usual one.
fn known_protocol(wanted: &str) -> String {
    let wanted = wanted.to_ascii_lowercase();
    match wanted.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp-0-9-1" => "amqp".to_owned(),
        "amqps" => "amqp/ssl".to_owned(),
        _ => wanted,
    }
}

/// The listeners over TLS share one certificate chain; it lasts as long as the first of it that expires.
fn certificate_expiration(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let within_s = seconds(request.param("within"), request.param("unit"))?;
    let node = context.host.node();
    let until_s = i64::try_from(context.now_ms() / 1000).unwrap_or(i64::MAX).saturating_add(within_s);
    let expires_s =
        node.certificate_expires_s.filter(|at_s| i64::try_from(*at_s).is_ok_and(|at_s| at_s <= until_s));
    let Some(expires_s) = expires_s else { return ok() };
    let listeners = node.listeners.iter().filter(|listener| listener.is_tls());
    let expired = listeners.map(|listener| {
        json!({
            "node": context.host.node_name(),
            "protocol": listener.protocol,
            "interface": listener.address.ip().to_string(),
            "port": listener.address.port(),
            "certfile_expires_on": [moment::in_seconds(expires_s)],
        })
    });
    failed("Certificates expiring", json!({ "expired": expired.collect::<Value>() }))
}

/// A time as RabbitMQ takes it; months have 30 days, years 365.
fn seconds(number: &str, unit: &str) -> Result<i64, ApiError> {
    let days = match unit {
        "days" => 1,
        "weeks" => 7,
        "months" => 30,
        "years" => 365,
        _ => {
            let known = "Time unit not recognised. Supported units: days, weeks, months, years.";
            return Err(ApiError::bad_request(known));
        }
    };
    let number: i64 = number.parse().map_err(|_| ApiError::bad_request("Invalid expiration value."))?;
    Ok(number.saturating_mul(days * 86_400))
}

fn in_service(context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    match context.host.readiness() {
        Ok(()) => ok(),
        Err(reason) => failed(&reason, json!({})),
    }
}

fn below_limit(context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    let node = context.host.node();
    let (current, limit) = (node.connections, node.connections_max);
    match current < limit {
        true => Ok(Answer::json(&json!({ "status": "ok", "current": current, "limit": limit }))),
        false => failed("connection limit is reached", json!({ "current": current, "limit": limit })),
    }
}
