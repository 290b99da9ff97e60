//! Declaring, purging and deleting queues.

use leveret_broker::ops::queue::DeclareQueue;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::PUT,
        path: "/api/queues/{vhost}/{queue}",
        access: Access::VHost,
        about: "Declares a queue: `durable`, `auto_delete`, `arguments`",
        handler: declare,
    },
    Route {
        method: Method::DELETE,
        path: "/api/queues/{vhost}/{queue}",
        access: Access::VHost,
        about: "Deletes a queue; `?if-unused=true`, `?if-empty=true`",
        handler: delete,
    },
    Route {
        method: Method::DELETE,
        path: "/api/queues/{vhost}/{queue}/contents",
        access: Access::VHost,
        about: "Drops the messages that wait in a queue",
        handler: purge,
    },
];

fn declare(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    let (vhost, name) = (request.param("vhost"), request.param("queue"));
    let (durable, auto_delete) = (fields.flag("durable")?, fields.flag("auto_delete")?);
    let arguments = fields.arguments("arguments")?;
    let is_new = context.vhost_to_change(vhost)?.queue(name).is_none();
    context.act(&request.caller()?, vhost, |channel, _, batch| {
        // An exclusive queue would go with the request.
        let declare =
            DeclareQueue { name, passive: false, durable, exclusive: false, auto_delete, arguments };
        Ok(channel.declare_queue(declare, batch).map(drop)?)
    })?;
    Ok(Answer::created_or_changed(is_new))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), request.param("queue"));
    context.vhost(vhost)?.queue(name).ok_or_else(ApiError::not_found)?;
    let (if_unused, if_empty) = (request.asks_for("if-unused"), request.asks_for("if-empty"));
    context.act(&request.caller()?, vhost, |channel, _, batch| {
        Ok(channel.delete_queue(name, if_unused, if_empty, batch).map(drop)?)
    })?;
    Ok(Answer::no_content())
}

fn purge(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), request.param("queue"));
    context.vhost(vhost)?.queue(name).ok_or_else(ApiError::not_found)?;
    context.act(&request.caller()?, vhost, |channel, _, _| Ok(channel.purge_queue(name).map(drop)?))?;
    Ok(Answer::no_content())
}
