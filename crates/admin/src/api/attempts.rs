//! Logins: how many succeeded and failed at each door.

use leveret_broker::attempts::{Door, Tries};
use serde_json::{Value, json};

use super::nodes::check_name;
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
        path: "/api/auth/attempts/{node}",
        access: Access::Monitoring,
        about: "Logins by protocol",
        handler: by_protocol,
    },
    Route {
        method: Method::GET,
        path: "/api/auth/attempts/{node}/source",
        access: Access::Monitoring,
        about: "Logins by protocol, source and user name",
        handler: by_source,
    },
    Route {
        method: Method::DELETE,
        path: "/api/auth/attempts/{node}",
        access: Access::Administration,
        about: "Counts logins anew",
        handler: clear,
    },
    Route {
        method: Method::DELETE,
        path: "/api/auth/attempts/{node}/source",
        access: Access::Administration,
        about: "Counts logins anew",
        handler: clear,
    },
];

fn by_protocol(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    let attempts = &context.broker().attempts;
    let doors = [Door::Http, Door::Amqp];
    listing::answer(request, doors.map(|door| counted(door, attempts.total(door))).to_vec())
}

fn by_source(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    let attempts = context.broker().attempts.list().into_iter().map(|one| {
        let mut shown = counted(one.door, one.tries);
        shown["remote_address"] = json!(one.source.map_or_else(String::new, |source| source.to_string()));
        shown["username"] = json!(one.user);
        shown
    });
    listing::answer(request, attempts.collect())
}

fn clear(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    check_name(context, request)?;
    context.broker().attempts.clear();
    Ok(Answer::no_content())
}

fn counted(door: Door, tries: Tries) -> Value {
    json!({
        "protocol": door.protocol(),
        "auth_attempts": tries.succeeded + tries.failed,
        "auth_attempts_succeeded": tries.succeeded,
        "auth_attempts_failed": tries.failed,
    })
}
