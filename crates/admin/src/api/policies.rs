//! Policies of users and of the operator.
//!
//! A change can be asked for its cost first (`?preview=true`): how many messages would be dropped. What was dropped, every
//! change says in `x-leveret-messages-dropped`.

use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::header::HeaderName;
use leveret_broker::ops::policy::PolicyEffect;
use leveret_broker::policies::{Author, Policy};
use leveret_broker::vhost::VHost;
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::json_table;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::sight;
use crate::table_json;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/policies",
        access: Access::Management,
        about: "All policies",
        handler: |context, request| list(context, request, Author::User),
    },
    Route {
        method: Method::GET,
        path: "/api/policies/{vhost}",
        access: Access::VHostSight,
        about: "The policies of a virtual host",
        handler: |context, request| list(context, request, Author::User),
    },
    Route {
        method: Method::GET,
        path: "/api/policies/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "A policy",
        handler: |context, request| one(context, request, Author::User),
    },
    Route {
        method: Method::PUT,
        path: "/api/policies/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "Sets a policy; with `?preview=true` only says what would be dropped",
        handler: |context, request| put(context, request, Author::User),
    },
    Route {
        method: Method::DELETE,
        path: "/api/policies/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "Clears a policy; with `?preview=true` only says what would be dropped",
        handler: |context, request| delete(context, request, Author::User),
    },
    Route {
        method: Method::GET,
        path: "/api/operator-policies",
        access: Access::Management,
        about: "All operator policies",
        handler: |context, request| list(context, request, Author::Operator),
    },
    Route {
        method: Method::GET,
        path: "/api/operator-policies/{vhost}",
        access: Access::VHostSight,
        about: "The operator policies of a virtual host",
        handler: |context, request| list(context, request, Author::Operator),
    },
    Route {
        method: Method::GET,
        path: "/api/operator-policies/{vhost}/{name}",
        access: Access::Administration,
        about: "An operator policy",
        handler: |context, request| one(context, request, Author::Operator),
    },
    Route {
        method: Method::PUT,
        path: "/api/operator-policies/{vhost}/{name}",
        access: Access::Administration,
        about: "Sets an operator policy; with `?preview=true` only says what would be dropped",
        handler: |context, request| put(context, request, Author::Operator),
    },
    Route {
        method: Method::DELETE,
        path: "/api/operator-policies/{vhost}/{name}",
        access: Access::Administration,
        about: "Clears an operator policy; with `?preview=true` only says what would be dropped",
        handler: |context, request| delete(context, request, Author::Operator),
    },
];

/// How many messages a change of policies has dropped.
const DROPPED: HeaderName = HeaderName::from_static("x-leveret-messages-dropped");

/// Reads a policy.
///
/// # Errors
/// 400, in RabbitMQ's words.
pub(crate) fn read(author: Author, name: &str, fields: &Fields) -> Result<Policy, ApiError> {
    fields.require(&["pattern", "definition"])?;
    let invalid = |what: String| ApiError::bad_request(format!("Validation failed\n\n{what}\n"));
    let pattern = match fields.value("pattern") {
        Some(Value::String(pattern)) => pattern,
        other => return Err(invalid(format!("pattern should be a binary but was {}", shown(other)))),
    };
    let apply_to = match fields.value("apply-to") {
        None => "all",
        Some(Value::String(apply_to)) => apply_to,
        other => return Err(invalid(format!("apply-to should be a binary but was {}", shown(other)))),
    };
    let priority = match fields.value("priority").map(Value::as_i64) {
        None => 0,
        Some(Some(priority)) => priority,
        Some(None) => {
            let actual = shown(fields.value("priority"));
            return Err(invalid(format!("priority should be a number, actually was {actual}")));
        }
    };
    let definition = match fields.value("definition") {
        Some(Value::Object(definition)) => json_table::settings(definition)?,
        other => {
            return Err(invalid(format!("definition should be an object, actually was {}", shown(other))));
        }
    };
    Ok(Policy::new(author, name, pattern, apply_to, priority, definition)?)
}

fn shown(value: Option<&Value>) -> String {
    value.map(Value::to_string).unwrap_or_default()
}

/// As a policy is listed, and as it is in definitions.
pub(crate) fn described(vhost: &str, policy: &Policy) -> Value {
    json!({
        "vhost": vhost,
        "name": policy.name,
        "pattern": policy.pattern(),
        "apply-to": policy.apply_to.name(),
        "definition": table_json::object(&policy.definition),
        "priority": policy.priority,
    })
}

fn list(context: &Context, request: &Request, author: Author) -> Result<Answer, ApiError> {
    let vhosts = sight::vhosts(context, request)?;
    let of_vhost = |vhost: &Arc<VHost>| -> Result<Vec<Value>, ApiError> {
        let policies = context.broker().policies(&vhost.name, author)?;
        Ok(policies.iter().map(|policy| described(&vhost.name, policy)).collect())
    };
    let policies: Vec<Vec<Value>> = vhosts.iter().map(of_vhost).collect::<Result<_, _>>()?;
    listing::answer(request, policies.into_iter().flatten().collect())
}

fn one(context: &Context, request: &Request, author: Author) -> Result<Answer, ApiError> {
    let policy = find(context, request, author)?.ok_or_else(ApiError::not_found)?;
    Ok(listing::one(request, described(request.param("vhost"), &policy)))
}

fn put(context: &Context, request: &Request, author: Author) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), request.param("name"));
    let is_new = find(context, request, author)?.is_none();
    let policy = read(author, name, &Fields::of_body(&request.body)?)?;
    if request.asks_for("preview") {
        return Ok(preview(context.broker().preview_policy(vhost, author, policy)?));
    }
    let mut batch = context.batch();
    let set = context.broker().set_policy(vhost, author, policy, &mut batch);
    context.finish(&mut batch);
    Ok(dropped(Answer::created_or_changed(is_new), set?))
}

fn delete(context: &Context, request: &Request, author: Author) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), request.param("name"));
    if request.asks_for("preview") {
        return Ok(preview(context.broker().preview_clearing(vhost, author, name)?));
    }
    let mut batch = context.batch();
    let cleared = context.broker().clear_policy(vhost, author, name, &mut batch);
    context.finish(&mut batch);
    Ok(dropped(Answer::no_content(), cleared?))
}

fn find(context: &Context, request: &Request, author: Author) -> Result<Option<Arc<Policy>>, ApiError> {
    let policies = context.broker().policies(request.param("vhost"), author)?;
    Ok(policies.into_iter().find(|policy| policy.name == request.param("name")))
}

fn preview(effect: PolicyEffect) -> Answer {
    let PolicyEffect { queues, exchanges, messages_dropped } = effect;
    Answer::json(&json!({ "queues": queues, "exchanges": exchanges, "messages_dropped": messages_dropped }))
}

fn dropped(answer: Answer, effect: PolicyEffect) -> Answer {
    answer.with_header(DROPPED, HeaderValue::from(effect.messages_dropped))
}
