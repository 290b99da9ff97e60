//! A broker's definitions as JSON.

use std::sync::Arc;

use leveret_broker::Broker;
use leveret_broker::policies::Author;
use leveret_broker::users::User;
use leveret_broker::vhost::{Destination, Exchange, Queue, VHost};
use serde_json::{Map, Value, json};

use crate::api::parameters::{described_global, in_vhost};
use crate::api::permissions::{described as permissions, described_topic as topic_permissions};
use crate::api::policies::described as policy;
use crate::api::users::described as user;
use crate::error::ApiError;
use crate::table_json;

/// Who is to read the definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Leveret.
    Leveret,
    /// RabbitMQ, which refuses a file with a password hash that it does not know: users with one have no password there.
    RabbitMq,
}

/// The definitions of a virtual host, or all.
///
/// # Errors
/// The virtual host is being deleted.
pub(crate) fn shown(broker: &Broker, only: Option<&Arc<VHost>>, reader: Reader) -> Result<Value, ApiError> {
    let mut all = about();
    let mut vhosts = only.map_or_else(|| broker.vhosts(), |only| vec![only.clone()]);
    vhosts.sort_by(|a, b| a.name.cmp(&b.name));
    if only.is_none() {
        all.extend(of_broker(broker, &vhosts, reader));
    }
    let (mut parameters, mut policies) = (Vec::new(), Vec::new());
    let (mut queues, mut exchanges, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for vhost in &vhosts {
        parameters.extend(in_vhost(broker, vhost)?);
        policies
            .extend(broker.policies(&vhost.name, Author::User)?.iter().map(|one| policy(&vhost.name, one)));
        queues.extend(vhost.queues().iter().filter(|one| lasts(one)).map(|one| queue(one)));
        let mut of_vhost = vhost.exchanges();
        of_vhost.retain(|one| one.spec.durable);
        of_vhost.sort_by(|a, b| a.name.cmp(&b.name));
        let own = of_vhost.iter().filter(|one| !is_predeclared(&one.name));
        exchanges.extend(own.map(|one| exchange(vhost, one)));
        bindings.extend(of_vhost.iter().flat_map(|one| bindings_of(vhost, one)));
    }
    let mut lists = [parameters, policies, queues, exchanges, bindings];
    if only.is_some() {
        lists.iter_mut().flatten().for_each(forget_vhost);
    }
    let names = ["parameters", "policies", "queues", "exchanges", "bindings"];
    all.extend(names.into_iter().zip(lists).map(|(name, list)| (name.to_owned(), Value::Array(list))));
    Ok(Value::Object(all))
}

/// Tools look at the version of RabbitMQ before they read on.
fn about() -> Map<String, Value> {
    let version = env!("CARGO_PKG_VERSION");
    let about = [
        ("rabbit_version", RABBITMQ_VERSION),
        ("rabbitmq_version", RABBITMQ_VERSION),
        ("product_name", "Leveret"),
        ("product_version", version),
    ];
    about.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// The version whose definitions these are.
const RABBITMQ_VERSION: &str = "3.10.8";

fn of_broker(broker: &Broker, vhosts: &[Arc<VHost>], reader: Reader) -> Map<String, Value> {
    let users = broker.users.list();
    let permissions_of = |user: &Arc<User>| {
        let of = user.all_permissions();
        of.map(|(vhost, allowed)| permissions(&user.name, vhost, allowed)).collect::<Vec<_>>()
    };
    let topic_permissions_of = |user: &Arc<User>| {
        let of = user.all_topic_permissions();
        of.map(|(vhost, exchange, keys)| topic_permissions(&user.name, vhost, exchange, keys))
            .collect::<Vec<_>>()
    };
    let lists = [
        ("vhosts", vhosts.iter().map(|one| vhost(one)).collect()),
        ("users", users.iter().map(|one| for_reader(user(broker, one), reader)).collect()),
        ("permissions", users.iter().flat_map(permissions_of).collect()),
        ("topic_permissions", users.iter().flat_map(topic_permissions_of).collect()),
        ("global_parameters", broker.global_parameters().iter().map(described_global).collect::<Value>()),
    ];
    lists.into_iter().map(|(name, list)| (name.to_owned(), list)).collect()
}

fn for_reader(mut user: Value, reader: Reader) -> Value {
    if reader == Reader::RabbitMq && user["hashing_algorithm"] == "argon2id" {
        user["password_hash"] = json!("");
        user["hashing_algorithm"] = json!("rabbit_password_hashing_sha256");
    }
    user
}

fn vhost(vhost: &VHost) -> Value {
    let metadata = vhost.metadata();
    let mut said = json!({ "description": metadata.description, "tags": metadata.tags });
    if let Some(queue_type) = &metadata.default_queue_type {
        said["default_queue_type"] = json!(queue_type);
    }
    let mut shown = said.clone();
    shown["name"] = json!(&*vhost.name);
    shown["metadata"] = said;
    shown
}

/// Whether a queue is there after a restart, and is not the broker's own.
fn lasts(queue: &Queue) -> bool {
    queue.spec.durable && queue.spec.owner.is_none() && !queue.spec.internal
}

fn queue(queue: &Queue) -> Value {
    json!({
        "vhost": &*queue.vhost,
        "name": &*queue.name,
        "durable": queue.spec.durable,
        "auto_delete": queue.spec.auto_delete,
        "arguments": table_json::object(&queue.spec.arguments),
    })
}

fn is_predeclared(name: &str) -> bool {
    name.is_empty() || name.starts_with("amq.")
}

fn exchange(vhost: &VHost, exchange: &Exchange) -> Value {
    json!({
        "vhost": &*vhost.name,
        "name": &*exchange.name,
        "type": exchange.spec.type_name(),
        "durable": exchange.spec.durable,
        "auto_delete": exchange.spec.auto_delete,
        "internal": exchange.spec.internal,
        "arguments": table_json::object(&exchange.spec.arguments),
    })
}

fn bindings_of(vhost: &VHost, source: &Exchange) -> Vec<Value> {
    let bindings = source.bindings.read();
    let lasting = bindings.iter().filter(|(destination, ..)| match destination {
        Destination::Queue(queue) => lasts(queue),
        Destination::Exchange(exchange) => exchange.spec.durable,
    });
    let mut shown: Vec<_> = lasting
        .map(|(destination, routing_key, arguments)| {
            let to_queue = matches!(destination, Destination::Queue(_));
            let name = destination.name().clone();
            (name, routing_key.to_owned(), to_queue, table_json::object(arguments))
        })
        .collect();
    shown.sort_by(|a, b| (&a.0, &a.1, a.2).cmp(&(&b.0, &b.1, b.2)));
    let binding = |(destination, routing_key, to_queue, arguments)| {
        let destination: Arc<str> = destination;
        let (routing_key, arguments): (String, Value) = (routing_key, arguments);
        json!({
            "source": &*source.name,
            "vhost": &*vhost.name,
            "destination": &*destination,
            "destination_type": if to_queue { "queue" } else { "exchange" },
            "routing_key": routing_key,
            "arguments": arguments,
        })
    };
    shown.into_iter().map(binding).collect()
}

/// In the definitions of one virtual host nothing says which.
fn forget_vhost(item: &mut Value) {
    if let Value::Object(item) = item {
        item.remove("vhost");
    }
}
