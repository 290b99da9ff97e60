//! What RabbitMQ's tools ask of upgrades: nothing here has to be switched on, and nothing is deprecated.

use serde_json::json;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/feature-flags",
        access: Access::Monitoring,
        about: "The abilities that RabbitMQ has as feature flags and that are here",
        handler: list,
    },
    Route {
        method: Method::PUT,
        path: "/api/feature-flags/{flag}/enable",
        access: Access::Administration,
        about: "Switches an ability on: all are",
        handler: enable,
    },
    Route {
        method: Method::GET,
        path: "/api/deprecated-features",
        access: Access::Monitoring,
        about: "What will go: nothing",
        handler: nothing,
    },
    Route {
        method: Method::GET,
        path: "/api/deprecated-features/used",
        access: Access::Monitoring,
        about: "The same",
        handler: nothing,
    },
    Route {
        method: Method::POST,
        path: "/api/rebalance/queues",
        access: Access::Administration,
        about: "Spreads queues over nodes: there is one",
        handler: |_, _| Ok(Answer::no_content()),
    },
];

/// RabbitMQ's names and words.
const FLAGS: [(&str, &str); 7] = [
    ("drop_unroutable_metric", "Count unroutable publishes to be dropped in stats"),
    ("empty_basic_get_metric", "Count AMQP `basic.get` on empty queues in stats"),
    (
        "implicit_default_bindings",
        "Default bindings are now implicit, instead of being stored in the database",
    ),
    ("quorum_queue", "Support queues of type `quorum`"),
    ("stream_queue", "Support queues of type `stream`"),
    ("user_limits", "Configure connection and channel limits for a user"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)"),
];

fn list(_context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let flags = FLAGS.iter().map(|(name, description)| {
        json!({
            "name": name,
            "desc": description,
            "doc_url": "",
            "state": "enabled",
            "stability": "stable",
            "provided_by": "rabbit",
        })
    });
    listing::answer(request, flags.collect())
}

fn enable(_context: &Context, request: &Request) -> Result<Answer, ApiError> {
    match FLAGS.iter().any(|(name, _)| *name == request.param("flag")) {
        true => Ok(Answer::no_content()),
        false => Err(ApiError::bad_request("unsupported")),
    }
}

fn nothing(_context: &Context, request: &Request) -> Result<Answer, ApiError> {
    listing::answer(request, Vec::new())
}
