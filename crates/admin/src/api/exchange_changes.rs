//! Declaring and deleting exchanges.

use leveret_broker::ops::exchange::DeclareExchange;

use super::bindings::exchange_name;
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
        path: "/api/exchanges/{vhost}/{exchange}",
        access: Access::VHost,
        about: "Declares an exchange: `type`, `durable`, `auto_delete`, `internal`, `arguments`",
        handler: declare,
    },
    Route {
        method: Method::DELETE,
        path: "/api/exchanges/{vhost}/{exchange}",
        access: Access::VHost,
        about: "Deletes an exchange; `?if-unused=true`",
        handler: delete,
    },
];

fn declare(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    let (vhost, name) = (request.param("vhost"), exchange_name(request.param("exchange")));
    let declare = DeclareExchange {
        name,
        kind: fields.text_if("type")?.unwrap_or("direct"),
        passive: false,
        durable: fields.flag("durable")?,
        auto_delete: fields.flag("auto_delete")?,
        internal: fields.flag("internal")?,
        arguments: fields.arguments("arguments")?,
    };
    let is_new = context.vhost_to_change(vhost)?.exchange(name).is_none();
    context.act(&request.caller()?, vhost, |channel, _, _| {
        Ok(channel.connection.declare_exchange(declare)?)
    })?;
    Ok(Answer::created_or_changed(is_new))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), exchange_name(request.param("exchange")));
    context.vhost(vhost)?.exchange(name).ok_or_else(ApiError::not_found)?;
    let if_unused = request.asks_for("if-unused");
    context.act(&request.caller()?, vhost, |channel, _, _| {
        Ok(channel.connection.delete_exchange(name, if_unused)?)
    })?;
    Ok(Answer::no_content())
}
