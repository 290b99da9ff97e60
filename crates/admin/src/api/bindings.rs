//! Bindings: what leads from exchanges to queues and other exchanges.

use std::sync::Arc;

use leveret_broker::vhost::{Destination, Exchange, VHost};
use leveret_wire::FieldTable;
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::binding_key::{self, properties_key};
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Handler, Method, Route};
use crate::table_json;
use crate::{listing, sight};

const fn get(path: &'static str, about: &'static str, handler: Handler) -> Route {
    Route { method: Method::GET, path, access: Access::VHostSight, about, handler }
}

pub(crate) const ROUTES: &[Route] = &[
    get("/api/bindings", "All bindings that the caller may see", all),
    get("/api/bindings/{vhost}", "The bindings of a virtual host", all),
    get(
        "/api/bindings/{vhost}/e/{source}/q/{queue}",
        "The bindings between an exchange and a queue",
        between,
    ),
    get("/api/bindings/{vhost}/e/{source}/e/{exchange}", "The bindings between two exchanges", between),
    get("/api/bindings/{vhost}/e/{source}/q/{queue}/{props}", "A binding of a queue", one),
    get("/api/bindings/{vhost}/e/{source}/e/{exchange}/{props}", "A binding of an exchange", one),
    get("/api/queues/{vhost}/{queue}/bindings", "The bindings that lead to a queue", to),
    get("/api/exchanges/{vhost}/{exchange}/bindings/source", "The bindings that begin at an exchange", from),
    get(
        "/api/exchanges/{vhost}/{exchange}/bindings/destination",
        "The bindings that lead to an exchange",
        to,
    ),
];

/// One binding.
struct Binding {
    vhost: Arc<str>,
    source: Arc<str>,
    destination: Arc<str>,
    is_queue: bool,
    routing_key: String,
    arguments: FieldTable,
}

fn all(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let mut bindings = Vec::new();
    for vhost in sight::vhosts(context, request)? {
        bindings.extend(implied(&vhost));
        for exchange in sorted_exchanges(&vhost) {
            bindings.extend(beginning_at(&vhost, &exchange));
        }
    }
    answer(request, bindings)
}

fn from(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let exchange =
        vhost.exchange(exchange_name(request.param("exchange"))).ok_or_else(ApiError::not_found)?;
    let bindings = if exchange.name.is_empty() { implied(&vhost) } else { beginning_at(&vhost, &exchange) };
    answer(request, bindings)
}

fn to(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let destination = destination(&vhost, request)?;
    let sources = sorted_exchanges(&vhost);
    let mut bindings: Vec<_> = implied_to(&vhost, &destination).into_iter().collect();
    bindings.extend(sources.iter().flat_map(|source| leading(&vhost, source, &destination)));
    answer(request, bindings)
}

fn between(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    answer(request, found_between(context, request)?)
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let mut bindings = found_between(context, request)?;
    let keys = bindings.iter().map(|one| (one.routing_key.as_str(), &one.arguments));
    let at = binding_key::position(keys, request.param("props")).ok_or_else(ApiError::not_found)?;
    Ok(listing::one(request, described(bindings.swap_remove(at))))
}

fn found_between(context: &Context, request: &Request) -> Result<Vec<Binding>, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let source = vhost.exchange(exchange_name(request.param("source"))).ok_or_else(ApiError::not_found)?;
    let destination = destination(&vhost, request)?;
    Ok(match &*source.name {
        "" => implied_to(&vhost, &destination).into_iter().collect(),
        _ => leading(&vhost, &source, &destination),
    })
}

/// What the path calls `queue` or `exchange`.
fn destination(vhost: &VHost, request: &Request) -> Result<Destination, ApiError> {
    let found = match request.param_if("queue") {
        Some(queue) => vhost.queue(queue).map(Destination::Queue),
        None => vhost.exchange(exchange_name(request.param("exchange"))).map(Destination::Exchange),
    };
    found.ok_or_else(ApiError::not_found)
}

/// A path cannot hold the empty name.
pub(crate) fn exchange_name(name: &str) -> &str {
    if name == "amq.default" { "" } else { name }
}

fn sorted_exchanges(vhost: &VHost) -> Vec<Arc<Exchange>> {
    let mut exchanges = vhost.exchanges();
    exchanges.sort_by(|a, b| a.name.cmp(&b.name));
    exchanges
}

/// The default exchange leads to every queue by its name.
fn implied(vhost: &VHost) -> Vec<Binding> {
    let queues = vhost.queues().into_iter().map(Destination::Queue);
    queues.filter_map(|queue| implied_to(vhost, &queue)).collect()
}

fn implied_to(vhost: &VHost, destination: &Destination) -> Option<Binding> {
    let name = destination.name();
    matches!(destination, Destination::Queue(_)).then(|| Binding {
        vhost: vhost.name.clone(),
        source: "".into(),
        destination: name.clone(),
        is_queue: true,
        routing_key: name.to_string(),
        arguments: FieldTable::new(),
    })
}

fn beginning_at(vhost: &VHost, source: &Exchange) -> Vec<Binding> {
    let bindings = source.bindings.read();
    bindings.iter().map(|(to, key, arguments)| binding(vhost, source, to, key, arguments)).collect()
}

fn leading(vhost: &VHost, source: &Exchange, to: &Destination) -> Vec<Binding> {
    let bindings = source.bindings.read();
    bindings.of(to).map(|(key, arguments)| binding(vhost, source, to, key, arguments)).collect()
}

fn binding(vhost: &VHost, source: &Exchange, to: &Destination, key: &str, arguments: &FieldTable) -> Binding {
    Binding {
        vhost: vhost.name.clone(),
        source: source.name.clone(),
        destination: to.name().clone(),
        is_queue: matches!(to, Destination::Queue(_)),
        routing_key: key.to_owned(),
        arguments: arguments.clone(),
    }
}

fn answer(request: &Request, bindings: Vec<Binding>) -> Result<Answer, ApiError> {
    let name = |one: &Binding| one.source.to_string();
    let cheap = |one: &Binding, column: &str| match column {
        "source" => listing::Cheap::Is(json!(&*one.source)),
        "destination" => listing::Cheap::Is(json!(&*one.destination)),
        "routing_key" => listing::Cheap::Is(json!(one.routing_key)),
        "vhost" => listing::Cheap::Is(json!(&*one.vhost)),
        _ => listing::Cheap::Unknown,
    };
    listing::lazy(request, bindings, name, cheap, described)
}

fn described(binding: Binding) -> Value {
    json!({
        "source": &*binding.source,
        "vhost": &*binding.vhost,
        "destination": &*binding.destination,
        "destination_type": if binding.is_queue { "queue" } else { "exchange" },
        "routing_key": binding.routing_key,
        "arguments": table_json::object(&binding.arguments),
        "properties_key": properties_key(&binding.routing_key, &binding.arguments),
    })
}
