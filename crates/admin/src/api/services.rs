//! Services: queues that requests come to, and what became of the requests.

use leveret_broker::services::ServiceSnapshot;
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::{listing, sight};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/services",
        access: Access::Management,
        about: "All services that the caller may see",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/services/{vhost}",
        access: Access::VHostSight,
        about: "The services of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/services/{vhost}/{name}",
        access: Access::VHostSight,
        about: "A service",
        handler: one,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let now_us = context.host.now_us();
    let vhosts = sight::vhosts(context, request)?;
    let services = vhosts.iter().flat_map(|vhost| context.broker().services(&vhost.name, now_us));
    listing::answer(request, services.map(|service| described(context, &service)).collect())
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (context.vhost(request.param("vhost"))?, request.param("name"));
    let services = context.broker().services(&vhost.name, context.host.now_us());
    let service = services.iter().find(|service| &*service.name == name).ok_or_else(ApiError::not_found)?;
    Ok(listing::one(request, described(context, service)))
}

fn described(context: &Context, service: &ServiceSnapshot) -> Value {
    let (counts, latency) = (service.counts, &service.latency);
    let queue = context.broker().vhost(&service.vhost).and_then(|vhost| vhost.queue(&service.name));
    let percentile = |percent: f64| latency.percentile_us(percent);
    json!({
        "name": &*service.name,
        "vhost": &*service.vhost,
        "workers": queue.map(|queue| queue.record().consumers),
        "requests": counts.requests,
        "replies": counts.replies,
        "errors": counts.errors,
        "in_flight": counts.in_flight,
        "unanswered": counts.unanswered,
        "late": counts.late,
        "expired": counts.expired,
        "orphaned": counts.orphaned,
        "untracked": counts.untracked,
        "request_rate": service.request_rate.last_ten_seconds,
        "reply_rate": service.reply_rate.last_ten_seconds,
        "latency_us": {
            "count": latency.count(),
            "average": latency.sum_us().checked_div(latency.count()),
            "p50": percentile(50.0),
            "p90": percentile(90.0),
            "p95": percentile(95.0),
            "p99": percentile(99.0),
            "max": latency.max_us(),
        },
    })
}
