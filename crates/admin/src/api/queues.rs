//! Queues: what they are, and how they are at this moment.

use std::sync::Arc;

use leveret_broker::vhost::Queue;
use serde_json::{Value, json};

use super::consumers;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing::Cheap;
use crate::queue_json::{Detail, described, rate};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::{listing, sight};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/queues",
        access: Access::Management,
        about: "All queues that the caller may see",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/queues/detailed",
        access: Access::Management,
        about: "The same",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/queues/{vhost}",
        access: Access::VHostSight,
        about: "The queues of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/queues/{vhost}/{queue}",
        access: Access::VHostSight,
        about: "A queue, with its consumers",
        handler: one,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhosts = sight::vhosts(context, request)?;
    let mut queues: Vec<_> = vhosts.iter().flat_map(|vhost| vhost.queues()).collect();
    queues.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    let detail = Detail::wanted(request);
    let name = |queue: &Arc<Queue>| queue.name.to_string();
    let cheap = |queue: &Arc<Queue>, column: &str| match rate(context, request, queue, column) {
        Some(rate) => Cheap::Is(json!(rate)),
        None => cheap(queue, column),
    };
    listing::lazy(request, queues, name, cheap, |queue| described(context, request, &queue, detail))
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let queue = context.vhost(request.param("vhost"))?.queue(request.param("queue"));
    let queue = queue.ok_or_else(ApiError::not_found)?;
    let mut shown = described(context, request, &queue, Detail::wanted(request));
    if !request.asks_for("disable_stats") {
        let consumers = context.broker().consumers_of(&queue);
        let node = context.host.node_name();
        shown["consumer_details"] = consumers.iter().map(|one| consumers::described(one, node)).collect();
        // RabbitMQ lists channels and exchanges here when it keeps detailed statistics.
        shown["incoming"] = json!([]);
        shown["deliveries"] = json!([]);
    }
    Ok(listing::one(request, shown))
}

/// What lists of thousands of queues are sorted by without building their JSON.
fn cheap(queue: &Arc<Queue>, column: &str) -> Cheap {
    let record = || queue.record();
    let counts = || queue.counts().messages;
    Cheap::Is(match column {
        "name" => json!(&*queue.name),
        "vhost" => json!(&*queue.vhost),
        "type" => json!(queue.kind.name()),
        "durable" => json!(queue.spec.durable),
        "auto_delete" => json!(queue.spec.auto_delete),
        "messages" => json!(record().ready.messages + record().unacknowledged.messages),
        "messages_ready" => json!(record().ready.messages),
        "messages_unacknowledged" => json!(record().unacknowledged.messages),
        "message_bytes" => json!(record().ready.bytes + record().unacknowledged.bytes),
        "consumers" => json!(record().consumers),
        "memory" => json!(record().memory_bytes),
        "message_stats.publish" => json!(counts().publish),
        "message_stats.deliver_get" => json!(counts().deliver_get()),
        "message_stats.ack" => json!(counts().ack),
        "policy" => policy(queue),
        _ => return Cheap::Unknown,
    })
}

fn policy(queue: &Queue) -> Value {
    queue.policies().policy.map_or(Value::Null, |policy| json!(policy.name))
}
