//! Binding queues and exchanges, and unbinding them.

use axum::http::HeaderValue;
use axum::http::header::LOCATION;
use leveret_broker::ops::bind::Bind;
use leveret_broker::vhost::Destination;
use leveret_wire::FieldTable;

use super::bindings::exchange_name;
use crate::access::Access;
use crate::answer::Answer;
use crate::binding_key::{self, properties_key};
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/api/bindings/{vhost}/e/{source}/q/{queue}",
        access: Access::VHost,
        about: "Binds a queue: `routing_key`, `arguments`",
        handler: |context, request| bind(context, request, To::Queue),
    },
    Route {
        method: Method::POST,
        path: "/api/bindings/{vhost}/e/{source}/e/{exchange}",
        access: Access::VHost,
        about: "Binds an exchange: `routing_key`, `arguments`",
        handler: |context, request| bind(context, request, To::Exchange),
    },
    Route {
        method: Method::DELETE,
        path: "/api/bindings/{vhost}/e/{source}/q/{queue}/{props}",
        access: Access::VHost,
        about: "Unbinds a queue",
        handler: |context, request| unbind(context, request, To::Queue),
    },
    Route {
        method: Method::DELETE,
        path: "/api/bindings/{vhost}/e/{source}/e/{exchange}/{props}",
        access: Access::VHost,
        about: "Unbinds an exchange",
        handler: |context, request| unbind(context, request, To::Exchange),
    },
];

#[derive(Clone, Copy)]
enum To {
    Queue,
    Exchange,
}

impl To {
    fn name(self, request: &Request) -> &str {
        match self {
            To::Queue => request.param("queue"),
            To::Exchange => exchange_name(request.param("exchange")),
        }
    }
}

fn bind(context: &Context, request: &Request, to: To) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    let routing_key = fields.text_if("routing_key")?.unwrap_or_default();
    if routing_key.len() > 255 {
        return Err(ApiError::bad_request("routing_key has at most 255 octets"));
    }
    let arguments = fields.arguments("arguments")?;
    let key = properties_key(routing_key, &arguments);
    let destination = to.name(request);
    let vhost = request.param("vhost");
    context.vhost_to_change(vhost)?;
    let bind = Bind { source: exchange_name(request.param("source")), destination, routing_key, arguments };
    context.act(&request.caller()?, vhost, |channel, _, batch| match to {
        To::Queue => Ok(channel.bind_queue(bind, batch)?),
        To::Exchange => Ok(channel.connection.bind_exchange(bind, batch)?),
    })?;
    let location = format!("{}/{}", escaped(destination), escaped(&key));
    let location = HeaderValue::try_from(location).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Answer::created().with_header(LOCATION, location))
}

fn unbind(context: &Context, request: &Request, to: To) -> Result<Answer, ApiError> {
    let vhost = request.param("vhost");
    let (routing_key, arguments) = find(context, request, to)?;
    let source = exchange_name(request.param("source"));
    let bind = Bind { source, destination: to.name(request), routing_key: &routing_key, arguments };
    context.act(&request.caller()?, vhost, |channel, _, _| match to {
        To::Queue => Ok(channel.unbind_queue(bind)?),
        To::Exchange => Ok(channel.connection.unbind_exchange(bind)?),
    })?;
    Ok(Answer::no_content())
}

/// The binding that the path names.
fn find(context: &Context, request: &Request, to: To) -> Result<(String, FieldTable), ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let source = vhost.exchange(exchange_name(request.param("source"))).ok_or_else(ApiError::not_found)?;
    let destination = match to {
        To::Queue => vhost.queue(to.name(request)).map(Destination::Queue),
        To::Exchange => vhost.exchange(to.name(request)).map(Destination::Exchange),
    };
    let destination = destination.ok_or_else(ApiError::not_found)?;
    let bindings = source.bindings.read();
    let mut bindings: Vec<_> =
        bindings.of(&destination).map(|(key, table)| (key.to_owned(), table.clone())).collect();
    let keys = bindings.iter().map(|(key, arguments)| (key.as_str(), arguments));
    let at = binding_key::position(keys, request.param("props")).ok_or_else(ApiError::not_found)?;
    Ok(bindings.swap_remove(at))
}

/// Percent-encoded, for one segment of a path.
fn escaped(name: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
    let encode =
        |octet: u8| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") };
    name.bytes().map(encode).collect()
}
