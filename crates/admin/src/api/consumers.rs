//! Consumers.

use leveret_broker::queue::Activity;
use leveret_broker::roster::ConsumerRecord;
use leveret_broker::users::User;
use serde_json::{Value, json};

use super::channels;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::table_json;
use crate::{listing, sight};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/consumers",
        access: Access::Management,
        about: "All consumers, or those of the caller without the tag monitoring",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/consumers/{vhost}",
        access: Access::VHostSight,
        about: "The consumers of a virtual host",
        handler: list,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (node, caller) = (context.host.node_name(), request.caller()?);
    let vhosts = sight::vhosts(context, request)?;
    let consumers = vhosts.iter().flat_map(|vhost| context.broker().consumers(vhost));
    let seen = consumers.filter(|one| sees(&caller, one)).map(|one| described(&one, node));
    listing::answer(request, seen.collect())
}

/// Whose connections are hidden, theirs are too; as in RabbitMQ.
fn sees(user: &User, one: &ConsumerRecord) -> bool {
    match &one.connection {
        Some(connection) => sight::sees_connection(user, connection),
        None => sight::sees_all(user),
    }
}

/// A consumer as RabbitMQ shows it.
pub(crate) fn described(one: &ConsumerRecord, node: &str) -> Value {
    json!({
        "queue": { "name": &*one.queue.name, "vhost": &*one.queue.vhost },
        "consumer_tag": &*one.tag,
        "channel_details": channel_details(one, node),
        "ack_required": one.ack_required,
        "active": one.activity != Activity::Waiting,
        "activity_status": activity(one.activity),
        "exclusive": one.exclusive,
        "prefetch_count": one.prefetch_count,
        "messages_unacknowledged": one.messages_unacknowledged,
        "arguments": table_json::object(&one.arguments),
    })
}

fn activity(activity: Activity) -> &'static str {
    match activity {
        Activity::Served => "up",
        Activity::SingleActive => "single_active",
        Activity::Waiting => "waiting",
    }
}

fn channel_details(one: &ConsumerRecord, node: &str) -> Value {
    let Some(connection) = &one.connection else { return json!({}) };
    let (host, port) = channels::peer(connection);
    json!({
        "name": channels::name(connection, one.channel),
        "number": one.channel,
        "connection_name": connection.name,
        "node": node,
        "peer_host": host,
        "peer_port": port,
        "user": &*connection.user,
    })
}
