//! Clients' connections.

use std::sync::Arc;

use axum::http::header::HeaderName;
use leveret_broker::roster::{ConnectionRecord, Introduction, Over};
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing::Cheap;
use crate::rates::{Span, Subject};
use crate::request::Request;
use crate::route::{Handler, Method, Route};
use crate::table_json;
use crate::{listing, sight};

const fn route(
    method: Method,
    path: &'static str,
    access: Access,
    about: &'static str,
    handler: Handler,
) -> Route {
    Route { method, path, access, about, handler }
}

pub(crate) const ROUTES: &[Route] = &[
    route(
        Method::GET,
        "/api/connections",
        Access::Management,
        "All connections, or those of the caller without the tag monitoring",
        list,
    ),
    route(Method::GET, "/api/connections/{connection}", Access::Management, "A connection", one),
    route(Method::DELETE, "/api/connections/{connection}", Access::Management, "Close a connection", close),
    route(
        Method::GET,
        "/api/connections/username/{user}",
        Access::Management,
        "The connections of a user",
        list_of_user,
    ),
    route(
        Method::DELETE,
        "/api/connections/username/{user}",
        Access::Management,
        "Close all connections of a user",
        close_of_user,
    ),
    route(
        Method::GET,
        "/api/vhosts/{vhost}/connections",
        Access::VHostSight,
        "The connections of a virtual host",
        list,
    ),
];

/// What a client reads as the reason when nobody said one; RabbitMQ's.
const NO_REASON: &str = "Closed via management plugin";

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    answer(context, request, sight::connections(context, request)?)
}

fn list_of_user(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    answer(context, request, of_user(context, request)?)
}

fn answer(
    context: &Context,
    request: &Request,
    connections: Vec<Arc<ConnectionRecord>>,
) -> Result<Answer, ApiError> {
    let name = |one: &Arc<ConnectionRecord>| one.name.clone();
    listing::lazy(request, connections, name, cheap, |one| described(context, request, &one))
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    Ok(listing::one(request, described(context, request, &*sight::connection(context, request)?)))
}

fn close(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    sight::connection(context, request)?.close(reason(request));
    Ok(Answer::no_content())
}

fn close_of_user(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let connections = of_user(context, request)?;
    connections.iter().for_each(|connection| connection.close(reason(request)));
    Ok(Answer::no_content())
}

fn of_user(context: &Context, request: &Request) -> Result<Vec<Arc<ConnectionRecord>>, ApiError> {
    let mut connections = sight::connections(context, request)?;
    connections.retain(|connection| *connection.user == *request.param("user"));
    Ok(connections)
}

fn reason(request: &Request) -> &str {
    request.header(&HeaderName::from_static("x-reason")).unwrap_or(NO_REASON)
}

fn cheap(one: &Arc<ConnectionRecord>, column: &str) -> Cheap {
    Cheap::Is(match column {
        "name" => json!(one.name),
        "vhost" => json!(&*one.vhost),
        "user" => json!(&*one.user),
        "state" => json!(one.state().name()),
        "channels" => json!(one.channel_count()),
        "connected_at" => json!(one.introduction.connected_at_ms),
        "recv_oct" => json!(one.traffic().received_bytes()),
        "send_oct" => json!(one.traffic().sent_bytes()),
        _ => return Cheap::Unknown,
    })
}

fn described(context: &Context, request: &Request, one: &ConnectionRecord) -> Value {
    let introduction = &one.introduction;
    let mut shown = json!({
        "name": one.name,
        "node": context.host.node_name(),
        "type": if matches!(introduction.over, Over::Tcp { .. }) { "network" } else { "direct" },
        "protocol": "AMQP 0-9-1",
        "vhost": &*one.vhost,
        "user": &*one.user,
        "user_who_performed_action": &*one.user,
        "state": one.state().name(),
        "auth_mechanism": introduction.auth_mechanism,
        "channel_max": introduction.channel_max,
        "channels": one.channel_count(),
        "client_properties": table_json::object(&introduction.client_properties().to_table()),
        "connected_at": introduction.connected_at_ms,
        "frame_max": introduction.frame_max,
        "timeout": introduction.timeout_s,
    });
    if let Some(name) = introduction.client_properties().find_str("connection_name") {
        shown["user_provided_name"] = json!(name);
    }
    if let Value::Object(shown) = &mut shown {
        put_ends(shown, introduction);
        put_tls(shown, introduction);
        put_traffic(shown, context, request, one);
    }
    shown
}

fn put_ends(shown: &mut Map<String, Value>, introduction: &Introduction) {
    let (peer, host) = match introduction.over {
        Over::Tcp { peer, host } => (Some(peer), Some(host)),
        Over::Memory | Over::Nothing => (None, None),
    };
    let ends = [
        ("peer_host", json!(peer.map(|end| end.ip().to_canonical().to_string()))),
        ("peer_port", json!(peer.map(|end| end.port()))),
        ("host", json!(host.map(|end| end.ip().to_canonical().to_string()))),
        ("port", json!(host.map(|end| end.port()))),
    ];
    shown.extend(ends.map(|(name, value)| (name.to_owned(), value)));
}

fn put_tls(shown: &mut Map<String, Value>, introduction: &Introduction) {
    let tls = introduction.tls.as_ref();
    let facts = [
        ("ssl", json!(tls.is_some())),
        ("ssl_protocol", json!(tls.map(|tls| &tls.protocol))),
        ("ssl_cipher", json!(tls.map(|tls| &tls.cipher))),
        ("ssl_key_exchange", json!(tls.map(|tls| &tls.key_exchange))),
        ("ssl_hash", json!(tls.map(|tls| &tls.hash))),
        ("peer_cert_subject", json!(tls.and_then(|tls| tls.peer_cert_subject.as_ref()))),
        ("peer_cert_issuer", json!(tls.and_then(|tls| tls.peer_cert_issuer.as_ref()))),
        ("peer_cert_validity", json!(tls.and_then(|tls| tls.peer_cert_validity.as_ref()))),
    ];
    shown.extend(facts.map(|(name, value)| (name.to_owned(), value)));
}

fn put_traffic(shown: &mut Map<String, Value>, context: &Context, request: &Request, one: &ConnectionRecord) {
    if request.asks_for("disable_stats") {
        return;
    }
    let traffic = one.traffic();
    let counts = [
        ("recv_cnt", json!(traffic.reads())),
        ("send_cnt", json!(traffic.writes())),
        // What waits is written by whoever filled it: nothing is left to count.
        ("send_pend", json!(0)),
    ];
    shown.extend(counts.map(|(name, value)| (name.to_owned(), value)));
    let values = [traffic.received_bytes(), traffic.sent_bytes()];
    let trend =
        context.rates.look(Subject::Connection(one.id), context.now_ms(), &values, Span::any(request));
    trend.put(shown, 0, &["recv_oct", "send_oct"], Span::DataRates.samples(request));
}
