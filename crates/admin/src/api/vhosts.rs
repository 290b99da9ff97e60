//! Virtual hosts.

use std::sync::Arc;

use leveret_broker::vhost::VHost;
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing::Cheap;
use crate::message_stats::{self, Shown};
use crate::rates::{Span, Subject};
use crate::request::Request;
use crate::route::{Method, Route};
use crate::totals::Totals;
use crate::{listing, sight};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/vhosts",
        access: Access::Management,
        about: "The virtual hosts that the caller may see",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/vhosts/{vhost}",
        access: Access::VHostSight,
        about: "A virtual host",
        handler: one,
    },
];

const LENGTHS: [&str; 3] = ["messages", "messages_ready", "messages_unacknowledged"];
const OCTETS: [&str; 2] = ["recv_oct", "send_oct"];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhosts = sight::vhosts(context, request)?;
    let cheap = |vhost: &Arc<VHost>, column: &str| match column {
        "name" => Cheap::Is(json!(&*vhost.name)),
        _ => Cheap::Unknown,
    };
    let name = |vhost: &Arc<VHost>| vhost.name.to_string();
    listing::lazy(request, vhosts, name, cheap, |vhost| described(context, request, &vhost))
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    Ok(listing::one(request, described(context, request, &vhost)))
}

fn described(context: &Context, request: &Request, vhost: &Arc<VHost>) -> Value {
    let said = vhost.metadata();
    let mut shown = json!({
        "name": &*vhost.name,
        "description": said.description,
        "tags": said.tags,
        "metadata": { "description": said.description, "tags": said.tags },
        "default_queue_type": said.default_queue_type.as_deref().unwrap_or("undefined"),
        "protected_from_deletion": said.is_protected,
        "tracing": false,
        "cluster_state": { context.host.node_name(): "running" },
    });
    if let (Value::Object(shown), false) = (&mut shown, request.asks_for("disable_stats")) {
        put_stats(shown, context, request, vhost);
    }
    shown
}

fn put_stats(shown: &mut Map<String, Value>, context: &Context, request: &Request, vhost: &Arc<VHost>) {
    let totals = Totals::of(context.broker(), std::slice::from_ref(vhost));
    let mut values = totals.lengths().to_vec();
    values.extend(octets(context, vhost));
    values.extend(message_stats::values(&totals.counts));
    let subject = Subject::VHost(vhost.name.clone());
    let trend = context.rates.look(subject, context.now_ms(), &values, Span::any(request));
    trend.put(shown, 0, &LENGTHS, Span::Lengths.samples(request));
    trend.put(shown, LENGTHS.len(), &OCTETS, Span::DataRates.samples(request));
    let samples = Span::MessageRates.samples(request);
    let first = LENGTHS.len() + OCTETS.len();
    if let Some(stats) = message_stats::object(&trend, first, Shown::WhatHappened, samples) {
        shown.insert("message_stats".to_owned(), stats);
    }
}

/// Of the connections that are open.
fn octets(context: &Context, vhost: &VHost) -> [u64; 2] {
    let connections = context.broker().connections();
    let here = connections.iter().filter(|connection| connection.vhost == vhost.name);
    here.fold([0, 0], |[received, sent], connection| {
        let traffic = connection.traffic();
        [received + traffic.received_bytes(), sent + traffic.sent_bytes()]
    })
}
