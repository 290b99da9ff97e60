//! Exchanges.

use std::sync::Arc;

use leveret_broker::counts::ExchangeCounts;
use leveret_broker::vhost::{Exchange, VHost};
use serde_json::{Map, Value, json};

use super::bindings::exchange_name;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing::Cheap;
use crate::rates::{Span, Subject};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::table_json;
use crate::{listing, sight};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/exchanges",
        access: Access::Management,
        about: "All exchanges that the caller may see",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/exchanges/{vhost}",
        access: Access::VHostSight,
        about: "The exchanges of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/exchanges/{vhost}/{exchange}",
        access: Access::VHostSight,
        about: "An exchange",
        handler: one,
    },
];

/// An exchange, and what is counted of it.
struct Counted {
    vhost: Arc<VHost>,
    exchange: Arc<Exchange>,
    counts: ExchangeCounts,
}

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let mut exchanges = Vec::new();
    for vhost in sight::vhosts(context, request)? {
        let counts = context.broker().exchange_counts(&vhost);
        let mut here = vhost.exchanges();
        here.sort_by(|a, b| a.name.cmp(&b.name));
        exchanges.extend(here.into_iter().map(|exchange| {
            let counts = counts.get(&exchange.name).copied().unwrap_or_default();
            Counted { vhost: vhost.clone(), exchange, counts }
        }));
    }
    let name = |one: &Counted| one.exchange.name.to_string();
    listing::lazy(request, exchanges, name, cheap, |one| described(context, request, &one))
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let exchange =
        vhost.exchange(exchange_name(request.param("exchange"))).ok_or_else(ApiError::not_found)?;
    let counts = context.broker().exchange_counts(&vhost).get(&exchange.name).copied().unwrap_or_default();
    let mut shown = described(context, request, &Counted { vhost, exchange, counts });
    // RabbitMQ lists channels and queues here when it keeps detailed statistics.
    shown["incoming"] = json!([]);
    shown["outgoing"] = json!([]);
    Ok(listing::one(request, shown))
}

fn cheap(one: &Counted, column: &str) -> Cheap {
    let spec = &one.exchange.spec;
    Cheap::Is(match column {
        "name" => json!(&*one.exchange.name),
        "vhost" => json!(&*one.vhost.name),
        "type" => json!(spec.type_name()),
        "durable" => json!(spec.durable),
        "auto_delete" => json!(spec.auto_delete),
        "internal" => json!(spec.internal),
        "message_stats.publish_in" => json!(one.counts.publish_in),
        "message_stats.publish_out" => json!(one.counts.publish_out),
        _ => return Cheap::Unknown,
    })
}

fn described(context: &Context, request: &Request, one: &Counted) -> Value {
    let spec = &one.exchange.spec;
    let policies = one.exchange.policies();
    let mut shown = json!({
        "name": &*one.exchange.name,
        "vhost": &*one.vhost.name,
        "type": spec.type_name(),
        "durable": spec.durable,
        "auto_delete": spec.auto_delete,
        "internal": spec.internal,
        "arguments": table_json::object(&spec.arguments),
        // Who declared it is not kept.
        "user_who_performed_action": "",
    });
    if let Some(policy) = &policies.policy {
        shown["policy"] = json!(policy.name);
    }
    if request.asks_for("disable_stats") {
        return shown;
    }
    let counts = one.counts;
    if counts.publish_in > 0 || counts.publish_out > 0 {
        let subject = Subject::Exchange(one.vhost.name.clone(), one.exchange.name.clone());
        let values = [counts.publish_in, counts.publish_out];
        let trend = context.rates.look(subject, context.now_ms(), &values, Span::any(request));
        let mut stats = Map::new();
        trend.put(&mut stats, 0, &["publish_in", "publish_out"], Span::MessageRates.samples(request));
        shown["message_stats"] = Value::Object(stats);
    }
    shown
}
